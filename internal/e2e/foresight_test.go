package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

// TestForesight asks what would happen without a node, kills it, and sees that it does.
func TestForesight(t *testing.T) {
	f := newFleet(t)
	file := write(t, "web.hcl", fmt.Sprintf(`task "web" {
  count = 6
  image = "%s"
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`, helloimage.Tag))
	f.does("task", "run", file)
	victim := f.places("web").fullest()

	code, out := f.cube("sim", "node-down", victim)
	if code != 0 || !strings.HasPrefix(out, "Everything fits: ") || !strings.Contains(out, victim+" (down)") {
		t.Errorf("sim node-down ends with %d:\n%s", code, out)
	}
	code, out = f.cube("sim", "node-down", "n1", "drain", "n2", "node-down", "n3")
	if code != 1 || !strings.HasPrefix(out, "NOT everything fits: 6 instances would have no place") {
		t.Errorf("without any node, sim ends with %d:\n%s", code, out)
	}
	if code, out = f.cube("sim", "scale", "web=9", "run", file); code != 0 || !strings.HasPrefix(out, "Everything fits") {
		t.Errorf("sim of a count and a file ends with %d:\n%s", code, out)
	}
	for _, bad := range [][]string{{"node-down", "n9"}, {"scale", "nope=3"}, {"scale", "web=many"}, {"eat", "n1"}} {
		if code, out := f.cube(append([]string{"sim"}, bad...)...); code != 255 || strings.Count(out, "\n") > 2 {
			t.Errorf("sim %v ends with %d:\n%s", bad, code, out)
		}
	}

	var sim api.Simulation
	code, out = f.cube("sim", "-json", "node-down", victim)
	if err := json.Unmarshal([]byte(out), &sim); code != 0 || err != nil || sim.Moved == 0 {
		t.Fatalf("sim -json ends with %d, %v:\n%s", code, err, out)
	}
	want := f.places("web")
	if len(want) == 0 || want[victim] != sim.Moved {
		t.Fatalf("%d instances of %v would move", sim.Moved, want)
	}
	delete(want, victim)
	for _, to := range sim.Jobs[0].Tasks[0].To {
		want[to.Node] += to.Count
	}
	for _, c := range f.clients {
		if c.name == victim {
			c.end(t, syscall.SIGKILL)
		}
	}
	f.eventually("what was simulated has happened", 30*time.Second, func() error {
		if got := f.places("web"); !maps.Equal(got, want) {
			return fmt.Errorf("instances are at %v, and were to be at %v", got, want)
		}
		return nil
	})
}

// TestClusterStatus looks at a cluster that could lose one of everything, and then has.
func TestClusterStatus(t *testing.T) {
	f := newFleet(t)
	file := write(t, "web.hcl", fmt.Sprintf(`task "web" {
  count = 3
  image = "%s"
  constraint { distinct_hosts = true }
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`, helloimage.Tag))
	status := func(holds func(*api.ClusterStatus) bool) string {
		t.Helper()
		var text string
		f.eventually("the cluster's status is as it should be", 20*time.Second, func() error {
			s, _, err := f.up().ClusterStatus(t.Context(), api.Query{})
			if err != nil || !holds(s) {
				return fmt.Errorf("%+v, %v", s, err)
			}
			var code int
			if code, text = f.cube("cluster", "status"); code != 0 {
				return fmt.Errorf("cluster status ends with %d:\n%s", code, text)
			}
			return nil
		})
		return text
	}
	text := status(func(s *api.ClusterStatus) bool {
		return s.Voters == 3 && s.Healthy == 3 && s.Spare == 1 && s.Nodes.Ready == 3 && s.Survival.Survives == api.SurvivesYes
	})
	if !strings.Contains(text, "survives the loss of 1 of 3 servers") || !strings.Contains(text, "any one node: yes") {
		t.Errorf("cluster status of an idle cluster:\n%s", text)
	}
	// With an instance of the task on every node, none could take another one.
	f.does("task", "run", file)
	text = status(func(s *api.ClusterStatus) bool {
		return s.Survival.Survives == api.SurvivesNo && s.Survival.Failing == 3
	})
	if !strings.Contains(text, "would not fit: constraint distinct_hosts") || !strings.Contains(text, "3 of 3 nodes cannot be spared") {
		t.Errorf("cluster status with a task on distinct hosts:\n%s", text)
	}
	leader := f.leader().name
	for _, s := range f.servers {
		if s.name != leader {
			s.end(t, syscall.SIGKILL)
			break
		}
	}
	text = status(func(s *api.ClusterStatus) bool { return s.Healthy == 2 && s.Spare == 0 })
	if !strings.Contains(text, "2 of 3 voters healthy; none of them can be lost") || !strings.Contains(text, "unhealthy") {
		t.Errorf("cluster status without one server:\n%s", text)
	}
}

// placed is how many instances run on each node, by name.
type placed map[string]int

func (p placed) fullest() (node string) {
	for n, count := range p {
		if node == "" || count > p[node] {
			node = n
		}
	}
	return node
}

func (f *fleet) places(job string) placed {
	f.t.Helper()
	allocs, _, err := f.up().JobAllocations(f.t.Context(), job, api.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	out := placed{}
	for _, a := range allocs {
		if a.Phase == api.PhaseRunning && a.Desired == api.DesiredRun {
			out[a.NodeName]++
		}
	}
	return out
}
