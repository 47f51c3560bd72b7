package lifecycle

import (
	"slices"
	"strings"
	"time"

	"cube/agent/server/deployer"
	"cube/agent/server/drain"
	"cube/api"
	"cube/fsm"
	"cube/scheduler"
	"cube/scheduler/rollout"
)

// causes checks that what an entry takes away it takes away for a reason, which people can read with the instance and which was told as
// it happened.
func (w *world) causes(before, after *fsm.Snapshot) {
	told := func(id api.ID, types ...api.EventType) bool {
		return slices.ContainsFunc(w.events, func(e api.Event) bool { return e.Allocation == id && slices.Contains(types, e.Type) })
	}
	for row := range after.Rows() {
		was, known := before.Row(row.ID)
		if known && was.ModifyIndex == row.ModifyIndex {
			continue
		}
		a, _ := after.Allocation(row.ID)
		name := api.InstanceName(row.Job, row.Task, row.Slot)
		switch {
		case row.Desired == api.DesiredStop && was.Desired == api.DesiredRun && (a.DesiredReason == "" || !told(row.ID, api.EventStopping)):
			w.fatalf("%s #%d is to stop, and why is not recorded (%q)", name, row.ID, a.DesiredReason)
		case row.Phase == api.PhaseLost && was.Live() && row.Desired == api.DesiredRun && after.JobVersion(row.Job, row.Version).Task(row.Task).Disconnect.Keeps():
			w.fatalf("%s #%d is lost, and was to be kept for a while", name, row.ID)
		case row.Phase == api.PhaseLost && was.Live() && (a.Message == "" || !told(row.ID, api.EventLost)):
			w.fatalf("%s #%d is lost, and why is not recorded (%q)", name, row.ID, a.Message)
		case !row.Live() && was.Live() && !told(row.ID, api.EventCompleted, api.EventGone, api.EventFailed, api.EventLost):
			w.fatalf("%s #%d ended, and nobody was told", name, row.ID)
		}
	}
	for row := range before.Rows() {
		if _, there := after.Row(row.ID); !there && row.Live() {
			w.fatalf("allocation #%d was forgotten while it lived", row.ID)
		}
	}
}

// judgePlan checks a plan against the state that it was made from: what it costs, and whether it may.
func (w *world) judgePlan(s *fsm.Snapshot, p *api.Plan) {
	for i := range p.Jobs {
		j := &p.Jobs[i]
		if j.Status == api.EvalFailed {
			w.fatalf("the scheduler gave up: %s", j.Message)
		}
		w.notePlan(s, j)
		job := s.Job(j.Job)
		if job == nil || job.Stopped {
			continue
		}
		if job.Launches() && len(j.Placements) > 0 {
			w.fatalf("%s launches others, and is placed itself", job.Name)
		}
		for i := range j.Placements {
			w.judgeHoldings(s, job, &j.Placements[i], p)
		}
		for _, t := range job.Tasks {
			w.judgeStops(s, job, t, j)
			w.judgePlacements(s, job, t, j)
		}
		w.judgePreemptions(s, job, j)
	}
}

func (w *world) notePlan(s *fsm.Snapshot, j *api.JobPlan) {
	w.note("plan for %s: %s %s", j.Job, j.Status, j.Message)
	for _, a := range j.Placements {
		w.note("    place %s[%d] v%d on %s beside=%v replaces #%d", a.Task, a.Slot, a.Version, a.Node, a.Beside, a.Replaces)
	}
	for _, stop := range j.Stops {
		row, _ := s.Row(stop.Allocation)
		w.note("    stop %s[%d] #%d v%d %s: %s", row.Task, row.Slot, row.ID, row.Version, row.Health, stop.Reason)
	}
	for _, x := range j.Preemptions {
		w.note("    preempt #%d of %s: %s", x.Allocation, x.Job, x.Reason)
	}
}

// bench is what there is in a slot.
type bench struct {
	live, wanted, healthy int
	outdated              bool // one that is to run is of an older version
	away                  bool // one that is to run is not heard of
	newest                api.AllocationRow
}

