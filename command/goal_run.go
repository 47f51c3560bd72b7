package command

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cube/api"
)

const (
	// stableFor is how long an instance must run before it counts: most that die young do so within it.
	stableFor = 3 * time.Second
	// stuckFor is how long nothing must have moved before what looks hopeless is called so: time for the scheduler to
	// think again and for a client that joins.
	stuckFor = 5 * time.Second
	// startTries is how many failed starts are enough to say that an instance does not start.
	startTries = 3
	// crashTries are how many ends are enough to say that an instance does not stay up. There are more of them, since what
	// starts may wait for a neighbour: with the usual delays it is given a quarter of a minute for that.
	crashTries = 5
)

// runGoal is reached when every instance of one version of a job is healthy, where its task awaits that, runs, where it does
// not, or has completed.
type runGoal struct {
	name      string
	version   uint64
	unchanged bool // the version was in force before: what runs at the first look has proved itself
	toEnd     bool // only an instance that has completed is well

	status  *api.JobStatus
	gone    error                // the job cannot be read any more
	noNodes bool                 // the monitor found that no client has joined
	seen    map[string]*sighting // by allocation
	movedAt time.Time            // when something last got further
	first   bool                 // nothing has been looked at yet
}

// sighting is what a goal remembers of an allocation between two looks.
type sighting struct {
	phase    api.Phase
	restarts int
	message  string
	health   api.HealthStatus
	since    time.Time // phase and restarts are what they are; zero: since before we looked
}

func newRunGoal(r api.RegisteredJob, now time.Time) *runGoal {
	return &runGoal{name: r.Name, version: r.Version, unchanged: !r.Changed, seen: map[string]*sighting{}, movedAt: now, first: true}
}

func (g *runGoal) look(status *api.JobStatus, err error, now time.Time) {
	if err != nil {
		if !unreachable(err) {
			g.gone = err
		}
		return
	}
	g.status = status
	for _, a := range status.Allocations {
		old := g.seen[a.ID]
		if old == nil {
			since := now
			if g.first && g.unchanged {
				since = time.Time{}
			}
			g.seen[a.ID] = &sighting{phase: a.Phase, restarts: a.Restarts, message: a.Message, health: a.Health, since: since}
			g.movedAt = now
			continue
		}
		further := a.Phase != old.phase || a.Restarts != old.restarts
		// A restart is no progress, nor is anything an instance does that keeps being started again.
		if a.Restarts == 0 && (further || a.Message != old.message || a.Health != old.health) {
			g.movedAt = now
		}
		if further {
			old.since = now
		}
		old.phase, old.restarts, old.message, old.health = a.Phase, a.Restarts, a.Message, a.Health
	}
	g.first = false
}

// slotState is how one slot of the version stands.
type slotState int

const (
	slotGoing     slotState = iota // on its way, as far as can be told
	slotDependent                  // an older version holds it; it waits for others in a rolling update
	slotUnstable                   // runs, but not yet for long enough
	slotWell
	slotHopeless
)

// slot is one instance that there is to be.
type slot struct {
	name   string
	key    slotKey
	alloc  *api.Allocation // of this version, or else what holds the slot; nil: nothing
	state  slotState
	stable time.Time // with slotUnstable: when it counts
}

// slots returns every slot of the job in order.
func (g *runGoal) slots(now time.Time) []slot {
	holders := map[slotKey]*api.Allocation{}
	for _, a := range g.status.Allocations {
		// Newest first: the first of this version is the holder; failing that, the first of any.
		old := holders[slotOf(a)]
		if old == nil || old.JobVersion < g.version && a.JobVersion >= g.version {
			holders[slotOf(a)] = a
		}
	}
	var out []slot
	if g.status.Job.Type.EveryNode() {
		return g.slotsOfNodes(holders, now)
	}
	for _, t := range g.status.Job.Tasks {
		for n := range t.Count {
			s := slot{name: api.InstanceName(g.name, t.Name, uint32(n)), key: slotKey{t.Name, n}}
			s.alloc = holders[s.key]
			g.judge(&s, t, now)
			out = append(out, s)
		}
	}
	return out
}

