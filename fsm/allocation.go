package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

// allocation is a row of the hot table. It holds no pointers, so that the garbage collector looks at none of a million
// rows; job, task and node are handles of names. Free text and ports are in tables of their own.
type allocation struct {
	id         api.ID
	replaces   api.ID
	evaluation api.ID
	create     uint64 // index
	modify     uint64 // index
	createdAt  int64  // the state's time
	modifiedAt int64  // the state's time
	seq        uint64
	started    int64 // Unix milliseconds, the node's clock
	finished   int64 // Unix milliseconds, the node's clock
	held       api.Resources
	position
	version  uint32
	restarts uint32
	exit     int32
	wish
	phase   api.Phase
	failure api.Failure
	signal  uint8
	health  api.HealthStatus // unknown unless the phase is running
}

// wish is what is to become of an allocation.
type wish struct {
	desired api.Desired
	hurry   bool // when it is to stop, without its task's shutdown delay
}

// position is what an allocation is an instance of, and where it stands. It never changes.
type position struct{ job, task, slot, node uint32 }

func (a *allocation) live() bool { return !a.phase.Terminal() }

// slotKey orders allocations by slot, oldest first. Its order of jobs and tasks is that of handles, which differs
// between servers: iterate over one task at a time.
type slotKey struct {
	job, task, slot uint32
	id              api.ID
}

// nodeKey orders a node's allocations by their latest change, so that a poll costs what has changed.
type nodeKey struct {
	node   uint32
	modify uint64
	id     api.ID
}

// remark is the free text of an allocation; most have none.
type remark struct {
	id      api.ID
	message string // the latest status's
	reason  string // why it is to stop
}

type allocationTables struct {
	rows    *btree.BTreeG[allocation]
	bySlot  *btree.BTreeG[slotKey]
	byNode  *btree.BTreeG[nodeKey]
	remarks *btree.BTreeG[remark]
	trials  *btree.BTreeG[trial]   // see retention.go
	surplus *btree.BTreeG[slotKey] // slots with more ended allocations than are kept; id 0
}

func newAllocationTables() allocationTables {
	return allocationTables{
		rows:   newTree(func(a, b allocation) bool { return a.id < b.id }),
		bySlot: newTree(slotLess), byNode: newTree(nodeLess),
		remarks: newTree(func(a, b remark) bool { return a.id < b.id }),
		trials:  newTrials(), surplus: newTree(slotLess),
	}
}

func (t *allocationTables) copy() allocationTables {
	return allocationTables{rows: t.rows.Copy(), bySlot: t.bySlot.Copy(), byNode: t.byNode.Copy(), remarks: t.remarks.Copy(),
		trials: t.trials.Copy(), surplus: t.surplus.Copy()}
}

func slotLess(a, b slotKey) bool {
	switch {
	case a.job != b.job:
		return a.job < b.job
	case a.task != b.task:
		return a.task < b.task
	case a.slot != b.slot:
		return a.slot < b.slot
	}
	return a.id < b.id
}

func nodeLess(a, b nodeKey) bool {
	switch {
	case a.node != b.node:
		return a.node < b.node
	case a.modify != b.modify:
		return a.modify < b.modify
	}
	return a.id < b.id
}

func (a *allocation) slotKey() slotKey { return slotKey{a.job, a.task, a.slot, a.id} }
func (a *allocation) nodeKey() nodeKey { return nodeKey{a.node, a.modify, a.id} }

func (t *allocationTables) get(id api.ID) (allocation, bool) { return t.rows.Get(allocation{id: id}) }

// newest returns the youngest allocation's ID of a slot, 0 for none.
func (t *allocationTables) newest(job, task, slot uint32) (id api.ID) {
	t.bySlot.Descend(slotKey{job, task, slot, ^api.ID(0)}, func(k slotKey) bool {
		if k.job == job && k.task == task && k.slot == slot {
			id = k.id
		}
		return false
	})
	return id
}

// ofSlot returns a slot's allocations, oldest first.
func (t *allocationTables) ofSlot(job, task, slot uint32) []allocation {
	var out []allocation
	t.bySlot.Ascend(slotKey{job, task, slot, 0}, func(k slotKey) bool {
		if k.job != job || k.task != task || k.slot != slot {
			return false
		}
		a, _ := t.get(k.id)
		out = append(out, a)
		return true
	})
	return out
}

