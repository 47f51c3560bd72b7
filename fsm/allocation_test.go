package fsm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
)

func TestAStatusOnlyMovesForward(t *testing.T) {
	for _, tc := range []struct {
		name    string
		status  api.AllocationStatus // Seq 5 and running after one restart is known
		phase   api.Phase
		message string
	}{
		{"a newer message", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: api.PhaseRunning, Message: "new"}, api.PhaseRunning, "new"},
		{"the same again", api.AllocationStatus{Seq: 5, Restarts: 1, Phase: api.PhaseRunning, Message: "new"}, api.PhaseRunning, "old"},
		{"a late one", api.AllocationStatus{Seq: 4, Restarts: 1, Phase: api.PhaseComplete, Message: "new"}, api.PhaseRunning, "old"},
		{"a step back", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: api.PhasePreparing, Message: "new"}, api.PhaseRunning, "old"},
		{"a restart back", api.AllocationStatus{Seq: 6, Phase: api.PhaseRunning, Message: "new"}, api.PhaseRunning, "old"},
		{"the next restart", api.AllocationStatus{Seq: 6, Restarts: 2, Phase: api.PhasePreparing, Message: "new"}, api.PhasePreparing, "new"},
		{"the end", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: api.PhaseFailed}, api.PhaseFailed, ""},
		{"lost is not a client's word", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: api.PhaseLost}, api.PhaseRunning, "old"},
		{"no phase at all", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: 77}, api.PhaseRunning, "old"},
		{"too long a message", api.AllocationStatus{Seq: 6, Restarts: 1, Phase: api.PhaseRunning, Message: strings.Repeat("é", 300)},
			api.PhaseRunning, strings.Repeat("é", 256)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			c.nodes("n1")
			c.register(testJob("web", api.JobService, 1))
			id := c.run("web", 1, "n1")[0]
			c.report(id, api.PhaseRunning, func(st *api.AllocationStatus) { st.Seq, st.Restarts, st.Message = 5, 1, "old" })
			tc.status.ID = id
			c.ok(&UpdateStatuses{Reports: []NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{tc.status}}}})
			st, _ := c.m.Snapshot().AllocationStatusOf(id)
			equal(t, "phase", st.Phase, tc.phase)
			equal(t, "message", st.Message, tc.message)
		})
	}
}

// TestOnlyWhatRunsHasHealth follows one instance: its health counts while it runs, is told to whoever asks, wakes an
// evaluation that waits for the job when it becomes good, and is gone with its run.
func TestOnlyWhatRunsHasHealth(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	id := c.run("web", 2, "n1")[0]
	c.register(testJob("web", api.JobService, 3))
	p := c.plan("web", api.EvalBlocked)
	waits := func(what string, runnable bool) {
		t.Helper()
		equal(t, what+" wakes whoever waits", len(c.runnable()) > 0, runnable)
		p = c.plan("web", api.EvalBlocked)
		c.ok(&CommitPlan{Plan: p})
	}
	c.ok(&CommitPlan{Plan: p})
	is := func(phase api.Phase, says, want api.HealthStatus, healthy int) {
		t.Helper()
		c.report(id, phase, health(says))
		s := c.m.Snapshot()
		row, _ := s.Row(id)
		st, _ := s.AllocationStatusOf(id)
		a, _ := s.Allocation(id)
		if row.Health != want || st.Health != want || a.Health != want || s.Summary("web").Healthy != healthy {
			t.Fatalf("%v and %v: row %v, status %v, for people %v, %d healthy; want %v and %d", phase, says, row.Health, st.Health, a.Health,
				s.Summary("web").Healthy, want, healthy)
		}
	}
	is(api.PhasePreparing, api.HealthHealthy, api.HealthUnknown, 0)
	waits("a start that is in flight", false)
	is(api.PhaseRunning, api.HealthUnknown, api.HealthUnknown, 0)
	waits("an instance that runs", true)
	is(api.PhaseRunning, api.HealthHealthy, api.HealthHealthy, 1)
	waits("one that is healthy", true)
	is(api.PhaseRunning, api.HealthUnhealthy, api.HealthUnhealthy, 0)
	waits("one that falls ill", false)
	is(api.PhaseRunning, 77, api.HealthUnknown, 0)
	is(api.PhaseRunning, api.HealthHealthy, api.HealthHealthy, 1)
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent"})
	row, _ := c.m.Snapshot().Row(id)
	equal(t, "what is lost is", row.Health, api.HealthUnknown)
	equal(t, "healthy", c.m.Snapshot().Summary("web").Healthy, 0)
}

