package fsm

import (
	"reflect"
	"testing"

	"cube/api"
)

// The scheduler knows by a node's pointer whether anything about it has changed since its last plan.
func TestNodesAreReplacedWhenTheyChangeAndOnlyThen(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 4))
	both := func() (pointers map[string]*api.Node, copies map[string]api.Node) {
		pointers, copies = map[string]*api.Node{}, map[string]api.Node{}
		for n := range c.m.Snapshot().Nodes() {
			pointers[n.ID], copies[n.ID] = n, *n
		}
		return pointers, copies
	}
	again := testNode("n1")
	again.Incarnation = 2
	for _, step := range []struct {
		what    string
		changes bool
		do      func()
	}{
		{"instances are placed", false, func() { c.run("web", 4, "n1", "n2") }},
		{"an instance runs", false, func() { c.report(c.live("web")[0], api.PhaseRunning) }},
		{"made ineligible", true, func() { c.ok(&SetEligibility{Node: "n1", Ineligible: true}) }},
		{"made ineligible again", false, func() { c.ok(&SetEligibility{Node: "n1", Ineligible: true}) }},
		{"down", true, func() { c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "gone"}) }},
		{"registers", true, func() { c.ok(&RegisterNode{Node: again}) }},
		{"ready", true, func() { c.ok(&NodeReady{Node: "n1", Incarnation: 2}) }},
		{"ready again", false, func() { c.ok(&NodeReady{Node: "n1", Incarnation: 2}) }},
	} {
		before, copies := both()
		step.do()
		after, _ := both()
		if changed := before["n1"] != after["n1"]; changed != step.changes || before["n2"] != after["n2"] {
			t.Errorf("%s: n1 is another node: %v, want %v; n2 is: %v", step.what, changed, step.changes, before["n2"] != after["n2"])
		}
		for id, n := range before {
			if !reflect.DeepEqual(*n, copies[id]) {
				t.Errorf("%s: %s was changed in place", step.what, id)
			}
		}
	}
}
