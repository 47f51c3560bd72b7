package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/client/check"
	"cube/client/driver"
)

// webCheck is a check that is probed every ten seconds and has no start period.
func webCheck(change ...func(*api.Check)) api.Check {
	c := api.DefaultCheck("web")
	c.Type, c.Port, c.Path, c.Timeout, c.StartPeriod = api.CheckHTTP, "http", "/", time.Second, 0
	for _, f := range change {
		f(&c)
	}
	return c
}

// TestHealthStories probes one check of a run that began at 0, a result each second, and reads the health after each: - is
// a probe that fails, + one that passes; u unknown, h healthy, x unhealthy, r that the instance is restarted.
func TestHealthStories(t *testing.T) {
	for _, c := range []struct {
		name    string
		check   func(*api.Check)
		healthy time.Duration // min_healthy_time
		results string
		want    string
	}{
		{"passes", nil, 0, "+", "h"},
		{"not before min_healthy_time", nil, 3500 * time.Millisecond, "+++++", "uuuhh"},
		{"three failures", nil, 0, "+---", "hhhx"},
		{"two failures are none", nil, 0, "+--+--+", "hhhhhhh"},
		{"never well", nil, 0, "---", "uux"},
		{"well again", nil, 0, "---+", "uuxh"},
		{"slow to trust", func(c *api.Check) { c.SuccessBeforePassing = 3 }, 0, "++-+++-++", "uuuuuhhhh"},
		{"quick to despair", func(c *api.Check) { c.FailuresBeforeCritical = 1 }, 0, "+-", "hx"},
		{"the start period forgives", func(c *api.Check) { c.StartPeriod = 4500 * time.Millisecond }, 0, "-------", "uuuuuux"},
		{"until it has passed once", func(c *api.Check) { c.StartPeriod = time.Minute }, 0, "--+---", "uuhhhx"},
		{"readiness alone restarts nothing", nil, 0, "+---------", "hhhxxxxxxx"},
		{"liveness", func(c *api.Check) { c.RestartAfter = 5 }, 0, "+-----", "hhhxxr"},
		{"liveness counts failures in a row", func(c *api.Check) { c.RestartAfter = 3 }, 0, "+--+--+", "hhhhhhh"},
		{"liveness before it is called ill", func(c *api.Check) { c.RestartAfter = 2 }, 0, "+--", "hhr"},
		{"liveness waits for the start", func(c *api.Check) { c.RestartAfter, c.StartPeriod = 1, 2500*time.Millisecond }, 0, "---", "uur"},
		{"whoever falls again is watched longer", func(c *api.Check) { c.FailuresBeforeCritical = 1 }, 0, "-+-++++++++", "xhxxxxxxhhh"},
	} {
		p := &policy{Restart: api.DefaultRestart(), MinHealthy: c.healthy, Checks: []api.Check{webCheck()}}
		if c.check != nil {
			c.check(&p.Checks[0])
		}
		a, got := run(0), ""
		a.examine(p, at(0))
		for i, result := range c.results {
			fault := ""
			if result == '-' {
				fault = "connection refused"
			}
			before := a
			a = step(a, evProbed{Key: before.key(), Version: 1, Began: at(i + 1), Fault: fault}, p, at(i+1))
			if before.vigil == a.vigil || before.vigil.checks[0] == a.vigil.checks[0] && i == 0 {
				t.Errorf("%s: the state before was changed", c.name)
			}
			if a.Stage == stageWait {
				got += "r"
				break
			}
			a = step(a, evTick{}, p, at(i+1))
			got += map[api.HealthStatus]string{api.HealthUnknown: "u", api.HealthHealthy: "h", api.HealthUnhealthy: "x"}[a.Status.Health]
		}
		if got != c.want {
			t.Errorf("%s: after %s it is %s, want %s", c.name, c.results, got, c.want)
		}
	}
}