func TestNothingFollowsAnEnd(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	c.report(id, api.PhaseComplete)
	c.report(id, api.PhaseRunning, func(st *api.AllocationStatus) { st.Restarts = 9 })
	equal(t, "phase", c.phase(id), api.PhaseComplete)
	equal(t, "a service that ends is looked at", c.m.Snapshot().Open("web").Cause, api.CauseAllocEnded)
	c.refused(api.CodeConflict, &StopAllocation{ID: id})
	c.refused(api.CodeNotFound, &StopAllocation{ID: 12345})
}

func TestReportsOfWhatIsNotTheNodes(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	st := []api.AllocationStatus{{ID: id, Seq: 1, Phase: api.PhaseRunning}, {ID: 77, Seq: 1}}
	r := c.ok(&UpdateStatuses{Reports: []NodeReport{{Node: "n2", Statuses: st}, {Node: "n9", Statuses: st[:1]}, {Node: "n1", Statuses: st}}})
	equals(t, "unknown", r.Unknown, []api.ID{id, 77, id, 77})
	equal(t, "phase", c.phase(id), api.PhaseRunning)
}

func TestAskingToStopOneInstance(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 3))
	ids := c.run("web", 3, "n1")
	c.ok(&StopAllocation{ID: ids[2]})
	e := c.ok(&StopAllocation{ID: ids[0]}).Evaluation
	equals(t, "both are asked for", c.m.Snapshot().Evaluation(e).Stop, []api.ID{ids[0], ids[2]})
	equal(t, "nothing stops yet", c.desired(ids[0]), api.DesiredRun)
	c.report(ids[2], api.PhaseFailed)
	r := c.register(testJob("web", api.JobService, 4))
	equals(t, "what still lives is taken along", c.m.Snapshot().Evaluation(r.Evaluation).Stop, []api.ID{ids[0]})
}

// TestStoppingWithoutDelay: the wish stays with the instance until a plan stops it, reaches those that leave already, and ends
// with the job's next version.
func TestStoppingWithoutDelay(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 3))
	ids := c.run("web", 3, "n1")
	hurries := func() (out []bool) {
		for _, id := range ids {
			row, _ := c.m.Snapshot().Row(id)
			out = append(out, row.Hurry)
		}
		return out
	}
	format := func() uint16 { return binary.LittleEndian.Uint16(persisted(t, c.m.Snapshot())[len(snapshotMagic):]) }
	equal(t, "the format so far", format(), 1)
	c.ok(&StopAllocation{ID: ids[0]})
	c.ok(&StopAllocation{ID: ids[1], NoShutdownDelay: true})
	equals(t, "one is in a hurry", hurries(), []bool{false, true, false})
	equal(t, "nothing stops yet", c.desired(ids[1]), api.DesiredRun)
	equal(t, "the format", format(), 5)

	stop := func(ids ...api.ID) {
		p := c.plan("web", api.EvalComplete)
		for _, id := range ids {
			p.Jobs[0].Stops = append(p.Jobs[0].Stops, api.Stop{Allocation: id, Reason: "job stopped"})
		}
		c.ok(&CommitPlan{Plan: p})
	}
	c.ok(&StopJob{Name: "web"})
	stop(ids[0])
	equals(t, "a stop that has time", hurries(), []bool{false, true, false})
	first := c.m.Snapshot().Open("web")
	again := c.ok(&StopJob{Name: "web", NoShutdownDelay: true}).Evaluation
	equal(t, "it is looked at anew", first == nil || again != first.ID, true)
	equals(t, "who leaves goes at once", hurries(), []bool{true, true, false})
	stop(ids[1], ids[2])
	equals(t, "and so does who is stopped then", hurries(), []bool{true, true, true})
	c.register(testJob("web", api.JobService, 3))
	equal(t, "the next version is in no hurry", c.m.Snapshot().Job("web").Hurry, false)
}

