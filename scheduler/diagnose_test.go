package scheduler_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
	"cube/scheduler"
)

// TestADiagnosisIsWhatDecides: one more instance goes to a node that the diagnosis says has nothing against it, to the best
// of them; and to none if all have something against it.
func TestADiagnosisIsWhatDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &scheduler.World{}
		for n := range rapid.IntRange(1, 5).Draw(t, "nodes") {
			name := fmt.Sprintf("n%d", n)
			node := &api.Node{ID: name, Name: name, Datacenter: rapid.SampledFrom([]string{"dc1", "dc1", "dc2"}).Draw(t, "dc"), Status: api.NodeReady,
				Attributes: map[string]string{"rack": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "rack")},
				Resources:  api.Resources{CPU: 1000, Memory: rapid.Int64Range(100, 1000).Draw(t, "memory"), Disk: 100},
				Drivers:    map[string]api.DriverInfo{"docker": {Detected: true, Healthy: rapid.IntRange(0, 4).Draw(t, "healthy") > 0}},
				Ineligible: rapid.IntRange(0, 4).Draw(t, "eligible") == 0}
			w.PutNode(node)
		}
		task := api.DefaultTask("web")
		task.Resources.Memory = rapid.Int64Range(10, 400).Draw(t, "wanted")
		task.Ports = []api.Port{{Label: "x", Static: 80}}[:rapid.IntRange(0, 1).Draw(t, "port")]
		task.Constraints = []api.Constraint{{Operator: api.OpDistinctHosts}, {Attribute: "attr.rack", Operator: "=", Value: "a"}}[:rapid.IntRange(0, 2).Draw(t, "constraints")]
		task.Affinities = []api.Affinity{{Attribute: "attr.rack", Operator: "=", Value: "b", Weight: 50}}[:rapid.IntRange(0, 1).Draw(t, "affinities")]
		task.Spreads = []api.Spread{{Attribute: "attr.rack", Weight: 50}}[:rapid.IntRange(0, 1).Draw(t, "spreads")]
		job := &api.Job{Name: "web", Type: api.JobService, Datacenters: []string{"dc1"}, Version: 1, Tasks: []*api.Task{task},
			Scheduler: rapid.SampledFrom(api.Algorithms()).Draw(t, "algorithm")}
		w.PutJob(job)
		for range 8 {
			d := scheduler.Diagnose(w, job, "web", scheduler.Options{})
			best := -1
			for i, n := range d.Nodes {
				if (n.Score == nil) != (len(n.Failures) > 0) || (n.Remedy() == "") != (n.Score != nil) {
					t.Fatalf("half a diagnosis: %+v", n)
				}
				if n.Score != nil && (best < 0 || n.Score.Total > d.Nodes[best].Score.Total) {
					best = i
				}
			}
			if (d.Nearest < 0) != (best >= 0) {
				t.Fatalf("nearest %d, best %d", d.Nearest, best)
			}
			more := *job
			grown := *task
			more.Tasks = []*api.Task{&grown}
			rows := 0
			for row := range w.JobRows("web") {
				if row.Live() {
					rows++
				}
			}
			task.Count = rows + 1
			job.Tasks[0].Count = rows + 1
			d = scheduler.Diagnose(w, job, "web", scheduler.Options{})
			plan := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{})
			placed := plan.Jobs[0].Placements
			if (len(placed) == 1) != (best >= 0) {
				t.Fatalf("placed %d, although the diagnosis is %+v", len(placed), d.Nodes)
			}
			if len(placed) == 0 {
				return
			}
			var chosen, top *api.NodeDiagnosis
			for i := range d.Nodes {
				n := &d.Nodes[i]
				if n.ID == placed[0].Node {
					chosen = n
				}
				if n.Score != nil && (top == nil || n.Score.Total > top.Score.Total) {
					top = n
				}
			}
			if chosen.Score == nil || chosen.Score.Total < top.Score.Total-1e-9 {
				t.Fatalf("placed on %+v, the best is %+v", chosen, top)
			}
			w.Apply(plan)
		}
	})
}

func TestADiagnosisListsEverythingThatSpeaksAgainstANode(t *testing.T) {
	w := &scheduler.World{}
	w.PutNode(&api.Node{ID: "n1", Name: "n1", Datacenter: "dc2", Status: api.NodeDown, Resources: api.Resources{CPU: 50, Memory: 100, Disk: 10}})
	w.PutNode(&api.Node{ID: "n2", Name: "n2", Datacenter: "dc1", Status: api.NodeReady, Resources: api.Resources{CPU: 500, Memory: 100, Disk: 10},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	task := api.DefaultTask("web")
	task.Constraints = []api.Constraint{{Attribute: "attr.class", Operator: "=", Value: "edge"}}
	task.Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: api.WholeDevice}}
	job := &api.Job{Name: "web", Type: api.JobService, Datacenters: []string{"dc1"}, Version: 1, Tasks: []*api.Task{task}}
	w.PutJob(job)
	d := scheduler.Diagnose(w, job, "web", scheduler.Options{})
	var got []string
	for _, f := range d.Nodes[0].Failures {
		got = append(got, f.Filter)
	}
	if want := "[ready datacenter driver docker constraint attr.class = edge device gpu cpu memory]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if d.Nearest != 1 {
		t.Errorf("nearest is %d", d.Nearest)
	}
	if got, want := d.Nodes[1].Remedy(), "would take it with 28 MiB less memory, without the constraint attr.class = edge and its gpu"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := d.Nodes[0].Remedy(), "would take it with 0.05 less CPU and 28 MiB less memory, without the constraint attr.class = edge and its gpu, if it were ready and datacenter dc2 were allowed and its docker driver worked"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