// slotsOfNodes are the slots of a job that is to be on every node: those that have an instance, and for each node that is to
// have one and has none yet, one without a number.
func (g *runGoal) slotsOfNodes(holders map[slotKey]*api.Allocation, now time.Time) (out []slot) {
	keys := slices.SortedFunc(maps.Keys(holders), func(a, b slotKey) int { return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.slot, b.slot)) })
	for _, key := range keys {
		a, t := holders[key], g.status.Job.Task(key.task)
		switch {
		case t == nil, a.Phase.Terminal() && (a.Desired == api.DesiredStop || a.Phase == api.PhaseLost):
			continue // its node is not one any more, or not now
		case a.JobVersion < g.version && g.planned():
			continue // its node can take no other
		}
		s := slot{name: a.Name, key: key, alloc: a}
		g.judge(&s, t, now)
		out = append(out, s)
	}
	if e := g.status.Evaluation; e != nil && e.JobVersion >= g.version && e.Status.Open() {
		for i := range e.Explanations {
			x := &e.Explanations[i]
			state := slotHopeless
			if g.toEnd && !x.GaveUp {
				state = slotGoing
			}
			for range x.Wanted - x.Placed {
				out = append(out, slot{name: api.InstanceName(g.name, x.Task, 0), key: slotKey{x.Task, -1}, state: state})
			}
		}
	}
	return out
}

func (g *runGoal) judge(s *slot, t *api.Task, now time.Time) {
	batch := g.status.Job.Type.Completes()
	a := s.alloc
	switch {
	case g.toEnd:
		s.state = g.towardsEnd(a, t, now)
	case a == nil || a.JobVersion < g.version && a.Phase.Terminal():
		s.state = g.vacant(t.Name, batch)
	case a.JobVersion < g.version:
		s.state = slotDependent
	case a.Phase == api.PhaseComplete && batch:
		s.state = slotWell
	case a.Phase == api.PhaseFailed && g.secondChance(t.Name):
	case a.Phase == api.PhaseFailed:
		s.state = slotHopeless
	case a.Desired == api.DesiredStop:
		s.state = slotGoing
	case a.Phase == api.PhaseRunning && a.Health == api.HealthHealthy:
		s.state = slotWell
	case a.Phase == api.PhaseRunning && awaitsHealth(t):
		if a.Health == api.HealthUnhealthy && !restarts(t) {
			s.state = slotHopeless
		}
	case a.Phase == api.PhaseRunning:
		since := g.seen[a.ID].since
		s.stable = since.Add(stableFor)
		if s.state = slotUnstable; since.IsZero() || !now.Before(s.stable) {
			s.state = slotWell
		}
	case g.doesNotStart(a, t, now), !a.StartedAt.IsZero() && a.Restarts >= crashTries:
		s.state = slotHopeless
	}
}

// towardsEnd judges a slot whose instance is to complete. One that waits for a place is going to have it one day.
func (g *runGoal) towardsEnd(a *api.Allocation, t *api.Task, now time.Time) slotState {
	e := g.status.Evaluation
	looking := e != nil && e.Status.Open()
	switch {
	case a == nil && looking && !g.gaveUp(t.Name):
		return slotGoing
	case a == nil:
		return g.vacant(t.Name, true)
	case a.Phase == api.PhaseComplete:
		return slotWell
	case a.Phase == api.PhaseFailed && looking, a.Phase == api.PhaseRunning:
		return slotGoing
	case a.Phase == api.PhaseFailed, g.doesNotStart(a, t, now), !a.StartedAt.IsZero() && a.Restarts >= crashTries:
		return slotHopeless
	}
	return slotGoing
}

// restarts reports whether an unhealthy instance of the task is started again.
func restarts(t *api.Task) bool {
	return slices.ContainsFunc(t.Checks, func(c api.Check) bool { return c.RestartAfter > 0 })
}

// gaveUp reports whether the scheduler has stopped looking for a place for instances of a task.
func (g *runGoal) gaveUp(task string) bool {
	return g.status.Evaluation != nil && slices.ContainsFunc(g.status.Evaluation.Explanations, func(x api.Explanation) bool { return x.GaveUp && x.Task == task })
}

// secondChance reports whether what has failed of a task is to be placed again for the first time: on another node it may do well, so
// it is waited for. What fails there, too, is not.
func (g *runGoal) secondChance(task string) bool {
	retry := g.retry(task)
	return retry != nil && retry.Attempt <= 1
}

// retry is the next attempt to place again what failed of a task, nil if the scheduler has none in mind.
func (g *runGoal) retry(task string) *api.Retry {
	if e := g.status.Evaluation; e != nil && e.JobVersion >= g.version && e.Status.Open() {
		for i := range e.Explanations {
			if e.Explanations[i].Task == task {
				return e.Explanations[i].Retry
			}
		}
	}
	return nil
}

