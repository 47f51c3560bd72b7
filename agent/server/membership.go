package server

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"cube/agent/server/members"
	"cube/agent/server/raftnode"
)

const (
	// changeTimeout bounds one change of the Raft configuration.
	changeTimeout = 10 * time.Second
	// changeRetry is the pause after one that failed: most likely an earlier one is not committed yet.
	changeRetry = time.Second
	// heartbeats is how many observations of failing servers may wait; the rest is dropped by raft.
	heartbeats = 64
)

// membership is the leader's loop that lets servers in, and to vote.
type membership struct {
	node      *raftnode.Node
	roster    *members.Roster
	voters    members.Voters
	clusterID string
	alone     bool // -dev: nobody is let in
	logger    hclog.Logger
}

// run ends when ctx does. Gossip, heartbeats that fail or resume, and the end of a server's probation wake it.
func (m *membership) run(ctx context.Context) error {
	if m.alone {
		<-ctx.Done()
		return nil
	}
	seen := make(chan raft.Observation, heartbeats)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	m.node.RegisterObserver(observer)
	defer m.node.DeregisterObserver(observer)
	failing := make(map[string]bool)
	for {
		gossip := m.roster.Changed.Wait()
		change, again := m.voters.Next(time.Now(), m.clusterID, m.node.Servers(), m.roster.Servers(), failing)
		if change != nil {
			if err := m.make(*change); err != nil {
				if lostLeadership(err) {
					return err
				}
				m.logger.Warn("changing the servers failed: trying again", "server", change.Server.ID, "error", err)
				again = time.Now().Add(changeRetry)
			} else {
				continue
			}
		}
		var timer <-chan time.Time
		if !again.IsZero() {
			timer = time.After(time.Until(again))
		}
		select {
		case o := <-seen:
			switch o := o.Data.(type) {
			case raft.FailedHeartbeatObservation:
				failing[string(o.PeerID)] = true
			case raft.ResumedHeartbeatObservation:
				delete(failing, string(o.PeerID))
			}
		case <-gossip:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
	}
}

// make carries out one change and waits until it is committed.
func (m *membership) make(c members.Change) error {
	var future raft.IndexFuture
	what := "vote"
	switch {
	case c.Remove:
		what = "go"
		future = m.node.RemoveServer(c.Server.ID, 0, changeTimeout)
	case c.Server.Suffrage == raft.Voter:
		future = m.node.AddVoter(c.Server.ID, c.Server.Address, 0, changeTimeout)
	default:
		what = "follow"
		future = m.node.AddNonvoter(c.Server.ID, c.Server.Address, 0, changeTimeout)
	}
	if err := future.Error(); err != nil {
		return err
	}
	m.logger.Info("the servers changed", "server", c.Server.ID, "address", c.Server.Address, "to", what, "why", c.Why)
	return nil
}
