package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/drain"
)

// nodeRow is a node with what is counted for it.
type nodeRow struct {
	id      string
	node    *api.Node // never changed once stored
	handle  uint32    // of its ID
	live    int32     // allocations that are not terminal
	running int32     // of these, running
	held    api.Resources
	excess  api.Resources // how far it held more than it had when it last shrank, less what was given back since
	touched uint64        // the index at which any allocation on it last changed
	devices []deviceUse   // see fitDevices; replaced, never changed in place
}

type nodeTables struct {
	rows  *btree.BTreeG[nodeRow] // by ID
	order *nodeOrder             // replaced when a node comes or goes for good
	away  []uint32               // handles of those that are not heard of while instances are kept, in order; replaced, never changed in place

	rebalance *api.Rebalance // the latest one, nil if there was none; never changed once stored
}

func newNodeTables() nodeTables {
	return nodeTables{rows: newTree(func(a, b nodeRow) bool { return a.id < b.id }), order: &nodeOrder{}}
}

func (t *nodeTables) copy() nodeTables {
	return nodeTables{rows: t.rows.Copy(), order: t.order, away: t.away, rebalance: t.rebalance}
}

func (t *nodeTables) get(id string) (nodeRow, bool) { return t.rows.Get(nodeRow{id: id}) }

// nodeOrder converts between the nodes' handles and their ordinals. It is made when it is first needed, and shared by
// all snapshots with the same set of nodes.
type nodeOrder struct {
	once     sync.Once
	ordinals []int32  // by handle; -1 for what is no node
	handles  []uint32 // by ordinal
}

func (o *nodeOrder) ready(t *nodeTables) *nodeOrder {
	o.once.Do(func() {
		last := uint32(0)
		t.rows.Scan(func(n nodeRow) bool {
			o.handles = append(o.handles, n.handle)
			last = max(last, n.handle)
			return true
		})
		o.ordinals = make([]int32, last+1)
		for i := range o.ordinals {
			o.ordinals[i] = -1
		}
		for ordinal, h := range o.handles {
			o.ordinals[h] = int32(ordinal)
		}
	})
	return o
}

func (o *nodeOrder) ordinal(t *nodeTables, handle uint32) int {
	if o.ready(t); int(handle) < len(o.ordinals) {
		return int(o.ordinals[handle])
	}
	return -1
}

// handle returns 0 for an ordinal that no node has.
func (o *nodeOrder) handle(t *nodeTables, ordinal int) uint32 {
	if o.ready(t); ordinal >= 0 && ordinal < len(o.handles) {
		return o.handles[ordinal]
	}
	return 0
}

func (s *state) putNode(n nodeRow) {
	old, known := s.nodes.get(n.id)
	n.node.ModifyIndex = s.index
	s.nodes.rows.Set(n)
	s.nodes.noteAway(n.handle, n.node.Away())
	s.touch(WatchKey{Table: TableNodes, Key: n.id})
	switch {
	case n.node.Ready():
		s.free()
		s.welcome(n.id)
	case known && old.node.Ready() && s.rules >= rulesStep:
		s.excuse()
	}
}

// status moves a copy of the node to a status; the stored one stays as it is.
func (s *state) status(n nodeRow, to api.NodeStatus, reason string) nodeRow {
	changed := *n.node
	if changed.Status != to {
		changed.StatusAt = time.Unix(0, s.now).UTC()
	}
	changed.Status, changed.StatusReason = to, reason
	n.node = &changed
	return n
}

