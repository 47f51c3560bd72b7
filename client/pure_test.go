package client

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cube/api"
	"cube/client/driver"
)

// at is n seconds after some beginning.
func at(n int) time.Time { return time.Unix(1_700_000_000+int64(n), 0) }

func TestAgain(t *testing.T) {
	p := api.Restart{Attempts: 3, Interval: time.Minute, Delay: time.Second, MaxDelay: 10 * time.Second, Mode: api.RestartDelay}
	fail := p
	fail.Mode = api.RestartFail
	never := api.Restart{Attempts: 0, Interval: time.Minute, Mode: api.RestartFail}
	endless := api.DefaultRestart()
	for _, c := range []struct {
		name   string
		policy api.Restart
		before tries
		now    int
		ran    time.Duration
		slowly bool
		want   tries
		delay  time.Duration
		ok     bool
	}{
		{"the first", p, tries{}, 0, 0, false, tries{at(0), 1, 1}, time.Second, true},
		{"soon after", p, tries{at(0), 1, 1}, 2, time.Second, false, tries{at(0), 2, 2}, 2 * time.Second, true},
		{"the last of the interval", p, tries{at(0), 2, 2}, 5, time.Second, false, tries{at(0), 3, 3}, 4 * time.Second, true},
		{"used up, delay", p, tries{at(0), 3, 3}, 10, time.Second, false, tries{at(60), 1, 4}, 50 * time.Second, true},
		{"used up, fail", fail, tries{at(0), 3, 3}, 10, time.Second, false, tries{at(0), 3, 3}, 0, false},
		{"the next interval", fail, tries{at(0), 3, 3}, 60, time.Second, false, tries{at(60), 1, 4}, 8 * time.Second, true},
		{"at the ceiling", endless, tries{at(0), 20, 20}, 30, time.Second, false, tries{at(0), 21, 21}, 5 * time.Minute, true},
		{"after a long run", p, tries{at(0), 3, 9}, 59, time.Minute, false, tries{at(59), 1, 1}, time.Second, true},
		{"none allowed", never, tries{}, 0, time.Hour, false, tries{at(0), 0, 0}, 0, false},
		{"slowly", p, tries{}, 0, 0, true, tries{at(0), 1, 1}, 10 * time.Second, true},
		{"the clock went back", p, tries{at(100), 3, 0}, 0, 0, false, tries{at(0), 1, 1}, time.Second, true},
		{"no interval is the default's", api.Restart{Attempts: -1, Delay: time.Second}, tries{at(0), 1, 1}, 5, time.Second, false, tries{at(0), 2, 2}, time.Second, true},
	} {
		got, delay, ok := again(c.policy, c.before, at(c.now), c.ran, c.slowly)
		if got != c.want || delay != c.delay || ok != c.ok {
			t.Errorf("%s: %+v, %v, %v; want %+v, %v, %v", c.name, got, delay, ok, c.want, c.delay, c.ok)
		}
	}
}

// run is an allocation whose instance runs, after n restarts.
func run(n uint32) allocation {
	a := allocation{ID: 7, Stage: stageRun, Made: 1, work: work{Job: "web", Task: "web", Version: 1, Driver: "fake"}}
	a.Status = api.AllocationStatus{ID: 7, Seq: 5, Restarts: n, Phase: api.PhaseRunning, StartedAt: at(0).UnixMilli()}
	a.Run = driver.Handle{Key: a.key(), Data: fmt.Sprint("i", n)}
	return a
}

func with(a allocation, change func(*allocation)) allocation {
	change(&a)
	return a
}

