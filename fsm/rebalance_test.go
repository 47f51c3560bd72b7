package fsm

import (
	"testing"
	"time"

	"cube/api"
	"cube/fsm/balance"
)

// moves are those of a job's instances to a node.
func (c *cluster) moves(to string, ids ...api.ID) (out []api.Move) {
	for _, id := range ids {
		row, _ := c.m.Snapshot().Row(id)
		out = append(out, api.Move{Allocation: id, Job: row.Job, Task: row.Task, Slot: row.Slot, From: row.Node, To: to, Gain: 10})
	}
	return out
}

// beside has the scheduler place a successor of an instance, and returns it.
func (c *cluster) beside(id api.ID, node string) api.ID {
	c.t.Helper()
	row, _ := c.m.Snapshot().Row(id)
	p := c.plan(row.Job, api.EvalBlocked)
	placement := c.put(p, row.Slot, node)
	placement.Replaces, placement.Beside = id, true
	if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
		c.t.Fatalf("not accepted: %+v", r.Rejections)
	}
	next, _ := c.m.Snapshot().Successor(id)
	return next.ID
}

// takesOver has the scheduler stop an instance whose successor is healthy, and the instance be gone.
func (c *cluster) takesOver(id api.ID) {
	c.t.Helper()
	row, _ := c.m.Snapshot().Row(id)
	p := c.plan(row.Job, api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: id, Reason: "moved"}}
	c.ok(&CommitPlan{Plan: p})
	c.report(id, api.PhaseComplete)
}

func (c *cluster) stages() (out string) {
	for _, m := range c.m.Snapshot().LatestRebalance().Moves {
		out += string(m.Stage) + " "
	}
	return out
}

func (c *cluster) due(in time.Duration) bool {
	s := c.m.Snapshot()
	due, _ := s.RebalanceDue(s.Now() + int64(in))
	return due
}

// TestARebalanceKeepsItsBudget: so many moves begin within a time, and the next one when one has arrived; what arrives, fails,
// finds no room or is late ends its move.
func TestARebalanceKeepsItsBudget(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2", "n3")
	c.register(testJob("web", api.JobService, 4))
	web := c.run("web", 4, "n1")
	for _, id := range web {
		c.report(id, api.PhaseRunning)
	}
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalComplete)})
	budget := api.RebalanceBudget{MaxMoves: 1, Per: time.Minute, MinGain: 5}
	c.refused(api.CodeConflict, &Rebalance{Cancel: true})
	c.refused(api.CodeInvalid, &Rebalance{Begin: &balance.Order{Budget: budget}})
	c.refused(api.CodeInvalid, &Rebalance{Begin: &balance.Order{Moves: c.moves("n2", web...)}})
	c.ok(&Rebalance{})
	c.ok(&Rebalance{Begin: &balance.Order{Budget: budget, Moves: append(c.moves("n2", web[0], web[1], web[2]), c.moves("n3", web[3])...)}})
	c.refused(api.CodeConflict, &Rebalance{Begin: &balance.Order{Budget: budget, Moves: c.moves("n2", web[0])}})

	equal(t, "there is something to do", c.due(0), true)
	c.ok(&Rebalance{})
	equal(t, "one begins", c.stages(), "moving waiting waiting waiting ")
	equal(t, "its job is looked at", c.m.Snapshot().Open("web").Cause, api.CauseRebalance)
	equal(t, "then there is nothing to do", c.due(time.Second), false)
	next := c.beside(web[0], "n2")
	c.report(next, api.PhaseRunning)
	c.takesOver(web[0])
	c.ok(&Rebalance{})
	equal(t, "it has arrived, and the minute is not over", c.stages(), "done waiting waiting waiting ")
	_, at := c.m.Snapshot().RebalanceDue(c.m.Snapshot().Now())
	equal(t, "when it is, is known", at, c.m.Snapshot().LatestRebalance().Moves[0].BegunAt.Add(time.Minute).UnixNano())
	c.wait(time.Minute)
	c.ok(&Rebalance{})
	equal(t, "then the next one begins", c.stages(), "done moving waiting waiting ")

	late := c.beside(web[1], "n2")
	c.wait(api.DefaultHealthyDeadline)
	c.ok(&Rebalance{})
	equal(t, "what is not healthy in time is undone, and nothing else goes there", c.stages(), "done undone dropped waiting ")
	p := c.plan("web", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: late, Reason: "late"}}
	c.ok(&CommitPlan{Plan: p})
	c.ok(&Rebalance{})
	equal(t, "and the last one begins", c.stages(), "done dropped dropped moving ")
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalComplete)})
	c.ok(&Rebalance{})
	equal(t, "the scheduler found no room", c.stages(), "done dropped dropped dropped ")
	r := c.m.Snapshot().LatestRebalance()
	equal(t, "why", r.Moves[3].Reason, "host-n3 cannot take it any more")
	equal(t, "it is over", r.Stage, api.RebalanceComplete)
	equal(t, "for whoever asks", c.m.Snapshot().Rebalancing(), nil)
}

// TestARebalanceIsCancelled: what is on its way arrives. What goes to a node that others leave waits for them.
func TestARebalanceIsCancelled(t *testing.T) {
	c := rebalanceStory(t)
	equal(t, "one waits for room that another makes", c.stages(), "moving waiting waiting ")
	web := c.m.Snapshot().LatestRebalance().Moves[0].Allocation
	c.ok(&Rebalance{Cancel: true})
	equal(t, "it is under way", c.m.Snapshot().Rebalancing() != nil, true)
	equal(t, "the others stay", c.stages(), "moving dropped dropped ")
	c.report(c.beside(web, "n2"), api.PhaseRunning)
	c.takesOver(web)
	c.ok(&Rebalance{})
	equal(t, "cancelled", c.m.Snapshot().LatestRebalance().Stage, api.RebalanceCancelled)
	equal(t, "over", c.m.Snapshot().Rebalancing(), nil)
	equal(t, "one has moved", c.stages(), "done dropped dropped ")
}
