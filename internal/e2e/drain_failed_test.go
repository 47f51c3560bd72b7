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
	f.does("task", "run", file(""))
	f.agree("web", 3, 10*time.Second)
	f.says(2, "", "task", "run", file(`"-exit-after", "0s", "-exit-code", "4"`))
	f.deployed(2, api.DeploymentFailed)

	f.join("n2", "127.0.9.15")
	f.does("node", "drain", "-detach", "-deadline", "10m", "n1")
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
