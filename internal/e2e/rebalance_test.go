package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const unevenTask = `
task "web" {
  count          = 4
  image          = "%s"
  shutdown_delay = "1s"
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
}
`

// TestRebalance has a second node join one on which all instances are, and half of them move there under requests, of which none
// may fail. Then there is nothing left to move.
func TestRebalance(t *testing.T) {
	f := newAlone(t, "127.0.9.44")
	if code, out := f.cube("task", "run", write(t, "web.hcl", fmt.Sprintf(unevenTask, helloimage.Tag))); code != 0 {
		t.Fatalf("task run ends with %d:\n%s", code, out)
	}
	f.deployed(1, api.DeploymentSuccessful)
	if code, out := f.cube("rebalance", "-plan"); code != 0 || !strings.Contains(out, "Nothing to move: each of 4 instances") {
		t.Errorf("with one node a plan ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("rebalance"); code != 0 || !strings.Contains(out, "Nothing to move") {
		t.Errorf("with one node a rebalance ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("rebalance", "-cancel"); code == 0 || !strings.Contains(out, "no rebalance is under way") {
		t.Errorf("cancelling nothing ends with %d:\n%s", code, out)
	}
	second := &process{name: "n2", bind: "127.0.9.45", dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.44"}}
	second.start(t)
	f.clients = append(f.clients, second)
	f.eventually("the second node is ready", 20*time.Second, func() error { return f.nodesReady(2) })

	code, out := f.cube("rebalance", "-plan")
	if code != 1 || !strings.Contains(out, "2 moves") || !strings.Contains(out, "nodes in use 1 -> 2") {
		t.Fatalf("the plan ends with %d:\n%s", code, out)
	}
	ctx, enough := context.WithCancel(t.Context())
	asked := make(chan int)
	go func() { asked <- f.ask(ctx) }()
	if code, out := f.cube("rebalance"); code != 0 || !strings.Contains(out, "2 of 2 instances moved") {
		t.Errorf("the rebalance ends with %d:\n%s", code, out)
	}
	enough()
	if n := <-asked; n < 20 {
		t.Errorf("only %d requests were made", n)
	}
	f.agree("web", 4, 10*time.Second)
	if code, out := f.cube("rebalance", "-plan"); code != 0 || !strings.Contains(out, "Nothing to move") {
		t.Errorf("afterwards the plan ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("rebalance", "-status"); code != 0 || strings.Count(out, " done ") != 2 {
		t.Errorf("rebalance -status ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("task", "timeline", "web"); code != 0 || !strings.Contains(out, "moved from n1 to n2 to balance, asked for by ") ||
		!strings.Contains(out, "placed on n2: moved to balance by ") {
		t.Errorf("the timeline ends with %d:\n%s", code, out)
	}
	allocs, _, err := f.up().JobAllocations(t.Context(), "web", api.Query{})
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]int{}
	for _, a := range allocs {
		if a.Desired == api.DesiredRun {
			on[a.NodeName]++
		}
	}
	if on["n1"] != 2 || on["n2"] != 2 {
		t.Errorf("the instances are on %v", on)
	}
}
