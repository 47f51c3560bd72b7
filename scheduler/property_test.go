package scheduler_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/scheduler"
)

// TestSchedulerProperties lives through random histories of a cluster and checks after every plan what must always hold.
// rapid prints how to run a failing one again.
func TestSchedulerProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{world: &scheduler.World{}, versions: map[string]uint64{}}
		for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
			h.world.PutNode(drawNode(t, i))
		}
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			h.happen(t)
			h.schedule(t)
		}
	})
}

type history struct {
	world    *scheduler.World
	versions map[string]uint64
	memory   scheduler.Memory
}

var jobNames = []string{"web", "db", "sum"}

func drawNode(t *rapid.T, i int) *api.Node {
	n := &api.Node{ID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("node-%d", i),
		Datacenter: rapid.SampledFrom([]string{"dc1", "dc1", "dc2"}).Draw(t, "dc"),
		Status:     rapid.SampledFrom([]api.NodeStatus{api.NodeReady, api.NodeReady, api.NodeReady, api.NodeInitializing, api.NodeDown}).Draw(t, "status"),
		Ineligible: rapid.IntRange(0, 5).Draw(t, "ineligible") == 0,
		Meta:       map[string]string{"class": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "class")},
		Resources:  api.Resources{CPU: rapid.Int64Range(0, 2000).Draw(t, "cpu"), Memory: rapid.Int64Range(0, 1024).Draw(t, "memory"), Disk: 500},
		Drivers:    map[string]api.DriverInfo{"docker": {Detected: true, Healthy: rapid.IntRange(0, 5).Draw(t, "driver") > 0}}}
	for g := range rapid.SampledFrom([]int{2, 1, 3, 0}).Draw(t, "groups") { // the first is what rapid leans to
		group := api.DeviceGroup{Type: rapid.SampledFrom([]string{"gpu", "gpu", "fpga"}).Draw(t, "type"), Model: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "model")}
		for d := range rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "devices") {
			group.IDs = append(group.IDs, fmt.Sprintf("d%d.%d", g, d))
		}
		n.Devices = append(n.Devices, group)
	}
	return n
}

func drawDevices(t *rapid.T) (out []api.DeviceRequest) {
	for _, kind := range []string{"fpga", "gpu"} {
		d := api.DeviceRequest{Type: kind, Count: rapid.SampledFrom([]int{1, 0, 2}).Draw(t, kind), Share: api.WholeDevice}
		if d.Count == 1 {
			d.Share = rapid.SampledFrom([]int{400, 600, 1000, 500, 1}).Draw(t, "share")
		}
		if rapid.Bool().Draw(t, "model") {
			d.Constraints = []api.Constraint{{Attribute: "device.model", Operator: "=", Value: "A"}}
		}
		if d.Count > 0 {
			out = append(out, d)
		}
	}
	return out
}

func drawTask(t *rapid.T, name string) *api.Task {
	task := api.DefaultTask(name)
	task.Count = rapid.IntRange(0, 6).Draw(t, "count")
	task.Migrate = api.Migrate{MaxParallel: rapid.IntRange(1, 3).Draw(t, "max parallel"), Order: rapid.SampledFrom([]string{api.OrderStartFirst, api.OrderStopFirst}).Draw(t, "order")}
	task.Image = rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "image")
	task.Resources = api.Resources{CPU: rapid.Int64Range(0, 600).Draw(t, "cpu"), Memory: rapid.Int64Range(1, 300).Draw(t, "memory"),
		Disk: rapid.SampledFrom([]int64{0, 100}).Draw(t, "disk")}
	if rapid.Bool().Draw(t, "class") {
		task.Constraints = append(task.Constraints, api.Constraint{Attribute: "meta.class", Operator: "=", Value: "a"})
	}
	if rapid.IntRange(0, 3).Draw(t, "distinct") == 0 {
		task.Constraints = append(task.Constraints, api.Constraint{Operator: api.OpDistinctHosts})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "dynamic") {
		task.Ports = append(task.Ports, api.Port{Label: fmt.Sprintf("d%d", i)})
	}
	if rapid.IntRange(0, 3).Draw(t, "static") == 0 {
		task.Ports = append(task.Ports, api.Port{Label: "s", Static: rapid.SampledFrom([]int{80, 25000}).Draw(t, "port")})
	}
	if rapid.Bool().Draw(t, "with devices") {
		task.Devices = drawDevices(t)
	}
	if rapid.Bool().Draw(t, "spread") {
		task.Spreads = []api.Spread{{Attribute: "meta.class", Weight: 50}}
	}
	return task
}

