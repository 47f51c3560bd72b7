package scheduler

import (
	"cmp"
	"iter"
	"slices"

	"cube/api"
)

// view is the nodes as one batch sees them: a column for each thing that is read for every node, by ordinal, so that a
// pass over 5,000 nodes reads a few hundred kilobytes in order. What the plan gives away is taken off at once, so that
// later evaluations see it. A Memory keeps the view for the next batch, which looks for what has changed since.
type view struct {
	fleet
	state State
	base  uint64

	free        []api.Resources // what is left, this plan's placements taken off
	given       []api.Resources // what this plan gives away
	cpu, memory []float64       // parts reserved, 0 to 1
	changes     []int32         // nodes that are not as they were, in the order in which they changed
	ratings     shelf[*ratings]

	taken       map[nodePort]string               // ports this plan gives away or keeps, and which of these
	portCursor  []int32                           // where the search for dynamic ports goes on; 0: not begun
	counts      counts                            // of the task being placed
	devices     *devices                          // nil if no node has any
	held        map[int]map[string]api.VolumeHold // volumes by node, of nodes that were asked in this batch
	scratch     []candidate                       // room for a ranking
	lastRotated int                               // the node roundrobin used last in this batch, -1 for none

	loadOf      func(nodeID string) (api.NodeLoad, bool)
	measured    *measured    // nil until an algorithm asks for it
	opportunity *opportunity // nil until epvm asks for it
}

type nodePort struct{ node, port int }

// What a plan does with a port, in the words of an explanation.
const (
	portGiven = "held by another instance"
	portKept  = "kept for what others give way to"
)

// counts are the instances that a task and its job have on each node.
type counts struct {
	task []int32 // live and to run
	job  []int32 // the same, over all tasks of the job
	live []int32 // of the task: live, even if told to stop
	some []int32 // the nodes for which one of these is not zero, each once
}

// note is called before a node's counts are raised, and only if they are.
func (c *counts) note(node int) {
	if c.task[node]|c.job[node]|c.live[node] == 0 {
		c.some = append(c.some, int32(node))
	}
}

func (c *counts) clear() {
	for _, node := range c.some {
		c.task[node], c.job[node], c.live[node] = 0, 0, 0
	}
	c.some = c.some[:0]
}

// Memory keeps what one call of Schedule worked out about the nodes for the next: above all the columns and the sets of
// nodes that meet a condition, which change only when nodes do. It never changes a plan, only what it costs. Its size is
// bounded by the number of nodes. The zero value is empty and ready for use; one call may use it at a time.
type Memory struct{ view *view }

// take returns the nodes as s has them. The memory is empty until the view is given back, so that one which a panic left
// half changed is never seen again.
func (m *Memory) take(s State, o Options) *view {
	if m == nil || m.view == nil {
		return newView(s, o)
	}
	v := m.view
	m.view = nil
	if v.follow(s, o) {
		return v
	}
	return newView(s, o)
}

// keep takes a view back at the end of a batch.
func (m *Memory) keep(v *view) {
	if m == nil || v == nil {
		return
	}
	v.state, v.loadOf = nil, nil // a state holds on to much more than the nodes
	m.view = v
}

func newView(s State, o Options) *view {
	v := &view{taken: map[nodePort]string{}, ratings: newShelf[*ratings](maxRatings)}
	var held []api.Resources
	for n, h := range s.Nodes() {
		v.nodes = append(v.nodes, n)
		held = append(held, h)
	}
	v.fleet = newFleet(v.nodes)
	size := len(v.nodes)
	v.free = make([]api.Resources, size)
	v.given = make([]api.Resources, size)
	v.scratch = make([]candidate, size)
	v.portCursor = make([]int32, size)
	floats := make([]float64, 2*size)
	v.cpu, v.memory = floats[:size], floats[size:]
	ints := make([]int32, 3*size)
	v.counts = counts{task: ints[:size], job: ints[size : 2*size], live: ints[2*size:]}
	for i := range v.nodes {
		v.free[i] = v.total[i].Sub(held[i])
		v.reckon(i)
	}
	if slices.ContainsFunc(v.nodes, func(n *api.Node) bool { return len(n.Devices) > 0 }) {
		v.devices = newDevices(v.nodes, s.DevicesHeld())
	}
	v.begin(s, o)
	return v
}

// begin forgets what was of the last batch.
func (v *view) begin(s State, o Options) {
	v.state, v.base, v.loadOf = s, s.Index(), o.Load
	v.lastRotated = -1
	v.measured, v.opportunity = nil, nil
	clear(v.taken)
	v.held = nil
	clear(v.given)
	clear(v.portCursor)
	v.counts.clear()
	if v.devices != nil {
		v.devices.outlook = nil
	}
	v.ratings.keep(func(r *ratings) bool { return r.lasting })
	if len(v.changes) > len(v.nodes) { // whoever has to follow so many does better to look at all
		v.changes = v.changes[:0]
		v.ratings.keep(func(*ratings) bool { return false })
	}
}

