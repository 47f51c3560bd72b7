package client

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/client/driver"
)

func TestSessionLostIsReplaced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		before := w.only()
		changed := w.c.CurrentChanged()
		first, ok := w.c.Current()
		if !ok {
			t.Fatal("there is no session")
		}
		w.s.shut(first.(*memConn).addr)
		w.engine.Kill(id, driver.Exit{Code: 1}) // its report has to wait for the next session
		w.after(500 * time.Millisecond)
		select {
		case <-changed:
		default:
			t.Error("nobody was told that the session is another one")
		}
		second, ok := w.c.Current()
		if !ok || second.(*memConn).addr == first.(*memConn).addr {
			t.Errorf("after half a second the session is %+v", second)
		}
		w.wantPhase(id, 1, api.PhasePending)
		if before.Handle.Key.Restarts != 0 {
			t.Errorf("it began as %+v", before)
		}
	})
}

func TestRemembersTheServers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(time.Second)
		w.down()
		w.s.set(func() { w.s.enrolled = nil })
		st, left, err := openState(w.dir + "/client/state.db")
		if err != nil {
			t.Fatal(err)
		}
		left.Cluster.Servers = []string{"s9"}
		v, err := encode(left.Cluster)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Save(&batch{Cluster: v}); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		w.addrs = nil // gossip knows nobody
		w.up()
		w.after(time.Second)
		conn, ok := w.c.Current()
		if !ok || conn.(*memConn).addr != "s9" {
			t.Errorf("the session is %+v, want one with the server remembered", conn)
		}
	})
}

func TestLeaderlessServerIsLeft(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		conn, _ := w.c.Current()
		addr := conn.(*memConn).addr
		w.s.change(func(uint64) { w.s.leading[addr] = false })
		w.after(moveAfter - time.Second)
		if now, _ := w.c.Current(); now != conn {
			t.Error("it was left at once: elections take a moment")
		}
		w.after(10 * time.Second)
		now, ok := w.c.Current()
		if !ok || now.(*memConn).addr == addr {
			t.Errorf("the session is %+v, want one with the other server", now)
		}
	})
}

// TestACrowdedServerIsLeft: not at once, by the part that is too many, and for another server only.
func TestACrowdedServerIsLeft(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		conn, _ := w.c.Current()
		addr := conn.(*memConn).addr
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.s.set(func() { w.s.excess = map[string]float64{addr: 1} })
		w.after(repickAfter - time.Minute)
		if now, _ := w.c.Current(); now != conn {
			t.Error("it was left at once")
		}
		w.after(repickAfter + 3*time.Minute)
		now, ok := w.c.Current()
		if !ok || now.(*memConn).addr == addr {
			t.Errorf("the session is %+v, want one with the other server", now)
		}
		if st := w.wantPhase(id, 0, api.PhaseRunning); st.Seq == 0 {
			t.Errorf("the instance is %+v", st)
		}
		w.after(30 * time.Minute)
		if again, _ := w.c.Current(); again != now {
			t.Error("a server that is not crowded was left")
		}
		w.down()

		w.addrs = []string{addr}
		w.s.shut("s1")
		w.s.shut("s2")
		w.s.open(addr)
		w.up()
		conn, _ = w.c.Current()
		w.after(30 * time.Minute)
		if now, _ := w.c.Current(); now != conn {
			t.Error("the session with the only server was given up")
		}
	})
}

// TestANodeGoesElsewhere: at once where it registers, with the next answer where it is already; but one that finds no other
// server stays for a while with the one that there is.
func TestANodeGoesElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		on := func() string {
			w.Helper()
			conn, ok := w.c.Current()
			if !ok {
				w.Fatal("there is no session")
			}
			return conn.(*memConn).addr
		}
		w.s.set(func() { w.s.busy = map[string]bool{"s1": true} })
		w.up()
		w.after(time.Second)
		if on() != "s2" {
			t.Error("it stays where it was turned away")
		}
		w.after(repickAfter + time.Minute) // else it has just moved
		w.s.set(func() { w.s.busy = map[string]bool{"s2": true} })
		w.after(2 * time.Minute)
		if on() != "s1" {
			t.Error("it was not told by an answer")
		}
		w.after(repickAfter + time.Minute)
		w.s.shut("s2")
		w.s.set(func() { w.s.busy = map[string]bool{"s1": true} })
		w.after(2 * time.Minute)
		enrolled := len(w.s.enrolled)
		w.after(repickAfter / 2)
		if on() != "s1" || len(w.s.enrolled) > enrolled {
			t.Errorf("with nowhere to go it registered %d times", len(w.s.enrolled)-enrolled)
		}
	})
}

