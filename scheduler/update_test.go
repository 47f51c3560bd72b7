package scheduler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/scheduler"
)

// TestAnUpdateCostsOneSlot rolls out a version whose instances start, fall ill, crash and recover as chance has it. At any
// time at most one slot is without a healthy instance, those apart whose new instance was healthy and fell ill again; and
// when all new instances are well in the end, all slots have one.
func TestAnUpdateCostsOneSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 8).Draw(t, "count")
		w := &scheduler.World{}
		w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 64000, Memory: 64000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
		version := func(n uint64, image string) {
			task := api.DefaultTask("web")
			task.Count, task.Image = count, image
			w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
		}
		schedule := func() {
			w.Apply(scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{}))
		}
		version(1, "v1")
		schedule()
		for row := range w.Allocations("web") {
			w.Report(row.ID, api.PhaseRunning, api.FailureNone)
		}
		version(2, "v2")
		was := map[uint32]bool{} // slots whose new instance has been healthy
		act := func(row api.AllocationRow, choice int) {
			switch {
			case !row.Live():
			case row.Desired == api.DesiredStop:
				w.Report(row.ID, api.PhaseComplete, api.FailureNone)
			case row.Version == 1:
			case choice == 0:
				w.Report(row.ID, api.PhasePending, api.FailureNone)
			case choice == 1:
				w.Report(row.ID, api.PhaseRunning, api.FailureNone)
				w.SetHealth(row.ID, api.HealthUnknown)
			case choice == 2:
				w.Report(row.ID, api.PhaseRunning, api.FailureNone)
				w.SetHealth(row.ID, api.HealthUnhealthy)
			default:
				w.Report(row.ID, api.PhaseRunning, api.FailureNone)
				was[row.Slot] = true
			}
		}
		without := func() (slots int) {
			well := map[uint32]bool{}
			for row := range w.Allocations("web") {
				well[row.Slot] = well[row.Slot] || row.Live() && row.Desired == api.DesiredRun && row.Health == api.HealthHealthy
			}
			for slot := range uint32(count) {
				if !well[slot] && !was[slot] {
					slots++
				}
			}
			return slots
		}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			for row := range w.Allocations("web") {
				if rapid.Bool().Draw(t, "acts") {
					act(row, rapid.IntRange(0, 5).Draw(t, "how"))
				}
			}
			schedule()
			if n := without(); n > 1 {
				t.Fatalf("%d slots are without a healthy instance", n)
			}
		}
		for range 3*count + 3 {
			for row := range w.Allocations("web") {
				act(row, 3)
			}
			schedule()
		}
		for row := range w.Allocations("web") {
			if row.Live() && (row.Version != 2 || row.Health != api.HealthHealthy) {
				t.Fatalf("the update did not end: %+v", row)
			}
		}
	})
}

// TestASuccessorTakesOverWhenItIsHealthy: whoever placed it beside its holder, what follows is the same.
func TestASuccessorTakesOverWhenItIsHealthy(t *testing.T) {
	for _, c := range []struct {
		name            string
		holder, version uint64 // of the holder, of the successor; 2 is in force
		phase           api.Phase
		health          api.HealthStatus
		want            []api.ID // stops: 1 is the holder
	}{
		{"it starts", 2, 2, api.PhasePending, api.HealthUnknown, nil},
		{"it runs and is not healthy", 2, 2, api.PhaseRunning, api.HealthUnhealthy, nil},
		{"it is healthy", 2, 2, api.PhaseRunning, api.HealthHealthy, []api.ID{1}},
		{"it is healthy and its holder is of an older version", 1, 2, api.PhaseRunning, api.HealthHealthy, []api.ID{1}},
		{"it is of an older version itself", 2, 1, api.PhaseRunning, api.HealthHealthy, []api.ID{2}},
		{"it has failed", 2, 2, api.PhaseFailed, api.HealthUnknown, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &scheduler.World{}
			w.PutNode(&api.Node{ID: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4096}, Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
			for n, image := range []string{"a", "b"} {
				task := api.DefaultTask("web")
				task.Image = image
				w.PutJob(&api.Job{Name: "web", Type: api.JobService, Version: uint64(n + 1), Tasks: []*api.Task{task}})
			}
			row := api.AllocationRow{Job: "web", Task: "web", Node: "n1", Version: c.holder, Phase: api.PhaseRunning, Health: api.HealthHealthy}
			row.Replaces = w.PutAllocation(row, nil)
			row.Version, row.Phase, row.Health = c.version, c.phase, c.health
			w.PutAllocation(row, nil)
			plan := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{}).Jobs[0]
			var stopped []api.ID
			for _, s := range plan.Stops {
				stopped = append(stopped, s.Allocation)
			}
			if !slices.Equal(stopped, c.want) || len(plan.Placements) > 0 {
				t.Fatalf("stops %v, want %v; places %v", plan.Stops, c.want, plan.Placements)
			}
		})
	}
}

