package client

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/fake"
)

func TestAgentRestartAdopts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(2*time.Second + api.DefaultMinHealthyTime)
		w.wantPhase(id, 1, api.PhaseRunning)
		before, node, seq := w.only(), w.c.NodeID(), w.s.status(id).Seq
		w.down()
		w.after(time.Minute)
		w.up()
		w.after(time.Second)
		if w.c.NodeID() != node {
			t.Errorf("the node became %s, it was %s", w.c.NodeID(), node)
		}
		if i := w.only(); i != before {
			t.Errorf("after the restart there is %+v, before it was %+v", i, before)
		}
		if st := w.wantPhase(id, 1, api.PhaseRunning); st.Seq != seq {
			t.Errorf("status %d was reported, though nothing changed since %d", st.Seq, seq)
		}
		w.engine.Kill(id, driver.Exit{Code: 1}) // after more than an hour the backoff would be new: it is not
		w.after(1500 * time.Millisecond)
		w.wantPhase(id, 2, api.PhasePending)
		w.after(time.Second)
		w.wantPhase(id, 2, api.PhaseRunning)
	})
}

func TestEndsWhileTheAgentIsAway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		service := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "30s", "exit_code": 2}), 0)
		batch := w.s.place(w.c.NodeID(), job(map[string]any{"run_for": "30s"}, batchJob, named("batch")), 0)
		w.after(time.Second)
		w.down()
		w.after(time.Minute)
		w.up()
		w.after(100 * time.Millisecond)
		if st := w.wantPhase(service, 1, api.PhasePending); st.ExitCode != 2 {
			t.Errorf("its end is reported as %+v", st)
		}
		w.wantPhase(batch, 0, api.PhaseComplete)
		w.after(2 * time.Second)
		w.wantPhase(service, 1, api.PhaseRunning)
	})
}

func TestNothingStartsBeforeAServerHasAnswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		crashed := w.s.place(w.c.NodeID(), job(nil), 0)
		runs := w.s.place(w.c.NodeID(), job(nil), 1)
		w.after(time.Second)
		w.down()
		w.engine.Kill(crashed, driver.Exit{Code: 1})
		w.s.shut("s1")
		w.s.shut("s2")
		w.up()
		w.after(time.Hour)
		if all, running := w.engine.Count(); all != 1 || running != 1 {
			t.Errorf("%d instances, %d running; want the adopted one alone", all, running)
		}
		w.s.open("s2")
		w.after(10 * time.Second)
		w.wantPhase(crashed, 1, api.PhaseRunning)
		w.wantPhase(runs, 0, api.PhaseRunning)
	})
}

func TestSilentServersStopNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.s.shut("s1")
		w.s.shut("s2")
		w.after(time.Hour)
		if i := w.only(); !i.Running || i.Handle.Key.Restarts != 0 {
			t.Errorf("with the servers silent there is %+v", i)
		}
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(time.Minute)
		if i := w.only(); !i.Running || i.Handle.Key.Restarts != 1 {
			t.Errorf("with the servers silent it is not restarted in place: %+v", i)
		}
		w.s.open("s1")
		w.after(10 * time.Second)
		if st := w.wantPhase(id, 1, api.PhaseRunning); st.ExitCode != 1 {
			t.Errorf("what happened meanwhile is reported as %+v", st)
		}
	})
}

func TestUnknownInstanceIsStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		keep := w.s.place(w.c.NodeID(), job(nil), 1)
		w.after(time.Second)
		w.down()
		w.s.set(func() { delete(w.s.rows, id) })
		w.up()
		w.after(time.Second)
		if i := w.only(); i.Handle.Key.Allocation != keep {
			t.Errorf("what is left is %+v", i)
		}
		if w.s.readies() != 1 {
			t.Errorf("the node said %d times that it is ready, want once", w.s.readies())
		}
	})
}

