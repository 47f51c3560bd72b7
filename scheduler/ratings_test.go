package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// TestRatingsServeManyJobs has jobs of few shapes placed one after the other, in batches that remember each other, and
// compares every choice with scoring every node anew for that job.
func TestRatingsServeManyJobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &World{}
		nodes := rapid.IntRange(1, 12).Draw(t, "nodes")
		if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
			nodes = 64 + rapid.IntRange(0, 70).Draw(t, "more") // whole words of a bitmap
		}
		devices := rapid.Bool().Draw(t, "devices")
		for i := range nodes {
			n := drawNode(t, i)
			if !devices {
				n.Devices = nil
			}
			n.Ineligible = rapid.Bool().Draw(t, "ineligible")
			w.PutNode(n)
		}
		useSome(t, w)
		shapes := drawShapes(t, devices)
		algorithm := rapid.SampledFrom(api.Algorithms()).Draw(t, "algorithm")
		loads := int64(0)
		o := Options{Load: func(id string) (api.NodeLoad, bool) {
			return api.NodeLoad{CPU: int64(hashString(id)) % (3000 + loads), CPUTotal: 4000}, hashString(id)%3 > 0
		}}
		var memory Memory
		for range rapid.IntRange(2, 5).Draw(t, "batches") {
			loads++
			fast, slow := memory.take(w, o), newView(w, o)
			for i := range rapid.IntRange(1, 6).Draw(t, "jobs") {
				task := rapid.SampledFrom(shapes).Draw(t, "shape")
				job := &api.Job{Name: fmt.Sprint("job", i), Type: api.JobService, Tasks: []*api.Task{task}, Scheduler: algorithm}
				sameChoices(t, job, o, drawRows(t, task, nodes), fast, slow)
			}
			memory.keep(fast)
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				w.PutNode(drawChanged(t, w))
			}
		}
	})
}

func drawShapes(t *rapid.T, devices bool) (shapes []*api.Task) {
	for range 2 {
		task := api.DefaultTask("web")
		task.Resources = api.Resources{CPU: rapid.SampledFrom([]int64{0, 100, 400}).Draw(t, "cpu"), Memory: 200}
		if rapid.Bool().Draw(t, "affinity") {
			task.Affinities = []api.Affinity{{Attribute: "meta.class", Operator: "=", Value: "b", Weight: rapid.SampledFrom([]int{-50, 50}).Draw(t, "wish")}}
		}
		if rapid.Bool().Draw(t, "constraint") {
			task.Constraints = []api.Constraint{{Attribute: "meta.rack", Operator: "!=", Value: "a"}}
		}
		if rapid.Bool().Draw(t, "distinct") {
			task.Constraints = append(task.Constraints, api.Constraint{Operator: api.OpDistinctHosts})
		}
		if devices && rapid.Bool().Draw(t, "with devices") {
			task.Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: rapid.SampledFrom([]int{400, 1000}).Draw(t, "share")}}
		}
		shapes = append(shapes, task)
	}
	if first := shapes[0]; len(first.Affinities) > 0 && rapid.Bool().Draw(t, "twins") {
		twin := *first // they differ in nothing but how much they wish it
		twin.Affinities = slices.Clone(first.Affinities)
		twin.Affinities[0].Weight = -twin.Affinities[0].Weight
		shapes[1] = &twin
	}
	return shapes
}

// drawRows has instances of the job on some of the nodes.
func drawRows(t *rapid.T, task *api.Task, nodes int) (rows []api.AllocationRow) {
	for i := range rapid.IntRange(0, 3).Draw(t, "rows") {
		rows = append(rows, api.AllocationRow{ID: api.ID(i + 1), Task: rapid.SampledFrom([]string{task.Name, "other"}).Draw(t, "of"),
			NodeOrdinal: rapid.IntRange(-1, nodes-1).Draw(t, "on"), Phase: api.PhaseRunning,
			Desired: rapid.SampledFrom([]api.Desired{api.DesiredRun, api.DesiredStop}).Draw(t, "desired")})
	}
	return rows
}

