package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/balance"
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

// Nodes that are not heard of, and the instances that keep their room and their slots there.

// nodesDown loses what was on the nodes, what is kept apart, and has each job that lost something looked at, in one entry, so
// that no reader sees a node that is gone with instances that are not. Nodes that are unknown or down already are passed over.
func (s *state) nodesDown(b *NodesDown) Result {
	hit := map[string]string{} // job name to the first of its nodes
	for _, id := range b.Nodes {
		n, ok := s.nodes.get(id)
		if !ok || n.node.Status == api.NodeDown {
			continue
		}
		s.putNode(s.status(n, api.NodeDown, b.Reason))
		s.note(api.Event{Type: api.EventDown, Node: id, Detail: b.Reason})
		reason := fmt.Sprintf("node %s is down: %s", n.node.Name, b.Reason)
		kept := false
		for _, a := range s.liveOn(n.handle) {
			j := s.jobs.get(s.names[a.job])
			if hit[j.name] == "" {
				hit[j.name] = id
			}
			if s.keeps(j, &a) {
				kept = true
			} else {
				s.lose(j, a, reason)
			}
		}
		s.noteAbsence(id, kept)
	}
	s.jobs.rows.Scan(func(j *job) bool { // in name order, which the map does not have
		if node := hit[j.name]; node != "" && !s.settled(j) {
			s.look(j, api.CauseNodeDown, node, nil)
		}
		return true
	})
	return s.done()
}

// keeps reports whether an instance stays what it is for a while though its node is down: its task says so, and nobody wants it
// to stop.
func (t *tables) keeps(j *job, a *allocation) bool {
	v := j.version(uint64(a.version))
	if v == nil || a.desired != api.DesiredRun {
		return false
	}
	i := v.task(a.task)
	return i >= 0 && v.job.Tasks[i].Disconnect.Keeps()
}

// lose ends an allocation whose node is down.
func (s *state) lose(j *job, old allocation, reason string) {
	lost := old
	lost.phase = api.PhaseLost
	if s.rules >= rulesTell {
		text := s.remark(old.id)
		text.message = shorten(reason, api.MaxStatusMessage)
		s.remarkOn(text)
	}
	s.note(s.eventOf(api.EventLost, &lost, reason))
	s.change(j, old, lost)
}

// noteAbsence keeps since when a node is away of which instances are kept. One that went away again before it had told what
// became of them has been away all the time.
func (s *state) noteAbsence(id string, kept bool) {
	n, _ := s.nodes.get(id)
	if n.node.Absence == nil && !kept || n.node.Away() && kept {
		return
	}
	changed := *n.node
	changed.Absence = nil
	if kept {
		changed.Absence = &api.Absence{Since: s.time()}
	}
	n.node = &changed
	s.putNode(n)
}

// returned ends the absence of a node that is ready again.
func (s *state) returned(n nodeRow) nodeRow {
	if n.node.Away() {
		changed := *n.node
		changed.Absence = &api.Absence{Since: n.node.Absence.Since, Until: s.time()}
		n.node = &changed
	}
	return n
}

// askAnew forgets how well those are that were kept on a node, and which of its words were the last: the node says both again.
func (s *state) askAnew(node uint32) {
	for _, a := range s.liveOn(node) {
		anew := a
		anew.seq, anew.health = 0, api.HealthUnknown
		s.change(s.jobs.get(s.names[a.job]), a, anew)
	}
}

// lookAtKept has the jobs looked at of which a node that is back kept instances: some may have been replaced meanwhile.
func (s *state) lookAtKept(n nodeRow) {
	var jobs []string
	for _, a := range s.liveOn(n.handle) {
		jobs = append(jobs, s.names[a.job])
	}
	slices.Sort(jobs)
	for _, name := range slices.Compact(jobs) {
		if j := s.jobs.get(name); !s.settled(j) {
			s.look(j, api.CauseReturn, n.id, nil)
		}
	}
}

// awayOf is what people read of that; nil if its node is heard of.
func (t *tables) awayOf(a *allocation) *api.AwayInstance {
	if !t.isAway(a) {
		return nil
	}
	n, _ := t.nodes.get(t.names[a.node])
	out := &api.AwayInstance{Since: n.node.Absence.Since, GivenUpAt: n.node.Absence.Since}
	if v := t.jobs.get(t.names[a.job]).version(uint64(a.version)); v != nil {
		if i := v.task(a.task); i >= 0 {
			out.GivenUpAt = out.Since.Add(v.job.Tasks[i].Disconnect.LostAfter)
		}
	}
	return out
}

// StartedAt is when the present or last run of an allocation began, Unix milliseconds by its node's clock; 0: it has not.
func (s *Snapshot) StartedAt(id api.ID) int64 {
	a, _ := s.allocations.get(id)
	return a.started
}

// Rebalances: instances that go where there is more room, or less.

