package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const drainedTask = `
task "web" {
  count = 4
  image = "%s"
  port "http" {}
  resources {
    cpu    = 0.05
    memory = 32
  }
  check "up" {
    type     = "http"
    path     = "/healthz"
    interval = "1s"
  }
  update {
    min_healthy_time = "500ms"
  }
  migrate {
    max_parallel = 2
  }
}

task "pinned" {
  image = "%s"
  args  = ["-listen", ""]
  constraint {
    attribute = "node.name"
    value     = "n1"
  }
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`

// TestDrain empties a node on real containers while another one takes its instances over: all of them stay healthy, the one that
// nobody else can take stays until the deadline, and each says why it went.
func TestDrain(t *testing.T) {
	f := newAlone(t, "127.0.9.12")
	file := write(t, "shop.hcl", "job \"web\" {\n"+fmt.Sprintf(drainedTask, helloimage.Tag, helloimage.Tag)+"}\n")
	if code, out := f.cube("task", "run", file); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}
	before := f.agree("web", 5, 10*time.Second)
	second := &process{name: "n2", bind: "127.0.9.13", dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.12"}}
	second.start(t)
	f.clients = append(f.clients, second)
	f.eventually("the second node is ready", 20*time.Second, func() error { return f.nodesReady(2) })

	for line, want := range map[string]string{
		"nope":                    "no node",
		"-deadline -1h n1":        "the deadline -1h0m0s is negative",
		"-cancel n1":              "is not being drained: there is nothing to cancel",
		"-keep-ineligible n1":     "-keep-ineligible goes with -cancel",
		"-force -deadline 1m n1":  "-force stops everything at once",
		"-cancel -message x n1":   "-message is for one that begins",
		"-message \x1b[31mred n1": "characters that cannot be shown",
	} {
		if code, out := f.cube(append([]string{"node", "drain"}, strings.Split(line, " ")...)...); code != 1 || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
			t.Errorf("node drain %s ends with %d, want one line with %q:\n%s", line, code, want, out)
		}
	}

	if code, out := f.cube("node", "drain", "-detach", "-deadline", "10s", "-message", "kernel update", "n1"); code != 0 || !strings.Contains(out, "being drained") {
		t.Fatalf("node drain ends with %d:\n%s", code, out)
	}
	stuck := false
	f.eventually("four have moved", 9*time.Second, func() error {
		allocs, _, err := f.up().JobAllocations(t.Context(), "web", api.Query{})
		if err != nil {
			return err
		}
		healthy, moved := []string{}, 0
		for _, a := range allocs {
			if a.Task == "web" && a.Health == api.HealthHealthy && a.Desired == api.DesiredRun && !slices.Contains(healthy, a.Name) {
				healthy = append(healthy, a.Name)
			}
			if a.Task == "web" && a.Health == api.HealthHealthy && a.NodeName == "n2" {
				moved++
			}
		}
		if len(healthy) < 4 {
			t.Errorf("only %v are healthy", healthy)
		}
		status, _, err := f.up().NodeDrain(t.Context(), "n1", api.Query{})
		if err != nil {
			return err
		}
		for _, left := range status.Left {
			stuck = stuck || left.Name == "web/pinned[0]" && left.Stuck && strings.Contains(left.Waits, "no other node can take it")
		}
		if moved != 4 || len(status.Left) != 1 {
			return fmt.Errorf("%d have: %q", moved, status.Lines())
		}
		return nil
	})
	if !stuck {
		t.Error("nothing was said of the instance that cannot move")
	}
	if code, out := f.cube("node", "status", "n1"); code != 0 || !strings.Contains(out, "web/pinned[0] cannot leave n1") || !strings.Contains(out, "node n1 is draining by ") {
		t.Errorf("node status ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("task", "explain", "web/pinned"); !strings.Contains(out, "being drained") {
		t.Errorf("task explain ends with %d:\n%s", code, out)
	}
	f.eventually("the drain is complete", 20*time.Second, func() error {
		n, _, err := f.up().Node(t.Context(), "n1", api.Query{})
		if err != nil || n.Drain == nil || n.Drain.Stage != api.DrainComplete {
			return fmt.Errorf("%+v, %v", n, err)
		}
		return nil
	})
	now := f.running()
	if len(now) != 4 || shared(before, now) != 0 {
		t.Errorf("there were %v, and there are %v", before, now)
	}
	allocs, _, err := f.up().JobAllocations(t.Context(), "web", api.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range allocs {
		if a.NodeName == "n1" && (!strings.HasPrefix(a.DesiredReason, "node n1 drained by ") || !strings.HasSuffix(a.DesiredReason, ": kernel update")) {
			t.Errorf("%s left because %q", a.Name, a.DesiredReason)
		}
	}
	if code, out := f.cube("node", "drain", "-cancel", "n1"); code != 1 || !strings.Contains(out, "is drained already") {
		t.Errorf("cancelling what is over ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("node", "eligibility", "-enable", "n1"); code != 0 {
		t.Errorf("node eligibility ends with %d:\n%s", code, out)
	}
	f.agree("web", 5, 10*time.Second)
}
