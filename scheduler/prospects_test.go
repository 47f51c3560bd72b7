package scheduler

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// gpuNode is a ready node with a group of GPUs.
func gpuNode(id string, cpu, memory int64, gpus int, model string) *api.Node {
	n := &api.Node{ID: id, Name: id, Datacenter: "dc1", Status: api.NodeReady, Resources: api.Resources{CPU: cpu, Memory: memory},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
	if gpus > 0 {
		g := api.DeviceGroup{Type: "gpu", Model: model}
		for d := range gpus {
			g.IDs = append(g.IDs, fmt.Sprint(d))
		}
		n.Devices = append(n.Devices, g)
	}
	return n
}

func TestWhatANodeIsGoodFor(t *testing.T) {
	w := &World{}
	w.PutNode(gpuNode("n", 40_000, 80_000, 4, "T4"))
	v := newView(w, Options{})
	p := newProspects(v, 0)
	if p.cpu != 10_000 || p.memory != 20_000 || !slices.Equal(p.counts, []int{2, 4}) {
		t.Fatalf("beside a device go %d CPU and %d memory, groups of %v", p.cpu, p.memory, p.counts)
	}
	at := func(kind, company int) int64 { return p.usable[kind*imaginedCompany+company] }
	const quarter, usual, sixQuarters = 0, 3, 4
	const fifth, threeFifths, one, two, four = 1, 5, 9, 10, 11
	for _, c := range []struct {
		what          string
		cpu, memory   int64
		left          []int16
		kind, company int
		want          int64
	}{
		{"all", 40_000, 80_000, []int16{1000, 1000, 1000, 1000}, one, usual, 4000},
		{"CPU for 4/6 of the devices", 40_000, 80_000, []int16{1000, 1000, 1000, 1000}, one, sixQuarters, 2666},
		{"memory for half of one, a quarter each", 40_000, 2500, []int16{1000, 1000, 1000, 1000}, fifth, quarter, 500},
		{"not enough CPU for a whole one", 9_999, 80_000, []int16{1000, 1000, 1000, 1000}, one, usual, 0},
		{"but for three fifths", 9_999, 80_000, []int16{1000, 1000, 1000, 1000}, threeFifths, usual, 999},
		{"devices with too little left do not count", 40_000, 80_000, []int16{1000, 599, 600, 0}, threeFifths, usual, 1600},
		{"whole ones only", 40_000, 80_000, []int16{1000, 999, 1000, 0}, one, usual, 2000},
		{"two of them", 40_000, 80_000, []int16{1000, 999, 1000, 0}, two, usual, 2000},
		{"too few", 40_000, 80_000, []int16{1000, 999, 1000, 1000}, four, quarter, 0},
		{"enough devices, too little CPU", 39_999, 80_000, []int16{1000, 1000, 1000, 1000}, four, usual, 0},
		{"more held than there is", -1000, 80_000, []int16{-100, 1000, 1000, 1000}, fifth, quarter, 0},
	} {
		p.look(0, c.cpu, c.memory, c.left)
		if got := at(c.kind, c.company); got != c.want {
			t.Errorf("%s: %d thousandths could be had, want %d", c.what, got, c.want)
		}
	}
}

// Two tasks that lose as much of a node are told apart by how much of that the cluster has elsewhere.
func TestWhatIsRareIsDear(t *testing.T) {
	price := func(spare int) float64 {
		w := &World{}
		w.PutNode(gpuNode("n0", 80_000, 80_000, 8, "A100"))
		for i := range spare {
			w.PutNode(gpuNode(fmt.Sprint("n", i+1), 80_000, 80_000, 8, "A100"))
		}
		for i := range 8 {
			w.PutNode(gpuNode(fmt.Sprint("single", i), 10_000, 10_000, 1, "A100"))
		}
		v := newView(w, Options{})
		task := api.DefaultTask("one")
		task.Resources = api.Resources{CPU: 10_000, Memory: 10_000}
		task.Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: api.WholeDevice}}
		job := &api.Job{Name: "one", Tasks: []*api.Task{task}}
		r := newRequest(v, job, task)
		r.count(nil, nil)
		o := v.outlook()
		return r.loss(o, v.ordinal("n0")) / r.loss(o, v.ordinal("single0"))
	}
	last, many := price(0), price(50)
	if last <= many || many <= 1 {
		t.Errorf("a GPU of a whole node costs %.3f times a single one when the node is the last, %.3f when it is one of 51", last, many)
	}
}

// Prices and losses depend on what the nodes have, not on their names or their order.
func TestProspectsDoNotDependOnTheOrderOfNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []*api.Node
		for i := range rapid.IntRange(1, 10).Draw(t, "nodes") {
			nodes = append(nodes, drawNode(t, i))
		}
		task := api.DefaultTask("web")
		task.Resources = api.Resources{CPU: rapid.Int64Range(0, 900).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 900).Draw(t, "memory")}
		if rapid.Bool().Draw(t, "device") {
			task.Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: rapid.IntRange(1, api.WholeDevice).Draw(t, "share")}}
		}
		job := &api.Job{Name: "web", Tasks: []*api.Task{task}}
		order := rapid.Permutation(nodes).Draw(t, "order")
		scores := func(nodes []*api.Node) map[string]float64 {
			w := &World{}
			for i, n := range nodes {
				renamed := *n
				renamed.ID = fmt.Sprint("renamed", i)
				w.PutNode(&renamed)
			}
			v := newView(w, Options{})
			if v.devices == nil {
				return nil
			}
			r := newRequest(v, job, task)
			r.count(nil, nil)
			score, all := r.keepProspects(), map[string]float64{}
			for i, n := range v.nodes {
				if r.open.has(i) && r.fits(i) {
					all[n.Name] = score(i)
				}
			}
			return all
		}
		first, second := scores(nodes), scores(order)
		if len(first) != len(second) {
			t.Fatalf("%d nodes fit, %d in another order", len(first), len(second))
		}
		for name, s := range first {
			if second[name] != s || math.IsNaN(s) {
				t.Fatalf("%s scores %v, in another order %v", name, s, second[name])
			}
		}
	})
}

// What an instance does to a node's prospects is what is found when it is there.
func TestLossIsWhatHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &World{}
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			w.PutNode(drawNode(t, i))
		}
		useSome(t, w)
		task := api.DefaultTask("web")
		task.Resources = api.Resources{CPU: rapid.Int64Range(0, 900).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 900).Draw(t, "memory")}
		task.Devices = []api.DeviceRequest{{Type: "gpu", Count: rapid.IntRange(1, 3).Draw(t, "count"), Share: api.WholeDevice}}
		job := &api.Job{Name: "web", Tasks: []*api.Task{task}}
		v := newView(w, Options{})
		if v.devices == nil {
			return
		}
		r := newRequest(v, job, task)
		r.count(nil, nil)
		o := v.outlook()
		for node := range v.nodes {
			if !r.open.has(node) || !r.fits(node) {
				continue
			}
			worth := func() float64 { return o.worthOf(node, v.free[node].CPU, v.free[node].Memory, v.devices.of(node)) }
			expected, before := r.loss(o, node), worth()
			r.give(node, grant{devices: r.claim(node)})
			if got := before - worth(); got != expected {
				t.Fatalf("node %d: an instance was expected to cost %v, and cost %v", node, expected, got)
			}
		}
	})
}
