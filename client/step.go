package client

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"cube/api"
	"cube/client/driver"
)

// policy is what step must know of a task. It is nil while the job's specification has not arrived.
type policy struct {
	Restart    api.Restart
	Batch      bool
	Checks     []api.Check
	MinHealthy time.Duration // see api.Update, and api.Task.Move
	Memory     int64         // its limit in MiB, for words
	Delay      time.Duration // see api.Task.ShutdownDelay
	MaxRun     time.Duration // how long a run may take; 0: no bound
	Alone      time.Duration // how long it may go on without any server; 0: for ever
	Parts      []api.Part    // of the task
	Hook       bool          // of a prestart or poststop: it runs once
}

// delay is how long an instance is out of rotation before it is asked to end.
func (p *policy) delay() time.Duration {
	if p == nil {
		return 0
	}
	return p.Delay
}

// The events of one allocation.
type (
	evStop  struct{ Why string }     // it is wanted gone, without a delay
	evBegun struct{}                 // its start is in flight
	evTold  struct{ Message string } // the driver, or who takes over what is left to it, says how far that has come
	evTaken struct {                 // what those before it have left is taken over, or cannot be
		Note string
		Err  error
	}
	evStarted struct { // Start returned
		Handle driver.Handle
		At     time.Time
	}
	evRefused struct{ Err error } // Start failed
	evExited  struct {            // an instance ended
		Key  driver.Key
		Exit driver.Exit
	}
	evStopped struct{ Err error } // Stop returned
	evCleaned struct {            // Stop and Remove of a former instance returned
		Handle driver.Handle
		Err    error
	}
	evKnown struct{} // the job's specification has arrived
	evTick  struct{} // time has passed
)

// step advances an allocation by one event. It is a pure function: what follows from the new state is allocation.next's
// to say, and a status with a new Seq is to be reported.
func step(a allocation, event any, p *policy, now time.Time) allocation {
	switch e := event.(type) {
	case evStop:
		a.wantGone(e.Why)
	case evBegun:
		a.Stage, a.Exit, a.Made, a.Parted = stageStart, nil, a.Version, p.parted()
		a.tell(func(s *api.AllocationStatus) { s.Phase, s.Message = api.PhasePreparing, "" })
	case evTold:
		switch a.Stage {
		case stageStart:
			a.tell(func(s *api.AllocationStatus) { s.Message = e.Message })
		case stageWait:
			a.tell(func(s *api.AllocationStatus) { s.Phase, s.Message = api.PhasePreparing, e.Message })
		}
	case evTaken:
		a.taken(e, p, now)
	case evStarted:
		a.started(e, p, now)
	case evRefused:
		a.refused(e.Err, p, now)
	case evExited:
		a.exited(e, p, now)
	case evStopped:
		a.stopped(e.Err, now)
	case evCleaned:
		a.cleaned(e, now)
	case evProbed:
		a.probed(e, p, now)
	case evOf:
		a.of(e, p, now)
	case evKnown:
		a.pass(e, p, now)
		if a.Stage == stageEnded && p != nil {
			a.ended(*a.Exit, p, now)
		}
	case evTick:
		a.pass(e, p, now)
		if !a.Orphan.IsZero() && !now.Before(a.Orphan) {
			a.Orphan = time.Time{}
			a.wantGone("stopped: the servers have not known it since their state was restored")
		}
		if at := a.stranded(p); !at.IsZero() && !now.Before(at) {
			a.strand(p, now)
		}
		if at := a.overdue(p); !at.IsZero() && !now.Before(at) {
			a.overrun(p, now)
		}
	}
	a.judgeHealth(event, p, now)
	return a
}

func (a *allocation) wantGone(why string) {
	if a.Stage == stageDone || a.Stage == stageStop || a.Stage == stageTidy {
		a.Why = cmp.Or(a.Why, why)
		return
	}
	a.Why, a.Fails, a.Due = why, 0, time.Time{}
	switch a.Stage {
	case stageLook: // first it must be known whether there is anything to stop
	case stageStart, stageRun: // a start in flight is cancelled by the runner, and its outcome decides
		a.Stage, a.Due = stageStop, a.Leave
	default:
		if a.Ousted && len(a.Old) > 0 {
			a.Stage = stageStop // until the instance that was ended for its health is gone
			return
		}
		a.finish(api.PhaseComplete, why)
	}
}