func TestReadyOnlyAfterTheStops(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(map[string]any{"ignore_signal": true}), 0)
		w.after(time.Second)
		w.down()
		w.s.stopNow(id)
		w.up()
		w.after(api.DefaultKillTimeout - time.Second)
		if w.s.readies() != 0 {
			t.Error("the node is ready though an instance that is to stop runs on")
		}
		w.after(2 * time.Second)
		if w.s.readies() != 1 {
			t.Errorf("the node said %d times that it is ready, want once", w.s.readies())
		}
	})
}

func TestRestoredServersGetTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		forgotten := w.s.place(w.c.NodeID(), job(nil), 0)
		known := w.s.place(w.c.NodeID(), job(nil), 1)
		w.after(time.Second)
		w.s.change(func(index uint64) {
			w.s.epoch = 2
			delete(w.s.rows, forgotten)
		})
		w.after(9 * time.Minute)
		w.wantCount(2)
		w.down() // its deadline outlives the agent
		w.up()
		w.after(30 * time.Second)
		w.wantCount(2)
		w.after(time.Minute)
		if i := w.only(); i.Handle.Key.Allocation != known {
			t.Errorf("what is left is %+v", i)
		}
		w.wantPhase(known, 0, api.PhaseRunning)
	})
}

func TestLostNeverRevives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		w.s.shut("s1")
		w.s.shut("s2")
		w.s.change(func(index uint64) { w.s.rows[id].status.Phase, w.s.rows[id].index = api.PhaseLost, index })
		w.s.open("s1")
		w.after(10 * time.Second)
		w.wantCount(0)
		w.wantPhase(id, 0, api.PhaseLost)
	})
}

// TestDamagedStateIsRebuilt cuts state.db at many places, and spoils it at others: what runs goes on, and the restart
// counter is that of the labels.
func TestDamagedStateIsRebuilt(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"empty":    func(b []byte) []byte { return nil },
		"garbage":  func(b []byte) []byte { return bytes.Repeat([]byte("not a database\n"), 5000) },
		"one byte": func(b []byte) []byte { return b[:1] },
		"page 0":   func(b []byte) []byte { return b[:4096] },
		"no heads": func(b []byte) []byte { clear(b[:8192]); return b },
		"zeroed":   func(b []byte) []byte { clear(b[8192:]); return b },
		"text":     func(b []byte) []byte { return bytes.Replace(b, []byte(`"Task":"web"`), []byte(`"Task":"bew"`), -1) },
	}
	for _, n := range []int{2, 3, 4, 5, 6, 8} {
		damage["half of page "+string(rune('0'+n))] = func(b []byte) []byte { return b[:min(len(b), 4096*n+2048)] }
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.up()
				id := w.s.place(w.c.NodeID(), job(nil), 0)
				w.after(time.Second)
				w.engine.Kill(id, driver.Exit{Code: 1})
				w.after(2 * time.Second)
				before := w.only()
				w.down()
				file := filepath.Join(w.dir, "client", "state.db")
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, spoil(b), 0o600); err != nil {
					t.Fatal(err)
				}
				w.up()
				w.after(time.Second)
				if i := w.only(); i != before {
					t.Errorf("after the damage there is %+v, before it was %+v", i, before)
				}
				w.wantPhase(id, 1, api.PhaseRunning)
				w.engine.Kill(id, driver.Exit{Code: 1})
				w.after(10 * time.Second)
				w.wantPhase(id, 2, api.PhaseRunning)
				w.down()
				w.up() // what was rebuilt is sound
				w.after(time.Second)
				w.wantPhase(id, 2, api.PhaseRunning)
			})
		})
	}
}

// TestForgottenAndToStop: an agent that has forgotten everything finds an instance that is to stop. The servers hear of its
// end, though they have seen more statuses of it than this life of the agent knows of.
func TestForgottenAndToStop(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		for range 3 {
			w.engine.Kill(id, driver.Exit{Code: 1})
			w.after(10 * time.Second)
		}
		w.wantPhase(id, 3, api.PhaseRunning)
		w.down()
		if err := os.Remove(filepath.Join(w.dir, "client", "state.db")); err != nil {
			t.Fatal(err)
		}
		w.s.stop(id)
		w.up()
		w.after(10 * time.Second)
		w.wantCount(0)
		w.wantPhase(id, 3, api.PhaseComplete)
	})
}