// happen changes something in the world.
func (h *history) happen(t *rapid.T) {
	w := h.world
	name := rapid.SampledFrom(jobNames).Draw(t, "job")
	var live []api.AllocationRow
	for _, n := range jobNames {
		for row := range w.Allocations(n) {
			if row.Live() {
				live = append(live, row)
			}
		}
	}
	switch event := rapid.IntRange(0, 9).Draw(t, "event"); {
	case event <= 2 || w.Job(name) == nil:
		h.versions[name]++
		j := &api.Job{Name: name, Type: api.JobService, Priority: rapid.IntRange(1, 100).Draw(t, "priority"), Datacenters: []string{"dc1"},
			Version: h.versions[name], ModifyIndex: w.Index() + 1, Scheduler: rapid.SampledFrom(append(api.Algorithms(), "")).Draw(t, "scheduler")}
		if name == "sum" {
			j.Type = api.JobBatch
		}
		for _, n := range []string{"one", "two"}[:rapid.IntRange(1, 2).Draw(t, "tasks")] {
			j.Tasks = append(j.Tasks, drawTask(t, n))
		}
		w.PutJob(j)
	case event == 3:
		j := *w.Job(name)
		j.Stopped = !j.Stopped
		w.PutJob(&j)
	case event == 4:
		n := drawNode(t, rapid.IntRange(0, 6).Draw(t, "which"))
		for _, row := range live {
			if row.Node == n.ID {
				w.Report(row.ID, api.PhaseLost, api.FailureNone)
			}
		}
		w.PutNode(n)
	case event == 5 && rapid.Bool().Draw(t, "node changes"):
		h.changeNode(t)
	case event == 5:
		w.Quarantine(fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "which")), 80)
	default:
		for _, row := range live {
			phase := rapid.SampledFrom([]api.Phase{api.PhasePending, api.PhaseRunning, api.PhaseRunning, api.PhaseComplete, api.PhaseFailed}).Draw(t, "phase")
			if phase == api.PhaseComplete && row.Desired == api.DesiredRun && row.Job != "sum" {
				phase = api.PhaseFailed // a service that ends has failed
			}
			failure := api.FailureNone
			if phase == api.PhaseFailed && rapid.Bool().Draw(t, "bind") {
				failure = api.FailurePortTaken
			}
			w.Report(row.ID, phase, failure)
			if rapid.IntRange(0, 3).Draw(t, "ill") == 0 {
				w.SetHealth(row.ID, rapid.SampledFrom([]api.HealthStatus{api.HealthUnknown, api.HealthUnhealthy}).Draw(t, "health"))
			}
		}
	}
}

// changeNode changes something about a node that is there, but its devices; or takes it away for good.
func (h *history) changeNode(t *rapid.T) {
	var nodes []*api.Node
	for n := range h.world.Nodes() {
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return
	}
	changed := *rapid.SampledFrom(nodes).Draw(t, "node")
	other := drawNode(t, 0)
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0:
		changed.Status = other.Status
	case 1:
		changed.Ineligible, changed.Drain = !changed.Ineligible, nil
		if stage := rapid.SampledFrom([]api.DrainStage{"", api.DrainMoving, api.DrainMoving, api.DrainForced, api.DrainComplete}).Draw(t, "drain"); stage != "" {
			changed.Ineligible, changed.Drain = true, &api.Drain{Stage: stage}
		}
	case 2:
		changed.Meta = map[string]string{"class": "b"}
		if other.Meta["class"] == "b" {
			changed.Meta = nil
		}
	case 3:
		changed.Datacenter = other.Datacenter
	case 4:
		changed.Drivers = other.Drivers
	case 5:
		changed.Resources = changed.Resources.Add(other.Resources) // what it holds fits still
	case 6:
		for _, name := range jobNames {
			for row := range h.world.Allocations(name) {
				if row.Node == changed.ID {
					h.world.Report(row.ID, api.PhaseLost, api.FailureNone)
				}
			}
		}
		h.world.RemoveNode(changed.ID)
		return
	}
	h.world.PutNode(&changed)
}

