package client

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/fake"
)

// part is a part that the script runs.
func part(kind api.PartKind, name string, script map[string]any) func(*api.Job) {
	return func(j *api.Job) {
		p := api.DefaultPart(kind, name)
		p.Config = script
		j.Tasks[0].Parts = append(j.Tasks[0].Parts, p)
	}
}

func sidecar(name string, script map[string]any) func(*api.Job) {
	return part(api.PartSidecar, name, script)
}

func prestart(name string, script map[string]any) func(*api.Job) {
	return part(api.PartPrestart, name, script)
}

func poststop(name string, script map[string]any) func(*api.Job) {
	return part(api.PartPoststop, name, script)
}

func restarts(r api.Restart) func(*api.Job) { return func(j *api.Job) { j.Tasks[0].Restart = r } }

// twice restarts a task twice at most, after a second.
func twice() func(*api.Job) {
	return restarts(api.Restart{Attempts: 2, Interval: time.Hour, Delay: time.Second, MaxDelay: time.Second, Mode: api.RestartFail})
}

// runs lists what runs, in the order of its starts: "main 0", "proxy 0.1".
func (w *world) runs() []string {
	all := slices.DeleteFunc(w.instances(), func(i driver.Instance) bool { return !i.Running })
	slices.SortStableFunc(all, func(a, b driver.Instance) int { return a.StartedAt.Compare(b.StartedAt) })
	out := []string{}
	for _, i := range all {
		k := i.Handle.Key
		if k.Part == "" {
			out = append(out, fmt.Sprint("main ", k.Restarts))
		} else {
			out = append(out, fmt.Sprintf("%s %d.%d", k.Part, k.Of, k.Restarts))
		}
	}
	return out
}

func (w *world) wantRuns(want ...string) {
	w.Helper()
	got := w.runs()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Errorf("what runs is %v, want %v", got, want)
	}
}

// recorded writes down the calls that change something, in order.
func (w *world) recorded() func() []string {
	calls := make(chan string, 1000)
	w.engine.Hang(func(op string, k driver.Key) <-chan struct{} {
		if op == "start" || op == "stop" {
			calls <- strings.TrimSpace(fmt.Sprintf("%s %s", op, k.Part))
		}
		return nil
	})
	return func() []string {
		var out []string
		for {
			select {
			case c := <-calls:
				out = append(out, c)
			default:
				return out
			}
		}
	}
}

// TestPartsInOrder: the prestarts one after the other, the main instance, its sidecars; and the other way round.
func TestPartsInOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		calls := w.recorded()
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, prestart("migrate", map[string]any{"run_for": "5s"}), prestart("seed", map[string]any{"run_for": "5s"}),
			sidecar("proxy", map[string]any{"ignore_signal": true}), sidecar("ship", nil), poststop("tidy", map[string]any{"run_for": "5s"})), 0)
		w.after(time.Second)
		w.wantRuns("migrate 0.0")
		if st := w.wantPhase(id, 0, api.PhasePreparing); st.Message != "prestart migrate: running" {
			t.Errorf("it waits as %+v", st)
		}
		w.after(5 * time.Second)
		w.wantRuns("seed 0.0")
		w.after(5 * time.Second)
		w.wantRuns("main 0", "proxy 0.0", "ship 0.0")
		w.wantPhase(id, 0, api.PhaseRunning)
		w.after(api.DefaultMinHealthyTime)
		w.wantHealth(id, api.HealthHealthy)
		w.wantCount(3) // the prestarts are removed
		w.s.stop(id)
		w.after(time.Second)
		w.wantRuns("proxy 0.0") // which does not listen
		w.wantPhase(id, 0, api.PhaseRunning)
		w.after(api.DefaultKillTimeout)
		w.wantRuns("tidy 0.0")
		if st := w.wantPhase(id, 0, api.PhaseRunning); st.Message != "stopped; poststop tidy: running" || st.Health != api.HealthUnknown {
			t.Errorf("it ends as %+v", st)
		}
		w.after(5 * time.Second)
		if st := w.wantPhase(id, 0, api.PhaseComplete); st.Message != "stopped" {
			t.Errorf("it has ended as %+v", st)
		}
		w.wantCount(0)
		got := calls()
		for i, c := range []string{"start migrate", "start seed", "start", "start proxy"} {
			at := slices.Index(got, c)
			if at < 0 || i > 0 && at < slices.Index(got, "start migrate") {
				t.Errorf("%q is out of order in %q", c, got)
			}
		}
		if main, ships := slices.Index(got, "stop"), slices.Index(got, "stop ship"); main > ships {
			t.Errorf("the sidecar is stopped before its main instance: %q", got)
		}
	})
}