// TestWhatHealthSays holds the words to what happened, and the number of statuses to what is worth one.
func TestWhatHealthSays(t *testing.T) {
	p := &policy{Restart: api.Restart{Attempts: 0, Interval: time.Minute, Mode: api.RestartFail}, Checks: []api.Check{
		webCheck(), webCheck(func(c *api.Check) { c.Name, c.RestartAfter = "alive", 2 }),
	}}
	a := run(0)
	probed := func(sec, check int, fault, message string, seq uint64) {
		t.Helper()
		a = step(a, evProbed{Key: driver.Key{Allocation: 7}, Version: 1, Check: check, Began: at(sec), Fault: fault}, p, at(sec))
		if a.Status.Message != message || a.Status.Seq != seq {
			t.Errorf("after %d s: %q, status %d; want %q, status %d", sec, a.Status.Message, a.Status.Seq, message, seq)
		}
	}
	a.examine(p, at(0))
	probed(1, 0, "503", "check web: 503", 6)
	probed(2, 0, "connection refused", "check web: 503", 6) // what changes often is told seldom
	probed(3, 1, "", "check web: 503", 6)
	probed(4, 0, "", "", 7) // healthy
	probed(5, 0, "503", "", 7)
	probed(6, 0, "503", "", 7)
	probed(7, 0, "503", "check web: 503", 8) // unhealthy
	probed(8, 0, "no route", "check web: 503", 8)
	probed(9, 1, "EOF", "check web: 503", 8)
	if a.Status.Health != api.HealthUnhealthy || a.Stage != stageRun {
		t.Fatalf("%+v", a.Status)
	}
	const doom = "check alive failed 2 times in a row: EOF; no restart left of 0 within 1m"
	probed(10, 1, "EOF", doom, 10)
	if next, _ := a.next(at(10), true); a.Stage != stageStop || next != opStop || a.Status.Phase != api.PhaseRunning {
		t.Fatalf("an instance that is to fail is stopped first: %+v", a)
	}
	a = step(a, evExited{Key: a.key(), Exit: driver.Exit{Code: 143, Signal: 15, FinishedAt: at(11)}}, p, at(11))
	a = step(a, evStopped{}, p, at(11))
	if s := a.Status; s.Phase != api.PhaseFailed || s.Message != doom || s.Failure != api.FailureCheck || s.Health != api.HealthUnknown || s.ExitCode != 143 {
		t.Errorf("%+v", s)
	}
}

// TestNothingStartsBesideWhatIsOusted: the next instance waits until the one that was ended for its health is gone.
func TestNothingStartsBesideWhatIsOusted(t *testing.T) {
	p := &policy{Restart: api.DefaultRestart(), Checks: []api.Check{webCheck(func(c *api.Check) { c.RestartAfter = 1 })}}
	a := run(0)
	a.examine(p, at(0))
	a = step(a, evProbed{Key: a.key(), Version: 1, Fault: "EOF", Began: at(1)}, p, at(1))
	if a.Status.Message != "check web failed once in a row: EOF; restart 1 in 1s" || a.Status.Failure != api.FailureCheck || a.Status.Restarts != 1 {
		t.Fatalf("%+v", a.Status)
	}
	if next, _ := a.next(at(1), true); next != opClean {
		t.Fatalf("next is %d", next)
	}
	stuck := step(a, evCleaned{Handle: a.Old[0], Err: context.DeadlineExceeded}, p, at(5))
	if next, wake := stuck.next(at(5), true); next != opNone || !wake.Equal(at(6)) {
		t.Errorf("while it will not go: next %d at %v", next, wake)
	}
	stopping := step(stuck, evStop{Why: "stopped"}, p, at(5))
	if stopping.Status.Phase.Terminal() {
		t.Errorf("it was called ended while its instance runs: %+v", stopping.Status)
	}
	stopping = step(stopping, evCleaned{Handle: a.Old[0]}, p, at(7))
	if s := stopping.Status; s.Phase != api.PhaseComplete || s.Message != "stopped" {
		t.Errorf("%+v", s)
	}
	gone := step(stuck, evCleaned{Handle: a.Old[0]}, p, at(7))
	if next, _ := gone.next(at(7), true); next != opStart {
		t.Errorf("when it is gone: next %d", next)
	}
}

