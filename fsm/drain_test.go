package fsm

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cube/api"
)

// TestADrainGoesThroughItsStages: what the state makes of a drain as what is on the node goes, and of its deadline.
func TestADrainGoesThroughItsStages(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	c.register(testJob("log", api.JobSystem, 1))
	web, log := c.run("web", 2, "n1"), c.run("log", 1, "n1")
	drain := func() *api.Drain { return c.m.Snapshot().Node("n1").Drain }
	due := func(in time.Duration) bool {
		s := c.m.Snapshot()
		return s.DrainDue(s.Node("n1"), s.Now()+int64(in))
	}
	c.refused(api.CodeNotFound, &DrainNode{Node: "n9", Begin: &api.DrainRequest{}})
	c.refused(api.CodeInvalid, &DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: -time.Second}})
	c.refused(api.CodeConflict, &DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{}})

	c.ok(&DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Minute, Message: "kernel"}})
	equal(t, "the stage", drain().Stage, api.DrainMoving)
	equal(t, "instances", drain().Instances, 3)
	equal(t, "the node takes nothing new", c.m.Snapshot().Node("n1").Ready(), false)
	equal(t, "web is looked at", c.m.Snapshot().Open("web").Cause, api.CauseDrain)
	c.refused(api.CodeConflict, &SetEligibility{Node: "n1"})
	equal(t, "nothing is due", due(0), false)
	equal(t, "but the deadline will be", due(time.Minute), true)

	c.report(web[0], api.PhaseFailed)
	equal(t, "one is left that is no system job's", due(0), false)
	c.report(web[1], api.PhaseFailed)
	equal(t, "now the system jobs go", due(0), true)
	c.ok(&DrainNode{Node: "n1"})
	equal(t, "the stage", drain().Stage, api.DrainSystem)
	equal(t, "log is looked at", c.m.Snapshot().Open("log").Cause, api.CauseDrain)
	c.wait(time.Minute)
	c.ok(&DrainNode{Node: "n1"})
	equal(t, "the stage past the deadline", drain().Stage, api.DrainForced)
	c.report(log[0], api.PhaseComplete)
	c.ok(&DrainNode{Node: "n1"})
	equal(t, "the stage when all is gone", drain().Stage, api.DrainComplete)
	equal(t, "the node still takes nothing", c.m.Snapshot().Node("n1").Ready(), false)
	c.refused(api.CodeConflict, &DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{}})
	c.ok(&RegisterNode{Node: testNode("n1"), Ready: true})
	equal(t, "a node that comes back", drain().Stage, api.DrainComplete)
	c.ok(&SetEligibility{Node: "n1", Dated: true})
	equal(t, "the drain of a node in use", drain(), nil)

	c.ok(&DrainNode{Node: "n2", Begin: &api.DrainRequest{}})
	equal(t, "an empty node", c.m.Snapshot().Node("n2").Drain.Stage, api.DrainComplete)
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "silent"})
	c.refused(api.CodeConflict, &DrainNode{Node: "n1", Begin: &api.DrainRequest{}})
}

func TestADrainIsChangedAndCancelled(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	web := c.run("web", 2, "n1")
	node := func() *api.Node { return c.m.Snapshot().Node("n1") }
	c.ok(&DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Minute}})
	began := node().Drain.StartedAt
	c.report(web[0], api.PhaseFailed)
	c.wait(10 * time.Second)
	c.ok(&DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Hour, Message: "more time"}})
	d := node().Drain
	equal(t, "it began", d.StartedAt, began)
	equal(t, "of so many", d.Instances, 2)
	equal(t, "it has time", d.Deadline.Sub(began) > time.Hour, true)
	equal(t, "why", d.Message, "more time")
	c.ok(&DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{KeepIneligible: true}})
	equal(t, "cancelled, it still takes nothing", node().Drain == nil && node().Ineligible, true)
	c.ok(&DrainNode{Node: "n1", Begin: &api.DrainRequest{Force: true}})
	equal(t, "a drain that has no time", node().Drain.Stage, api.DrainForced)
	c.ok(&DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{}})
	equal(t, "cancelled, it takes something", node().Ready(), true)
}