// TestPrestartFails: the main instance does not start, and each try is one of the instance.
func TestPrestartFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		calls := w.recorded()
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, prestart("migrate", map[string]any{"run_for": "1s", "exit_code": 3}), poststop("tidy", nil), twice()), 0)
		w.after(1500 * time.Millisecond)
		if st := w.wantPhase(id, 1, api.PhasePending); st.Message != "prestart migrate: exit code 3; restart 1 in 1s" || st.ExitCode != 3 || st.Failure != api.FailureExit {
			t.Errorf("after the first try it is %+v", st)
		}
		w.after(time.Minute)
		if st := w.wantPhase(id, 2, api.PhaseFailed); st.Message != "prestart migrate: exit code 3; no restart left of 2 within 1h" {
			t.Errorf("it ends as %+v", st)
		}
		w.wantCount(0)
		if got := calls(); slices.Contains(got, "start") || slices.Contains(got, "start tidy") {
			t.Errorf("something else was started: %q", got)
		}
	})
}

func TestPrestartCannotStartOrTakesTooLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		broken := w.s.place(w.c.NodeID(), job(nil, prestart("migrate", map[string]any{"start_error": "no such image"}), twice()), 0)
		slow := w.s.place(w.c.NodeID(), job(nil, named("slow"), prestart("migrate", nil), twice(), func(j *api.Job) { j.Tasks[0].Parts[0].Timeout = 10 * time.Second }), 0)
		w.after(500 * time.Millisecond)
		if st := w.wantPhase(broken, 1, api.PhasePending); st.Message != "prestart migrate: start failed: no such image; restart 1 in 1s" || st.Failure != api.FailureStart {
			t.Errorf("it is %+v", st)
		}
		w.after(10 * time.Second)
		if st := w.wantPhase(slow, 1, api.PhasePending); st.Message != "prestart migrate: ran longer than its timeout 10s; restart 1 in 1s" || st.Failure != api.FailureTime {
			t.Errorf("it is %+v", st)
		}
	})
}

// TestSidecarIsRestartedByItself: the main instance runs on, and is unhealthy meanwhile.
func TestSidecarIsRestartedByItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, sidecar("proxy", nil), twice()), 0)
		w.after(2 * api.DefaultMinHealthyTime)
		w.wantHealth(id, api.HealthHealthy)
		w.engine.KillPart(id, "proxy", driver.Exit{Code: 139, Signal: 11})
		w.after(500 * time.Millisecond)
		w.wantRuns("main 0")
		if st := w.wantPhase(id, 0, api.PhaseRunning); st.Health != api.HealthUnhealthy || st.Message != "sidecar proxy: exit code 139 (SIGSEGV); restart 1 in 1s" {
			t.Errorf("without its sidecar it is %+v", st)
		}
		w.after(time.Second)
		w.wantRuns("main 0", "proxy 0.1")
		w.after(api.DefaultMinHealthyTime)
		w.wantHealth(id, api.HealthHealthy)
		w.wantCount(2)
		for range 2 {
			w.engine.KillPart(id, "proxy", driver.Exit{Code: 139, Signal: 11})
			w.after(2 * time.Second)
		}
		if st := w.wantPhase(id, 0, api.PhaseFailed); st.Message != "sidecar proxy: exit code 139 (SIGSEGV); no restart left of 2 within 1h" || st.Failure != api.FailureExit {
			t.Errorf("it ends as %+v", st)
		}
		w.wantCount(0)
	})
}

// TestRestartTakesTheCrewAlong: a new run has new sidecars, in its own network, and begins when the old ones are gone.
func TestRestartTakesTheCrewAlong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil, prestart("migrate", map[string]any{"run_for": "1s"}), sidecar("proxy", map[string]any{"ignore_signal": true}), poststop("tidy", map[string]any{"run_for": "1s"})), 0)
		w.after(3 * time.Second)
		w.wantRuns("main 0", "proxy 0.0")
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(3 * time.Second)
		w.wantRuns("proxy 0.0") // it takes its time
		w.wantPhase(id, 1, api.PhasePending)
		w.after(2500 * time.Millisecond)
		w.wantRuns("migrate 1.0")
		w.after(2 * time.Second)
		w.wantRuns("main 1", "proxy 1.0")
		w.wantPhase(id, 1, api.PhaseRunning)
		w.wantCount(2)
	})
}