func TestStep(t *testing.T) {
	forever := &policy{Restart: api.DefaultRestart(), MinHealthy: time.Hour}
	batch := &policy{Restart: api.DefaultRestart(), Batch: true, MinHealthy: time.Hour}
	once := &policy{Restart: api.Restart{Attempts: 0, Interval: time.Minute, Mode: api.RestartFail}, MinHealthy: time.Hour}
	exit := func(code int) evExited {
		return evExited{Key: driver.Key{Allocation: 7}, Exit: driver.Exit{Code: code, FinishedAt: at(10)}}
	}
	starting := with(run(0), func(a *allocation) { a.Stage, a.Run, a.Status.Phase = stageStart, driver.Handle{}, api.PhasePreparing })
	stopping := with(run(0), func(a *allocation) { a.Stage, a.Why = stageStop, "stopped" })
	waiting := with(run(0), func(a *allocation) {
		a.Stage, a.Run, a.Due, a.Status.Phase = stageWait, driver.Handle{}, at(20), api.PhasePending
	})
	for _, c := range []struct {
		name    string
		a       allocation
		event   any
		p       *policy
		stage   stage
		phase   api.Phase
		seq     uint64 // 5 before
		message string
		next    op
	}{
		{"an exit is followed by a removal", run(0), exit(2), forever, stageWait, api.PhasePending, 7, "exit code 2; restart 1 in 1s", opClean},
		{"a former instance's exit is none", run(1), exit(2), forever, stageRun, api.PhaseRunning, 5, "", opNone},
		{"an exit nobody can judge yet", run(0), exit(2), nil, stageEnded, api.PhaseRunning, 6, "exit code 2; waiting for the job's specification to know what follows", opNone},
		{"a batch instance that is done", run(0), exit(0), batch, stageDone, api.PhaseComplete, 7, "exit code 0", opClean},
		{"a policy used up", run(0), exit(1), once, stageDone, api.PhaseFailed, 7, "exit code 1; no restart left of 0 within 1m", opClean},
		{"asked to stop", run(0), evStop{Why: "stopped"}, forever, stageStop, api.PhaseRunning, 5, "", opStop},
		{"asked to stop before a start", waiting, evStop{Why: "stopped"}, forever, stageDone, api.PhaseComplete, 6, "stopped", opNone},
		{"asked to stop under a start", starting, evStop{Why: "stopped"}, forever, stageStop, api.PhasePreparing, 5, "", opNone},
		{"a start that was too late", with(starting, func(a *allocation) { a.Stage, a.Why = stageStop, "stopped" }),
			evStarted{Handle: run(0).Run, At: at(1)}, forever, stageStop, api.PhasePreparing, 5, "", opStop},
		{"a start that was cancelled", with(starting, func(a *allocation) { a.Stage, a.Why = stageStop, "stopped" }),
			evRefused{Err: errors.New("cancelled")}, forever, stageDone, api.PhaseComplete, 6, "stopped", opNone},
		{"an exit before its start returns", starting, exit(1), forever, stageStart, api.PhasePreparing, 5, "", opNone},
		{"a start after its exit", with(starting, func(a *allocation) { a.Exit = &driver.Exit{Code: 1, FinishedAt: at(2)} }),
			evStarted{Handle: run(0).Run, At: at(1)}, forever, stageWait, api.PhasePending, 8, "exit code 1; restart 1 in 1s", opClean},
		{"a start that fails", starting, evRefused{Err: errors.New("no such image")}, forever, stageWait, api.PhasePending, 7,
			"start failed: no such image; restart 1 in 1s", opNone},
		{"a start that fails for good", starting, evRefused{Err: &driver.StartError{Failure: api.FailureStart, Permanent: true, Err: errors.New("bad name")}},
			forever, stageWait, api.PhasePending, 7, "start failed: bad name; restart 1 in 5m", opNone},
		{"a port that is taken", starting, evRefused{Err: fmt.Errorf("start: %w", &driver.StartError{Failure: api.FailurePortTaken, Port: 80, Err: errors.New("port 80 is taken")})},
			forever, stageDone, api.PhaseFailed, 8, "start: port 80 is taken", opNone},
		{"progress", starting, evTold{Message: "pulling\nredis"}, forever, stageStart, api.PhasePreparing, 6, "pulling redis", opNone},
		{"progress too late", run(0), evTold{Message: "pulling"}, forever, stageRun, api.PhaseRunning, 5, "", opNone},
		{"stopped", stopping, evStopped{}, forever, stageDone, api.PhaseComplete, 7, "stopped", opClean},
		{"a stop that fails", stopping, evStopped{Err: errors.New("no answer")}, forever, stageStop, api.PhaseRunning, 6, "stop failed: no answer; next try in 1s", opNone},
		{"time passes", waiting, evTick{}, forever, stageWait, api.PhasePending, 5, "", opNone},
		{"an orphan's time is over", with(run(0), func(a *allocation) { a.Orphan = at(10) }), evTick{}, forever, stageStop, api.PhaseRunning, 5, "", opStop},
		{"an orphan has time", with(run(0), func(a *allocation) { a.Orphan = at(11) }), evTick{}, forever, stageRun, api.PhaseRunning, 5, "", opNone},
	} {
		before := c.a
		got := step(c.a, c.event, c.p, at(10))
		next, _ := got.next(at(10), true)
		if got.Stage != c.stage || got.Status.Phase != c.phase || got.Status.Seq != c.seq || got.Status.Message != c.message || next != c.next {
			t.Errorf("%s: stage %d, %v, seq %d, %q, next %d; want stage %d, %v, seq %d, %q, next %d", c.name,
				got.Stage, got.Status.Phase, got.Status.Seq, got.Status.Message, next, c.stage, c.phase, c.seq, c.message, c.next)
		}
		if len(before.Old) != len(c.a.Old) {
			t.Errorf("%s: the state before was changed", c.name)
		}
	}
}