// TestWhoMadeANodeEligibleIsKept: who said last whether a node takes something new, and why, stands with the node, over registrations
// and snapshots, and goes when somebody says the contrary. What a drain says counts as said.
func TestWhoMadeANodeEligibleIsKept(t *testing.T) {
	c, o := teller(t)
	c.ok(&RaiseRules{Version: rulesWord})
	c.nodes("n1", "n2")
	word := func() string {
		n := c.m.Snapshot().Node("n1")
		return n.Closed() + "|" + n.EligibilityBy + "|" + n.EligibilityReason
	}
	format := func() byte { return persisted(t, c.m.Snapshot())[len(snapshotMagic)] }
	before := format()
	c.as("bob", &SetEligibility{Node: "n1", Ineligible: true, Dated: true, Reason: "new disks"})
	equal(t, "said once", word(), "not eligible, by bob: new disks|bob|new disks")
	since := c.m.Snapshot().Node("n1").EligibilityAt
	equal(t, "the format", format() > before, true)
	c.as("eve", &SetEligibility{Node: "n1", Ineligible: true, Dated: true})
	equal(t, "said again without a reason", word(), "not eligible, by bob: new disks|bob|new disks")
	c.as("ada", &SetEligibility{Node: "n1", Ineligible: true, Dated: true, Reason: "it smokes"})
	equal(t, "said again with another", word(), "not eligible, by ada: it smokes|ada|it smokes")
	equal(t, "since when", c.m.Snapshot().Node("n1").EligibilityAt, since)
	c.as("node/n1", &RegisterNode{Node: testNode("n1"), Ready: true})
	equal(t, "after it registered", word(), "not eligible, by ada: it smokes|ada|it smokes")

	restored := New()
	if err := restored.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	equal(t, "a restored state", hex(restored.Snapshot()), hex(c.m.Snapshot()))

	c.as("ada", &SetEligibility{Node: "n1", Dated: true})
	equal(t, "eligible again", word(), "|ada|")
	c.register(testJob("web", api.JobService, 1))
	c.run("web", 1, "n1")
	c.as("bob", &DrainNode{Node: "n1", Begin: &api.DrainRequest{Message: "kernel update"}})
	equal(t, "drained", word(), "being drained, by bob: kernel update|bob|kernel update")
	c.as("eve", &DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{KeepIneligible: true}})
	equal(t, "kept ineligible", word(), "not eligible, by bob: kernel update|bob|kernel update")
	c.as("bob", &DrainNode{Node: "n1", Begin: &api.DrainRequest{}})
	c.as("eve", &DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{}})
	equal(t, "given back", word(), "|eve|its drain was cancelled")
	last := []string{}
	for _, line := range c.lines(o.events) {
		if strings.Contains(line, "eligible") {
			last = append(last, line)
		}
	}
	wants(t, "the events", last, `
		node host-n1 is ineligible by bob: new disks
		node host-n1 is ineligible by ada: it smokes
		node host-n1 is eligible by ada
		node host-n1 is ineligible by eve: its drain was cancelled
		node host-n1 is eligible by eve: its drain was cancelled`)

	old := newCluster(t)
	old.ok(&RaiseRules{Version: rulesWord - 1})
	old.nodes("n1")
	old.as("bob", &SetEligibility{Node: "n1", Ineligible: true, Dated: true, Reason: "new disks"})
	equal(t, "rules of before keep no word", old.m.Snapshot().Node("n1").Closed(), "not eligible")
}

// wordStory is what the stories lack: nodes that say who made them eligible or not, and why. It may not change.
func wordStory(t failer) *cluster {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: rulesWord})
	c.nodes("n1", "n2", "n3", "n4")
	c.as("bob@ops", &SetEligibility{Node: "n1", Ineligible: true, Dated: true, Reason: "new disks"})
	c.as("bob@ops", &SetEligibility{Node: "n2", Ineligible: true, Dated: true})
	c.as("ada@ops", &SetEligibility{Node: "n2", Dated: true, Reason: "it was the cable"})
	c.as("ada@ops", &DrainNode{Node: "n3", Begin: &api.DrainRequest{Message: "kernel update"}})
	c.as("leader/drain", &DrainNode{Node: "n3"})
	return c
}