func (s *state) registerNode(b *RegisterNode) Result {
	if b.Node == nil || b.Node.ID == "" {
		return refused(s.index, api.Errorf(api.CodeInvalid, "a node needs an ID"))
	}
	if r := b.Node.Resources; r.CPU < 0 || r.Memory < 0 || r.Disk < 0 {
		return refused(s.index, api.Errorf(api.CodeInvalid, "node %s announces less than nothing to run instances with", b.Node.ID))
	}
	if err := api.CheckDevices(b.Node.Devices); err != nil {
		return refused(s.index, api.Errorf(api.CodeInvalid, "register node %s: %w", b.Node.ID, err))
	}
	if err := api.CheckVolumes(b.Node.Volumes); err != nil {
		return refused(s.index, api.Errorf(api.CodeInvalid, "register node %s: %w", b.Node.ID, err))
	}
	node := *b.Node
	node.CreateIndex = s.index
	node.Status, node.StatusReason, node.StatusAt = "", "", time.Time{}
	node.Ineligible, node.EligibilityAt, node.EligibilityBy, node.EligibilityReason = false, time.Time{}, "", ""
	node.Drain, node.Absence = nil, nil
	status, news := api.NodeInitializing, api.Event{Type: api.EventRegistered, Node: node.ID}
	row, known := s.nodes.get(node.ID)
	if known {
		old := row.node
		node.CreateIndex = old.CreateIndex
		node.Ineligible, node.EligibilityAt, node.Drain = old.Ineligible, old.EligibilityAt, old.Drain
		node.EligibilityBy, node.EligibilityReason = old.EligibilityBy, old.EligibilityReason
		node.Status, node.StatusAt, node.Absence = old.Status, old.StatusAt, old.Absence
		if old.Status == api.NodeReady && old.Incarnation == node.Incarnation {
			status = api.NodeReady // the same life tells news of itself: nothing is to be put right
			news.Type, news.Detail = api.EventChanged, node.News(old)
		}
	} else {
		row.id, row.handle = node.ID, s.intern(node.ID)
		s.nodes.order = &nodeOrder{}
	}
	if b.Ready && (!known || b.JudgedOn == 0 || b.JudgedOn == row.node.ModifyIndex) {
		status = api.NodeReady
	}
	if node.Away() { // what became of what was kept there is to be known before anything is done about it
		status = api.NodeInitializing
		s.askAnew(row.handle)
		row, _ = s.nodes.get(node.ID)
	}
	row.node = &node
	row.excess = over(&row)
	s.fitDevices(&row)
	s.putNode(s.status(row, status, ""))
	if news.Type == api.EventRegistered || news.Detail != "" {
		s.note(news)
	}
	if status == api.NodeReady && node.Status != status {
		s.note(api.Event{Type: api.EventReady, Node: node.ID})
	}
	return s.done()
}

func (s *state) nodeReady(b *NodeReady) Result {
	n, ok := s.nodes.get(b.Node)
	switch {
	case !ok:
		return refused(s.index, noNode(b.Node))
	case n.node.Incarnation != b.Incarnation:
		return refused(s.index, api.Errorf(api.CodeConflict, "node %s has registered anew since: its incarnation is %d, not %d",
			b.Node, n.node.Incarnation, b.Incarnation))
	case n.node.Status == api.NodeDown:
		return refused(s.index, api.Errorf(api.CodeConflict, "node %s is down: it has to register first", b.Node))
	case n.node.Status == api.NodeInitializing:
		ready := s.status(n, api.NodeReady, "")
		s.putNode(s.returned(ready))
		s.note(api.Event{Type: api.EventReady, Node: b.Node})
		if n.node.Away() {
			s.lookAtKept(ready)
		}
	}
	return s.done()
}

func noNode(id string) error { return api.Errorf(api.CodeNotFound, "there is no node %s", id) }

// drainEvent is what a step of a drain has made of the node.
func (s *state) drainEvent(n *api.Node) api.Event {
	e := api.Event{Type: api.EventEligible, Node: n.ID, By: s.by, Detail: "its drain was cancelled"}
	switch {
	case n.Drain.Active():
		e.Type, e.Detail = api.EventDraining, n.Drain.Message
		if n.Drain.Stage == api.DrainForced {
			e.Detail = "all that is left stops at once"
		}
	case n.Drain != nil:
		e.Type, e.Detail = api.EventDrained, ""
	case n.Ineligible:
		e.Type = api.EventIneligible
	}
	return e
}

// leftOn counts what is on a node and not gone.
func (t *tables) leftOn(node uint32) (left drain.Left) {
	for _, a := range t.liveOn(node) {
		left.Add(t.jobs.get(t.names[a.job]).current().Type)
	}
	return left
}

// DrainDue reports whether the next step of a node's drain has come, at a time in Unix nanoseconds: then DrainNode takes it.
func (s *Snapshot) DrainDue(n *api.Node, now int64) bool {
	row, ok := s.nodes.get(n.ID)
	return ok && drain.Settle(n, s.leftOn(row.handle), time.Unix(0, now)) != nil
}

// noteAway keeps the list of nodes that are away, so that it costs nothing to know where there are none.
func (t *nodeTables) noteAway(node uint32, away bool) {
	at, listed := slices.BinarySearch(t.away, node)
	switch {
	case listed == away:
	case listed:
		t.away = slices.Delete(slices.Clone(t.away), at, at+1)
	default:
		t.away = slices.Insert(slices.Clone(t.away), at, node)
	}
}

// isAway reports whether an allocation's row says no more than what was so when its node was last heard of.
func (t *tables) isAway(a *allocation) bool {
	if len(t.nodes.away) == 0 || !a.live() {
		return false
	}
	_, away := slices.BinarySearch(t.nodes.away, a.node)
	return away
}

