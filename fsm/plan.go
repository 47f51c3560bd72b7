package fsm

import (
	"fmt"
	"slices"
	"time"

	"cube/api"
)

// commitPlan re-checks the facts that a plan was made from and commits what still holds. The log is the queue of plans:
// several may be made from one snapshot, and the first one in the log wins.
func (s *state) commitPlan(b *CommitPlan) Result {
	if b.Plan == nil {
		return refused(s.index, api.Errorf(api.CodeInvalid, "there is no plan to commit"))
	}
	r := s.done()
	for i := range b.Plan.Jobs {
		s.commitJob(b.Plan.BaseIndex, &b.Plan.Jobs[i], &r)
	}
	if len(r.Rejections) > 0 && s.rules >= rulesOffer {
		s.free() // the plan's other jobs were told that this room is taken
	}
	return r
}

// outcome is what became of one job's part of a plan.
type outcome struct {
	stale    bool // the job is not the one that was planned on
	placed   int
	stopped  int
	inPlace  int
	rejected int
}

// planLayout is which columns a plan has besides those that all have. A plan has no more than it needs, so that it costs no byte
// more than before there were devices and successors that run beside, and is read by servers of that time.
type planLayout struct {
	devices bool // placements claim devices; from envelope version 2 on
	beside  bool // some run beside what they succeed; from envelope version 5 on, which has the other too
	preempt bool // others give way; from envelope version 9 on, which has both others too
	timed   bool // something failed and is, or was, to be placed again; from envelope version 10 on, which has all others
}

func layoutOf(p *api.Plan) (l planLayout) {
	if p == nil {
		return l
	}
	for i := range p.Jobs {
		l.preempt = l.preempt || len(p.Jobs[i].Preemptions)+len(p.Jobs[i].Promises) > 0
		l.timed = l.timed || p.Jobs[i].WakeAt != 0
		for k := range p.Jobs[i].Placements {
			placement := &p.Jobs[i].Placements[k]
			l.devices = l.devices || len(placement.Devices) > 0
			l.beside = l.beside || placement.Beside
			l.timed = l.timed || placement.Trial != (api.Trial{})
		}
	}
	l.preempt = l.preempt || l.timed
	l.beside = l.beside || l.preempt
	l.devices = l.devices || l.beside
	return l
}

func (l planLayout) envelope() uint8 {
	switch {
	case l.timed:
		return 10
	case l.preempt:
		return 9
	case l.beside:
		return 5
	case l.devices:
		return 2
	}
	return 1
}

func (s *state) commitJob(base uint64, p *api.JobPlan, r *Result) {
	j := s.jobs.get(p.Job)
	var o outcome
	if current := j.current(); current == nil || current.ModifyIndex != p.JobModifyIndex {
		o.stale = true
		for i := range p.Placements {
			r.Rejections = append(r.Rejections, rejection(p.Job, &p.Placements[i], "the job has changed since the plan was made"))
		}
	} else {
		o = s.commitParts(j, p, r)
	}
	r.Accepted += o.placed
	if e := s.evaluations.get(p.Evaluation); e != nil && e.Status.Open() && e.Job == p.Job {
		s.conclude(j, e, base, p, o)
	}
}

// commitParts places, stops and changes in place. The stop of what a placement succeeds stands or falls with it.
func (s *state) commitParts(j *job, p *api.JobPlan, r *Result) outcome {
	var o outcome
	stops := make(map[api.ID]bool, len(p.Stops)) // looked up, never ranged over
	for _, stop := range p.Stops {
		stops[stop.Allocation] = true
	}
	succeeded, spared := map[api.ID]bool{}, map[api.ID]bool{}
	e := s.evaluations.get(p.Evaluation)
	for i := range p.Placements {
		placement := &p.Placements[i]
		task, reason := s.mayPlace(j, placement, stops)
		if reason != "" {
			r.Rejections = append(r.Rejections, rejection(j.name, placement, reason))
			o.rejected++
			spared[placement.Replaces] = true
			continue
		}
		s.place(j, task, p.Evaluation, placement)
		s.notePlaced(j, e, placement)
		succeeded[placement.Replaces] = true
		o.placed++
	}
	for _, stop := range p.Stops {
		if spared[stop.Allocation] && !succeeded[stop.Allocation] {
			continue
		}
		if s.stop(j, stop) {
			s.noteStopping(e, stop)
			o.stopped++
		}
	}
	for _, id := range p.InPlace {
		if s.moveInPlace(j, id) {
			o.inPlace++
			a, _ := s.allocations.get(id)
			s.note(s.eventOf(api.EventUpdated, &a, ""))
		}
	}
	o.stopped += s.preempt(j, p.Preemptions)
	return o
}

