package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const rankedTask = `
task "%s" {
  count    = %d
  priority = %d
  image    = "%s"
  args     = ["-listen", "none"]
  resources {
    cpu    = 0.01
    memory = 64
    disk   = %d
  }
}
`

// TestPreemption: where there is no room, and it is wanted, less important instances give way to what is run, the plan says so
// beforehand, and each says why it went.
func TestPreemption(t *testing.T) {
	f := newAlone(t, "127.0.9.42", "-config", write(t, "agent.hcl", "server {\n  preempt = [\"service\"]\n}\n"))
	nodes, _, err := f.up().ListNodes(t.Context(), api.Query{})
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	third := nodes[0].Resources.Disk / 3 // of what is reserved only
	task := func(name string, count, priority int, disk int64) string {
		return write(t, name+".hcl", fmt.Sprintf(rankedTask, name, count, priority, helloimage.Tag, disk))
	}
	f.does("task", "run", task("low", 3, 20, third))
	high := task("high", 1, 80, third+third/2)
	f.says(1, "2 less important instances give way: low[", "task", "plan", high)
	f.says(0, "", "task", "run", high)
	f.comesToSay(10*time.Second, "1/3", "task", "status", "low")
	allocs, _, err := f.up().JobAllocations(t.Context(), "low", api.Query{})
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, a := range allocs {
		if strings.Contains(a.DesiredReason, "gives way to high, whose priority is 80 and its own 20") {
			gone++
		}
	}
	if gone != 2 {
		t.Errorf("%d of low say that they gave way to high, want 2", gone)
	}
}