// TestACanaryWaitsForWhatItIsPutBeside: where the old instance has ended, one of the old version comes back first. The roll-out goes
// on from there, so its evaluation stays open.
func TestACanaryWaitsForWhatItIsPutBeside(t *testing.T) {
	w := &scheduler.World{}
	w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4000},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	version := func(n uint64, image string) {
		task := api.DefaultTask("web")
		task.Image, task.Update.Canary = image, 1
		w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
	}
	schedule := func() api.JobPlan {
		plan := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{})
		w.Apply(plan)
		return plan.Jobs[0]
	}
	version(1, "v1")
	schedule()
	w.Report(1, api.PhaseLost, api.FailureNone)
	version(2, "v2")
	w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: api.DeploymentRunning, Tasks: []api.DeploymentTask{{Task: "web", Canaries: 1, Desired: 1}}})
	p := schedule()
	if len(p.Placements) != 1 || p.Placements[0].Version != 1 || p.Status != api.EvalBlocked || p.Message != "rolling update: waits for web[0] to run" {
		t.Fatalf("with nothing there: %+v", p)
	}
	w.Report(2, api.PhaseRunning, api.FailureNone)
	if p = schedule(); len(p.Placements) != 1 || p.Placements[0].Version != 2 || !p.Placements[0].Beside {
		t.Fatalf("with the old instance back: %+v", p)
	}
}

// TestWhatIsBegunEndsThoughItsTaskWaits: app waits for db, whose new instance failed, and has a successor beside its holder.
func TestWhatIsBegunEndsThoughItsTaskWaits(t *testing.T) {
	for _, c := range []struct {
		status api.DeploymentStatus
		want   api.ID // that is stopped
	}{
		{api.DeploymentRunning, 1}, // the holder: its successor is healthy
		{api.DeploymentFailed, 3},  // the successor
	} {
		w := &scheduler.World{}
		w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
		version := func(n uint64, image string) {
			app, db := api.DefaultTask("app"), api.DefaultTask("db")
			app.Image, db.Image, app.Update.Order = image, image, api.OrderStartFirst
			app.DependsOn = []api.Dependency{{Task: "db", Condition: api.DependHealthy}}
			w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{app, db}})
		}
		place := func(task string, version uint64, replaces api.ID) {
			w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: task, Version: version, Node: "n1", Replaces: replaces, Beside: replaces != 0}}}}})
		}
		version(1, "v1")
		place("app", 1, 0)
		place("db", 1, 0)
		version(2, "v2")
		w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: c.status})
		place("app", 2, 1)
		for id := range api.ID(3) {
			w.Report(id+1, api.PhaseRunning, api.FailureNone)
		}
		p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{}).Jobs[0]
		if !slices.ContainsFunc(p.Stops, func(s api.Stop) bool { return s.Allocation == c.want }) || p.Status != api.EvalBlocked {
			t.Errorf("while the deployment is %s: %+v", c.status, p)
		}
	}
}

// TestNoThirdOneWhileAPersonHasTheHolderStop: the successor takes over, and is itself of an older version by now.
func TestNoThirdOneWhileAPersonHasTheHolderStop(t *testing.T) {
	w := &scheduler.World{}
	w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4000},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	for n, image := range []string{"v1", "v2", "v3"} {
		task := api.DefaultTask("web")
		task.Image, task.Update.Order = image, api.OrderStartFirst
		w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: uint64(n + 1), ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
		if n < 2 {
			w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: "web", Version: uint64(n + 1), Node: "n1", Replaces: api.ID(n), Beside: n > 0}}}}})
		}
	}
	p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50, Stop: []api.ID{1}}}, scheduler.Options{}).Jobs[0]
	if len(p.Stops) != 1 || len(p.Placements) > 0 || p.Status != api.EvalBlocked {
		t.Errorf("%+v", p)
	}
}