func TestHealthWithoutChecks(t *testing.T) {
	p := &policy{Restart: api.DefaultRestart(), MinHealthy: 5 * time.Second}
	a := run(0)
	probe, wake := a.examine(p, at(1))
	if probe != nil || !wake.Equal(at(5)) || a.vigil != nil {
		t.Errorf("probes %v, wakes at %v", probe, wake)
	}
	if a = step(a, evTick{}, p, at(4)); a.Status.Health != api.HealthUnknown {
		t.Error("healthy after four seconds")
	}
	if a = step(a, evTick{}, p, at(5)); a.Status.Health != api.HealthHealthy || a.Status.Seq != 6 {
		t.Errorf("%+v", a.Status)
	}
	if _, wake = a.examine(p, at(5)); !wake.IsZero() {
		t.Errorf("a healthy instance without checks is looked at again at %v", wake)
	}
	a = step(a, evExited{Key: a.key(), Exit: driver.Exit{Code: 1, FinishedAt: at(9)}}, p, at(9))
	if a.Status.Health != api.HealthUnknown {
		t.Errorf("what does not run is %v", a.Status.Health)
	}
	now := &policy{Restart: api.DefaultRestart()}
	b := with(run(0), func(a *allocation) { a.Stage, a.Status.Phase = stageStart, api.PhasePreparing })
	if b = step(b, evStarted{Handle: run(0).Run, At: at(1)}, now, at(1)); b.Status.Health != api.HealthHealthy {
		t.Error("min_healthy_time = 0 is healthy at once")
	}
}

// TestVigilFollowsItsRun: results of another run or of checks that were replaced count for nothing, and new checks begin
// from the health that there is.
func TestVigilFollowsItsRun(t *testing.T) {
	p := &policy{Restart: api.DefaultRestart(), Checks: []api.Check{webCheck(func(c *api.Check) { c.FailuresBeforeCritical = 1 })}}
	a := run(1)
	a.examine(p, at(0))
	for _, stale := range []evProbed{{Key: driver.Key{Allocation: 7}, Version: 1}, {Key: a.key(), Version: 2}, {Key: a.key(), Version: 1, Check: 1}} {
		stale.Fault = "EOF"
		if b := step(a, stale, p, at(1)); b.Status != a.Status || b.vigil != a.vigil {
			t.Errorf("%+v counts", stale)
		}
	}
	a = step(a, evProbed{Key: a.key(), Version: 1, Began: at(1)}, p, at(1))
	a.Version = 2
	if probe, wake := a.examine(p, at(2)); probe != nil || wake.Before(at(2)) || wake.After(at(12)) || a.Status.Health != api.HealthHealthy {
		t.Errorf("after an update: probes %v, wakes at %v, %v", probe, wake, a.Status.Health)
	}
	a = step(a, evProbed{Key: a.key(), Version: 2, Began: at(3), Fault: "EOF"}, p, at(3))
	if a.Status.Health != api.HealthUnhealthy {
		t.Error("the new checks do not count")
	}
	none := &policy{Restart: api.DefaultRestart()}
	a.Version = 3
	a.examine(none, at(4))
	if a = step(a, evTick{}, none, at(4)); a.Status.Health != api.HealthHealthy || a.vigil != nil {
		t.Error("an instance that has no checks any more is as well as it runs")
	}
}

