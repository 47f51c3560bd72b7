package fsm

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
)

func TestTheFirstEntryMintsTheClusterID(t *testing.T) {
	c := newCluster(t)
	equal(t, "ID", c.m.Snapshot().ClusterID(), "c1")
	c.refused(api.CodeConflict, &InitCluster{ClusterID: "c2"})
	equal(t, "ID", c.m.Snapshot().ClusterID(), "c1")
}

func TestTimeOnlyMovesForward(t *testing.T) {
	c := newCluster(t)
	now := c.m.Snapshot().Now()
	c.wait(-time.Hour)
	c.ok(&Reap{})
	equal(t, "time", c.m.Snapshot().Now(), now)
}

func TestAnEntryIsAppliedOnce(t *testing.T) {
	c := newCluster(t)
	c.register(testJob("web", api.JobService, 1))
	r := c.m.Apply(c.index, &Command{Body: &StopJob{Name: "web"}})
	equal(t, "code", api.CodeOf(r.Err), api.CodeConflict)
	equal(t, "stopped", c.m.Snapshot().Job("web").Stopped, false)
}

func TestRegisteringMakesVersionsOnlyOfChanges(t *testing.T) {
	c := newCluster(t)
	first := c.register(testJob("web", api.JobService, 2))
	equal(t, "first", first, RegisteredJob{Name: "web", Version: 1, Changed: true, Evaluation: first.Evaluation})
	again := c.register(testJob("web", api.JobService, 2))
	equal(t, "again", again, RegisteredJob{Name: "web", Version: 1, Evaluation: first.Evaluation})

	more := c.register(testJob("web", api.JobService, 3))
	equal(t, "more", more.Version, 2)
	equal(t, "the older evaluation", c.m.Snapshot().Evaluation(first.Evaluation).Status, api.EvalSuperseded)
	equal(t, "the open one", c.m.Snapshot().Open("web").ID, more.Evaluation)

	s := c.m.Snapshot()
	equal(t, "created", s.Job("web").CreateIndex, s.JobVersion("web", 1).ModifyIndex)
	equal(t, "kept versions", len(s.Versions("web")), 2)
	equal(t, "submitted", s.Job("web").SubmittedAt.UnixNano(), c.at)
}

func TestAFileIsRegisteredWholeOrNotAtAll(t *testing.T) {
	c := newCluster(t)
	for _, bad := range []*api.Job{nil, {}, testJob("web", api.JobService, -1), testJob("a", api.JobService, 1),
		{Name: "x", Tasks: []*api.Task{nil}}, testJob("x", api.JobService, api.MaxTaskInstances+1)} {
		c.refused(api.CodeInvalid, &RegisterJobs{Jobs: []*api.Job{testJob("a", api.JobService, 1), bad}})
	}
	equal(t, "jobs", len(collect(c.m.Snapshot().Jobs())), 0)
}

func TestStoppingAndStartingAgain(t *testing.T) {
	c := newCluster(t)
	c.refused(api.CodeNotFound, &StopJob{Name: "web"})
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	before := c.m.Snapshot().Job("web").ModifyIndex
	e := c.ok(&StopJob{Name: "web"}).Evaluation
	equal(t, "cause", c.m.Snapshot().Evaluation(e).Cause, api.CauseStop)
	equal(t, "again", c.ok(&StopJob{Name: "web"}).Evaluation, e)
	if c.m.Snapshot().Job("web").ModifyIndex <= before {
		t.Fatal("a stop does not raise the job's modify index")
	}

	p := c.plan("web", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: id, Reason: "the job is stopped"}}
	c.ok(&CommitPlan{Plan: p})
	equal(t, "status", c.m.Snapshot().Summary("web").Status, api.JobRunning)
	c.report(id, api.PhaseComplete)
	equal(t, "status", c.m.Snapshot().Summary("web").Status, api.JobDead)
	equal(t, "nothing is left to look at", c.status("web"), "")

	r := c.register(testJob("web", api.JobService, 1))
	equal(t, "version", r.Version, 2)
	equal(t, "changed", r.Changed, true)
	equal(t, "queued", c.m.Snapshot().Summary("web").Counts.Queued, 1)
}

