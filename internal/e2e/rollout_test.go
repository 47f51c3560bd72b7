package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const rolledTask = `
task "web" {
  count          = 6
  image          = "%s"
  args           = [%s]
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
    max_parallel      = 3
    order             = "start-first"
    min_healthy_time  = "1s"
    healthy_deadline  = "15s"
    progress_deadline = "30s"
    auto_revert       = true
  }
}
`

// TestRollOut rolls a version of six instances out under requests, of which none may fail, and then one whose image is bad, which
// is reverted by itself.
func TestRollOut(t *testing.T) {
	f := newAlone(t, "127.0.9.21")
	file := func(image, args string) string { return write(t, "web.hcl", fmt.Sprintf(rolledTask, image, args)) }
	f.does("task", "run", file(helloimage.Tag, ""))
	f.deployed(1, api.DeploymentSuccessful)

	f.underRequests(func() {
		f.says(0, "6 of 6 instances healthy", "task", "run", file(helloimage.Tag, `"-lines", "1"`))
		f.deployed(2, api.DeploymentSuccessful)
	})
	before := f.agree("web", 6, 20*time.Second)

	if code, out := f.cube("task", "run", file("cube/none:1", "")); code != 2 || !strings.Contains(out, "version 2") && !strings.Contains(out, "version 3") {
		t.Errorf("a bad image ends with %d:\n%s", code, out)
	}
	f.deployed(4, api.DeploymentSuccessful)
	f.says(0, "reverted to version 2 automatically", "task", "history", "web")
	if now := f.agree("web", 6, 20*time.Second); shared(before, now) != 6 {
		t.Errorf("a bad image cost containers: they were %v and are %v", before, now)
	}
	f.says(0, "reverted", "deployment", "list", "web")
}

// deployed waits until the deployment of a version has come to an end.
func (f *fleet) deployed(version uint64, want api.DeploymentStatus) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("the deployment of version %d is %s", version, want), 60*time.Second, func() error {
		d, _, err := f.up().Deployment(f.t.Context(), "web", api.Query{})
		if err != nil || d.Version != version || d.Status != want {
			return fmt.Errorf("it is %+v, %v", d, err)
		}
		return nil
	})
}

// underRequests does something while ask goes on.
func (f *fleet) underRequests(do func()) {
	f.t.Helper()
	ctx, enough := context.WithCancel(f.t.Context())
	asked := make(chan int)
	go func() { asked <- f.ask(ctx) }()
	defer func() { // also when what is done ends the test
		enough()
		if n := <-asked; n < 20 {
			f.t.Errorf("only %d requests were made", n)
		}
	}()
	do()
}

// ask sends requests to instances that are in rotation until ctx ends, and returns how many. None may fail, and at least two
// instances must be there each time.
func (f *fleet) ask(ctx context.Context) int {
	made := 0
	for ctx.Err() == nil {
		allocs, _, err := f.up().JobAllocations(ctx, "web", api.Query{})
		if err != nil {
			break
		}
		healthy := 0
		for _, a := range allocs {
			if a.Desired != api.DesiredRun || a.Phase != api.PhaseRunning || a.Health != api.HealthHealthy {
				continue
			}
			healthy++
			answer, err := http.Get(fmt.Sprintf("http://%s:%d/healthz", a.NodeAddress, a.Ports[0].Host))
			if err != nil {
				f.t.Errorf("%s (%s) does not answer: %v", a.Name, a.ID, err)
				continue
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				f.t.Errorf("%s (%s) answers %s", a.Name, a.ID, answer.Status)
			}
			made++
		}
		if healthy < 2 {
			f.t.Errorf("only %d instances are healthy", healthy)
		}
	}
	return made
}
