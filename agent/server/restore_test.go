package server

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/fsm"
	"cube/internal/memnet"
	"cube/internal/session"
)

// saved takes a snapshot of the leader's state.
func (m *member) saved() []byte {
	m.cluster.t.Helper()
	r, err := m.SaveSnapshot(context.Background())
	if err != nil {
		m.cluster.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		m.cluster.t.Fatal(err)
	}
	return b
}

func (m *member) restore(snapshot []byte) {
	m.cluster.t.Helper()
	first := m.tenure.Load()
	if err := m.RestoreSnapshot(context.Background(), bytes.NewReader(snapshot), api.WriteMeta{}); err != nil {
		m.cluster.t.Fatal(err)
	}
	m.leadsAfter(first)
}

// TestRestoredTwice: each restore begins an epoch that never was, so that no ID is given out twice.
func TestRestoredTwice(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m).register(job("web", 1))
		saved := m.saved()
		seen := map[string]bool{}
		for epoch := range uint32(3) {
			if got := m.machine.Snapshot().Epoch(); got != epoch {
				t.Errorf("the epoch is %d after %d restores", got, epoch)
			}
			id := m.register(job("later", 1)).Jobs[0].Evaluation
			if seen[id] {
				t.Errorf("evaluation %s was given out before", id)
			}
			seen[id] = true
			m.restore(saved)
		}
	})
}

// TestWhoWaitedSeesTheRestoredState: a restored state is older, and yet news to everybody who waits for news.
func TestWhoWaitedSeesTheRestoredState(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m).register(job("web", 1))
		saved := m.saved()
		m.register(job("web", 2))
		_, before, err := m.JobVersions(context.Background(), "web", api.Query{})
		if err != nil {
			t.Fatal(err)
		}
		m.restore(saved)
		began := time.Now()
		versions, after, err := m.JobVersions(context.Background(), "web", api.Query{Index: before.Index, Wait: time.Minute})
		if err != nil || len(versions) != 1 || after.Index <= before.Index || time.Since(began) > time.Second {
			t.Errorf("after %s: %d versions at index %d, %v; it was %d", time.Since(began), len(versions), after.Index, err, before.Index)
		}
		began = time.Now()
		if _, _, err := m.JobVersions(context.Background(), "web", api.Query{Index: after.Index, Wait: time.Minute}); err != nil || time.Since(began) != time.Minute {
			t.Errorf("nothing has changed since: answered after %s, %v", time.Since(began), err)
		}
	})
}

// TestRestoredElsewhere: new servers take over the state, and with it the name, of a cluster that is gone.
func TestRestoredElsewhere(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		gone := newCluster(t)
		old := gone.start(9, "old", t.TempDir(), nil)
		leaderOf(old).register(job("web", 1))
		name, saved := old.machine.Snapshot().ClusterID(), old.saved()

		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		away := servers[slices.IndexFunc(servers, func(m *member) bool { return m != leader })]
		away.until("a member", func(s *fsm.Snapshot) bool { return s.ClusterID() != "" })
		c.net.Partition([]string{away.ip}) // it comes back with the state, and the name, of before
		leader.restore(saved)
		hello := leader.hello(away.cfg.ID)
		wantCode(t, away.admit(session.Hello{Protocol: session.Raft, ClusterID: name, Role: api.RoleServer, Sender: "stranger"}), api.CodeForbidden)
		if err := away.admit(hello); hello.ClusterID != name || err != nil {
			t.Errorf("the leader, of cluster %s by now, is not let in: %v", hello.ClusterID, err)
		}
		c.net.Heal()
		for _, m := range servers {
			m.until("restored", func(s *fsm.Snapshot) bool { return s.ClusterID() == name && s.Job("web") != nil })
		}
		leaderOf(servers...).register(job("later", 1))
	})
}

// TestARecoveredServerBeginsAnEpoch: what the lost servers had acknowledged may be lost, so IDs must not be given out again.
func TestARecoveredServerBeginsAnEpoch(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		leader.register(job("web", 1))
		for _, m := range servers {
			m.until("registered", func(s *fsm.Snapshot) bool { return s.Job("web") != nil })
		}
		for _, m := range servers {
			m.kill()
		}
		left := servers[1]
		if _, err := Recover(left.dir, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
		c.net.Restart(left.ip)
		left = c.start(2, left.cfg.ID, left.dir, nil)
		leaderOf(left).until("in a new epoch", func(s *fsm.Snapshot) bool { return s.Job("web") != nil && s.Epoch() == 1 })
		if err := left.halt(); err != nil {
			t.Fatal(err)
		}
		left = c.start(2, left.cfg.ID, left.dir, nil)
		leaderOf(left).register(job("later", 1))
		if epoch := left.machine.Snapshot().Epoch(); epoch != 1 {
			t.Errorf("started again it is in epoch %d", epoch)
		}
	})
}