// follow begins a new batch on a later state (or any other). It returns false if it cannot: nodes have come or gone, or
// something about them has changed that it is simpler to look at anew.
func (v *view) follow(s State, o Options) bool {
	i := 0
	for n, held := range s.Nodes() {
		if i == len(v.nodes) {
			return false
		}
		fresh := v.nodes[i] != n
		if fresh && !v.replace(i, n) {
			return false
		}
		if free := v.total[i].Sub(held); fresh || free != v.free[i] {
			v.free[i] = free
			v.reckon(i)
			v.changes = append(v.changes, int32(i))
		}
		i++
	}
	if i < len(v.nodes) {
		return false
	}
	if v.devices != nil {
		for node, held := range s.DevicesHeld() {
			if v.devices.hold(node, held) {
				v.changes = append(v.changes, int32(node))
			}
		}
	}
	v.begin(s, o)
	return true
}

// reckon works out what follows from the node's free resources.
func (v *view) reckon(node int) {
	total, free := &v.total[node], &v.free[node]
	v.cpu[node] = float64(total.CPU-free.CPU) * v.perCPU[node]
	v.memory[node] = float64(total.Memory-free.Memory) * v.perMemory[node]
}

// grant is what an instance is given of a node besides its resources.
type grant struct {
	ports   []api.PortBinding
	devices []api.DeviceClaim
}

// give takes resources, ports and devices off a node.
func (v *view) give(node int, held api.Resources, g grant) {
	v.free[node] = v.free[node].Sub(held)
	v.given[node] = v.given[node].Add(held)
	for _, p := range g.ports {
		v.taken[nodePort{node, p.Host}] = portGiven
	}
	if len(g.devices) > 0 {
		v.devices.take(node, v.nodes[node].Devices, g.devices)
	}
	v.reckon(node)
	if v.opportunity != nil {
		v.opportunity.reckon(v, node)
	}
	if v.devices != nil && v.devices.outlook != nil {
		v.devices.outlook.changed(node)
	}
	v.changes = append(v.changes, int32(node))
}

// reserve takes promised room off a node, as far as it is there already, and returns the rest.
func (v *view) reserve(node int, room api.Resources) (rest api.Resources) {
	free := v.free[node]
	there := api.Resources{CPU: min(room.CPU, max(free.CPU, 0)), Memory: min(room.Memory, max(free.Memory, 0)), Disk: min(room.Disk, max(free.Disk, 0))}
	v.give(node, there, grant{})
	return room.Sub(there)
}

// keep takes off a node what an instance of the task will want of it besides room.
func (v *view) keep(node int, t *api.Task) {
	for _, p := range t.Ports {
		if p.Static != 0 {
			v.taken[nodePort{node, p.Static}] = portKept
		}
	}
	v.hold(node, t.Volumes)
}

// hold notes that one more instance stands on the volumes.
func (v *view) hold(node int, wanted []api.VolumeRequest) {
	for i := range wanted {
		held := v.volumes(node)
		hold := held[wanted[i].Source]
		hold.Add(wanted[i].Access)
		held[wanted[i].Source] = hold
	}
}

// volumes is what stands on a node's volumes, what this batch gives away included.
func (v *view) volumes(node int) map[string]api.VolumeHold {
	held, known := v.held[node]
	if !known {
		if held = v.state.VolumesHeld(node); held == nil {
			held = map[string]api.VolumeHold{}
		}
		set(&v.held, node, held)
	}
	return held
}

// ordinal finds a node by ID. The state yields nodes in the order of their IDs.
func (v *view) ordinal(id string) int {
	i, _ := slices.BinarySearchFunc(v.nodes, id, func(n *api.Node, id string) int { return cmp.Compare(n.ID, id) })
	return i
}

// everyNode yields the ordinal of each node.
func (v *view) everyNode() iter.Seq[int] {
	return func(yield func(int) bool) {
		for node := range v.nodes {
			if !yield(node) {
				return
			}
		}
	}
}

// dynamicPorts is how many host ports there are for tasks that ask for any.
const dynamicPorts = api.MaxDynamicPort - api.MinDynamicPort + 1

// portFree reports whether a host port can be given to an instance on the node.
func (v *view) portFree(node, port int) bool {
	return !v.state.PortHeld(node, port) && !v.state.Quarantined(node, port) && v.taken[nodePort{node, port}] == ""
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
