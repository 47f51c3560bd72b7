package fsm

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// withVolume is a job whose one task wants a volume.
func withVolume(name string, count int, source, access string) *api.Job {
	j := testJob(name, api.JobService, count)
	j.Tasks[0].Volumes = []api.VolumeRequest{{Name: "v", Source: source, Destination: "/v", Access: access}}
	return j
}

// volumeNodes registers nodes that have the volumes data, and const for reading.
func (c *cluster) volumeNodes(ids ...string) {
	for _, id := range ids {
		n := testNode(id)
		n.Volumes = []api.NodeVolume{{Name: "const", Path: "/const", ReadOnly: true}, {Name: "data", Path: "/data"}}
		c.ok(&RegisterNode{Node: n, Ready: true})
	}
}

// try places the job's instance of a slot, and returns why that was rejected.
func (c *cluster) try(job string, slot uint32, node string) string {
	p := c.plan(job, api.EvalComplete)
	c.put(p, slot, node)
	if r := c.ok(&CommitPlan{Plan: p}); len(r.Rejections) > 0 {
		return r.Rejections[0].Reason
	}
	return ""
}

func TestVolumesAreCheckedWhenAPlanIsCommitted(t *testing.T) {
	c := newCluster(t)
	c.volumeNodes("n1")
	c.nodes("n2")
	for _, j := range []*api.Job{
		withVolume("single", 2, "data", api.AccessSingleWriter), withVolume("multi", 2, "data", api.AccessMultiWriter),
		withVolume("reader", 2, "data", api.AccessMultiReader), withVolume("writer", 1, "const", api.AccessMultiWriter),
	} {
		c.register(j)
	}
	for _, step := range []struct {
		job, node string
		slot      uint32
		want      string
	}{
		{"single", "n2", 0, "no volume data"},
		{"writer", "n1", 0, "volume const is read-only"},
		{"reader", "n1", 0, ""},
		{"single", "n1", 0, ""},
		{"single", "n1", 1, "held by 1 writer and 1 reader"},
		{"multi", "n1", 0, "held by 1 writer and 1 reader"},
		{"reader", "n1", 1, ""},
	} {
		got := c.try(step.job, step.slot, step.node)
		if (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("%s[%d] on %s: %q, want %q", step.job, step.slot, step.node, got, step.want)
		}
	}
	hold := c.m.Snapshot().NodeVolumes("n1")["data"]
	equal(t, "writers", hold.Writers, 1)
	equal(t, "readers", hold.Readers, 2)
}

// TestNoTwoWriteAlone: whatever is placed and ended in whatever order, no volume is held by two of which one writes alone.
func TestNoTwoWriteAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t)
		c.volumeNodes("n1", "n2")
		accesses := api.Accesses()
		for _, access := range accesses {
			c.register(withVolume(access, 3, "data", access))
		}
		placed := map[string]bool{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			job := rapid.SampledFrom(accesses).Draw(rt, "job")
			slot := rapid.Uint32Range(0, 2).Draw(rt, "slot")
			node := rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node")
			if rapid.Bool().Draw(rt, "end") {
				for row := range c.m.Snapshot().JobRows(job) {
					if row.Slot == slot && row.Live() {
						c.report(row.ID, api.PhaseFailed)
					}
				}
				continue
			}
			if c.try(job, slot, node) == "" {
				placed[job] = true
			}
			for _, n := range []string{"n1", "n2"} {
				hold := c.m.Snapshot().NodeVolumes(n)["data"]
				if hold.Single && hold.Writers != 1 {
					rt.Fatalf("volume data of %s is held by %s, one of which writes alone", n, hold)
				}
			}
		}
	})
}
