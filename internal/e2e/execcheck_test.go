package e2e

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const execCheckedTask = `
task "web" {
  image = "%s"
  args  = ["-listen", "none"]
  resources {
    cpu    = 0.05
    memory = 32
  }
  check "up" {
    type                     = "exec"
    command                  = ["/hello", "-listen", "none", %s]
    interval                 = "1s"
    timeout                  = "1s"
    start_period             = "0s"
    failures_before_critical = 2
    restart_after            = %d
  }
  update {
    min_healthy_time = "0s"
  }
}
`

// TestExecChecks asks an instance by commands inside its container, which its checks name in turn: one that passes, one that
// fails and says why, one that is not there, and one that hangs until the instance is restarted.
func TestExecChecks(t *testing.T) {
	f := newAlone(t, "127.0.9.21")
	run := func(args string, restartAfter int) {
		t.Helper()
		f.does("task", "run", "-detach", write(t, "web.hcl", fmt.Sprintf(execCheckedTask, helloimage.Tag, args, restartAfter)))
	}
	run(`"-exit-after", "0s"`, 0)
	f.health("web[0]", api.HealthHealthy, 0)
	before := f.agree("web", 1, 10*time.Second)

	run(`"-open", "/var/lib/ready"`, 0)
	f.health("web[0]", api.HealthUnhealthy, 0)
	f.says(0, "check up: exit code 1: hello: open /var/lib/ready: no such file or directory", "task", "status", "web")
	run(`"-exit-after", "0s"`, 0)
	f.health("web[0]", api.HealthHealthy, 0)
	if now := f.agree("web", 1, 10*time.Second); shared(before, now) != 1 {
		t.Errorf("checks touched the container: it was %v and is %v", before, now)
	}

	run(`"-lines", "1"`, 3)
	f.eventually("what hangs is restarted", 30*time.Second, func() error {
		if a := f.instance("web[0]"); a.Restarts == 0 {
			return fmt.Errorf("it is %v and %v: %s", a.Phase, a.Health, a.Message)
		}
		return nil
	})
}
