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
	f.does("task", "run", file)
	before := f.agree("web", 5, 10*time.Second)
	f.join("n2", "127.0.9.13")

	for line, want := range map[string]string{
		"nope":                    "no node",
		"-deadline -1h n1":        "the deadline -1h0m0s is negative",
		"-cancel n1":              "is not being drained: there is nothing to cancel",
		"-keep-ineligible n1":     "-keep-ineligible goes with -cancel",
		"-force -deadline 1m n1":  "-force stops everything at once",
		"-cancel -message x n1":   "-message is for one that begins",
		"-message \x1b[31mred n1": "characters that cannot be shown",
	} {
		if out := f.says(1, want, append([]string{"node", "drain"}, strings.Split(line, " ")...)...); strings.Count(out, "\n") != 1 {
			t.Errorf("node drain %s does not say one line:\n%s", line, out)
		}
	}

	f.says(0, "being drained", "node", "drain", "-detach", "-deadline", "10s", "-message", "kernel update", "n1")
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
	if out := f.says(0, "web/pinned[0] cannot leave n1", "node", "status", "n1"); !strings.Contains(out, "node n1 is draining by ") {
		t.Errorf("node status does not say that it is draining:\n%s", out)
	}
	f.says(0, "being drained", "task", "explain", "web/pinned")
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
	f.says(1, "is drained already", "node", "drain", "-cancel", "n1")
	f.says(0, "", "node", "eligibility", "-enable", "n1")
	f.agree("web", 5, 10*time.Second)
}