// vacant judges a slot that nothing holds.
func (g *runGoal) vacant(task string, batch bool) slotState {
	e := g.status.Evaluation
	if e == nil || e.JobVersion < g.version {
		return slotGoing
	}
	for i := range e.Explanations {
		if x := &e.Explanations[i]; (e.Status == api.EvalBlocked || x.GaveUp) && x.Task == task && x.Placed < x.Wanted {
			return slotHopeless
		}
	}
	if batch && !e.Status.Open() {
		return slotWell // it completed before, and what ran has been forgotten since
	}
	return slotGoing
}

// doesNotStart reports whether an instance has never started and will not soon: it was tried often enough, or its client
// waits longer for the next try than the restart policy alone would have it, which it does when it knows that trying soon
// is of no use.
func (g *runGoal) doesNotStart(a *api.Allocation, t *api.Task, now time.Time) bool {
	if !a.StartedAt.IsZero() || a.Restarts == 0 {
		return false
	}
	if a.Restarts >= startTries {
		return true
	}
	delay := t.Restart.Delay << (a.Restarts - 1)
	return a.Phase == api.PhasePending && now.Sub(g.seen[a.ID].since) > delay+time.Second
}

func (g *runGoal) verdict(now time.Time) verdict {
	switch {
	case g.gone != nil:
		return verdict{outcome: stuck, summary: fmt.Sprintf("job %q can no longer be read", g.name), reasons: []string{printable(g.gone.Error())}}
	case g.status == nil:
		return verdict{}
	}
	job, e := g.status.Job, g.status.Evaluation
	byDeployment, waits := g.deploymentVerdict(now)
	switch {
	case byDeployment.outcome != waiting:
		return byDeployment
	case job.Version > g.version:
		return verdict{outcome: stuck, summary: fmt.Sprintf("version %d of job %q was submitted meanwhile", job.Version, g.name)}
	case job.Stopped:
		return verdict{outcome: stuck, summary: fmt.Sprintf("job %q was stopped meanwhile", g.name)}
	case job.Version < g.version:
		return verdict{} // a server that is behind answered
	case job.Launches():
		return verdict{outcome: reached, summary: fmt.Sprintf("Job %q version %d is registered; %s", g.name, g.version, firstLaunch(g.status, now))}
	case g.status.Summary.Status == api.JobComplete && g.planned() && !g.toEnd:
		return verdict{outcome: reached, summary: fmt.Sprintf("Job %q version %d is complete", g.name, g.version)}
	case g.toEnd && g.status.Summary.Status == api.JobFailed:
		return verdict{outcome: stuck, summary: fmt.Sprintf("job %q has failed", g.name), reasons: g.reasons(g.slots(now))}
	case e != nil && e.Status == api.EvalFailed:
		return verdict{outcome: stuck, summary: fmt.Sprintf("the scheduler failed on job %q", g.name), reasons: []string{printable(e.Message)}}
	}
	v := g.count(g.slots(now), now)
	if v.outcome == stuck && waits {
		return verdict{bounded: true} // the deployment has the last word, and says it in time
	}
	if v.outcome != stuck && g.deploying() {
		// When all are well it ends in a moment, and what comes before that would leave this version without the name of a stable one.
		return verdict{bounded: true, wake: v.wake}
	}
	return v
}

// planned reports whether the scheduler has looked at this version and is done: before that, what an older version of a
// batch job completed still counts.
func (g *runGoal) planned() bool {
	e := g.status.Evaluation
	return e == nil || e.JobVersion >= g.version && !e.Status.Open()
}

// count adds up the slots.
func (g *runGoal) count(slots []slot, now time.Time) verdict {
	var well, hopeless, going int
	var wake time.Time
	for _, s := range slots {
		switch s.state {
		case slotWell:
			well++
		case slotHopeless:
			hopeless++
		case slotUnstable:
			if wake.IsZero() || s.stable.Before(wake) {
				wake = s.stable
			}
		case slotGoing:
			going++
			if s.alloc != nil && s.alloc.Restarts > 0 {
				wake = earlier(wake, now.Add(time.Second)) // its next start may be overdue then
			}
		}
	}
	switch {
	case g.status.Job.Type.EveryNode() && (len(slots) == 0 || well == len(slots) && !g.planned()):
		return g.onNoNode(slots, now)
	case well == len(slots) && g.toEnd:
		return verdict{outcome: reached, summary: fmt.Sprintf("Job %q is complete", g.name)}
	case well == len(slots):
		return verdict{outcome: reached, summary: fmt.Sprintf("Job %q version %d: %d of %d instances %s%s", g.name, g.version, well, len(slots), g.well(), g.orComplete())}
	case g.noNodes:
		if until := g.movedAt.Add(stuckFor); now.Before(until) {
			return verdict{wake: until} // one that was started a moment ago is still on its way
		}
		return verdict{outcome: stuck, summary: "no client has joined the cluster"}
	case hopeless > 0 && going == 0 && wake.IsZero():
		if until := g.movedAt.Add(stuckFor); now.Before(until) {
			return verdict{wake: until}
		}
		return verdict{outcome: stuck, summary: g.running(well, len(slots)) + ", and the rest cannot be placed, started or kept running", reasons: g.reasons(slots)}
	}
	return verdict{wake: wake}
}

