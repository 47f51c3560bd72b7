package scheduler_test

import (
	"fmt"
	"testing"

	"cube/api"
	"cube/scheduler"
)

// BenchmarkSchedule places jobs of 1,000 instances on 5,000 nodes, the view of the nodes included. ns/placement is the
// figure to watch.
func BenchmarkSchedule(b *testing.B) {
	kinds := []struct {
		name string
		edit func(*api.Job)
	}{
		{"binpack", func(*api.Job) {}},
		{"spread", func(j *api.Job) { j.Scheduler = api.AlgorithmSpread }},
		{"epvm", func(j *api.Job) { j.Scheduler = api.AlgorithmEPVM }},
		{"greedy", func(j *api.Job) { j.Scheduler = api.AlgorithmGreedy }},
		{"roundrobin", func(j *api.Job) { j.Scheduler = api.AlgorithmRoundRobin }},
		{"ports", func(j *api.Job) { j.Tasks[0].Ports = []api.Port{{Label: "a"}, {Label: "b", To: 80}} }},
		{"constraints", func(j *api.Job) {
			j.Tasks[0].Constraints = []api.Constraint{{Attribute: "attr.kernel.version", Operator: "version", Value: ">= 5.10"},
				{Attribute: "meta.rack", Operator: "regexp", Value: "^r[0-7]"}}
		}},
		{"spread-rack", func(j *api.Job) { j.Tasks[0].Spreads = []api.Spread{{Attribute: "meta.rack", Weight: 50}} }},
		{"spread-name", func(j *api.Job) { j.Tasks[0].Spreads = []api.Spread{{Attribute: "node.name", Weight: 50}} }},
	}
	for _, k := range kinds {
		for _, size := range []struct{ jobs, count int }{{1, 1000}, {10, 1000}} {
			b.Run(fmt.Sprintf("%s/%dx%d", k.name, size.jobs, size.count), func(b *testing.B) {
				benchmark(b, size.jobs, size.count, k.edit)
			})
		}
	}
	b.Run("small-jobs/1000x1", func(b *testing.B) { benchmark(b, 1000, 1, func(*api.Job) {}) })
	b.Run("no-room/100x1", func(b *testing.B) {
		benchmark(b, 100, 1, func(j *api.Job) { j.Tasks[0].Resources.Memory = 1 << 20 })
	})
	for _, k := range []struct {
		name        string
		jobs, count int
		request     api.DeviceRequest
	}{
		{"gpu-nodes/no-gpu", 1000, 1, api.DeviceRequest{}},
		{"gpu-nodes/share", 1, 1000, api.DeviceRequest{Type: "gpu", Count: 1, Share: 250}},
		{"gpu-nodes/share", 1000, 1, api.DeviceRequest{Type: "gpu", Count: 1, Share: 250}},
		{"gpu-nodes/whole", 1000, 1, api.DeviceRequest{Type: "gpu", Count: 2, Share: api.WholeDevice}},
		{"gpu-nodes/model", 1000, 1, api.DeviceRequest{Type: "gpu", Count: 1, Share: api.WholeDevice,
			Constraints: []api.Constraint{{Attribute: "device.model", Operator: "regexp", Value: "^A"}}}},
	} {
		b.Run(fmt.Sprintf("%s/%dx%d", k.name, k.jobs, k.count), func(b *testing.B) {
			benchmark(b, k.jobs, k.count, func(j *api.Job) {
				if k.request.Type != "" {
					j.Tasks[0].Devices = []api.DeviceRequest{k.request}
				}
			}, giveDevices)
		})
	}
}

// giveDevices gives every node 8 GPUs of one of three models.
func giveDevices(i int, n *api.Node) {
	g := api.DeviceGroup{Type: "gpu", Model: []string{"A100", "T4", "V100"}[i%3], Attributes: map[string]string{"memory": "40960", "driver_version": "550.54"}}
	for d := range 8 {
		g.IDs = append(g.IDs, fmt.Sprintf("GPU-%08x-%d", i, d))
	}
	n.Devices = []api.DeviceGroup{g}
}

// BenchmarkChurn is the leader of a large cluster whose load is small jobs: plan after plan for a few of them, each of one
// instance with two constraints, and each plan is applied before the next. cold works everything out anew for every plan.
func BenchmarkChurn(b *testing.B) {
	kinds := []struct {
		name string
		edit func(*api.Job)
		node []func(int, *api.Node)
	}{
		{"binpack", func(*api.Job) {}, nil},
		{"epvm", func(j *api.Job) { j.Scheduler = api.AlgorithmEPVM }, nil},
		{"gpu-share", func(j *api.Job) {
			j.Tasks[0].Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: 250}}
		}, []func(int, *api.Node){giveDevices}},
	}
	for _, k := range kinds {
		for _, batch := range []int{1, 10} {
			for _, memory := range []*scheduler.Memory{nil, {}} {
				name := "warm"
				if memory == nil {
					name = "cold"
				}
				b.Run(fmt.Sprintf("%s/%d/%s", k.name, batch, name), func(b *testing.B) { churn(b, batch, memory, k.edit, k.node...) })
			}
		}
	}
}