// withdraw makes the allocation wanted gone and takes it out of rotation first: for the delay it runs on without a health, so
// that those who send it work find out before it ends. What does not run, and what is unhealthy and so gets no work already,
// has nothing to wait for. hurry forgoes the delay, also of what waits already.
func (a *allocation) withdraw(why string, delay time.Duration, hurry bool, now time.Time) {
	runs := a.Stage == stageRun || a.Stage == stageLook && a.Status.Phase == api.PhaseRunning
	switch {
	case hurry:
		if a.Stage == stageStop && a.Due.Equal(a.Leave) {
			a.Due = time.Time{}
		}
		a.Leave = time.Time{}
	case a.Why == "" && runs && delay > 0 && a.Status.Health != api.HealthUnhealthy:
		a.Leave = now.Add(delay)
		a.tell(func(s *api.AllocationStatus) {
			s.Health, s.Message = api.HealthUnknown, "stopping: out of rotation for "+brief(delay)+" before it is asked to end"
		})
	}
	a.wantGone(why)
}

// finish makes the allocation terminal, or has it become so once its crew is through.
func (a *allocation) finish(phase api.Phase, message string) {
	a.retire()
	a.Stage, a.Exit, a.Orphan, a.Leave, a.Ousted, a.Doom, a.DoomedBy = stageDone, nil, time.Time{}, time.Time{}, false, "", 0
	if a.Parted || len(a.Crew) > 0 {
		a.Stage, a.Ending = stageTidy, &ending{phase, message}
		a.tell(func(s *api.AllocationStatus) { s.Health, s.Message = api.HealthUnknown, message })
		return
	}
	a.tell(func(s *api.AllocationStatus) { s.Phase, s.Message = phase, message })
}

func (a *allocation) started(e evStarted, p *policy, now time.Time) {
	early := a.Exit
	a.Run, a.Exit = e.Handle, nil
	if a.Stage == stageStop {
		return // it is stopped next
	}
	a.Stage = stageRun
	a.tell(func(s *api.AllocationStatus) {
		s.Phase, s.Health, s.Message, s.StartedAt, s.Port = api.PhaseRunning, api.HealthUnknown, a.Note, e.At.UnixMilli(), 0
		if s.Failure == api.FailureStart || s.Failure == api.FailurePortTaken {
			s.Failure = api.FailureNone
		}
	})
	if early != nil {
		a.ended(*early, p, now)
	}
}

// taken goes on with what those before it have left, or tries again by the restart policy.
func (a *allocation) taken(e evTaken, p *policy, now time.Time) {
	switch {
	case a.Stage != stageWait:
	case e.Err != nil:
		a.refused(e.Err, p, now)
	case e.Note != "":
		a.Note = e.Note
		a.tell(func(s *api.AllocationStatus) { s.Message = e.Note })
	}
}

func (a *allocation) refused(err error, p *policy, now time.Time) {
	a.Exit = nil
	if a.Stage == stageStop {
		a.depart()
		return
	}
	var start *driver.StartError
	failure, permanent := api.FailureStart, false
	if errors.As(err, &start) {
		permanent = start.Permanent
		if start.Failure != api.FailureNone {
			failure = start.Failure
		}
	}
	a.tell(func(s *api.AllocationStatus) { s.Failure, s.FinishedAt = failure, now.UnixMilli() })
	if failure == api.FailurePortTaken {
		a.tell(func(s *api.AllocationStatus) { s.Port = uint16(start.Port) })
		a.finish(api.PhaseFailed, err.Error())
		return
	}
	a.retry(p, 0, permanent, "start failed: "+err.Error(), now)
}

func (a *allocation) exited(e evExited, p *policy, now time.Time) {
	if e.Key != a.key() {
		return // an instance before this one: it is being removed
	}
	if e.Exit.FinishedAt.IsZero() {
		e.Exit.FinishedAt = now
	}
	switch a.Stage {
	case stageStart:
		a.Exit = &e.Exit
	case stageRun:
		a.ended(e.Exit, p, now)
	case stageStop:
		a.note(e.Exit)
		a.Due = time.Time{} // a Stop that failed before returns at once now
	}
}