func TestANodeThatGoesDown(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2", "n3")
	for _, job := range []string{"b", "a", "c"} {
		c.register(testJob(job, api.JobService, 2))
		c.run(job, 2, "n1", "n2")
	}
	stopped := c.live("c")
	c.ok(&StopJob{Name: "c"})
	p := c.plan("c", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: stopped[0]}, {Allocation: stopped[1]}}
	c.ok(&CommitPlan{Plan: p})

	c.ok(&NodesDown{Nodes: []string{"n1", "n9", "n1"}, Reason: "silent for 30 s"})
	s := c.m.Snapshot()
	equal(t, "status", s.Node("n1").Status, api.NodeDown)
	equal(t, "reason", s.Node("n1").StatusReason, "silent for 30 s")
	held, live, _ := s.NodeHeld("n1")
	equal(t, "held", held, api.Resources{})
	equal(t, "live", live, 0)
	equals(t, "one evaluation a job that has something to do, by name", c.runnable(), []string{"a", "b"})
	equal(t, "cause", s.Open("a").Cause, api.CauseNodeDown)
	equal(t, "node", s.Open("a").Node, "n1")
	for _, job := range []string{"a", "b", "c"} {
		rows := collect(s.JobAllRows(job))
		equal(t, "lost", rows[0].Phase, api.PhaseLost)
		equal(t, "not lost", rows[1].Phase, api.PhasePending)
	}
	index := c.index
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	equal(t, "down once", c.m.Snapshot().Node("n1").ModifyIndex, index)

	lost := collect(s.JobAllRows("a"))[0]
	c.report(lost.ID, api.PhaseRunning)
	equal(t, "lost never revives", c.phase(lost.ID), api.PhaseLost)
}

func TestANodesLife(t *testing.T) {
	c := newCluster(t)
	status := func() api.NodeStatus { return c.m.Snapshot().Node("n1").Status }
	n := testNode("n1")
	c.refused(api.CodeInvalid, &RegisterNode{Node: &api.Node{}})
	c.refused(api.CodeInvalid, &RegisterNode{})
	c.refused(api.CodeInvalid, &RegisterNode{Node: &api.Node{ID: "x", Resources: api.Resources{CPU: -1}}})
	c.refused(api.CodeNotFound, &NodeReady{Node: "n1", Incarnation: 1})
	c.refused(api.CodeNotFound, &SetEligibility{Node: "n1"})
	n.Ineligible, n.Status = true, api.NodeDown // not the node's to say
	c.ok(&RegisterNode{Node: n})
	equal(t, "new", status(), api.NodeInitializing)
	equal(t, "eligible", c.m.Snapshot().Node("n1").Ineligible, false)
	c.refused(api.CodeConflict, &NodeReady{Node: "n1", Incarnation: 2})
	c.ok(&NodeReady{Node: "n1", Incarnation: 1})
	equal(t, "put right", status(), api.NodeReady)
	c.ok(&SetEligibility{Node: "n1", Ineligible: true})

	n = testNode("n1")
	n.Attributes["new"] = "fact"
	c.ok(&RegisterNode{Node: n})
	equal(t, "news from the same life", status(), api.NodeReady)
	n = testNode("n1")
	n.Incarnation = 2
	c.ok(&RegisterNode{Node: n})
	equal(t, "another life", status(), api.NodeInitializing)
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	c.refused(api.CodeConflict, &NodeReady{Node: "n1", Incarnation: 2})
	c.ok(&RegisterNode{Node: n, Ready: true})
	equal(t, "back with nothing to put right", status(), api.NodeReady)
	judged := c.m.Snapshot().Node("n1").ModifyIndex
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	c.ok(&RegisterNode{Node: n, Ready: true, JudgedOn: judged})
	equal(t, "went down after its inventory was judged", status(), api.NodeInitializing)
	c.ok(&RegisterNode{Node: n, Ready: true, JudgedOn: c.m.Snapshot().Node("n1").ModifyIndex})
	equal(t, "judged anew", status(), api.NodeReady)
	equal(t, "what a person said stays", c.m.Snapshot().Node("n1").Ineligible, true)
	equal(t, "created", c.m.Snapshot().Node("n1").CreateIndex < c.m.Snapshot().Node("n1").ModifyIndex, true)
}

func TestANodeThatShrinksKeepsWhatItHolds(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 3))
	ids := c.run("web", 2, "n1")
	n := testNode("n1")
	n.Resources = api.Resources{CPU: 150, Memory: 8192, Disk: 1}
	c.ok(&RegisterNode{Node: n})
	p := c.plan("web", api.EvalBlocked)
	c.put(p, 2, "n1")
	equal(t, "accepted", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
	restored := New()
	if err := restored.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	if errs := Check(restored.Snapshot()); len(errs) > 0 {
		t.Fatal(errs)
	}
	c.report(ids[0], api.PhaseFailed)
	equal(t, "over", c.m.Snapshot().nodes.rowsOver("n1"), api.Resources{})
}

