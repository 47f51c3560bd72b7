package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const watchedTask = `
task "web" {
  count = 2
  image = "%s"
  resources {
    cpu    = 0.05
    memory = 32
  }
  restart {
    delay = "200ms"
  }
}
`

// TestTimeline: a container that somebody kills is told with its cause, to who follows the events and to who asks later, also
// when the server was started anew meanwhile.
func TestTimeline(t *testing.T) {
	f := newAlone(t, "127.0.9.47")
	type seen struct {
		batches []api.EventBatch
		err     error
	}
	followed := make(chan seen, 1)
	begun, enough := make(chan struct{}), errors.New("enough")
	go func() {
		var s seen
		s.err = f.up().Events(t.Context(), api.EventRequest{Follow: true, Job: "web"}, func(b api.EventBatch) error {
			if s.batches = append(s.batches, b); len(s.batches) == 1 {
				close(begun)
			}
			if slices.ContainsFunc(b.Events, func(e *api.EventView) bool { return e.Type == "restarted" }) {
				return enough
			}
			return nil
		})
		followed <- s
	}()
	<-begun
	f.does("task", "run", write(t, "web.hcl", fmt.Sprintf(watchedTask, helloimage.Tag)))
	f.agree("web", 2, 10*time.Second)
	docker(t, "kill", "--signal", "KILL", f.running()[0].ID)
	f.comesToSay(10*time.Second, "] restarted: ", "task", "timeline", "web")
	s := <-followed
	if !errors.Is(s.err, enough) {
		t.Fatalf("following the events ends with %v", s.err)
	}
	var types []string
	for _, b := range s.batches {
		for _, e := range b.Events {
			types = append(types, e.Type)
		}
	}
	if got := slices.Compact(types); !strings.HasPrefix(strings.Join(got, " "), "submitted rollout look placed looked started") {
		t.Errorf("the events were %v", got)
	}

	before := timelineOf(t, f)
	f.servers[0].end(t, syscall.SIGTERM)
	f.servers[0].start(t)
	f.comesToSay(15*time.Second, "submitted by ", "task", "timeline", "web")
	if after := timelineOf(t, f); !slices.Equal(after[:len(before)], before) {
		t.Errorf("before a restart of the server the timeline was\n%q\nand is\n%q", before, after)
	}
	f.eventually("web runs", 15*time.Second, func() error { return f.placed("web", 2) })
	f.does("task", "stop", "web")
	f.comesToSay(5*time.Second, "web[0..1] are to stop: job stopped, asked for by ", "task", "timeline", "web")
	f.says(0, "has stopped", "events", "-job", "web", "-n", "5")
	if code, out := f.cube("events", "-since", "1"); code == 0 && !strings.Contains(out, "submitted") {
		t.Errorf("events since the beginning end with %d:\n%s", code, out)
	}
}

// timelineOf is what the timeline says, without times.
func timelineOf(t *testing.T, f *fleet) (out []string) {
	t.Helper()
	code, text := f.cube("task", "timeline", "-json", "web")
	var all []api.EventView
	if err := json.Unmarshal([]byte(text), &all); code != 0 || err != nil {
		t.Fatalf("task timeline -json ends with %d: %v\n%s", code, err, text)
	}
	for _, e := range all {
		out = append(out, e.Text)
	}
	return out
}