// note puts how the instance ended into the status, without judging it.
func (a *allocation) note(x driver.Exit) {
	a.tell(func(s *api.AllocationStatus) {
		s.ExitCode, s.Signal, s.FinishedAt = int32(x.Code), uint8(x.Signal), x.FinishedAt.UnixMilli()
		s.Failure = api.FailureExit
		switch {
		case x.OOM:
			s.Failure = api.FailureOOM
		case x.Code == 0 && x.Signal == 0:
			s.Failure = api.FailureNone
		}
	})
}

// shortRun is how long an instance has run at the most whose end is put down to how it began.
const shortRun = time.Minute

// ended decides what follows the end of the present instance.
func (a *allocation) ended(x driver.Exit, p *policy, now time.Time) {
	if p == nil {
		a.Stage, a.Exit = stageEnded, &x
		a.tell(func(s *api.AllocationStatus) {
			s.Message = describe(x, 0) + "; waiting for the job's specification to know what follows"
		})
		return
	}
	a.Exit = nil
	a.note(x)
	good := x.Code == 0 && x.Signal == 0 && !x.OOM
	if good && p.Batch {
		a.finish(api.PhaseComplete, describe(x, p.Memory))
		return
	}
	text := describe(x, p.Memory)
	if good {
		text += ", though a service is to go on"
		a.tell(func(s *api.AllocationStatus) { s.Failure = api.FailureExit })
	}
	ran := time.Duration(0)
	if a.Status.StartedAt > 0 {
		ran = x.FinishedAt.Sub(time.UnixMilli(a.Status.StartedAt))
	}
	if strings.HasPrefix(a.Note, api.DataNotFetched) && ran < shortRun {
		text += " (" + a.Note + ")" // most likely that is why
	}
	a.Note = ""
	a.retry(p, ran, false, text, now)
}

// retry goes on to the next instance, or ends the allocation if its policy is used up.
func (a *allocation) retry(p *policy, ran time.Duration, slowly bool, text string, now time.Time) {
	if p != nil && p.Hook {
		a.finish(api.PhaseFailed, text)
		return
	}
	restart := api.DefaultRestart() // a start that failed for want of the specification itself
	if p != nil {
		restart = p.Restart
	}
	tries, delay, ok := again(restart, a.Tries, now, ran, slowly)
	a.Tries = tries
	if !ok {
		text = fmt.Sprintf("%s; no restart left of %d within %s", text, restart.Attempts, brief(restart.Interval))
		if a.Ousted {
			a.doom(text)
			return
		}
		a.finish(api.PhaseFailed, text)
		return
	}
	a.retire()
	a.Stage, a.Due = stageWait, now.Add(delay)
	a.tell(func(s *api.AllocationStatus) {
		s.Restarts++
		s.Phase = api.PhasePending
		s.Message = fmt.Sprintf("%s; restart %d in %s", text, s.Restarts, brief(delay))
	})
}

// doom has the present run stopped, after which the allocation has failed, for the reason that its status tells.
func (a *allocation) doom(text string) {
	a.Stage, a.Doom, a.DoomedBy, a.Fails, a.Due = stageStop, text, a.Status.Failure, 0, time.Time{}
	a.tell(func(s *api.AllocationStatus) { s.Health, s.Message = api.HealthUnhealthy, text })
}

// overdue is when the present run will have taken longer than it may; zero: there is no such time.
func (a *allocation) overdue(p *policy) time.Time {
	if a.Stage != stageRun || p == nil || p.MaxRun <= 0 || a.Status.StartedAt == 0 {
		return time.Time{}
	}
	return time.UnixMilli(a.Status.StartedAt).Add(p.MaxRun)
}

// overrun ends a run that takes longer than it may. What did not get done in its time once will seldom do so the next time, so
// only a policy that counts its attempts has it tried again.
func (a *allocation) overrun(p *policy, now time.Time) {
	text := "ran longer than its max_run_duration " + brief(p.MaxRun)
	if p.Hook {
		text = "ran longer than its timeout " + brief(p.MaxRun)
	}
	a.tell(func(s *api.AllocationStatus) { s.Failure = api.FailureTime })
	a.Ousted = true
	if p.Hook || p.Restart.Mode != api.RestartFail {
		a.doom(text)
		return
	}
	a.retry(p, now.Sub(time.UnixMilli(a.Status.StartedAt)), false, text, now)
}

