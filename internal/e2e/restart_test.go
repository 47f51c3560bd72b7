package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const restartedTask = `
task "web" {
  count          = 3
  image          = "%s"
  shutdown_delay = "1s"
  port "http" {}
  resources {
    cpu    = 0.02
    memory = 16
  }
  check "up" {
    type     = "http"
    path     = "/healthz"
    interval = "1s"
  }
  update {
    max_parallel     = 3
    order            = "start-first"
    min_healthy_time = "500ms"
  }
}
`

const frailTask = `
task "frail" {
  image = "%s"
  args  = ["-listen", "none", "-lines", "1"]
  resources {
    cpu    = 0.02
    memory = 16
  }
  restart {
    attempts = 0
    mode     = "fail"
  }
  reschedule {
    attempts = 0
  }
  update {
    min_healthy_time = "200ms"
  }
}
`

// TestRestart replaces three instances under requests, of which none may fail, and then one alone; and an instance that had failed
// for good comes back.
func TestRestart(t *testing.T) {
	f := newAlone(t, "127.0.9.31")
	if code, out := f.cube("task", "run", write(t, "web.hcl", fmt.Sprintf(restartedTask, helloimage.Tag))); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}
	f.deployed(1, api.DeploymentSuccessful)
	before := f.agree("web", 3, 10*time.Second)

	ctx, enough := context.WithCancel(t.Context())
	asked := make(chan int)
	go func() { asked <- f.ask(ctx) }()
	if code, out := f.cube("task", "restart", "web"); code != 0 || !strings.Contains(out, `Job "web" version 2: 3 of 3 instances healthy`) {
		t.Errorf("task restart ends with %d:\n%s", code, out)
	}
	f.deployed(2, api.DeploymentSuccessful)
	enough()
	if n := <-asked; n < 20 {
		t.Errorf("only %d requests were made", n)
	}
	after := f.agree("web", 3, 10*time.Second)
	if shared(before, after) != 0 {
		t.Errorf("not all were replaced: they were %v and are %v", before, after)
	}
	if code, out := f.cube("task", "restart", "-instance", "1", "web"); code != 0 {
		t.Errorf("task restart -instance ends with %d:\n%s", code, out)
	}
	f.deployed(3, api.DeploymentSuccessful)
	if now := f.agree("web", 3, 10*time.Second); shared(after, now) != 2 {
		t.Errorf("not one was replaced: they were %v and are %v", after, now)
	}
	if code, out := f.cube("task", "history", "-diff", "web"); code != 0 || !strings.Contains(out, "restart of web[1] of version 1 by ") {
		t.Errorf("history ends with %d:\n%s", code, out)
	}

	if code, out := f.cube("task", "stop", "web"); code != 0 {
		t.Fatalf("task stop ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("task", "run", write(t, "frail.hcl", fmt.Sprintf(frailTask, helloimage.Tag))); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}
	docker(t, "kill", f.agree("frail", 1, 10*time.Second)[0].ID)
	f.eventually("frail[0] has failed for good", 10*time.Second, func() error {
		if code, out := f.cube("task", "status", "frail"); code != 0 || !strings.Contains(out, "frail[0] failed and is not placed again") {
			return fmt.Errorf("it ends with %d:\n%s", code, out)
		}
		return nil
	})
	if code, out := f.cube("task", "restart", "frail"); code != 0 || !strings.Contains(out, "1 of 1 instances") {
		t.Errorf("task restart ends with %d:\n%s", code, out)
	}
	f.agree("frail", 1, 10*time.Second)
	if code, out := f.cube("task", "stop", "-detach", "frail"); code != 0 {
		t.Errorf("task stop ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("task", "restart", "frail"); code != 1 || !strings.Contains(out, `Error restarting "frail": job "frail" is stopped; run it again instead`) {
		t.Errorf("the restart of a stopped job ends with %d:\n%s", code, out)
	}
}
