package cubetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// TestLaunchesGoOnBubble: a periodic job on a whole cluster, whose leader dies shortly before a time comes.
func TestLaunchesGoOnBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(`
task "backup" {
  type   = "batch"
  driver = "fake"
  periodic {
    crons = ["*/10 * * * *"]
  }
  config {
    run_for = "30s"
  }
}
`)
		launched := func(want int) func(context.Context) error {
			return func(ctx context.Context) error {
				status, _, err := c.Up().Job(ctx, "backup", api.Query{})
				if err != nil {
					return err
				}
				if status.Summary.Status != api.JobWaiting || status.Launches == nil || len(status.Launches.Next) != 3 {
					return fmt.Errorf("it is %+v, %+v", status.Summary, status.Launches)
				}
				names := map[string]bool{}
				for _, child := range status.Launches.Children {
					if child.Status != api.JobComplete || !strings.HasPrefix(child.Name, "backup-") {
						return fmt.Errorf("%s is %s", child.Name, child.Status)
					}
					names[child.Name] = true
				}
				if len(names) != want || len(status.Launches.Children) != want {
					return fmt.Errorf("%d were launched, want %d", len(names), want)
				}
				return nil
			}
		}
		c.Eventually("two are launched and complete", 22*time.Minute, launched(2))
		status, _, err := c.Up().Job(t.Context(), "backup", api.Query{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(status.Launches.Next[0]) - 200*time.Millisecond)
		c.Leader().Crash()
		c.Eventually("the next leader launches the third, once", 2*time.Minute, launched(3))
		c.Eventually("and the fourth", 10*time.Minute, launched(4))
	})
}