// schedule plans for every job, checks the plan, applies it and checks the world.
func (h *history) schedule(t *rapid.T) {
	var evals []*api.Evaluation
	for i, name := range jobNames {
		e := &api.Evaluation{ID: api.ID(i + 1), Job: name, Priority: 50}
		for row := range h.world.Allocations(name) {
			if row.Live() && rapid.IntRange(0, 9).Draw(t, "ask") == 0 {
				e.Stop = append(e.Stop, row.ID)
			}
		}
		evals = append(evals, e)
	}
	h.world.Pass(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
	o := scheduler.Options{Now: h.world.Now(), MaxPlacements: rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "limit")}
	p := scheduler.Schedule(h.world, evals, o)
	backwards := []*api.Evaluation{evals[2], evals[1], evals[0]}
	if again := scheduler.Schedule(h.world, backwards, o); !reflect.DeepEqual(p, again) {
		t.Fatalf("two plans for one world:\n%s\n%s", text(p), text(again))
	}
	o.Memory = &h.memory
	if warm := scheduler.Schedule(h.world, evals, o); !reflect.DeepEqual(p, warm) {
		t.Fatalf("what is remembered of earlier plans changes this one:\n%s\n%s", text(p), text(warm))
	}
	changes := 0
	for _, j := range p.Jobs {
		changes += len(j.Placements) + len(j.Stops) + len(j.InPlace)
		if j.Status == api.EvalFailed {
			t.Fatalf("%s failed: %s", j.Job, j.Message)
		}
		for _, pl := range j.Placements {
			h.checkNode(t, j.Job, pl)
			h.checkRetry(t, j.Job, pl)
		}
	}
	if o.MaxPlacements > 0 && changes > o.MaxPlacements {
		t.Fatalf("%d changes in a plan limited to %d", changes, o.MaxPlacements)
	}
	h.world.Apply(p)
	h.checkWorld(t)
	if o.MaxPlacements > 0 {
		return
	}
	for _, j := range p.Jobs {
		h.checkExplained(t, j)
	}
	if second := scheduler.Schedule(h.world, evals, o); !second.Empty() {
		t.Fatalf("a second run on an unchanged world is not empty:\n%s\nafter\n%s", text(second), text(p))
	}
}

// checkRetry: what failed for good in the version in force comes back when its delay is over and its attempts are not used up,
// with one more on its count.
func (h *history) checkRetry(t *rapid.T, name string, p api.Placement) {
	last, _, ok := h.world.Allocation(p.Replaces)
	if !ok || last.Version != p.Version || last.Live() {
		return
	}
	job, past := h.world.Job(name), h.world.Past(last.ID)
	failed := last.Phase == api.PhaseFailed && last.Failure != api.FailurePortTaken && last.Desired == api.DesiredRun
	switch {
	case !failed && last.Desired == api.DesiredRun && p.Trial != past.Trial:
		t.Fatalf("%s[%d] did not fail by itself, and its count goes from %+v to %+v", p.Task, p.Slot, past.Trial, p.Trial)
	case !failed:
	case p.Trial.Used == 0 || p.Trial.Streak == 0 || p.Trial.Streak > past.Trial.Streak+1:
		t.Fatalf("%s[%d] failed, and its count goes from %+v to %+v", p.Task, p.Slot, past.Trial, p.Trial)
	case job.Type == api.JobBatch && (past.Trial.Used > 0 || h.world.Now()-past.EndedAt < int64(5*time.Second)),
		job.Type == api.JobService && h.world.Now()-past.EndedAt < int64(30*time.Second):
		t.Fatalf("%s[%d] of a %s comes back %s after its failure, after %+v", p.Task, p.Slot, job.Type, time.Duration(h.world.Now()-past.EndedAt), past.Trial)
	}
}

func text(p *api.Plan) string {
	b, _ := json.MarshalIndent(p, "", " ")
	return string(b)
}

func (h *history) checkNode(t *rapid.T, job string, p api.Placement) {
	task := h.world.Job(job).Task(p.Task)
	for n := range h.world.Nodes() {
		if n.ID == p.Node && suits(n, task) {
			h.checkClaims(t, n, task, p.Devices)
			return
		}
	}
	t.Fatalf("%s[%d] is placed on %s, which may not take it", p.Task, p.Slot, p.Node)
}

// suits says in other words than the scheduler whether a node may take a task's instances at all.
func suits(n *api.Node, task *api.Task) bool {
	if n.Status != api.NodeReady || n.Ineligible || n.Datacenter != "dc1" || !n.Drivers["docker"].Healthy {
		return false
	}
	return len(task.Constraints) == 0 || task.Constraints[0].Attribute == "" || n.Meta["class"] == "a"
}

