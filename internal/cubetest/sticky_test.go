package cubetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

const stickyTask = `
task "web" {
  driver = "fake"
  count  = 6
  ephemeral_disk {
    sticky = true
    move   = "must"
  }
  migrate {
    max_parallel = 2
  }
  update {
    min_healthy_time = "2s"
  }
}
`

// own is the directory of an instance's ephemeral disk.
func (c *Cluster) own(a *api.Allocation) string {
	for _, client := range c.Clients {
		if client.Name == a.NodeName {
			return filepath.Join(client.cfg.DataDir, "client", "alloc", a.ID, "data")
		}
	}
	c.t.Fatalf("%s is on no node: %+v", a.Name, a)
	return ""
}

// TestStickyDataMovesBubble: the data of a slot goes with it from node to node, whichever servers the nodes have their sessions with, and
// though the leader dies meanwhile; when a node is drained nothing is left there.
func TestStickyDataMovesBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 3)
		c.NodesReady(3, 30*time.Second)
		c.Submit(stickyTask)
		for _, a := range c.Runs("web", 6, 10*time.Second) {
			if err := os.WriteFile(filepath.Join(c.own(a), "said"), []byte(a.Name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c.healthy("web", 6, time.Minute)
		for round, client := range c.Clients {
			if _, err := c.Leader().API().DrainNode(context.Background(), client.Name, api.DrainRequest{}, api.WriteMeta{}); err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				c.Leader().Crash()
			}
			c.Eventually("the node is drained", 5*time.Minute, func(ctx context.Context) error {
				status, _, err := c.Up().NodeDrain(ctx, client.Name, api.Query{})
				if err != nil || status.Drain.Active() {
					return fmt.Errorf("%+v, %v", status, err)
				}
				return nil
			})
			for _, a := range c.Runs("web", 6, 10*time.Second) {
				if b, err := os.ReadFile(filepath.Join(c.own(a), "said")); string(b) != a.Name || err != nil || a.NodeName == client.Name {
					t.Errorf("%s on %s has %q, %v", a.Name, a.NodeName, b, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(client.cfg.DataDir, "client", "alloc", "*", "data")); len(left) > 0 {
				t.Errorf("the drained node has %v", left)
			}
			c.eligible(client, true)
		}
	})
}
