package cubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// The rules between servers and clients, each over whole agents.

// TestNothingIsLoggedWhenNothingHappensBubble: loads, polls, sessions that move and clients that register again as they
// were are nothing that the servers would have to agree on.
func TestNothingIsLoggedWhenNothingHappensBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 4)
		c.NodesReady(4, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 8))
		c.Runs("web", 8, 10*time.Second)
		time.Sleep(30 * time.Second) // what retention has to tidy up
		before := c.index()
		time.Sleep(10 * time.Minute)
		if after := c.index(); after != before {
			t.Errorf("ten quiet minutes took the state from index %d to %d", before, after)
		}
		leader := c.Leader()
		for _, s := range c.Servers {
			if s != leader { // its clients go elsewhere
				s.Crash()
				time.Sleep(20 * time.Second)
				s.Return()
				time.Sleep(20 * time.Second)
			}
		}
		if after := c.index(); after != before {
			t.Errorf("sessions that moved took the state from index %d to %d", before, after)
		}
	})
}

// index is how far the leader's state has come.
func (c *Cluster) index() uint64 {
	c.t.Helper()
	h, err := c.Leader().API().Health(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return h.Index
}

// TestHalfTheNodesFallSilentBubble: when over half of the nodes would fall at once, nothing is done for two minutes. What
// comes back by then has lost nothing; what does not is replaced.
func TestHalfTheNodesFallSilentBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 4)
		c.NodesReady(4, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 8))
		before := c.Runs("web", 8, 10*time.Second)
		cut := func() {
			c.Net.Partition([]string{c.Clients[0].IP, c.Clients[1].IP, c.Clients[2].IP})
		}
		cut()
		time.Sleep(2 * time.Minute)
		c.Net.Heal()
		c.NodesReady(4, 30*time.Second)
		c.same("after a switch was away for two minutes", before)

		time.Sleep(time.Minute)
		cut()
		c.Eventually("the instances run on the node that is left", 4*time.Minute, func(ctx context.Context) error {
			if n := c.Clients[3].Instances(); n != 8 {
				return fmt.Errorf("%d do", n)
			}
			return nil
		})
		c.Net.Heal()
		c.NodesReady(4, time.Minute)
		c.Runs("web", 8, 10*time.Second)
		c.Eventually("what was replaced is gone", 30*time.Second, func(ctx context.Context) error { return c.owned(ctx) })
	})
}

// TestAPortIsTakenBubble: a port that something outside Cube holds is left alone for ten minutes, what wanted it says so
// meanwhile, and gets it then, though nothing else happens in the cluster.
func TestAPortIsTakenBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Clients[0].Engine.TakePort(8080, true)
		began := time.Now()
		c.Submit(`task "web" {
  driver = "fake"
  count  = 2
  port "http" { static = 8080 }
}`)
		c.Runs("web", 1, 10*time.Second)
		c.Eventually("the reason is told", 5*time.Second, func(ctx context.Context) error {
			s, _, err := c.Up().Job(ctx, "web", api.Query{})
			if err != nil {
				return err
			}
			if e := s.Evaluation; e == nil || e.Status != api.EvalBlocked || !strings.Contains(fmt.Sprint(e.Explanations), "8080") {
				return fmt.Errorf("%+v", e)
			}
			return nil
		})
		c.Clients[0].Engine.TakePort(8080, false)
		time.Sleep(9 * time.Minute)
		c.Runs("web", 2, 2*time.Minute)
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("the port was tried again after %s", took)
		}
	})
}

// TestOneSlotAtATimeBubble: a change replaces one instance after the other, each only when all new ones run.
func TestOneSlotAtATimeBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		const web = `task "web" {
  driver = "fake"
  count  = 4
  env    = { VERSION = "%d" }
  config { start_delay = "500ms" }
}`
		c.Submit(fmt.Sprintf(web, 1))
		before := c.Runs("web", 4, 10*time.Second)
		c.Submit(fmt.Sprintf(web, 2))
		least := 4
		c.Eventually("all are of the new version", time.Minute, func(ctx context.Context) error {
			least = min(least, c.Clients[0].Instances()+c.Clients[1].Instances())
			now, _, err := c.Up().JobAllocations(ctx, "web", api.Query{})
			if err != nil {
				return err
			}
			fresh := 0
			for _, a := range now {
				if a.JobVersion != before[0].JobVersion && a.Phase == api.PhaseRunning {
					fresh++
				}
			}
			if fresh != 4 {
				return errors.New("not yet")
			}
			return nil
		})
		if least != 3 {
			t.Errorf("at the least %d of 4 ran", least)
		}
		c.Runs("web", 4, 5*time.Second)
	})
}

// TestSessionsSpreadAgainBubble: a server that comes back has no sessions. Within the hour it has some again, and no
// node and no instance has noticed.
func TestSessionsSpreadAgainBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 9)
		c.NodesReady(9, 30*time.Second)
		c.Submit(fmt.Sprintf(six, 9))
		before := c.Runs("web", 9, 10*time.Second)
		s := c.Servers[0]
		s.Crash()
		time.Sleep(20 * time.Second)
		s.Return()
		time.Sleep(20 * time.Second)
		if n := c.sessions(s); n != 0 {
			t.Logf("%d nodes moved to it at once", n)
		}
		time.Sleep(45 * time.Minute)
		if n := c.sessions(s); n == 0 {
			t.Error("it has none still")
		}
		c.same("after sessions have moved", before)
	})
}

// sessions asks a server how many nodes it has.
func (c *Cluster) sessions(s *Agent) int {
	c.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.Net.Host(s.IP).Dial(ctx, s.IP+":5555")
	}}
	resp, err := (&http.Client{Transport: transport}).Get("http://cube/v1/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\ncube_server_sessions ")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		c.t.Fatalf("no number of sessions in the metrics: %v\n%s", err, b)
	}
	return n
}