// slots is what there is in each slot of a task once a plan's stops are in force; a nil plan has none.
func slots(s *fsm.Snapshot, job *api.Job, task string, p *api.JobPlan) map[uint32]*bench {
	out := map[uint32]*bench{}
	for row := range s.JobAllRows(job.Name) {
		if row.Task != task {
			continue
		}
		b := out[row.Slot]
		if b == nil {
			b = &bench{}
			out[row.Slot] = b
		}
		b.newest = row
		stopped := p != nil && slices.ContainsFunc(p.Stops, func(stop api.Stop) bool { return stop.Allocation == row.ID })
		if row.Live() && !(stopped && s.Node(row.Node).Status == api.NodeDown) { // else it is lost
			b.live++
		}
		if row.Live() && row.Desired == api.DesiredRun && !stopped {
			b.wanted++
			b.outdated = b.outdated || row.Version != job.Version
			b.away = b.away || row.Away
			if row.Health == api.HealthHealthy {
				b.healthy++
			}
		}
	}
	return out
}

// judgeStops: an update has at most max_parallel slots between two instances, and takes nothing healthy away before its successor is
// healthy where that is asked for; neither does a drain that has time.
func (w *world) judgeStops(s *fsm.Snapshot, job *api.Job, t *api.Task, p *api.JobPlan) {
	after := slots(s, job, t.Name, p)
	updates, moves := false, false
	for _, stop := range p.Stops {
		row, _ := s.Row(stop.Allocation)
		if row.Task != t.Name || row.Health != api.HealthHealthy || row.Away {
			continue // nothing is taken away with what is not heard of
		}
		switch {
		case strings.Contains(stop.Reason, " is back, and the "):
			w.judgeReunion(s, t, &row, after[row.Slot])
		case strings.HasSuffix(stop.Reason, "its successor is healthy"), strings.Contains(stop.Reason, " to balance"):
			if after[row.Slot].healthy == 0 {
				w.fatalf("%s[%d] has nothing healthy left", t.Name, row.Slot)
			}
		case strings.HasPrefix(stop.Reason, "replaced by version "):
			updates = true
			if t.Update.Order == api.OrderStartFirst && !job.Type.EveryNode() {
				w.fatalf("%s[%d] is stopped before its successor is there", t.Name, row.Slot)
			}
		case strings.HasPrefix(stop.Reason, "node ") && s.Node(row.Node).Drain.Stage == api.DrainMoving:
			moves = moves || t.Migrate.Order == api.OrderStopFirst && after[row.Slot].healthy == 0 // a roll-out may have put one beside it
			if t.Migrate.Order == api.OrderStartFirst && after[row.Slot].healthy == 0 {
				w.fatalf("%s[%d] is drained before its successor is healthy", t.Name, row.Slot)
			}
		}
	}
	between, without := 0, 0
	for slot, b := range after {
		if int64(slot) >= int64(job.Slots(t)) {
			continue
		}
		if b.healthy == 0 && !(b.wanted > 0 && b.outdated) && !(job.Type.EveryNode() && (b.live == 0 || b.away)) && !(job.Type.Completes() && b.live == 0) {
			between++
		}
		if b.healthy == 0 {
			without++
		}
	}
	allowed := t.Update.MaxParallel
	if moves { // a drain in the same plan goes as far as migrate allows
		allowed = max(allowed, t.Migrate.MaxParallel)
	}
	if updates && between > allowed {
		w.fatalf("%d slots of %s are between two instances; the update allows %d", between, t.Name, allowed)
	}
	if moves && without > t.Migrate.MaxParallel {
		w.fatalf("%d slots of %s have no healthy instance; migrate allows %d", without, t.Name, t.Migrate.MaxParallel)
	}
}