func TestVersionsAreKeptByCountAndByUse(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	c.run("web", 1, "n1")
	for i := range 20 {
		c.register(testJob("web", api.JobService, i+2))
	}
	var kept []uint64
	for _, j := range c.m.Snapshot().Versions("web") {
		kept = append(kept, j.Version)
	}
	equals(t, "kept", kept, []uint64{21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 1})
}

func TestVersionsGoOnAfterAPurge(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	purge := &Reap{Jobs: []string{"web", "nobody"}}
	c.ok(purge)
	c.ok(&StopJob{Name: "web"})
	c.ok(purge)
	if c.m.Snapshot().Job("web") == nil {
		t.Fatal("a job with an allocation was purged")
	}
	c.report(id, api.PhaseComplete)
	c.ok(&Reap{Allocations: []api.ID{id}, Jobs: []string{"web"}})
	s := c.m.Snapshot()
	equal(t, "jobs", len(collect(s.Jobs())), 0)
	equal(t, "evaluations", len(collect(s.Evaluations())), 0)
	equal(t, "the deletion's index", s.TableIndex(WatchKey{Table: TableJobs, Key: "web"}), s.Index())
	equal(t, "version", c.register(testJob("web", api.JobService, 1)).Version, 2)
}

func TestABatchSlotCompletesForGood(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("sum", api.JobBatch, 70))
	ids := c.run("sum", 70, "n1", "n2")
	c.report(ids[65], api.PhaseComplete)
	c.report(ids[1], api.PhaseFailed)
	done := func(version uint64, slot uint32) bool { return c.m.Snapshot().Completed("sum", "sum", version, slot) }
	equal(t, "slot 65", done(1, 65), true)
	equal(t, "slot 1", done(1, 1), false)
	equal(t, "a failure is looked at", c.status("sum"), api.EvalPending)

	p := c.plan("sum", api.EvalComplete)
	c.put(p, 65, "n1")
	equal(t, "accepted", c.ok(&CommitPlan{Plan: p}).Accepted, 0)

	c.register(testJob("sum", api.JobBatch, 71)) // a count: the same instances
	equal(t, "carried over", done(2, 65), true)
	other := testJob("sum", api.JobBatch, 71)
	other.Tasks[0].Image = "another"
	c.register(other)
	equal(t, "other instances", done(3, 65), false)
	equal(t, "the old ones", done(2, 65), true)
}

// TestABatchJobHasFailed when what failed is not placed again and the rest is over, not before.
func TestABatchJobHasFailed(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("sum", api.JobBatch, 2))
	ids := c.run("sum", 2, "n1")
	status := func() string { return c.m.Snapshot().Summary("sum").Status }
	c.report(ids[0], api.PhaseFailed)
	equal(t, "one may be placed again", status(), api.JobDegraded)
	c.ok(&CommitPlan{Plan: c.plan("sum", api.EvalComplete)})
	equal(t, "the other one runs", status(), api.JobDegraded)
	c.report(ids[1], api.PhaseComplete)
	c.ok(&CommitPlan{Plan: c.plan("sum", api.EvalComplete)})
	equal(t, "all is over", status(), api.JobFailed)
}

func TestAStoppedBatchJobRunsAgain(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("sum", api.JobBatch, 1))
	c.report(c.run("sum", 1, "n1")[0], api.PhaseComplete)
	equal(t, "status", c.m.Snapshot().Summary("sum").Status, api.JobComplete)
	equal(t, "unchanged", c.register(testJob("sum", api.JobBatch, 1)).Changed, false)
	c.ok(&StopJob{Name: "sum"})
	equal(t, "version", c.register(testJob("sum", api.JobBatch, 1)).Version, 2)
	equal(t, "completed", c.m.Snapshot().Completed("sum", "sum", 2, 0), false)
	equal(t, "placed again", len(c.run("sum", 1, "n1")), 1)
}

