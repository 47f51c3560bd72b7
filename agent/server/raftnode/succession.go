package raftnode

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"cube/agent/server/signal"
)

const (
	// probes is how often a leader whose connection ended is looked for: a process that is dying may take a connection and
	// reset it before it closes its port.
	probes     = 5
	probePause = 20 * time.Millisecond
	// probeTimeout is for an address that answers nothing, which says nothing: a machine that is gone is missed by its
	// heartbeats.
	probeTimeout = 200 * time.Millisecond
	// applying entries are under way at any time in a server that keeps up.
	applying = 2048
)

// succession has a follower stand for election when the leader's process is gone, instead of after the silence of its
// heartbeats: a connection on which it was spoken to has ended, and the leader's address refuses new ones. The kernel that
// says so knows that nobody listens there.
//
// It can hurry an election but not harm one: this is raft's own message for a hand-over, the candidate needs the votes of a
// majority in a new term, and who has the older log gets none. A follower that is wrong about the leader (a firewall that
// refuses in its name) costs the cluster one election, and no second: without a new connection from the new leader it
// has nothing more to miss.
func (n *Node) succession(ctx context.Context) error {
	stood := uint64(0)
	for {
		select {
		case <-n.stream.lost:
		case <-ctx.Done():
			return nil
		}
		// A leader's connections end one after the other. Standing a second time in one term could end the leadership that
		// the first time has won.
		if n.CurrentTerm() != stood {
			stood = max(stood, n.succeed(ctx))
		}
	}
}

// succeed stands for election if the leader is gone, and returns the term that it ends with that, 0 if it did not. The others
// have learned of it at the same time: each waits its turn, so that they do not split the votes, and the later ones come
// to it only where the earlier ones could not win, since their logs lacked something.
func (n *Node) succeed(ctx context.Context) (term uint64) {
	address, leader := n.LeaderWithID()
	turn := n.turn(leader)
	if leader == "" || turn < 0 || !n.gone(ctx, address, leader) {
		return 0
	}
	n.logger.Info("the leader's process is gone", "leader", leader, "address", address)
	if !signal.Pause(ctx, time.Duration(turn)*n.config.HeartbeatTimeout/2) {
		return 0
	}
	// Who refused an earlier one his vote has no leader any more, and is in that one's term.
	if _, now := n.LeaderWithID(); now != leader && now != "" || n.State() != raft.Follower {
		return 0
	}
	term = n.CurrentTerm()
	n.stand()
	return term
}

// turn is this server's place among those who may succeed the leader, -1 for none, as where its disk is full. One that is not up
// to date, as after a start of its own, comes after all that may be.
func (n *Node) turn(leader raft.ServerID) int {
	if n.room.lacking() {
		return -1
	}
	var heirs []raft.ServerID
	for _, s := range n.Servers() {
		if s.Suffrage == raft.Voter && s.ID != leader {
			heirs = append(heirs, s.ID)
		}
	}
	slices.Sort(heirs)
	turn := slices.Index(heirs, n.config.LocalID)
	if turn >= 0 && n.behind() {
		turn += len(heirs)
	}
	return turn
}

// behind reports whether this server has nothing of the leader's term, and so less than the others, who were told of its
// election; or whether it is busy with applying what it has, as after a start: its raft answers nobody then.
func (n *Node) behind() bool {
	if n.CommitIndex() > n.AppliedIndex()+applying {
		return true
	}
	var last raft.Log
	return n.logs.GetLog(n.LastIndex(), &last) == nil && last.Term < n.CurrentTerm()
}

// gone reports whether nobody listens at the leader's address any more.
func (n *Node) gone(ctx context.Context, address raft.ServerAddress, id raft.ServerID) bool {
	for range probes {
		dial, cancel := context.WithTimeout(ctx, probeTimeout)
		conn, err := n.stream.dial(dial, string(address), string(id))
		cancel()
		switch {
		case err == nil:
			conn.Close() // it only had to open
			return false
		case errors.Is(err, syscall.ECONNREFUSED):
			return true
		}
		if !signal.Pause(ctx, probePause) {
			return false
		}
	}
	return false
}
