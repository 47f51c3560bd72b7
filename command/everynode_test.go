package command

import (
	"testing"
	"time"

	"cube/api"
)

func loggerJob() *api.Job {
	j := webJob(1)
	j.Type = api.JobSystem
	return j
}

// TestRunOfASystemJobWaitsForEachNode: how many there are to be is for the scheduler to say, so the goal is not reached before
// it has.
func TestRunOfASystemJobWaitsForEachNode(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n1, n2 := c.addNode("n1", nil), c.addNode("n2", nil)
		c.registered = func(c *fakeCluster, j *api.Job) {
			for slot, n := range []*api.NodeView{n1, n2} {
				id := c.place(j, "web", slot, n, nil)
				c.phase(id, api.PhaseRunning, "")
			}
			c.evaluate(j.Name, api.EvalPending)
			<-time.After(8 * time.Second)
			c.evaluate(j.Name, api.EvalComplete)
		}
		begun := time.Now()
		p.cube(0, "run", jobFile(t, loggerJob()))
		p.shows("2 of 2 instances running")
		if took := time.Since(begun); took < 8*time.Second {
			t.Errorf("it was reached after %s, before the scheduler had said where instances are to be", took)
		}
	})
}

func TestRunOfASystemJobSaysWhichNodesLackRoom(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n1 := c.addNode("n1", nil)
		c.addNode("n2", nil)
		c.registered = func(c *fakeCluster, j *api.Job) {
			c.phase(c.place(j, "web", 0, n1, nil), api.PhaseRunning, "")
			c.evaluate(j.Name, api.EvalBlocked, api.Explanation{Task: "web", Wanted: 2, Placed: 1, Nodes: 2,
				Filters: []api.FilterCount{{Filter: "memory", Nodes: 1, Wanted: "128 MiB", Seen: "96 MiB free"}}})
		}
		p.cube(2, "run", jobFile(t, loggerJob()))
		p.shows("has 1 of 2 instances running", "1 of 2 not placed: 1 of 2 nodes lacks memory")
	})
}

func TestRunOfASystemJobThatNoNodeIsFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, j *api.Job) {
			c.evaluate(j.Name, api.EvalComplete, api.Explanation{Task: "web", Nodes: 1, Note: "no node meets what it asks for",
				Filters: []api.FilterCount{{Filter: "constraint attr.x is_set", Nodes: 1, Seen: "not set"}}})
		}
		p.cube(2, "run", jobFile(t, loggerJob()))
		p.shows("is on no node", "the only node fails attr.x is_set")
	})
}
