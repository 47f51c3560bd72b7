package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
)

func TestAPlacementIsCheckedAgainstTheFacts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		edit   func(c *cluster, p *api.Plan) // between planning and commit
		reason string                        // "" for accepted
	}{
		{"nothing happened", func(*cluster, *api.Plan) {}, ""},
		{"the job changed", func(c *cluster, _ *api.Plan) { c.register(testJob("web", api.JobService, 9)) }, "changed since"},
		{"the job was stopped", func(c *cluster, _ *api.Plan) { c.ok(&StopJob{Name: "web"}) }, "changed since"},
		{"no such job", func(_ *cluster, p *api.Plan) { p.Jobs[0].Job = "nobody" }, "changed since"},
		{"no such task", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Task = "nobody" }, "no such task"},
		{"no such version", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Version = 7 }, "no such task"},
		{"a slot too many", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Slot = 2 }, "not asked for"},
		{"the node is unknown", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Node = "n9" }, "gone"},
		{"the node went down", func(c *cluster, _ *api.Plan) { c.ok(&NodesDown{Nodes: []string{"n1"}}) }, "not ready"},
		{"the node is ineligible", func(c *cluster, _ *api.Plan) { c.ok(&SetEligibility{Node: "n1", Ineligible: true}) }, "not ready"},
		{"the node started anew", func(c *cluster, _ *api.Plan) {
			n := testNode("n1")
			n.Incarnation = 2
			c.ok(&RegisterNode{Node: n})
		}, "not ready"},
		{"too big", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Held.Memory = 9000 }, "memory 8.8 GiB wanted, 8 GiB free"},
		{"less than nothing", func(_ *cluster, p *api.Plan) { p.Jobs[0].Placements[0].Held.CPU = -1 }, "less than nothing"},
		{"the room went", func(c *cluster, _ *api.Plan) { c.fill("n1", 3950) }, "cpu 0.1 wanted, 0.05 free"},
		{"the port went", func(c *cluster, p *api.Plan) {
			p.Jobs[0].Placements[0].Ports = []api.PortBinding{{Label: "http", Host: 8080}}
			c.register(testJob("other", api.JobService, 1))
			q := c.plan("other", api.EvalComplete)
			c.put(q, 0, "n1", 8080)
			c.ok(&CommitPlan{Plan: q})
		}, "port 8080 of its node is held"},
		{"a port twice", func(_ *cluster, p *api.Plan) {
			p.Jobs[0].Placements[0].Ports = []api.PortBinding{{Label: "a", Host: 80}, {Label: "b", Host: 80}}
		}, "twice"},
		{"no port", func(_ *cluster, p *api.Plan) {
			p.Jobs[0].Placements[0].Ports = []api.PortBinding{{Label: "a", Host: 65536}}
		}, "is none"},
		{"a foreign predecessor", func(c *cluster, p *api.Plan) {
			c.register(testJob("other", api.JobService, 1))
			id := c.run("other", 1, "n1")[0]
			c.report(id, api.PhaseFailed)
			p.Jobs[0].Placements[0].Replaces = id
		}, "another slot"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			c.nodes("n1")
			c.register(testJob("web", api.JobService, 2))
			p := c.plan("web", api.EvalComplete)
			c.put(p, 1, "n1")
			tc.edit(c, p)
			r := c.ok(&CommitPlan{Plan: p})
			if tc.reason == "" {
				equal(t, "accepted", r.Accepted, 1)
				equal(t, "rejected", len(r.Rejections), 0)
				return
			}
			equal(t, "accepted", r.Accepted, 0)
			if len(r.Rejections) != 1 || !strings.Contains(r.Rejections[0].Reason, tc.reason) {
				t.Fatalf("rejections: %+v, want %q", r.Rejections, tc.reason)
			}
		})
	}
}

// fill takes cpu thousandths of a core of a node for good.
func (c *cluster) fill(node string, cpu int64) {
	c.t.Helper()
	c.register(testJob("filler", api.JobService, 1))
	p := c.plan("filler", api.EvalComplete)
	c.put(p, 0, node).Held = api.Resources{CPU: cpu}
	if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
		c.t.Fatalf("fill: %v", r.Rejections)
	}
}