// brief writes a duration to the millisecond, and without the units that are nought at its end: 5m, not 5m0s.
func brief(d time.Duration) string {
	s := d.Round(time.Millisecond).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Waits between attempts to stop or remove what would not go: an engine that hangs is not helped by hammering it.
const (
	goneDelay    = time.Second
	goneMaxDelay = time.Minute
)

func (a *allocation) stopped(err error, now time.Time) {
	if err == nil {
		if a.Status.FinishedAt < a.Status.StartedAt || a.Status.FinishedAt == 0 {
			a.tell(func(s *api.AllocationStatus) { s.FinishedAt = now.UnixMilli() })
		}
		a.depart()
		return
	}
	delay := backoff(goneDelay, goneMaxDelay, a.Fails)
	a.Fails++
	a.Due = now.Add(delay)
	a.tell(func(s *api.AllocationStatus) { s.Message = fmt.Sprintf("stop failed: %v; next try in %s", err, delay) })
}

func (a *allocation) cleaned(e evCleaned, now time.Time) {
	if e.Err != nil {
		a.OldDue = now.Add(backoff(goneDelay, goneMaxDelay, a.Fails))
		a.Fails++
		return
	}
	var left []driver.Handle
	for _, h := range a.Old {
		if h != e.Handle {
			left = append(left, h)
		}
	}
	a.Old, a.Fails, a.OldDue = left, 0, time.Time{}
	if !a.Ousted || len(left) > 0 {
		return
	}
	a.Ousted = false
	if a.Stage == stageStop {
		a.depart()
	}
}

// depart ends an allocation whose instance is gone, as it was to.
func (a *allocation) depart() {
	if a.Doom == "" {
		a.finish(api.PhaseComplete, a.Why)
		return
	}
	a.tell(func(s *api.AllocationStatus) { s.Failure = cmp.Or(a.DoomedBy, api.FailureCheck) })
	a.finish(api.PhaseFailed, a.Doom)
}

// stranded is when the allocation will have been without any server for longer than it may; zero: there is no such time.
func (a *allocation) stranded(p *policy) time.Time {
	if p == nil || p.Alone <= 0 || a.apart.IsZero() || a.Why != "" || a.Doom != "" {
		return time.Time{}
	}
	switch a.Stage {
	case stageWait, stageStart, stageRun:
		return a.apart.Add(p.Alone)
	}
	return time.Time{}
}

// strand ends an allocation that nobody can ask to end: the servers may have given it up, and have another in its place.
func (a *allocation) strand(p *policy, now time.Time) {
	text := fmt.Sprintf("cut off from the servers for %s, stop_on_client_after is %s", brief(now.Sub(a.apart).Round(time.Second)), brief(p.Alone))
	a.tell(func(s *api.AllocationStatus) { s.Failure = api.FailureCut })
	if a.Stage == stageWait && !(a.Ousted && len(a.Old) > 0) {
		a.finish(api.PhaseFailed, text)
		return
	}
	a.doom(text)
}

// tries is what the restart policy remembers of one allocation.
type tries struct {
	Since  time.Time // when the interval that Used counts in began
	Used   int       // restarts granted in it
	Streak int       // restarts granted one soon after the other: the exponent of the backoff
}

// again decides whether an instance that ended after running for ran is started again, and after which delay. slowly asks
// for the longest delay at once: for what trying again soon can not help. ok is false when the policy is used up.
func again(p api.Restart, t tries, now time.Time, ran time.Duration, slowly bool) (next tries, delay time.Duration, ok bool) {
	if p.Interval <= 0 {
		p.Interval = api.DefaultRestart().Interval
	}
	if ran >= p.Interval {
		t = tries{}
	}
	if t.Since.IsZero() || now.Before(t.Since) || now.Sub(t.Since) >= p.Interval {
		t.Since, t.Used = now, 0
	}
	delay = backoff(p.Delay, max(p.Delay, p.MaxDelay), t.Streak)
	if slowly {
		delay = max(p.Delay, p.MaxDelay)
	}
	if p.Attempts >= 0 && t.Used >= p.Attempts {
		if p.Mode == api.RestartFail {
			return t, 0, false
		}
		next := t.Since.Add(p.Interval)
		delay = max(delay, next.Sub(now))
		t.Since, t.Used = next, 0
	}
	t.Used++
	t.Streak++
	return t, delay, true
}

// backoff doubles base n times, up to ceiling.
func backoff(base, ceiling time.Duration, n int) time.Duration {
	d := base
	for ; n > 0 && d < ceiling; n-- {
		d *= 2
	}
	return min(d, ceiling)
}
