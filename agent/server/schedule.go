package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

const (
	// batchEvaluations and batchChanges bound one plan: enough that the view of the nodes, which is looked through once a plan,
	// costs little of it, and few enough that a small job does not wait long behind a large one.
	batchEvaluations = 1000
	batchChanges     = 16_000
	// entryChanges and entryBytes bound one log entry: past them a larger one is no faster, and holds up what comes after.
	entryChanges = 1000
	entryBytes   = 256 << 10

	// lookAgain is how soon a job is looked at again while nothing about it changed.
	lookAgain = time.Second
	// patience is how many plans in a row the commit may reject before the looks are spaced out, up to maxBackoff: the
	// scheduler and the commit check would then disagree, which more tries do not mend.
	patience   = 3
	maxBackoff = 30 * time.Second
)

// scheduling is the leader's loop that turns pending evaluations into committed plans. One plan is in flight at a time.
type scheduling struct {
	machine  *fsm.Machine
	commit   func(*api.Plan) pending
	now      func() int64 // Unix nanoseconds, the clock of entries
	loads    func() map[string]api.NodeLoad
	policy   Policy
	measured func(took time.Duration, placed, rejected int)
	logger   hclog.Logger

	pace   pacer
	memory scheduler.Memory // what the next plan need not look up again
}

// run ends when ctx does or a plan cannot be written. The state wakes it when something is runnable.
func (s *scheduling) run(ctx context.Context) error {
	for {
		runnable := s.machine.Watch(fsm.WatchKey{Table: fsm.TableRunnable})
		snapshot := s.machine.Snapshot()
		now := s.now()
		admitted, next := s.pace.admit(snapshot.RunnableAt(now, batchEvaluations+len(s.pace.jobs)), time.Now())
		if alarm := snapshot.NextAlarm(); alarm > now {
			next = signal.Earliest(next, time.Now().Add(time.Duration(alarm-now)))
		}
		if len(admitted) > 0 {
			if err := s.round(snapshot, admitted, now); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		if !waitFor(ctx, runnable, next) {
			return nil
		}
	}
}

// waitFor waits for the channel, or the time unless it is zero. It reports false when ctx ended.
func waitFor(ctx context.Context, changed <-chan struct{}, at time.Time) bool {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
		return false
	}
	return true
}

// round plans one batch and commits it.
func (s *scheduling) round(snapshot *fsm.Snapshot, evaluations []*api.Evaluation, now int64) error {
	began := time.Now()
	o := options(s.policy, s.loads(), now)
	o.MaxPlacements = batchChanges
	o.Memory = &s.memory
	plan := scheduler.Schedule(snapshot, evaluations, o)
	s.warn(plan, snapshot)
	var entries []pending
	for _, p := range split(plan, entryChanges, entryBytes) {
		entries = append(entries, s.commit(p))
	}
	placed, rejected := 0, 0
	for _, e := range entries {
		result, err := e.wait()
		if err != nil {
			return fmt.Errorf("committing a plan: %w", err)
		}
		placed += result.Accepted
		rejected += len(result.Rejections)
		if n := len(result.Rejections); n > 0 {
			r := result.Rejections[0]
			s.logger.Debug("placements were rejected", "count", n, "first", api.InstanceName(r.Job, r.Task, r.Slot), "reason", r.Reason)
		}
	}
	s.measured(time.Since(began), placed, rejected)
	s.pace.looked(plan, s.machine.Snapshot(), time.Now())
	return nil
}

// options are what a plan of this server depends on besides the state.
func options(policy Policy, loads map[string]api.NodeLoad, now int64) scheduler.Options {
	return scheduler.Options{Algorithm: policy.Algorithm, Preempt: policy.Preempt, Now: now, Load: func(node string) (api.NodeLoad, bool) {
		load, ok := loads[node]
		return load, ok
	}}
}

// warn tells people of jobs whose plans are rejected again and again.
func (s *scheduling) warn(plan *api.Plan, snapshot *fsm.Snapshot) {
	for i := range plan.Jobs {
		j := &plan.Jobs[i]
		e := snapshot.Evaluation(j.Evaluation)
		if e == nil || e.Rejections < patience {
			continue
		}
		note := fmt.Sprintf("the last %d plans for it were rejected; the next look is in %s if this one is too", e.Rejections, backoff(e.Rejections+1))
		s.logger.Warn("the commit rejects a job's plans", "job", j.Job, "plans", e.Rejections)
		if j.Message != "" {
			note = j.Message + "; " + note
		}
		j.Message = note
	}
}

// pacer keeps the scheduler from looking at a job again and again while nothing about it changes. It is used by one
// goroutine.
type pacer struct{ jobs map[string]look }

type look struct {
	at    time.Time
	index uint64 // of the state after it
}

// admit returns the evaluations whose time has come, and when the next one's comes; zero if none waits.
func (p *pacer) admit(evaluations []*api.Evaluation, now time.Time) (admitted []*api.Evaluation, next time.Time) {
	for _, e := range evaluations {
		last, seen := p.jobs[e.Job]
		due := last.at.Add(backoff(e.Rejections))
		if !seen || e.ModifyIndex > last.index || !now.Before(due) {
			admitted = append(admitted, e)
			continue
		}
		next = signal.Earliest(next, due)
	}
	return admitted, next
}