// TestProbesAreDue holds any history of results to what is promised of probes: one in flight a check, never sooner than the
// interval (or the start's pace), and always a next one.
func TestProbesAreDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &policy{Restart: api.DefaultRestart(), MinHealthy: time.Duration(rapid.IntRange(0, 20).Draw(t, "healthy")) * time.Second}
		for i := range rapid.IntRange(1, 3).Draw(t, "checks") {
			p.Checks = append(p.Checks, webCheck(func(c *api.Check) {
				c.Name = fmt.Sprint("c", i)
				c.Interval = time.Duration(rapid.IntRange(1, 20).Draw(t, "interval")) * time.Second
				c.StartPeriod = time.Duration(rapid.IntRange(0, 30).Draw(t, "start")) * time.Second
				c.SuccessBeforePassing, c.FailuresBeforeCritical = rapid.IntRange(1, 3).Draw(t, "s"), rapid.IntRange(1, 3).Draw(t, "f")
			}))
		}
		a, now := run(0), at(0)
		asked, last := map[int]time.Time{}, map[int]time.Time{}
		changes, seq := 0, a.Status.Seq
		for range 200 {
			probe, wake := a.examine(p, now)
			for _, i := range probe {
				if _, twice := asked[i]; twice {
					t.Fatalf("check %d is probed twice at once", i)
				}
				if l, ok := last[i]; ok && now.Sub(l) < min(startPace, p.Checks[i].Interval) {
					t.Fatalf("check %d is probed again after %v", i, now.Sub(l))
				}
				asked[i], last[i] = now, now
			}
			if wake.IsZero() && len(asked) == 0 {
				t.Fatal("nothing is asked and nothing will be")
			}
			for i, began := range asked {
				if rapid.Bool().Draw(t, "answers") {
					delete(asked, i)
					fault := rapid.SampledFrom([]string{"", "", "refused", "EOF"}).Draw(t, "fault")
					a = step(a, evProbed{Key: a.key(), Version: 1, Check: i, Began: began, Fault: fault}, p, now)
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond)
			a = step(a, evTick{}, p, now)
			if a.Status.Seq > seq {
				changes, seq = changes+1, a.Status.Seq
			}
		}
		spent := now.Sub(at(0))
		if most := 20 + 3*int(spent/(10*time.Second)); changes > most {
			t.Fatalf("%d statuses in %v", changes, spent)
		}
	})
}

// patients are instances under probe: what each of them answers, by port.
type patients struct {
	mu     sync.Mutex
	faults map[string]string
	probes int
	inside int
	most   int
	takes  time.Duration
}

func (p *patients) probe(ctx context.Context, c *api.Check, t check.Target) string {
	p.mu.Lock()
	p.probes, p.inside = p.probes+1, p.inside+1
	p.most = max(p.most, p.inside)
	fault, takes := p.faults[t.Address], p.takes
	p.mu.Unlock()
	pause(ctx, takes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside--
	return fault
}

func (p *patients) ill(address, fault string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[address] = fault
}

func (p *patients) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes
}

// inClinic runs a story in which probes are answered by patients.
func inClinic(t *testing.T, story func(t *testing.T, w *world, p *patients)) {
	p := &patients{faults: map[string]string{}}
	inWorld(t, func(t *testing.T, w *world) {
		w.alter = func(c *Client) { c.probe = p.probe }
		w.up()
		story(t, w, p)
	})
}

// checked gives the job's task a check, and the port that it asks.
func checked(change ...func(*api.Check)) func(*api.Job) {
	return func(j *api.Job) {
		j.Tasks[0].Ports = []api.Port{{Label: "http", To: 80}}
		j.Tasks[0].Checks = []api.Check{webCheck(change...)}
	}
}

func restartAfter(n int) func(*api.Check) { return func(c *api.Check) { c.RestartAfter = n } }

func (w *world) wantHealth(id api.ID, want api.HealthStatus) api.AllocationStatus {
	w.Helper()
	st := w.s.status(id)
	if st.Health != want {
		w.Errorf("the servers have it as %v and %v (%q), want it %v", st.Phase, st.Health, st.Message, want)
	}
	return st
}

