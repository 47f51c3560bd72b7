package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// TestRankingIsExact compares the heaps with what they stand for: scoring every node anew before each placement.
func TestRankingIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &World{}
		for i := range rapid.IntRange(1, 12).Draw(t, "nodes") {
			w.PutNode(drawNode(t, i))
		}
		useSome(t, w)
		task := api.DefaultTask("web")
		task.Count = rapid.IntRange(1, 30).Draw(t, "count")
		task.Resources = api.Resources{CPU: rapid.Int64Range(0, 900).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 900).Draw(t, "memory")}
		for _, attribute := range []string{"node.name", "meta.rack", "meta.class"} {
			if rapid.Bool().Draw(t, "spread "+attribute) {
				task.Spreads = append(task.Spreads, api.Spread{Attribute: attribute, Weight: rapid.IntRange(1, 100).Draw(t, "weight"),
					Targets: []api.SpreadTarget{{Value: "a", Percent: rapid.IntRange(0, 100).Draw(t, "percent")}}})
			}
		}
		if rapid.Bool().Draw(t, "affinity") {
			task.Affinities = []api.Affinity{{Attribute: "meta.class", Operator: "=", Value: "b", Weight: rapid.IntRange(-100, 100).Draw(t, "wish")}}
		}
		if rapid.Bool().Draw(t, "distinct") {
			task.Constraints = []api.Constraint{{Operator: api.OpDistinctHosts}}
		}
		if share := rapid.SampledFrom([]int{0, 300, 1000}).Draw(t, "share"); share > 0 {
			task.Devices = []api.DeviceRequest{{Type: "gpu", Count: 1 + rapid.IntRange(0, share/1000).Draw(t, "devices"), Share: share}}
		}
		if rapid.Bool().Draw(t, "device") {
			task.Devices = []api.DeviceRequest{{Type: "gpu", Count: rapid.IntRange(1, 2).Draw(t, "devices wanted"), Share: api.WholeDevice}}
			if task.Devices[0].Count == 1 {
				task.Devices[0].Share = rapid.IntRange(1, api.WholeDevice).Draw(t, "share")
			}
		}
		job := &api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{task},
			Scheduler: rapid.SampledFrom(api.Algorithms()).Draw(t, "algorithm")}
		o := Options{Load: func(id string) (api.NodeLoad, bool) {
			return api.NodeLoad{CPU: int64(hashString(id) % 3000), CPUTotal: 4000, Memory: 100, MemoryTotal: 1000}, hashString(id)%3 > 0
		}}

		fast, slow := rankedRequest(w, job, o), rankedRequest(w, job, o)
		for step := range task.Count + 1 {
			var from []int32 // what the instance had better stay away from, the worst first
			if rapid.IntRange(0, 2).Draw(t, "away") == 0 {
				from = rapid.SliceOfNDistinct(rapid.Int32Range(0, int32(len(fast.request.view.nodes)-1)), 0, 4, rapid.ID[int32]).Draw(t, "from")
			}
			node, _, ok := fast.nextAway(from)
			want, wantOK := slow.nextByScan(from)
			for !wantOK && len(from) > 0 {
				from = from[:len(from)-1]
				want, wantOK = slow.nextByScan(from)
			}
			if ok != wantOK || ok && node != want {
				t.Fatalf("step %d: the heaps say node %d (%v), a scan says node %d (%v)", step, node, ok, want, wantOK)
			}
			checkDevices(t, fast.request.view)
		}
	})
}

func drawNode(t *rapid.T, i int) *api.Node {
	n := &api.Node{ID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("n%d", i), Datacenter: "dc1", Status: api.NodeReady,
		Meta: map[string]string{}, Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}},
		Resources: api.Resources{CPU: rapid.Int64Range(0, 4000).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 4000).Draw(t, "memory")}}
	for _, model := range []string{"A100", "T4"} {
		g := api.DeviceGroup{Type: "gpu", Model: model}
		for d := range rapid.IntRange(0, 4).Draw(t, model) {
			g.IDs = append(g.IDs, fmt.Sprint(model, d))
		}
		if len(g.IDs) > 0 {
			n.Devices = append(n.Devices, g)
		}
	}
	for _, key := range []string{"rack", "class"} {
		if v := rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, key); v != "" {
			n.Meta[key] = v
		}
	}
	for g := range rapid.SampledFrom([]int{1, 0, 2}).Draw(t, "groups") {
		group := api.DeviceGroup{Type: "gpu"}
		for d := range rapid.SampledFrom([]int{2, 4, 1}).Draw(t, "devices") {
			group.IDs = append(group.IDs, fmt.Sprint(g, ".", d))
		}
		n.Devices = append(n.Devices, group)
	}
	return n
}