// TestADrainPastAnUpdateThatIsHeldBack: what it would replace moves in its own version, one at a time, and only if another node takes
// it: no update will ever take it off the node.
func TestADrainPastAnUpdateThatIsHeldBack(t *testing.T) {
	for _, c := range []struct {
		status api.DeploymentStatus
		order  string
	}{{api.DeploymentFailed, api.OrderStartFirst}, {api.DeploymentPaused, api.OrderStartFirst}, {api.DeploymentFailed, api.OrderStopFirst}} {
		w := &scheduler.World{}
		node := func(name string, drain *api.Drain, eligible bool) {
			n := &api.Node{ID: name, Name: name, Status: api.NodeReady, Drain: drain, Resources: api.Resources{CPU: 4000, Memory: 4000},
				Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
			if !eligible {
				n.Ineligible = true
			}
			w.PutNode(n)
		}
		for n, image := range []string{"v1", "v2"} {
			task := api.DefaultTask("web")
			task.Image, task.Count, task.Migrate.Order = image, 2, c.order
			w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: uint64(n + 1), ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
			if n == 0 {
				node("n1", nil, true)
				for slot := range uint32(2) {
					w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: "web", Slot: slot, Version: 1, Node: "n1"}}}}})
					w.Report(api.ID(slot+1), api.PhaseRunning, api.FailureNone)
				}
			}
		}
		w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: c.status})
		node("n1", &api.Drain{Stage: api.DrainMoving, By: "ada"}, false)
		schedule := func() api.JobPlan {
			p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{})
			w.Apply(p)
			return p.Jobs[0]
		}
		if p := schedule(); len(p.Stops)+len(p.Placements) > 0 || p.Status != api.EvalBlocked {
			t.Fatalf("%s, %s, with no node to go to: %+v", c.status, c.order, p)
		}
		node("n2", nil, true)
		for slot := range uint32(2) {
			old, next := api.ID(slot+1), api.ID(slot+3)
			steps := []struct {
				when          string
				stops, places bool
				then          func()
			}{
				{"is to leave", true, false, nil},
				{"stops", false, false, func() { w.Report(old, api.PhaseComplete, api.FailureNone) }},
				{"has stopped", false, true, nil},
				{"starts", false, false, func() { w.Report(next, api.PhaseRunning, api.FailureNone) }},
			}
			if c.order == api.OrderStartFirst {
				steps = []struct {
					when          string
					stops, places bool
					then          func()
				}{
					{"is to leave", false, true, nil},
					{"starts elsewhere", false, false, func() { w.Report(next, api.PhaseRunning, api.FailureNone) }},
					{"is healthy elsewhere", true, slot == 0, func() { w.Report(old, api.PhaseComplete, api.FailureNone) }},
				}
				if slot == 1 {
					steps = steps[1:]
				}
			}
			for _, step := range steps {
				p := schedule()
				stops := len(p.Stops) == 1 && p.Stops[0].Allocation == old && p.Stops[0].Reason == "node n1 drained by ada"
				places := len(p.Placements) == 1 && p.Placements[0].Version == 1 && p.Placements[0].Node == "n2" && p.Placements[0].Beside == (c.order == api.OrderStartFirst)
				if stops != step.stops || places != step.places || !stops && len(p.Stops) > 0 || !places && len(p.Placements) > 0 {
					t.Fatalf("%s, %s, when web[%d] %s: %+v", c.status, c.order, slot, step.when, p)
				}
				if step.then != nil {
					step.then()
				}
			}
		}
		if p := schedule(); len(p.Stops)+len(p.Placements) > 0 {
			t.Errorf("%s, %s, when both have left: %+v", c.status, c.order, p)
		}
	}
}