// drawChanged is a node with one thing changed, or as it was.
func drawChanged(t *rapid.T, w *World) *api.Node {
	n := *rapid.SampledFrom(w.nodes).Draw(t, "changed")
	switch rapid.IntRange(0, 3).Draw(t, "change") {
	case 0:
		n.Meta = map[string]string{"rack": "b", "class": "b"}
	case 1:
		n.Ineligible = !n.Ineligible
	case 2: // what is left stays the same, the part in use does not
		n.Resources.CPU += 500
		w.PutAllocation(api.AllocationRow{Job: "old", Task: "old", Node: n.ID, Held: api.Resources{CPU: 500}}, nil)
	}
	return &n
}

// sameChoices places a few instances on two views of one state, and checks that they go to the same nodes.
func sameChoices(t *rapid.T, job *api.Job, o Options, rows []api.AllocationRow, fast, slow *view) {
	ranked := func(v *view) (*change, *request) {
		c := &change{batch: &batch{state: v.state, options: o, view: v}, job: job, rows: rows}
		r := newRequest(v, job, job.Tasks[0])
		r.count(rows, nil)
		return c, r
	}
	c, r := ranked(fast)
	quick := c.rank(r)
	c, r = ranked(slow)
	scan := newRanking(r, c.algorithm(r), rows)
	for step := range rapid.IntRange(1, 3).Draw(t, "instances") {
		node, _, ok := quick.next()
		want, wantOK := scan.nextByScan(nil)
		if ok != wantOK || ok && node != want {
			t.Fatalf("%s, instance %d: the ratings say node %d (%v), a scan says node %d (%v)", job.Name, step, node, ok, want, wantOK)
		}
	}
}

// TestMemoryIsBounded: conditions that nobody asks for any more are forgotten, and so are the values that nodes had once.
func TestMemoryIsBounded(t *testing.T) {
	w := &World{}
	for i := range 3 {
		w.PutNode(&api.Node{ID: fmt.Sprint("n", i), Status: api.NodeReady, Resources: api.Resources{CPU: 1 << 40, Memory: 1 << 40, Disk: 1 << 40},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	}
	var memory Memory
	task := api.DefaultTask("web")
	w.PutJob(&api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{task}})
	for i := range 3000 {
		n := *w.nodes[i%3]
		n.Meta = map[string]string{fmt.Sprint("k", i): "v", "k": fmt.Sprint(i)}
		w.PutNode(&n)
		task.Count = i%2 + 1
		task.Resources.CPU = int64(i)
		task.Constraints = []api.Constraint{{Attribute: fmt.Sprint("meta.k", i), Operator: "=", Value: "v"}, {Attribute: "meta.k", Operator: "=", Value: fmt.Sprint(i)}}
		p := Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, Options{Memory: &memory})
		if len(p.Jobs) != 1 || p.Jobs[0].Status == api.EvalFailed {
			t.Fatalf("plan %d: %+v", i, p)
		}
		w.Apply(p)
		v := memory.view
		if v == nil {
			t.Fatal("nothing was kept")
		}
		values := 0
		v.columns.each(func(c *column) { values = max(values, len(c.values)) })
		for what, n := range map[string][2]int{"conditions": {len(v.conditions.front) + len(v.conditions.old), 2 * maxConditions},
			"columns": {len(v.columns.front) + len(v.columns.old), 2 * maxColumns}, "ratings": {len(v.ratings.front) + len(v.ratings.old), 2 * maxRatings},
			"changes": {len(v.changes), 4*len(v.nodes) + 2}, "values": {values, 5*len(v.nodes) + 101}} {
			if n[0] > n[1] {
				t.Fatalf("after %d plans it holds %d %s", i+1, n[0], what)
			}
		}
		if v.state != nil || v.loadOf != nil {
			t.Fatal("it holds on to a state")
		}
	}
}