// looked notes which jobs are still pending after a plan that changed nothing for them.
func (p *pacer) looked(plan *api.Plan, after *fsm.Snapshot, now time.Time) {
	if p.jobs == nil {
		p.jobs = make(map[string]look)
	}
	for i := range plan.Jobs {
		j := &plan.Jobs[i]
		e := after.Evaluation(j.Evaluation)
		changed := len(j.Placements)+len(j.Stops)+len(j.InPlace)+len(j.Preemptions) > 0 && e != nil && e.Rejections == 0
		if e == nil || e.Status != api.EvalPending || changed {
			delete(p.jobs, j.Job)
			continue
		}
		p.jobs[j.Job] = look{now, after.Index()}
	}
}

// backoff is the least time between two looks at a job whose last n plans were rejected.
func backoff(n int) time.Duration {
	d := lookAgain
	for ; n > patience && d < maxBackoff; n-- {
		d *= 2
	}
	return min(d, maxBackoff)
}

// split cuts a plan into parts of at most changes changes and about size bytes. The parts of one job's plan but the last
// leave its evaluation pending; a replacement's stop and placement stay together.
func split(p *api.Plan, changes, size int) []*api.Plan {
	s := splitter{base: p.BaseIndex, changes: changes, size: size}
	s.begin()
	for i := range p.Jobs {
		s.job(&p.Jobs[i])
	}
	return s.parts
}

type splitter struct {
	base          uint64
	changes, size int
	parts         []*api.Plan
	left, room    int // of the last part
}

func (s *splitter) begin() {
	s.parts = append(s.parts, &api.Plan{BaseIndex: s.base})
	s.left, s.room = s.changes, s.size
}

func (s *splitter) last() *api.Plan { return s.parts[len(s.parts)-1] }

// fit begins a new part unless the last one takes so much more, or is empty.
func (s *splitter) fit(changes, bytes int) (begun bool) {
	if s.left >= changes && s.room >= bytes || len(s.last().Jobs) == 0 {
		return false
	}
	s.begin()
	return true
}

func (s *splitter) job(j *api.JobPlan) {
	head := api.JobPlan{Evaluation: j.Evaluation, Job: j.Job, JobModifyIndex: j.JobModifyIndex, Status: api.EvalPending}
	s.fit(1, headSize(j)) // the last part's explanations are counted on the first: jobs are rarely cut
	s.room -= headSize(j)
	s.last().Jobs = append(s.last().Jobs, head)
	current := func() *api.JobPlan { return &s.last().Jobs[len(s.last().Jobs)-1] }
	take := func(changes, bytes int) *api.JobPlan {
		if s.fit(changes, bytes) {
			s.last().Jobs = append(s.last().Jobs, head)
		}
		s.left -= changes
		s.room -= bytes
		return current()
	}
	paired := make(map[api.ID]api.Stop)
	for _, stop := range j.Stops {
		paired[stop.Allocation] = stop
	}
	for _, p := range j.Placements {
		stop, ok := paired[p.Replaces]
		if !ok || p.Replaces == 0 {
			part := take(1, placementSize(&p))
			part.Placements = append(part.Placements, p)
			continue
		}
		delete(paired, p.Replaces)
		part := take(2, placementSize(&p)+stopSize(&stop))
		part.Stops, part.Placements = append(part.Stops, stop), append(part.Placements, p)
	}
	for _, stop := range j.Stops {
		if _, ok := paired[stop.Allocation]; ok {
			part := take(1, stopSize(&stop))
			part.Stops = append(part.Stops, stop)
		}
	}
	for _, id := range j.InPlace {
		part := take(1, 8)
		part.InPlace = append(part.InPlace, id)
	}
	for _, x := range j.Preemptions {
		part := take(1, preemptionSize(&x))
		part.Preemptions = append(part.Preemptions, x)
	}
	final := current()
	final.Status, final.WakeAt, final.Message, final.Explanations, final.Promises = j.Status, j.WakeAt, j.Message, j.Explanations, j.Promises
}

// Sizes are estimates from above of what the encoding takes: it writes each name once an entry and numbers short.
func placementSize(p *api.Placement) int {
	n := 80 + 24*len(p.Ports)
	for i := range p.Devices {
		n += 16 + len(p.Devices[i].ID)
	}
	return n
}
func stopSize(s *api.Stop) int { return 16 + len(s.Reason) }

func preemptionSize(p *api.Preemption) int { return 24 + len(p.Job) + len(p.Reason) }

func headSize(j *api.JobPlan) int {
	n := 64 + len(j.Job) + len(j.Message) + 64*len(j.Promises)
	for i := range j.Explanations {
		e := &j.Explanations[i]
		n += 64 + len(e.Task) + len(e.Note)
		for _, f := range e.Filters {
			n += 16 + len(f.Filter) + len(f.Wanted) + len(f.Seen)
		}
	}
	return n
}
