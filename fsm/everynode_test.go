package fsm

import (
	"bytes"
	"testing"
	"time"

	"cube/api"
)

// causes are those of a job's evaluations, newest first.
func causes(s *Snapshot, job string) (out []string) {
	for _, e := range s.JobEvaluations(job) {
		out = append(out, e.Cause)
	}
	return out
}

func TestANodeThatCanTakeInstancesIsAReasonToLookAtSystemJobs(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("logger", api.JobSystem, 1))
	c.register(testJob("web", api.JobService, 1))
	c.run("logger", 1, "n1")
	equal(t, "open", c.status("logger"), "")

	c.ok(&RegisterNode{Node: testNode("n2")}) // initializing
	equal(t, "not yet", c.status("logger"), "")
	c.ok(&NodeReady{Node: "n2", Incarnation: 1})
	equal(t, "ready", c.status("logger"), api.EvalPending)
	equal(t, "node", c.m.Snapshot().Open("logger").Node, "n2")
	c.ok(&CommitPlan{Plan: c.plan("logger", api.EvalComplete)})

	c.ok(&SetEligibility{Node: "n2", Ineligible: true})
	equal(t, "not eligible", c.status("logger"), "")
	c.ok(&SetEligibility{Node: "n2"})
	equal(t, "eligible", c.status("logger"), api.EvalPending)
	c.ok(&CommitPlan{Plan: c.plan("logger", api.EvalComplete)})

	changed := testNode("n2")
	changed.Attributes["kernel.version"] = "6.9"
	c.ok(&RegisterNode{Node: changed})
	equal(t, "another kernel", c.status("logger"), api.EvalPending)
	equals(t, "causes", causes(c.m.Snapshot(), "logger"), []string{api.CauseNodeUp, api.CauseNodeUp, api.CauseNodeUp, api.CauseRegister})
	equals(t, "causes of others", causes(c.m.Snapshot(), "web"), []string{api.CauseRegister})

	c.ok(&StopJob{Name: "logger"})
	c.ok(&SetEligibility{Node: "n2", Ineligible: true})
	c.ok(&SetEligibility{Node: "n2"})
	equal(t, "a stopped job", causes(c.m.Snapshot(), "logger")[0], api.CauseStop)

	// A state that was restored knows them, too.
	c.register(testJob("logger", api.JobSystem, 1))
	other := &cluster{t: t, m: restored(t, c.m.Snapshot()), index: c.index, at: c.at}
	before := len(causes(other.m.Snapshot(), "logger"))
	other.ok(&SetEligibility{Node: "n2", Ineligible: true})
	other.ok(&SetEligibility{Node: "n2"})
	equal(t, "after a restore", len(causes(other.m.Snapshot(), "logger")), before+1)
}

// TestWhatWaitsForANodeGoesOnWithoutIt: a roll-out that waits for the slot of a node goes on when the node is not to have one
// any more.
func TestWhatWaitsForANodeGoesOnWithoutIt(t *testing.T) {
	leaves := map[string]Body{
		"drained":  &DrainNode{Node: "n2", Begin: &api.DrainRequest{Deadline: time.Hour}},
		"excluded": &SetEligibility{Node: "n2", Ineligible: true},
		"down":     &NodesDown{Nodes: []string{"n2"}, Reason: "gone"},
	}
	for how, leave := range leaves {
		c := newCluster(t)
		c.ok(&RaiseRules{Version: rulesStep})
		c.nodes("n1", "n2")
		c.register(testJob("logger", api.JobSystem, 1))
		c.register(testJob("web", api.JobService, 1))
		for _, job := range []string{"logger", "web"} {
			c.ok(&CommitPlan{Plan: c.plan(job, api.EvalBlocked)})
		}
		equal(t, how+": runnable before", len(c.m.Snapshot().Runnable(10)), 0)
		c.ok(leave)
		other := restored(t, c.m.Snapshot())
		for _, s := range []*Snapshot{c.m.Snapshot(), other.Snapshot()} {
			runnable := s.Runnable(10)
			if len(runnable) != 1 || runnable[0].Job != "logger" {
				t.Fatalf("%s: runnable are %v, want logger", how, runnable)
			}
		}
	}
}

func TestASlotIsANode(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("logger", api.JobSystem, 1))
	first := c.run("logger", 1, "n1")[0]

	rejected := func(slot uint32, node, says string) {
		t.Helper()
		c.ok(&StopAllocation{ID: c.live("logger")[0]}) // a reason to plan
		p := c.plan("logger", api.EvalComplete)
		c.put(p, slot, node)
		r := c.ok(&CommitPlan{Plan: p})
		if len(r.Rejections) != 1 || r.Rejections[0].Reason != says {
			t.Fatalf("slot %d on %s: %v, want %q", slot, node, r.Rejections, says)
		}
	}
	rejected(1, "n1", "its node has slot 0 of the task")
	p := c.plan("logger", api.EvalComplete)
	c.put(p, 7, "n2")
	equal(t, "any number will do", c.ok(&CommitPlan{Plan: p}).Accepted, 1)

	// Also when nothing of it runs there.
	p = c.plan("logger", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: first}}
	c.ok(&CommitPlan{Plan: p})
	c.report(first, api.PhaseComplete)
	rejected(1, "n1", "its node has slot 0 of the task")
	c.nodes("n3")
	rejected(0, "n3", "its slot belongs to another node")

	c.refused(api.CodeInvalid, &ScaleJob{Name: "logger", Count: 3})
	c.refused(api.CodeConflict, &RegisterJobs{Jobs: []*api.Job{testJob("logger", api.JobService, 1)}})
	c.register(testJob("logger", api.JobSysbatch, 1)) // its slots are nodes, too
}

