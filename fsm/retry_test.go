package fsm

import (
	"bytes"
	"testing"
	"time"

	"cube/api"
)

// retryStory is what the stories lack: instances that were placed again after a failure, and an evaluation that waits. It may not
// change either.
func retryStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	web := c.run("web", 2, "n1")
	c.report(web[0], api.PhaseFailed, func(st *api.AllocationStatus) { st.Failure, st.ExitCode = api.FailureExit, 3 })
	wait := c.plan("web", api.EvalWaiting)
	wait.Jobs[0].WakeAt = c.m.Snapshot().Now() + int64(30*time.Second)
	c.ok(&CommitPlan{Plan: wait})
	c.wait(30 * time.Second)
	again := c.plan("web", api.EvalComplete)
	p := c.put(again, 0, "n2")
	p.Replaces, p.Trial = web[0], api.Trial{Since: c.m.Snapshot().Now(), Used: 1, Streak: 1}
	c.ok(&CommitPlan{Plan: again})
	c.report(web[1], api.PhaseFailed)
	wait = c.plan("web", api.EvalBlocked)
	wait.Jobs[0].WakeAt = c.m.Snapshot().Now() + int64(time.Hour)
	c.ok(&CommitPlan{Plan: wait})
	return c
}

// TestAnEvaluationWaitsForItsTime: neither freed room nor another job wakes it, its own job and its time do; and all of that
// survives a snapshot.
func TestAnEvaluationWaitsForItsTime(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	c.register(testJob("other", api.JobService, 1))
	web, other := c.run("web", 2, "n1"), c.run("other", 1, "n1")
	c.report(web[0], api.PhaseFailed)
	due := c.m.Snapshot().Now() + int64(time.Minute)
	wait := func() {
		t.Helper()
		p := c.plan("web", api.EvalWaiting)
		p.Jobs[0].WakeAt = due
		c.ok(&CommitPlan{Plan: p})
		equal(t, "status", c.status("web"), api.EvalWaiting)
		equal(t, "runnable", len(c.runnable()), 0)
	}
	wait()
	e := c.m.Snapshot().Open("web")
	equal(t, "it says until when", e.WakeAt.UnixNano(), due)
	equal(t, "people see it", e.View(c.m.Snapshot().Text()).WakeAt.UnixNano(), due)

	c.report(other[0], api.PhaseFailed) // which frees room
	equals(t, "runnable", c.runnable(), []string{"other"})
	c.ok(&CommitPlan{Plan: c.plan("other", api.EvalComplete)})
	c.report(web[1], api.PhaseRunning)
	equals(t, "its job has moved on", c.runnable(), []string{"web"})
	wait()

	restored := New()
	if err := restored.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Snapshot{"here": c.m.Snapshot(), "restored": restored.Snapshot()} {
		equal(t, name+": the next alarm", s.NextAlarm(), due)
		equal(t, name+": before its time", len(s.RunnableAt(due-1, 0)), 0)
		equal(t, name+": at its time", len(s.RunnableAt(due, 0)), 1)
	}
	c.register(testJob("web", api.JobService, 3))
	equal(t, "a new version is looked at at once", c.status("web"), api.EvalPending)
	equal(t, "and nothing waits any more", c.m.Snapshot().NextAlarm(), 0)

	late := c.plan("web", api.EvalWaiting)
	late.Jobs[0].WakeAt = due
	c.report(web[1], api.PhaseFailed) // after the plan was made
	c.ok(&CommitPlan{Plan: late})
	equal(t, "a plan that missed something closes nothing", c.status("web"), api.EvalPending)
	equal(t, "and sets no alarm", c.m.Snapshot().NextAlarm(), 0)
	never := c.plan("web", api.EvalWaiting)
	c.ok(&CommitPlan{Plan: never})
	equal(t, "nothing waits for no time", c.status("web"), api.EvalPending)
}

// TestWhatIsKnownOfThePast: when an instance was placed and when it ended, by the state's time; what its placement said; where
// its slot failed lately.
func TestWhatIsKnownOfThePast(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 1))
	first := c.run("web", 1, "n1")[0]
	placed := c.m.Snapshot().Now()
	c.wait(time.Minute)
	c.report(first, api.PhaseFailed)
	ended := c.m.Snapshot().Now()
	past := c.m.Snapshot().Past(first)
	if past.PlacedAt != placed || past.EndedAt != ended || past.Trial != (api.Trial{}) || len(past.Failed) != 1 || past.Failed[0] != "n1" {
		t.Fatalf("%+v; it was placed at %d and ended at %d", past, placed, ended)
	}
	last := first
	trial := api.Trial{Since: ended, Used: 1, Streak: 1}
	for i, node := range []string{"n2", "n1", "n2", "n2", "n2"} {
		p := c.plan("web", api.EvalComplete)
		next := c.put(p, 0, node)
		next.Replaces, next.Trial = last, trial
		c.ok(&CommitPlan{Plan: p})
		last = c.live("web")[0]
		c.report(last, api.PhaseFailed, func(st *api.AllocationStatus) {
			if i == 4 {
				st.Failure = api.FailurePortTaken
			}
		})
	}
	past = c.m.Snapshot().Past(last)
	equal(t, "trial", past.Trial, trial)
	equals(t, "where it failed, the latest first", past.Failed, []string{"n2", "n1"})
	c.ok(c.m.Snapshot().Garbage(100))
	equal(t, "rows that are kept", len(collect(c.m.Snapshot().Rows())), keptEnded)
	equal(t, "pasts that are kept", c.m.Snapshot().allocations.trials.Len(), keptEnded)
	if past := c.m.Snapshot().Past(first); past.EndedAt != 0 || past.Failed != nil {
		t.Errorf("of what is forgotten: %+v", past)
	}
}
