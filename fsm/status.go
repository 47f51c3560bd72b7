package fsm

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"github.com/tidwall/btree"

	"cube/api"
)

// updateStatuses takes over what clients say of their allocations. A status moves an allocation forward or not at all:
// reports may come twice, late and from a node that was declared down.
func (s *state) updateStatuses(b *UpdateStatuses) Result {
	r := s.done()
	for _, report := range b.Reports {
		node, known := s.nodes.get(report.Node)
		for i := range report.Statuses {
			st := &report.Statuses[i]
			a, ok := s.allocations.get(st.ID)
			if !known || !ok || a.node != node.handle {
				r.Unknown = append(r.Unknown, st.ID)
				continue
			}
			if outdated(&a, st) {
				continue
			}
			s.takeStatus(a, st)
		}
	}
	return r
}

// outdated reports whether a status adds nothing to what is known. Only the state itself calls an allocation lost.
func outdated(a *allocation, st *api.AllocationStatus) bool {
	return !a.live() || st.Seq <= a.seq || st.Phase >= api.PhaseLost ||
		api.ProgressLess(st.Restarts, st.Phase, a.restarts, a.phase)
}

func (s *state) takeStatus(old allocation, st *api.AllocationStatus) {
	a := old
	a.seq, a.restarts, a.phase, a.failure = st.Seq, st.Restarts, st.Phase, st.Failure
	a.health = api.HealthOf(st.Phase, st.Health)
	a.exit, a.signal, a.started, a.finished = st.ExitCode, st.Signal, st.StartedAt, st.FinishedAt
	text := s.remark(a.id)
	if message := shorten(st.Message, api.MaxStatusMessage); message != text.message {
		text.message = message
		s.remarkOn(text)
	}
	if st.Failure == api.FailurePortTaken && st.Port != 0 {
		s.quarantinePort(a.node, st.Port)
	}
	j := s.jobs.get(s.names[a.job])
	s.noteStatus(&old, &a, text.message)
	s.change(j, old, a)
	if a.live() {
		return
	}
	if a.phase == api.PhaseComplete && a.desired == api.DesiredRun && j.current().Type.Completes() {
		s.complete(j, a)
	}
	s.ended(j, a)
}

// shorten cuts a text to at most limit bytes, between two characters.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// completedSlots are 64 slots of a task that completed for good, as bits. A line of versions shares them.
type completedSlots struct {
	job, task uint32
	line      uint64
	word      uint32 // slot / 64
	bits      uint64
}

// complete records that a batch slot is done, in the line of versions that its allocation belongs to.
func (s *state) complete(j *job, a allocation) {
	v := j.version(uint64(a.version))
	if v == nil {
		return
	}
	if i := v.task(a.task); i >= 0 {
		key := completedSlots{job: a.job, task: a.task, line: v.lines[i], word: a.slot / 64}
		if row, ok := s.jobs.completed.Get(key); ok {
			key = row
		}
		key.bits |= 1 << (a.slot % 64)
		s.jobs.completed.Set(key)
	}
}

func (t *tables) completed(j *job, number uint64, task uint32, slot uint32) bool {
	v := j.version(number)
	if v == nil {
		return false
	}
	i := v.task(task)
	if i < 0 {
		return false
	}
	row, ok := t.jobs.completed.Get(completedSlots{job: j.handle, task: task, line: v.lines[i], word: slot / 64})
	return ok && row.bits&(1<<(slot%64)) != 0
}

// dropCompleted forgets the completed slots of lines that no kept version of j belongs to.
func (s *state) dropCompleted(j *job) {
	var gone []completedSlots
	s.jobs.completed.Ascend(completedSlots{job: j.handle}, func(c completedSlots) bool {
		if c.job != j.handle {
			return false
		}
		for i := range j.versions {
			if k := j.versions[i].task(c.task); k >= 0 && j.versions[i].lines[k] == c.line {
				return true
			}
		}
		gone = append(gone, c)
		return true
	})
	for _, c := range gone {
		s.jobs.completed.Delete(c)
	}
}

// Completed reports whether a batch slot has completed in that version of the job, or in an earlier one with the same
// instances.
func (s *Snapshot) Completed(name, task string, number uint64, slot uint32) bool {
	j := s.jobs.get(name)
	v := j.version(number)
	if v == nil {
		return false
	}
	for i, t := range v.job.Tasks {
		if t.Name == task {
			return s.completed(j, number, v.handles[i], slot)
		}
	}
	return false
}

