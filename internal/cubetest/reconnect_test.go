package cubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// TestAClientIsBackAtOnceBubble: an agent dies and is back before, while and after its old session is missed, as a process
// whose connections are reset and as a machine that is not heard of any more. Nothing is started anew.
func TestAClientIsBackAtOnceBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 4))
		before, n := c.Runs("web", 4, 10*time.Second), c.Clients[0]
		for _, how := range []memnet.Death{memnet.Reset, memnet.Blackhole} {
			for _, away := range []time.Duration{0, time.Second, 2900 * time.Millisecond, 4500 * time.Millisecond} {
				c.Net.Crash(n.IP, how)
				_ = n.Stop() // it could not reach anybody
				time.Sleep(away)
				n.Return()
				c.NodesReady(2, 10*time.Second)
				c.same(fmt.Sprintf("after %s away (%d)", away, how), before)
			}
		}
	})
}

// TestAServerLosesItsPeersBubble: a server that cannot reach the others says so to its clients, and they move. For the
// nodes nothing has happened, however long it lasts.
func TestAServerLosesItsPeersBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 4)
		c.NodesReady(4, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 8))
		before := c.Runs("web", 8, 10*time.Second)
		for _, s := range c.Servers {
			for _, other := range c.Servers {
				if other != s {
					c.Net.Cut(s.IP, other.IP)
					c.Net.Cut(other.IP, s.IP)
				}
			}
			time.Sleep(time.Minute) // twice as long as a node may be silent
			for _, n := range c.Clients {
				c.Eventually(n.Name+" has found another server", time.Second, func(ctx context.Context) error {
					_, _, err := n.API().ListNodes(ctx, api.Query{})
					return err
				})
			}
			c.Net.Heal()
			c.Leader()
			c.same("after "+s.Name+" was cut off from the other servers", before)
		}
	})
}

// TestServersAreUpgradedBubble: servers are stopped and started one after the other, as in an upgrade, while somebody
// writes. No write fails, none waits long, and nodes and instances notice nothing.
func TestServersAreUpgradedBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 4))
		before := c.Runs("web", 4, 10*time.Second)
		ctx, stop := context.WithCancel(context.Background())
		longest := make(chan time.Duration)
		go func() {
			most := time.Duration(0)
			for ctx.Err() == nil {
				began := time.Now()
				// By way of a client, as it stays; a write whose answer was lost with the leader is sent again.
				err := errors.New("not sent")
				for err != nil && time.Since(began) < 10*time.Second {
					_, err = c.Clients[0].API().SetNodeEligibility(context.Background(), before[0].NodeID, api.EligibilityRequest{Eligible: true}, api.WriteMeta{})
				}
				if err != nil {
					t.Errorf("a write failed: %v", err)
				}
				most = max(most, time.Since(began))
				time.Sleep(50 * time.Millisecond)
			}
			longest <- most
		}()
		leader := c.Leader()
		order := append(slices.DeleteFunc(slices.Clone(c.Servers), func(s *Agent) bool { return s == leader }), leader)
		for _, s := range order {
			if err := s.Stop(); err != nil {
				t.Errorf("%s ended with %v", s.Name, err)
			}
			time.Sleep(2 * time.Second)
			s.Start()
			c.Eventually(s.Name+" follows again", 30*time.Second, func(ctx context.Context) error {
				_, err := s.API().Health(ctx)
				return err
			})
			time.Sleep(5 * time.Second)
		}
		stop()
		most := <-longest
		t.Logf("the slowest write took %s", most)
		if most > 2*time.Second {
			t.Errorf("a write took %s", most)
		}
		c.same("after the upgrade", before)
	})
}

// TestAStateIsRestoredUnderClientsBubble: with all clients connected the servers are taken back to an earlier state, twice.
// What that state knows runs on as it is; what it has forgotten is given time and then stopped; what is new is told from it.
func TestAStateIsRestoredUnderClientsBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 3)
		c.NodesReady(3, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 3))
		before := c.Runs("web", 3, 10*time.Second)
		saved := c.save()
		const later = `task "later" {
  driver = "fake"
  count  = 3
}`
		for i := range 2 {
			c.Submit(later)
			c.Runs("later", 3, 10*time.Second)
			c.Eventually("the state is restored", 10*time.Second, func(ctx context.Context) error {
				return c.Up().RestoreSnapshot(ctx, bytes.NewReader(saved), api.WriteMeta{})
			})
			c.NodesReady(3, 20*time.Second)
			time.Sleep(9 * time.Minute)
			if _, _, err := c.Up().Job(context.Background(), "later", api.Query{}); api.CodeOf(err) != api.CodeNotFound {
				t.Errorf("restore %d has not forgotten what came later: %v", i, err)
			}
			c.counts(fmt.Sprintf("9 minutes after restore %d", i), 6)
			c.same(fmt.Sprintf("after restore %d", i), before)
			time.Sleep(2 * time.Minute)
			c.counts(fmt.Sprintf("11 minutes after restore %d", i), 3)
		}
		c.Submit(later)
		c.Runs("later", 3, 10*time.Second)
		c.same("in the end", before)
		c.agree()
	})
}

func (c *Cluster) save() []byte {
	c.t.Helper()
	r, err := c.Up().SaveSnapshot(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// counts fails the test unless so many instances run on all machines together.
func (c *Cluster) counts(when string, want int) {
	c.t.Helper()
	total := 0
	for _, n := range c.Clients {
		total += n.Instances()
	}
	if total != want {
		c.t.Errorf("%s %d instances run, want %d", when, total, want)
	}
}