// onNoNode is the verdict on a job that is to be on every node, while the scheduler has yet to say which those are, or has
// found none.
func (g *runGoal) onNoNode(slots []slot, now time.Time) verdict {
	until := g.movedAt.Add(stuckFor)
	switch {
	case len(slots) > 0 || !g.planned():
		return verdict{}
	case now.Before(until):
		return verdict{wake: until}
	}
	return verdict{outcome: stuck, summary: fmt.Sprintf("job %q version %d is on no node", g.name, g.version), reasons: g.reasons(nil)}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// reasons says what keeps the slots that are not well.
func (g *runGoal) reasons(slots []slot) []string {
	var out []string
	if e := g.status.Evaluation; e != nil {
		out = explainAll(e.Explanations)
	}
	said := map[string]bool{}
	former := 0 // instances of older versions that still run
	for _, s := range slots {
		if s.alloc != nil && s.alloc.JobVersion < g.version {
			if !s.alloc.Phase.Terminal() {
				former++
			}
			continue
		}
		if s.state == slotWell || s.alloc == nil || s.alloc.Message == "" || said[s.alloc.Message] {
			continue
		}
		said[s.alloc.Message] = true // a hundred instances of one wrong image say it once
		out = append(out, printable(s.name+": "+s.alloc.Message))
	}
	if former > 0 {
		verb := "run"
		if former == 1 {
			verb = "runs"
		}
		out = append(out, fmt.Sprintf("%s of an older version %s on: the update waits for the new ones", countOf(former, "instance"), verb))
	}
	return out
}

// late is what there is to say when patience is over.
func (g *runGoal) late(now time.Time) verdict {
	if g.status == nil {
		return verdict{outcome: stuck, summary: fmt.Sprintf("nothing is known of job %q", g.name)}
	}
	slots := g.slots(now)
	well := 0
	for _, s := range slots {
		if s.state == slotWell {
			well++
		}
	}
	return verdict{outcome: stuck, summary: g.running(well, len(slots)), reasons: g.reasons(slots)}
}

func (g *runGoal) running(well, all int) string {
	return fmt.Sprintf("job %q version %d has %d of %d instances %s%s", g.name, g.version, well, all, g.well(), g.orComplete())
}

// well is what instances are that count.
func (g *runGoal) well() string {
	switch {
	case g.toEnd:
		return "complete"
	case hasChecks(g.status.Job):
		return "healthy"
	}
	return "running"
}

func (g *runGoal) orComplete() string {
	if g.status.Job.Type.Completes() && !g.toEnd {
		return " or complete"
	}
	return ""
}

func (g *runGoal) lines() []instanceLine {
	if g.status == nil || g.status.Job.Version != g.version {
		return nil
	}
	var out []instanceLine
	for _, s := range g.slots(time.Time{}) {
		if s.key.slot < 0 {
			continue // a node, and the explanation names it
		}
		line := instanceLine{name: s.name, phase: "not placed"}
		if a := s.alloc; a != nil {
			line = lineOf(a)
			line.note = cmp.Or(line.note, healthNote(g.status.Job.Task(a.Task), a))
			if retry := g.retry(a.Task); retry != nil && a.Phase == api.PhaseFailed && retry.Instance == a.Name {
				line.note += "; " + strings.TrimPrefix(retry.Text(time.Time{}), a.Name+" failed: ")
			}
			if a.JobVersion < g.version {
				line.note = fmt.Sprintf("still version %d", a.JobVersion)
				if a.Phase.Terminal() {
					line.note = fmt.Sprintf("version %d has ended", a.JobVersion)
				}
			}
		}
		line.settled = line.phase == "running" && line.note == "" || line.phase == "complete"
		out = append(out, line)
	}
	return out
}

func lineOf(a *api.Allocation) instanceLine {
	line := instanceLine{name: a.Name, id: a.ID, node: a.NodeName, phase: a.Phase.String(), restarts: a.Restarts}
	if a.Phase != api.PhaseRunning {
		line.note = a.Message
	}
	return line
}