func TestTheFirstPlanInTheLogWins(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	first, second := c.plan("web", api.EvalComplete), c.plan("web", api.EvalComplete)
	c.put(first, 0, "n1")
	c.put(second, 0, "n2")
	c.put(second, 1, "n2")
	first.Jobs[0].Status = api.EvalPending
	equal(t, "first", c.ok(&CommitPlan{Plan: first}).Accepted, 1)
	r := c.ok(&CommitPlan{Plan: second})
	equal(t, "second", r.Accepted, 1)
	equal(t, "rejected slot", r.Rejections[0].Slot, 0)
	e := c.m.Snapshot().Open("web")
	equal(t, "the evaluation stays", e.Status, api.EvalPending)
	equal(t, "fruitless plans", e.Rejections, 0)
	equal(t, "placed", e.Placed, 2)

	c.ok(&CommitPlan{Plan: first})
	c.ok(&CommitPlan{Plan: first})
	equal(t, "fruitless plans", c.m.Snapshot().Open("web").Rejections, 2)
}

func TestAPlanInPartsIsNotCompleteWhenOneWasRejected(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	first, second := c.plan("web", api.EvalPending), c.plan("web", api.EvalComplete)
	c.put(first, 0, "n9")
	c.put(second, 1, "n1")
	c.ok(&CommitPlan{Plan: first})
	c.ok(&CommitPlan{Plan: second})
	equal(t, "status", c.status("web"), api.EvalPending)
	third := c.plan("web", api.EvalComplete)
	c.put(third, 0, "n1")
	c.ok(&CommitPlan{Plan: third})
	equal(t, "status of a plan that knows", c.status("web"), "")
}

func TestASuccessorTakesOverItsSlot(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 1))
	old := c.run("web", 1, "n1")[0]
	changed := testJob("web", api.JobService, 1)
	changed.Tasks[0].Image = "newer"
	c.register(changed)

	try := func(replaces api.ID, stop bool) Result {
		p := c.plan("web", api.EvalComplete)
		c.put(p, 0, "n2").Replaces = replaces
		if stop {
			p.Jobs[0].Stops = []api.Stop{{Allocation: old, Reason: "a newer version"}}
		}
		return c.ok(&CommitPlan{Plan: p})
	}
	equal(t, "unnamed", try(0, true).Accepted, 0)
	equal(t, "its stop falls only with the placement that names it", c.desired(old), api.DesiredStop)
	c = newClusterWithOneOld(t, &old)
	equal(t, "without its stop", try(old, false).Accepted, 0)
	equal(t, "named", try(old, true).Accepted, 1)
	equal(t, "desired", c.desired(old), api.DesiredStop)
	equal(t, "both live", len(c.live("web")), 2)
	equal(t, "a third", try(old, true).Accepted, 0)

	s := c.m.Snapshot()
	a, _ := s.Allocation(old)
	b, _ := s.Allocation(c.live("web")[1])
	equal(t, "replaced by", a.ReplacedBy, b.ID)
	equal(t, "replaces", b.Replaces, a.ID)
	equal(t, "reason", a.DesiredReason, "a newer version")
	held, live, _ := s.NodeHeld("n1")
	equal(t, "the room is held until the old one is gone", held, oneSize)
	equal(t, "live", live, 1)
	c.report(old, api.PhaseComplete)
	held, live, _ = c.m.Snapshot().NodeHeld("n1")
	equal(t, "held", held, api.Resources{})
	equal(t, "live", live, 0)
}

// newClusterWithOneOld has web[0] running in version 1 and version 2 registered.
func newClusterWithOneOld(t *testing.T, old *api.ID) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 1))
	*old = c.run("web", 1, "n1")[0]
	changed := testJob("web", api.JobService, 1)
	changed.Tasks[0].Image = "newer"
	c.register(changed)
	return c
}

func (c *cluster) desired(id api.ID) api.Desired {
	row, _ := c.m.Snapshot().Row(id)
	return row.Desired
}