// liveOn returns a node's allocations that are not terminal, by the index of their latest change.
func (t *tables) liveOn(node uint32) []allocation {
	var out []allocation
	t.eachOfNode(node, 0, func(a allocation) bool {
		if a.live() {
			out = append(out, a)
		}
		return true
	})
	return out
}

// causeOf is why something is placed where that follows from what it takes the place of: that has failed, or is of a version which an
// update replaces. "" is any other reason.
func (s *state) causeOf(e *api.Evaluation, p *api.Placement) (cause, detail string) {
	last, ok := s.allocations.get(p.Replaces)
	if !ok {
		return "", ""
	}
	row := api.AllocationRow{Version: uint64(last.version), Phase: last.phase, Node: s.names[last.node], Away: s.isAway(&last)}
	switch {
	case s.rules >= rulesWord && row.Phase == api.PhaseFailed && row.Version == p.Version:
		if n, ok := s.nodes.get(row.Node); ok && s.rules >= rulesBlame {
			return api.CauseAllocEnded, last.failure.On(n.node.Name)
		}
		if n, ok := s.nodes.get(row.Node); ok {
			return api.CauseAllocEnded, "it failed on " + n.node.Name
		}
		return api.CauseAllocEnded, "it failed"
	case s.rules >= rulesStep && e != nil && e.Interrupts(&row, p.Version):
		return api.CauseUpdate, ""
	}
	return "", ""
}

// Jobs whose slots are nodes: system and sysbatch.

// sameSlots refuses to make nodes of a job's slots, or the reverse: where its instances have been would mean something else.
func (s *state) sameSlots(j *api.Job) error {
	old := s.jobs.get(j.Name).current()
	switch {
	case old == nil:
	case old.Parent != "" && j.Parent == "":
		return api.Errorf(api.CodeConflict, "job %.80q was launched by job %.80q: change that one", j.Name, old.Parent)
	case old.Launches() != j.Launches():
		return api.Errorf(api.CodeConflict, "job %.80q cannot become one that launches others, nor cease to be one: stop and purge it first, or choose another name", j.Name)
	case old.Type.EveryNode() != j.Type.EveryNode():
		return api.Errorf(api.CodeConflict, "job %.80q is a %s job and cannot become a %s job: stop and purge it first, or choose another name", j.Name, old.Type, j.Type)
	}
	return nil
}

// noteEveryNode keeps the set of the jobs that are looked at when a node can take instances. One that was launched is for the
// nodes of its time.
func (s *state) noteEveryNode(j *job) {
	if j.everyNode() && !j.current().Stopped && !j.current().Launches() && j.current().Parent == "" {
		s.nodely.Set(j.name)
	} else {
		s.nodely.Delete(j.name)
	}
}

// welcome has the jobs looked at that want an instance on every node: this one can take one, or is not what it was. Its cost
// is that of these jobs, whatever else there is.
func (s *state) welcome(node string) {
	s.nodely.Scan(func(name string) bool {
		s.look(s.jobs.get(name), api.CauseNodeUp, node, nil)
		return true
	})
}

// excuse notes that a job which wants an instance on every node may go on: what it waits for there may be wanted no more.
func (s *state) excuse() {
	s.nodely.Scan(func(name string) bool {
		t := s.tally(s.jobs.get(name).handle)
		t.progress = s.index
		s.jobs.tallies.Set(t)
		s.stir(t.open)
		return true
	})
}

// slotElsewhere enforces that where a slot is a node, it stays one: its allocations, ended ones too, are all on one node, and
// no other slot of the task has any there.
func (s *state) slotElsewhere(j *job, task uint32, p *api.Placement) (reason string) {
	node, _ := s.nodes.get(p.Node)
	if id := s.allocations.newest(j.handle, task, p.Slot); id != 0 {
		if a, _ := s.allocations.get(id); a.node != node.handle {
			return "its slot belongs to another node"
		}
		return ""
	}
	s.eachOfNode(node.handle, 0, func(a allocation) bool {
		if a.job == j.handle && a.task == task {
			reason = fmt.Sprintf("its node has slot %d of the task", a.slot)
		}
		return reason == ""
	})
	return reason
}