// judgeReunion: who is healthy goes only for another one that is, and that is the one which the task asks for.
func (w *world) judgeReunion(s *fsm.Snapshot, t *api.Task, gone *api.AllocationRow, left *bench) {
	original := gone.Replaces == 0
	if row, ok := s.Row(gone.Replaces); !ok || !row.Live() {
		original = true
	}
	stays, _ := s.Successor(gone.ID)
	if !original {
		stays, _ = s.Row(gone.Replaces)
	}
	leaves := func(row *api.AllocationRow) bool { return s.Node(row.Node).Drain.Active() }
	switch {
	case left.healthy == 0 || stays.Health != api.HealthHealthy || stays.Away:
		w.fatalf("%s[%d] #%d goes, and nothing healthy stays", gone.Task, gone.Slot, gone.ID)
	case !leaves(&stays) && !leaves(gone) && t.Disconnect.Reconcile == api.ReconcileOriginal && original,
		!leaves(&stays) && !leaves(gone) && t.Disconnect.Reconcile == api.ReconcileReplacement && !original:
		w.fatalf("%s[%d] #%d goes, though reconcile is %s", gone.Task, gone.Slot, gone.ID, t.Disconnect.Reconcile)
	}
}

// judgePlacements: nothing is placed on a node that is drained, nor before what it depends on, nor sooner after a failure than its task
// asks for, nor as a third one in its slot.
func (w *world) judgePlacements(s *fsm.Snapshot, job *api.Job, t *api.Task, p *api.JobPlan) {
	now := slots(s, job, t.Name, nil)
	for _, a := range p.Placements {
		if a.Task != t.Name {
			continue
		}
		if n := s.Node(a.Node); !n.Ready() {
			w.fatalf("%s[%d] is placed on %s, which is %s", t.Name, a.Slot, a.Node, n.Status)
		}
		b := now[a.Slot]
		if b == nil {
			b = &bench{}
		}
		if b.live > 1 {
			w.fatalf("%s[%d] gets a third instance", t.Name, a.Slot)
		}
		before := b.newest
		if a.Beside { // others may have been tried since
			before, _ = s.Row(a.Replaces)
		}
		last, placed := s.JobVersion(job.Name, before.Version), s.JobVersion(job.Name, a.Version)
		same := before.ID != 0 && last != nil && last.Task(t.Name) != nil && api.SameInstance(last.Task(t.Name), t)
		if a.Version == job.Version && !same {
			for _, d := range t.DependsOn {
				if met := w.meeting(s, job, job.Task(d.Task), d.Condition); !met {
					w.fatalf("%s[%d] is placed before %s is %s", t.Name, a.Slot, d.Task, d.Condition)
				}
			}
		}
		e := s.Evaluation(p.Evaluation)
		if row := b.newest; slices.Contains(e.Stop, row.ID) {
			continue // a person wants another one now
		} else if row.Phase == api.PhaseFailed && row.Desired == api.DesiredRun && !row.Failure.Blameless() && row.Version == a.Version && a.Version == job.Version && !a.Beside {
			_, due, ok := placed.Task(t.Name).Rescheduling(job.Type).Next(s.Past(row.ID))
			if !ok || due > w.at.UnixNano() {
				w.fatalf("%s[%d] is placed again though it is not to be (%v), or not before %s", t.Name, a.Slot, ok, time.Unix(0, due).UTC())
			}
		}
	}
}

// meeting reports whether every instance of a task is as far as a dependency asks for.
func (w *world) meeting(s *fsm.Snapshot, job *api.Job, t *api.Task, condition string) bool {
	all := slots(s, job, t.Name, nil)
	for slot := range uint32(t.Count) {
		b := all[slot]
		met := b != nil && (b.live > 0 && condition != api.DependComplete || job.Type.Completes() && s.Completed(job.Name, t.Name, job.Version, slot)) &&
			(condition != api.DependHealthy || b.healthy > 0 || job.Type.Completes())
		if !met {
			return false
		}
	}
	return true
}

func (w *world) judgePreemptions(s *fsm.Snapshot, job *api.Job, p *api.JobPlan) {
	for _, x := range p.Preemptions {
		row, _ := s.Row(x.Allocation)
		if other := s.Job(x.Job); other.Priority > job.Priority-10 || !slices.Contains(w.preempt, job.Type) || row.Job != x.Job {
			w.fatalf("%s has %s give way", job.Name, x.Job)
		}
	}
}

