package e2e

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const halfRolledTask = `
task "web" {
  count = 3
  image = "%s"
  args  = ["-listen", "none", %s]
  resources {
    cpu    = 0.05
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
    min_healthy_time  = "200ms"
    healthy_deadline  = "5s"
    progress_deadline = "10s"
  }
}
`

// TestADrainPastAFailedRollOut: a node is emptied though the job on it is half rolled out and stays so: its old instances move in their
// version, and what failed there is nothing to wait for.
func TestADrainPastAFailedRollOut(t *testing.T) {
	f := newAlone(t, "127.0.9.14")
	file := func(args string) string {
		return write(t, "web.hcl", fmt.Sprintf(halfRolledTask, helloimage.Tag, args))
	}
	if code, out := f.cube("task", "run", file("")); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}
	f.agree("web", 3, 10*time.Second)
	if code, out := f.cube("task", "run", file(`"-exit-after", "0s", "-exit-code", "4"`)); code != 2 {
		t.Fatalf("a version that ends at once ends with %d:\n%s", code, out)
	}
	f.deployed(2, api.DeploymentFailed)

	second := &process{name: "n2", bind: "127.0.9.15", dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.14"}}
	second.start(t)
	f.clients = append(f.clients, second)
	f.eventually("the second node is ready", 20*time.Second, func() error { return f.nodesReady(2) })
	if code, out := f.cube("node", "drain", "-detach", "-deadline", "10m", "n1"); code != 0 {
		t.Fatalf("node drain ends with %d:\n%s", code, out)
	}
	f.eventually("the drain is complete", 20*time.Second, func() error {
		s, _, err := f.up().NodeDrain(t.Context(), "n1", api.Query{})
		if err != nil {
			return err
		}
		if s.Drain == nil || s.Drain.Stage != api.DrainComplete {
			_, why := f.cube("task", "explain", "web")
			_, evals := f.cube("eval", "status", "-json")
			return fmt.Errorf("%q\n%s\n%s", s.Lines(), why, evals)
		}
		return nil
	})
	for _, c := range f.agree("web", 2, 10*time.Second) {
		if c.Node != f.nodeID("n2") {
			t.Errorf("%s runs on %s", c.Alloc, c.Node)
		}
	}
}
