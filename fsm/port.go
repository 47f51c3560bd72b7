package fsm

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

// heldPort is a host port that an allocation holds. The row ends with the allocation's life.
type heldPort struct {
	node  uint32
	port  uint16
	owner api.ID
}

// binding is one of an allocation's ports, in the order of its placement. It stays as long as the allocation's row.
type binding struct {
	owner api.ID
	place uint8
	host  uint16
	to    uint16
	label uint32
}

// quarantine is a host port that something outside Cube was found to hold.
type quarantine struct {
	node  uint32
	port  uint16
	until int64 // the state's time
}

// quarantineTime is how long such a port is left alone: long enough not to run into the same wall with every placement,
// short enough that a port which is free again is not lost.
const quarantineTime = 10 * time.Minute

type portTables struct {
	held       *btree.BTreeG[heldPort]
	bindings   *btree.BTreeG[binding]
	quarantine *btree.BTreeG[quarantine]
	expiry     *btree.BTreeG[quarantine] // the same rows by time
}

func newPortTables() portTables {
	return portTables{
		held: newTree(heldLess),
		bindings: newTree(func(a, b binding) bool {
			return a.owner < b.owner || a.owner == b.owner && a.place < b.place
		}),
		quarantine: newTree(quarantineLess),
		expiry: newTree(func(a, b quarantine) bool {
			return a.until < b.until || a.until == b.until && quarantineLess(a, b)
		}),
	}
}

func heldLess(a, b heldPort) bool { return a.node < b.node || a.node == b.node && a.port < b.port }

func quarantineLess(a, b quarantine) bool {
	return a.node < b.node || a.node == b.node && a.port < b.port
}

func (t *portTables) copy() portTables {
	return portTables{held: t.held.Copy(), bindings: t.bindings.Copy(), quarantine: t.quarantine.Copy(), expiry: t.expiry.Copy()}
}

func (t *portTables) isHeld(node uint32, port uint16) bool {
	_, ok := t.held.Get(heldPort{node: node, port: port})
	return ok
}

func (t *portTables) isQuarantined(node uint32, port uint16) bool {
	_, ok := t.quarantine.Get(quarantine{node: node, port: port})
	return ok
}

func (t *portTables) of(owner api.ID) []binding {
	var out []binding
	t.bindings.Ascend(binding{owner: owner}, func(b binding) bool {
		if b.owner != owner {
			return false
		}
		out = append(out, b)
		return true
	})
	return out
}

func (s *state) bindPorts(a allocation, ports []api.PortBinding) {
	for i, p := range ports {
		s.ports.bindings.Set(binding{owner: a.id, place: uint8(i), host: uint16(p.Host), to: uint16(p.To), label: s.intern(p.Label)})
		s.ports.held.Set(heldPort{node: a.node, port: uint16(p.Host), owner: a.id})
	}
}

// freePorts lets others have an ended allocation's ports.
func (s *state) freePorts(a allocation) {
	for _, b := range s.ports.of(a.id) {
		s.ports.held.Delete(heldPort{node: a.node, port: b.host})
	}
}

// unbindPorts forgets which ports an allocation had.
func (s *state) unbindPorts(owner api.ID) {
	for _, b := range s.ports.of(owner) {
		s.ports.bindings.Delete(b)
	}
}

func (s *state) quarantinePort(node uint32, port uint16) {
	q := quarantine{node: node, port: port}
	if old, ok := s.ports.quarantine.Get(q); ok {
		s.ports.expiry.Delete(old)
	}
	q.until = s.now + int64(quarantineTime)
	s.ports.quarantine.Set(q)
	s.ports.expiry.Set(q)
}

// expireQuarantines ends those whose time has come.
func (s *state) expireQuarantines() {
	for {
		first, ok := s.ports.expiry.Min()
		if !ok || first.until > s.now {
			return
		}
		s.ports.expiry.Delete(first)
		s.ports.quarantine.Delete(first)
		s.free()
	}
}

func (s *state) dropQuarantines(node uint32) {
	var gone []quarantine
	s.ports.quarantine.Ascend(quarantine{node: node}, func(q quarantine) bool {
		if q.node == node {
			gone = append(gone, q)
		}
		return q.node == node
	})
	for _, q := range gone {
		s.ports.quarantine.Delete(q)
		s.ports.expiry.Delete(q)
	}
}

// PortHeld reports whether a host port is held on the node with that ordinal.
func (s *Snapshot) PortHeld(node int, port int) bool {
	return isPort(port) && s.ports.isHeld(s.nodes.order.handle(&s.nodes, node), uint16(port))
}

// Quarantined reports whether a host port of the node with that ordinal was found taken by something outside Cube within
// the last ten minutes of the state's time.
func (s *Snapshot) Quarantined(node int, port int) bool {
	return isPort(port) && s.ports.isQuarantined(s.nodes.order.handle(&s.nodes, node), uint16(port))
}

func isPort(port int) bool { return port > 0 && port <= 65535 }

// Ports returns the ports that an allocation was given, in the order of its placement.
func (s *Snapshot) Ports(id api.ID) []api.PortBinding {
	var out []api.PortBinding
	for _, b := range s.ports.of(id) {
		out = append(out, api.PortBinding{Label: s.names[b.label], Host: int(b.host), To: int(b.to)})
	}
	return out
}

// persistQuarantines writes them by node name and port: the table's own order is that of handles.
func (t *portTables) persistQuarantines(k *sink) {
	rows := make([]quarantine, 0, t.quarantine.Len())
	t.quarantine.Scan(func(q quarantine) bool { rows = append(rows, q); return true })
	slices.SortFunc(rows, func(a, b quarantine) int {
		return cmp.Or(cmp.Compare(k.places[a.node], k.places[b.node]), cmp.Compare(a.port, b.port))
	})
	for _, q := range rows {
		k.name(q.node)
		k.u16(q.port)
		k.varint(q.until)
		k.row()
	}
}

func (s *state) restoreQuarantine(r *reader) {
	q := quarantine{node: s.handle(r), port: r.u16(), until: r.varint()}
	if r.err == nil {
		s.ports.quarantine.Set(q)
		s.ports.expiry.Set(q)
	}
}

// over returns by how much what is held goes beyond what the node has, part by part.
func over(n *nodeRow) api.Resources {
	o := n.held.Sub(n.node.Resources)
	return api.Resources{CPU: max(0, o.CPU), Memory: max(0, o.Memory), Disk: max(0, o.Disk)}
}

func least(a, b api.Resources) api.Resources {
	return api.Resources{CPU: min(a.CPU, b.CPU), Memory: min(a.Memory, b.Memory), Disk: min(a.Disk, b.Disk)}
}

// hold takes a new allocation's room.
func (s *state) hold(a allocation) {
	n, _ := s.nodes.get(s.names[a.node])
	n.held = n.held.Add(a.held)
	n.live++
	n.touched = s.index
	s.nodes.rows.Set(n)
}

// rehold follows an allocation's phase, and gives its room back when it has ended.
func (s *state) rehold(old, a allocation) {
	n, _ := s.nodes.get(s.names[a.node])
	if old.phase == api.PhaseRunning {
		n.running--
	}
	if a.phase == api.PhaseRunning {
		n.running++
	}
	if old.live() && !a.live() {
		n.live--
		n.held = n.held.Sub(a.held)
		n.excess = least(n.excess, over(&n))
	}
	n.touched = s.index
	s.nodes.rows.Set(n)
}
