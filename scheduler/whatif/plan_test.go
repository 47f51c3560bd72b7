package whatif

import (
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cube/api"
	"cube/scheduler"
)

// world is a scheduler.World with what a draft asks besides.
type world struct{ *scheduler.World }

func (w world) Ports(id api.ID) []api.PortBinding {
	_, ports, _ := w.Allocation(id)
	return ports
}

func (w world) NextVersion(job string) uint64 {
	if j := w.Job(job); j != nil {
		return j.Version + 1
	}
	return 1
}

// Rows and Waiting are what a plan does not ask for.
func (w world) Rows() iter.Seq[api.AllocationRow]                   { return slices.Values([]api.AllocationRow(nil)) }
func (w world) Waiting(api.EvaluationStatus, int) []*api.Evaluation { return nil }

// newWorld has nodes n1, n2 ... with that much memory and 4 cores each.
func newWorld(memory ...int64) world {
	w := world{&scheduler.World{}}
	for i, m := range memory {
		name := fmt.Sprintf("n%d", i+1)
		w.PutNode(&api.Node{ID: name, Name: name, Datacenter: "dc1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: m, Disk: 1000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}},
			Devices: []api.DeviceGroup{{Type: "gpu", IDs: []string{"g0", "g1"}}}})
	}
	return w
}

func webJob(count int, change func(*api.Task)) *api.Job {
	t := api.DefaultTask("web")
	t.Image, t.Count = "nginx:1", count
	if change != nil {
		change(t)
	}
	j := &api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{t}}
	j.Canonicalize()
	return j
}

// settle puts the job in force and lets the scheduler and the nodes come to an end.
func (w world) settle(j *api.Job) {
	next := *j
	next.Version = w.NextVersion(j.Name)
	next.ModifyIndex = w.Index() + 1
	w.PutJob(&next)
	for range 1000 {
		p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: j.Name}}, scheduler.Options{})
		w.Apply(p)
		moved := !p.Empty()
		for row := range w.Allocations(j.Name) {
			switch {
			case row.Live() && row.Desired == api.DesiredStop:
				w.Report(row.ID, api.PhaseComplete, api.FailureNone)
			case row.Live() && row.Phase != api.PhaseRunning:
				w.Report(row.ID, api.PhaseRunning, api.FailureNone)
			default:
				continue
			}
			moved = true
		}
		if !moved {
			return
		}
	}
}

func (w world) running(job string) (n int) {
	for row := range w.JobRows(job) {
		if row.Live() {
			n++
		}
	}
	return n
}

func plan(w world, jobs ...*api.Job) *api.Forecast { return Plan(w, jobs, scheduler.Options{}) }

func TestPlanOfANewJob(t *testing.T) {
	w := newWorld(1000, 1000)
	f := plan(w, webJob(2, nil))
	want := []api.JobForecast{{Name: "web", Version: 1, Changed: true, Diff: f.Jobs[0].Diff,
		Tasks: []api.TaskForecast{{Task: "web", Effect: api.EffectCreate, Wanted: 2, Place: 2, Nodes: []api.NodeCount{{Node: "n1", Count: 1}, {Node: "n2", Count: 1}}}}}}
	if diff := cmp.Diff(want, f.Jobs); diff != "" || f.CheckIndex != 0 || !f.Changes() {
		t.Errorf("check index %d: %s", f.CheckIndex, diff)
	}
	if w.Job("web") != nil || w.running("web") > 0 {
		t.Error("planning changed the world")
	}
}