// TestASuccessorOfItsOwnVersionThatMayStay: what a drain put beside its holder is what the next version asks for, by its node, and
// the holder is not: the one takes over as in any update, drained or not, held back or not.
func TestASuccessorOfItsOwnVersionThatMayStay(t *testing.T) {
	for _, c := range []struct {
		status api.DeploymentStatus
		drains bool // another node, on which the other slot is
	}{{api.DeploymentRunning, false}, {api.DeploymentRunning, true}} {
		w := &scheduler.World{}
		for name, drain := range map[string]*api.Drain{"n1": nil, "n2": nil, "n3": nil} {
			if c.drains && name == "n3" {
				drain = &api.Drain{Stage: api.DrainMoving, By: "ada"}
			}
			w.PutNode(&api.Node{ID: name, Name: name, Status: api.NodeReady, Drain: drain, Ineligible: drain != nil, Resources: api.Resources{CPU: 4000, Memory: 4000},
				Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
		}
		version := func(n uint64, on string) {
			task := api.DefaultTask("web")
			task.Count, task.Update.Order = 2, api.OrderStartFirst
			if on != "" {
				task.Constraints = []api.Constraint{{Attribute: "node.name", Operator: "!=", Value: on}}
			}
			w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
		}
		version(1, "")
		place := func(slot uint32, node string, replaces api.ID) {
			w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: "web", Slot: slot, Version: 1, Node: node, Replaces: replaces, Beside: replaces != 0}}}}})
		}
		place(0, "n1", 0)
		place(1, "n3", 0)
		place(0, "n2", 1)
		for id := range api.ID(3) {
			w.Report(id+1, api.PhaseRunning, api.FailureNone)
		}
		version(2, "n1")
		w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: c.status})
		p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{}).Jobs[0]
		if !slices.ContainsFunc(p.Stops, func(s api.Stop) bool { return s.Allocation == 1 }) || p.Status == api.EvalFailed {
			t.Errorf("%s, %v: %+v", c.status, c.drains, p)
		}
	}
}

// TestWhatARollOutThatIsHeldBackGoesBackTo: to a version that was good, as often as its task says; not to one that is known to be broken,
// nor from an automatic revert to what that reverted.
func TestWhatARollOutThatIsHeldBackGoesBackTo(t *testing.T) {
	canary := &api.Deployment{Job: "web", Version: 3, Status: api.DeploymentRunning, Tasks: []api.DeploymentTask{{Task: "web", Canaries: 1, Desired: 1}}}
	for _, c := range []struct {
		name    string
		d       *api.Deployment
		stable  bool // version 2, an instance of which has failed
		wait    time.Duration
		want    uint64 // the version that is placed; 0: none
		trial   uint32
		retried int // attempts that version 2 has
	}{
		{"it was good, and failed a moment ago", canary, true, 0, 0, 0, -1},
		{"it was good, and failed a while ago", canary, true, time.Minute, 2, 1, -1},
		{"it was good, and is not to be tried again", canary, true, time.Minute, 3, 0, 0},
		{"it never was", canary, false, 0, 3, 0, -1},
		{"it never was, and the next one is paused", &api.Deployment{Job: "web", Version: 3, Status: api.DeploymentPaused}, false, 0, 3, 0, -1},
		{"what reverts it has failed, too", &api.Deployment{Job: "web", Version: 3, Status: api.DeploymentFailed, Automatic: true}, true, 0, 3, 0, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &scheduler.World{}
			w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 4000, Memory: 4000},
				Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
			for n, image := range []string{"good", "bad", "good"} {
				task := api.DefaultTask("web")
				task.Image, task.Reschedule = image, api.DefaultReschedule(api.JobService)
				task.Reschedule.Attempts = c.retried
				w.PutJob(&api.Job{Name: "web", Type: api.JobService, Version: uint64(n + 1), Stable: n != 1 || c.stable, Tasks: []*api.Task{task}})
				if n == 1 {
					w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: "web", Version: 2, Node: "n1"}}}}})
					w.Report(1, api.PhaseFailed, api.FailureExit)
				}
			}
			w.PutDeployment(c.d)
			w.Pass(c.wait)
			p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{Now: w.Now()}).Jobs[0]
			switch {
			case c.want == 0 && (len(p.Placements) > 0 || p.WakeAt == 0 || !p.Status.Open()):
				t.Errorf("it is to wait: %+v", p)
			case c.want != 0 && (len(p.Placements) != 1 || p.Placements[0].Version != c.want || p.Placements[0].Trial.Used != c.trial):
				t.Errorf("want version %d, tried %d times: %+v", c.want, c.trial, p)
			}
		})
	}
}