func TestAnInstanceFallsIllAndRecovers(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		id := w.s.place(w.c.NodeID(), job(nil, checked()), 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		w.after(time.Second)
		w.wantHealth(id, api.HealthUnknown)
		w.after(5 * time.Second)
		w.wantHealth(id, api.HealthHealthy)
		p.ill("10.0.0.1:20001", "503 Service Unavailable")
		w.after(15 * time.Second)
		w.wantHealth(id, api.HealthHealthy)
		w.after(15 * time.Second)
		if st := w.wantHealth(id, api.HealthUnhealthy); st.Message != "check web: 503 Service Unavailable" || st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
		w.after(time.Hour)
		if n := len(w.s.history(id)); n > 5 {
			t.Errorf("%d statuses of an instance that stays ill", n)
		}
		p.ill("10.0.0.1:20001", "")
		w.after(11 * time.Second)
		if st := w.wantHealth(id, api.HealthHealthy); st.Message != "" || st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
		before := p.count()
		w.after(time.Hour)
		if n := p.count() - before; n < 355 || n > 365 {
			t.Errorf("%d probes in an hour, one every ten seconds", n)
		}
	})
}

func TestACheckThatFailsRestarts(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		id := w.s.place(w.c.NodeID(), job(nil, checked(restartAfter(4))), 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		w.after(10 * time.Second)
		first := w.only()
		p.ill("10.0.0.1:20001", "connection refused")
		w.after(41 * time.Second)
		p.ill("10.0.0.1:20001", "")
		w.after(10 * time.Second)
		st := w.wantHealth(id, api.HealthHealthy)
		if i := w.only(); st.Restarts != 1 || st.Phase != api.PhaseRunning || i == first || i.Handle.Key.Restarts != 1 {
			t.Errorf("%+v, %+v", st, i)
		}
		said := ""
		for _, s := range w.s.history(id) {
			said += s.Message + "\n"
		}
		if !strings.Contains(said, "check web failed 4 times in a row: connection refused; restart 1 in 1s") {
			t.Errorf("it said %q", said)
		}
	})
}

func TestAFailedCheckMayUseUpThePolicy(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		p.ill("10.0.0.1:20001", "EOF")
		id := w.s.place(w.c.NodeID(), job(map[string]any{"ignore_signal": true}, checked(restartAfter(3)), func(j *api.Job) {
			j.Tasks[0].Restart.Attempts, j.Tasks[0].Restart.Mode = 1, api.RestartFail
		}), 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		w.after(50 * time.Second)
		if w.wantPhase(id, 1, api.PhaseRunning); !strings.Contains(w.s.status(id).Message, "no restart left of 1") {
			t.Errorf("while it is killed: %+v", w.s.status(id))
		}
		w.after(5 * time.Second)
		if st := w.wantPhase(id, 1, api.PhaseFailed); st.Failure != api.FailureCheck || st.Health != api.HealthUnknown {
			t.Errorf("%+v", st)
		}
		w.wantCount(0)
	})
}

// TestHealthOutlivesTheAgent: an agent's restart changes neither an instance nor what the servers know of its health, and
// what has become of it meanwhile is found out.
func TestHealthOutlivesTheAgent(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		well := w.s.place(w.c.NodeID(), job(nil, checked()), 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		ill := w.s.place(w.c.NodeID(), job(nil, checked(restartAfter(100))), 1, api.PortBinding{Label: "http", Host: 20002, To: 80})
		plain := w.s.place(w.c.NodeID(), job(nil, named("plain")), 0)
		p.ill("10.0.0.1:20002", "EOF")
		w.after(time.Minute)
		w.wantHealth(well, api.HealthHealthy)
		w.wantHealth(ill, api.HealthUnhealthy)
		w.wantHealth(plain, api.HealthHealthy)
		was := []uint64{w.s.status(well).Seq, w.s.status(ill).Seq, w.s.status(plain).Seq}
		instances := w.instances()
		w.down()
		w.after(time.Minute)
		w.up()
		w.after(time.Minute)
		for i, id := range []api.ID{well, ill, plain} {
			if st := w.s.status(id); st.Seq != was[i] {
				t.Errorf("the restart made %+v", st)
			}
		}
		w.down()
		p.ill("10.0.0.1:20001", "EOF")
		p.ill("10.0.0.1:20002", "")
		w.after(time.Minute)
		w.up()
		w.after(time.Minute)
		w.wantHealth(well, api.HealthUnhealthy)
		w.wantHealth(ill, api.HealthHealthy)
		if now := w.instances(); fmt.Sprint(now) != fmt.Sprint(instances) {
			t.Errorf("instances were %+v and are %+v", instances, now)
		}
	})
}