// leaveSlot forgets that a node's slot has completed, once nothing is left of the node's allocations: the slot is free for
// another node.
func (s *state) leaveSlot(j *job, a allocation) {
	if s.allocations.newest(a.job, a.task, a.slot) != 0 {
		return
	}
	for i := range j.versions {
		if k := j.versions[i].task(a.task); k >= 0 {
			key := completedSlots{job: a.job, task: a.task, line: j.versions[i].lines[k], word: a.slot / 64}
			if row, ok := s.jobs.completed.Get(key); ok && row.bits&(1<<(a.slot%64)) != 0 {
				if row.bits &^= 1 << (a.slot % 64); row.bits == 0 {
					s.jobs.completed.Delete(row)
				} else {
					s.jobs.completed.Set(row)
				}
			}
		}
	}
}

// desired is how many instances a job asks for. Where each node is to have one, it is those that there are and those that the
// scheduler found missing when it last looked.
func (t *tables) desired(j *api.Job, sum *tally) (n int) {
	switch {
	case j.Stopped || j.Launches():
	case j.Type.EveryNode():
		n = int(sum.occupied)
		if e := t.evaluations.get(sum.open); e != nil {
			for i := range e.Explanations {
				n += e.Explanations[i].Wanted - e.Explanations[i].Placed
			}
		}
	default:
		for _, task := range j.Tasks {
			n += task.Count
		}
	}
	return n
}

// unsettled reports whether the scheduler has yet to say on which nodes a job that wants all of them runs, or there are none.
func (t *tables) unsettled(sum *tally, desired int) bool {
	e := t.evaluations.get(sum.open)
	return desired == 0 || e != nil && e.Status == api.EvalPending
}

// Nodes yields every node with what is held on it, by node ID. The position is the node's ordinal. Snapshots share a node
// until something about it changes, what is held on it apart: then the later ones have another *api.Node.
func (s *Snapshot) Nodes() iter.Seq2[*api.Node, api.Resources] {
	return func(yield func(*api.Node, api.Resources) bool) {
		s.nodes.rows.Scan(func(n nodeRow) bool { return yield(n.node, n.held) })
	}
}

// Node returns a node, nil if there is none with that ID.
func (s *Snapshot) Node(id string) *api.Node {
	n, _ := s.nodes.get(id)
	return n.node
}

// NodeName returns what people call a node; its ID if it is not known any more.
func (s *Snapshot) NodeName(id string) string {
	if n, ok := s.nodes.get(id); ok {
		return n.node.Name
	}
	return id
}

// NodeHeld returns what a node's allocations hold, how many are not terminal, and how many of these run.
func (s *Snapshot) NodeHeld(id string) (held api.Resources, live, running int) {
	n, _ := s.nodes.get(id)
	return n.held, int(n.live), int(n.running)
}

// FindNodes returns the nodes whose ID begins with prefix, by ID.
func (s *Snapshot) FindNodes(prefix string) []*api.Node {
	var out []*api.Node
	s.nodes.rows.Ascend(nodeRow{id: prefix}, func(n nodeRow) bool {
		if !strings.HasPrefix(n.id, prefix) {
			return false
		}
		out = append(out, n.node)
		return true
	})
	return out
}

// dated reports whether a node says what formats before 10 do not know: since when it is eligible or not, and that it is drained.
func (t *nodeTables) dated() (yes bool) {
	t.rows.Scan(func(n nodeRow) bool {
		yes = n.node.Drain != nil || !n.node.EligibilityAt.IsZero()
		return !yes
	})
	return yes
}

// missed reports whether a node says what formats before 15 do not know: that it is away, or was.
func (t *nodeTables) missed() (yes bool) {
	t.rows.Scan(func(n nodeRow) bool { yes = n.node.Absence != nil; return !yes })
	return yes
}

// said reports whether a node says what formats before 16 do not know: who made it eligible or not, and why.
func (t *nodeTables) said() (yes bool) {
	t.rows.Scan(func(n nodeRow) bool {
		yes = n.node.EligibilityBy != "" || n.node.EligibilityReason != ""
		return !yes
	})
	return yes
}

func (t *nodeTables) persist(k *sink) {
	t.rows.Scan(func(n nodeRow) bool {
		k.json(n.node)
		k.resources(n.excess)
		k.uvarint(n.touched)
		return k.row()
	})
}

func (s *state) restoreNode(r *reader) {
	n := nodeRow{node: &api.Node{}}
	r.json(n.node)
	n.excess, n.touched = r.resources(), r.uvarint()
	handle, ok := s.handles[n.node.ID]
	if _, twice := s.nodes.get(n.node.ID); r.err == nil && (!ok || twice) {
		r.fail("node %q is there twice, or not in the names", n.node.ID)
	}
	if r.err == nil {
		n.id, n.handle = n.node.ID, handle
		s.fitDevices(&n)
		s.nodes.rows.Set(n)
		s.nodes.noteAway(n.handle, n.node.Away())
	}
}