// eachOfJob visits a job's allocations slot by slot, oldest first; the order of its tasks is not defined.
func (t *tables) eachOfJob(job uint32, visit func(allocation) bool) {
	var hint btree.PathHint // neighbours in slots are mostly neighbours in IDs
	t.allocations.bySlot.Ascend(slotKey{job: job}, func(k slotKey) bool {
		if k.job != job {
			return false
		}
		a, _ := t.allocations.rows.GetHint(allocation{id: k.id}, &hint)
		return visit(a)
	})
}

// eachOfNode visits a node's allocations changed after an index, by the index of their latest change.
func (t *tables) eachOfNode(node uint32, since uint64, visit func(allocation) bool) {
	t.allocations.byNode.Ascend(nodeKey{node, since, ^api.ID(0)}, func(k nodeKey) bool {
		if k.node != node {
			return false
		}
		a, _ := t.allocations.get(k.id)
		return visit(a)
	})
}

// insert adds a new allocation: the newest of its slot.
func (s *state) insert(j *job, a allocation, ports []api.PortBinding, devices []api.DeviceClaim) {
	t := s.tally(a.job)
	t.tallySlot(j, s.allocations.speakerOf(a.position), -1)
	t.tallySlot(j, s.allocations.speaker(a), 1)
	t.tallyLive(j, a, 1)
	t.allocations = s.index
	s.jobs.tallies.Set(t)
	s.allocations.rows.Set(a)
	s.allocations.bySlot.Set(a.slotKey())
	s.allocations.byNode.Set(a.nodeKey())
	s.bindPorts(a, ports)
	s.hold(a)
	s.claimDevices(a, devices)
	s.touchAllocation(a)
}

// change replaces an allocation's row by one that differs in what may change (desired, phase, version and what its
// client says), and keeps indexes and counters in step. An allocation that ends gives back its room, ports
// and devices.
func (s *state) change(j *job, old, a allocation) {
	a.modify, a.modifiedAt, a.health = s.index, s.now, api.HealthOf(a.phase, a.health)
	before, after := old, a
	alone := a.replaces == 0 && s.allocations.newest(a.job, a.task, a.slot) == a.id // it speaks for its slot, whatever it becomes
	if !alone {
		before = s.allocations.speakerOf(a.position)
	}
	s.allocations.rows.Set(a)
	if !alone {
		after = s.allocations.speakerOf(a.position)
	}
	if a.modify != old.modify {
		s.allocations.byNode.Delete(old.nodeKey())
		s.allocations.byNode.Set(a.nodeKey())
	}
	t := s.tally(a.job)
	t.tallyLive(j, old, -1)
	t.tallyLive(j, a, 1)
	t.tallySlot(j, before, -1)
	t.tallySlot(j, after, 1)
	ended := old.live() && !a.live()
	if ended {
		t.ended = s.index
	}
	if ended || a.phase == api.PhaseRunning && old.phase != api.PhaseRunning || a.health == api.HealthHealthy && old.health != a.health {
		t.progress = s.index
		s.stir(t.open)
	}
	t.allocations = s.index
	s.jobs.tallies.Set(t)
	s.rehold(old, a)
	if ended {
		s.freePorts(a)
		s.freeDevices(a)
		s.noteSurplus(a)
		s.free()
	}
	s.touchAllocation(a)
}

// deleteAllocation forgets an allocation that has ended.
func (s *state) deleteAllocation(a allocation) {
	j := s.jobs.get(s.names[a.job])
	t := s.tally(a.job)
	t.tallySlot(j, s.allocations.speakerOf(a.position), -1)
	s.allocations.rows.Delete(a)
	s.allocations.bySlot.Delete(a.slotKey())
	s.allocations.byNode.Delete(a.nodeKey())
	s.allocations.remarks.Delete(remark{id: a.id})
	s.allocations.trials.Delete(trial{id: a.id})
	s.unbindPorts(a.id)
	s.forgetClaims(a.id)
	t.tallySlot(j, s.allocations.speakerOf(a.position), 1)
	t.allocations = s.index
	s.jobs.tallies.Set(t)
	s.noteSurplus(a)
	if j.everyNode() {
		s.leaveSlot(j, a)
	}
	node, _ := s.nodes.get(s.names[a.node])
	node.touched = s.index
	s.nodes.rows.Set(node)
	s.touchAllocation(a)
	s.deleted[TableAllocations] = s.index
}

// remarkOn stores an allocation's free text, or that it has none (any more).
func (s *state) remarkOn(r remark) {
	if r.message == "" && r.reason == "" {
		s.allocations.remarks.Delete(r)
		return
	}
	s.allocations.remarks.Set(r)
}

func (t *tables) remark(id api.ID) remark {
	r, _ := t.allocations.remarks.Get(remark{id: id})
	r.id = id
	return r
}

