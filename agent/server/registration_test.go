package server

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cube/agent/server/contact"
	"cube/api"
	"cube/fsm"
	"cube/internal/memnet"
)

// TestANodeLostWhileItRegisters: a node is declared down while its registration waits for the old life's answer. What was
// lost with it is to stop, and the node is not ready before it has.
func TestANodeLostWhileItRegisters(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		n.worker = dumb{}
		n.connect(m)
		n.register(m)
		m.register(job("web", 1))
		web := n.poll().Assignments
		n.run(m, web)

		life := n.row
		life.Incarnation++
		var answer *api.RegistrationAnswer
		var err error
		began, done := time.Now(), make(chan struct{})
		go func() {
			defer close(done)
			answer, err = m.Register(context.Background(), &api.Registration{Node: &life, Inventory: []api.InventoryItem{{ID: web[0].ID, Phase: api.PhaseRunning}}})
		}()
		time.Sleep(time.Second)
		if _, err := m.door.apply(&fsm.NodesDown{Nodes: []string{n.row.ID}, Reason: "test"}, origin{}); err != nil {
			t.Fatal(err)
		}
		<-done
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("the registration did not wait for the old life: %s", took)
		}
		if answer.Verdicts[0] != api.VerdictStop || answer.Ready {
			t.Errorf("what is lost is judged %d, and the node is ready: %v", answer.Verdicts[0], answer.Ready)
		}
	})
}

// dumb is a node that does not answer, on a session that does.
type dumb struct{ worker }

func (dumb) Ping(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestDevicesThatChange: what a node says of its devices alone is news, and saying it again is none.
func TestDevicesThatChange(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		n.register(m)
		for _, devices := range [][]api.DeviceGroup{
			{{Type: "gpu", Model: "A100", IDs: []string{"GPU-1", "GPU-2"}}},
			{{Type: "gpu", Model: "A100", IDs: []string{"GPU-1"}}},
			{{Type: "gpu", Model: "A100", IDs: []string{"GPU-1"}, Attributes: map[string]string{"memory_gib": "40"}}},
			nil,
		} {
			n.row.Devices = devices
			n.register(m)
			v, _, err := m.Node(t.Context(), n.row.ID, api.Query{})
			if err != nil || len(v.Devices) != len(devices) || len(devices) > 0 && !sameDevices(v.Devices[0], devices[0]) {
				t.Fatalf("the servers know of %+v (%v), the node said %+v", v.Devices, err, devices)
			}
			n.register(m)
			if again, _, err := m.Node(t.Context(), n.row.ID, api.Query{}); err != nil || again.ModifyIndex != v.ModifyIndex {
				t.Errorf("saying the same again was written at %d, after %d (%v)", again.ModifyIndex, v.ModifyIndex, err)
			}
		}
	})
}

// TestANodeThatHasForgottenItsCluster is not ready by its first registration: it learns from the answer which instances are
// its own, and registers again with them.
func TestANodeThatHasForgottenItsCluster(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		if !n.register(m).Ready {
			t.Error("a node that was never seen, and has nothing, is not ready")
		}
		n.row.Incarnation++
		if n.register(m).Ready {
			t.Error("a node that was seen before is ready before it knows what exists on it")
		}
	})
}

// TestOnlyTheLeaderJudges: a leader that was cut off a moment ago judges no inventory, though it does not know of its
// successor yet, which may have placed what it would call unknown.
func TestOnlyTheLeaderJudges(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		all := c.three()
		leader := leaderOf(all...)
		n := c.node(1)
		n.register(leader)
		c.net.Partition([]string{leader.ip})
		synctest.Wait() // a heartbeat's answer that is here already would still prove that it leads, as it did
		row := n.row
		_, err := leader.Enroll(context.Background(), &api.Registration{Node: &row, Inventory: []api.InventoryItem{{ID: 1 << 40}}})
		wantCode(t, err, api.CodeNotLeader)
		c.net.Heal()
	})
}

// TestNothingOlderThanTheNodeKnows: a server whose state is older than what a node has seen waits, and then sends it away.
func TestNothingOlderThanTheNodeKnows(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		n.connect(m)
		n.register(m)
		ctx, row := context.Background(), n.row
		seen := m.machine.Snapshot().Index() + 1

		registered := make(chan *api.RegistrationAnswer, 1)
		go func() {
			answer, err := m.Register(ctx, &api.Registration{Node: &row, Index: seen})
			if err != nil {
				t.Error(err)
			}
			registered <- answer
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		select {
		case <-registered:
			t.Fatal("a registration was answered by an older state")
		default:
		}
		m.register(job("web", 1))
		if answer := <-registered; answer.Index < seen {
			t.Errorf("answered at %d, the node has seen %d", answer.Index, seen)
		}

		seen = m.machine.Snapshot().Index() + 100
		_, err := m.Register(ctx, &api.Registration{Node: &row, Index: seen})
		wantCode(t, err, api.CodeUnavailable)
		_, err = m.Poll(ctx, &api.PollRequest{Node: row.ID, Incarnation: row.Incarnation, Seen: seen})
		wantCode(t, err, api.CodeUnavailable)
		// A node that followed another history is not held up by an index of it.
		if _, err := m.Register(ctx, &api.Registration{Node: &row, Epoch: 7, Index: seen}); err != nil {
			t.Error(err)
		}
	})
}

// TestACopyIsRefusedByANewLeader: a leader that has just been elected waits for what the others know of sessions before it
// gives a node's identity to another agent.
func TestACopyIsRefusedByANewLeader(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		all := c.three()
		old := leaderOf(all...)
		rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == old })
		n := c.node(1)
		n.register(old)
		c.net.SetLatency(20*time.Millisecond, 0)
		old.kill()
		leader := leaderOf(rest...)
		holder := rest[0]
		if holder == leader {
			holder = rest[1]
		}
		n.connect(holder)
		leader.renew() // as another leader, which has heard of no session yet
		row := n.row
		row.Incarnation++
		began := time.Now()
		_, err := leader.Register(context.Background(), &api.Registration{Node: &row})
		wantCode(t, err, api.CodeConflict)
		if time.Since(began) >= contact.FirstReports+time.Second {
			t.Errorf("it waited %s for a server that is dead", time.Since(began))
		}
	})
}
