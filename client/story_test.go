package client

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
)

func TestRunsAndStopsWhatItIsAssigned(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		st := w.wantPhase(id, 0, api.PhaseRunning)
		if st.StartedAt == 0 || st.Message != "" {
			t.Errorf("a running instance is reported as %+v", st)
		}
		if i := w.only(); i.Job != "web" || i.Task != "web" || i.Version != 1 || !i.Running {
			t.Errorf("it runs as %+v", i)
		}
		w.s.stop(id)
		w.after(time.Second)
		st = w.wantPhase(id, 0, api.PhaseComplete)
		if st.FinishedAt == 0 || st.Message != "stopped" {
			t.Errorf("a stopped instance is reported as %+v", st)
		}
		w.wantCount(0)
	})
}

func TestStopBeforeTheStartIsOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"start_delay": "1h"}), 0)
		w.after(time.Second)
		w.wantPhase(id, 0, api.PhasePreparing)
		w.s.stop(id)
		w.after(time.Second)
		w.wantPhase(id, 0, api.PhaseComplete)
		w.wantCount(0)
	})
}

func TestStopOfWhatNeverWasHere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.s.shut("s1")
		w.s.shut("s2")
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.s.stop(id)
		w.s.open("s1")
		w.after(10 * time.Second)
		w.wantPhase(id, 0, api.PhaseComplete)
		w.wantCount(0)
	})
}

func TestKillsWhatIgnoresTheSignal(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"ignore_signal": true}), 0)
		w.after(time.Second)
		w.s.stop(id)
		w.after(api.DefaultKillTimeout - time.Second)
		w.wantPhase(id, 0, api.PhaseRunning)
		w.after(2 * time.Second)
		st := w.wantPhase(id, 0, api.PhaseComplete)
		if st.Signal != 9 {
			t.Errorf("it was killed, and is reported as %+v", st)
		}
	})
}

func TestCrashLoopBacksOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "1s", "exit_code": 3}), 0)
		w.after(1100 * time.Millisecond)
		st := w.wantPhase(id, 1, api.PhasePending)
		if st.Message != "exit code 3; restart 1 in 1s" || st.ExitCode != 3 || st.Failure != api.FailureExit {
			t.Errorf("a crash is reported as %+v", st)
		}
		// runs 1 s, waits 1, runs 1, waits 2, runs 1, waits 4, runs 1, waits 8
		w.after(17 * time.Second)
		w.wantPhase(id, 4, api.PhasePending)
		w.after(time.Second)
		w.wantPhase(id, 4, api.PhaseRunning)
		if i := w.only(); i.Handle.Key.Restarts != 4 {
			t.Errorf("the fifth instance is %+v", i)
		}
	})
}

func TestRestartPolicyUsedUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "10ms", "oom": true}, func(j *api.Job) {
			j.Tasks[0].Restart.Attempts, j.Tasks[0].Restart.Mode = 2, api.RestartFail
		}), 0)
		w.after(time.Minute)
		st := w.wantPhase(id, 2, api.PhaseFailed)
		if want := "killed for want of memory (limit 128 MiB); no restart left of 2 within 10m"; st.Message != want || st.Failure != api.FailureOOM {
			t.Errorf("its end is reported as %+v, want %q", st, want)
		}
		w.wantCount(0)
	})
}

func TestBatchCompletes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		good := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "5s"}, batchJob), 0)
		bad := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "5s", "exit_code": 1}, batchJob, func(j *api.Job) {
			j.Name, j.Tasks[0].Restart.Attempts, j.Tasks[0].Restart.Mode = "bad", 0, api.RestartFail
		}), 0)
		w.after(6 * time.Second)
		if st := w.wantPhase(good, 0, api.PhaseComplete); st.ExitCode != 0 || st.Failure != api.FailureNone {
			t.Errorf("a batch instance that ended well is reported as %+v", st)
		}
		if st := w.wantPhase(bad, 0, api.PhaseFailed); st.ExitCode != 1 || st.Failure != api.FailureExit {
			t.Errorf("a batch instance that failed is reported as %+v", st)
		}
	})
}

func TestServiceThatExitsWithZeroFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "1s"}), 0)
		w.after(1500 * time.Millisecond)
		if st := w.wantPhase(id, 1, api.PhasePending); st.Failure != api.FailureExit {
			t.Errorf("a service that exited with 0 is reported as %+v", st)
		}
	})
}

func TestStartThatFailsIsTriedAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.engine.Break("the engine is down")
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(500 * time.Millisecond)
		st := w.wantPhase(id, 1, api.PhasePending)
		if st.Message != "start failed: the engine is down; restart 1 in 1s" || st.Failure != api.FailureStart {
			t.Errorf("a start that failed is reported as %+v", st)
		}
		w.engine.Break("")
		w.after(2 * time.Second)
		if st := w.wantPhase(id, 1, api.PhaseRunning); st.Failure != api.FailureNone {
			t.Errorf("after its start it is reported as %+v", st)
		}
	})
}

func TestUnknownNameFailsTheStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, func(j *api.Job) {
			j.Tasks[0].Env = map[string]string{"A": "${meta.zone}", "B": "${meta.rack}", "C": "${attr.gpu}"}
		}), 0)
		w.after(time.Second)
		st := w.wantPhase(id, 1, api.PhasePending)
		if want := "start failed: node node-a does not know ${attr.gpu}, ${meta.zone}; restart 1 in 5m"; st.Message != want {
			t.Errorf("it is reported with %q, want %q", st.Message, want)
		}
	})
}

func TestPortTakenFailsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.engine.TakePort(20001, true)
		id := w.s.place(w.c.NodeID(), job(nil), 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		w.after(time.Second)
		st := w.wantPhase(id, 0, api.PhaseFailed)
		if st.Failure != api.FailurePortTaken || st.Port != 20001 {
			t.Errorf("a taken port is reported as %+v", st)
		}
	})
}

func TestHungCallHoldsUpNobodyElse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		other := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		release := make(chan struct{})
		var starts atomic.Int32
		w.engine.Hang(func(op string, key driver.Key) <-chan struct{} {
			if op == "start" && starts.Add(1) == 1 {
				return release
			}
			return nil
		})
		hung := w.s.place(w.c.NodeID(), job(nil), 1)
		w.after(time.Second)
		next := w.s.place(w.c.NodeID(), job(nil), 2)
		w.s.stop(other)
		w.after(time.Second)
		w.wantPhase(hung, 0, api.PhasePreparing)
		w.wantPhase(next, 0, api.PhaseRunning)
		w.wantPhase(other, 0, api.PhaseComplete)
		close(release)
		w.after(time.Second)
		w.wantPhase(hung, 0, api.PhaseRunning)
	})
}

func TestStopThatFailsIsTriedAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.engine.Break("the engine is down")
		w.s.stop(id)
		w.after(500 * time.Millisecond)
		if st := w.wantPhase(id, 0, api.PhaseRunning); st.Message != "stop failed: the engine is down; next try in 1s" {
			t.Errorf("a stop that failed is reported as %+v", st)
		}
		w.engine.Break("")
		w.after(time.Second)
		w.wantPhase(id, 0, api.PhaseComplete)
		w.wantCount(0)
	})
}

func TestEraseByAStranger(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.down()
		w.engine.Erase(id)
		w.up()
		w.after(2 * time.Second)
		w.wantPhase(id, 1, api.PhaseRunning)
	})
}

func TestDevLeavesNothingBehind(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.tune = func(c *Config) { c.Dev = true }
		w.up()
		w.s.place(w.c.NodeID(), job(nil), 0)
		w.s.place(w.c.NodeID(), job(map[string]any{"ignore_signal": true}, named("deaf")), 0)
		w.s.place(w.c.NodeID(), job(map[string]any{"start_delay": "1h"}, named("slow")), 0)
		w.after(time.Second)
		w.wantCount(2)
		began := time.Now()
		w.down()
		w.wantCount(0)
		if took := time.Since(began); took > api.DefaultKillTimeout+time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestMachineThatCanNotBeMeasured(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.tune = func(c *Config) { c.Machine = brokenMachine{} }
		c, err := New(w.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); !errors.Is(err, errBrokenMachine) {
			t.Errorf("run gives %v", err)
		}
	})
}

var errBrokenMachine = errors.New("no /proc here")

type brokenMachine struct{ fixedMachine }

func (brokenMachine) Facts(string) (map[string]string, api.Resources, error) {
	return nil, api.Resources{}, errBrokenMachine
}