// tellsHealth reports whether a status says another health than its phase implies. Such reports have a layout of their own,
// as plans have that claim devices.
func tellsHealth(reports []NodeReport) bool {
	return slices.ContainsFunc(reports, func(r NodeReport) bool {
		return slices.ContainsFunc(r.Statuses, func(st api.AllocationStatus) bool { return st.Health != api.ImpliedHealth(st.Phase) })
	})
}

// encodeReports lays statuses out in columns: what is alike stands together and stays small.
func encodeReports(reports []NodeReport) []byte {
	health := tellsHealth(reports)
	var w writer
	w.uvarint(uint64(len(reports)))
	for _, r := range reports {
		w.string(r.Node)
		w.uvarint(uint64(len(r.Statuses)))
		last := api.ID(0)
		for i := range r.Statuses {
			w.varint(int64(r.Statuses[i].ID - last))
			last = r.Statuses[i].ID
		}
		for i := range r.Statuses {
			st := &r.Statuses[i]
			w.u8(uint8(st.Phase))
			w.u8(uint8(st.Failure))
			w.u8(st.Signal)
			w.uvarint(st.Seq)
			w.uvarint(uint64(st.Restarts))
			w.varint(int64(st.ExitCode))
			w.uvarint(uint64(st.Port))
		}
		lastStart := int64(0)
		for i := range r.Statuses {
			st := &r.Statuses[i]
			w.varint(st.StartedAt - lastStart)
			w.varint(st.FinishedAt - st.StartedAt)
			lastStart = st.StartedAt
		}
		for i := range r.Statuses {
			w.string(r.Statuses[i].Message)
		}
		for i := range r.Statuses {
			if health {
				w.u8(uint8(r.Statuses[i].Health))
			}
		}
	}
	return w.b
}

// statusSize is the least that a status takes: its ID, seven small fields, two times and the length of its message.
const statusSize = 1 + 7 + 2 + 1

func decodeReports(raw []byte, health bool) ([]NodeReport, error) {
	r := reader{b: raw}
	reports := makeSlice[NodeReport](r.count(2))
	for i := range reports {
		reports[i].Node = r.string()
		statuses := makeSlice[api.AllocationStatus](r.count(statusSize))
		last := api.ID(0)
		for k := range statuses {
			last += api.ID(r.varint())
			statuses[k].ID = last
		}
		for k := range statuses {
			st := &statuses[k]
			st.Phase, st.Failure, st.Signal = api.Phase(r.u8()), api.Failure(r.u8()), r.u8()
			st.Seq, st.Restarts = r.uvarint(), uint32(r.atMost(1<<32-1))
			st.ExitCode, st.Port = int32(r.varint()), uint16(r.atMost(1<<16-1))
		}
		lastStart := int64(0)
		for k := range statuses {
			lastStart += r.varint()
			statuses[k].StartedAt = lastStart
			statuses[k].FinishedAt = lastStart + r.varint()
		}
		for k := range statuses {
			statuses[k].Message = r.string()
		}
		for k := range statuses {
			if statuses[k].Health = api.ImpliedHealth(statuses[k].Phase); health {
				statuses[k].Health = api.HealthStatus(r.u8())
			}
		}
		reports[i].Statuses = statuses
	}
	return reports, r.close()
}

// persistAllocations writes each row with its ports and its text.
func (t *tables) persistAllocations(k *sink) {
	t.allocations.rows.Scan(func(a allocation) bool {
		k.uvarint(uint64(a.id))
		k.uvarint(uint64(a.replaces))
		k.uvarint(uint64(a.evaluation))
		k.uvarint(a.create)
		k.uvarint(a.modify)
		k.varint(a.createdAt)
		k.varint(a.modifiedAt)
		k.uvarint(a.seq)
		k.varint(a.started)
		k.varint(a.finished)
		k.resources(a.held)
		k.name(a.job)
		k.name(a.task)
		k.uvarint(uint64(a.slot))
		k.name(a.node)
		k.uvarint(uint64(a.version))
		k.uvarint(uint64(a.restarts))
		k.varint(int64(a.exit))
		k.u8(uint8(a.desired))
		k.u8(uint8(a.phase))
		k.u8(uint8(a.failure))
		k.u8(a.signal)
		text := t.remark(a.id)
		k.string(text.message)
		k.string(text.reason)
		ports := t.ports.of(a.id)
		k.uvarint(uint64(len(ports)))
		for _, b := range ports {
			k.name(b.label)
			k.u16(b.host)
			k.u16(b.to)
		}
		return k.row()
	})
}

