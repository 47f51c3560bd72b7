package server

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/api/rest"
	"cube/fsm"
	"cube/internal/memnet"
)

// TestANodeDies: its session ends and gossip says failed; its instances run elsewhere after the grace. Then it comes back
// and what it still runs is to be stopped.
func TestANodeDies(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		var follower *member
		for _, m := range servers {
			if m != leader {
				follower = m
			}
		}
		one, two := c.node(1), c.node(2)
		one.connect(follower) // the leader learns of this session by the follower's report
		one.register(leader)
		leader.register(job("web", 2))
		before := one.poll()
		one.run(leader, before.Assignments)
		two.connect(leader)
		two.register(leader)

		for _, ok := leader.SessionServer(one.row.ID); !ok; _, ok = leader.SessionServer(one.row.ID) {
			<-leader.tenure.Load().directory.Changed.Wait()
		}
		logs, err := leader.Logs(context.Background(), leader.machine.Snapshot().Text().Format(before.Assignments[0].ID), api.LogRequest{})
		if err != nil {
			t.Fatalf("logs by way of the follower: %v", err)
		}
		logs.Close()
		used, err := leader.Usage(context.Background(), api.UsageQuery{Jobs: []string{"web"}, Nodes: []string{one.row.ID}})
		if err != nil || len(used.Instances) != 2 || used.Instances[1].Memory != 20 || used.Instances[1].Reserved.CPU == 0 || len(used.Silent) > 0 {
			t.Fatalf("usage by way of the follower: %+v, %v", used, err)
		}

		began := time.Now()
		one.disconnect()
		c.board.setStatus(one.row.ID, api.MemberFailed)
		after := two.poll()
		if took := time.Since(began); len(after.Assignments) != 2 || took < DefaultNodeGrace || took > DefaultNodeGrace+2*time.Second {
			t.Errorf("%d instances moved after %s", len(after.Assignments), took)
		}
		_, err = leader.Logs(context.Background(), leader.machine.Snapshot().Text().Format(before.Assignments[0].ID), api.LogRequest{})
		wantCode(t, err, api.CodeUnavailable)
		_, err = leader.Usage(context.Background(), api.UsageQuery{Jobs: []string{"nothing"}})
		wantCode(t, err, api.CodeNotFound)

		c.board.setStatus(one.row.ID, api.MemberAlive)
		one.connect(follower)
		for polls := 0; !one.poll().Register; polls++ { // a follower may be a moment behind
			if polls == 3 {
				t.Fatal("a node that was declared down polls on")
			}
		}
		answer := one.register(leader,
			api.InventoryItem{ID: before.Assignments[0].ID, Phase: api.PhaseRunning},
			api.InventoryItem{ID: api.MakeID(9, 9), Phase: api.PhaseRunning})
		if answer.Ready || answer.Verdicts[0] != api.VerdictStop || answer.Verdicts[1] != api.VerdictUnknown {
			t.Errorf("it came back with: %+v", answer)
		}
		if _, err := leader.Report(context.Background(), &api.Report{Node: one.row.ID, Incarnation: 1, Ready: true}); err != nil {
			t.Fatal(err)
		}
		if got := leader.machine.Snapshot().Node(one.row.ID).Status; got != api.NodeReady {
			t.Errorf("after its stops it is %s", got)
		}
	})
}

// TestASilentNodeIsGivenTime: a lost session alone brings a node down only after DisconnectAfter.
func TestASilentNodeIsGivenTime(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		n.connect(m)
		n.register(m)
		m.until("seen", func(*fsm.Snapshot) bool {
			_, ok := m.SessionServer(n.row.ID)
			return ok
		})
		began := time.Now()
		n.disconnect()
		m.until("down", func(s *fsm.Snapshot) bool { return s.Node(n.row.ID).Status == api.NodeDown })
		if took := time.Since(began); took < DefaultDisconnectAfter || took > DefaultDisconnectAfter+2*time.Second {
			t.Errorf("down after %s", took)
		}
	})
}

// TestACopiedDataDirectoryIsRefused: two machines with one identity; the second is told.
func TestACopiedDataDirectoryIsRefused(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		n := c.node(1)
		for _, m := range servers {
			if m != leader {
				n.connect(m)
				break
			}
		}
		n.register(leader)
		for time.Sleep(time.Second); ; time.Sleep(time.Second) {
			if _, ok := leader.SessionServer(n.row.ID); ok || leader.tenure.Load().directory.Sessions() > 0 {
				break
			}
		}
		double := c.node(1)
		double.row.Incarnation = 2
		double.connect(leader)
		row := double.row
		_, err := leader.Register(context.Background(), &api.Registration{Node: &row})
		wantCode(t, err, api.CodeConflict)
		_, err = rest.NewPeer(double.session.Call).Sessions(context.Background(), &api.SessionReport{Server: "s1", Full: true})
		wantCode(t, err, api.CodeForbidden)
		n.disconnect()
		time.Sleep(time.Second)
		if _, err := leader.Register(context.Background(), &api.Registration{Node: &row}); err != nil {
			t.Errorf("after the first one has gone: %v", err)
		}
	})
}

// TestReportsShareEntries: what many nodes report at once costs few log entries.
func TestReportsShareEntries(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		m.register(job("web", 60))
		var nodes []*node
		for i := 1; i <= 3; i++ {
			n := c.node(i)
			n.connect(m)
			n.register(m)
			nodes = append(nodes, n)
		}
		m.until("placed", func(s *fsm.Snapshot) bool {
			live := 0
			for range s.Rows() {
				live++
			}
			return live == 60
		})
		before := m.Metrics()
		release := m.hold()
		var wait sync.WaitGroup
		for _, n := range nodes {
			for _, a := range n.poll().Assignments {
				wait.Go(func() { n.run(m, []api.Assignment{a}) })
			}
		}
		synctest.Wait() // one entry is being applied, and the other reports have come
		release()
		wait.Wait()
		after := m.Metrics()
		reports, entries := after.Reports-before.Reports, after.ReportEntries-before.ReportEntries
		if reports != 60 || entries != 2 {
			t.Errorf("%d reports cost %d entries", reports, entries)
		}
		if s := m.machine.Snapshot().Summary("web"); s.Counts.Running != 60 {
			t.Errorf("of 60 instances %d are known to run", s.Counts.Running)
		}
	})
}