func TestAForgottenNodeLeavesItsSlot(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("sweep", api.JobSysbatch, 1))
	ids := c.run("sweep", 2, "n1", "n2")
	c.report(ids[0], api.PhaseComplete)
	c.report(ids[1], api.PhaseFailed)
	s := c.m.Snapshot()
	equal(t, "summary", s.Summary("sweep").Counts, api.PhaseCounts{Complete: 1, Failed: 1})
	equal(t, "n1 is done", s.Completed("sweep", "sweep", 1, 0), true)
	equal(t, "nothing to look at", c.status("sweep"), api.EvalPending) // for the failed one

	c.ok(&NodesDown{Nodes: []string{"n1", "n2"}})
	c.wait(25 * time.Hour)
	c.ok(&Reap{})
	for g := c.m.Snapshot().Garbage(100); g != nil; g = c.m.Snapshot().Garbage(100) {
		c.ok(g)
	}
	s = c.m.Snapshot()
	equal(t, "nodes", len(s.FindNodes("")), 0)
	equal(t, "rows", len(collect(s.JobAllRows("sweep"))), 0)
	equal(t, "the slot is free", s.Completed("sweep", "sweep", 1, 0), false)
	equal(t, "summary", s.Summary("sweep").Desired, 0)
	equal(t, "status", s.Summary("sweep").Status, api.JobPending)

	c.nodes("n3")
	c.report(c.run("sweep", 1, "n3")[0], api.PhaseComplete)
	equal(t, "status", c.m.Snapshot().Summary("sweep").Status, api.JobComplete)
}

// TestWhatIsMissingOnNodesIsQueued: nobody wrote down how many there are to be, so the summary counts those that there are
// and those that the scheduler could not place.
func TestWhatIsMissingOnNodesIsQueued(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2", "n3")
	c.register(testJob("logger", api.JobSystem, 1))
	equal(t, "status", c.m.Snapshot().Summary("logger").Status, api.JobPending)
	p := c.plan("logger", api.EvalBlocked)
	c.put(p, 0, "n1")
	c.put(p, 1, "n2")
	p.Jobs[0].Explanations = []api.Explanation{{Task: "logger", Wanted: 3, Placed: 2}}
	c.ok(&CommitPlan{Plan: p})
	for _, id := range c.live("logger") {
		c.report(id, api.PhaseRunning)
	}
	sum := c.m.Snapshot().Summary("logger")
	equal(t, "counts", sum.Counts, api.PhaseCounts{Queued: 1, Running: 2})
	equal(t, "desired", sum.Desired, 3)
	equal(t, "status", sum.Status, api.JobPending)

	c.ok(&CommitPlan{Plan: c.plan("logger", api.EvalComplete)})
	equal(t, "status", c.m.Snapshot().Summary("logger").Status, api.JobRunning)
	c.ok(&NodesDown{Nodes: []string{"n2"}})
	c.ok(&CommitPlan{Plan: c.plan("logger", api.EvalComplete)})
	sum = c.m.Snapshot().Summary("logger")
	equal(t, "what is lost with its node is not asked for", sum.Counts, api.PhaseCounts{Running: 1})
	equal(t, "status", sum.Status, api.JobRunning)
}

// restored is a machine that a snapshot was restored into.
func restored(t *testing.T, s *Snapshot) *Machine {
	t.Helper()
	m := New()
	if err := m.Restore(bytes.NewReader(persisted(t, s))); err != nil {
		t.Fatal(err)
	}
	return m
}

// everyNodeStory is what the stories lack: jobs that are to be on every node. It may not change either.
func everyNodeStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("logger", api.JobSystem, 1))
	c.register(testJob("sweep", api.JobSysbatch, 1))
	c.run("logger", 2, "n1", "n2")
	c.report(c.run("sweep", 2, "n1", "n2")[0], api.PhaseComplete)
	c.nodes("n3")
	p := c.plan("logger", api.EvalBlocked)
	c.put(p, 1, "n3")
	c.put(p, 3, "n3")
	p.Jobs[0].Explanations = []api.Explanation{{Task: "logger", Wanted: 3, Placed: 2}}
	c.ok(&CommitPlan{Plan: p})
	c.ok(&NodesDown{Nodes: []string{"n2"}, Reason: "gone"})
	c.nodes("n2")
	return c
}
