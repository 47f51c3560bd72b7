package client

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/client/estate"
)

// TestWhatTakesThePlaceOfOneThatMovesIsHealthyByMigrate, also after a restart of the agent, and what does not by update.
func TestWhatTakesThePlaceOfOneThatMovesIsHealthyByMigrate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		slow := func(j *api.Job) {
			j.Tasks[0].Update.MinHealthyTime, j.Tasks[0].Migrate.MinHealthyTime = 5*time.Second, 20*time.Second
		}
		placed := w.s.placeAs(w.c.NodeID(), job(nil, slow), api.Assignment{})
		moved := w.s.placeAs(w.c.NodeID(), job(nil, slow), api.Assignment{Slot: 1, Moved: true})
		w.after(7 * time.Second)
		w.wantHealth(placed, api.HealthHealthy)
		w.wantHealth(moved, api.HealthUnknown)
		w.down()
		w.up()
		w.after(5 * time.Second)
		w.wantHealth(moved, api.HealthUnknown)
		w.after(15 * time.Second)
		w.wantHealth(moved, api.HealthHealthy)
	})
}

// inherits has the world's node take over directories of a node n0, which has that of allocation 1.
func (w *world) inherits(t *testing.T) (place func(slot uint32, more ...func(*api.Job)) api.ID, own func(api.ID) string) {
	left := t.TempDir()
	if err := os.WriteFile(filepath.Join(left, "said"), []byte("on n0"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.s.set(func() {
		w.s.estates = func(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error) {
			if node != w.c.NodeID() || r.Former != 1 {
				return nil, api.Errorf(api.CodeConflict, "node n0 is down")
			}
			if r.Taken {
				return nil, nil
			}
			in, out := io.Pipe()
			go func() { out.CloseWithError(estate.Pack(ctx, out, left)) }()
			return in, nil
		}
	})
	place = func(slot uint32, more ...func(*api.Job)) api.ID {
		more = append(more, func(j *api.Job) {
			j.Tasks[0].EphemeralDisk = &api.EphemeralDisk{Destination: "/alloc", Sticky: true, Move: j.Meta["move"]}
		})
		return w.s.placeAs(w.c.NodeID(), job(nil, more...), api.Assignment{Slot: slot, Former: []api.Former{{Allocation: api.ID(slot), Node: "n0", NodeName: "n0"}}})
	}
	own = func(id api.ID) string {
		return estate.Own(filepath.Join(w.dir, "client", "alloc", api.NewIDText("c0ffee").Format(id)))
	}
	return place, own
}

// TestDataComesFromAnotherNode: it is there before anything of the instance starts, its status says so, and what cannot be fetched is
// done without, or waited for, as the task asks.
func TestDataComesFromAnotherNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(time.Second)
		place, own := w.inherits(t)
		id := place(1, prestart("first", map[string]any{"run_for": "5s"}))
		w.after(time.Second)
		if b, err := os.ReadFile(filepath.Join(own(id), "said")); err != nil || string(b) != "on n0" {
			t.Errorf("the prestart finds %q, %v", b, err)
		}
		w.after(5*time.Second + api.DefaultMinHealthyTime)
		if st := w.wantPhase(id, 0, api.PhaseRunning); !strings.HasPrefix(st.Message, "data fetched from node n0: 1 KiB in ") {
			t.Errorf("it runs as %+v", st)
		}
		without := place(2, named("two"))
		w.after(time.Second + api.DefaultMinHealthyTime)
		if st := w.wantPhase(without, 0, api.PhaseRunning); st.Message != "data not fetched from node n0: node n0 is down; it begins with an empty directory" {
			t.Errorf("it runs as %+v", st)
		}
		lost := place(4, named("four"), func(j *api.Job) { j.Tasks[0].Config = map[string]any{"run_for": "10ms", "exit_code": 1} })
		w.after(500 * time.Millisecond)
		if st := w.wantPhase(lost, 1, api.PhasePending); st.Message != "exit code 1 (data not fetched from node n0: node n0 is down; it begins with an empty directory); restart 1 in 1s" {
			t.Errorf("it ends as %+v", st)
		}
		must := place(3, named("three"), func(j *api.Job) { j.Meta = map[string]string{"move": api.MoveMust} })
		w.after(500 * time.Millisecond)
		if st := w.wantPhase(must, 1, api.PhasePending); st.Message != "start failed: data not fetched from node n0: node n0 is down; restart 1 in 1s" {
			t.Errorf("it waits as %+v", st)
		}
	})
}

// TestADirectoryIsKeptUntilItIsFetched, however much ends on its node meanwhile, and for no longer than it may be asked for.
func TestADirectoryIsKeptUntilItIsFetched(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(time.Second)
		_, own := w.inherits(t)
		sticky := func(j *api.Job) { j.Tasks[0].EphemeralDisk = &api.EphemeralDisk{Destination: "/alloc", Sticky: true} }
		id := w.s.place(w.c.NodeID(), job(nil, sticky), 0)
		w.after(time.Second)
		if err := os.WriteFile(filepath.Join(own(id), "said"), []byte("here"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.Estate(t.Context(), id, false); api.CodeOf(err) != api.CodeBusy {
			t.Errorf("what runs is given away: %v", err)
		}
		w.s.stop(id)
		w.after(time.Minute)
		for n := range 2 * keepEnded {
			w.s.stop(w.s.place(w.c.NodeID(), job(nil, named(fmt.Sprint("other", n))), 0))
			w.after(time.Second)
		}
		w.down()
		w.up()
		w.after(time.Second)
		in, err := w.c.Estate(t.Context(), id, false)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "to")
		if _, err := estate.Unpack(in, to, "", estate.Limits{Bytes: 100, Entries: 1}, func(int64, int64) {}); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if b, err := os.ReadFile(filepath.Join(to, "said")); string(b) != "here" || err != nil {
			t.Errorf("the other node has %q, %v", b, err)
		}
		if _, err := w.c.Estate(t.Context(), id, true); err != nil {
			t.Error(err)
		}
		if _, err := w.c.Estate(t.Context(), id, false); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("it is there still: %v", err)
		}
		if _, err := w.c.Estate(t.Context(), 12345, false); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("a stranger's: %v", err)
		}
	})
}
