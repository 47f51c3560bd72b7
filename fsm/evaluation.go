package fsm

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

// evaluationRow is a reason to look at a job. A stored evaluation never changes; it is replaced.
type evaluationRow struct {
	id api.ID
	e  *api.Evaluation
}

// evaluationKey orders evaluations by job.
type evaluationKey struct {
	job uint32
	id  api.ID
}

// lane orders the open evaluations that wait for the same kind of thing: the most urgent first.
type lane struct {
	rank uint32 // priorities, turned round
	seen uint64 // the index up to which the scheduler has looked; blocked only
	id   api.ID
}

// evaluationStatuses are numbered by their place, in log and snapshots alike: append only.
func evaluationStatuses() []api.EvaluationStatus {
	return []api.EvaluationStatus{api.EvalPending, api.EvalBlocked, api.EvalComplete, api.EvalSuperseded, api.EvalFailed, api.EvalWaiting}
}

// alarm orders the open evaluations that are to be looked at at a time, whatever happens before.
type alarm struct {
	at int64 // Unix nanoseconds
	id api.ID
}

// alarmOf returns the evaluation's alarm, one without an ID if it has none.
func alarmOf(e *api.Evaluation) (a alarm) {
	if e.Status.Open() && !e.WakeAt.IsZero() {
		a = alarm{e.WakeAt.UnixNano(), e.ID}
	}
	return a
}

// evaluationTables keep lanes, so that finding what can be worked on costs what is found: pending evaluations,
// blocked ones by how far they have seen, of the blocked and waiting ones those whose own job has moved on since, and those that
// have a time.
type evaluationTables struct {
	rows    *btree.BTreeG[evaluationRow]
	byJob   *btree.BTreeG[evaluationKey]
	pending *btree.BTreeG[lane]
	blocked *btree.BTreeG[lane]
	stirred *btree.BTreeG[lane]
	owed    *btree.BTreeG[lane] // blocked ones to which room is promised
	alarms  *btree.BTreeG[alarm]
	crowded *btree.BTreeG[uint32] // jobs with more evaluations than are kept
}

func newEvaluationTables() evaluationTables {
	return evaluationTables{
		rows:    newTree(func(a, b evaluationRow) bool { return a.id < b.id }),
		byJob:   newTree(func(a, b evaluationKey) bool { return a.job < b.job || a.job == b.job && a.id < b.id }),
		pending: newTree(laneLess), blocked: newTree(laneLess), stirred: newTree(laneLess), owed: newTree(laneLess),
		alarms:  newTree(func(a, b alarm) bool { return a.at < b.at || a.at == b.at && a.id < b.id }),
		crowded: newTree(func(a, b uint32) bool { return a < b }),
	}
}

func (t *evaluationTables) copy() evaluationTables {
	return evaluationTables{rows: t.rows.Copy(), byJob: t.byJob.Copy(), pending: t.pending.Copy(), blocked: t.blocked.Copy(), owed: t.owed.Copy(),
		stirred: t.stirred.Copy(), alarms: t.alarms.Copy(), crowded: t.crowded.Copy()}
}

func laneLess(a, b lane) bool {
	switch {
	case a.rank != b.rank:
		return a.rank < b.rank
	case a.seen != b.seen:
		return a.seen < b.seen
	}
	return a.id < b.id
}

func rank(e *api.Evaluation) uint32 { return uint32(max(0, api.MaxPriority-e.Priority)) }

func (t *evaluationTables) get(id api.ID) *api.Evaluation {
	row, _ := t.rows.Get(evaluationRow{id: id})
	return row.e
}

// evaluationsOf returns the IDs of a job's evaluations, oldest first.
func (t *tables) evaluationsOf(job uint32) []api.ID {
	var out []api.ID
	t.evaluations.byJob.Ascend(evaluationKey{job: job}, func(k evaluationKey) bool {
		if k.job == job {
			out = append(out, k.id)
		}
		return k.job == job
	})
	return out
}

// look gives a job a pending evaluation and returns its ID. The job has at most one open evaluation: the older one is
// superseded, and what it was asked to stop is taken along.
func (s *state) look(j *job, cause, node string, stop []api.ID) api.ID {
	if old := s.evaluations.get(s.tally(j.handle).open); old != nil {
		stop = append(s.stillToStop(old.Stop), stop...)
		superseded := *old
		superseded.Status = api.EvalSuperseded
		s.putEvaluation(j, old, &superseded)
	}
	current := j.current()
	slices.Sort(stop)
	e := &api.Evaluation{ID: s.mint(), Job: j.name, Type: current.Type, Priority: current.Priority, Cause: cause, Node: node,
		Stop: slices.Compact(stop), Status: api.EvalPending, JobVersion: current.Version, At: time.Unix(0, s.now).UTC(),
		CreateIndex: s.index, By: s.by}
	s.putEvaluation(j, nil, e)
	s.note(api.Event{Type: api.EventLook, Job: j.name, Version: e.JobVersion, Evaluation: e.ID, Cause: cause, By: s.by, Detail: s.causeDetail(e)})
	return e.ID
}