// preempt has instances of jobs that are less important than j end, and these jobs looked at. It returns how many.
func (s *state) preempt(j *job, list []api.Preemption) (stopped int) {
	var hit []string
	for _, x := range list {
		other := s.jobs.get(x.Job)
		if other.current() == nil || other.current().Priority >= j.current().Priority {
			continue
		}
		if s.stop(other, api.Stop{Allocation: x.Allocation, Reason: x.Reason}) {
			stopped++
			s.notePreempted(x)
			if !slices.Contains(hit, x.Job) {
				hit = append(hit, x.Job)
			}
		}
	}
	for _, name := range hit {
		if other := s.jobs.get(name); !s.settled(other) {
			s.look(other, api.CausePreempted, "", nil)
		}
	}
	return stopped
}

func rejection(job string, p *api.Placement, reason string) api.Rejection {
	return api.Rejection{Job: job, Task: p.Task, Slot: p.Slot, Node: p.Node, Reason: reason}
}

// mayPlace checks a placement against the state as it is, the placements before it in the entry included. It returns
// the task's handle, or why not.
func (s *state) mayPlace(j *job, p *api.Placement, stops map[api.ID]bool) (task uint32, reason string) {
	current := &j.versions[0]
	if current.job.Stopped {
		return 0, "the job is stopped"
	}
	planned := j.version(p.Version)
	if planned == nil || planned.job.Task(p.Task) == nil {
		return 0, fmt.Sprintf("version %d of the job has no such task", p.Version)
	}
	task, known := s.handles[p.Task]
	if !known || p.Slot >= current.count(task) {
		return 0, "its slot is not asked for any more"
	}
	if current.job.Type.Completes() && s.completed(j, p.Version, task, p.Slot) {
		return 0, "its slot has completed"
	}
	if reason := s.slotTaken(j, task, p, stops); reason != "" {
		return 0, reason
	}
	if current.job.Type.EveryNode() {
		if reason := s.slotElsewhere(j, task, p); reason != "" {
			return 0, reason
		}
	}
	return task, s.noRoom(p, planned.job.Task(p.Task))
}

// slotTaken enforces that a slot has one holder, and at most one successor that names it. A holder that has not been told to
// stop is succeeded only by a placement that says that the two are to run side by side.
func (s *state) slotTaken(j *job, task uint32, p *api.Placement, stops map[api.ID]bool) string {
	var holder allocation
	for _, a := range s.allocations.ofSlot(j.handle, task, p.Slot) {
		if !a.live() {
			continue
		}
		if holder.id != 0 {
			return "its slot has a holder and a successor already"
		}
		holder = a
	}
	switch {
	case holder.id == 0:
		if old, ok := s.allocations.get(p.Replaces); ok && (old.job != j.handle || old.task != task || old.slot != p.Slot) {
			return "it would succeed an allocation of another slot"
		}
	case holder.id != p.Replaces:
		return fmt.Sprintf("its slot is held by allocation %s", s.text.Format(holder.id))
	case !p.Beside && !stops[holder.id] && holder.desired != api.DesiredStop:
		return fmt.Sprintf("it would succeed allocation %s, which is not to stop", s.text.Format(holder.id))
	}
	return ""
}

// speaker returns the allocation that stands for a slot where its job's instances are counted, given the slot's newest: that
// one, or the holder beside which it runs (or tried to), as long as the holder has not been told to stop.
func (t *allocationTables) speaker(newest allocation) allocation {
	if newest.replaces != 0 {
		if holder, ok := t.get(newest.replaces); ok && holder.live() && holder.desired == api.DesiredRun {
			return holder
		}
	}
	return newest
}

// speakerOf returns the allocation that stands for a slot, one without an ID if the slot never had any.
func (t *allocationTables) speakerOf(p position) (a allocation) {
	if id := t.newest(p.job, p.task, p.slot); id != 0 {
		a, _ = t.get(id)
		a = t.speaker(a)
	}
	return a
}

// Successor returns the live allocation that is to take another's place, or has taken it.
func (s *Snapshot) Successor(of api.ID) (row api.AllocationRow, ok bool) {
	a, _ := s.allocations.get(of)
	for _, other := range s.allocations.ofSlot(a.job, a.task, a.slot) {
		if other.replaces == of && other.live() {
			return s.row(&other), true
		}
	}
	return row, false
}

