package whatif

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

// TestSimulate runs the stories of testdata/simulate on the real state:
//
//	nodes   one a line, as cluster.node reads it
//	run     jobs, one a line, as cluster.job reads it: registered, placed, running
//	preempt        a type of job for which less important instances give way
//	down, drain    nodes that really go
//	sim     one supposition a line: node-down NODE, drain NODE, scale JOB COUNT, run JOB...
//
// Run with -rewrite to write down what happens now.
func TestSimulate(t *testing.T) {
	datadriven.Walk(t, "testdata/simulate", func(t *testing.T, path string) {
		c := newCluster(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var steps []Step
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				switch d.Cmd {
				case "nodes":
					c.node(words)
				case "run":
					c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job(words)}})
				case "down":
					c.do(&fsm.NodesDown{Nodes: words})
				case "preempt":
					c.preempt = append(c.preempt, api.JobType(words[0]))
				case "sim":
					steps = append(steps, c.step(words))
				default:
					d.Fatalf(t, "unknown command %q", d.Cmd)
				}
			}
			if d.Cmd != "sim" {
				c.settle()
				return ""
			}
			before := c.machine.Snapshot().Fingerprint()
			s, err := Simulate(c.machine.Snapshot(), steps, c.options())
			if before != c.machine.Snapshot().Fingerprint() {
				d.Fatalf(t, "the simulation changed the state")
			}
			if err != nil {
				return err.Error() + "\n"
			}
			return describe(s)
		})
	})
}

func (c *cluster) step(words []string) Step {
	switch words[0] {
	case "node-down":
		return Step{Down: words[1]}
	case "drain":
		return Step{Drain: words[1]}
	case "scale":
		count, _ := strconv.Atoi(words[2])
		return Step{Scale: &api.ScaleSupposition{Job: words[1], Count: count}}
	case "run":
		return Step{Run: []*api.Job{c.job(words[1:])}}
	}
	c.t.Fatalf("unknown supposition %q", words)
	return Step{}
}

func describe(s *api.Simulation) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Verdict())
	for _, j := range s.Jobs {
		for _, t := range j.Tasks {
			fmt.Fprintf(&b, "%s: moved %d, new %d, in place %d, replaced %d, stopped %d, missing %d, waiting %d; from %v to %v\n", j.Name, t.Moved, t.Placed,
				t.InPlace, t.Replaced, t.Stopped, t.Missing, t.Waiting, t.From, t.To)
			for _, way := range t.Ways {
				fmt.Fprintf(&b, "  %s\n", way)
			}
			if t.Explanation != nil {
				fmt.Fprintf(&b, "  %s\n", strings.Join(t.Explanation.Lines(), "\n  "))
			}
		}
	}
	for _, n := range s.Nodes {
		before, _ := n.Before.Fullest()
		after, what := n.After.Fullest()
		fmt.Fprintf(&b, "%s %s: %.0f %% -> %.0f %% of %s, %d leave, %d come\n", n.Name, n.Gone, before, after, what, n.Leave, n.Arrive)
	}
	fmt.Fprintf(&b, "in all %v of %v -> %v of %v\n", s.Before.Held.Memory, s.Before.Total.Memory, s.After.Held.Memory, s.After.Total.Memory)
	return b.String()
}

// TestWhatWaitsForAnotherTaskBeginsInTheEnd: that a task waits for another of its job does not mean that it has no place.
func TestWhatWaitsForAnotherTaskBeginsInTheEnd(t *testing.T) {
	c := newCluster(t)
	c.node([]string{"n1"})
	job := c.job([]string{"db"})
	web := *job.Tasks[0]
	web.Name, web.DependsOn = "web", []api.Dependency{{Task: "db", Condition: api.DependHealthy}}
	job.Tasks = append(job.Tasks, &web)
	job.Canonicalize()
	s, err := Simulate(c.machine.Snapshot(), []Step{{Run: []*api.Job{job}}}, c.options())
	if err != nil || s.Placed != 2 || !s.Fits() || len(job.Tasks[1].DependsOn) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	f := Plan(c.machine.Snapshot(), []*api.Job{job}, c.options())
	if got := f.Jobs[0].Tasks[1]; got.Place != 1 || got.Explanation != nil {
		t.Errorf("the plan: %+v", got)
	}
}

// TestSimulationsComeTrue: what is said of a node that goes down is what happens when it does, job by job and node by node.
func TestSimulationsComeTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		victim := fmt.Sprintf("n%d", rapid.IntRange(0, c.nodes()-1).Draw(t, "victim"))
		s, err := Simulate(c.machine.Snapshot(), []Step{{Down: victim}}, c.options())
		if err != nil {
			t.Fatal(err)
		}
		before := c.places()
		c.do(&fsm.NodesDown{Nodes: []string{victim}})
		c.settle()
		for job, want := range c.places() {
			got, moved, missing := maps.Clone(before[job]), 0, 0
			if got == nil {
				got = map[string]int{}
			}
			lost := got[victim]
			delete(got, victim)
			for _, j := range s.Jobs {
				if j.Name == job {
					moved, missing = j.Tasks[0].Moved, j.Tasks[0].Missing
					for _, to := range j.Tasks[0].To {
						got[to.Node] += to.Count
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s without %s (-happened +simulated):\n%s\n%s", job, victim, diff, describe(s))
			}
			if moved+missing != lost {
				t.Fatalf("%s lost %d; %d moved and %d are missing", job, lost, moved, missing)
			}
		}
	})
}

func (c *cluster) nodes() (n int) {
	for range c.machine.Snapshot().Nodes() {
		n++
	}
	return n
}

// drawCluster has some nodes and jobs, at rest.
func drawCluster(t *rapid.T) *cluster {
	c := newCluster(t)
	c.algorithm = rapid.SampledFrom([]string{api.AlgorithmBinpack, api.AlgorithmSpread, api.AlgorithmEPVM}).Draw(t, "algorithm")
	for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
		c.node([]string{fmt.Sprintf("n%d", i), "memory=" + rapid.SampledFrom([]string{"2048", "4096", "8192"}).Draw(t, "memory"),
			"gpus=" + rapid.SampledFrom([]string{"0", "0", "2"}).Draw(t, "gpus"), "class=" + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "class")})
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "jobs") {
		words := []string{fmt.Sprintf("j%d", i), fmt.Sprintf("count=%d", rapid.IntRange(0, 6).Draw(t, "count")),
			fmt.Sprintf("memory=%d", rapid.SampledFrom([]int{100, 500, 900, 1900}).Draw(t, "asks")),
			fmt.Sprintf("priority=%d", rapid.SampledFrom([]int{10, 50, 90}).Draw(t, "priority")),
			"type=" + rapid.SampledFrom([]string{"service", "service", "batch"}).Draw(t, "type")}
		if more := rapid.SampledFrom([]string{"", "", "", "distinct", "port=80", "class=a", "gpus=1"}).Draw(t, "more"); more != "" {
			words = append(words, more)
		}
		c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job(words)}})
		if rapid.Bool().Draw(t, "settle") {
			c.settle()
		}
	}
	c.settle()
	return c
}
