package client

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"cube/api"
	"cube/client/estate"
)

// shelf are volumes that exist as soon as they are made.
type shelf struct {
	mu   sync.Mutex
	list []api.NodeVolume
}

func (s *shelf) Find() ([]api.NodeVolume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list), nil
}

func (s *shelf) Change(c api.VolumeChange) (*api.VolumeDone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := api.NodeVolume{Name: c.Name, Path: "/volumes/" + c.Name}
	switch c.Step {
	case api.VolumeMake:
		s.list = append(s.list, v)
	case api.VolumeWithdraw:
		s.list = slices.DeleteFunc(s.list, func(o api.NodeVolume) bool { return o.Name == c.Name })
	default:
		return nil, errors.New("it is full")
	}
	return &api.VolumeDone{Volume: v}, nil
}

// TestVolumesAreToldAtOnce: what becomes of a node's volumes reaches the servers without waiting for the next look; what an
// instance holds is not withdrawn before it has ended.
func TestVolumesAreToldAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.tune = func(c *Config) { c.Volumes = &shelf{} }
		w.up()
		w.after(time.Second)
		change := func(step api.VolumeStep) error {
			_, err := w.c.Volume(t.Context(), api.VolumeChange{Step: step, Name: "data"})
			w.after(100 * time.Millisecond)
			return err
		}
		known := func() bool { return w.s.node(w.c.NodeID()).Volume("data") != nil }
		if err := change(api.VolumeMake); err != nil || !known() {
			t.Fatalf("made: %v; the servers know it: %v", err, known())
		}
		held := job(nil)
		held.Tasks[0].Volumes = []api.VolumeRequest{{Name: "v", Source: "data", Access: api.AccessSingleWriter}}
		id := w.s.place(w.c.NodeID(), held, 0)
		w.after(time.Second)
		for _, step := range []api.VolumeStep{api.VolumeWithdraw, api.VolumeRemove} {
			if err := change(step); api.CodeOf(err) != api.CodeConflict || !known() {
				t.Errorf("%s while it is held: %v; the servers know it: %v", step, err, known())
			}
		}
		w.s.stop(id)
		w.after(time.Minute)
		if err := change(api.VolumeWithdraw); err != nil || known() {
			t.Errorf("withdrawn: %v; the servers know it: %v", err, known())
		}
		if err := change(api.VolumeRemove); err == nil || err.Error() != "it is full" {
			t.Errorf("an error of the disk comes back as %v", err)
		}
	})
}

// TestASlotsDataGoesFromOneInstanceToTheNext, and to no other slot's or job's.
func TestASlotsDataGoesFromOneInstanceToTheNext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.up()
		w.after(time.Second)
		sticky := func(j *api.Job) { j.Tasks[0].EphemeralDisk = &api.EphemeralDisk{Destination: "/alloc", Sticky: true} }
		own := func(id api.ID) string {
			return estate.Own(filepath.Join(w.dir, "client", "alloc", api.NewIDText("c0ffee").Format(id)))
		}
		said := func(id api.ID) string {
			b, _ := os.ReadFile(filepath.Join(own(id), "said"))
			return string(b)
		}
		first := w.s.place(w.c.NodeID(), job(nil, sticky), 0)
		w.after(time.Second)
		if err := os.WriteFile(filepath.Join(own(first), "said"), []byte("by the first"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.s.stop(first)
		w.after(time.Minute)
		w.down()
		w.up()
		other, stranger := w.s.place(w.c.NodeID(), job(nil, sticky), 1), w.s.place(w.c.NodeID(), job(nil, sticky, named("other")), 0)
		w.after(time.Second)
		next := w.s.place(w.c.NodeID(), job(nil, sticky), 0)
		w.after(time.Second)
		w.wantPhase(next, 0, api.PhaseRunning)
		if said(next) != "by the first" || said(first)+said(other)+said(stranger) != "" {
			t.Errorf("the next has %q; the first %q, another slot %q, another job %q", said(next), said(first), said(other), said(stranger))
		}
	})
}
