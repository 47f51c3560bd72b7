package e2e

import (
	"fmt"
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
	f.does("task", "run", write(t, "web.hcl", fmt.Sprintf(restartedTask, helloimage.Tag)))
	f.deployed(1, api.DeploymentSuccessful)
	before := f.agree("web", 3, 10*time.Second)

	f.underRequests(func() {
		f.says(0, `Job "web" version 2: 3 of 3 instances healthy`, "task", "restart", "web")
		f.deployed(2, api.DeploymentSuccessful)
	})
	after := f.agree("web", 3, 10*time.Second)
	if shared(before, after) != 0 {
		t.Errorf("not all were replaced: they were %v and are %v", before, after)
	}
	f.says(0, "", "task", "restart", "-instance", "1", "web")
	f.deployed(3, api.DeploymentSuccessful)
	if now := f.agree("web", 3, 10*time.Second); shared(after, now) != 2 {
		t.Errorf("not one was replaced: they were %v and are %v", after, now)
	}
	f.says(0, "restart of web[1] of version 1 by ", "task", "history", "-diff", "web")

	f.does("task", "stop", "web")
	f.does("task", "run", write(t, "frail.hcl", fmt.Sprintf(frailTask, helloimage.Tag)))
	docker(t, "kill", f.agree("frail", 1, 10*time.Second)[0].ID)
	f.comesToSay(10*time.Second, "frail[0] failed and is not placed again", "task", "status", "frail")
	f.says(0, "1 of 1 instances", "task", "restart", "frail")
	f.agree("frail", 1, 10*time.Second)
	f.says(0, "", "task", "stop", "-detach", "frail")
	f.says(1, `Error restarting "frail": job "frail" is stopped; run it again instead`, "task", "restart", "frail")
}