// checkDevices compares the devices' columns with what they are made from.
func checkDevices(t *rapid.T, v *view) {
	if v.devices == nil {
		return
	}
	fresh := newDevices(v.nodes, func(yield func(int, []int16) bool) {
		for i := range v.nodes {
			var held []int16
			for _, left := range v.devices.of(i) {
				held = append(held, api.WholeDevice-left)
			}
			if !yield(i, held) {
				return
			}
		}
	})
	if fmt.Sprint(v.devices.types) != fmt.Sprint(fresh.types) {
		t.Fatalf("the columns are %+v, and made anew %+v", v.devices.types, fresh.types)
	}
}

// useSome has some of the nodes' devices in use already.
func useSome(t *rapid.T, w *World) {
	for n := range w.Nodes() {
		for _, g := range n.Devices {
			for _, id := range g.IDs {
				if share := rapid.IntRange(-500, api.WholeDevice).Draw(t, "in use"); share > 0 {
					w.PutAllocation(api.AllocationRow{Job: "old", Task: "old", Node: n.ID, Desired: api.DesiredRun, Phase: api.PhaseRunning,
						Held: api.Resources{CPU: int64(share), Memory: int64(share)}}, nil, api.DeviceClaim{Type: g.Type, ID: id, Share: share})
				}
			}
		}
	}
}

func rankedRequest(w *World, job *api.Job, o Options) *ranking {
	c := &change{batch: &batch{state: w, options: o, view: newView(w, o)}, job: job}
	r := newRequest(c.view, job, job.Tasks[0])
	r.count(nil, nil)
	return c.rank(r)
}

// nextByScan does what take does, with the request and the spread tables of a ranking but none of its heaps.
func (k *ranking) nextByScan(but []int32) (node int, ok bool) {
	r := k.request
	var best candidate
	r.open.each(func(i int) {
		if !r.fits(i) || slices.Contains(but, int32(i)) {
			return
		}
		c := k.candidate(i)
		g := k.newGroup(i)
		c.score -= g.cost
		if !ok || better(c, best) {
			best, ok = c, true
		}
	})
	if !ok {
		return 0, false
	}
	node = int(best.node)
	r.give(node, grant{devices: r.claim(node)})
	for i := range k.spreads {
		k.spreads[i].counts[k.spreads[i].of[node]]++
	}
	return node, true
}

// TestBothTermsMatterToEPVM: CPU and memory, reserved or measured, each decide between nodes that are equal otherwise,
// whichever of them it is.
func TestBothTermsMatterToEPVM(t *testing.T) {
	for _, busy := range []string{"n0", "n1"} {
		for _, used := range []api.Resources{{CPU: 1000}, {Memory: 1000}} {
			for _, measured := range []bool{false, true} {
				w := &World{}
				for _, id := range []string{"n0", "n1"} {
					w.PutNode(&api.Node{ID: id, Name: id, Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4096},
						Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
				}
				o := Options{Algorithm: api.AlgorithmEPVM}
				if measured {
					o.Load = func(id string) (api.NodeLoad, bool) {
						l := api.NodeLoad{CPUTotal: 4000, MemoryTotal: 4096}
						if id == busy {
							l.CPU, l.Memory = used.CPU, used.Memory
						}
						return l, true
					}
				} else {
					w.PutAllocation(api.AllocationRow{Job: "other", Task: "other", Node: busy, Held: used}, nil)
				}
				w.PutJob(&api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{api.DefaultTask("web")}})
				p := Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, o)
				if got := p.Jobs[0].Placements[0].Node; got == busy {
					t.Errorf("%+v in use, measured %v: placed on %s all the same", used, measured, busy)
				}
			}
		}
	}
}
