package fsm

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"cube/api"
)

// The size that the benchmarks work at: nodes, allocations, and placements in one entry.
const (
	benchNodes       = 5000
	benchAllocations = 200_000
	benchBatch       = 1000
)

// bench is a state that fills up with jobs of a thousand instances.
type bench struct {
	m     *Machine
	index uint64
	jobs  int
}

func newBench() *bench {
	b := &bench{m: New()}
	b.m.Observe(&ring{events: make([]api.Event, 0, 32<<10)})
	b.apply(&InitCluster{ClusterID: "bench"})
	b.apply(&RaiseRules{Version: RulesVersion})
	for i := range benchNodes {
		n := testNode(benchNode(i))
		n.Resources = api.Resources{CPU: 1 << 40, Memory: 1 << 40, Disk: 1 << 40}
		b.apply(&RegisterNode{Node: n, Ready: true})
	}
	return b
}

// ring keeps the latest events, as a server does.
type ring struct {
	events []api.Event
	next   int
}

func (r *ring) Applied(_ uint64, events []api.Event) {
	for _, e := range events {
		if len(r.events) < cap(r.events) {
			r.events = append(r.events, e)
			continue
		}
		r.events[r.next] = e
		r.next = (r.next + 1) % len(r.events)
	}
}

func (r *ring) Restored(uint64) {}

func benchNode(i int) string { return fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15) }

func (b *bench) apply(body Body) Result {
	b.index++
	return b.m.Apply(b.index, &Command{At: int64(b.index), Body: body})
}

// entry registers one more job and returns the encoded plan that places it, one port an instance.
func (b *bench) entry(tb testing.TB) []byte {
	b.jobs++
	name := fmt.Sprintf("job-%d", b.jobs)
	r := b.apply(&RegisterJobs{Jobs: []*api.Job{testJob(name, api.JobService, benchBatch)}})
	s := b.m.Snapshot()
	jp := api.JobPlan{Job: name, JobModifyIndex: s.Job(name).ModifyIndex, Evaluation: r.Registered[0].Evaluation, Status: api.EvalComplete}
	for slot := range benchBatch {
		node := (b.jobs*benchBatch + slot*7) % benchNodes
		port := api.MinDynamicPort + (b.jobs*benchBatch+slot)/benchNodes%12000
		jp.Placements = append(jp.Placements, api.Placement{Task: name, Slot: uint32(slot), Version: 1, Node: benchNode(node), Held: oneSize,
			Ports: []api.PortBinding{{Label: "http", Host: port, To: 80}}})
	}
	return encoded(tb, &Command{Body: &CommitPlan{Plan: &api.Plan{BaseIndex: s.Index(), Jobs: []api.JobPlan{jp}}}})
}

func (b *bench) commit(tb testing.TB, raw []byte) {
	c, err := Decode(raw)
	if err != nil {
		tb.Fatal(err)
	}
	b.index++
	if r := b.m.Apply(b.index, c); r.Err != nil || r.Accepted != benchBatch {
		tb.Fatalf("%d accepted: %v %v", r.Accepted, r.Err, r.Rejections[:min(1, len(r.Rejections))])
	}
}

func filled(tb testing.TB) *bench {
	b := newBench()
	for range benchAllocations / benchBatch {
		b.commit(tb, b.entry(tb))
	}
	return b
}

func perRow(b *testing.B, what string, rows int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/"+what)
}

// BenchmarkCommitPlan decodes and applies entries of 1,000 placements while the state grows to 200,000 allocations. A
// reader takes a snapshot between any two entries, so that copying what the writer changes is part of it.
func BenchmarkCommitPlan(b *testing.B) {
	st := newBench()
	for range b.N {
		b.StopTimer()
		if st.jobs == benchAllocations/benchBatch {
			st = newBench()
		}
		raw := st.entry(b)
		b.StartTimer()
		st.commit(b, raw)
	}
	perRow(b, "placement", benchBatch)
}

// BenchmarkEncodePlan is what the leader pays for an entry of 1,000 placements.
func BenchmarkEncodePlan(b *testing.B) {
	raw := newBench().entry(b)
	c, err := Decode(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(raw))/benchBatch, "B/placement")
	for b.Loop() {
		encoded(b, c)
	}
	b.ReportMetric(float64(len(raw))/benchBatch, "B/placement")
}

// BenchmarkUpdateStatuses applies entries of 1,000 statuses from 1,000 nodes on 200,000 allocations.
func BenchmarkUpdateStatuses(b *testing.B) {
	st := filled(b)
	var rows []api.AllocationRow
	for row := range st.m.Snapshot().Rows() {
		rows = append(rows, row)
	}
	next, seq := 0, uint64(0)
	for b.Loop() {
		b.StopTimer()
		st.m.Snapshot()
		var reports []NodeReport
		for range benchBatch {
			if next%len(rows) == 0 {
				seq++
			}
			row := rows[next%len(rows)]
			next++
			reports = append(reports, NodeReport{Node: row.Node, Statuses: []api.AllocationStatus{{ID: row.ID, Seq: seq, Phase: api.PhaseRunning, StartedAt: 1_700_000_000_000}}})
		}
		raw := encoded(b, &Command{Body: &UpdateStatuses{Reports: reports}})
		b.StartTimer()
		c, err := Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		st.index++
		st.m.Apply(st.index, c)
	}
	perRow(b, "status", benchBatch)
}

// BenchmarkMemory reports what an allocation with one port costs in memory, and a garbage collection over all of them.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		st := filled(b)
		b.ReportMetric(float64(heap()-before)/benchAllocations, "B/allocation")
		b.ReportMetric(float64(len(persisted(b, st.m.Snapshot())))/benchAllocations, "file-B/allocation")
		runtime.KeepAlive(st)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkPersist(b *testing.B) {
	s := filled(b).m.Snapshot()
	for b.Loop() {
		if err := s.Persist(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, "allocation", benchAllocations)
}

func BenchmarkRestore(b *testing.B) {
	raw := persisted(b, filled(b).m.Snapshot())
	for b.Loop() {
		if err := New().Restore(bytes.NewReader(raw)); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, "allocation", benchAllocations)
}

// BenchmarkReads are the reads of loops: taking a snapshot after a write, the scheduler's walks, a node's poll.
func BenchmarkReads(b *testing.B) {
	st := filled(b)
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			st.apply(&Reap{})
			st.m.Snapshot()
		}
	})
	s := st.m.Snapshot()
	b.Run("nodes", func(b *testing.B) {
		for b.Loop() {
			for range s.Nodes() {
			}
		}
		perRow(b, "node", benchNodes)
	})
	b.Run("job", func(b *testing.B) {
		for b.Loop() {
			for range s.JobRows("job-7") {
			}
		}
		perRow(b, "row", benchBatch)
	})
	b.Run("poll", func(b *testing.B) {
		for b.Loop() {
			for range s.NodeRows(benchNode(7), s.Index()-1) {
			}
		}
	})
	b.Run("runnable", func(b *testing.B) {
		for b.Loop() {
			s.Runnable(100)
		}
	})
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			s.FindAllocations("beef")
		}
	})
	b.Run("garbage", func(b *testing.B) {
		for b.Loop() {
			s.Garbage(1000)
		}
	})
}