// TestReportsThroughAFollower are passed on together, and each learns what became of its own; an election in between
// costs them nothing but time.
func TestReportsThroughAFollower(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		others := slices.DeleteFunc(slices.Clone(servers), func(m *member) bool { return m == leader })
		follower := others[0]
		leader.register(job("web", 40))
		n, stray := c.node(1), c.node(2)
		for _, n := range []*node{n, stray} {
			n.connect(follower)
			if _, err := n.dispatcher().Register(context.Background(), &api.Registration{Node: &n.row}); err != nil {
				t.Fatal(err)
			}
			n.epoch = 1
		}
		stray.row.Incarnation++ // the servers have not heard of this life
		follower.until("placed", func(s *fsm.Snapshot) bool { return s.Summary("web").Counts.Pending == 40 })
		n.epoch = follower.machine.Snapshot().Epoch()
		assignments := n.poll().Assignments
		if len(assignments) < 4 {
			t.Fatalf("%d assignments", len(assignments))
		}
		report := func(a api.Assignment, n *node, incarnation uint64) (*api.ReportAnswer, error) {
			return n.dispatcher().Report(context.Background(), &api.Report{Node: n.row.ID, Incarnation: incarnation,
				Statuses: []api.AllocationStatus{{ID: a.ID, Seq: a.Seq + 1, Phase: api.PhaseRunning}, {ID: 1 << 40, Seq: 1}}})
		}
		before := leader.Metrics()
		release := leader.hold()
		var wait sync.WaitGroup
		for i, a := range assignments {
			wait.Go(func() {
				if i == 3 {
					_, err := report(a, stray, 2)
					wantCode(t, err, api.CodeConflict)
					return
				}
				answer, err := report(a, n, 1)
				if err != nil || !slices.Equal(answer.Unknown, []api.ID{1 << 40}) || answer.Index == 0 {
					t.Errorf("%+v, %v", answer, err)
				}
			})
		}
		synctest.Wait() // one entry is being applied, and the other reports have come to the follower
		release()
		wait.Wait()
		if entries := leader.Metrics().ReportEntries - before.ReportEntries; entries != 2 {
			t.Errorf("%d reports cost %d entries", len(assignments), entries)
		}
		c.net.Partition([]string{leader.ip})
		cut := time.Now()
		if _, err := report(assignments[3], n, 1); err != nil || time.Since(cut) > 3*time.Second {
			t.Errorf("while there is no leader, after %s: %v", time.Since(cut), err)
		}
		leader = leaderOf(others[0], others[1], others[1])
		if got := leader.machine.Snapshot().Summary("web").Counts.Running; got != len(assignments) {
			t.Errorf("of %d instances %d are known to run", len(assignments), got)
		}
	})
}

// TestAMissedAnswerIsGivenAgain: a server remembers what it told a node, and goes by what the node says that it knows.
func TestAMissedAnswerIsGivenAgain(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		n := c.node(1)
		n.connect(m)
		n.register(m)
		m.register(job("web", 3))
		m.until("placed", func(s *fsm.Snapshot) bool { return s.Summary("web").Counts.Pending == 3 })
		first := n.poll()
		n.index = 0
		if again := n.poll(); len(again.Assignments) != 3 {
			t.Errorf("from the beginning: %d assignments", len(again.Assignments))
		}
		known := n.index
		m.register(job("db", 2))
		m.until("placed", func(s *fsm.Snapshot) bool { return s.Summary("db").Counts.Pending == 2 })
		n.run(m, first.Assignments)
		if got := n.poll().Assignments; len(got) != 2 || got[0].Job != "db" {
			t.Errorf("what it does not know is more than %+v", got)
		}
		dbs := func(list []api.Assignment) (n int) {
			for _, a := range list {
				if a.Job == "db" {
					n++
				}
			}
			return n
		}
		n.index = known // that answer was lost
		if got := n.poll().Assignments; dbs(got) != 2 {
			t.Errorf("polled again: %+v", got)
		}
		n.disconnect()
		n.connect(m)
		n.index = known
		if got := n.poll().Assignments; dbs(got) != 2 {
			t.Errorf("in another session: %+v", got)
		}
	})
}

// TestAVersionIsEncodedOnce: however many nodes run it, and however often they ask.
func TestAVersionIsEncodedOnce(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		encoded := map[uint64]int{}
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) {
			cfg.EncodeJob = func(j *api.Job) ([]byte, error) {
				encoded[j.Version]++
				return rest.EncodeJob(j)
			}
		})
		leaderOf(m)
		var nodes []*node
		for i := 1; i <= 3; i++ {
			n := c.node(i)
			n.connect(m)
			n.register(m)
			nodes = append(nodes, n)
		}
		m.register(job("web", 90))
		for range 2 {
			for _, n := range nodes {
				n.index = 0
				if a := n.poll(); len(a.Assignments) == 0 || len(a.Specs) != 1 {
					t.Errorf("%d assignments come with %d versions", len(a.Assignments), len(a.Specs))
				}
			}
		}
		if len(encoded) != 1 || encoded[1] != 1 {
			t.Errorf("encoded by version: %v", encoded)
		}
	})
}
