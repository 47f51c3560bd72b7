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

const drained = `
task "web" {
  driver = "fake"
  count  = 6
  %s
  migrate {
    max_parallel = 2
    order        = "%s"
  }
  update {
    min_healthy_time = "2s"
  }
}
`

// TestDrainOverALeaderChangeBubble: the leader dies in the middle of a drain. The next one goes on, as many instances stay healthy
// as the task asks for, and all that leave say why.
func TestDrainOverALeaderChangeBubble(t *testing.T) {
	for order, out := range map[string]int{api.OrderStartFirst: 0, api.OrderStopFirst: 2} {
		t.Run(order, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				c := New(t, 3, 2)
				c.NodesReady(2, 30*time.Second)
				c.eligible(c.Clients[1], false)
				c.Submit(fmt.Sprintf(drained, "", order))
				before := c.Runs("web", 6, 10*time.Second)
				c.healthy("web", 6, time.Minute)
				c.eligible(c.Clients[1], true)

				node := c.Clients[0].Name
				if _, err := c.Leader().API().DrainNode(context.Background(), node, api.DrainRequest{Message: "kernel update"}, api.WriteMeta{Who: "alice"}); err != nil {
					t.Fatal(err)
				}
				crashed, moved := false, 0
				c.Eventually("the node is drained", 5*time.Minute, func(ctx context.Context) error {
					if n := c.countHealthy(ctx, "web"); n >= 0 && n < 6-out {
						t.Errorf("%d instances are healthy, at least %d are to be", n, 6-out)
					}
					status, _, err := c.Up().NodeDrain(ctx, node, api.Query{})
					if err != nil {
						return err
					}
					if status.Moved() < moved {
						t.Errorf("%d had moved, and now %d", moved, status.Moved())
					}
					if moved = status.Moved(); moved >= 2 && !crashed {
						crashed = true
						c.Leader().Crash()
					}
					if status.Drain.Active() {
						return fmt.Errorf("%q", status.Lines())
					}
					return nil
				})
				if !crashed {
					t.Error("it was drained before the leader could die")
				}
				for _, a := range c.Runs("web", 6, 10*time.Second) {
					if a.NodeName == node {
						t.Errorf("%s still runs on %s", a.Name, node)
					}
				}
				for _, old := range before {
					a, _, err := c.Leader().API().Allocation(context.Background(), old.ID, api.Query{})
					if err != nil || a.DesiredReason != "node "+node+" drained by alice: kernel update" || a.ReplacedBy == "" {
						t.Errorf("%s left because %q, and %q took its place (%v)", old.Name, a.DesiredReason, a.ReplacedBy, err)
					}
				}
			})
		})
	}
}

// TestDrainEndsByItsDeadlineBubble: what cannot move says so, and is stopped at the deadline, not before and not much later, though
// the leader that was given it is dead by then.
func TestDrainEndsByItsDeadlineBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		node := c.Clients[0].Name
		c.Submit(fmt.Sprintf(drained, fmt.Sprintf("constraint {\n attribute = \"node.name\"\n value = %q\n }", node), api.OrderStartFirst))
		c.Runs("web", 6, 10*time.Second)
		c.healthy("web", 6, time.Minute)
		began := time.Now()
		if _, err := c.Leader().API().DrainNode(context.Background(), node, api.DrainRequest{Deadline: 3 * time.Minute}, api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		c.Eventually("what cannot move says so", 10*time.Second, func(ctx context.Context) error {
			status, _, err := c.Up().NodeDrain(ctx, node, api.Query{})
			if err != nil || len(status.Left) != 6 || !status.Left[0].Stuck || !strings.Contains(status.Left[0].Waits, "no other node can take it") {
				return fmt.Errorf("%+v, %v", status, err)
			}
			return nil
		})
		time.Sleep(time.Minute)
		c.Leader().Crash()
		time.Sleep(90 * time.Second)
		c.Runs("web", 6, 10*time.Second)
		c.Eventually("the node is empty", 5*time.Minute, func(ctx context.Context) error {
			if n := c.Clients[0].Instances(); n > 0 {
				return fmt.Errorf("%d instances are there", n)
			}
			return nil
		})
		if took := time.Since(began); took < 3*time.Minute || took > 3*time.Minute+15*time.Second {
			t.Errorf("the drain ended after %s", took)
		}
		c.Eventually("the drain is complete", 10*time.Second, func(ctx context.Context) error {
			n, _, err := c.Up().Node(ctx, node, api.Query{})
			if err != nil || n.Drain == nil || n.Drain.Stage != api.DrainComplete || !n.Ineligible {
				return fmt.Errorf("%+v, %v", n, err)
			}
			return nil
		})
	})
}

func (c *Cluster) eligible(a *Agent, yes bool) {
	c.t.Helper()
	if _, err := c.Leader().API().SetNodeEligibility(context.Background(), a.Name, api.EligibilityRequest{Eligible: yes}, api.WriteMeta{}); err != nil {
		c.t.Fatal(err)
	}
}

// countHealthy is how many slots of the job have a healthy instance that is to run; -1 if nobody can say.
func (c *Cluster) countHealthy(ctx context.Context, job string) int {
	allocs, _, err := c.Up().JobAllocations(ctx, job, api.Query{})
	if err != nil {
		return -1
	}
	slots := map[int]bool{}
	for _, a := range allocs {
		if a.Phase == api.PhaseRunning && a.Health == api.HealthHealthy && a.Desired == api.DesiredRun {
			slots[a.Slot] = true
		}
	}
	return len(slots)
}

func (c *Cluster) healthy(job string, want int, within time.Duration) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("%d instances of %s are healthy", want, job), within, func(ctx context.Context) error {
		if n := c.countHealthy(ctx, job); n != want {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}