func TestOnlyServerIsKeptThoughLeaderless(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.addrs = []string{"s1"}
		w.up()
		conn, _ := w.c.Current()
		w.s.change(func(uint64) { w.s.leading["s1"] = false })
		w.after(time.Minute)
		if now, _ := w.c.Current(); now != conn {
			t.Error("the only server there is was left")
		}
		w.s.change(func(uint64) { w.s.leading["s1"] = true })
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(10 * time.Second)
		w.wantPhase(id, 0, api.PhaseRunning)
	})
}

func TestUnchangedNodeIsNotRegisteredAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(time.Hour)
		if n := len(w.s.registrations()); n != 1 {
			t.Fatalf("registered %d times within a quiet hour, want once", n)
		}
		n := w.s.registrations()[0].Node
		want := api.Resources{CPU: 3500, Memory: 8000, Disk: 10240}
		if n.Resources != want || n.Attributes["driver.fake"] != "true" || n.Attributes["kernel.name"] != "linux" || n.Meta["rack"] != "r7" ||
			n.Incarnation != w.c.Incarnation() {
			t.Errorf("registered as %+v", n)
		}
		w.engine.Break("the engine is down")
		w.after(31 * time.Second)
		if n := len(w.s.registrations()); n != 2 || w.s.registrations()[1].Node.Drivers["fake"].Healthy {
			t.Errorf("registered %d times after the driver broke, want twice", n)
		}
		w.engine.Break("")
		w.after(6 * time.Second)
		if n := len(w.s.registrations()); n != 3 || !w.s.registrations()[2].Node.Drivers["fake"].Healthy {
			t.Errorf("registered %d times after it was healed, want three times", n)
		}
	})
}

// TestDevicesComeAndGo: the node says what devices it has now, and an instance is started when those that it holds are there.
func TestDevicesComeAndGo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		both := []api.DeviceGroup{{Type: "gpu", Model: "A100", IDs: []string{"GPU-1", "GPU-2"}}}
		one := []api.DeviceGroup{{Type: "gpu", Model: "A100", IDs: []string{"GPU-1"}}}
		var mu sync.Mutex
		there, trouble := both, error(nil)
		now := func(groups []api.DeviceGroup, err error) {
			mu.Lock()
			defer mu.Unlock()
			there, trouble = groups, err
		}
		w.tune = func(c *Config) {
			c.Devices = func() ([]api.DeviceGroup, error) {
				mu.Lock()
				defer mu.Unlock()
				return there, trouble
			}
		}
		says := func(times int, groups []api.DeviceGroup, trouble string) {
			t.Helper()
			all := w.s.registrations()
			if last := all[len(all)-1].Node; len(all) != times || !reflect.DeepEqual(last.Devices, groups) || last.Attributes["device.trouble"] != trouble {
				t.Errorf("registered %d times, at last with %+v and %q; want %d times, %+v and %q", len(all), last.Devices, last.Attributes["device.trouble"], times, groups, trouble)
			}
		}
		w.up()
		w.after(time.Hour)
		says(1, both, "")
		now(one, errors.New("GPU 0000:02:00.0: it fell off the bus"))
		w.after(31 * time.Second)
		says(2, one, "GPU 0000:02:00.0: it fell off the bus")
		id := w.s.placeWith(w.c.NodeID(), job(nil), 0, []api.DeviceClaim{{Type: "gpu", ID: "GPU-2", Share: api.WholeDevice}})
		w.after(time.Second)
		if st := w.wantPhase(id, 1, api.PhasePending); st.Message != "start failed: node node-a has no gpu GPU-2 any more; restart 1 in 5m" {
			t.Errorf("without its device it is reported with %q", st.Message)
		}
		now(both, nil)
		w.after(6 * time.Second) // where something is amiss the node looks more often
		says(3, both, "")
		w.after(5 * time.Minute)
		w.wantPhase(id, 1, api.PhaseRunning)
	})
}