func TestAStopFallsWithItsRejectedSuccessor(t *testing.T) {
	var old api.ID
	c := newClusterWithOneOld(t, &old)
	p := c.plan("web", api.EvalComplete)
	c.put(p, 0, "n9").Replaces = old
	p.Jobs[0].Stops = []api.Stop{{Allocation: old}}
	equal(t, "accepted", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
	equal(t, "desired", c.desired(old), api.DesiredRun)
	equal(t, "evaluation", c.status("web"), api.EvalPending)
}

func TestInPlaceRaisesTheVersion(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	c.register(testJob("web", api.JobService, 2))
	p := c.plan("web", api.EvalComplete)
	p.Jobs[0].InPlace = []api.ID{id, 999}
	c.put(p, 1, "n1")
	c.ok(&CommitPlan{Plan: p})
	row, _ := c.m.Snapshot().Row(id)
	equal(t, "version", row.Version, 2)
	equal(t, "modified", row.ModifyIndex, c.index)
}

func TestStopsOfAPlanThatIsNoLongerAskedFor(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	ids := c.run("web", 2, "n1")
	c.register(testJob("web", api.JobService, 1))
	p := c.plan("web", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: ids[1]}}
	c.ok(&StopAllocation{ID: ids[0]}) // supersedes the evaluation, leaves the job as it is
	c.ok(&CommitPlan{Plan: p})
	equal(t, "the facts hold", c.desired(ids[1]), api.DesiredStop)
	equal(t, "the newer evaluation", c.status("web"), api.EvalPending)
	p.Jobs[0].Stops = []api.Stop{{Allocation: ids[0]}}
	c.register(testJob("web", api.JobService, 3))
	c.ok(&CommitPlan{Plan: p})
	equal(t, "they hold no more", c.desired(ids[0]), api.DesiredRun)
}

func TestNoWakeUpIsMissed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		event  func(c *cluster, own, other api.ID)
		blocks bool // the plan made before the event may still block its evaluation
	}{
		{"nothing", func(*cluster, api.ID, api.ID) {}, true},
		{"a status that frees nothing", func(c *cluster, _, other api.ID) { c.report(other, api.PhaseRunning) }, true},
		{"its own instance runs", func(c *cluster, own, _ api.ID) { c.report(own, api.PhaseRunning) }, false},
		{"its own instance ends", func(c *cluster, own, _ api.ID) { c.report(own, api.PhaseFailed) }, false},
		{"another's instance ends", func(c *cluster, _, other api.ID) { c.report(other, api.PhaseFailed) }, false},
		{"a node joins", func(c *cluster, _, _ api.ID) { c.nodes("n3") }, false},
		{"a node joins, not ready", func(c *cluster, _, _ api.ID) { c.ok(&RegisterNode{Node: testNode("n3")}) }, true},
		{"a node becomes ready", func(c *cluster, _, _ api.ID) { c.ok(&NodeReady{Node: "n2", Incarnation: 1}) }, false},
		{"a node is eligible again", func(c *cluster, _, _ api.ID) {
			c.ok(&SetEligibility{Node: "n1", Ineligible: true})
			c.ok(&SetEligibility{Node: "n1"})
		}, false},
		{"a node grows", func(c *cluster, _, _ api.ID) {
			n := testNode("n1")
			n.Resources.CPU *= 2
			c.ok(&RegisterNode{Node: n})
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			build := func() (*cluster, api.ID, api.ID) {
				c := newCluster(t)
				c.nodes("n1")
				c.ok(&RegisterNode{Node: testNode("n2")})
				c.register(testJob("other", api.JobService, 1))
				other := c.run("other", 1, "n1")[0]
				c.register(testJob("web", api.JobService, 2))
				p := c.plan("web", api.EvalPending)
				c.put(p, 0, "n1")
				c.ok(&CommitPlan{Plan: p})
				return c, c.live("web")[0], other
			}
			c, own, other := build()
			p := c.plan("web", api.EvalBlocked)
			tc.event(c, own, other)
			c.ok(&CommitPlan{Plan: p})
			equal(t, "blocked, when it happened before the commit", c.status("web") == api.EvalBlocked, tc.blocks)

			c, own, other = build()
			c.ok(&CommitPlan{Plan: c.plan("web", api.EvalBlocked)})
			equal(t, "status", c.status("web"), api.EvalBlocked)
			equals(t, "runnable", c.runnable(), nil)
			woken := c.m.Watch(WatchKey{Table: TableRunnable})
			tc.event(c, own, other)
			waits := true
			for _, e := range c.m.Snapshot().Runnable(0) {
				waits = waits && e.Job != "web"
			}
			equal(t, "still blocked, when it happened after the commit", waits, tc.blocks)
			select {
			case <-woken:
			default:
				equal(t, "nobody was woken", tc.blocks, true)
			}
		})
	}
}

