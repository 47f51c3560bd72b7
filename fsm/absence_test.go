package fsm

import (
	"testing"
	"time"

	"cube/api"
)

// keptJob is a job whose instances are kept for a while when their node goes down.
func keptJob(name string, count int, after time.Duration) *api.Job {
	j := testJob(name, api.JobService, count)
	j.Tasks[0].Disconnect.LostAfter = after
	return j
}

func (c *cluster) stops(job string, status api.EvaluationStatus, ids ...api.ID) {
	c.t.Helper()
	p := c.plan(job, status)
	for _, id := range ids {
		p.Jobs[0].Stops = append(p.Jobs[0].Stops, api.Stop{Allocation: id, Reason: "given up"})
	}
	c.ok(&CommitPlan{Plan: p})
}

// TestANodeThatIsAway: what its tasks keep stays what it was, and holds its slots; what somebody wants to stop is lost, since nobody
// else can end it; and when the node is back it tells everything anew before it is ready.
func TestANodeThatIsAway(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(keptJob("web", 3, 10*time.Minute))
	c.register(testJob("api", api.JobService, 1))
	web, other := c.run("web", 3, "n1"), c.run("api", 1, "n1")
	for _, id := range append(web, other...) {
		c.report(id, api.PhaseRunning)
	}
	c.stops("web", api.EvalComplete, web[2])
	row := func(id api.ID) api.AllocationRow { r, _ := c.m.Snapshot().Row(id); return r }

	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent"})
	since := c.m.Snapshot().Now()
	equal(t, "kept", row(web[0]).Phase, api.PhaseRunning)
	equal(t, "as well as it was", row(web[0]).Health, api.HealthHealthy)
	equal(t, "though it is away", row(web[0]).Away, true)
	equal(t, "its task says nothing of that", row(other[0]).Phase, api.PhaseLost)
	equal(t, "it was to stop", row(web[2]).Phase, api.PhaseLost)
	equal(t, "both jobs are looked at", len(c.runnable()), 2)
	a, _ := c.m.Snapshot().Allocation(web[0])
	equal(t, "until", a.Away.GivenUpAt.UnixNano(), since+int64(10*time.Minute))

	p := c.plan("web", api.EvalComplete)
	c.put(p, 0, "n2")
	equal(t, "the slot is held", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
	next := c.beside(web[0], "n2")
	c.stops("web", api.EvalComplete, web[1])
	equal(t, "who is stopped while nobody can is lost", row(web[1]).Phase, api.PhaseLost)
	equal(t, "and it is looked at again", c.status("web"), api.EvalPending)

	c.wait(time.Minute)
	c.ok(&RegisterNode{Node: testNode("n1"), Ready: true})
	equal(t, "it is not ready before it has told", c.m.Snapshot().Node("n1").Status, api.NodeInitializing)
	equal(t, "it is away till then", row(web[0]).Away, true)
	equal(t, "nobody knows how well it is", row(web[0]).Health, api.HealthUnknown)
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent again"})
	equal(t, "it was away all the time", c.m.Snapshot().Node("n1").Absence.Since.UnixNano(), since)
	c.ok(&RegisterNode{Node: testNode("n1"), Ready: true})
	c.ok(&UpdateStatuses{Reports: []NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{{ID: web[0], Seq: 1, Phase: api.PhaseRunning, Health: api.HealthHealthy, StartedAt: 5}}}}})
	c.stops("web", api.EvalComplete)
	c.ok(&NodeReady{Node: "n1", Incarnation: 1})
	equal(t, "it is back", row(web[0]).Away, false)
	equal(t, "and well, by what it has said since", row(web[0]).Health, api.HealthHealthy)
	equal(t, "its job is looked at", c.m.Snapshot().Open("web").Cause, api.CauseReturn)
	equal(t, "a successor was placed meanwhile", row(next).Phase.Terminal(), false)

	c.stops("web", api.EvalComplete, web[0])
	equal(t, "who can be asked to stop is asked", row(web[0]).Phase, api.PhaseRunning)
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent"})
	equal(t, "nothing was kept this time", c.m.Snapshot().Node("n1").Absence == nil, true)
}

// TestANodeThatIsAwayIsForgotten with what was kept there, once that is given up.
func TestANodeThatIsAwayIsForgotten(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(keptJob("web", 1, 48*time.Hour))
	web := c.run("web", 1, "n1")
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent"})
	c.wait(47 * time.Hour)
	c.ok(&Reap{})
	equal(t, "nothing is forgotten that may run", c.m.Snapshot().Garbage(10) == nil, true)
	c.stops("web", api.EvalComplete, web[0])
	c.ok(&StopJob{Name: "web"})
	for range 3 {
		if r := c.m.Snapshot().Garbage(10); r != nil {
			c.ok(r)
		}
	}
	equal(t, "then it is", c.m.Snapshot().Node("n1") == nil, true)
}

// awayStory is what the stories lack: nodes that are away, or were, while instances are kept. It may not change either.
func awayStory(t failer) *cluster {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: RulesVersion})
	c.nodes("n1", "n2", "n3")
	c.register(keptJob("web", 4, time.Hour))
	web := c.run("web", 4, "n1", "n2")
	for _, id := range web {
		c.report(id, api.PhaseRunning)
	}
	c.ok(&NodesDown{Nodes: []string{"n1", "n2"}, Reason: "silent"})
	c.beside(web[0], "n3")
	c.beside(web[1], "n3")
	c.stops("web", api.EvalComplete, web[2])
	c.ok(&RegisterNode{Node: testNode("n2"), Ready: true})
	c.ok(&NodeReady{Node: "n2", Incarnation: 1})
	c.report(web[3], api.PhaseFailed)
	return c
}
