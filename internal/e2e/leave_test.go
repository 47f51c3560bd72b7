package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const leavingTask = `
task "web" {
  count          = 2
  image          = "%s"
  shutdown_delay = "1h"
  port "http" {}
  resources {
    cpu    = 0.05
    memory = 32
  }
  update {
    min_healthy_time = "1s"
  }
}
`

// TestShutdownDelay: an instance that is to stop is out of rotation and goes on answering, also over a restart of its agent,
// until its delay is over or somebody has no time for it.
func TestShutdownDelay(t *testing.T) {
	f := newAlone(t, "127.0.9.11")
	f.does("task", "run", write(t, "web.hcl", fmt.Sprintf(leavingTask, helloimage.Tag)))
	f.health("web[0]", api.HealthHealthy, 0)
	before := f.agree("web", 2, 10*time.Second)
	first := f.instance("web[0]")

	leaving := func() error {
		a, _, err := f.up().Allocation(t.Context(), first.ID, api.Query{})
		switch {
		case err != nil:
			return err
		case a.Desired != api.DesiredStop || a.Phase != api.PhaseRunning || a.Health != api.HealthUnknown || !strings.Contains(a.Message, "out of rotation for 1h"):
			return fmt.Errorf("it is to %v, %v, %v: %s", a.Desired, a.Phase, a.Health, a.Message)
		}
		answer, err := http.Get(fmt.Sprintf("http://%s:%d/", a.NodeAddress, a.Ports[0].Host))
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}
	f.does("task", "scale", "-detach", "web", "1")
	f.does("task", "scale", "-detach", "web", "0")
	f.eventually("web[0] has left the rotation and answers", 10*time.Second, leaving)

	agent := f.servers[0]
	agent.end(t, 15)
	agent.start(t)
	f.eventually("the node is ready again", 20*time.Second, func() error { return f.nodesReady(1) })
	f.eventually("it still answers", 10*time.Second, leaving)
	if now := f.running(); shared(before, now) != 2 {
		t.Errorf("a restart of the agent touched containers: they were %v and are %v", before, now)
	}

	f.says(0, "has stopped", "alloc", "stop", "-no-shutdown-delay", first.ID)
	if left := f.running(); len(left) != 1 {
		t.Errorf("one instance was in a hurry, and there are %v", left)
	}
	f.says(0, "has stopped", "task", "stop", "-no-shutdown-delay", "web")
	if left := f.running(); len(left) != 0 {
		t.Errorf("there is still %v", left)
	}
}