func TestAnEndBetweenPlanAndCommitKeepsTheEvaluationOpen(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	p := c.plan("web", api.EvalPending)
	c.put(p, 0, "n1")
	c.ok(&CommitPlan{Plan: p})
	p = c.plan("web", api.EvalComplete)
	c.put(p, 1, "n1")
	c.report(c.live("web")[0], api.PhaseFailed)
	c.ok(&CommitPlan{Plan: p})
	equal(t, "status", c.status("web"), api.EvalPending)
}

func TestExplanationsAreBounded(t *testing.T) {
	c := newCluster(t)
	c.register(testJob("web", api.JobService, 1))
	p := c.plan("web", api.EvalBlocked)
	x := api.Explanation{Task: "web", Wanted: 1, Nodes: 9, Note: strings.Repeat("é", 5000)}
	for range 100 {
		x.Filters = append(x.Filters, api.FilterCount{Filter: strings.Repeat("f", 100), Nodes: 1})
	}
	p.Jobs[0].Explanations = []api.Explanation{{Task: "small", Note: "as it is"}, x}
	c.ok(&CommitPlan{Plan: p})
	got := c.m.Snapshot().Open("web").Explanations
	equal(t, "the small one", got[0].Note, "as it is")
	if size := explanationSize(&got[1]); size > api.MaxExplanationSize || len(got[1].Filters) == 0 {
		t.Fatalf("%d bytes with %d filters are kept", size, len(got[1].Filters))
	}
}

func TestAPortThatSomethingElseHoldsIsLeftAlone(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	p := c.plan("web", api.EvalPending)
	c.put(p, 0, "n2", 8080)
	c.ok(&CommitPlan{Plan: p})
	id := c.live("web")[0]
	equal(t, "held", c.m.Snapshot().PortHeld(1, 8080), true)
	equal(t, "held elsewhere", c.m.Snapshot().PortHeld(0, 8080), false)
	c.report(id, api.PhaseFailed, func(st *api.AllocationStatus) { st.Failure, st.Port = api.FailurePortTaken, 8080 })
	s := c.m.Snapshot()
	equal(t, "held", s.PortHeld(1, 8080), false)
	equal(t, "quarantined", s.Quarantined(1, 8080), true)
	equal(t, "due", s.Due(), c.at+int64(quarantineTime))

	p = c.plan("web", api.EvalBlocked)
	c.put(p, 0, "n2", 8080)
	equal(t, "accepted", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalBlocked)})
	equals(t, "runnable", c.runnable(), nil)
	c.wait(10 * time.Minute)
	c.ok(&Reap{})
	equal(t, "quarantined", c.m.Snapshot().Quarantined(1, 8080), false)
	equal(t, "due", c.m.Snapshot().Due(), 0)
	equals(t, "runnable", c.runnable(), []string{"web"})
	for _, at := range [][2]int{{-1, 80}, {2, 80}, {0, 0}, {0, 65536 + 80}} {
		equal(t, "nonsense", s.PortHeld(at[0], at[1]) || s.Quarantined(at[0], at[1]), false)
	}
}

