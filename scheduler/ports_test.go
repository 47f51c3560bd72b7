package scheduler_test

import (
	"testing"

	"cube/api"
	"cube/scheduler"
)

// portWorld is one node with a service that asks for dynamic ports. All but free ports of the range are held.
func portWorld(count, ports, free int) *scheduler.World {
	w := &scheduler.World{}
	w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 64000, Memory: 1 << 20},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	t := api.DefaultTask("web")
	t.Count = count
	for i := range ports {
		t.Ports = append(t.Ports, api.Port{Label: string(rune('a' + i))})
	}
	w.PutJob(&api.Job{Name: "web", Type: api.JobService, Version: 1, Tasks: []*api.Task{t}})
	var held []api.PortBinding
	for port := api.MinDynamicPort; port <= api.MaxDynamicPort-free; port++ {
		held = append(held, api.PortBinding{Host: port, To: port})
	}
	w.PutAllocation(api.AllocationRow{Job: "hog", Task: "hog", Node: "n1"}, held)
	return w
}

func scheduleWeb(w *scheduler.World) api.JobPlan {
	p := scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{})
	w.Apply(p)
	return p.Jobs[0]
}

// TestDynamicPortsRunOut: five ports are enough for two instances that want two each, and the third is explained.
func TestDynamicPortsRunOut(t *testing.T) {
	j := scheduleWeb(portWorld(3, 2, 5))
	seen := map[int]bool{}
	for _, p := range j.Placements {
		for _, b := range p.Ports {
			if b.Host <= api.MaxDynamicPort-5 || b.Host > api.MaxDynamicPort || b.To != b.Host || seen[b.Host] {
				t.Errorf("%s[%d] was given %+v", p.Task, p.Slot, b)
			}
			seen[b.Host] = true
		}
	}
	if len(j.Placements) != 2 || len(seen) != 4 {
		t.Errorf("%d instances with %d ports are placed, not 2 with 4", len(j.Placements), len(seen))
	}
	const want = "web: 1 of 3 not placed: the only node has too few dynamic ports left (2 wanted, 1 free)"
	if got := j.Explanations[0].Lines(); len(got) != 1 || got[0] != want {
		t.Errorf("explained as %q, not %q", got, want)
	}
}

// TestDynamicPortsRotate: a port that was just given back is not the next one to be given away, and none is the lowest.
func TestDynamicPortsRotate(t *testing.T) {
	w := portWorld(1, 1, api.MaxDynamicPort-api.MinDynamicPort+1)
	seen := map[int]bool{}
	for range 20 {
		j := scheduleWeb(w)
		port := j.Placements[0].Ports[0].Host
		if seen[port] || port == api.MinDynamicPort {
			t.Fatalf("port %d comes back after %d others", port, len(seen))
		}
		seen[port] = true
		for row := range w.Allocations("web") {
			w.Report(row.ID, api.PhaseLost, api.FailureNone)
		}
	}
}

// TestPartsNeedRoom: an instance holds what its main container and its sidecars ask for together, and what runs alone if that
// is more.
func TestPartsNeedRoom(t *testing.T) {
	w := &scheduler.World{}
	w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 64000, Memory: 1000},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
	task := api.DefaultTask("web")
	task.Count = 3
	task.Parts = []api.Part{api.DefaultPart(api.PartPrestart, "migrate"), api.DefaultPart(api.PartSidecar, "proxy")}
	task.Parts[0].Resources = api.Resources{CPU: 1000, Memory: 100}
	task.Parts[1].Resources = api.Resources{CPU: 100, Memory: 300}
	w.PutJob(&api.Job{Name: "web", Type: api.JobService, Version: 1, Tasks: []*api.Task{task}})
	j := scheduleWeb(w)
	if want := (api.Resources{CPU: 1000, Memory: 428}); len(j.Placements) != 2 || j.Placements[0].Held != want {
		t.Errorf("placed are %+v; want two that hold %+v each", j.Placements, want)
	}
	const want = "web: 1 of 3 not placed: the only node lacks memory (428 MiB wanted, 144 MiB free)"
	if got := j.Explanations[0].Lines(); len(got) != 1 || got[0] != want {
		t.Errorf("explained as %q, not %q", got, want)
	}
}
