package scheduler_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
	"cube/scheduler"
)

// TestRebalanceComesToAnEnd draws clusters that came about by chance, and rebalances them: every move gains what it is to gain,
// goes where there is room and where the scheduler would put it, and once all are made there is nothing left to move. rapid
// prints how to run a failing one again.
func TestRebalanceComesToAnEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, o := drawUneven(t)
		least := rapid.SampledFrom([]float64{5, 0.001, 1, 30}).Draw(t, "min gain")
		most := rapid.SampledFrom([]int{500, 3}).Draw(t, "most")
		for round := 0; ; round++ {
			if round > 200 {
				t.Fatalf("after %d rounds there is still something to move", round)
			}
			found := scheduler.Rebalance(w, most, least, o)
			if again := scheduler.Rebalance(w, most, least, o); fmt.Sprint(again) != fmt.Sprint(found) {
				t.Fatalf("asked twice: %v and %v", found, again)
			}
			if len(found.Moves) == 0 {
				if found.More {
					t.Fatal("nothing is moved, and more is promised")
				}
				return
			}
			moved := map[api.ID]bool{}
			for _, m := range found.Moves {
				if m.Gain < least || moved[m.Row.ID] {
					t.Fatalf("%+v gains less than %g, or moves a second time", m, least)
				}
				moved[m.Row.ID] = true
				carry(t, w, o, m)
			}
			if next := scheduler.Rebalance(w, most, least, o); !found.More && len(next.Moves) > 0 {
				t.Fatalf("nothing more was promised, and there is %+v", next.Moves)
			}
		}
	})
}

// drawUneven makes a cluster of which all is healthy and placed at times when other nodes were there.
func drawUneven(t *rapid.T) (*scheduler.World, scheduler.Options) {
	w, o := &scheduler.World{}, scheduler.Options{Algorithm: rapid.SampledFrom(api.Algorithms()).Draw(t, "algorithm")}
	node := func(i int) {
		n := drawNode(t, i)
		n.Status, n.Ineligible, n.Devices = api.NodeReady, false, nil
		n.Drivers = map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}
		n.Resources.CPU, n.Resources.Memory = n.Resources.CPU+500, n.Resources.Memory+500
		w.PutNode(n)
	}
	node(0)
	names := []string{"a", "b", "c", "d"}
	for i, name := range names[:rapid.IntRange(1, 4).Draw(t, "jobs")] {
		j := &api.Job{Name: name, Type: api.JobService, Priority: 50, Version: 1, ModifyIndex: w.Index() + 1,
			Scheduler: rapid.SampledFrom(append(api.Algorithms(), "", "", "")).Draw(t, "scheduler")}
		for _, task := range []string{"one", "two"}[:rapid.IntRange(1, 2).Draw(t, "tasks")] {
			d := drawTask(t, task)
			d.Devices = nil
			j.Tasks = append(j.Tasks, d)
		}
		w.PutJob(j)
		w.Apply(scheduler.Schedule(w, []*api.Evaluation{{ID: api.ID(i + 1), Job: name}}, scheduler.Options{Algorithm: rapid.SampledFrom(api.Algorithms()).Draw(t, "then")}))
		for row := range w.Allocations(name) {
			w.Report(row.ID, api.PhaseRunning, api.FailureNone)
		}
		for range rapid.IntRange(0, 2).Draw(t, "more nodes") {
			node(rapid.IntRange(1, 6).Draw(t, "which"))
		}
		// What has no place is not asked for: jobs that are not at rest are left alone.
		for _, task := range j.Tasks {
			task.Count = 0
			for row := range w.Allocations(name) {
				if row.Task == task.Name {
					task.Count++
				}
			}
		}
	}
	return w, o
}

// carry has an instance be where it was moved to, after the scheduler was asked where it would place it.
func carry(t *rapid.T, w *scheduler.World, o scheduler.Options, m scheduler.Relocation) {
	row, ports, _ := w.Allocation(m.Row.ID)
	nodes := slices.Collect(func(yield func(*api.Node) bool) {
		for n := range w.Nodes() {
			if !yield(n) {
				return
			}
		}
	})
	row.Desired, row.Phase = api.DesiredStop, api.PhaseComplete
	w.PutAllocation(row, ports)
	plan := scheduler.Schedule(w, []*api.Evaluation{{ID: 99, Job: row.Job}}, o)
	if p := plan.Jobs[0].Placements; len(p) != 1 || p[0].Slot != row.Slot || p[0].Node != nodes[m.To].ID {
		t.Fatalf("%s/%s[%d] is moved to %s, and the scheduler would place %+v", row.Job, row.Task, row.Slot, nodes[m.To].ID, p)
	}
	w.Apply(plan)
	for r := range w.Allocations(row.Job) {
		if r.Live() && r.Phase != api.PhaseRunning {
			w.Report(r.ID, api.PhaseRunning, api.FailureNone)
		}
	}
}