func TestNext(t *testing.T) {
	waiting := with(run(0), func(a *allocation) { a.Stage, a.Run, a.Due = stageWait, driver.Handle{}, at(20) })
	old := func(a *allocation) { a.Old = []driver.Handle{{Data: "old"}} }
	for _, c := range []struct {
		name  string
		a     allocation
		now   int
		start bool
		do    op
		wake  time.Time
	}{
		{"runs", run(0), 10, true, opNone, time.Time{}},
		{"too early", waiting, 10, true, opNone, at(20)},
		{"in time", waiting, 20, true, opStart, time.Time{}},
		{"not before a server's answer", waiting, 30, false, opNone, time.Time{}},
		{"the former instance first", with(waiting, old), 20, true, opClean, time.Time{}},
		{"unless that does not go", with(waiting, func(a *allocation) { old(a); a.OldDue = at(25) }), 20, true, opStart, time.Time{}},
		{"one at a time", with(waiting, func(a *allocation) { a.busy = opClean }), 20, true, opNone, time.Time{}},
		{"the earlier of two", with(waiting, func(a *allocation) { old(a); a.OldDue = at(15) }), 10, true, opNone, at(15)},
		{"nothing while its driver is silent", with(run(0), func(a *allocation) { a.Stage = stageLook }), 10, true, opNone, time.Time{}},
		{"an orphan is looked at again", with(run(0), func(a *allocation) { a.Orphan = at(30) }), 10, true, opNone, at(30)},
	} {
		if do, wake := c.a.next(at(c.now), c.start); do != c.do || !wake.Equal(c.wake) {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, do, wake, c.do, c.wake)
		}
	}
}

