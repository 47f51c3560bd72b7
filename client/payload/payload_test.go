package payload

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cube/api"
)

func dispatched(payload string) (*api.Job, *api.Task) {
	t := api.DefaultTask("resize")
	t.DispatchPayload = &api.DispatchPayload{File: "input.json"}
	return &api.Job{Dispatched: &api.Dispatched{DispatchRequest: api.DispatchRequest{Payload: []byte(payload)}}}, t
}

func TestThePayloadIsThere(t *testing.T) {
	for _, payload := range []string{"{\"n\": 1}\n", "\x00\xff", "", strings.Repeat("x", api.MaxPayload)} {
		dir := t.TempDir()
		j, task := dispatched(payload)
		var calls sync.WaitGroup
		for range 8 { // a task's parts start side by side
			calls.Go(func() {
				if err := Put(dir, j, task); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		file := filepath.Join(Directory(dir), "input.json")
		got, err := os.ReadFile(file)
		if err != nil || string(got) != payload {
			t.Errorf("it holds %.40q, want %.40q (%v)", got, payload, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("it is %v (%v)", info, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
			t.Errorf("there are %v (%v)", left, err)
		}
	}
}

func TestATaskThatWantsNone(t *testing.T) {
	dir := t.TempDir()
	j, task := dispatched("x")
	plain := *task
	plain.DispatchPayload = nil
	for _, err := range []error{Put(dir, j, &plain), Put(dir, &api.Job{}, task)} {
		if err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("there are %v (%v)", left, err)
	}
}

// TestADamagedOne: what a program has written over is put right before its next run.
func TestADamagedOne(t *testing.T) {
	dir := t.TempDir()
	j, task := dispatched("right")
	file := filepath.Join(Directory(dir), "input.json")
	for _, err := range []error{Put(dir, j, task), os.WriteFile(file, []byte("wrong"), 0o600), Put(dir, j, task)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "right" {
		t.Errorf("it holds %q (%v)", got, err)
	}
	if err := os.RemoveAll(Directory(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(Directory(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Put(dir, j, task); err == nil || !strings.Contains(err.Error(), "put the payload into") {
		t.Errorf("a file in the directory's place: %v", err)
	}
}