func TestQuietNodeOnlyReportsItsLoad(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(10*time.Minute + time.Second)
		if n := w.s.told(); n < 58 || n > 62 {
			t.Errorf("%d reports in ten quiet minutes, want about 60", n)
		}
	})
}

func TestReportsAreSpaced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.tune = func(c *Config) { c.Tuning.LoadEvery = -1 }
		w.s.spacing = time.Second
		w.up()
		for slot := range uint32(50) {
			id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "1h"}, healthyAfter(time.Hour)), slot)
			w.after(100 * time.Millisecond)
			if slot == 0 && len(w.s.history(id)) != 1 {
				t.Errorf("%d statuses after the first change, which is to go at once", len(w.s.history(id)))
			}
		}
		w.after(5 * time.Second)
		if w.s.told() > 7 {
			t.Errorf("%d reports in five seconds, one second apart", w.s.told())
		}
		w.s.set(func() {
			for _, r := range w.s.rows {
				if r.status.Phase != api.PhaseRunning {
					t.Errorf("%+v", r.status)
				}
			}
		})
	})
}

func TestReportsOutliveFailures(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.s.set(func() { w.s.failing = api.Errorf(api.CodeNoLeader, "no leader") })
		w.engine.Kill(id, driver.Exit{Code: 9})
		w.after(time.Minute)
		w.s.set(func() { w.s.failing = nil })
		w.after(10 * time.Second)
		if st := w.wantPhase(id, 1, api.PhaseRunning); st.ExitCode != 9 {
			t.Errorf("reported as %+v", st)
		}
	})
}

func TestStatusesOnlyGrow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "2s", "exit_code": 1, "start_delay": "1s"}), 0)
		for range 20 {
			w.after(7 * time.Second)
			w.down()
			w.up()
		}
		h := w.s.history(id)
		for i := 1; i < len(h); i++ {
			if h[i].Seq <= h[i-1].Seq || api.ProgressLess(h[i].Restarts, h[i].Phase, h[i-1].Restarts, h[i-1].Phase) {
				t.Errorf("status %+v follows %+v", h[i], h[i-1])
			}
		}
		if len(h) < 10 {
			t.Errorf("only %d statuses", len(h))
		}
	})
}

func TestEndedAllocationsAreForgotten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		var ids []api.ID
		for slot := range uint32(40) {
			ids = append(ids, w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "1s", "lines": 1}, batchJob), slot))
			w.after(2 * time.Second)
		}
		for range 5 {
			ids = append(ids, w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "1s", "lines": 1}, batchJob), 99))
			w.after(2 * time.Second)
		}
		w.wantCount(0)
		var found []int
		for i, id := range ids {
			l, err := w.c.Logs(t.Context(), id, api.LogRequest{Tail: -1})
			switch {
			case err == nil:
				found = append(found, i)
				_ = l.Close()
			case api.CodeOf(err) != api.CodeNotFound:
				t.Errorf("logs of a former allocation: %v", err)
			}
		}
		if len(found) != keepEnded || found[0] < 11 || found[len(found)-1] != 44 || slices.Contains(found, 40) || slices.Contains(found, 41) {
			t.Errorf("kept are %v of 45; want the latest %d, and of the last slot %d", found, keepEnded, keepSlot)
		}
	})
}

