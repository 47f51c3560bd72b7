package e2e

import (
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
	f.does("task", "run", write(t, "web.hcl", fmt.Sprintf(unevenTask, helloimage.Tag)))
	f.deployed(1, api.DeploymentSuccessful)
	f.says(0, "Nothing to move: each of 4 instances", "rebalance", "-plan")
	f.says(0, "Nothing to move", "rebalance")
	f.says(255, "no rebalance is under way", "rebalance", "-cancel")
	f.join("n2", "127.0.9.45")

	if out := f.says(1, "2 moves", "rebalance", "-plan"); !strings.Contains(out, "nodes in use 1 -> 2") {
		t.Errorf("the plan does not say what it is for:\n%s", out)
	}
	f.underRequests(func() { f.says(0, "2 of 2 instances moved", "rebalance") })
	f.agree("web", 4, 10*time.Second)
	f.says(0, "Nothing to move", "rebalance", "-plan")
	if out := f.says(0, "", "rebalance", "-status"); strings.Count(out, " done ") != 2 {
		t.Errorf("rebalance -status does not say that two are done:\n%s", out)
	}
	if out := f.says(0, "moved from n1 to n2 to balance, asked for by ", "task", "timeline", "web"); !strings.Contains(out, "placed on n2: moved to balance by ") {
		t.Errorf("the timeline does not say where they were placed:\n%s", out)
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