// TestBatchWithParts: what serves a batch instance ends with it, and the tidying decides nothing.
func TestBatchWithParts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "10s"}, batchJob, sidecar("proxy", nil), sidecar("warm", map[string]any{"run_for": "2s"}),
			poststop("tidy", map[string]any{"run_for": "1s", "exit_code": 4}), poststop("last", map[string]any{"run_for": "1s"})), 0)
		w.after(5 * time.Second)
		w.wantRuns("main 0", "proxy 0.0")
		w.after(5500 * time.Millisecond)
		w.wantRuns("tidy 0.0")
		w.after(time.Second)
		w.wantRuns("last 0.0")
		w.after(time.Second)
		if st := w.wantPhase(id, 0, api.PhaseComplete); st.Message != "exit code 0; poststop tidy: exit code 4" {
			t.Errorf("it ends as %+v", st)
		}
		w.wantCount(0)
	})
}

// TestAnAgentThatFallsFindsTheCrew: in every stage of an instance's life nothing is doubled, and nothing done twice.
func TestAnAgentThatFallsFindsTheCrew(t *testing.T) {
	for _, forgetful := range []bool{false, true} {
		for at := time.Second; at < 20*time.Second; at += 2 * time.Second {
			t.Run(fmt.Sprintf("%v/forgetful=%v", at, forgetful), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					calls := w.recorded()
					w.up()
					id := w.s.place(w.c.NodeID(), job(nil, prestart("migrate", map[string]any{"run_for": "6s"}), sidecar("proxy", nil), poststop("tidy", map[string]any{"run_for": "6s"})), 0)
					stop := func() { w.s.stop(id) }
					fall := func() {
						owner := w.owner()
						w.down()
						if forgetful {
							w.forgetState()
						}
						if got := w.engine.Instances(owner); len(got) == 0 {
							t.Errorf("nothing is there when the agent falls")
						}
						w.up()
					}
					w.after(min(at, 14*time.Second))
					if at < 14*time.Second {
						fall()
					}
					w.after(max(0, 14*time.Second-at))
					w.wantRuns("main 0", "proxy 0.0")
					stop()
					w.after(max(0, at-14*time.Second))
					if at >= 14*time.Second {
						fall()
					}
					w.after(30 * time.Second)
					if st := w.wantPhase(id, 0, api.PhaseComplete); !strings.HasPrefix(st.Message, "stopped") {
						t.Errorf("it ends as %+v", st)
					}
					w.wantCount(0)
					counts := map[string]int{}
					for _, c := range calls() {
						counts[c]++
					}
					if counts["start"] != 1 || counts["start migrate"] != 1 || counts["start proxy"] != 1 || counts["start tidy"] > 1 || !forgetful && counts["start tidy"] != 1 {
						t.Errorf("the calls were %v", counts)
					}
				})
			})
		}
	}
}

// TestUsageSumsTheParts and tells how they stand.
func TestUsageSumsTheParts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"use_cpu": 100, "use_memory": 10}, prestart("migrate", map[string]any{"run_for": "1s"}),
			sidecar("proxy", map[string]any{"use_cpu": 50, "use_memory": 6, "lines": 1})), 0)
		w.after(500 * time.Millisecond)
		all, err := w.c.Usage(context.Background(), []api.ID{id})
		if err != nil || len(all) != 1 || len(all[0].Parts) != 2 || all[0].Parts[0].Phase != api.PhaseRunning || all[0].Parts[1].Phase != api.PhasePending {
			t.Errorf("while it is prepared: %+v, %v", all, err)
		}
		w.after(10 * time.Second)
		all, err = w.c.Usage(context.Background(), []api.ID{id})
		if err != nil || len(all) != 1 || all[0].CPU < 148 || all[0].CPU > 150 || all[0].Memory != 16 {
			t.Fatalf("it uses %+v, %v", all, err)
		}
		if p := all[0].Parts; p[0].Name != "migrate" || p[0].Phase != api.PhaseComplete || p[0].ExitCode == nil || p[1].Name != "proxy" || p[1].Phase != api.PhaseRunning || p[1].ExitCode != nil {
			t.Errorf("its parts are %+v", p)
		}
		logs, err := w.c.Logs(context.Background(), id, api.LogRequest{Tail: -1, Part: "proxy"})
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, logs); text != "out 1\nerr 1\n" {
			t.Errorf("the sidecar writes %q", text)
		}
		_, err = w.c.Logs(context.Background(), id, api.LogRequest{Tail: -1, Part: "prox"})
		if api.CodeOf(err) != api.CodeNotFound || !strings.Contains(err.Error(), `no sidecar, prestart or poststop "prox"`) {
			t.Errorf("of no part: %v", err)
		}
		_, err = w.c.Exec(context.Background(), id, api.ExecRequest{Command: []string{"exit", "0"}, Part: "migrate"})
		if api.CodeOf(err) != api.CodeConflict {
			t.Errorf("a command in what has ended: %v", err)
		}
		conn, err := w.c.Exec(context.Background(), id, api.ExecRequest{Command: []string{"exit", "0"}, Part: "proxy"})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}