// TestNewChecksTouchNoInstance: a version that changes the checks alone is taken over in place.
func TestNewChecksTouchNoInstance(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		j := job(nil, checked())
		id := w.s.place(w.c.NodeID(), j, 0, api.PortBinding{Label: "http", Host: 20001, To: 80})
		p.ill("10.0.0.1:20001", "EOF")
		w.after(time.Minute)
		w.wantHealth(id, api.HealthUnhealthy)
		before := w.only()
		w.s.change(func(index uint64) {
			next := job(nil, func(j *api.Job) { j.Version = 2 })
			w.s.jobs[specKey{"web", 2}], w.s.rows[id].Version, w.s.rows[id].index = next, 2, index
		})
		w.after(time.Second)
		w.wantHealth(id, api.HealthHealthy)
		if w.only() != before {
			t.Error("the instance was touched")
		}
		n := p.count()
		w.after(time.Minute)
		if p.count() != n {
			t.Error("a check that is gone is probed")
		}
	})
}

// TestAnExecCheckRunsInTheInstance takes the real prober and the fake engine's commands: a check asks the run that there is,
// in place of the one before, and one that hangs is ended with its time.
func TestAnExecCheckRunsInTheInstance(t *testing.T) {
	execs := func(words string, more ...func(*api.Check)) func(*api.Job) {
		return func(j *api.Job) {
			c := api.DefaultCheck("up")
			c.Type, c.Command, c.Timeout, c.StartPeriod = api.CheckExec, strings.Fields(words), time.Second, 0
			for _, f := range more {
				f(&c)
			}
			j.Tasks[0].Checks = []api.Check{c}
		}
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		well := w.s.place(w.c.NodeID(), job(nil, execs("echo fine")), 0)
		ill := w.s.place(w.c.NodeID(), job(nil, named("ill"), execs("warn no response ; exit 2")), 0)
		hangs := w.s.place(w.c.NodeID(), job(nil, named("hangs"), execs("sleep 1h", restartAfter(6))), 0)
		lacks := w.s.place(w.c.NodeID(), job(nil, named("lacks"), execs("pg_isready")), 0)
		w.after(45 * time.Second)
		w.wantHealth(well, api.HealthHealthy)
		for id, want := range map[api.ID]string{
			ill:   "check up: exit code 2: no response",
			hangs: "check up: the command did not end within 1s",
			lacks: "check up: the instance has no command pg_isready",
		} {
			if st := w.wantHealth(id, api.HealthUnhealthy); st.Message != want || st.Restarts != 0 {
				t.Errorf("%+v, want it to say %q", st, want)
			}
		}
		w.after(15 * time.Second)
		if st := w.s.status(hangs); st.Restarts != 1 {
			t.Errorf("what hangs is not restarted: %+v", st)
		}
		w.after(time.Minute)
		if st := w.s.status(hangs); st.Restarts != 2 {
			t.Errorf("the next run is not checked: %+v", st)
		}
	})
}

// TestProbesAreBounded: checks that hang share the places that there are, and all are asked in the end.
func TestProbesAreBounded(t *testing.T) {
	inClinic(t, func(t *testing.T, w *world, p *patients) {
		p.takes = 500 * time.Millisecond
		const instances = 300
		var ids []api.ID
		for n := range uint32(instances) {
			ids = append(ids, w.s.place(w.c.NodeID(), job(nil, checked()), n, api.PortBinding{Label: "http", Host: 20000 + int(n), To: 80}))
		}
		w.after(15 * time.Second)
		for _, id := range ids {
			w.wantHealth(id, api.HealthHealthy)
		}
		if p.most != probesAtOnce {
			t.Errorf("%d probes at once, want %d", p.most, probesAtOnce)
		}
	})
}