func (t *nodeTables) rowsOver(id string) api.Resources {
	n, _ := t.get(id)
	return n.excess
}

func TestWhatAPollSees(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 4))
	ids := c.run("web", 4, "n1", "n2")
	poll := func(since uint64) (out []api.ID) {
		for row := range c.m.Snapshot().NodeRows("n1", since) {
			out = append(out, row.ID)
		}
		return out
	}
	equals(t, "all", poll(0), []api.ID{ids[0], ids[2]})
	seen := c.index
	equals(t, "nothing new", poll(seen), nil)
	woken := c.m.Watch(WatchKey{Table: TableNodeAllocations, Key: "n1"})
	c.report(ids[1], api.PhaseRunning)
	equals(t, "another node's", poll(seen), nil)
	select {
	case <-woken:
		t.Fatal("woken for another node's allocation")
	default:
	}
	c.report(ids[2], api.PhaseFailed)
	<-woken
	equals(t, "an end is told", poll(seen), []api.ID{ids[2]})
	equals(t, "but not to those who begin", poll(0), []api.ID{ids[0]})
	equals(t, "the future", poll(^uint64(0)), nil)
	equal(t, "the node's index", c.m.Snapshot().TableIndex(WatchKey{Table: TableNodeAllocations, Key: "n1"}), c.index)
	equal(t, "the other node's", c.m.Snapshot().TableIndex(WatchKey{Table: TableNodeAllocations, Key: "n2"}), c.index-1)
}

func TestRowsOfAJobComeByTaskSlotAndAge(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	job := testJob("shop", api.JobService, 1)
	job.Tasks = nil
	for _, name := range []string{"web", "zeta", "alpha"} { // interned in this order
		task := api.DefaultTask(name)
		task.Count = 2
		job.Tasks = append(job.Tasks, task)
	}
	c.register(job)
	p := c.plan("shop", api.EvalPending)
	for _, name := range []string{"web", "alpha", "zeta"} {
		for slot := range uint32(2) {
			c.put(p, 1-slot, "n1").Task = name
		}
	}
	c.ok(&CommitPlan{Plan: p})
	first := c.live("shop")[0]
	c.report(first, api.PhaseFailed)
	p = c.plan("shop", api.EvalPending)
	c.put(p, 0, "n1").Task = "alpha"
	c.ok(&CommitPlan{Plan: p})

	var all, planned []string
	for row := range c.m.Snapshot().JobAllRows("shop") {
		all = append(all, api.InstanceName(row.Job, row.Task, row.Slot))
	}
	for row := range c.m.Snapshot().JobRows("shop") {
		planned = append(planned, api.InstanceName(row.Job, row.Task, row.Slot))
		if row.ID == first {
			t.Fatal("an ended allocation with a successor matters to no plan")
		}
	}
	want := []string{"shop/alpha[0]", "shop/alpha[0]", "shop/alpha[1]", "shop/web[0]", "shop/web[1]", "shop/zeta[0]", "shop/zeta[1]"}
	equals(t, "all", all, want)
	equals(t, "for a plan", planned, want[1:])
	equal(t, "stopping early", len(first3(c.m.Snapshot())), 3)
}

func first3(s *Snapshot) (out []api.AllocationRow) {
	for row := range s.JobRows("shop") {
		if out = append(out, row); len(out) == 3 {
			break
		}
	}
	return out
}