func TestTheSummaryFollowsEachInstance(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 4))
	expect := func(status string, want api.PhaseCounts) {
		t.Helper()
		sum := c.m.Snapshot().Summary("web")
		equal(t, "status", sum.Status, status)
		equal(t, "counts", sum.Counts, want)
	}
	expect(api.JobPending, api.PhaseCounts{Queued: 4})
	ids := c.run("web", 3, "n1")
	expect(api.JobPending, api.PhaseCounts{Queued: 1, Pending: 3})
	c.report(ids[0], api.PhasePreparing)
	c.report(ids[1], api.PhaseRunning)
	c.report(ids[2], api.PhaseFailed)
	expect(api.JobDegraded, api.PhaseCounts{Queued: 1, Preparing: 1, Running: 1, Failed: 1})
	c.register(testJob("web", api.JobService, 2))
	expect(api.JobPending, api.PhaseCounts{Preparing: 1, Running: 1})
	c.report(ids[0], api.PhaseRunning)
	expect(api.JobRunning, api.PhaseCounts{Running: 2})
	equal(t, "no such job", c.m.Snapshot().Summary("nobody").Name, "")
}

func TestARequestHasOneEffect(t *testing.T) {
	c := newCluster(t)
	body := func(n int) Body { return &RegisterJobs{Jobs: []*api.Job{testJob("web", api.JobService, n)}} }
	first := c.request("r1", body(1))
	c.request("", body(2))
	again := c.request("r1", body(1))
	equal(t, "replayed", again.Replayed, true)
	equal(t, "first result", fmt.Sprint(again.Registered, again.Index), fmt.Sprint(first.Registered, first.Index))
	equal(t, "count", c.m.Snapshot().Job("web").Tasks[0].Count, 2)
	equal(t, "other body", api.CodeOf(c.request("r1", body(3)).Err), api.CodeConflict)
	equal(t, "other kind", api.CodeOf(c.request("r1", &StopJob{Name: "web"}).Err), api.CodeConflict)
	equal(t, "long", api.CodeOf(c.request(string(make([]byte, 65)), body(3)).Err), api.CodeInvalid)

	equal(t, "refused", api.CodeOf(c.request("r2", &StopJob{Name: "late"}).Err), api.CodeNotFound)
	c.register(testJob("late", api.JobService, 1))
	if r := c.request("r2", &StopJob{Name: "late"}); r.Err != nil || r.Replayed {
		t.Fatalf("a refusal was remembered: %+v", r)
	}
}

func TestOldRequestsAreForgotten(t *testing.T) {
	m := New()
	apply := func(i uint64, id string) Result {
		return m.Apply(i, &Command{RequestID: id, Body: &SetEligibility{Node: "n1"}})
	}
	m.Apply(1, &Command{Body: &RegisterNode{Node: testNode("n1"), Ready: true}})
	for i := range uint64(rememberedRequests + 1) {
		apply(i+2, fmt.Sprint(i))
	}
	equal(t, "the oldest", apply(rememberedRequests+3, "0").Replayed, false)
	equal(t, "the newest", apply(rememberedRequests+4, fmt.Sprint(rememberedRequests)).Replayed, true)
	equal(t, "remembered", m.Snapshot().requests.rows.Len(), rememberedRequests)
}

func TestRulesOnlyRise(t *testing.T) {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: RulesVersion})
	c.refused(api.CodeInvalid, &RaiseRules{Version: RulesVersion - 1})
	r := c.m.Apply(c.index+1, &Command{Body: &RaiseRules{Version: RulesVersion + 1}})
	equal(t, "newer", api.CodeOf(r.Err), api.CodeIncompatible)
}

func TestANewEpochLooksAtEverythingAnew(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("a", api.JobService, 1))
	c.register(testJob("b", api.JobService, 1))
	c.register(testJob("c", api.JobService, 1))
	c.run("a", 1, "n1")
	c.ok(&StopJob{Name: "c"})
	last := c.m.Snapshot().Open("c").ID
	c.ok(&RaiseEpoch{})
	s := c.m.Snapshot()
	equal(t, "epoch", s.Epoch(), 1)
	equals(t, "runnable", c.runnable(), []string{"c", "a", "b"}) // the stopped job with nothing left keeps its old one
	for _, job := range []string{"a", "b"} {
		e := s.Open(job)
		equal(t, "cause", e.Cause, api.CauseRestore)
		if e.ID <= last || e.ID.Epoch() != 1 {
			t.Fatalf("evaluation %d was given out before", e.ID)
		}
	}
	c.ok(&RaiseEpoch{Above: 4})
	equal(t, "above the epoch before the restore", c.m.Snapshot().Epoch(), 5)
}
