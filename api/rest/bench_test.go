package rest

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
)

// BenchmarkEncodeAnswer encodes the allocations of a job of 1,000 instances as people read them.
func BenchmarkEncodeAnswer(b *testing.B) {
	const instances = 1000
	var all []*api.Allocation
	for i := range instances {
		all = append(all, &api.Allocation{
			ID: fmt.Sprintf("%016x", i*7919), Name: api.InstanceName("web", "web", uint32(i)), Job: "web", Task: "web", Slot: i, JobVersion: 1,
			NodeID: fmt.Sprintf("%032x", i*104729), NodeName: fmt.Sprintf("node-%d", i), NodeAddress: "10.1.2.3", Phase: api.PhaseRunning,
			Ports: []api.PortBinding{{Label: "http", Host: 20000 + i, To: 80}}, Resources: api.Resources{CPU: 100, Memory: 128},
			CreatedAt: time.Unix(1_700_000_000, 0).UTC(), ModifiedAt: time.Unix(1_700_000_001, 0).UTC(), StartedAt: time.Unix(1_700_000_001, 0).UTC(),
			CreateIndex: 10, ModifyIndex: 12,
		})
	}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		body, err := encodeJSON(all)
		if err != nil {
			b.Fatal(err)
		}
		size = len(body)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*instances), "ns/row")
	b.ReportMetric(float64(size)/instances, "B/row")
}