func TestAnAllocationAsPeopleReadIt(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	e := c.register(testJob("web", api.JobService, 1)).Evaluation
	p := c.plan("web", api.EvalComplete)
	c.put(p, 0, "n1", 8080, 25000)
	c.ok(&CommitPlan{Plan: p})
	placed := c.at
	id := c.live("web")[0]
	a, _ := c.m.Snapshot().Allocation(id)
	if a.ExitCode != nil || !a.StartedAt.IsZero() || !a.FinishedAt.IsZero() {
		t.Fatalf("it has not run yet: %+v", a)
	}
	c.report(id, api.PhaseFailed, func(st *api.AllocationStatus) {
		st.ExitCode, st.Signal, st.Failure, st.Message, st.FinishedAt = 137, 9, api.FailureOOM, "killed for want of memory", 9000
	})
	a, _ = c.m.Snapshot().Allocation(id)
	text := c.m.Snapshot().Text()
	equal(t, "ID", a.ID, text.Format(id))
	equal(t, "name", a.Name, "web[0]")
	equal(t, "node", a.NodeName+" "+a.NodeAddress, "host-n1 10.0.0.1")
	equal(t, "evaluation", a.Evaluation, text.Format(e))
	equal(t, "exit", *a.ExitCode, 137)
	equal(t, "oom", a.OOM, true)
	equal(t, "message", a.Message, "killed for want of memory")
	equal(t, "created", a.CreatedAt.UnixNano(), placed)
	equal(t, "modified", a.ModifiedAt.UnixNano(), c.at)
	equal(t, "finished", a.FinishedAt, time.UnixMilli(9000).UTC())
	equals(t, "ports", a.Ports, []api.PortBinding{{Label: "p0", Host: 8080, To: 80}, {Label: "p1", Host: 25000, To: 80}})
	if _, ok := c.m.Snapshot().Allocation(999); ok {
		t.Fatal("there is no such allocation")
	}
}

func TestFindingByPrefix(t *testing.T) {
	c := newCluster(t)
	c.nodes("aa1", "aa2", "b1")
	c.register(testJob("web", api.JobService, 60))
	ids := c.run("web", 60, "aa1", "aa2")
	c.ok(&RaiseEpoch{})
	c.register(testJob("more", api.JobService, 5))
	ids = append(ids, c.run("more", 5, "b1")...)
	slices.Sort(ids)
	s := c.m.Snapshot()
	for _, id := range ids {
		text := s.Text().Format(id)
		for n := 0; n <= len(text); n++ {
			var want []api.ID
			for _, other := range ids {
				if strings.HasPrefix(s.Text().Format(other), text[:n]) {
					want = append(want, other)
				}
			}
			equals(t, text[:n], s.FindAllocations(text[:n]), want)
		}
	}
	for _, nothing := range []string{"x", "0123456789abcdef", "0123456789abcdef0", "ABCDEF"} {
		equals(t, nothing, s.FindAllocations(nothing), nil)
	}
	e := s.Open("web").ID
	equals(t, "evaluation", s.FindEvaluations(s.Text().Format(e)[:9]), []api.ID{e})
	equal(t, "evaluations", len(s.FindEvaluations("")), len(collect(s.Evaluations())))
	equal(t, "nodes", len(s.FindNodes("aa")), 2)
	equal(t, "all nodes", len(s.FindNodes("")), 3)
	equal(t, "no node", len(s.FindNodes("c")), 0)
}

func TestRetentionByCount(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 1))
	var ids []api.ID
	for i := range 6 {
		if i > 0 && c.status("web") == "" {
			t.Fatal("an ended service is not looked at")
		}
		p := c.plan("web", api.EvalComplete)
		c.put(p, 0, []string{"n1", "n2"}[i%2])
		c.ok(&CommitPlan{Plan: p})
		ids = append(ids, c.live("web")...)
		c.report(ids[i], api.PhaseFailed)
	}
	for range 8 {
		c.ok(&StopAllocation{ID: c.again()})
	}
	r := c.m.Snapshot().Garbage(100)
	equals(t, "allocations", r.Allocations, ids[:3])
	equal(t, "evaluations", len(r.Evaluations), len(c.m.Snapshot().JobEvaluations("web"))-keptEvaluations)
	limited := c.m.Snapshot().Garbage(2)
	equal(t, "limit", len(limited.Allocations)+len(limited.Evaluations), 2)

	newest := c.m.Snapshot().JobEvaluations("web")[0].ID
	c.ok(&Reap{Allocations: append(ids[2:], 999), Evaluations: []api.ID{newest, 999}, Nodes: []string{"n1"}})
	equal(t, "what may not be forgotten stays", len(collect(c.m.Snapshot().JobAllRows("web"))), 6)
	c.ok(r)
	if left := c.m.Snapshot().Garbage(100); left != nil {
		t.Fatalf("there is garbage left: %+v", left)
	}
	equal(t, "kept", len(c.m.Snapshot().JobEvaluations("web")), keptEvaluations)
	equal(t, "a node is told of the deletion", c.m.Snapshot().TableIndex(WatchKey{Table: TableNodeAllocations, Key: "n1"}), c.index)
	equal(t, "the deletion's index", c.m.Snapshot().TableIndex(WatchKey{Table: TableAllocations, ID: ids[0]}), c.index)
	c.refused(api.CodeTooLarge, &Reap{Allocations: make([]api.ID, 1001)})
}

