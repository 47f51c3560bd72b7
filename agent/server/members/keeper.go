package members

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"cube/agent/server/raftnode"
)

const (
	// ChangeTimeout bounds one change of the Raft configuration.
	ChangeTimeout = 10 * time.Second
	// changeRetry is the pause after one that failed: most likely an earlier one is not committed yet.
	changeRetry = time.Second
	// heartbeats is how many observations of failing servers may wait; the rest is dropped by raft.
	heartbeats = 64
)

// Keeper is the leader's loop that lets servers in, and to vote.
type Keeper struct {
	Node      *raftnode.Node
	Roster    *Roster
	Self      string // Raft ID
	ClusterID string
	Logger    hclog.Logger
}

// Run ends when ctx does. Gossip, heartbeats that fail or resume, and the end of a server's probation wake it.
func (k *Keeper) Run(ctx context.Context) error {
	seen := make(chan raft.Observation, heartbeats)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	k.Node.RegisterObserver(observer)
	defer k.Node.DeregisterObserver(observer)
	failing := make(map[string]bool)
	voters := Voters{Self: k.Self}
	for {
		gossip := k.Roster.Changed.Wait()
		change, again := voters.Next(time.Now(), k.ClusterID, k.Node.Servers(), k.Roster.Servers(), failing)
		if change != nil {
			if err := k.make(*change); err != nil {
				if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
					return err
				}
				k.Logger.Warn("changing the servers failed: trying again", "server", change.Server.ID, "error", err)
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
func (k *Keeper) make(c Change) error {
	var future raft.IndexFuture
	what := "vote"
	switch {
	case c.Remove:
		what = "go"
		future = k.Node.RemoveServer(c.Server.ID, 0, ChangeTimeout)
	case c.Server.Suffrage == raft.Voter:
		future = k.Node.AddVoter(c.Server.ID, c.Server.Address, 0, ChangeTimeout)
	default:
		what = "follow"
		future = k.Node.AddNonvoter(c.Server.ID, c.Server.Address, 0, ChangeTimeout)
	}
	if err := future.Error(); err != nil {
		return err
	}
	k.Logger.Info("the servers changed", "server", c.Server.ID, "address", c.Server.Address, "to", what, "why", c.Why)
	return nil
}