// noRoom says why the node cannot take the placement, "" if it can.
func (s *state) noRoom(p *api.Placement, task *api.Task) string {
	n, ok := s.nodes.get(p.Node)
	switch {
	case !ok:
		return "its node is gone"
	case !n.node.Ready():
		return "its node is not ready, or not eligible"
	case p.Held.CPU < 0 || p.Held.Memory < 0 || p.Held.Disk < 0:
		return "it would hold less than nothing"
	case len(p.Ports) > 255:
		return "it has more than 255 ports"
	}
	if free := n.node.Resources.Sub(n.held); !p.Held.Fits(free) {
		name, wanted, seen := p.Held.Lacking(free)
		return fmt.Sprintf("its node has no room any more: %s %s wanted, %s free", name, wanted, seen)
	}
	for i, port := range p.Ports {
		switch {
		case !isPort(port.Host) || port.To < 0 || port.To > 65535:
			return fmt.Sprintf("port %q is none", port.Label)
		case s.ports.isHeld(n.handle, uint16(port.Host)):
			return fmt.Sprintf("port %d of its node is held", port.Host)
		case s.ports.isQuarantined(n.handle, uint16(port.Host)):
			return fmt.Sprintf("port %d of its node is taken by something outside Cube", port.Host)
		}
		for _, other := range p.Ports[:i] {
			if other.Host == port.Host {
				return fmt.Sprintf("it has port %d twice", port.Host)
			}
		}
	}
	if reason := s.noVolumes(n.node, n.handle, task); reason != "" {
		return reason
	}
	return s.noDevices(n.node, n.devices, task, p)
}

func (s *state) place(j *job, task uint32, evaluation api.ID, p *api.Placement) {
	id := s.mint()
	s.insert(j, allocation{
		id: id, replaces: p.Replaces, evaluation: evaluation, create: s.index, modify: s.index,
		createdAt: s.now, modifiedAt: s.now, held: p.Held,
		position: position{job: j.handle, task: task, slot: p.Slot, node: s.handles[p.Node]},
		version:  uint32(p.Version), wish: wish{desired: api.DesiredRun}, phase: api.PhasePending,
	}, p.Ports, p.Devices)
	if p.Trial != (api.Trial{}) {
		s.allocations.trials.Set(trial{id, p.Trial})
	}
}

// stop asks for an allocation of the job to end, and reports whether that was news. Where nobody can stop it, since its node is
// down, it is lost: its slot is not to wait for who may never come.
func (s *state) stop(j *job, stop api.Stop) bool {
	old, ok := s.allocations.get(stop.Allocation)
	if !ok || old.job != j.handle || !old.live() || old.desired == api.DesiredStop {
		return false
	}
	text := s.remark(old.id)
	text.reason = shorten(stop.Reason, api.MaxStatusMessage)
	s.remarkOn(text)
	a := old
	a.desired = api.DesiredStop
	a.hurry = a.hurry || j.current().Hurry
	s.change(j, old, a)
	if n, _ := s.nodes.get(s.names[a.node]); n.node.Status == api.NodeDown {
		a, _ = s.allocations.get(a.id)
		s.lose(j, a, fmt.Sprintf("node %s is down: %s", n.node.Name, n.node.StatusReason))
	}
	return true
}

// hurryLeaving has those go at once that are on their way out already. The others follow when a plan stops them.
func (s *state) hurryLeaving(j *job) {
	var leaving []allocation
	s.eachOfJob(j.handle, func(a allocation) bool {
		if a.live() && a.desired == api.DesiredStop && !a.hurry {
			leaving = append(leaving, a)
		}
		return true
	})
	for _, a := range leaving {
		s.hurry(j, a)
	}
}

// hurry has an allocation go without its task's shutdown delay, once it is to go.
func (s *state) hurry(j *job, old allocation) {
	a := old
	a.hurry = true
	s.change(j, old, a)
}

// moveInPlace raises an allocation to the job's current version as it is, and reports whether that was news.
func (s *state) moveInPlace(j *job, id api.ID) bool {
	old, ok := s.allocations.get(id)
	current := &j.versions[0]
	if !ok || old.job != j.handle || !old.live() || current.task(old.task) < 0 || uint64(old.version) == current.job.Version {
		return false
	}
	a := old
	a.version = uint32(current.job.Version)
	s.change(j, old, a)
	return true
}

// notePlaced tells of the placement that was minted last.
func (s *state) notePlaced(j *job, e *api.Evaluation, p *api.Placement) {
	event := api.Event{Type: api.EventPlaced, Job: j.name, Task: p.Task, Slot: p.Slot, Version: p.Version, Node: p.Node,
		Allocation: api.MakeID(s.epoch, s.counter)}
	if e != nil {
		event.Evaluation, event.Cause, event.By, event.Detail = e.ID, e.Cause, e.By, s.causeDetail(e)
	}
	if cause, detail := s.causeOf(e, p); cause != "" { // whatever had the job looked at
		event.Cause, event.By, event.Detail = cause, "", detail
	}
	s.note(event)
}

func (s *state) noteStopping(e *api.Evaluation, stop api.Stop) {
	a, _ := s.allocations.get(stop.Allocation)
	event := s.eventOf(api.EventStopping, &a, stop.Reason)
	if e != nil {
		event.Evaluation, event.Cause = e.ID, e.Cause
	}
	s.note(event)
}