func TestLogsFollowFromInstanceToInstance(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "10s", "exit_code": 1, "lines": 2}, func(j *api.Job) {
			j.Tasks[0].Restart.Attempts, j.Tasks[0].Restart.Mode = 2, api.RestartFail
		}), 0)
		w.after(time.Second)
		l, err := w.c.Logs(t.Context(), id, api.LogRequest{Stream: "stdout", Tail: 1, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got, want := readAll(t, l), "out 2\n"+strings.Repeat("out 1\nout 2\n", 2); got != want {
			t.Errorf("followed over two restarts the output is %q, want %q", got, want)
		}
		w.after(time.Second)
		w.wantPhase(id, 2, api.PhaseFailed)
		l, err = w.c.Logs(t.Context(), id, api.LogRequest{Stream: "stderr", Tail: -1, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got, want := readAll(t, l), strings.Repeat("err 1\nerr 2\n", 3); got != want {
			t.Errorf("of a terminal allocation the output is %q, want %q", got, want)
		}
		if _, err := w.c.Logs(t.Context(), 12345, api.LogRequest{}); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("logs of an unknown allocation: %v", err)
		}
	})
}

func TestLogsEndWithTheirReader(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"lines": 1}), 0)
		w.after(time.Second)
		l, err := w.c.Logs(t.Context(), id, api.LogRequest{Stream: "stdout", Tail: -1, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, l)
			read <- err
		}()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-read; err == nil {
			t.Error("a reader of a closed stream sees a regular end")
		}
	})
}

func TestPullProgressIsReported(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"start_delay": "1m"}), 0)
		w.after(time.Second)
		if st := w.wantPhase(id, 0, api.PhasePreparing); st.Message != "waiting for 1m0s" {
			t.Errorf("a start in flight is reported as %+v", st)
		}
	})
}

func TestInPlaceVersionIsTaken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		before := w.only()
		next := job(nil, func(j *api.Job) { j.Version, j.Tasks[0].Restart.Delay = 2, time.Minute })
		w.s.change(func(index uint64) {
			w.s.jobs[specKey{next.Name, 2}] = next
			w.s.rows[id].Version, w.s.rows[id].index = 2, index
		})
		w.after(time.Second)
		if i := w.only(); i != before {
			t.Errorf("an in-place change made %+v of %+v", i, before)
		}
		w.down() // its label still says version 1
		w.up()
		w.after(time.Second)
		if i := w.only(); i != before {
			t.Errorf("after a restart there is %+v, before it was %+v", i, before)
		}
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(50 * time.Second)
		w.wantPhase(id, 1, api.PhasePending)
		w.after(15 * time.Second)
		w.wantPhase(id, 1, api.PhaseRunning)
		if i := w.only(); i.Version != 2 {
			t.Errorf("the next instance is of version %d", i.Version)
		}
	})
}

func TestReportOfAStrangerIsJudged(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.s.set(func() { delete(w.s.rows, id) }) // the servers forget it, and nothing tells the node
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(5 * time.Second)
		w.wantCount(0)
	})
}

// TestASilentServerIsLeft: its connection stands, and nothing comes. A node that asks something doubts it after a second,
// one that asks nothing when gossip says so.
func TestASilentServerIsLeft(t *testing.T) {
	for name, doubt := range map[string]func(w *world, id api.ID){
		"when an answer is late":      func(w *world, id api.ID) { w.engine.Kill(id, driver.Exit{Code: 1}) },
		"when gossip has given it up": func(w *world, _ api.ID) { w.gossips(slices.DeleteFunc(slices.Clone(w.addrs), w.mine)) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.tune = func(c *Config) { c.Tuning.LoadEvery = -1 } // it asks nothing by itself
				w.up()
				id := w.s.place(w.c.NodeID(), job(nil), 0)
				w.after(time.Minute)
				first, ok := w.c.Current()
				if !ok {
					t.Fatal("there is no session")
				}
				w.s.set(func() { w.s.silent[first.(*memConn).addr] = true })
				w.after(time.Minute)
				if now, _ := w.c.Current(); now != first {
					t.Error("a session was given up for no reason")
				}
				doubt(w, id)
				w.after(5 * time.Second)
				if now, ok := w.c.Current(); !ok || now.(*memConn).addr == first.(*memConn).addr {
					t.Errorf("five seconds later the session is %+v", now)
				}
			})
		})
	}
}
