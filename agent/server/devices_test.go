package server

import (
	"context"
	"slices"
	"testing"

	"cube/api"
	"cube/internal/memnet"
)

// TestDevicesOnTheirWay: what a node announces reaches the scheduler, what the scheduler claims reaches the node with the
// assignment and people with the allocation and the node, and what ends makes room for who waited.
func TestDevicesOnTheirWay(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m)
		n := c.node(1)
		n.row.Devices = []api.DeviceGroup{{Type: "gpu", Model: "A100", IDs: []string{"GPU-a", "GPU-b"}, Attributes: map[string]string{"memory": "40960"}}}
		n.connect(m)
		n.register(m)
		j := job("train", 3)
		j.Tasks[0].Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: 600,
			Constraints: []api.Constraint{{Attribute: "device.memory", Operator: ">=", Value: "40000"}}}}
		m.register(j)

		poll := n.poll()
		var ids []string
		for _, a := range poll.Assignments {
			if len(a.Devices) != 1 || a.Devices[0].Type != "gpu" || a.Devices[0].Share != 600 {
				t.Fatalf("an assignment claims %+v", a.Devices)
			}
			ids = append(ids, a.Devices[0].ID)
		}
		if slices.Sort(ids); !slices.Equal(ids, []string{"GPU-a", "GPU-b"}) {
			t.Fatalf("the node is to use %v", ids)
		}
		n.run(m, poll.Assignments)

		allocations, _, err := m.ListAllocations(ctx, api.Query{})
		if err != nil || len(allocations) != 2 || len(allocations[0].Devices) != 1 || allocations[0].Devices[0].Share != 600 {
			t.Errorf("the allocations: %+v, %v", allocations, err)
		}
		view, _, err := m.Node(ctx, n.row.ID, api.Query{})
		want := []api.DeviceUse{{Type: "gpu", Model: "A100", ID: "GPU-a", Held: 600}, {Type: "gpu", Model: "A100", ID: "GPU-b", Held: 600}}
		if err != nil || !slices.Equal(view.DeviceUse, want) {
			t.Errorf("the node's devices: %+v, %v", view.DeviceUse, err)
		}
		status, _, err := m.Job(ctx, "train", api.Query{})
		if err != nil || status.Summary.Status == api.JobRunning {
			t.Errorf("two of three, and the job is %s, %v", status.Summary.Status, err)
		}

		// The first ends for good: its slot stays down, and who waited takes its place.
		first := poll.Assignments[0]
		if _, err := m.Report(ctx, &api.Report{Node: n.row.ID, Incarnation: n.row.Incarnation,
			Statuses: []api.AllocationStatus{{ID: first.ID, Seq: first.Seq + 2, Phase: api.PhaseFailed, ExitCode: 1, FinishedAt: 2}}}); err != nil {
			t.Fatal(err)
		}
		next := n.poll()
		if len(next.Assignments) != 1 || !slices.Equal(next.Assignments[0].Devices, first.Devices) {
			t.Errorf("polled %+v, want one with %v", next.Assignments, first.Devices)
		}
	})
}