// causeDetail is what an event that follows from an evaluation says of its cause beyond the name: the node that went down, where
// the job's roll-out has come to, or who has a node drained and why.
func (s *state) causeDetail(e *api.Evaluation) string {
	switch {
	case e.Cause == api.CauseNodeDown:
		return e.Node
	case s.rules < rulesWord:
	case e.Cause == api.CauseDeployment:
		return s.deployments.Newest(e.Job).Turn()
	case e.Cause == api.CauseDrain:
		if n, ok := s.nodes.get(e.Node); ok && n.node.Drain != nil {
			return n.node.Drain.Cause(n.node.Name)
		}
	}
	return ""
}

// noteLooked tells what the scheduler has made of an evaluation: that it is closed, or once for each reason that not
// everything is as it should be.
func (s *state) noteLooked(old, e *api.Evaluation) {
	event := api.Event{Type: api.EventUnplaced, Job: e.Job, Version: e.JobVersion, Evaluation: e.ID, Detail: e.Message}
	switch {
	case e.Status == api.EvalFailed:
		event.Detail = "the scheduler failed: " + e.Message
		s.note(event)
	case len(e.Explanations) > 0 && e.Message != old.Message:
		if f := e.Explanations[0].Filters; len(f) > 0 {
			event.Detail = fmt.Sprintf("%s: %s wanted, %s (%s)", e.Message, f[0].Wanted, f[0].Seen, f[0].Filter)
		}
		s.note(event)
	}
	if !e.Status.Open() {
		event.Type, event.Detail = api.EventLooked, string(e.Status)
		s.note(event)
	}
}

func (s *state) stillToStop(ids []api.ID) []api.ID {
	var out []api.ID
	for _, id := range ids {
		if a, ok := s.allocations.get(id); ok && a.live() && a.desired == api.DesiredRun {
			out = append(out, id)
		}
	}
	return out
}

// putEvaluation stores e in place of old (nil for a new row) and keeps lanes and counters in step.
func (s *state) putEvaluation(j *job, old, e *api.Evaluation) {
	e.ModifyIndex, e.ModifiedAt = s.index, time.Unix(0, s.now).UTC()
	t := s.tally(j.handle)
	if old == nil {
		t.kept++
		s.evaluations.byJob.Set(evaluationKey{j.handle, e.ID})
		if t.kept > keptEvaluations {
			s.evaluations.crowded.Set(j.handle)
		}
	} else {
		s.leaveLanes(old)
	}
	switch {
	case e.Status.Open():
		t.open = e.ID
	case t.open == e.ID:
		t.open = 0
	}
	t.evaluations = s.index
	s.jobs.tallies.Set(t)
	s.evaluations.rows.Set(evaluationRow{e.ID, e})
	s.enterLane(e, t.progress)
	if s.rules >= rulesStep && old != nil && e.Kept() < old.Kept() {
		s.free()
	}
	s.touch(WatchKey{Table: TableEvaluations, ID: e.ID})
	s.touch(WatchKey{Table: TableJobEvaluations, Key: j.name})
	if e.Status == api.EvalPending {
		s.touch(WatchKey{Table: TableRunnable})
	}
}

func (s *state) leaveLanes(e *api.Evaluation) {
	s.evaluations.pending.Delete(lane{rank(e), 0, e.ID})
	s.evaluations.blocked.Delete(lane{rank(e), e.SeenIndex, e.ID})
	s.evaluations.stirred.Delete(lane{rank(e), 0, e.ID})
	s.evaluations.owed.Delete(lane{rank(e), 0, e.ID})
	s.evaluations.alarms.Delete(alarmOf(e))
}

// enterLane puts an open evaluation into the lanes it belongs to, given how far its job has moved on.
func (s *state) enterLane(e *api.Evaluation, progress uint64) {
	switch e.Status {
	case api.EvalPending:
		s.evaluations.pending.Set(lane{rank(e), 0, e.ID})
	case api.EvalBlocked:
		s.evaluations.blocked.Set(lane{rank(e), e.SeenIndex, e.ID})
		if e.Kept() > 0 {
			s.evaluations.owed.Set(lane{rank(e), 0, e.ID})
		}
	}
	if e.Status.Open() && e.Status != api.EvalPending && e.SeenIndex < progress {
		s.evaluations.stirred.Set(lane{rank(e), 0, e.ID})
	}
	if a := alarmOf(e); a.id != 0 {
		s.evaluations.alarms.Set(a)
	}
}

