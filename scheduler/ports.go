package scheduler

import "cube/api"

// dynamicPorts is how many host ports there are for tasks that ask for any.
const dynamicPorts = api.MaxDynamicPort - api.MinDynamicPort + 1

// portFree reports whether a host port can be given to an instance on the node.
func (v *view) portFree(node, port int) bool {
	return !v.state.PortHeld(node, port) && !v.state.Quarantined(node, port) && !v.taken[nodePort{node, port}]
}

// bind chooses a host port for each port of a task. Static ports are known to be free. The search for dynamic ones goes
// round from where the last one on this node ended, and begins at a place that differs from node to node and from plan
// to plan: a port that was just given back is not handed out at once to somebody else, whom old connections would reach.
// ok is false if there are not enough; nothing is given away yet.
func (v *view) bind(node int, ports []api.Port) (bindings []api.PortBinding, ok bool) {
	if len(ports) == 0 {
		return nil, true
	}
	bindings = make([]api.PortBinding, len(ports))
	cursor := v.portCursor[node]
	if cursor == 0 {
		cursor = 1 + int32(mix64(v.hash[node]^v.base*0x9e3779b97f4a7c15)%dynamicPorts)
	}
	for i, p := range ports {
		host := p.Static
		if host == 0 {
			if host, cursor = v.search(node, cursor, ports, bindings[:i]); host == 0 {
				return nil, false
			}
		}
		to := p.To
		if to == 0 {
			to = host
		}
		bindings[i] = api.PortBinding{Label: p.Label, Host: host, To: to}
	}
	v.portCursor[node] = cursor
	return bindings, true
}

// search returns the first free dynamic port at or after the cursor, going round, and the cursor behind it; 0 if there is
// none. The ports the same instance gets are passed over.
func (v *view) search(node int, cursor int32, own []api.Port, bound []api.PortBinding) (port int, next int32) {
	for range dynamicPorts {
		port = api.MinDynamicPort - 1 + int(cursor)
		cursor = cursor%dynamicPorts + 1
		if v.portFree(node, port) && !ownsPort(port, own, bound) {
			return port, cursor
		}
	}
	return 0, cursor
}

func ownsPort(port int, own []api.Port, bound []api.PortBinding) bool {
	for _, p := range own {
		if p.Static == port {
			return true
		}
	}
	for _, b := range bound {
		if b.Host == port {
			return true
		}
	}
	return false
}

// freeDynamicPorts counts the dynamic ports that are left on a node, up to enough.
func (v *view) freeDynamicPorts(node int, own []api.Port, enough int) int {
	n := 0
	for port := api.MinDynamicPort; port <= api.MaxDynamicPort && n < enough; port++ {
		if v.portFree(node, port) && !ownsPort(port, own, nil) {
			n++
		}
	}
	return n
}