// Rebalance is the command that begins to move instances to better nodes, or has nothing more begin. With neither it takes the next
// step of the rebalance under way, if that has come by the entry's time and by what has become of the instances.
type Rebalance struct {
	Begin  *balance.Order `json:",omitempty"`
	Cancel bool           `json:",omitempty"`
}

func (*Rebalance) kind() Kind { return kindRebalance }

// rebalance begins a rebalance, has nothing more of one begin, or takes its next step.
func (s *state) rebalance(b *Rebalance, who string) Result {
	var next *api.Rebalance
	var err error
	var look []int
	switch {
	case b.Begin != nil:
		next, err = balance.Begin(s.nodes.rebalance, b.Begin, personOf(who), s.time())
	case b.Cancel:
		next, err = balance.Cancel(s.nodes.rebalance, s.time())
	default:
		next, look = balance.Step(s.nodes.rebalance, s.factOf, s.time())
	}
	switch {
	case err != nil:
		return refused(s.index, err)
	case next == nil:
		return s.done()
	}
	s.nodes.rebalance = next
	s.touch(WatchKey{Table: TableRebalance})
	s.by = personOf(next.By) // of what the jobs are looked at for
	for _, i := range look {
		m := &next.Moves[i]
		if m.Stage == api.MoveUnder {
			m.Begun = s.index
		}
		if j := s.jobs.get(m.Job); !s.settled(j) {
			s.look(j, api.CauseRebalance, m.To, nil)
		}
	}
	return s.done()
}

// factOf is what has become of the instance of a move.
func (t *tables) factOf(m *api.Move) (f balance.Fact) {
	f.Goal, f.Deadline, f.Closed = m.To, api.DefaultHealthyDeadline, true
	if n, ok := t.nodes.get(m.To); ok {
		f.Goal, f.Closed = n.node.Name, !n.node.Ready()
	}
	a, ok := t.allocations.get(m.Allocation)
	j := t.jobs.get(m.Job)
	current := j.current()
	if !ok || current == nil || current.Task(m.Task) == nil {
		f.Gone = true
		return f
	}
	f.Runs, f.Gone = a.live() && a.desired == api.DesiredRun && !current.Stopped, !a.live()
	_, f.Deadline = current.Task(m.Task).Move()
	e := t.evaluations.get(t.tally(j.handle).open)
	f.Looked = e == nil || e.Status != api.EvalPending && e.SeenIndex >= m.Begun
	for _, other := range t.allocations.ofSlot(a.job, a.task, a.slot) {
		switch {
		case other.replaces != a.id:
		case other.live() && other.desired == api.DesiredRun:
			f.Successor, f.OnGoal = true, t.names[other.node] == m.To
		case !other.live() && other.desired == api.DesiredRun && other.create > m.Begun:
			f.Failed = cmp.Or(t.remark(other.id).message, api.DescribeEnd(other.failure, other.exit, other.signal))
		}
	}
	d := t.deployments.Newest(m.Job)
	switch {
	case f.Successor:
		f.Unfit = "its slot has a successor already"
	case d != nil && d.Status.Active():
		f.Unfit = "its job is being rolled out"
	case uint64(a.version) != current.Version:
		f.Unfit = "its job has a newer version"
	case t.isAway(&a):
		f.Unfit = "its node is not heard of"
	case a.health != api.HealthHealthy:
		f.Unfit = "it is not healthy"
	}
	return f
}

// Rebalancing returns the rebalance that is under way, nil if none is.
func (s *Snapshot) Rebalancing() *api.Rebalance {
	if r := s.nodes.rebalance; r.Active() {
		return r
	}
	return nil
}

// LatestRebalance returns the rebalance that is under way, or else the last one there was; nil if there was none.
func (s *Snapshot) LatestRebalance() *api.Rebalance { return s.nodes.rebalance }

// RebalanceDue reports whether the next step of the rebalance that is under way has come, at a time in Unix nanoseconds: then
// Rebalance takes it. If it has not, next is when it may come though nothing happens; 0 for never.
func (s *Snapshot) RebalanceDue(now int64) (due bool, next int64) {
	if step, _ := balance.Step(s.nodes.rebalance, s.factOf, time.Unix(0, now)); step != nil {
		return true, 0
	}
	if at := balance.Next(s.nodes.rebalance, s.factOf); !at.IsZero() {
		next = at.UnixNano()
	}
	return false, next
}

func (t *nodeTables) persistRebalance(k *sink) {
	if t.rebalance != nil {
		k.json(t.rebalance)
		k.row()
	}
}

func (s *state) restoreRebalance(r *reader) {
	row := &api.Rebalance{}
	if r.json(row); r.err != nil {
		return
	}
	if s.nodes.rebalance != nil {
		r.fail("there are two rebalances")
		return
	}
	s.nodes.rebalance = row
}
