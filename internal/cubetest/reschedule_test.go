package cubetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

const crashing = `
task "web" {
  driver = "fake"
  config {
    run_for   = "1s"
    exit_code = 3
  }
  restart {
    attempts = 1
    mode     = "fail"
  }
  reschedule {
    delay          = "1m"
    delay_function = "constant"
  }
}
`

// TestACrashLoopIsRescheduledBubble: an instance that failed for good is placed again when its delay is over, on a node that has not
// failed it, whoever leads by then.
func TestACrashLoopIsRescheduledBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 3)
		c.NodesReady(3, 30*time.Second)
		c.Submit(crashing)
		var visited []string
		for round := range 3 {
			var failed *api.Allocation
			var waits *api.Evaluation
			c.Eventually(fmt.Sprintf("instance %d has failed and the next one waits", round+1), time.Minute, func(ctx context.Context) error {
				status, _, err := c.Up().Job(ctx, "web", api.Query{})
				if err != nil {
					return err
				}
				allocs, _, err := c.Up().JobAllocations(ctx, "web", api.Query{})
				if err != nil {
					return err
				}
				slices.SortFunc(allocs, func(a, b *api.Allocation) int { return int(a.CreateIndex) - int(b.CreateIndex) })
				if waits = status.Evaluation; len(allocs) != round+1 || waits == nil || waits.Status != api.EvalWaiting {
					return fmt.Errorf("%d instances, evaluation %+v", len(allocs), waits)
				}
				failed = allocs[round]
				return nil
			})
			if failed.Phase != api.PhaseFailed || failed.Message != "exit code 3; no restart left of 1 within 10m" {
				t.Errorf("it is %v: %q", failed.Phase, failed.Message)
			}
			if slices.Contains(visited, failed.NodeName) {
				t.Errorf("it ran on %s again, after %v", failed.NodeName, visited)
			}
			visited = append(visited, failed.NodeName)
			if delay := waits.WakeAt.Sub(failed.ModifiedAt); delay < 59*time.Second || delay > 61*time.Second {
				t.Errorf("it waits for %s", delay)
			}
			want := fmt.Sprintf("web: 1 of 1 not placed: web[0] failed: rescheduled in %s (attempt %d)", 10*time.Second, round+1)
			if lines := waits.Explanations[0].LinesAt(waits.WakeAt.Add(-10 * time.Second)); !slices.Equal(lines, []string{want}) {
				t.Errorf("it is explained by %q, want %q", lines, want)
			}
			leader := c.Leader()
			leader.Crash() // nobody's memory decides when
			c.Leader()
			leader.Return()
			time.Sleep(time.Until(waits.WakeAt) - 2*time.Second)
			if allocs, _, err := c.Up().JobAllocations(t.Context(), "web", api.Query{}); err != nil || len(allocs) != round+1 {
				t.Fatalf("before its time there are %d instances (%v)", len(allocs), err)
			}
			c.Eventually("the next instance is placed", 3*time.Second, func(ctx context.Context) error {
				allocs, _, err := c.Up().JobAllocations(ctx, "web", api.Query{})
				if err == nil && len(allocs) <= round+1 {
					err = fmt.Errorf("there are %d", len(allocs))
				}
				return err
			})
		}
		t.Logf("it went by way of %s", strings.Join(visited, ", "))
	})
}
