package e2e

import (
	"errors"
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
	if code, out := f.cube("task", "run", task("low", 3, 20, third)); code != 0 {
		t.Fatalf("task run low ends with %d:\n%s", code, out)
	}
	high := task("high", 1, 80, third+third/2)
	code, out := f.cube("task", "plan", high)
	if code != 1 || !strings.Contains(out, "2 less important instances give way: low[") {
		t.Errorf("task plan high ends with %d:\n%s", code, out)
	}
	if code, out := f.cube("task", "run", high); code != 0 {
		t.Errorf("task run high ends with %d:\n%s", code, out)
	}
	f.eventually("low has one left", 10*time.Second, func() error {
		if _, out := f.cube("task", "status", "low"); !strings.Contains(out, "1/3") {
			return errors.New(out)
		}
		return nil
	})
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