func TestConfigurePart(t *testing.T) {
	task := api.DefaultTask("web")
	task.Driver, task.Env = fake.Name, map[string]string{"A": "main"}
	task.Volumes = []api.VolumeRequest{{Name: "data", Source: "data", Destination: "/d", Access: api.AccessSingleWriter}, {Name: "logs", Source: "logs", Destination: "/l", Access: api.AccessSingleWriter}}
	p := api.DefaultPart(api.PartSidecar, "proxy")
	p.Image, p.Env, p.Volumes, p.Resources.Memory = "proxy:${CUBE_PORT_http}", map[string]string{"B": "${CUBE_TASK_NAME}"}, []string{"logs"}, 32
	node := &api.Node{ID: "n", Name: "n", Address: "10.0.0.1", Volumes: []api.NodeVolume{{Name: "data", Path: "/srv/data"}, {Name: "logs", Path: "/srv/logs"}}}
	a := run(2)
	a.Ports = []api.PortBinding{{Label: "http", Host: 20001, To: 8080}}
	m := allocation{ID: 7, work: a.workOf("proxy", 2, api.PartSidecar)}
	m.Status.Restarts = 1
	c, err := configurePart(&api.Job{}, &a, &m, task, &p, node, driver.Owner{}, "7", "/dir")
	if err != nil {
		t.Fatal(err)
	}
	want := driver.Key{Allocation: 7, Of: 2, Part: "proxy", Restarts: 1}
	if c.Key != want || c.Image != "proxy:8080" || c.Beside != a.Run.Data || len(c.Ports) != 0 || c.Held.Memory != 32 || len(c.Volumes) != 1 || c.Volumes[0].Path != "/srv/logs" {
		t.Errorf("it is started as %+v", c)
	}
	if c.Env["A"] != "" || c.Env["B"] != "web" || c.Env["CUBE_PART_NAME"] != "proxy" || c.Env["CUBE_MEMORY"] != "32" || c.Env["CUBE_ADDR_http"] != "10.0.0.1:20001" {
		t.Errorf("its environment is %v", c.Env)
	}
	p.Kind = api.PartPrestart
	if c, err = configurePart(&api.Job{}, &a, &m, task, &p, node, driver.Owner{}, "7", "/dir"); err != nil || c.Beside != "" {
		t.Errorf("a prestart is beside %q, %v", c.Beside, err)
	}
	task.DispatchPayload = &api.DispatchPayload{File: "x"} // of which it may make something for the main instance
	c, err = configurePart(&api.Job{Dispatched: &api.Dispatched{Keys: []string{"k"}}}, &a, &m, task, &p, node, driver.Owner{}, "7", "/dir")
	if _, told := c.Env["CUBE_META_k"]; err != nil || !told || c.Env["CUBE_PAYLOAD_FILE"] != "/dispatch/x" || len(c.Volumes) != 2 {
		t.Errorf("a prestart of what was dispatched has %v in %v, %v", c.Volumes, c.Env, err)
	}
}

// forgetState takes away what the agent that is down has written.
func (w *world) forgetState() {
	w.Helper()
	if err := os.Remove(filepath.Join(w.dir, "client", "state.db")); err != nil {
		w.Fatal(err)
	}
}