func (s *state) touchAllocation(a allocation) {
	s.touch(WatchKey{Table: TableAllocations, ID: a.id})
	s.touch(WatchKey{Table: TableNodeAllocations, Key: s.names[a.node]})
	s.touch(WatchKey{Table: TableJobAllocations, Key: s.names[a.job]})
}

// stopAllocation does not stop anything by itself: it asks the scheduler, which knows what is to take the place.
func (s *state) stopAllocation(b *StopAllocation) Result {
	a, ok := s.allocations.get(b.ID)
	if !ok {
		return refused(s.index, api.Errorf(api.CodeNotFound, "there is no allocation %s", s.text.Format(b.ID)))
	}
	if !a.live() {
		return refused(s.index, api.Errorf(api.CodeConflict, "allocation %s has ended already: it is %s", s.text.Format(b.ID), a.phase))
	}
	s.noteAsked(&a)
	r, j := s.done(), s.jobs.get(s.names[a.job])
	if b.NoShutdownDelay && !a.hurry {
		s.hurry(j, a)
	}
	r.Evaluation = s.look(j, api.CauseAllocStop, "", []api.ID{b.ID})
	return r
}

func (t *tables) row(a *allocation) api.AllocationRow {
	return api.AllocationRow{
		ID: a.id, Job: t.names[a.job], Task: t.names[a.task], Slot: a.slot, Version: uint64(a.version),
		Node: t.names[a.node], NodeOrdinal: t.nodes.order.ordinal(&t.nodes, a.node), Replaces: a.replaces,
		Evaluation: a.evaluation, Desired: a.desired, Hurry: a.hurry, Away: t.isAway(a), Phase: a.phase, Health: a.health, Failure: a.failure,
		Restarts: a.restarts, Seq: a.seq, Held: a.held, CreatedAt: a.createdAt, CreateIndex: a.create, ModifyIndex: a.modify,
	}
}

// Row returns an allocation as machines read it.
func (s *Snapshot) Row(id api.ID) (api.AllocationRow, bool) {
	a, ok := s.allocations.get(id)
	if !ok {
		return api.AllocationRow{}, false
	}
	return s.row(&a), true
}

// Rows yields every allocation, by ID.
func (s *Snapshot) Rows() iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		s.allocations.rows.Scan(func(a allocation) bool { return yield(s.row(&a)) })
	}
}

// NodeRows yields the node's allocations that changed after the index, by the index of their change; since 0, all that
// are not terminal.
func (s *Snapshot) NodeRows(node string, since uint64) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		n, ok := s.nodes.get(node)
		if !ok {
			return
		}
		s.eachOfNode(n.handle, since, func(a allocation) bool {
			return since == 0 && !a.live() || yield(s.row(&a))
		})
	}
}

// JobRows yields the job's allocations that matter to a plan: all that are not terminal, and the newest one of each slot
// whatever its phase; by task, slot, ID.
func (s *Snapshot) JobRows(name string) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		s.eachByTask(name, func(a allocation) bool {
			if !a.live() && s.allocations.newest(a.job, a.task, a.slot) != a.id {
				return true
			}
			return yield(s.row(&a))
		})
	}
}

// JobAllRows yields all of the job's allocations, by task, slot, ID.
func (s *Snapshot) JobAllRows(name string) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		s.eachByTask(name, func(a allocation) bool { return yield(s.row(&a)) })
	}
}

// eachByTask visits a job's allocations by task name, slot and ID.
func (t *tables) eachByTask(name string, visit func(allocation) bool) {
	j := t.jobs.get(name)
	if j == nil {
		return
	}
	var tasks []uint32 // found by leaping from one task to the next
	for next := (slotKey{job: j.handle}); ; {
		found := false
		t.allocations.bySlot.Ascend(next, func(k slotKey) bool {
			if found = k.job == j.handle; found {
				tasks = append(tasks, k.task)
				next.task = k.task + 1
			}
			return false
		})
		if !found {
			break
		}
	}
	slices.SortFunc(tasks, func(a, b uint32) int { return strings.Compare(t.names[a], t.names[b]) })
	going := true
	for _, task := range tasks {
		var hint btree.PathHint
		t.allocations.bySlot.Ascend(slotKey{job: j.handle, task: task}, func(k slotKey) bool {
			if k.job != j.handle || k.task != task {
				return false
			}
			a, _ := t.allocations.rows.GetHint(allocation{id: k.id}, &hint)
			going = visit(a)
			return going
		})
		if !going {
			return
		}
	}
}