// stir notes that the job of an open evaluation has moved on: if it is blocked or waits, it may go on.
func (s *state) stir(open api.ID) {
	if open == 0 {
		return
	}
	if e := s.evaluations.get(open); e != nil && e.Status != api.EvalPending {
		s.evaluations.stirred.Set(lane{rank(e), 0, e.ID})
		s.touch(WatchKey{Table: TableRunnable})
	}
}

// free notes that room may have been freed somewhere: every blocked evaluation may go on.
func (s *state) free() {
	if s.freed == s.index {
		return
	}
	s.freed = s.index
	if s.evaluations.blocked.Len() > 0 {
		s.touch(WatchKey{Table: TableRunnable})
	}
}

// settled reports that nothing is left to do for a job: it is stopped, and whatever still lives is on its way out.
func (t *tables) settled(j *job) bool {
	current := j.current()
	return current == nil || current.Stopped && t.tally(j.handle).wanted == 0
}

// finished reports whether nothing of a job runs and nothing is left to do for it.
func (t *tables) finished(name string) bool {
	j := t.jobs.get(name)
	sum := t.tally(j.handle)
	return sum.live == 0 && (sum.open == 0 || j.current().Stopped)
}

// spentChildren returns the finished children of a job that are beyond what is kept, oldest first.
func (t *tables) spentChildren(parent string) []string {
	return t.jobs.launches.Spent(parent, t.isJob(parent), t.finished)
}

// forgettable reports whether every instance of a finished child is certainly gone.
func (t *tables) forgettable(name string) bool {
	yes := true
	t.eachOfJob(t.jobs.get(name).handle, func(a allocation) bool { yes = t.gone(&a); return yes })
	return yes
}

// ended gives a job whose allocation has ended a new look, unless it gets one anyway or needs none: a batch slot that is
// done and an instance that was one too many leave nothing to put in their place.
func (s *state) ended(j *job, a allocation) {
	done := a.desired == api.DesiredRun && a.phase == api.PhaseComplete && j.current().Type.Completes()
	surplus := a.desired == api.DesiredStop && a.slot >= j.count(a.task)
	if !done && !surplus && !s.settled(j) && s.tally(j.handle).open == 0 {
		s.look(j, api.CauseAllocEnded, "", nil)
	}
}

// deleteEvaluation forgets an evaluation, whatever its status.
func (s *state) deleteEvaluation(id api.ID) {
	e := s.evaluations.get(id)
	if e == nil {
		return
	}
	j := s.jobs.get(e.Job)
	s.leaveLanes(e)
	s.evaluations.rows.Delete(evaluationRow{id: id})
	s.evaluations.byJob.Delete(evaluationKey{j.handle, id})
	t := s.tally(j.handle)
	t.kept--
	if t.open == id {
		t.open = 0
	}
	t.evaluations = s.index
	s.jobs.tallies.Set(t)
	if t.kept <= keptEvaluations {
		s.evaluations.crowded.Delete(j.handle)
	}
	s.touch(WatchKey{Table: TableEvaluations, ID: id})
	s.touch(WatchKey{Table: TableJobEvaluations, Key: j.name})
	s.deleted[TableEvaluations] = s.index
}

// Evaluation returns an evaluation, nil if there is none with that ID.
func (s *Snapshot) Evaluation(id api.ID) *api.Evaluation { return s.evaluations.get(id) }

// Evaluations yields all evaluations, newest first.
func (s *Snapshot) Evaluations() iter.Seq[*api.Evaluation] {
	return func(yield func(*api.Evaluation) bool) {
		s.evaluations.rows.Reverse(func(r evaluationRow) bool { return yield(r.e) })
	}
}

// JobEvaluations returns a job's evaluations, newest first.
func (s *Snapshot) JobEvaluations(name string) []*api.Evaluation {
	j := s.jobs.get(name)
	if j == nil {
		return nil
	}
	ids := s.evaluationsOf(j.handle)
	out := make([]*api.Evaluation, len(ids))
	for i, id := range ids {
		out[len(ids)-1-i] = s.evaluations.get(id)
	}
	return out
}

// FindEvaluations returns the IDs whose text begins with prefix, in ascending order.
func (s *Snapshot) FindEvaluations(prefix string) []api.ID {
	return s.find(prefix, s.evaluations.rows.Len(),
		func(id api.ID) bool { return s.evaluations.get(id) != nil },
		func(visit func(api.ID)) {
			s.evaluations.rows.Scan(func(r evaluationRow) bool { visit(r.id); return true })
		})
}

// Open returns the job's open evaluation, nil if it has none.
func (s *Snapshot) Open(name string) *api.Evaluation {
	j := s.jobs.get(name)
	if j == nil {
		return nil
	}
	return s.evaluations.get(s.tally(j.handle).open)
}

