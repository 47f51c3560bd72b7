package rollout

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"cube/api"
)

// Verdict is a judgement of an active deployment.
type Verdict struct {
	Move    string // api.MoveProgress and so on; "" when there is nothing to write down
	Reason  string // of the move; of none, what the deployment waits for
	Culprit api.ID // the instance for which it fails, if it is one
	Tasks   []api.DeploymentTask
	Healthy int       // instances of the version that are healthy
	Next    time.Time // when to judge again though nothing has happened: every active deployment has such a time
	Fails   time.Time // when it fails unless something happens
}

// Judge says where a deployment stands. job is the version in force, rows are its allocations by task and slot, those that are
// live and the newest of each slot; now is the state's time.
//
// It fails when an instance of the version fails for good or is not healthy within the healthy_deadline of its task, counted
// from its placement or from when the deployment went on, be it that it falls ill after that time; when no more instances became
// healthy within the progress_deadline; when a task has waited for another for the timeout of its depends_on; and when nobody promotes or resumes it within api.MaxHold. It succeeds when each slot is
// held by one healthy instance of the version and by no other that is to run.
func Judge(d *api.Deployment, job *api.Job, rows iter.Seq[api.AllocationRow], now time.Time) Verdict {
	j := judgement{d: d, job: job, now: now, tasks: map[string]*count{}}
	for _, t := range job.Tasks {
		c := &count{task: t, well: make([]bool, t.Count), up: make([]bool, t.Count), extra: make([]bool, t.Count), kept: make([]bool, t.Count)}
		c.DeploymentTask = api.DeploymentTask{Task: t.Name, Desired: t.Count}
		if was := d.Task(t.Name); was != nil {
			c.Canaries, c.Promoted = was.Canaries, was.Promoted
		}
		j.tasks[t.Name] = c
	}
	for row := range rows {
		c := j.tasks[row.Task]
		switch {
		case c == nil:
		case int64(row.Slot) < int64(c.task.Count):
			j.count(c, &row)
		case row.Version != d.Version && row.Live() && row.Desired == api.DesiredRun:
			c.surplus = true
		}
	}
	for _, t := range job.Tasks {
		j.tasks[t.Name].presume()
	}
	j.waits()
	return j.verdict()
}

// judgement is a Judge at work.
type judgement struct {
	d     *api.Deployment
	job   *api.Job
	now   time.Time
	tasks map[string]*count // by name; looked up, never ranged over
	cause string            // why an instance makes it fail
	guilt api.ID            // that instance
	next  time.Time         // when the next instance would
}

// count is what was found of one task.
type count struct {
	api.DeploymentTask
	task  *api.Task
	well  []bool // by slot: a healthy instance of the version
	up    []bool // by slot: one that runs
	extra []bool // by slot: another one that is to run
	kept  []bool // by slot: a healthy instance of the version that is not heard of any more
	// newest is when the latest instance of the version was placed.
	newest time.Time
	// surplus tells that an instance of an older version is to run for which there is no place any more. It is about to stop; if the count
	// grows before it does, the deployment has it to replace.
	surplus bool
}

func (j *judgement) count(c *count, row *api.AllocationRow) {
	ours, wanted := row.Version == j.d.Version, row.Live() && row.Desired == api.DesiredRun
	if placed := time.Unix(0, row.CreatedAt); ours && placed.After(c.newest) {
		c.newest = placed
	}
	switch {
	case wanted && row.Away: // what is placed beside it counts, or it is as well as it was
		c.kept[row.Slot] = ours && row.Health == api.HealthHealthy
	case !ours:
		c.extra[row.Slot] = c.extra[row.Slot] || wanted
	case wanted:
		c.Placed++
		c.up[row.Slot] = c.up[row.Slot] || row.Phase == api.PhaseRunning
		if row.Health == api.HealthHealthy {
			c.Healthy++
			c.extra[row.Slot] = c.extra[row.Slot] || c.well[row.Slot]
			c.well[row.Slot] = true
			return
		}
		c.extra[row.Slot] = true
		due := j.since(row).Add(c.task.Update.HealthyDeadline)
		if !due.After(j.now) {
			c.Unhealthy++
			j.blame(row, fmt.Sprintf("is not healthy after %s", c.task.Update.HealthyDeadline))
		} else {
			j.next = earliest(j.next, due)
		}
	case row.Phase == api.PhaseFailed && row.Desired == api.DesiredRun && !row.Failure.Blameless() && !time.Unix(0, row.CreatedAt).Before(j.d.Since):
		c.Unhealthy++
		j.blame(row, "failed")
	}
}

// presume takes an instance that is not heard of for what it was, where nothing is beside it.
func (c *count) presume() {
	for slot, kept := range c.kept {
		if kept && !c.well[slot] && !c.extra[slot] {
			c.well[slot], c.up[slot] = true, true
			c.Placed++
			c.Healthy++
		}
	}
}

