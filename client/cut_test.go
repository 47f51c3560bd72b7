package client

import (
	"context"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
)

// stopAlone makes a job whose instances may be without any server for so long.
func stopAlone(d time.Duration) func(*api.Job) {
	return func(j *api.Job) { j.Tasks[0].Disconnect.StopOnClientAfter = d }
}

// TestStrand: what becomes of an allocation that has been without any server for too long, by where it stands.
func TestStrand(t *testing.T) {
	p := &policy{Restart: api.DefaultRestart(), Alone: 2 * time.Minute}
	const text = "cut off from the servers for 2m, stop_on_client_after is 2m"
	began := time.Now()
	for _, c := range []struct {
		name  string
		stage stage
		want  stage
		phase api.Phase
	}{
		{"it runs", stageRun, stageStop, api.PhaseRunning},
		{"it is being started", stageStart, stageStop, api.PhasePreparing},
		{"it waits for its next start", stageWait, stageDone, api.PhaseFailed},
		{"it is stopping", stageStop, stageStop, api.PhaseRunning},
		{"it is over", stageDone, stageDone, api.PhaseComplete},
	} {
		a := run(0)
		a.apart, a.Stage, a.Status.Phase = began, c.stage, c.phase
		if c.stage == stageWait {
			a.Run, a.Status.Phase = driver.Handle{}, api.PhasePending
		}
		if c.stage == stageStop {
			a.Why = "stopped"
		}
		a = step(a, evTick{}, p, began.Add(2*time.Minute-time.Millisecond))
		if a.Stage != c.stage {
			t.Errorf("%s: it was ended before its time", c.name)
		}
		a = step(a, evTick{}, p, began.Add(2*time.Minute))
		if a.Stage != c.want || a.Status.Phase != c.phase {
			t.Errorf("%s: stage %d, %+v", c.name, a.Stage, a.Status)
		}
		switch c.name {
		case "it runs":
			a = step(a, evStopped{}, p, began.Add(3*time.Minute))
		case "it is being started":
			a = step(a, evRefused{Err: context.Canceled}, p, began.Add(3*time.Minute))
		default:
			continue
		}
		if s := a.Status; s.Phase != api.PhaseFailed || s.Failure != api.FailureCut || s.Message != text {
			t.Errorf("%s: it ends as %+v", c.name, s)
		}
	}
	if a := run(0); !a.stranded(p).IsZero() {
		t.Error("one that is not alone has a time")
	}
}

// TestAClientThatIsCutOffStopsWhatMayNotGoOn, and nothing else, and says so when it is back.
func TestAClientThatIsCutOffStopsWhatMayNotGoOn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		short := w.s.place(w.c.NodeID(), job(nil, named("short"), stopAlone(2*time.Minute)), 0)
		long := w.s.place(w.c.NodeID(), job(nil, named("long"), stopAlone(time.Hour)), 0)
		ever := w.s.place(w.c.NodeID(), job(nil, named("ever")), 0)
		w.after(10 * time.Second)
		w.wantCount(3)
		w.s.cut(time.Minute, w)
		w.after(90 * time.Second)
		w.wantCount(3) // it was away twice, and not for long
		w.s.cut(110*time.Second, w)
		w.wantCount(3)
		w.s.cut(3*time.Minute, w)
		w.wantCount(2)
		if st := w.wantPhase(short, 0, api.PhaseFailed); st.Failure != api.FailureCut || st.Message != "cut off from the servers for 2m, stop_on_client_after is 2m" {
			t.Errorf("it is reported as %+v", st)
		}
		w.s.cut(2*time.Hour, w)
		w.wantCount(1)
		w.wantPhase(long, 0, api.PhaseFailed)
		w.wantPhase(ever, 0, api.PhaseRunning)
	})
}

// TestCutOffOverARestart: the time goes on where the agent was cut off when it ended. Where it was not, what matters is what the
// servers say when it is back, and it counts anew if they say nothing.
func TestCutOffOverARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, stopAlone(2*time.Minute)), 0)
		w.after(10 * time.Second)
		w.down()
		w.after(time.Hour)
		w.up()
		w.after(5 * time.Minute)
		w.wantPhase(id, 0, api.PhaseRunning)

		w.shutAll()
		w.after(time.Minute)
		w.down()
		w.up()
		w.after(50 * time.Second)
		w.wantCount(1)
		w.after(15 * time.Second)
		w.wantCount(0)
		w.down()
		w.up()
		w.openAll()
		w.after(10 * time.Second)
		w.wantPhase(id, 0, api.PhaseFailed)
		w.wantCount(0)

		id = w.s.place(w.c.NodeID(), job(nil, stopAlone(2*time.Minute)), 1)
		w.after(10 * time.Second)
		w.down()
		w.shutAll()
		w.up()
		w.after(110 * time.Second)
		w.wantCount(1)
		w.after(15 * time.Second)
		w.wantCount(0)
		w.openAll()
		w.after(10 * time.Second)
		w.wantPhase(id, 0, api.PhaseFailed)
	})
}

// TestAServerWithoutALeaderIsNone: what it answers, the cluster does not know.
func TestAServerWithoutALeaderIsNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, stopAlone(2*time.Minute)), 0)
		w.after(10 * time.Second)
		w.s.change(func(uint64) { w.s.leading = map[string]bool{"s1": false, "s2": false} })
		w.after(150 * time.Second)
		w.wantCount(0)
		w.s.change(func(uint64) { w.s.leading = nil })
		w.after(time.Minute)
		w.wantPhase(id, 0, api.PhaseFailed)
	})
}

// TestAfterAnAbsenceEverythingIsToldAnew: what the servers had is no longer relied on, so the node says all of it again, and only
// then that it is ready.
func TestAfterAnAbsenceEverythingIsToldAnew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		var ids []api.ID
		for slot := range uint32(5) {
			ids = append(ids, w.s.place(w.c.NodeID(), job(nil), slot))
		}
		w.after(time.Minute)
		w.s.set(func() { w.s.anew = true })
		w.s.cut(time.Minute, w)
		w.s.set(func() {
			if w.s.untold != 0 || w.s.ready == 0 {
				t.Errorf("it was ready %d times, once before %d instances were told of", w.s.ready, w.s.untold)
			}
		})
		for _, id := range ids {
			if st := w.wantPhase(id, 0, api.PhaseRunning); st.Health != api.HealthHealthy {
				t.Errorf("%+v", st)
			}
		}
	})
}

func (w *world) shutAll() {
	for _, addr := range w.addrs {
		w.s.shut(addr)
	}
}

func (w *world) openAll() {
	for _, addr := range w.addrs {
		w.s.open(addr)
	}
}

// cut has no server answer for a time, and then all of them long enough to be heard.
func (s *servers) cut(d time.Duration, w *world) {
	w.shutAll()
	w.after(d)
	w.openAll()
	w.after(10 * time.Second)
}