// AllocationStatusOf returns the latest status of an allocation that the state took over.
func (s *Snapshot) AllocationStatusOf(id api.ID) (api.AllocationStatus, bool) {
	a, ok := s.allocations.get(id)
	if !ok {
		return api.AllocationStatus{}, false
	}
	return api.AllocationStatus{ID: a.id, Seq: a.seq, Restarts: a.restarts, Phase: a.phase, Health: a.health, Failure: a.failure,
		ExitCode: a.exit, Signal: a.signal, Message: s.remark(id).message, StartedAt: a.started, FinishedAt: a.finished}, true
}

// Allocation puts together an allocation as people read it.
func (s *Snapshot) Allocation(id api.ID) (*api.Allocation, bool) {
	a, ok := s.allocations.get(id)
	if !ok {
		return nil, false
	}
	job, task, text := s.names[a.job], s.names[a.task], s.remark(id)
	out := &api.Allocation{
		ID: s.text.Format(id), Name: api.InstanceName(job, task, a.slot), Job: job, Task: task, Slot: int(a.slot),
		JobVersion: uint64(a.version), NodeID: s.names[a.node], Desired: a.desired, DesiredReason: text.reason, Phase: a.phase, Health: a.health,
		Restarts: int(a.restarts), Signal: int(a.signal), OOM: a.failure == api.FailureOOM, Message: text.message, Away: s.awayOf(&a),
		Ports: s.Ports(id), Devices: s.Claims(id), Volumes: s.volumesOf(&a), Resources: a.held, CreatedAt: time.Unix(0, a.createdAt).UTC(),
		ModifiedAt: time.Unix(0, a.modifiedAt).UTC(), StartedAt: milliseconds(a.started), FinishedAt: milliseconds(a.finished),
		CreateIndex: a.create, ModifyIndex: a.modify,
	}
	if node := s.Node(out.NodeID); node != nil {
		out.NodeName, out.NodeAddress = node.Name, node.Address
	}
	if a.finished != 0 {
		exit := int(a.exit)
		out.ExitCode = &exit
	}
	if a.evaluation != 0 {
		out.Evaluation = s.text.Format(a.evaluation)
	}
	if a.replaces != 0 {
		out.Replaces = s.text.Format(a.replaces)
	}
	for _, other := range s.allocations.ofSlot(a.job, a.task, a.slot) {
		if other.replaces == id {
			out.ReplacedBy = s.text.Format(other.id)
		}
	}
	return out, true
}

// milliseconds is the instant of a node's clock, the zero time for none.
func milliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// FindAllocations returns the IDs whose text begins with prefix, in ascending order.
func (s *Snapshot) FindAllocations(prefix string) []api.ID {
	return s.find(prefix, s.allocations.rows.Len(),
		func(id api.ID) bool { _, ok := s.allocations.get(id); return ok },
		func(visit func(api.ID)) {
			s.allocations.rows.Scan(func(a allocation) bool { visit(a.id); return true })
		})
}

// find looks up IDs by the beginning of their text. The text's order is not the table's, so either every row's text is
// made, or, where that is less work, every ID that the prefix leaves possible is looked up.
func (t *tables) find(prefix string, rows int, exists func(api.ID) bool, all func(func(api.ID))) []api.ID {
	var out []api.ID
	if id, ok := t.text.Parse(prefix); ok {
		if t.text.Format(id) == prefix && exists(id) {
			out = append(out, id)
		}
		return out
	}
	const counterDigits = 8 // of the 16; the others are the epoch
	possible := uint64(t.epoch) + 1
	for range counterDigits - len(prefix) {
		possible *= 16
	}
	if possible <= uint64(rows) {
		return t.findPossible(prefix, exists)
	}
	all(func(id api.ID) {
		if strings.HasPrefix(t.text.Format(id), prefix) {
			out = append(out, id)
		}
	})
	return out
}

// findPossible tries every counter that the prefix leaves open, in every epoch so far.
func (t *tables) findPossible(prefix string, exists func(api.ID) bool) []api.ID {
	var out []api.ID
	open := max(0, 8-len(prefix))
	for epoch := range t.epoch + 1 {
		for n := range uint64(1) << (4 * open) {
			text := fmt.Sprintf("%0*x%08x", open, n, epoch)
			if open == 0 {
				text = fmt.Sprintf("%08x", epoch)
			}
			text = prefix[:8-open] + text
			id, ok := t.text.Parse(text)
			if ok && strings.HasPrefix(text, prefix) && exists(id) {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return out
}
