package e2e

import (
	"fmt"
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
	f.join("n2", "127.0.9.23")
	f.does("task", "run", "-detach", write(t, "web.hcl", fmt.Sprintf(crashingTask, helloimage.Tag)))

	const soon = 20 * time.Second
	f.comesToSay(soon, "web[0]: exit code 3; no restart left of 1 within 10m", "task", "status", "web")
	first := f.instance("web[0]")
	f.comesToSay(soon, "web: 1 of 1 not placed: web[0] failed: rescheduled in ", "task", "status", "web")
	f.comesToSay(soon, "(attempt 1 of 2)", "task", "explain", "web")
	f.eventually("it is placed on the other node", soon, func() error {
		if now := f.instance("web[0]"); now.ID == first.ID || now.NodeID == first.NodeID || now.Replaces != first.ID {
			return fmt.Errorf("it is %s on %s, and replaces %q", now.ID, now.NodeName, now.Replaces)
		}
		return nil
	})
	f.comesToSay(soon, "web[0] failed and is not placed again: its restart policy and its attempts to reschedule are used up", "task", "status", "web")
	if allocs, _, err := f.up().JobAllocations(t.Context(), "web", api.Query{}); err != nil || len(allocs) != 3 {
		t.Errorf("%d instances were placed (%v), want 3", len(allocs), err)
	}

	docker(t, "kill", "--signal", "USR1", f.agree("hog", 1, 10*time.Second)[0].ID)
	f.comesToSay(soon, "hog[0]: killed for want of memory (limit 16 MiB); restart 1 in 1s", "task", "status", "hog")
	allocs, _, err := f.up().JobAllocations(t.Context(), "hog", api.Query{})
	if err != nil || len(allocs) != 1 {
		t.Fatalf("%d instances of hog (%v)", len(allocs), err)
	}
	f.comesToSay(soon, "exit code 137 (SIGKILL), for want of memory", "alloc", "status", allocs[0].ID)
}