// loading is what a restore gathers while allocations come in: the keys of indexes, which cost a third sorted once and
// loaded in order of what they cost set one by one, and, by handle, which names are those of nodes and of jobs.
type loading struct {
	*state
	last   api.ID
	nodes  []bool
	jobs   []bool
	bySlot []slotKey
	byNode []nodeKey
	held   []heldPort
}

// begin is called when all nodes and jobs are restored.
func (l *loading) begin() {
	l.nodes, l.jobs = make([]bool, len(l.names)), make([]bool, len(l.names))
	l.state.nodes.rows.Scan(func(n nodeRow) bool { l.nodes[n.handle] = true; return true })
	l.state.jobs.rows.Scan(func(j *job) bool { l.jobs[j.handle] = j.current() != nil; return true })
}

// end fills the indexes that allocations have in other orders than their own.
func (l *loading) end() {
	load(l.allocations.bySlot, l.bySlot, slotLess)
	load(l.allocations.byNode, l.byNode, nodeLess)
	load(l.ports.held, l.held, heldLess)
}

func load[T any](into *btree.BTreeG[T], rows []T, less func(a, b T) bool) {
	slices.SortFunc(rows, func(a, b T) int {
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return 0
	})
	for _, row := range rows {
		into.Load(row)
	}
}

func (l *loading) restoreAllocation(r *reader) {
	if l.nodes == nil {
		l.begin()
	}
	s := l.state
	a := allocation{id: api.ID(r.uvarint()), replaces: api.ID(r.uvarint()), evaluation: api.ID(r.uvarint()),
		create: r.uvarint(), modify: r.uvarint(), createdAt: r.varint(), modifiedAt: r.varint(), seq: r.uvarint(),
		started: r.varint(), finished: r.varint(), held: r.resources(),
		position: position{job: s.handle(r), task: s.handle(r), slot: uint32(r.atMost(1<<32 - 1)), node: s.handle(r)},
		version:  uint32(r.atMost(1<<32 - 1)), restarts: uint32(r.atMost(1<<32 - 1)),
		exit: int32(r.varint()), wish: wish{desired: api.Desired(r.u8())}, phase: api.Phase(r.u8()), failure: api.Failure(r.u8()), signal: r.u8()}
	a.health = api.ImpliedHealth(a.phase) // the others are in a section of their own
	text := remark{id: a.id, message: r.string(), reason: r.string()}
	const boundSize = 5
	ports := makeSlice[binding](r.count(boundSize))
	for i := range ports {
		ports[i] = binding{owner: a.id, place: uint8(i), label: s.handle(r), host: r.u16(), to: r.u16()}
	}
	if r.err != nil {
		return
	}
	if a.id <= l.last || !l.nodes[a.node] || !l.jobs[a.job] || a.phase > api.PhaseLost || len(ports) > 255 {
		r.fail("allocation %d is out of order, or its job or node is missing", a.id)
		return
	}
	l.last = a.id
	s.allocations.rows.Load(a)
	l.bySlot = append(l.bySlot, a.slotKey())
	l.byNode = append(l.byNode, a.nodeKey())
	if text.message != "" || text.reason != "" {
		s.allocations.remarks.Load(text)
	}
	for _, b := range ports {
		s.ports.bindings.Load(b)
		if a.live() {
			l.held = append(l.held, heldPort{node: a.node, port: b.host, owner: a.id})
		}
	}
}