func churn(b *testing.B, batch int, memory *scheduler.Memory, edit func(*api.Job), nodes ...func(int, *api.Node)) {
	const jobs = 1000
	constrained := func(j *api.Job) {
		j.Tasks[0].Constraints = []api.Constraint{{Attribute: "attr.kernel.version", Operator: "version", Value: ">= 5.10"},
			{Attribute: "meta.rack", Operator: "regexp", Value: "^r[0-7]"}}
		edit(j)
	}
	w, evals := benchWorld(jobs, 1, constrained, nodes...)
	b.ReportAllocs()
	placed := 0
	for b.Loop() {
		var some []*api.Evaluation
		for range batch {
			e := evals[placed%jobs]
			for row := range w.Allocations(e.Job) { // the last time round
				if row.Live() {
					w.Report(row.ID, api.PhaseLost, api.FailureNone)
				}
			}
			some = append(some, e)
			placed++
		}
		p := scheduler.Schedule(w, some, scheduler.Options{Memory: memory})
		if len(p.Jobs) != batch || len(p.Jobs[0].Placements) != 1 {
			b.Fatalf("%d of %d jobs, the first %s: %s", len(p.Jobs), batch, p.Jobs[0].Status, p.Jobs[0].Message)
		}
		w.Apply(p)
		if placed%jobs == 0 {
			b.StopTimer()
			w, evals = benchWorld(jobs, 1, constrained, nodes...)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(placed), "ns/placement")
}

func benchmark(b *testing.B, jobs, count int, edit func(*api.Job), nodes ...func(int, *api.Node)) {
	w, evals := benchWorld(jobs, count, edit, nodes...)
	b.ReportAllocs()
	for b.Loop() {
		p := scheduler.Schedule(w, evals, scheduler.Options{})
		if len(p.Jobs) != jobs || p.Jobs[0].Status == api.EvalFailed {
			b.Fatalf("%d of %d jobs, the first %s: %s", len(p.Jobs), jobs, p.Jobs[0].Status, p.Jobs[0].Message)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*jobs*count), "ns/placement")
}

func benchWorld(jobs, count int, edit func(*api.Job), nodes ...func(int, *api.Node)) (*scheduler.World, []*api.Evaluation) {
	w := &scheduler.World{}
	for i := range 5000 {
		n := &api.Node{ID: fmt.Sprintf("%032x", i*7919), Name: fmt.Sprintf("node-%d", i), Datacenter: "dc1", Status: api.NodeReady,
			Attributes: map[string]string{"kernel.version": fmt.Sprintf("6.1.%d", i%7)}, Meta: map[string]string{"rack": fmt.Sprintf("r%d", i%40)},
			Resources: api.Resources{CPU: 16000 + int64(i%3)*8000, Memory: 65536, Disk: 1 << 20},
			Drivers:   map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
		for _, edit := range nodes {
			edit(i, n)
		}
		w.PutNode(n)
	}
	var evals []*api.Evaluation
	for i := range jobs {
		t := api.DefaultTask("web")
		t.Count = count
		j := &api.Job{Name: fmt.Sprintf("web%d", i), Type: api.JobService, Datacenters: []string{"dc1"}, Version: 1, Tasks: []*api.Task{t}}
		edit(j)
		w.PutJob(j)
		evals = append(evals, &api.Evaluation{ID: api.ID(i + 1), Job: j.Name, Priority: 50})
	}
	return w, evals
}

// BenchmarkRebalance is the search for moves where jobs of a hundred instances each fill half of 5,000 nodes.
func BenchmarkRebalance(b *testing.B) {
	for _, a := range []string{api.AlgorithmBinpack, api.AlgorithmSpread} {
		b.Run(a, func(b *testing.B) {
			w := &scheduler.World{}
			for i := range 5000 {
				w.PutNode(&api.Node{ID: fmt.Sprintf("n%04d", i), Status: api.NodeReady, Resources: api.Resources{CPU: 8000, Memory: 65536, Disk: 1 << 20},
					Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
			}
			for i := range 1000 {
				t := api.DefaultTask("web")
				t.Count, t.Resources = 100, api.Resources{CPU: int64(100 + i%7*20), Memory: int64(512 + i%5*128)}
				j := &api.Job{Name: fmt.Sprintf("job%04d", i), Type: api.JobService, Version: 1, ModifyIndex: 1, Tasks: []*api.Task{t}}
				w.PutJob(j)
				for slot := range t.Count {
					w.PutAllocation(api.AllocationRow{Job: j.Name, Task: t.Name, Slot: uint32(slot), Version: 1, Node: fmt.Sprintf("n%04d", (i*37+slot*13)%2500),
						Desired: api.DesiredRun, Phase: api.PhaseRunning, Health: api.HealthHealthy, Held: t.Resources}, nil)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if out := scheduler.Rebalance(w, 10, 5, scheduler.Options{Algorithm: a}); out.Looked != 100_000 {
					b.Fatalf("%+v", out)
				}
			}
		})
	}
}
