package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const crashingTask = `
task "web" {
  image = "%[1]s"
  args  = ["-listen", "none", "-exit-after", "100ms", "-exit-code", "3"]
  resources {
    cpu    = 0.05
    memory = 32
  }
  restart {
    attempts = 1
    delay    = "100ms"
    mode     = "fail"
  }
  reschedule {
    attempts       = 2
    delay          = "3s"
    delay_function = "constant"
  }
}
task "hog" {
  image = "%[1]s"
  args  = ["-listen", "none", "-memory", "64", "-lines", "1"]
  resources {
    cpu    = 0.05
    memory = 16
  }
}
`

// TestReschedule has an instance crash until its restarts, and then its attempts elsewhere, are used up; and one that takes more
// memory than it may have.
func TestReschedule(t *testing.T) {
	f := newAlone(t, "127.0.9.22")
	other := &process{name: "n2", bind: "127.0.9.23", dir: filepath.Join(t.TempDir(), "data"), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.22"}}
	f.clients = append(f.clients, other)
	other.start(t)
	f.eventually("two nodes are ready", 20*time.Second, func() error { return f.nodesReady(2) })
	if code, out := f.cube("task", "run", "-detach", write(t, "web.hcl", fmt.Sprintf(crashingTask, helloimage.Tag))); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}

	says := func(command, text string) {
		t.Helper()
		f.eventually(fmt.Sprintf("%s says %q", command, text), 20*time.Second, func() error {
			if code, out := f.cube(strings.Fields(command)...); code != 0 || !strings.Contains(out, text) {
				return fmt.Errorf("it ends with %d:\n%s", code, out)
			}
			return nil
		})
	}
	says("task status web", "web[0]: exit code 3; no restart left of 1 within 10m")
	first := f.instance("web[0]")
	says("task status web", "web: 1 of 1 not placed: web[0] failed: rescheduled in ")
	says("task explain web", "(attempt 1 of 2)")
	f.eventually("it is placed on the other node", 20*time.Second, func() error {
		if now := f.instance("web[0]"); now.ID == first.ID || now.NodeID == first.NodeID || now.Replaces != first.ID {
			return fmt.Errorf("it is %s on %s, and replaces %q", now.ID, now.NodeName, now.Replaces)
		}
		return nil
	})
	says("task status web", "web[0] failed and is not placed again: its restart policy and its attempts to reschedule are used up")
	if allocs, _, err := f.up().JobAllocations(t.Context(), "web", api.Query{}); err != nil || len(allocs) != 3 {
		t.Errorf("%d instances were placed (%v), want 3", len(allocs), err)
	}

	docker(t, "kill", "--signal", "USR1", f.agree("hog", 1, 10*time.Second)[0].ID)
	says("task status hog", "hog[0]: killed for want of memory (limit 16 MiB); restart 1 in 1s")
	allocs, _, err := f.up().JobAllocations(t.Context(), "hog", api.Query{})
	if err != nil || len(allocs) != 1 {
		t.Fatalf("%d instances of hog (%v)", len(allocs), err)
	}
	says("alloc status "+allocs[0].ID, "exit code 137 (SIGKILL), for want of memory")
}
