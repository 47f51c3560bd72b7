package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
)

func TestNodeStatusOfTheAgentsOwnNode(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(1, "node", "status", "-self")
		p.complains("Error asking the agent which node it runs: it runs none")
		c.self = c.nodes[1].ID
		p.cube(0, "node", "status", "-self")
		p.shows("Name         = n2\n")
		p.cube(1, "node", "status", "-self", "n1")
		p.complains("-self and the name of a node exclude each other")
	})
}

// A node is shown whatever else cannot be had: its figures from itself, its past from a server's memory.
func TestNodeStatusGoesWithoutWhatCannotBeHad(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n := c.addNode("n1", nil)
		job := webJob(1)
		c.do(func() { c.jobs["web"] = job })
		c.phase(c.place(job, "web", 0, n, nil), api.PhaseRunning, "")
		c.do(func() { c.silent = []api.SilentNode{{ID: n.ID, Name: "n1", Reason: "it is not connected"}} })
		c.fail = func(method string, _ api.Query) error {
			if method == "Events" {
				return api.Errorf(api.CodeBusy, "too many readers")
			}
			return nil
		}
		p.cube(0, "node", "status", "n1")
		p.shows("web[0]", "n1 does not say what its instances use: it is not connected", "CPU     4         0 (0 %)      -                  -\n")
		if strings.Contains(p.stdout.String(), "Last events") {
			t.Errorf("events from nowhere:\n%s", p.stdout.String())
		}
	})
}

// What ended is left out, but for what failed and waits for a successor.
func TestNodeStatusShowsWhatIsNotOver(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n, job := c.addNode("n1", nil), webJob(5)
		c.do(func() { c.jobs["web"] = job })
		for slot, change := range []func(a *api.Allocation){
			func(a *api.Allocation) { a.Phase = api.PhaseRunning },
			func(a *api.Allocation) { a.Phase = api.PhaseFailed },
			func(a *api.Allocation) { a.Phase, a.ReplacedBy = api.PhaseFailed, "1234" },
			func(a *api.Allocation) { a.Phase, a.Desired = api.PhaseComplete, api.DesiredStop },
			func(a *api.Allocation) { a.Phase = api.PhaseLost },
		} {
			c.place(job, "web", slot, n, change)
		}
		p.cube(0, "node", "status", "n1")
		p.shows("web[0]", "web[1]", "3 instances that ended not shown; see -verbose")
		if text := p.stdout.String(); strings.Contains(text, "web[2]") || strings.Contains(text, "web[3]") || strings.Contains(text, "web[4]") {
			t.Errorf("what is over is shown:\n%s", text)
		}
		p.stdout = buffer{}
		p.cube(0, "node", "status", "n1", "-verbose")
		p.shows("web[2]", "web[3]", "web[4]")
		if strings.Contains(p.stdout.String(), "not shown") {
			t.Errorf("all are shown:\n%s", p.stdout.String())
		}
	})
}

func TestNodesAreAddedUp(t *testing.T) {
	node := func(status api.NodeStatus, ineligible bool) *api.NodeView {
		return &api.NodeView{Node: api.Node{Status: status, Ineligible: ineligible, Resources: api.Resources{CPU: 2000, Memory: 8192}}, Held: api.Resources{CPU: 500, Memory: 3072}}
	}
	nodes := []*api.NodeView{node(api.NodeReady, false), node(api.NodeDown, false), node(api.NodeReady, true), node(api.NodeInitializing, false), node(api.NodeReady, false)}
	if got, want := nodesSummary(nodes), "5 nodes: 2 ready, 1 ineligible, 1 initializing, 1 down; reserved: CPU 2/8, memory 12/32 GiB"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Who has let instances onto a node or not, and why, stands with the node.
func TestWhoSaidThatANodeIsIneligible(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		since   time.Duration // 0: not known
		by, why string
		want    string
	}{
		{0, "", "", "ineligible"},
		{time.Hour, "", "", "ineligible, since 1h ago"},
		{time.Hour, "alice", "", "ineligible, since 1h ago, by alice"},
		{time.Hour, "alice", "new disks", "ineligible, since 1h ago, by alice: new disks"},
	} {
		n := &api.NodeView{Node: api.Node{Ineligible: true, EligibilityBy: c.by, EligibilityReason: c.why}}
		if c.since > 0 {
			n.EligibilityAt = now.Add(-c.since)
		}
		if got := eligibilityText(moments{now: now}, n); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// What becomes of a node's instances does not crowd out what became of the node.
func TestEventsOfANodeAreNotCrowdedOut(t *testing.T) {
	var events []*api.EventView
	for i := range 9 {
		events = append(events, &api.EventView{Topic: api.TopicAllocation, Text: fmt.Sprint("a", i)})
		if i < 2 {
			events = append(events, &api.EventView{Topic: api.TopicNode, Text: fmt.Sprint("n", i)})
		}
	}
	var got []string
	for _, e := range latestOfEach(events, 3) {
		got = append(got, e.Text)
	}
	if want := "n0 n1 a6 a7 a8"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