// TestADrainCountsWhatTheUpdateHasBegunWith: an instance that is not healthy, with an unpromoted one beside it, is one that is out, so that a
// drain by stop-first takes no other.
func TestADrainCountsWhatTheUpdateHasBegunWith(t *testing.T) {
	for _, c := range []struct {
		health api.HealthStatus
		stops  int
	}{{api.HealthUnhealthy, 0}, {api.HealthHealthy, 1}} {
		w := &scheduler.World{}
		node := func(name string, drain *api.Drain) {
			w.PutNode(&api.Node{ID: name, Name: name, Status: api.NodeReady, Drain: drain, Ineligible: drain != nil, Resources: api.Resources{CPU: 4000, Memory: 4000},
				Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
		}
		node("n1", nil)
		version := func(n uint64, image string) {
			task := api.DefaultTask("web")
			task.Image, task.Count, task.Update.Canary, task.Migrate = image, 2, 1, api.Migrate{MaxParallel: 1, Order: api.OrderStopFirst}
			w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
		}
		version(1, "web:1")
		place := func(slot uint32, version uint64, node string, replaces api.ID) {
			w.Apply(&api.Plan{Jobs: []api.JobPlan{{Job: "web", Placements: []api.Placement{{Task: "web", Slot: slot, Version: version, Node: node, Replaces: replaces, Beside: replaces != 0}}}}})
		}
		place(0, 1, "n1", 0)
		place(1, 1, "n1", 0)
		node("n2", nil)
		version(2, "web:2")
		w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: api.DeploymentRunning, Tasks: []api.DeploymentTask{{Task: "web", Desired: 2, Canaries: 1}}})
		place(0, 2, "n2", 1)
		for id := range api.ID(2) {
			w.Report(id+1, api.PhaseRunning, api.FailureNone)
		}
		w.SetHealth(1, c.health)
		node("n1", &api.Drain{Stage: api.DrainMoving, By: "ada"})
		p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{}).Jobs[0]
		if len(p.Stops) != c.stops || c.stops > 0 && p.Stops[0].Allocation != 2 {
			t.Errorf("web[0] is %s: %+v", c.health, p)
		}
	}
}

// TestADrainSaysWhatItLeavesToTheUpdate: where the version in force has failed, and the one before it is broken, nothing is moved in
// either; the job is looked at again when what failed in the version before is succeeded.
func TestADrainSaysWhatItLeavesToTheUpdate(t *testing.T) {
	w := &scheduler.World{}
	node := func(name string, drain *api.Drain) {
		w.PutNode(&api.Node{ID: name, Name: name, Status: api.NodeReady, Drain: drain, Ineligible: drain != nil, Resources: api.Resources{CPU: 4000, Memory: 4000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	}
	version := func(n uint64, image string) {
		task := api.DefaultTask("web")
		task.Image, task.Count, task.Migrate = image, 2, api.Migrate{MaxParallel: 1, Order: api.OrderStopFirst}
		w.PutJob(&api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: n, ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}})
	}
	look := func() api.JobPlan {
		p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web", Priority: 50}}, scheduler.Options{})
		w.Apply(p)
		return p.Jobs[0]
	}
	node("n1", nil)
	version(1, "web:1")
	look()
	w.Report(1, api.PhaseRunning, api.FailureNone)
	w.Report(2, api.PhaseFailed, api.FailureExit)
	node("n2", nil)
	version(2, "web:2")
	w.PutDeployment(&api.Deployment{Job: "web", Version: 2, Status: api.DeploymentFailed})
	node("n1", &api.Drain{Stage: api.DrainMoving, By: "ada"})

	p := look()
	if len(p.Placements) != 1 || p.Placements[0].Version != 2 || len(p.Stops) != 0 || p.Status != api.EvalBlocked ||
		!strings.Contains(p.Message, "draining n1: web[0] leaves it with the update, or when its time is up") {
		t.Errorf("web[1] is to be of version 2, and web[0] to wait: %+v", p)
	}
	w.Report(3, api.PhaseRunning, api.FailureNone)
	w.SetHealth(3, api.HealthHealthy)
	if p := look(); len(p.Stops) != 1 || p.Stops[0].Allocation != 1 {
		t.Errorf("web[0] is to leave: %+v", p)
	}
}
