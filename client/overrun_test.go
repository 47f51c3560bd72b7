package client

import (
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
)

// bounded makes a job of one that completes, whose runs may take so long.
func bounded(d time.Duration) func(*api.Job) {
	return func(j *api.Job) {
		j.Type, j.Tasks[0].MaxRunDuration = api.JobBatch, d
	}
}

// TestOverrun: what a run that takes too long leads to, under each kind of restart policy.
func TestOverrun(t *testing.T) {
	const text = "ran longer than its max_run_duration 10s"
	unlimited, none, two := api.DefaultRestart(), api.DefaultRestart(), api.DefaultRestart()
	none.Mode, none.Attempts = api.RestartFail, 0
	two.Mode, two.Attempts = api.RestartFail, 2
	for _, c := range []struct {
		name    string
		restart api.Restart
		stage   stage
		message string
	}{
		{"unlimited", unlimited, stageStop, text},
		{"none", none, stageStop, text + "; no restart left of 0 within 10m"},
		{"two", two, stageWait, text + "; restart 1 in 1s"},
	} {
		p := &policy{Restart: c.restart, Batch: true, MaxRun: 10 * time.Second}
		a := run(0)
		if at := a.overdue(p); !at.Equal(time.UnixMilli(a.Status.StartedAt).Add(10 * time.Second)) {
			t.Errorf("%s: it is overdue at %v", c.name, at)
		}
		over := a.overdue(p)
		a = step(a, evTick{}, p, over.Add(-time.Millisecond))
		if a.Stage != stageRun {
			t.Errorf("%s: it was ended before its time", c.name)
		}
		a = step(a, evTick{}, p, over)
		if a.Stage != c.stage || a.Status.Message != c.message || a.Status.Failure != api.FailureTime || a.Status.Phase.Terminal() {
			t.Errorf("%s: %d, %+v", c.name, a.Stage, a.Status)
		}
		if c.stage == stageWait {
			if next, _ := a.next(over.Add(time.Minute), true); next != opClean {
				t.Errorf("%s: the next run would begin beside the one that is to end", c.name)
			}
			continue
		}
		// An exit 0 in the last moment does not undo it.
		a = step(a, evExited{Key: a.key(), Exit: driver.Exit{FinishedAt: over.Add(time.Second)}}, p, over.Add(time.Second))
		a = step(a, evStopped{}, p, over.Add(time.Second))
		if s := a.Status; s.Phase != api.PhaseFailed || s.Failure != api.FailureTime || s.Message != c.message {
			t.Errorf("%s: it ends as %+v", c.name, s)
		}
	}
}

// TestTimeIsUpWhetherTheAgentIsThereOrNot: it counts from the start of the run. A run that ended in its time while the agent
// was away has completed.
func TestTimeIsUpWhetherTheAgentIsThereOrNot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		long := w.s.place(w.c.NodeID(), job(nil, bounded(10*time.Minute), named("long")), 0)
		longer := w.s.place(w.c.NodeID(), job(nil, bounded(time.Hour), named("longer")), 0)
		short := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "5m"}, bounded(10*time.Minute), named("short")), 0)
		w.after(4 * time.Minute)
		w.wantCount(3)
		w.down()
		w.after(20 * time.Minute)
		w.up()
		w.after(2 * time.Minute)
		if st := w.wantPhase(long, 0, api.PhaseFailed); st.Failure != api.FailureTime || st.Message != "ran longer than its max_run_duration 10m" {
			t.Errorf("it ends as %+v", st)
		}
		w.wantPhase(short, 0, api.PhaseComplete)
		w.wantPhase(longer, 0, api.PhaseRunning)
		w.after(35 * time.Minute)
		w.wantPhase(longer, 0, api.PhaseFailed)
		w.wantCount(0)
	})
}