// since is when the time that an instance has began.
func (j *judgement) since(row *api.AllocationRow) time.Time {
	placed := time.Unix(0, row.CreatedAt)
	if placed.Before(j.d.Since) {
		return j.d.Since
	}
	return placed
}

func (j *judgement) blame(row *api.AllocationRow, what string) {
	if j.cause == "" {
		j.cause, j.guilt = api.InstanceName(row.Job, row.Task, row.Slot)+" "+what, row.ID
	}
}

// waits has the deployment fail when a task has waited for another for as long as it may, and has not begun.
func (j *judgement) waits() {
	for _, t := range j.job.Tasks {
		c := j.tasks[t.Name]
		if c.Placed >= c.Desired {
			continue
		}
		for _, d := range t.DependsOn {
			due, on := d.GivesUp(j.job, j.d), j.tasks[d.Task]
			met := on.up
			if d.Condition == api.DependHealthy {
				met = on.well
			}
			switch {
			case due.IsZero() || !slices.Contains(met, false):
			case !c.newest.Before(due.Add(-d.Timeout)): // it has begun, so that the condition has been met since
			case due.After(j.now):
				j.next = earliest(j.next, due)
			case j.cause == "":
				j.cause = fmt.Sprintf("%s has waited %s for %s to be %s", t.Name, api.Brief(d.Timeout), d.Task, d.Condition)
			}
		}
	}
}

// resized reports whether a task's count is another than the deployment's row says. That is written down at once: an order to promote
// is judged by the row, and what is added has the progress_deadline from then on.
func (j *judgement) resized() bool {
	return slices.ContainsFunc(j.job.Tasks, func(t *api.Task) bool {
		was := j.d.Task(t.Name)
		return was != nil && was.Desired != t.Count
	})
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// progressEvery is how often progress is written down: so often within the shortest progress_deadline, so that a deployment of
// a hundred thousand instances does not make as many entries.
const progressEvery = 20

func (j *judgement) verdict() Verdict {
	v := Verdict{}
	done, ready, unpromoted, automatic := true, true, false, true
	patience := time.Duration(0)
	desired := 0
	for _, t := range j.job.Tasks {
		c := j.tasks[t.Name]
		v.Tasks = append(v.Tasks, c.DeploymentTask)
		v.Healthy += c.Healthy
		desired += c.Desired
		complete := !c.surplus
		for slot := range c.well {
			complete = complete && c.well[slot] && !c.extra[slot]
		}
		done = done && complete
		if !complete && (patience == 0 || t.Update.ProgressDeadline < patience) {
			patience = t.Update.ProgressDeadline
		}
		if c.Canaries > 0 && !c.Promoted {
			unpromoted = true
			automatic = automatic && t.Update.AutoPromote
			ready = ready && c.Healthy >= min(c.Canaries, c.Desired)
		}
	}
	fail := func(reason string) { v.Move, v.Reason = api.MoveFail, reason }
	wait := func(until time.Time, then, meanwhile string) {
		if v.Reason, v.Fails = meanwhile, until; !until.After(j.now) {
			fail(then)
		}
	}
	switch {
	case j.d.Status == api.DeploymentPaused:
		wait(j.d.ModifiedAt.Add(api.MaxHold), fmt.Sprintf("it was paused for %s", api.MaxHold), cmp.Or(j.d.Reason, "paused"))
	case done:
		v.Move, v.Reason = api.MoveSucceed, fmt.Sprintf("%d of %d healthy", v.Healthy, desired)
	case j.cause != "":
		v.Culprit = j.guilt
		fail(j.cause)
	case unpromoted && ready && automatic:
		v.Move, v.Reason = api.MovePromote, "all canaries are healthy"
	case j.resized(), v.Healthy > j.d.Healthy && !j.now.Before(j.d.ProgressAt.Add(patience/progressEvery)):
		v.Move = api.MoveProgress
	case unpromoted && ready:
		wait(j.d.ProgressAt.Add(api.MaxHold), fmt.Sprintf("its canaries were not promoted within %s", api.MaxHold), "its canaries are healthy and wait to be promoted")
	default:
		wait(j.d.ProgressAt.Add(patience), fmt.Sprintf("no more than %d of %d became healthy within %s", v.Healthy, desired, patience),
			fmt.Sprintf("%d of %d healthy", v.Healthy, desired))
	}
	v.Next = v.Fails
	if v.Move == "" && v.Healthy > j.d.Healthy {
		v.Next = earliest(v.Next, j.d.ProgressAt.Add(patience/progressEvery))
	}
	if v.Move == "" && j.d.Status == api.DeploymentRunning {
		v.Next = earliest(v.Next, j.next)
		v.Fails = earliest(v.Fails, j.next)
	}
	return v
}
