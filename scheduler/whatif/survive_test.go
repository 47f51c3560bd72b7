package whatif

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// TestSurvive runs the stories of testdata/survive. nodes, run and down are those of TestSimulate; survive has no
// lines, and simulations=N.
func TestSurvive(t *testing.T) {
	datadriven.Walk(t, "testdata/survive", func(t *testing.T, path string) {
		c := newCluster(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			for line := range strings.Lines(d.Input) {
				switch words := strings.Fields(line); d.Cmd {
				case "nodes":
					c.node(words)
				case "run":
					c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job(words)}})
				case "down":
					c.do(&fsm.NodesDown{Nodes: words})
				}
			}
			c.settle()
			if d.Cmd != "survive" {
				return ""
			}
			simulations := 100
			d.MaybeScanArgs(t, "simulations", &simulations)
			s := Survive(c.machine.Snapshot(), simulations, c.options())
			return fmt.Sprintf("%s\n(%d of %d checked, %d fail)\n", s.Line(), s.Checked, s.Nodes, s.Failing)
		})
	})
}

// TestSurviveIsNeverWrong holds it against the simulation of each node by itself.
func TestSurviveIsNeverWrong(t *testing.T) {
	proven := 0
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		snapshot := c.machine.Snapshot()
		truth := api.Survival{Survives: api.SurvivesYes}
		worst := 0
		for n := range snapshot.Nodes() {
			s, err := Simulate(snapshot, []Step{{Down: n.ID}}, c.options())
			if err != nil {
				t.Fatal(err)
			}
			if !s.Fits() {
				truth.Survives = api.SurvivesNo
				truth.Failing++
				worst = max(worst, s.Missing)
			}
		}
		got := Survive(snapshot, 100, c.options())
		if got.Survives != truth.Survives || got.Failing != truth.Failing || got.Checked != got.Nodes {
			t.Fatalf("got %+v, simulated one by one it is %+v", got, truth)
		}
		if got.Failing > 0 && (got.Losses[0].Missing != worst || got.Losses[0].Instance == "" || got.Losses[0].Lacks == "") {
			t.Fatalf("the worst loss misses %d: %+v", worst, got.Losses)
		}
		few := Survive(snapshot, 0, c.options())
		if few.Survives == api.SurvivesNo || few.Survives == api.SurvivesYes && truth.Survives != api.SurvivesYes {
			t.Fatalf("without a simulation %+v, the truth is %+v", few, truth)
		}
		if few.Survives == api.SurvivesYes && few.Nodes > 0 {
			proven++
		}
	})
	if proven == 0 {
		t.Error("no draw was decided without simulating")
	}
}

// TestWhatIsSureComesTrue: in the middle of updates and of placing, too, what is not simulated would be simulated to fit.
func TestWhatIsSureComesTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job([]string{fmt.Sprintf("j%d", rapid.IntRange(0, 6).Draw(t, "job")),
				fmt.Sprintf("count=%d", rapid.IntRange(0, 6).Draw(t, "count")), "image=" + rapid.SampledFrom([]string{"hello:1", "hello:2"}).Draw(t, "image")})}})
			if rapid.Bool().Draw(t, "schedule") {
				c.schedule()
			}
		}
		base := newDraft(c.machine.Snapshot())
		census, room := newCensus(base, len(base.nodes)), scheduler.NewRoom(base)
		for node := range base.nodes {
			if !census.certain(room, node) {
				continue
			}
			if l := without(base.fork(), node, c.options()); l.Missing > 0 {
				t.Fatalf("sure of %s, but %+v", base.nodes[node].Name, l)
			}
		}
	})
}

// BenchmarkSurvive is what it costs in clusters with some air and in full ones.
func BenchmarkSurvive(b *testing.B) {
	for _, of := range []struct {
		name             string
		nodes, instances int
		full             bool
	}{{"500", 500, 20_000, false}, {"5000", 5000, 200_000, false}, {"500-full", 500, 20_000, true}, {"5000-full", 5000, 200_000, true}} {
		c := large(b, of.nodes, of.instances)
		if of.full { // what is left is nothing that would hold another instance
			c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job([]string{"filler", fmt.Sprintf("count=%d", of.nodes), "distinct", "memory=100", "cpu=3900"})}})
			s := c.machine.Snapshot()
			c.do(&fsm.CommitPlan{Plan: scheduler.Schedule(s, s.Runnable(1), scheduler.Options{})})
		}
		s := c.machine.Snapshot()
		b.Run(of.name, func(b *testing.B) {
			var out *api.Survival
			for b.Loop() {
				out = Survive(s, 200, scheduler.Options{})
			}
			b.Log(out.Line())
		})
	}
}