func TestDiff(t *testing.T) {
	assigned := func(change func(*api.Assignment)) []api.Assignment {
		w := api.Assignment{ID: 7, Job: "web", Task: "web", Version: 1, Phase: api.PhaseRunning, Seq: 5}
		change(&w)
		return []api.Assignment{w}
	}
	as := func(*api.Assignment) {}
	stop := func(w *api.Assignment) { w.Desired = api.DesiredStop }
	lost := func(w *api.Assignment) { w.Phase = api.PhaseLost }
	running := run(0)
	reported := with(running, func(a *allocation) { a.Acked = 5 })
	done := with(running, func(a *allocation) { a.finish(api.PhaseComplete, "stopped") })
	for _, c := range []struct {
		name   string
		known  *allocation
		change func(*api.Assignment)
		want   []verb
	}{
		{"new", nil, as, []verb{verbBegin}},
		{"to stop, and never here", nil, stop, []verb{verbRefuse}},
		{"over, and not known any more", nil, lost, nil},
		{"as it is", &reported, as, nil},
		{"to stop", &running, stop, []verb{verbStop}},
		{"to stop, and numbered further by the servers", &reported, func(w *api.Assignment) { stop(w); w.Seq = 9 }, []verb{verbRepeat, verbStop}},
		{"lost never revives", &running, lost, []verb{verbStop}},
		{"another version", &reported, func(w *api.Assignment) { w.Version = 2 }, []verb{verbUpdate}},
		{"not reported yet", &running, func(w *api.Assignment) { w.Seq = 3 }, nil},
		{"reported, and forgotten by the servers", &reported, func(w *api.Assignment) { w.Seq = 3 }, []verb{verbRepeat}},
		{"numbered further by the servers", &reported, func(w *api.Assignment) { w.Seq = 9 }, []verb{verbRepeat}},
		{"another status under the same number", &reported, func(w *api.Assignment) { w.Phase = api.PhasePreparing }, []verb{verbRepeat}},
		{"a later run is known", &running, func(w *api.Assignment) { w.Restarts = 4 }, []verb{verbAnew}},
		{"ended here, not there", &done, as, []verb{verbRepeat}},
		{"ended here, to stop there", &done, stop, []verb{verbRepeat}},
		{"ended on both sides", &done, lost, nil},
	} {
		var got []verb
		for _, ch := range diff(assigned(c.change), func(api.ID) *allocation { return c.known }) {
			got = append(got, ch.Do)
		}
		if !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestReadyIsForOneRegistration: a report that says so and could not be sent does not say it after the next registration.
func TestReadyIsForOneRegistration(t *testing.T) {
	o := newOutbox()
	o.setReady(true)
	p := o.take()
	o.back(p)
	if p = o.take(); !p.ready {
		t.Error("what could not be sent is forgotten")
	}
	o.setReady(false) // the node registers anew, while the report is on its way
	o.back(p)
	if o.take().ready {
		t.Error("the word of an earlier registration is sent again")
	}
}

func TestAdopt(t *testing.T) {
	p := &policy{Restart: api.DefaultRestart(), MinHealthy: time.Hour}
	look := with(run(2), func(a *allocation) { a.Stage = stageLook })
	in := func(restarts uint32, running bool, change ...func(*driver.Instance)) driver.Instance {
		i := driver.Instance{Handle: driver.Handle{Key: driver.Key{Allocation: 7, Restarts: restarts}, Data: fmt.Sprint("i", restarts)},
			Job: "web", Task: "web", Version: 1, Running: running, StartedAt: at(0)}
		if !running {
			i.Exit = &driver.Exit{Code: 3, FinishedAt: at(5)}
		}
		for _, c := range change {
			c(&i)
		}
		return i
	}
	other := func(i *driver.Instance) { i.Version = 9 }
	for _, c := range []struct {
		name     string
		known    *allocation
		found    []driver.Instance
		stage    stage
		restarts uint32
		run      string
		old      int
	}{
		{"it runs", &look, []driver.Instance{in(2, true)}, stageRun, 2, "i2", 0},
		{"it has ended", &look, []driver.Instance{in(2, false)}, stageWait, 3, "", 1},
		{"it is gone", &look, nil, stageWait, 3, "", 0},
		{"a former one is left", &look, []driver.Instance{in(1, false), in(2, true)}, stageRun, 2, "i2", 1},
		{"a later one than the state file knows", &look, []driver.Instance{in(3, true)}, stageRun, 3, "i3", 0},
		{"of another version", &look, []driver.Instance{in(2, true, other)}, stageWait, 3, "", 1},
		{"of another task", &look, []driver.Instance{in(2, true, func(i *driver.Instance) { i.Task = "db" })}, stageWait, 3, "", 1},
		{"the state file is lost", nil, []driver.Instance{in(4, false), in(5, true)}, stageRun, 5, "i5", 1},
		{"the state file is lost, and it has ended", nil, []driver.Instance{in(5, false)}, stageWait, 6, "", 1},
		{"wanted gone", ptr(with(look, func(a *allocation) { a.Why = "stopped" })), []driver.Instance{in(2, true)}, stageStop, 2, "i2", 0},
		{"wanted gone, and gone", ptr(with(look, func(a *allocation) { a.Why = "stopped" })), nil, stageDone, 3, "", 0},
		{"over long ago", ptr(with(run(2), func(a *allocation) { a.finish(api.PhaseFailed, ""); a.Old = nil })), []driver.Instance{in(2, true)}, stageDone, 2, "", 1},
	} {
		a := adopt(c.known, 7, c.found, p, at(10))
		if a.Stage != c.stage || a.Status.Restarts != c.restarts || a.Run.Data != c.run || len(a.Old) != c.old || a.Job == "" && len(c.found) > 0 {
			t.Errorf("%s: stage %d, %d restarts, runs %q, old %v; want stage %d, %d restarts, runs %q, %d old", c.name,
				a.Stage, a.Status.Restarts, a.Run.Data, a.Old, c.stage, c.restarts, c.run, c.old)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestJudge(t *testing.T) {
	orphan := with(run(0), func(a *allocation) { a.Orphan = at(100) })
	for _, c := range []struct {
		name    string
		a       allocation
		verdict api.Verdict
		strange bool
		stage   stage
		orphan  time.Time
	}{
		{"run", run(0), api.VerdictRun, false, stageRun, time.Time{}},
		{"run again", orphan, api.VerdictRun, true, stageRun, time.Time{}},
		{"stop", run(0), api.VerdictStop, true, stageStop, time.Time{}},
		{"leave", run(0), api.VerdictLeave, true, stageStop, time.Time{}},
		{"unknown", run(0), api.VerdictUnknown, false, stageStop, time.Time{}},
		{"unknown to a restored state", run(0), api.VerdictUnknown, true, stageRun, at(610)},
		{"unknown still", orphan, api.VerdictUnknown, false, stageRun, at(100)},
	} {
		if a := judge(c.a, c.verdict, nil, c.strange, at(10), 10*time.Minute); a.Stage != c.stage || !a.Orphan.Equal(c.orphan) {
			t.Errorf("%s: stage %d, orphan %v; want stage %d, %v", c.name, a.Stage, a.Orphan, c.stage, c.orphan)
		}
	}
}

// TestProgressOnlyGrows feeds random events to an allocation: whatever comes, its statuses are numbered upward, its
// progress never goes back, a terminal one stays, and no instance is lost sight of.
func TestProgressOnlyGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &policy{Restart: api.Restart{Attempts: rapid.IntRange(-1, 3).Draw(t, "attempts"), Interval: time.Minute, Delay: time.Second,
			MaxDelay: 8 * time.Second, Mode: rapid.SampledFrom([]string{api.RestartDelay, api.RestartFail}).Draw(t, "mode")},
			Batch: rapid.Bool().Draw(t, "batch")}
		a := begin(&api.Assignment{ID: 7, Job: "web", Task: "web", Version: 1})
		a = adopt(&a, 7, nil, p, at(0))
		exists := map[driver.Handle]bool{}
		now := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.IntRange(0, 5).Draw(t, "seconds")
			before := a
			ev := nextEvent(t, &a, exists, now)
			a = step(a, ev, p, at(now))
			if a.Status.Seq < before.Status.Seq || a.Status != before.Status && a.Status.Seq == before.Status.Seq {
				t.Fatalf("after %#v status %+v follows %+v", ev, a.Status, before.Status)
			}
			if api.ProgressLess(a.Status.Restarts, a.Status.Phase, before.Status.Restarts, before.Status.Phase) ||
				before.Status.Phase.Terminal() && a.Status.Phase != before.Status.Phase {
				t.Fatalf("after %#v progress went from %+v to %+v", ev, before.Status, a.Status)
			}
			for h := range exists {
				if a.Run != h && !strings.Contains(fmt.Sprint(a.Old), h.Data) {
					t.Fatalf("after %#v nobody knows of instance %+v any more: %+v", ev, h, a)
				}
			}
		}
	})
}

// nextEvent draws an event that can happen to the allocation: outcomes of the call that it needs, and what comes from
// elsewhere.
func nextEvent(t *rapid.T, a *allocation, exists map[driver.Handle]bool, now int) any {
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0:
		return evStop{Why: "stopped"}
	case 1:
		return evTick{}
	case 2:
		return evExited{Key: a.key(), Exit: driver.Exit{Code: rapid.IntRange(0, 2).Draw(t, "code"), FinishedAt: at(now)}}
	}
	if a.Stage == stageStart || a.Stage == stageStop && !a.exists() {
		if rapid.Bool().Draw(t, "starts") {
			h := driver.Handle{Key: a.key(), Data: fmt.Sprintf("i%d", len(exists)+now*100)}
			exists[h] = true
			return evStarted{Handle: h, At: at(now)}
		}
		return evRefused{Err: errors.New("no")}
	}
	failed := rapid.SampledFrom([]error{nil, errors.New("no answer")}).Draw(t, "failed")
	switch do, _ := a.next(at(now), true); do {
	case opStart:
		return evBegun{}
	case opStop:
		return evStopped{Err: failed}
	case opClean:
		if failed == nil {
			delete(exists, a.Old[0])
		}
		return evCleaned{Handle: a.Old[0], Err: failed}
	}
	return evTick{}
}