// recountAll derives from restored rows what is not persisted: what is held on nodes, what is counted for jobs, and
// which slots have ended allocations to spare.
func (s *state) recountAll() {
	type sum struct {
		held          api.Resources
		live, running int32
	}
	sums := make([]sum, len(s.names))
	s.allocations.rows.Scan(func(a allocation) bool {
		if a.live() {
			on := &sums[a.node]
			on.held = on.held.Add(a.held)
			on.live++
			if a.phase == api.PhaseRunning {
				on.running++
			}
		}
		return true
	})
	var rows []nodeRow
	s.nodes.rows.Scan(func(n nodeRow) bool { rows = append(rows, n); return true })
	for _, n := range rows {
		on := sums[n.handle]
		n.held, n.live, n.running = on.held, on.live, on.running
		s.nodes.rows.Set(n)
	}
	s.recountDevices()
	for _, j := range s.jobs.all() {
		if j.current() == nil {
			continue
		}
		t, fresh := s.tally(j.handle), s.countOf(j)
		t.counts, t.healthy, t.occupied, t.live, t.wanted = fresh.counts, fresh.healthy, fresh.occupied, fresh.live, fresh.wanted
		t.current, t.well = fresh.current, fresh.well
		s.jobs.tallies.Set(t)
	}
	s.refillSurplus()
}

func (s *state) refillSurplus() {
	var slot slotKey
	rows := 0
	s.allocations.bySlot.Scan(func(k slotKey) bool {
		if k.job != slot.job || k.task != slot.task || k.slot != slot.slot {
			slot, rows = slotKey{job: k.job, task: k.task, slot: k.slot}, 0
		}
		if rows++; rows == keptEnded+1 { // the least that can be too many: most slots have one, and are not looked at
			s.noteSurplus(allocation{position: position{job: k.job, task: k.task, slot: k.slot}})
		}
		return true
	})
}

// differs reports whether the row has another health than its phase implies.
func (a *allocation) differs() bool { return a.health != api.ImpliedHealth(a.phase) }

// exceptions reports whether an allocation has another health than its phase implies, and whether one is to stop without
// delay.
func (t *allocationTables) exceptions() (differing, hurried bool) {
	t.rows.Scan(func(a allocation) bool {
		differing, hurried = differing || a.differs(), hurried || a.hurry
		return !hurried
	})
	return differing, hurried
}

// persistHealth writes the health that its phase does not imply.
func (t *allocationTables) persistHealth(k *sink) {
	t.rows.Scan(func(a allocation) bool {
		if a.differs() {
			k.uvarint(uint64(a.id))
			k.u8(uint8(a.health))
			return k.row()
		}
		return true
	})
}

func (s *state) restoreHealth(r *reader) {
	id, health := api.ID(r.uvarint()), api.HealthStatus(r.u8())
	a, ok := s.allocations.get(id)
	if !ok || a.health == health || api.HealthOf(a.phase, health) != health || a.phase != api.PhaseRunning {
		r.fail("allocation %d has a health that it cannot have", id)
		return
	}
	a.health = health
	s.allocations.rows.Set(a)
}

// persistHurry writes which allocations are to stop without delay.
func (t *allocationTables) persistHurry(k *sink) {
	t.rows.Scan(func(a allocation) bool {
		if a.hurry {
			k.uvarint(uint64(a.id))
			return k.row()
		}
		return true
	})
}

func (s *state) restoreHurry(r *reader) {
	a, ok := s.allocations.get(api.ID(r.uvarint()))
	if !ok || a.hurry {
		r.fail("what is to stop without delay is no allocation, or is there twice")
		return
	}
	a.hurry = true
	s.allocations.rows.Set(a)
}

// persistCompleted writes the completed slots by name: the table's own order is that of handles.
func (t *jobTables) persistCompleted(k *sink) {
	rows := make([]completedSlots, 0, t.completed.Len())
	t.completed.Scan(func(c completedSlots) bool { rows = append(rows, c); return true })
	slices.SortFunc(rows, func(a, b completedSlots) int {
		return cmp.Or(cmp.Compare(k.places[a.job], k.places[b.job]), cmp.Compare(k.places[a.task], k.places[b.task]),
			cmp.Compare(a.line, b.line), cmp.Compare(a.word, b.word))
	})
	for _, c := range rows {
		k.name(c.job)
		k.name(c.task)
		k.uvarint(c.line)
		k.uvarint(uint64(c.word))
		k.uvarint(c.bits)
		k.row()
	}
}

func (s *state) restoreCompleted(r *reader) {
	c := completedSlots{job: s.handle(r), task: s.handle(r), line: r.uvarint(), word: uint32(r.atMost(1<<32 - 1)), bits: r.uvarint()}
	if s.jobs.get(s.names[c.job]) == nil {
		r.fail("completed slots are of no job")
	}
	if r.err == nil {
		s.jobs.completed.Set(c)
	}
}