// fullDisk fails writes while it is full.
type fullDisk struct {
	store
	full *atomic.Bool
}

func (f fullDisk) Save(b *batch) error {
	if f.full.Load() {
		return &os.PathError{Op: "write", Path: "state.db", Err: syscall.ENOSPC}
	}
	return f.store.Save(b)
}

func TestFullDiskStopsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var full atomic.Bool
		w.alter = func(c *Client) { c.save.st = fullDisk{c.save.st, &full} }
		w.up()
		first := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		full.Store(true)
		second := w.s.place(w.c.NodeID(), job(nil), 1)
		w.after(time.Minute)
		w.wantPhase(first, 0, api.PhaseRunning)
		w.wantPhase(second, 0, api.PhaseRunning)
		trouble := func() string { return w.s.node(w.c.NodeID()).Attributes["client.trouble"] }
		if !strings.Contains(trouble(), "no space left") {
			t.Errorf("the node says of its trouble %q", trouble())
		}
		full.Store(false)
		w.after(time.Minute)
		if trouble() != "" {
			t.Errorf("with room again the node says of its trouble %q", trouble())
		}
		w.down()
		_, left, err := openAndClose(filepath.Join(w.dir, "client", "state.db"))
		if err != nil || len(left.Allocations) != 2 {
			t.Errorf("state.db holds %+v, %v; want both allocations", left, err)
		}
	})
}

// TestRealFullDisk fills a small file system under the client. It needs the right to mount one.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("mounting a file system is not permitted here: run as root; TestFullDiskStopsNothing covers the client's part")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	fill := func(t *testing.T) {
		err := os.WriteFile(filler, make([]byte, 1<<20), 0o600)
		if !isFull(err) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.dir = dir
		w.up()
		first := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		fill(t)
		var more []api.ID
		for slot := range uint32(40) {
			more = append(more, w.s.place(w.c.NodeID(), job(nil), slot+1))
		}
		w.after(10 * time.Second)
		said := 0
		for _, id := range more {
			if st := w.s.status(id); strings.Contains(st.Message, "no space left on device") {
				said++
			} else if st.Phase != api.PhaseRunning {
				t.Errorf("on a full disk an instance is reported as %+v", st)
			}
		}
		if trouble := w.s.node(w.c.NodeID()).Attributes["client.trouble"]; said == 0 && trouble == "" {
			t.Error("nobody says that the disk is full")
		}
		w.wantPhase(first, 0, api.PhaseRunning)
		node := w.c.NodeID()
		w.down()
		w.up() // with the disk full still
		w.after(10 * time.Second)
		w.wantPhase(first, 0, api.PhaseRunning)
		w.down()
		if err := os.Remove(filepath.Join(dir, "client", "state.db")); err != nil {
			t.Fatal(err)
		}
		fill(t)
		w.up() // and with no room for a state file at all
		if w.c.NodeID() != node {
			t.Errorf("the node became %s, it was %s", w.c.NodeID(), node)
		}
		w.after(10 * time.Second)
		w.wantPhase(first, 0, api.PhaseRunning)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		w.after(10 * time.Minute)
		for _, id := range more {
			if st := w.s.status(id); st.Phase != api.PhaseRunning {
				t.Errorf("with room again an instance is reported as %+v", st)
			}
		}
		w.down()
		if _, left, err := openAndClose(filepath.Join(dir, "client", "state.db")); err != nil || len(left.Allocations) != 41 {
			t.Errorf("state.db holds %d allocations, %v; want 41", len(left.Allocations), err)
		}
	})
}

func openAndClose(path string) (*boltStore, *saved, error) {
	st, left, err := openState(path)
	if err == nil {
		err = st.Close()
	}
	return st, left, err
}