// atRest checks what must hold when the leader has nothing left to do as things are: nothing was overlooked. A leader that looked at
// everything anew would find nothing to do either.
func (w *world) atRest() {
	s := w.m.Snapshot()
	for job := range s.Jobs() {
		plan := scheduler.Schedule(s, []*api.Evaluation{{ID: ^api.ID(0), Job: job.Name, Type: job.Type, Priority: job.Priority}},
			w.options())
		open := s.Open(job.Name)
		if !plan.Empty() && !(open != nil && (open.Status == api.EvalPending || underWay(s, job.Name))) && !w.gaveUp(s, job) {
			w.fatalf("job %s was overlooked: there is %+v to do, and its evaluation is %+v", job.Name, plan.Jobs[0], open)
		}
	}
	s.Deployments().Active(func(d *api.Deployment) bool {
		v := rollout.Judge(d, s.Job(d.Job), deployer.Rows(s, d.Job), w.at)
		if v.Move == "" && v.Next.IsZero() {
			w.fatalf("an active deployment has no deadline: %+v", d)
		}
		if v.Move != "" && v.Move != api.MoveProgress {
			w.fatalf("the deployment of %s was overlooked: %+v", d.Job, v)
		}
		return true
	})
	for row := range s.Rows() {
		open := s.Open(row.Job)
		if open != nil && open.Status == api.EvalPending {
			continue // it is looked at again in a second
		}
		if a, _ := s.Allocation(row.ID); a.Away != nil && !a.Away.GivenUpAt.After(w.at) && s.Node(row.Node).Status == api.NodeDown {
			w.fatalf("%s #%d was to be given up: %+v", a.Name, row.ID, *a.Away)
		}
	}
	if due, _ := drain.Due(s, w.at.UnixNano()); len(due) > 0 {
		w.fatalf("the drains of %v were overlooked", due)
	}
	if due, _ := s.RebalanceDue(w.at.UnixNano()); due {
		w.fatalf("the rebalance was overlooked: %+v", s.Rebalancing())
	}
	w.launchesAtRest(s)
}

// gaveUp reports whether a task of the job has waited for another for as long as it was to: it is not placed then before the job is
// looked at for another reason.
func (w *world) gaveUp(s *fsm.Snapshot, job *api.Job) bool {
	for _, t := range job.Tasks {
		for _, d := range t.DependsOn {
			if at := d.GivesUp(job, s.Deployment(job.Name)); !at.IsZero() && !at.After(w.at) {
				return true
			}
		}
	}
	return false
}

// underWay reports whether the job has an instance that begins, or any job one that ends: then the job is looked at again.
func underWay(s *fsm.Snapshot, job string) (yes bool) {
	for row := range s.Rows() {
		yes = yes || row.Live() && (row.Phase < api.PhaseRunning && row.Job == job || row.Desired == api.DesiredStop)
	}
	return yes
}

// quiet checks what must hold some time after the last fault: nothing is stuck half way.
func (w *world) quiet() {
	s := w.m.Snapshot()
	w.launchesQuiet(s)
	if r := s.Rebalancing(); r != nil {
		w.fatalf("the rebalance is stuck: %+v", r)
	}
	for n := range s.Nodes() {
		if n.Status != api.NodeReady || n.Drain.Active() {
			w.fatalf("node %s is stuck: %s, drain %+v", n.ID, n.Status, n.Drain)
		}
		w.compare(s, w.machines[slices.IndexFunc(w.machines, func(m *machine) bool { return m.id == n.ID })])
	}
	for job := range s.Jobs() {
		if d := s.Deployment(job.Name); d != nil && d.Status.Active() {
			w.fatalf("the deployment of %s is stuck: %+v", job.Name, d)
		}
		open := s.Open(job.Name)
		if open != nil && open.Status == api.EvalPending && w.at.Sub(open.ModifiedAt) > time.Minute { // what the last look tried in vain is tried again a second after it
			w.fatalf("the evaluation of %s is pending, though nothing happens: %+v", job.Name, open)
		}
		for _, t := range job.Tasks {
			all := slots(s, job, t.Name, nil)
			for slot, b := range all {
				if a, _ := s.Allocation(b.newest.ID); strings.HasPrefix(a.DesiredReason, "gives way") {
					continue // something more important crashes and comes again, for ever
				}
				if b.live > 1 || b.live != b.wanted || b.live > 0 && (job.Stopped || int64(slot) >= int64(job.Slots(t))) {
					w.fatalf("%s/%s[%d] has %d instances, %d of which are to run", job.Name, t.Name, slot, b.live, b.wanted)
				}
			}
			if job.Type.EveryNode() || job.Stopped || job.Launches() {
				continue
			}
			for slot := range uint32(t.Count) {
				b := all[slot]
				switch {
				case b != nil && b.live == 1, open != nil:
				case b != nil && b.newest.Phase == api.PhaseFailed, gaveUp(s, job.Name, t.Name):
				case job.Type.Completes() && s.Completed(job.Name, t.Name, job.Version, slot):
				case w.gaveUp(s, job):
				default:
					w.fatalf("%s/%s[%d] is empty, and nobody is looking: %+v", job.Name, t.Name, slot, b)
				}
			}
		}
	}
}

