package cubetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/client/device"
	"cube/internal/memnet"
)

// TestDevicesFollowTheirInstancesBubble: devices that a client's configuration names are given away in shares, never more
// than there is; a machine that dies gives back what its instances held, one that comes back with fewer devices loses no
// instance by that.
func TestDevicesFollowTheirInstancesBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		equip := func(a *Agent, gpus int) {
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
			a.cfg.Client.Devices = []device.Block{{Type: "gpu", Model: "T4", Count: gpus}}
			a.Start()
		}
		equip(c.Clients[0], 2)
		equip(c.Clients[1], 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(`task "web" {
  driver = "fake"
  count  = 7
  resources {
    device "gpu" {
      share = 0.5
      constraint {
        attribute = "device.model"
        value     = "T4"
      }
    }
  }
}`)
		c.Runs("web", 7, 10*time.Second)
		if use := c.use(); use != "1000 1000 1000 500" && use != "1000 500 1000 1000" {
			t.Errorf("the devices are in use by %s thousandths", use)
		}

		c.Clients[0].Crash()
		c.Runs("web", 4, time.Minute)
		c.Eventually("the reason is told", 30*time.Second, func(ctx context.Context) error {
			s, _, err := c.Up().Job(ctx, "web", api.Query{})
			if err != nil {
				return err
			}
			if e := s.Evaluation; e == nil || e.Status != api.EvalBlocked || !strings.Contains(fmt.Sprint(e.Explanations), "nothing left of 2 T4") {
				return fmt.Errorf("%+v", e)
			}
			return nil
		})
		c.Clients[0].Return()
		before := c.Runs("web", 7, time.Minute)
		c.Eventually("what was replaced is gone", 30*time.Second, func(ctx context.Context) error { return c.owned(ctx) })

		equip(c.Clients[1], 1)
		c.Eventually("one device is gone and held", 30*time.Second, func(context.Context) error {
			if gone := c.goneDevices(); gone != 1 {
				return fmt.Errorf("%d are", gone)
			}
			return nil
		})
		c.NodesReady(2, 30*time.Second)
		c.same("after a device was taken away", before)
	})
}

// goneDevices counts the devices that no node announces any more and an instance holds all of.
func (c *Cluster) goneDevices() (gone int) {
	c.t.Helper()
	for _, n := range c.nodes() {
		for _, d := range n.DeviceUse {
			if d.Gone && d.Held == api.WholeDevice {
				gone++
			}
		}
	}
	return gone
}

func (c *Cluster) nodes() []*api.NodeView {
	c.t.Helper()
	nodes, _, err := c.Leader().API().ListNodes(context.Background(), api.Query{})
	if err != nil {
		c.t.Fatal(err)
	}
	return nodes
}

// use is what is held of each device, in thousandths, node by node.
func (c *Cluster) use() string {
	c.t.Helper()
	var held []string
	for _, n := range c.nodes() {
		for _, d := range n.DeviceUse {
			held = append(held, fmt.Sprint(d.Held))
		}
	}
	return strings.Join(held, " ")
}