// Promised yields the blocked evaluations to which room is promised, by priority, then by ID.
func (s *Snapshot) Promised() iter.Seq[*api.Evaluation] {
	return func(yield func(*api.Evaluation) bool) {
		s.evaluations.owed.Scan(func(l lane) bool { return yield(s.evaluations.get(l.id)) })
	}
}

// Waiting returns the evaluations that are pending, or those that are blocked, at most limit: by priority, then by ID, of the
// blocked ones those first that were looked at the longest ago. Its cost is that of its answer.
func (s *Snapshot) Waiting(status api.EvaluationStatus, limit int) []*api.Evaluation {
	from := s.evaluations.pending
	if status == api.EvalBlocked {
		from = s.evaluations.blocked
	}
	var out []*api.Evaluation
	from.Scan(func(l lane) bool {
		if len(out) < limit {
			out = append(out, s.evaluations.get(l.id))
		}
		return len(out) < limit
	})
	return out
}

// Runnable returns what there is for the scheduler when nothing has come due: see RunnableAt.
func (s *Snapshot) Runnable(limit int) []*api.Evaluation { return s.RunnableAt(math.MinInt64, limit) }

// RunnableAt returns what there is for the scheduler at a time (Unix nanoseconds), at most limit evaluations (all for limit <= 0):
// by priority, pending before others, then by ID. Blocked ones are among them only if room was freed, or their own job has moved
// on, since they were last looked at, or their time has come; waiting ones likewise, room apart. Its cost is that of its answer.
func (s *Snapshot) RunnableAt(now int64, limit int) []*api.Evaluation {
	if limit <= 0 {
		limit = s.evaluations.rows.Len()
	}
	var out []*api.Evaluation
	take := func(from *btree.BTreeG[lane]) {
		n := 0
		from.Scan(func(l lane) bool {
			if n < limit {
				out = append(out, s.evaluations.get(l.id))
			}
			n++
			return n < limit
		})
	}
	take(s.evaluations.pending)
	take(s.evaluations.stirred)
	s.takeFreed(limit, &out)
	n := 0
	s.evaluations.alarms.Scan(func(a alarm) bool {
		if a.at > now || n == limit {
			return false
		}
		out = append(out, s.evaluations.get(a.id))
		n++
		return true
	})
	slices.SortFunc(out, func(a, b *api.Evaluation) int {
		la, lb := runnableLane(a), runnableLane(b)
		switch {
		case laneLess(la, lb):
			return -1
		case laneLess(lb, la):
			return 1
		}
		return 0
	})
	out = slices.Compact(out) // one can be here for several reasons
	return out[:min(limit, len(out))]
}

// NextAlarm is the first time (Unix nanoseconds) at which an evaluation is to be looked at, whatever happens before; 0 for none.
func (s *Snapshot) NextAlarm() int64 {
	first, _ := s.evaluations.alarms.Min()
	return first.at
}

func runnableLane(e *api.Evaluation) lane {
	l := lane{rank: rank(e), id: e.ID}
	if e.Status != api.EvalPending {
		l.seen = 1 // after the pending ones
	}
	return l
}

// takeFreed appends the blocked evaluations that have not seen the latest freeing of room, leaping from priority to
// priority over those that have.
func (s *Snapshot) takeFreed(limit int, out *[]*api.Evaluation) {
	n := 0
	for next := (lane{}); n < limit; {
		leap := false
		s.evaluations.blocked.Ascend(next, func(l lane) bool {
			if l.seen >= s.freed {
				next, leap = lane{rank: l.rank + 1}, true
				return false
			}
			*out = append(*out, s.evaluations.get(l.id))
			n++
			return n < limit
		})
		if !leap {
			return
		}
	}
}

func (t *evaluationTables) persist(k *sink) {
	t.rows.Scan(func(r evaluationRow) bool {
		k.json(r.e)
		return k.row()
	})
}

func (s *state) restoreEvaluation(r *reader) {
	e := &api.Evaluation{}
	if r.json(e); r.err != nil {
		return
	}
	j := s.jobs.get(e.Job)
	if j.current() == nil || s.evaluations.get(e.ID) != nil || !slices.Contains(evaluationStatuses(), e.Status) {
		r.fail("evaluation %d of job %q has no job, no status, or is there twice", e.ID, e.Job)
		return
	}
	t := s.tally(j.handle)
	t.kept++
	if t.kept > keptEvaluations {
		s.evaluations.crowded.Set(j.handle)
	}
	if e.Status.Open() {
		if t.open != 0 {
			r.fail("job %q has two open evaluations", e.Job)
			return
		}
		t.open = e.ID
	}
	s.jobs.tallies.Set(t)
	s.evaluations.rows.Set(evaluationRow{e.ID, e})
	s.evaluations.byJob.Set(evaluationKey{j.handle, e.ID})
	s.enterLane(e, t.progress)
}