// conclude stores what a plan says of its evaluation. The evaluation leaves the queue only if nothing has happened since
// the plan's snapshot that the scheduler would have to look at: no wake-up is missed, whatever the order in the log.
func (s *state) conclude(j *job, old *api.Evaluation, base uint64, p *api.JobPlan, o outcome) {
	e := *old
	e.SeenIndex, e.WakeAt = base, time.Time{}
	e.Placed += o.placed
	e.Stopped += o.stopped
	e.Message = shorten(p.Message, api.MaxExplanationSize)
	e.Explanations = shortened(p.Explanations)
	if current := j.current(); current != nil {
		e.JobVersion = current.Version
	}
	e.Promises = p.Promises // counts while it is blocked
	switch {
	case o.stale || o.rejected > 0:
		e.Status, e.RejectedIndex = api.EvalPending, s.index
		if e.Rejections++; o.placed+o.stopped+o.inPlace > 0 {
			e.Rejections = 0
		}
	case s.mayClose(j, old, base, p):
		e.Status, e.Rejections = p.Status, 0
		if p.WakeAt != 0 && p.Status.Open() {
			e.WakeAt = time.Unix(0, p.WakeAt).UTC()
		}
	default:
		e.Status, e.Rejections = api.EvalPending, 0
	}
	s.putEvaluation(j, old, &e)
	s.noteLooked(old, &e)
}

// mayClose reports whether a plan made at base may take its evaluation out of the queue: no later entry rejected another
// part of the plan, ended an instance that is to be replaced, or, if the evaluation is to wait for room or for its job,
// brought either.
func (s *state) mayClose(j *job, e *api.Evaluation, base uint64, p *api.JobPlan) bool {
	t := s.tally(j.handle)
	switch p.Status {
	case api.EvalComplete, api.EvalFailed:
		return max(e.RejectedIndex, t.ended) <= base
	case api.EvalBlocked:
		return max(e.RejectedIndex, s.freed, t.progress) <= base
	case api.EvalWaiting:
		return p.WakeAt != 0 && max(e.RejectedIndex, t.progress) <= base
	}
	return false
}

// shortened bounds what is kept of each task's explanation: filters that turned away the fewest nodes go first.
func shortened(explanations []api.Explanation) []api.Explanation {
	for i := range explanations {
		if explanationSize(&explanations[i]) > api.MaxExplanationSize {
			return shortenAll(explanations)
		}
	}
	return explanations
}

func shortenAll(explanations []api.Explanation) []api.Explanation {
	out := append([]api.Explanation(nil), explanations...)
	for i := range out {
		x := &out[i]
		x.Note = shorten(x.Note, api.MaxExplanationSize/4)
		if x.Nearest != nil && explanationSize(&api.Explanation{Nearest: x.Nearest}) > api.MaxExplanationSize/4 {
			x.Nearest = nil
		}
		for len(x.Filters) > 0 && explanationSize(x) > api.MaxExplanationSize {
			x.Filters = x.Filters[:len(x.Filters)-1]
		}
	}
	return out
}

// explanationSize is about how many bytes an explanation takes.
func explanationSize(x *api.Explanation) int {
	const perPart = 32 // its numbers and what stands between its texts
	n := perPart + len(x.Task) + len(x.Note)
	for i := range x.Filters {
		f := &x.Filters[i]
		n += perPart + len(f.Filter) + len(f.Wanted) + len(f.Seen)
	}
	if x.Nearest != nil {
		n += perPart + len(x.Nearest.Node) + len(x.Nearest.Filter) + len(x.Nearest.Wanted) + len(x.Nearest.Seen)
	}
	return n
}

func (w *planWriter) preemptions(list []api.Preemption) {
	w.uvarint(uint64(len(list)))
	for _, x := range list {
		w.uvarint(uint64(x.Allocation))
		w.name(x.Job)
		w.name(x.Reason)
	}
}

func (w *planWriter) promises(list []api.Promise) {
	w.uvarint(uint64(len(list)))
	for _, p := range list {
		w.name(p.Node)
		w.uvarint(w.sizes.place(p.Room))
	}
}

func (r *planReader) promises() []api.Promise {
	const size = 2
	out := makeSlice[api.Promise](r.count(size))
	for i := range out {
		out[i] = api.Promise{Node: r.name(), Room: r.size()}
	}
	return out
}

func (r *planReader) preemptions() []api.Preemption {
	const size = 3
	out := makeSlice[api.Preemption](r.count(size))
	for i := range out {
		out[i] = api.Preemption{Allocation: api.ID(r.uvarint()), Job: r.name(), Reason: r.name()}
	}
	return out
}
