package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const canaryTask = `
task "web" {
  count = 2
  image = "%s"
  args  = [%s]
  resources {
    cpu    = 0.02
    memory = 16
  }
  update {
    canary           = %d
    order            = "start-first"
    min_healthy_time = "%s"
    auto_revert      = true
  }
}
`

// TestDeploymentsAreSteered: a canary stays alone until it is promoted; a deployment that is paused goes on when it is resumed;
// and one that a person fails is reverted.
func TestDeploymentsAreSteered(t *testing.T) {
	f := newAlone(t, "127.0.9.22")
	submit := func(args string, canary int, settles string) {
		t.Helper()
		file := write(t, "web.hcl", fmt.Sprintf(canaryTask, helloimage.Tag, args, canary, settles))
		f.does("task", "run", "-detach", file)
	}
	submit("", 0, "100ms")
	f.deployed(1, api.DeploymentSuccessful)

	submit(`"-lines", "1"`, 1, "100ms")
	f.eventually("a canary waits to be promoted", 15*time.Second, func() error {
		d, _, err := f.up().Deployment(t.Context(), "web", api.Query{})
		if err != nil || d.Version != 2 || !strings.Contains(d.Reason, "wait to be promoted") || d.Tasks[0].Placed != 1 {
			return fmt.Errorf("it is %+v, %v", d, err)
		}
		return nil
	})
	f.does("deployment", "promote", "web")
	f.deployed(2, api.DeploymentSuccessful)

	submit(`"-lines", "2"`, 0, "2s")
	f.does("deployment", "pause", "web")
	f.deployed(3, api.DeploymentPaused)
	f.does("deployment", "resume", "web")
	f.deployed(3, api.DeploymentSuccessful)

	submit(`"-lines", "3"`, 1, "1s")
	f.does("deployment", "fail", "web")
	f.deployed(5, api.DeploymentSuccessful)
	f.says(0, "reverted to version 3 automatically", "task", "history", "web")
	f.agree("web", 2, 15*time.Second)
}
