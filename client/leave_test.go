package client

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
)

func leaving(delay time.Duration) func(*api.Job) {
	return func(j *api.Job) { j.Tasks[0].ShutdownDelay = delay }
}

// TestWithdraw: what a stop makes of an allocation whose task has a shutdown delay, and when it is asked to end.
func TestWithdraw(t *testing.T) {
	const delay = 10 * time.Second
	healthy := func(a *allocation) { a.Status.Health = api.HealthHealthy }
	waiting := with(run(1), func(a *allocation) {
		a.Stage, a.Run, a.Due, a.Status.Phase = stageWait, driver.Handle{}, at(20), api.PhasePending
	})
	for _, c := range []struct {
		name  string
		a     allocation
		delay time.Duration
		hurry bool
		stage stage
		due   time.Time
		says  string
	}{
		{"a healthy instance leaves first", with(run(0), healthy), delay, false, stageStop, at(15), "stopping: out of rotation for 10s before it is asked to end"},
		{"one that has just started, too", run(0), delay, false, stageStop, at(15), "stopping: out of rotation for 10s before it is asked to end"},
		{"no delay is asked for", with(run(0), healthy), 0, false, stageStop, time.Time{}, ""},
		{"somebody is in a hurry", with(run(0), healthy), delay, true, stageStop, time.Time{}, ""},
		{"an unhealthy one is out of rotation already", with(run(0), func(a *allocation) { a.Status.Health = api.HealthUnhealthy }), delay, false, stageStop, time.Time{}, ""},
		{"what waits for a restart does not run", waiting, delay, false, stageDone, time.Time{}, "stopped"},
		{"a start in flight is not in rotation yet", with(waiting, func(a *allocation) { a.Stage = stageStart }), delay, false, stageStop, time.Time{}, ""},
		{"the driver has not said yet whether it runs", with(run(0), func(a *allocation) { a.Stage = stageLook }), delay, false, stageLook, time.Time{}, "stopping: out of rotation for 10s before it is asked to end"},
	} {
		a := c.a
		a.withdraw("stopped", c.delay, c.hurry, at(5))
		if a.Stage != c.stage || !a.Due.Equal(c.due) || a.Status.Message != c.says || a.Status.Health == api.HealthHealthy && c.delay > 0 && !c.hurry {
			t.Errorf("%s: stage %d, due %v, %v, %q; want stage %d, due %v, %q", c.name, a.Stage, a.Due, a.Status.Health, a.Status.Message, c.stage, c.due, c.says)
		}
	}
}

func TestLeavesTheRotationBeforeItEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, leaving(30*time.Second)), 0)
		w.after(time.Second + api.DefaultMinHealthyTime)
		w.wantHealth(id, api.HealthHealthy)
		w.s.stop(id)
		w.after(29 * time.Second)
		st := w.wantPhase(id, 0, api.PhaseRunning)
		if st.Health != api.HealthUnknown || st.Message != "stopping: out of rotation for 30s before it is asked to end" {
			t.Errorf("while it leaves it is reported as %+v", st)
		}
		w.wantCount(1)
		w.after(2 * time.Second)
		if st := w.wantPhase(id, 0, api.PhaseComplete); st.Message != "stopped" {
			t.Errorf("it ends as %+v", st)
		}
		w.wantCount(0)
	})
}

// TestLeavingOutlivesTheAgent: an agent that is restarted in the middle of a delay neither begins it anew nor forgets it.
func TestLeavingOutlivesTheAgent(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, time.Minute} {
		t.Run(fmt.Sprint(away), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.up()
				id := w.s.place(w.c.NodeID(), job(nil, leaving(30*time.Second)), 0)
				w.after(10 * time.Second)
				before := w.only()
				w.s.stop(id)
				w.after(10 * time.Second)
				w.down()
				w.after(away)
				w.up()
				if away < 20*time.Second {
					w.after(20*time.Second - away - time.Second)
					if st := w.wantPhase(id, 0, api.PhaseRunning); st.Health != api.HealthUnknown || w.only() != before {
						t.Errorf("after the restart it is reported as %+v", st)
					}
				}
				w.after(2 * time.Second)
				w.wantPhase(id, 0, api.PhaseComplete)
				w.wantCount(0)
			})
		})
	}
}

func TestAHurryEndsTheDelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		waits := w.s.place(w.c.NodeID(), job(nil, leaving(time.Hour)), 0)
		runs := w.s.place(w.c.NodeID(), job(nil, leaving(time.Hour), named("other")), 0)
		w.after(10 * time.Second)
		w.s.stop(waits)
		w.after(time.Minute)
		w.wantPhase(waits, 0, api.PhaseRunning)
		w.s.stopNow(waits)
		w.s.stopNow(runs)
		w.after(time.Second)
		w.wantPhase(waits, 0, api.PhaseComplete)
		w.wantPhase(runs, 0, api.PhaseComplete)
		w.wantCount(0)
	})
}

// TestWhatEndsWhileItLeavesIsGone: nobody waits for the rest of the delay, and nothing is restarted.
func TestWhatEndsWhileItLeavesIsGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, leaving(time.Hour)), 0)
		w.after(10 * time.Second)
		w.s.stop(id)
		w.after(time.Minute)
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(time.Second)
		if st := w.wantPhase(id, 0, api.PhaseComplete); st.ExitCode != 1 {
			t.Errorf("it ends as %+v", st)
		}
		w.wantCount(0)
	})
}
