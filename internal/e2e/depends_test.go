package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const dependentTask = `
job "web" {
  task "db" {
    image = "%[1]s"
    args  = ["-health", "503"]
    port "http" {}
    resources {
      cpu    = 0.05
      memory = 32
    }
    check "up" {
      type         = "http"
      path         = "/healthz"
      interval     = "1s"
      start_period = "1s"
    }
    update {
      min_healthy_time = "1s"
    }
  }
  task "front" {
    count = 2
    image = "%[1]s"
    port "http" {}
    resources {
      cpu    = 0.05
      memory = 32
    }
    depends_on "db" {}
  }
}
`

// TestDependsOn: a task waits for another to be well, says so, and begins when it is; where the wait is bounded, it gives up.
func TestDependsOn(t *testing.T) {
	f := newAlone(t, "127.0.9.41")
	file := write(t, "web.hcl", fmt.Sprintf(dependentTask, helloimage.Tag))
	f.does("task", "run", "-detach", file)
	f.eventually("db is placed", 10*time.Second, func() error { return f.placed("web", 1) })
	f.health("web/db[0]", api.HealthUnhealthy, 0)
	f.says(0, "waits for db to be healthy: 0 of 1 instances are", "task", "status", "web")
	if n := len(f.running()); n != 1 {
		t.Errorf("%d containers run while db is ill", n)
	}
	f.tell(f.instance("web/db[0]"), 200)
	f.eventually("front runs", 10*time.Second, func() error {
		if len(f.running()) != 3 {
			return errors.New("it does not")
		}
		return nil
	})
	f.says(0, "3 of 3 instances", "task", "run", file)

	f.does("task", "stop", "web")
	bounded := strings.Replace(fmt.Sprintf(dependentTask, helloimage.Tag), `depends_on "db" {}`, `depends_on "db" { timeout = "2s" }`, 1)
	f.says(2, "front has waited 2s for db to be healthy", "task", "run", write(t, "bounded.hcl", bounded))
	f.says(0, "has waited 2s for db to be healthy, and gives up: 0 of 1 instances are", "task", "status", "web")
}
