package whatif

import (
	"fmt"
	"testing"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// large is a cluster at rest: jobs of a hundred instances each, over all nodes.
func large(b *testing.B, nodes, instances int) *cluster {
	b.Helper()
	c := newCluster(b)
	for i := range nodes {
		c.node([]string{fmt.Sprintf("n%04d", i), "cpu=8", "memory=65536"})
	}
	each := 100
	for i := range instances / each {
		c.do(&fsm.RegisterJobs{Jobs: []*api.Job{c.job([]string{fmt.Sprintf("job%04d", i), fmt.Sprintf("count=%d", each), "memory=" + fmt.Sprint(512+i%7*128)})}})
	}
	for {
		s := c.machine.Snapshot()
		runnable := s.Runnable(100)
		if len(runnable) == 0 {
			return c
		}
		c.do(&fsm.CommitPlan{Plan: scheduler.Schedule(s, runnable, scheduler.Options{Algorithm: api.AlgorithmSpread})})
	}
}

// BenchmarkSimulate is what a simulation costs where 5,000 nodes run 200,000 instances.
func BenchmarkSimulate(b *testing.B) {
	c := large(b, 5000, 200_000)
	s := c.machine.Snapshot()
	for _, of := range []struct {
		name  string
		steps []Step
	}{
		{"node-down", []Step{{Down: "n2500"}}},
		{"drain", []Step{{Drain: "n2500"}}},
		{"scale", []Step{{Scale: &api.ScaleSupposition{Job: "job0007", Count: 200}}}},
		{"run", []Step{{Run: []*api.Job{c.job([]string{"fresh", "count=1000"})}}}},
	} {
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if out, err := Simulate(s, of.steps, scheduler.Options{}); err != nil || !out.Fits() || out.Empty() {
					b.Fatalf("%+v %v", out, err)
				}
			}
		})
	}
}
