package client

import (
	"testing"

	"cube/api"
)

// BenchmarkDiff compares the assignments of a poll, 200 instances that are as they should be and one that is new, with what
// is known here.
func BenchmarkDiff(b *testing.B) {
	const instances = 200
	known := make(map[api.ID]*allocation, instances)
	var assigned []api.Assignment
	for id := api.ID(1); id <= instances; id++ {
		a := run(0)
		a.ID, a.Acked = id, 5
		known[id] = &a
		assigned = append(assigned, api.Assignment{ID: id, Job: "web", Task: "web", Version: 1, Phase: api.PhaseRunning, Seq: 5})
	}
	assigned = append(assigned, api.Assignment{ID: instances + 1, Job: "web", Task: "web", Version: 1})
	b.ReportAllocs()
	for b.Loop() {
		if got := diff(assigned, func(id api.ID) *allocation { return known[id] }); len(got) != 1 || got[0].Do != verbBegin {
			b.Fatalf("%v", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*instances), "ns/instance")
}