func TestStateDamagedWhileInUse(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var once atomic.Bool
		w.alter = func(c *Client) { c.save.st = damagedOnce{c.save.st, &once} }
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Minute)
		w.wantPhase(id, 0, api.PhaseRunning)
		w.down()
		_, left, err := openAndClose(filepath.Join(w.dir, "client", "state.db"))
		if err != nil || len(left.Allocations) != 1 || len(left.Specs) != 1 || left.Cluster.Cluster != w.s.cluster {
			t.Errorf("the new state.db holds %+v, %v; want the allocation, its job and the cluster", left, err)
		}
	})
}

// damagedOnce fails one write as a damaged file does.
type damagedOnce struct {
	store
	did *atomic.Bool
}

func (d damagedOnce) Save(b *batch) error {
	if len(b.Allocations) > 0 && d.did.CompareAndSwap(false, true) {
		_ = d.store.Close()
		return errDamaged
	}
	return d.store.Save(b)
}

// TestIdleInstancesOwnNoGoroutine counts: the client's goroutines do not grow with what runs.
func TestIdleInstancesOwnNoGoroutine(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		before := runtime.NumGoroutine()
		for slot := range uint32(300) {
			w.s.place(w.c.NodeID(), job(nil), slot+1)
		}
		w.after(10 * time.Second)
		w.wantCount(301)
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines with one instance, %d with 301", before, after)
		}
		t.Logf("%d goroutines with 301 instances, the test's own among them", before)
	})
}

func TestEngineDownAtTheStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		id := w.s.place(w.c.NodeID(), job(nil), 0)
		w.after(time.Second)
		before := w.only()
		w.down()
		w.engine.Break("the engine is down")
		w.up()
		w.after(time.Minute)
		if i := w.s.node(w.c.NodeID()).Drivers["fake"]; i.Healthy || i.Reason != "the engine is down" {
			t.Errorf("the driver is registered as %+v", i)
		}
		w.engine.Break("")
		w.after(time.Minute)
		if i := w.s.node(w.c.NodeID()).Drivers["fake"]; !i.Healthy {
			t.Errorf("the driver is registered as %+v", i)
		}
		if i := w.only(); i != before {
			t.Errorf("there is %+v, before it was %+v", i, before)
		}
		w.wantPhase(id, 0, api.PhaseRunning)
		w.engine.Kill(id, driver.Exit{Code: 1})
		w.after(5 * time.Second)
		w.wantPhase(id, 1, api.PhaseRunning)
	})
}

func TestDataDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	cfg := func() Config {
		w := &world{T: t, s: newServers(), engine: fake.NewEngine(), dir: dir}
		return w.config()
	}
	first, err := New(cfg())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg()); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "another agent uses") {
		t.Errorf("a second client in one directory gives %v", err)
	}
	end := func(c *Client) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	end(first)
	path := filepath.Join(dir, "client")

	if err := os.WriteFile(filepath.Join(path, "node-id"), []byte(strings.Repeat("ab", 16)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg()); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "belongs to node "+first.NodeID()) {
		t.Errorf("another node's state gives %v", err)
	}
	if err := os.WriteFile(filepath.Join(path, "node-id"), []byte("me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg()); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a node-id that is none gives %v", err)
	}
	if err := os.Remove(filepath.Join(path, "node-id")); err != nil {
		t.Fatal(err)
	}
	again, err := New(cfg())
	if err != nil || again.NodeID() != first.NodeID() {
		t.Fatalf("without node-id the node is %v (%v), want %s as state.db says", again, err, first.NodeID())
	}
	end(again)
	fresh := cfg()
	fresh.NewIdentity = true
	other, err := New(fresh)
	if err != nil || other.NodeID() == first.NodeID() {
		t.Fatalf("with a new identity the node is %v (%v)", other, err)
	}
	end(other)

	st, _, err := openState(filepath.Join(path, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.setFormat(stateFormat + 1); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg()); !errors.As(err, new(*api.Error)) || api.CodeOf(err) != api.CodeIncompatible {
		t.Errorf("a state.db of a newer format gives %v", err)
	}
}

func (s *boltStore) setFormat(n int) error {
	return s.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyFormat, seal(strconv.AppendInt(nil, int64(n), 10)))
	})
}