// checkClaims holds claims against the task in other words than the scheduler.
func (h *history) checkClaims(t *rapid.T, n *api.Node, task *api.Task, claims []api.DeviceClaim) {
	for _, d := range task.Devices {
		groups := map[int]bool{}
		ids := map[string]bool{}
		for range d.Count {
			if len(claims) == 0 || claims[0].Type != d.Type || claims[0].Share != d.Share {
				t.Fatalf("%s asks for %+v and gets %+v", task.Name, d, claims)
			}
			for i, g := range n.Devices {
				if slices.Contains(g.IDs, claims[0].ID) && g.Type == d.Type && (len(d.Constraints) == 0 || g.Model == "A") {
					groups[i] = true
					ids[claims[0].ID] = true
				}
			}
			claims = claims[1:]
		}
		if len(groups) != 1 || len(ids) != d.Count {
			t.Fatalf("%s asks for %+v of %+v and gets %v of groups %v", task.Name, d, n.Devices, ids, groups)
		}
	}
	if len(claims) > 0 {
		t.Fatalf("%s gets more than it asks for: %+v", task.Name, claims)
	}
}

// devicesLeft says in other words than the scheduler whether a node has the devices left that a task asks for.
func (h *history) devicesLeft(n *api.Node, task *api.Task) bool {
	held := map[string]int{}
	for _, name := range jobNames {
		for row := range h.world.Allocations(name) {
			for _, c := range h.world.Claims(row.ID) {
				if row.Live() && row.Node == n.ID {
					held[c.ID] += c.Share
				}
			}
		}
	}
	for _, d := range task.Devices {
		found := false
		for _, g := range n.Devices {
			enough := 0
			for _, id := range g.IDs {
				if held[id]+d.Share <= api.WholeDevice {
					enough++
				}
			}
			found = found || g.Type == d.Type && (len(d.Constraints) == 0 || g.Model == "A") && enough >= d.Count
		}
		if !found {
			return false
		}
	}
	return true
}

func (h *history) checkWorld(t *rapid.T) {
	type place struct {
		node string
		port int
	}
	ports := map[place]api.ID{}
	slots := map[string]api.ID{}
	held := map[string]api.Resources{}
	devices := map[string]int{}
	for _, name := range jobNames {
		for row := range h.world.Allocations(name) {
			if !row.Live() {
				continue
			}
			slot := api.InstanceName(row.Job, row.Task, row.Slot)
			if other, taken := slots[slot]; taken {
				t.Fatalf("%s is held by %d and %d", slot, other, row.ID)
			}
			slots[slot] = row.ID
			held[row.Node] = held[row.Node].Add(row.Held)
			_, bindings, _ := h.world.Allocation(row.ID)
			for _, b := range bindings {
				if other, taken := ports[place{row.Node, b.Host}]; taken {
					t.Fatalf("port %d on %s is held by %d and %d", b.Host, row.Node, other, row.ID)
				}
				ports[place{row.Node, b.Host}] = row.ID
			}
			for _, c := range h.world.Claims(row.ID) {
				if devices[row.Node+" "+c.ID] += c.Share; devices[row.Node+" "+c.ID] > api.WholeDevice {
					t.Fatalf("%d thousandths of %s on %s are held", devices[row.Node+" "+c.ID], c.ID, row.Node)
				}
			}
		}
	}
	for n := range h.world.Nodes() {
		if !held[n.ID].Fits(n.Resources) {
			t.Fatalf("%s has %+v and holds %+v", n.ID, n.Resources, held[n.ID])
		}
	}
}

// checkExplained looks for slots that ought to be filled and are not: each must be explained, and rightly so.
func (h *history) checkExplained(t *rapid.T, j api.JobPlan) {
	job := h.world.Job(j.Job)
	if job == nil || job.Stopped {
		return
	}
	explained := map[string]api.Explanation{}
	for _, e := range j.Explanations {
		if !strings.HasSuffix(e.Note, "no place even then") && !strings.HasSuffix(e.Note, "needs room beside it") { // these are of slots that are held
			explained[e.Task] = e
		}
		if e.Retry != nil && (j.WakeAt <= h.world.Now() || j.WakeAt > e.Retry.At.UnixNano() || !j.Status.Open()) {
			t.Fatalf("%s waits for %+v and is looked at at %d", e.Task, e.Retry, j.WakeAt)
		}
		total := 0
		for _, f := range e.Filters {
			total += f.Nodes
		}
		if total != e.Nodes {
			t.Fatalf("%s: the filters turned %d of %d nodes away: %+v", e.Task, total, e.Nodes, e)
		}
		if len(e.Lines()) == 0 {
			t.Fatalf("nothing to say of %+v", e)
		}
	}
	for _, task := range job.Tasks {
		empty, vacant := h.emptySlots(job, task)
		e := explained[task.Name]
		if e.Wanted-e.Placed != empty {
			t.Fatalf("%s: %d slots are empty, %d are explained: %+v", task.Name, empty, e.Wanted-e.Placed, e)
		}
		if vacant && j.Status != api.EvalBlocked {
			t.Fatalf("%s: not placed, but %s", task.Name, j.Status)
		}
		ordinal := 0
		for n, held := range h.world.Nodes() {
			if vacant && suits(n, task) && task.Resources.Fits(n.Resources.Sub(held)) && !h.taken(job, task, n, ordinal) && h.devicesLeft(n, task) {
				t.Fatalf("%s: not placed, but there is room on %s", task.Name, n.ID)
			}
			ordinal++
		}
	}
}