// again places web[0] where nothing lives, and returns what lives there.
func (c *cluster) again() api.ID {
	c.t.Helper()
	if live := c.live("web"); len(live) > 0 {
		return live[0]
	}
	p := c.plan("web", api.EvalPending)
	c.put(p, 0, "n1")
	c.ok(&CommitPlan{Plan: p})
	return c.live("web")[0]
}

func TestWhatIsLostStaysUntilItsNodeHasPutItRight(t *testing.T) {
	c := newCluster(t)
	c.register(testJob("web", api.JobService, 1))
	var ids []api.ID
	for _, node := range []string{"n1", "n2", "n3", "n4", "n5"} {
		c.nodes(node)
		p := c.plan("web", api.EvalPending)
		c.put(p, 0, node)
		c.ok(&CommitPlan{Plan: p})
		ids = append(ids, c.live("web")...)
		c.ok(&NodesDown{Nodes: []string{node}})
	}
	garbage := func() (ids []api.ID) {
		if r := c.m.Snapshot().Garbage(10); r != nil {
			ids = r.Allocations
		}
		return ids
	}
	equals(t, "while they are down", garbage(), nil)
	c.ok(&RegisterNode{Node: testNode("n2")})
	c.ok(&Reap{Allocations: ids})
	equal(t, "not put right yet", len(collect(c.m.Snapshot().Rows())), 5)
	c.ok(&NodeReady{Node: "n2", Incarnation: 1})
	equals(t, "put right", garbage(), ids[1:2])
}

func TestTheLastFailureOfASlotStays(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	c.report(id, api.PhaseFailed)
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	c.wait(25 * time.Hour)
	c.ok(&Reap{Allocations: []api.ID{id}, Nodes: []string{"n1"}})
	if c.m.Snapshot().Garbage(10) != nil || c.m.Snapshot().Node("n1") == nil {
		t.Fatal("nothing tells any more that the slot was tried")
	}
	c.ok(&StopJob{Name: "web"})
	equals(t, "nobody asks for it any more", c.m.Snapshot().Garbage(10).Allocations, []api.ID{id})
}

func TestANodeThatStaysAwayIsForgotten(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	ids := c.run("web", 2, "n1")
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	forget := &Reap{Allocations: ids, Nodes: []string{"n1"}}
	c.wait(23 * time.Hour)
	c.ok(forget)
	equal(t, "after 23 h", len(collect(c.m.Snapshot().JobAllRows("web"))), 2)
	c.wait(time.Hour)
	c.ok(&Reap{})
	equals(t, "what it lost", c.m.Snapshot().Garbage(10).Allocations, ids)
	c.ok(&Reap{Allocations: ids})
	equals(t, "then the node", c.m.Snapshot().Garbage(10).Nodes, []string{"n1"})
	c.ok(&Reap{Nodes: []string{"n1"}})
	s := c.m.Snapshot()
	if s.Node("n1") != nil {
		t.Fatal("the node is still known")
	}
	equal(t, "nodes", len(s.FindNodes("")), 1)
	equal(t, "queued", s.Summary("web").Counts.Queued, 2)
	c.run("web", 2, "n2")
	for row := range c.m.Snapshot().Rows() {
		equal(t, "ordinal", row.NodeOrdinal, 0)
	}
}

func TestASnapshotNeverChanges(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 8))
	ids := c.run("web", 8, "n1")
	s := c.m.Snapshot()
	before := s.Fingerprint()
	for i, id := range ids {
		c.report(id, []api.Phase{api.PhaseRunning, api.PhaseFailed}[i%2])
	}
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	c.nodes("n0", "n2")
	equal(t, "fingerprint", s.Fingerprint() == before, true)
	equal(t, "nodes", len(s.FindNodes("")), 1)
	if errs := Check(s); len(errs) > 0 {
		t.Fatal(errs)
	}
	row, _ := s.Row(ids[0])
	equal(t, "ordinal then", row.NodeOrdinal, 0)
	row, _ = c.m.Snapshot().Row(ids[0])
	equal(t, "ordinal now", row.NodeOrdinal, 1)
}