func TestPlanOfChanges(t *testing.T) {
	for _, c := range []struct {
		name    string
		memory  []int64
		from    *api.Job
		to      *api.Job
		want    api.TaskForecast
		explain string
	}{
		{"a count", []int64{1000}, webJob(2, nil), webJob(3, nil),
			api.TaskForecast{Effect: api.EffectInPlace, Wanted: 3, InPlace: 2, Place: 1, Nodes: []api.NodeCount{{Node: "n1", Count: 1}}}, ""},
		{"fewer", []int64{1000}, webJob(3, nil), webJob(1, nil),
			api.TaskForecast{Effect: api.EffectInPlace, Wanted: 1, InPlace: 1, Stop: 2}, ""},
		{"another image", []int64{1000}, webJob(3, nil), webJob(3, func(t *api.Task) { t.Image = "nginx:2" }),
			api.TaskForecast{Effect: api.EffectDestructive, Wanted: 3, Replace: 3, Nodes: []api.NodeCount{{Node: "n1", Count: 3}}}, ""},
		{"more memory than is there beside the old ones", []int64{1000}, webJob(1, func(t *api.Task) { t.Resources.Memory = 600 }),
			webJob(1, func(t *api.Task) { t.Resources.Memory = 900 }),
			api.TaskForecast{Effect: api.EffectDestructive, Wanted: 1, Replace: 1, Nodes: []api.NodeCount{{Node: "n1", Count: 1}}}, ""},
		{"more than fits at all", []int64{1000}, webJob(2, func(t *api.Task) { t.Resources.Memory = 400 }),
			webJob(2, func(t *api.Task) { t.Resources.Memory = 700 }),
			api.TaskForecast{Effect: api.EffectDestructive, Wanted: 2, Replace: 2, Nodes: []api.NodeCount{{Node: "n1", Count: 1}}},
			"web: 1 of 2 not placed: the only node lacks memory (700 MiB wanted, 300 MiB free)"},
		{"a port and a device of the old one", []int64{1000}, webJob(1, func(t *api.Task) {
			t.Ports, t.Devices = []api.Port{{Label: "http", Static: 80}}, []api.DeviceRequest{{Type: "gpu", Count: 2}}
		}), webJob(1, func(t *api.Task) {
			t.Image, t.Ports, t.Devices = "nginx:2", []api.Port{{Label: "http", Static: 80}}, []api.DeviceRequest{{Type: "gpu", Count: 2}}
		}), api.TaskForecast{Effect: api.EffectDestructive, Wanted: 1, Replace: 1, Nodes: []api.NodeCount{{Node: "n1", Count: 1}}}, ""},
		{"a constraint that its node does not meet", []int64{1000, 1000}, webJob(1, nil), webJob(1, func(t *api.Task) {
			t.Constraints = []api.Constraint{{Attribute: "attr.class", Value: "edge"}}
		}), api.TaskForecast{Effect: api.EffectInPlace, Wanted: 1, Replace: 1},
			"web: 1 of 1 not placed: both nodes fail attr.class = edge (seen: not set)"},
	} {
		w := newWorld(c.memory...)
		w.settle(c.from)
		before := w.Index()
		f := plan(w, c.to)
		got := f.Jobs[0].Tasks[0]
		explained := ""
		if got.Explanation != nil {
			explained = got.Explanation.Lines()[0]
			got.Explanation = nil
		}
		c.want.Task = "web"
		if c.want.Replace > 0 {
			c.want.RollOut = c.to.Tasks[0].RollOut(c.to.Type, c.want.Replace)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || explained != c.explain {
			t.Errorf("%s: %q %s", c.name, explained, diff)
		}
		if w.Index() != before || f.CheckIndex != w.Job("web").ModifyIndex || f.Jobs[0].Version != 2 {
			t.Errorf("%s: index %d, was %d; check index %d; version %d", c.name, w.Index(), before, f.CheckIndex, f.Jobs[0].Version)
		}
	}
}

func TestPlanOfWhatIsInForce(t *testing.T) {
	w := newWorld(1000)
	w.settle(webJob(2, nil))
	f := plan(w, webJob(2, nil))
	if f.Changes() || f.Jobs[0].Version != 1 || f.Jobs[0].Tasks != nil || f.Jobs[0].Diff.Kind != api.DiffNone {
		t.Errorf("%+v", f.Jobs[0])
	}
	stopped := *w.Job("web")
	stopped.Stopped = true
	w.PutJob(&stopped)
	if f := plan(w, webJob(2, nil)); !f.Changes() || !f.Jobs[0].Starts || f.Jobs[0].Tasks[0].Effect != api.EffectCreate {
		t.Errorf("a stopped job: %+v", f.Jobs[0])
	}
}

func TestPlanOfTasksThatComeAndGo(t *testing.T) {
	w := newWorld(1000)
	w.settle(webJob(2, nil))
	next := webJob(2, nil)
	next.Tasks[0].Name = "api"
	got := plan(w, next).Jobs[0].Tasks
	want := []api.TaskForecast{{Task: "api", Effect: api.EffectCreate, Wanted: 2, Place: 2, Nodes: []api.NodeCount{{Node: "n1", Count: 2}}},
		{Task: "web", Effect: api.EffectRemove, Stop: 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestJobsOfAFileTakeRoomFromEachOther: a plan of several jobs is one plan.
func TestJobsOfAFileTakeRoomFromEachOther(t *testing.T) {
	w := newWorld(1000)
	big := func(name string, priority int) *api.Job {
		j := webJob(1, func(t *api.Task) { t.Name, t.Resources.Memory = name, 600 })
		j.Name, j.Priority = name, priority
		return j
	}
	f := plan(w, big("low", 10), big("high", 90))
	if low, high := f.Jobs[0].Tasks[0], f.Jobs[1].Tasks[0]; low.Place != 0 || low.Explanation == nil || high.Place != 1 || high.Explanation != nil {
		t.Errorf("low %+v, high %+v", low, high)
	}
}

func TestWhatCompletedStaysSoInAPlan(t *testing.T) {
	w := newWorld(1000)
	batch := func(count int, image string) *api.Job {
		j := webJob(count, func(t *api.Task) { t.Image = image })
		j.Type = api.JobBatch
		return j
	}
	w.settle(batch(2, "one"))
	for row := range w.JobRows("web") {
		w.Report(row.ID, api.PhaseComplete, api.FailureNone)
	}
	if got := plan(w, batch(3, "one")).Jobs[0].Tasks[0]; got.Place != 1 {
		t.Errorf("one more of what completed: %+v", got)
	}
	if got := plan(w, batch(2, "two")).Jobs[0].Tasks[0]; got.Place != 2 {
		t.Errorf("another image: %+v", got)
	}
}

// TestPlansComeTrue: where there is room for everything, what a plan says is what happens.
func TestPlansComeTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(8000, 8000, 8000)
		draw := func(label string) *api.Job {
			return webJob(rapid.IntRange(0, 6).Draw(t, label+" count"), func(task *api.Task) {
				task.Image = rapid.SampledFrom([]string{"a", "b"}).Draw(t, label+" image")
				task.Resources.Memory = rapid.Int64Range(6, 300).Draw(t, label+" memory")
				task.Ports = []api.Port{{Label: "http", To: rapid.IntRange(1, 2).Draw(t, label+" port")}}
			})
		}
		w.settle(draw("from"))
		before := map[api.ID]bool{}
		for row := range w.JobRows("web") {
			before[row.ID] = row.Live()
		}
		to := draw("to")
		f := plan(w, to)
		if f.Changes() {
			w.settle(to)
		}
		kept, fresh := 0, 0
		for row := range w.JobRows("web") {
			switch {
			case row.Live() && before[row.ID]:
				kept++
			case row.Live():
				fresh++
			}
		}
		if !f.Changes() {
			if fresh > 0 {
				t.Fatalf("%d new instances of an unchanged job", fresh)
			}
			return
		}
		got := f.Jobs[0].Tasks[0]
		if got.Keep+got.InPlace != kept || got.Replace+got.Place != fresh || got.Explanation != nil {
			t.Fatalf("%d stayed and %d were placed; the plan said %+v", kept, fresh, got)
		}
	})
}

// TestAForecastOfAJobOnEveryNode: a node that can take no new instance keeps what it has, and one that the job does not ask for
// any more loses it.
func TestAForecastOfAJobOnEveryNode(t *testing.T) {
	job := func(change func(*api.Task)) *api.Job {
		j := webJob(1, change)
		j.Type = api.JobSystem
		return j
	}
	w := newWorld(1000, 1000, 1000, 1000)
	w.settle(job(nil))
	n2 := *w.node("n2")
	n2.Ineligible = true
	w.PutNode(&n2)
	for _, c := range []struct {
		what string
		job  *api.Job
		want api.TaskForecast
	}{
		{"a new image", job(func(t *api.Task) { t.Image = "nginx:2" }), api.TaskForecast{Wanted: 4, Keep: 1, Replace: 3}},
		{"fewer nodes", job(func(t *api.Task) {
			t.Constraints = []api.Constraint{{Attribute: "node.name", Operator: "!=", Value: "n4"}}
		}), api.TaskForecast{Wanted: 3, InPlace: 3, Stop: 1}},
		{"both", job(func(t *api.Task) {
			t.Image = "nginx:2"
			t.Constraints = []api.Constraint{{Attribute: "node.name", Operator: "!=", Value: "n4"}}
		}), api.TaskForecast{Wanted: 3, Keep: 1, Replace: 2, Stop: 1}},
	} {
		got := Plan(w, []*api.Job{c.job}, scheduler.Options{}).Jobs[0].Tasks[0]
		if want := "rolls 1 at a time, stop-first, each healthy after 5s at the earliest"; got.Replace > 0 && got.RollOut != want {
			t.Errorf("%s: it %s; want %s", c.what, got.RollOut, want)
		}
		got.Task, got.Effect, got.RollOut, got.Nodes = "", "", "", nil
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func (w world) node(id string) *api.Node {
	for n := range w.Nodes() {
		if n.ID == id {
			return n
		}
	}
	return nil
}