// emptySlots counts the slots that nobody holds; vacant says whether one of them could be filled now.
func (h *history) emptySlots(job *api.Job, task *api.Task) (empty int, vacant bool) {
	for slot := range task.Count {
		newest, live := api.AllocationRow{}, false
		for row := range h.world.Allocations(job.Name) {
			if row.Task == task.Name && int(row.Slot) == slot {
				newest, live = row, live || row.Live()
			}
		}
		if live || job.Type == api.JobBatch && h.world.Completed(job.Name, task.Name, job.Version, uint32(slot)) {
			continue
		}
		empty++
		waits := newest.Phase == api.PhaseFailed && newest.Failure != api.FailurePortTaken && newest.Version == job.Version &&
			newest.Desired == api.DesiredRun
		if past := h.world.Past(newest.ID); waits && (job.Type != api.JobBatch || past.Trial.Used == 0) {
			_, due, _ := api.DefaultReschedule(job.Type).Next(past)
			waits = h.world.Now() < due
		}
		vacant = vacant || !waits
	}
	return empty, vacant
}

func (h *history) taken(job *api.Job, task *api.Task, n *api.Node, ordinal int) bool {
	for _, p := range task.Ports {
		if p.Static != 0 && (h.world.PortHeld(ordinal, p.Static) || h.world.Quarantined(ordinal, p.Static)) {
			return true
		}
	}
	for _, c := range task.Constraints {
		if c.Operator == api.OpDistinctHosts {
			for row := range h.world.Allocations(job.Name) {
				if row.Live() && row.Task == task.Name && row.Node == n.ID {
					return true
				}
			}
		}
	}
	return false
}

// TestOrderOfInsertionIsIrrelevant: a world is what is in it, not how it came about.
func TestOrderOfInsertionIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []*api.Node
		for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
			nodes = append(nodes, drawNode(t, i))
		}
		job := &api.Job{Name: "web", Type: api.JobService, Version: 1, Scheduler: rapid.SampledFrom(api.Algorithms()).Draw(t, "scheduler"),
			Tasks: []*api.Task{drawTask(t, "one"), drawTask(t, "two")}}
		plan := func(nodes []*api.Node) *api.Plan {
			w := &scheduler.World{}
			for _, n := range nodes {
				w.PutNode(n)
			}
			w.PutJob(job)
			return scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{})
		}
		a, b := plan(nodes), plan(rapid.Permutation(nodes).Draw(t, "order"))
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("another order of insertion, another plan:\n%s\n%s", text(a), text(b))
		}
	})
}

// TestExplanationsStaySmall: however long the texts and however many the filters.
func TestExplanationsStaySmall(t *testing.T) {
	long := string(make([]byte, 0, 1000))
	for range 300 {
		long += "é€"
	}
	task := api.DefaultTask("web")
	w := &scheduler.World{}
	for i := range 40 {
		task.Constraints = append(task.Constraints, api.Constraint{Attribute: fmt.Sprintf("meta.k%d", i), Operator: "=", Value: long})
		n := &api.Node{ID: fmt.Sprintf("n%02d", i), Name: long, Status: api.NodeReady, Meta: map[string]string{},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
		for k := range i {
			n.Meta[fmt.Sprintf("k%d", k)] = long
		}
		n.Meta[fmt.Sprintf("k%d", i)] = fmt.Sprint(i) + long
		w.PutNode(n)
	}
	w.PutJob(&api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{task}})
	p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{})
	e := p.Jobs[0].Explanations[0]
	b, err := json.Marshal(e)
	if err != nil || len(b) > api.MaxExplanationSize {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	total := 0
	for _, f := range e.Filters {
		total += f.Nodes
	}
	if total != 40 || e.Nearest == nil {
		t.Errorf("%d of 40 nodes are accounted for, nearest %v", total, e.Nearest)
	}
}