// gaveUp reports whether a task of a job waits for another no more, which has failed for good.
func gaveUp(s *fsm.Snapshot, job, task string) bool {
	latest := s.JobEvaluations(job)[0]
	return slices.ContainsFunc(latest.Explanations, func(x api.Explanation) bool { return x.Task == task && x.GaveUp })
}

// compare holds what is true on a machine against what the state says of it.
func (w *world) compare(s *fsm.Snapshot, m *machine) {
	for row := range s.NodeRows(m.id, 0) {
		i := m.instances[row.ID]
		if i == nil && row.Phase == api.PhasePending {
			continue // it is on its way there
		}
		if i == nil || i.status.Phase != row.Phase || i.status.Restarts != row.Restarts || api.HealthOf(i.status.Phase, i.status.Health) != row.Health {
			w.fatalf("%s/%s[%d] #%d is %s and %s by the state, and on %s it is %+v", row.Job, row.Task, row.Slot, row.ID, row.Phase, row.Health, m.id, i)
		}
	}
	for _, id := range m.live() {
		if row, ok := s.Row(id); !ok || !row.Live() {
			w.fatalf("#%d runs on %s, and nobody knows", id, m.id)
		}
	}
}

// waitsToWrite reports whether a job waits for a volume that services hold for as long as they run.
func waitsToWrite(s *fsm.Snapshot, job string) bool {
	open := s.Open(job)
	return open != nil && open.Status == api.EvalBlocked && slices.ContainsFunc(open.Explanations, func(x api.Explanation) bool {
		return slices.ContainsFunc(x.Filters, func(f api.FilterCount) bool { return strings.HasPrefix(f.Filter, "volume ") })
	})
}

// whole checks that sound versions that fit have come through: each slot has one healthy instance of the version, each node one where
// that is wanted, and what runs to its end has done so.
func (w *world) whole() {
	s := w.m.Snapshot()
	for job := range s.Jobs() {
		if job.Launches() || job.Parent != "" {
			if job.Parent != "" && !finished(s, job.Name) && !waitsToWrite(s, job.Name) {
				w.fatalf("%s does not come to its end: %+v", job.Name, s.Summary(job.Name))
			}
			continue
		}
		if d := s.Deployment(job.Name); job.Type == api.JobService && d.Status != api.DeploymentSuccessful {
			w.fatalf("a sound version of %s did not get through: %+v", job.Name, d)
		}
		for _, t := range job.Tasks {
			all, n := slots(s, job, t.Name, nil), 0
			for slot, b := range all {
				switch {
				case job.Type.Completes():
					if s.Completed(job.Name, t.Name, job.Version, slot) {
						n++
					}
				case b.live > 0 && (b.healthy != 1 || b.outdated):
					w.fatalf("%s/%s[%d] ends as %+v", job.Name, t.Name, slot, *b)
				case b.live > 0:
					n++
				}
			}
			want := t.Count
			if job.Type.EveryNode() {
				want = machines
			}
			if n != want {
				w.fatalf("%s/%s has %d of %d instances: %+v", job.Name, t.Name, n, want, s.Open(job.Name))
			}
		}
	}
}