func TestRunnableComesByUrgency(t *testing.T) {
	c := newCluster(t)
	for _, j := range []struct {
		name     string
		priority int
		status   api.EvaluationStatus
	}{{"low", 10, ""}, {"blocked-high", 90, api.EvalBlocked}, {"mid", 50, ""}, {"blocked-mid", 50, api.EvalBlocked},
		{"high", 90, ""}, {"mid-2", 50, ""}, {"done", 99, api.EvalComplete}} {
		job := testJob(j.name, api.JobService, 1)
		job.Priority = j.priority
		c.register(job)
		if j.status != "" {
			c.ok(&CommitPlan{Plan: c.plan(j.name, j.status)})
		}
	}
	equals(t, "before", c.runnable(), []string{"high", "mid", "mid-2", "low"})
	c.nodes("n1")
	equals(t, "after", c.runnable(), []string{"high", "blocked-high", "mid", "mid-2", "blocked-mid", "low"})
	equal(t, "limit", len(c.m.Snapshot().Runnable(2)), 2)
	equal(t, "limit", c.m.Snapshot().Runnable(2)[1].Job, "blocked-high")
}

// TestASuccessorRunsBesideItsHolder until the holder is told to stop; it takes its place then, and whoever of the two dies first
// leaves the other.
func TestASuccessorRunsBesideItsHolder(t *testing.T) {
	begin := func(t *testing.T) (*cluster, api.ID, api.ID) {
		c := newCluster(t)
		c.nodes("n1", "n2")
		c.register(testJob("web", api.JobService, 1))
		holder := c.run("web", 1, "n1")[0]
		c.report(holder, api.PhaseRunning)
		p := c.plan("web", api.EvalComplete)
		beside := c.put(p, 0, "n2")
		beside.Replaces = holder
		equal(t, "without saying so", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
		beside.Beside = true
		equal(t, "saying so", c.ok(&CommitPlan{Plan: p}).Accepted, 1)
		live := c.live("web")
		equal(t, "live", len(live), 2)
		if r := c.ok(&CommitPlan{Plan: p}).Rejections; len(r) != 1 || !strings.Contains(r[0].Reason, "a holder and a successor already") {
			t.Fatalf("a third: %v", r)
		}
		return c, live[0], live[1]
	}
	counts := func(t *testing.T, c *cluster, running, healthy, failed int) {
		t.Helper()
		sum := c.m.Snapshot().Summary("web")
		equal(t, "running", sum.Counts.Running, running)
		equal(t, "healthy", sum.Healthy, healthy)
		equal(t, "failed", sum.Counts.Failed, failed)
	}
	stop := func(t *testing.T, c *cluster, id api.ID) {
		p := c.plan("web", api.EvalComplete)
		p.Jobs[0].Stops = []api.Stop{{Allocation: id, Reason: "succeeded"}}
		c.ok(&CommitPlan{Plan: p})
		row, _ := c.m.Snapshot().Row(id)
		equal(t, "desired", row.Desired, api.DesiredStop)
	}
	t.Run("it takes over", func(t *testing.T) {
		c, holder, successor := begin(t)
		counts(t, c, 1, 1, 0)
		c.report(successor, api.PhaseRunning, health(api.HealthUnknown))
		counts(t, c, 1, 1, 0)
		stop(t, c, holder)
		counts(t, c, 1, 0, 0)
		c.report(successor, api.PhaseRunning)
		c.report(holder, api.PhaseComplete)
		counts(t, c, 1, 1, 0)
	})
	t.Run("it fails, and its holder stays", func(t *testing.T) {
		c, holder, successor := begin(t)
		c.report(successor, api.PhaseFailed)
		counts(t, c, 1, 1, 0)
		p := c.plan("web", api.EvalComplete)
		next := c.put(p, 0, "n2")
		next.Replaces, next.Beside = holder, true
		equal(t, "another one", c.ok(&CommitPlan{Plan: p}).Accepted, 1)
	})
	t.Run("its holder is lost", func(t *testing.T) {
		c, _, successor := begin(t)
		c.ok(&NodesDown{Nodes: []string{"n1"}})
		equals(t, "live", c.live("web"), []api.ID{successor})
		counts(t, c, 0, 0, 0)
		c.report(successor, api.PhaseRunning)
		counts(t, c, 1, 1, 0)
	})
	t.Run("it is unwanted", func(t *testing.T) {
		c, _, successor := begin(t)
		stop(t, c, successor)
		c.report(successor, api.PhaseComplete)
		counts(t, c, 1, 1, 0)
	})
}

// TestLessImportantOnesGiveWay: they are told to stop with the reason, and their job is looked at; nobody else is touched.
func TestLessImportantOnesGiveWay(t *testing.T) {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: rulesOffer})
	c.nodes("n1")
	ranked := func(name string, priority int) api.ID {
		j := testJob(name, api.JobService, 1)
		j.Priority = priority
		c.register(j)
		id := c.run(name, 1, "n1")[0]
		c.report(id, api.PhaseRunning)
		return id
	}
	low, equalTo, high, web := ranked("low", 20), ranked("equal", 50), ranked("high", 80), ranked("web", 50)
	c.register(testJob("web", api.JobService, 2))
	p := c.plan("web", api.EvalBlocked)
	for name, id := range map[string]api.ID{"low": low, "equal": equalTo, "high": high, "web": web, "gone": 999} {
		p.Jobs[0].Preemptions = append(p.Jobs[0].Preemptions, api.Preemption{Allocation: id, Job: name, Reason: "gives way to web"})
	}
	p.Jobs[0].Preemptions = append(p.Jobs[0].Preemptions, api.Preemption{Allocation: high, Job: "low", Reason: "is not of that job"})
	p.Jobs[0].Promises = []api.Promise{{Node: "n1", Room: oneSize}}
	c.ok(&CommitPlan{Plan: p})
	owed := collect(c.m.Snapshot().Promised())
	equal(t, "promises", len(owed) == 1 && owed[0].Job == "web" && owed[0].Promises[0] == p.Jobs[0].Promises[0], true)
	for id, want := range map[api.ID]api.Desired{low: api.DesiredStop, equalTo: api.DesiredRun, high: api.DesiredRun, web: api.DesiredRun} {
		row, _ := c.m.Snapshot().Row(id)
		equal(t, "desired of "+row.Job, row.Desired, want)
	}
	a, _ := c.m.Snapshot().Allocation(low)
	equal(t, "the reason", a.DesiredReason, "gives way to web")
	told := c.m.Snapshot().Timeline("low")
	last := told[len(told)-1]
	equal(t, "what its timeline tells last", fmt.Sprint(last.Type, ": ", last.Detail), "stopping: gives way to web")
	equal(t, "the job is looked at", c.m.Snapshot().Open("low").Cause, api.CausePreempted)
	equal(t, "what waits", c.status("web"), api.EvalBlocked)
	c.report(low, api.PhaseComplete)
	equals(t, "there is room for what is more important first", c.runnable(), []string{"web", "low"})
	c.ok(&CommitPlan{Plan: c.plan("low", api.EvalBlocked)})
	equals(t, "what is kept for another is not for it", c.runnable(), []string{"web"})
	c.ok(&RaiseRules{Version: rulesStep})
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalComplete)})
	equal(t, "promises of what is done", len(collect(c.m.Snapshot().Promised())), 0)
	equals(t, "room that is kept no more", c.runnable(), []string{"low"})
}

// TestRoomThatARejectedPlacementLeavesIsOfferedAnew: the plan's other jobs went without it.
func TestRoomThatARejectedPlacementLeavesIsOfferedAnew(t *testing.T) {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: rulesOffer})
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	c.register(testJob("low", api.JobService, 1))
	p := c.plan("web", api.EvalComplete)
	c.put(p, 0, "n1")
	p.Jobs = append(p.Jobs, c.plan("low", api.EvalBlocked).Jobs...)
	c.ok(&StopJob{Name: "web"})
	equal(t, "rejections", len(c.ok(&CommitPlan{Plan: p}).Rejections), 1)
	equal(t, "what waited for room", c.status("low"), api.EvalBlocked)
	equals(t, "what is looked at", c.runnable(), []string{"web", "low"})
}
