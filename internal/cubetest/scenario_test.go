package cubetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

const six = `
task "web" {
  driver = "fake"
  count  = %d
  spread {
    attribute = "node.name"
    weight    = 100
  }
}
`

// TestTheNightAMachineDiesBubble is the scenario of internal/e2e in virtual time, with what real processes cannot show in
// seconds: the network cut instead of the process killed.
func TestTheNightAMachineDiesBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 3)
		c.NodesReady(3, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 6))
		before := c.Runs("web", 6, 10*time.Second)
		if nodes := nodesOf(before); len(nodes) != 3 {
			t.Errorf("six instances with spread stand on %v", nodes)
		}

		c.Leader().Crash()
		took := c.Eventually("a write after the leader's crash", 3*time.Second, func(ctx context.Context) error {
			_, err := c.Up().SetNodeEligibility(ctx, before[0].NodeID, api.EligibilityRequest{Eligible: true}, api.WriteMeta{})
			return err
		})
		t.Logf("a write was accepted %s after the leader crashed", took)
		c.same("after the leader crashed", before)
		for _, s := range c.Servers {
			if !s.Running() {
				s.Return()
			}
		}

		n := c.Clients[0]
		n.Crash()
		n.Return()
		c.NodesReady(3, 30*time.Second)
		c.same("after a client restarted", before)

		n.Crash()
		c.Eventually("the instances of the dead client run elsewhere", 15*time.Second, func(ctx context.Context) error {
			now, _, err := c.Up().JobAllocations(ctx, "web", api.Query{})
			if err != nil {
				return err
			}
			running := 0
			for _, a := range now {
				if a.Phase == api.PhaseRunning && a.NodeName != n.Name {
					running++
				}
			}
			if running != 6 {
				return fmt.Errorf("%d run", running)
			}
			return nil
		})
		n.Return()
		c.NodesReady(3, 30*time.Second)
		c.Eventually("what is stale on the returned client is gone", 10*time.Second, func(context.Context) error {
			if r := n.Instances(); r != 0 {
				return fmt.Errorf("%d instances still run there", r)
			}
			return nil
		})
		c.Runs("web", 6, 5*time.Second)
	})
}

// TestServersAwayBubble: no server for ten minutes. Instances go on, crash and are restarted in place meanwhile.
func TestServersAwayBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 4))
		before := c.Runs("web", 4, 10*time.Second)
		for _, s := range c.Servers {
			s.Crash()
		}
		time.Sleep(10 * time.Minute)
		if r := c.Clients[0].Instances() + c.Clients[1].Instances(); r != 4 {
			t.Errorf("%d instances run without servers, want 4", r)
		}
		for _, s := range c.Servers {
			s.Return()
		}
		c.Leader()
		c.NodesReady(2, time.Minute)
		c.same("after ten minutes without servers", before)
		c.Submit(fmt.Sprintf(six, 5))
		c.Runs("web", 5, 10*time.Second)
	})
}

// TestPartitionsBubble cuts the leader off, then a client, then heals: one leader at a time, the old one serves nothing
// stale, and in the end the counts are right.
func TestPartitionsBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 3)
		c.NodesReady(3, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 6))
		c.Runs("web", 6, 10*time.Second)

		old := c.Leader()
		var others []string
		for _, a := range append(append([]*Agent(nil), c.Servers...), c.Clients...) {
			if a != old {
				others = append(others, a.IP)
			}
		}
		c.Net.Partition([]string{old.IP}, others)
		var other *Agent
		c.Eventually("the majority elects another leader", 10*time.Second, func(ctx context.Context) error {
			for _, s := range c.Servers {
				if h, err := s.API().Health(ctx); s != old && err == nil && h.Leading {
					other = s
					return nil
				}
			}
			return errors.New("none yet")
		})
		if _, _, err := old.API().ListJobs(context.Background(), api.Query{}); err == nil {
			t.Error("the cut-off leader answers a default read")
		}
		if _, _, err := old.API().ListJobs(context.Background(), api.Query{Stale: true}); err != nil {
			t.Errorf("the cut-off leader refuses a stale read: %v", err)
		}
		c.Eventually("the majority accepts writes", 10*time.Second, func(ctx context.Context) error {
			_, err := other.API().RegisterJobs(ctx, api.Submission{Source: fmt.Sprintf(six, 7)}, api.WriteMeta{})
			return err
		})
		c.Net.Heal()
		c.Runs("web", 7, 30*time.Second)

		cut := c.Clients[2]
		c.Net.Partition([]string{cut.IP}, without(c.ips(), cut.IP))
		c.Eventually("the cut-off client's instances are replaced", time.Minute, func(ctx context.Context) error {
			nodes, _, err := c.Up().ListNodes(ctx, api.Query{})
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.Name == cut.Name && n.Status == api.NodeDown {
					return nil
				}
			}
			return errors.New("it is not down yet")
		})
		c.Runs("web", 7, 10*time.Second)
		c.Net.Heal()
		c.NodesReady(3, 2*time.Minute)
		c.Eventually("no instance too many is left", time.Minute, func(context.Context) error {
			total := 0
			for _, n := range c.Clients {
				total += n.Instances()
			}
			if total != 7 {
				return fmt.Errorf("%d run", total)
			}
			return nil
		})
	})
}

// TestAServerIsWipedBubble: a server that lost its directory comes back as a new one and takes the old one's place.
func TestAServerIsWipedBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 1)
		c.NodesReady(1, 30*time.Second)
		leader := c.Leader()
		i := slices.IndexFunc(c.Servers, func(s *Agent) bool { return s != leader })
		s := c.Servers[i]
		s.Crash()
		s.Wipe()
		s.Return()
		c.Eventually("three servers vote again", 2*time.Minute, func(ctx context.Context) error {
			peers, err := c.Leader().API().RaftPeers(ctx)
			if err != nil {
				return err
			}
			for _, s := range c.Servers {
				if !slices.ContainsFunc(peers, func(p api.RaftPeer) bool { return p.ID == s.ServerID() && p.Voter }) {
					return fmt.Errorf("%s (%s) does not vote: %+v", s.Name, s.ServerID(), peers)
				}
			}
			if len(peers) != 3 {
				return fmt.Errorf("%d peers: %+v", len(peers), peers)
			}
			return nil
		})
		c.Submit(fmt.Sprintf(six, 1))
		c.Runs("web", 1, 10*time.Second)
	})
}

// same fails the test when the job's running allocations are not those of before.
func (c *Cluster) same(when string, before []*api.Allocation) {
	c.t.Helper()
	now := c.Runs("web", len(before), 20*time.Second)
	if got, want := idsOf(now), idsOf(before); !slices.Equal(got, want) {
		c.t.Errorf("%s the instances are %v, were %v", when, got, want)
	}
}

func idsOf(allocs []*api.Allocation) []string {
	var ids []string
	for _, a := range allocs {
		ids = append(ids, fmt.Sprintf("%s/%d", a.ID, a.Restarts))
	}
	slices.Sort(ids)
	return ids
}

func nodesOf(allocs []*api.Allocation) []string {
	var nodes []string
	for _, a := range allocs {
		if !slices.Contains(nodes, a.NodeName) {
			nodes = append(nodes, a.NodeName)
		}
	}
	return nodes
}

func (c *Cluster) ips() []string {
	var ips []string
	for _, a := range append(append([]*Agent(nil), c.Servers...), c.Clients...) {
		ips = append(ips, a.IP)
	}
	return ips
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}
