package server

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// TestALeaderSendsItsNodesElsewhere: who polls it is told so within seconds, though there is nothing else to say; who polls
// another is not.
func TestALeaderSendsItsNodesElsewhere(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		follower := servers[0]
		if follower == leader {
			follower = servers[1]
		}
		here, there := c.node(1), c.node(2)
		here.connect(leader)
		there.connect(follower)
		here.register(leader)
		there.register(leader)
		for _, n := range []*node{here, there} {
			n.index = leader.machine.Snapshot().Index()
		}
		for i := range 400 { // as far as the leader is told
			remove := follower.registry.Add(fmt.Sprint(i), 1, noLink{})
			defer remove()
		}
		began := time.Now()
		answer := make(chan *api.PollAnswer, 1)
		go func() { answer <- there.poll() }()
		if got := here.poll(); !got.Elsewhere || time.Since(began) > 20*time.Second {
			t.Errorf("after %s: %+v", time.Since(began), got)
		}
		if got := <-answer; got.Elsewhere || time.Since(began) < pollWait {
			t.Errorf("the follower's node, after %s: %+v", time.Since(began), got)
		}
	})
}

// noLink is a session that nothing is asked on.
type noLink struct{}

func (noLink) Transport() http.RoundTripper { return nil }
func (noLink) Probe()                       {}
func (noLink) Close() error                 { return nil }