func TestDescribe(t *testing.T) {
	for want, x := range map[string]driver.Exit{
		"exit code 0":                              {},
		"exit code 1":                              {Code: 1},
		"exit code 137 (SIGKILL)":                  {Code: 137},
		"exit code 143 (SIGTERM)":                  {Code: 143, Signal: 15},
		"exit code 139 (SIGSEGV)":                  {Code: 139, Signal: 11},
		"exit code 139 (SIGSEGV), core dumped":     {Code: 139, Message: "core dumped"},
		"exit code 192":                            {Code: 192},
		"killed for want of memory (limit 64 MiB)": {Code: 137, Signal: 9, OOM: true},
		"exit code 1, a process of it was killed for want of memory (limit 64 MiB)": {Code: 1, OOM: true},
		"exit code 127, no such command":                                            {Code: 127, Message: "no such command"},
		"exit code 255":                                                             {Code: 255},
		"it is gone":                                                                {Code: -1, Message: "it is gone"},
	} {
		if got := describe(x, 64); got != want {
			t.Errorf("%+v: %q, want %q", x, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		s += strings.Repeat("é", rapid.IntRange(0, 400).Draw(t, "more"))
		got := clip(s)
		if len(got) > api.MaxStatusMessage || strings.ContainsAny(got, "\r\n") || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", time.Minute: "1m", 20 * time.Minute: "20m", time.Hour: "1h",
		time.Hour + time.Minute: "1h1m", time.Hour + time.Second: "1h0m1s", 1234567 * time.Microsecond: "1.235s",
	} {
		if got := brief(d); got != want {
			t.Errorf("brief(%d) = %s, want %s", d, got, want)
		}
	}
}
