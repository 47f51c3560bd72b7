package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"cube/api"
)

// deviceNode has a group for each text like gpu:A100:id,id.
func deviceNode(id string, groups ...string) *api.Node {
	n := testNode(id)
	for _, g := range groups {
		parts := strings.Split(g, ":")
		n.Devices = append(n.Devices, api.DeviceGroup{Type: parts[0], Model: parts[1], IDs: strings.Split(parts[2], ",")})
	}
	return n
}

func deviceJob(name string, count int, requests ...api.DeviceRequest) *api.Job {
	j := testJob(name, api.JobService, count)
	j.Tasks[0].Devices = requests
	return j
}

func claims(kind string, share int, ids ...string) (out []api.DeviceClaim) {
	for _, id := range ids {
		out = append(out, api.DeviceClaim{Type: kind, ID: id, Share: share})
	}
	return out
}

// use is what is held of a node's devices, in one line.
func (c *cluster) use(node string) string {
	var out []string
	for _, d := range c.m.Snapshot().NodeDevices(node) {
		text := fmt.Sprintf("%s %s=%d", d.Type, d.ID, d.Held)
		if d.Gone {
			text += " gone"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestClaimsAreCheckedAgainstTheFacts(t *testing.T) {
	whole, half := api.DeviceRequest{Type: "gpu", Count: 2, Share: 1000}, api.DeviceRequest{Type: "gpu", Count: 1, Share: 500}
	nothing := func(*cluster) {}
	for _, tc := range []struct {
		name    string
		request api.DeviceRequest
		claims  []api.DeviceClaim
		edit    func(*cluster) // between planning and commit
		reason  string         // "" for accepted
	}{
		{"two that are free", whole, claims("gpu", 1000, "b", "a"), nothing, ""},
		{"half of one that is free", half, claims("gpu", 500, "c"), nothing, ""},
		{"one too few", whole, claims("gpu", 1000, "a"), nothing, "it claims 1 devices, its task asks for 2"},
		{"none", half, nil, nothing, "it claims 0 devices"},
		{"one too many", half, claims("gpu", 500, "a", "b"), nothing, "it claims 2 devices"},
		{"one twice", whole, claims("gpu", 1000, "a", "a"), nothing, "it claims gpu a twice"},
		{"too small a share", half, claims("gpu", 250, "a"), nothing, "it claims 250 thousandths of a gpu, its task asks for 500 of a gpu"},
		{"another type", half, claims("fpga", 500, "f"), nothing, "of a fpga, its task asks"},
		{"of another type", half, claims("gpu", 500, "f"), nothing, "its node has no gpu f"},
		{"an unknown one", half, claims("gpu", 500, "z"), nothing, "its node has no gpu z"},
		{"unlike ones", whole, claims("gpu", 1000, "b", "c"), nothing, "are not alike"},
		{"one that another has", whole, claims("gpu", 1000, "a", "b"), func(c *cluster) { c.hold("n1", "gpu", 100, "b") },
			"gpu b of its node has 900 of 1000 thousandths left, it claims 1000"},
		{"one that another has enough of", half, claims("gpu", 500, "a"), func(c *cluster) { c.hold("n1", "gpu", 501, "a") },
			"gpu a of its node has 499 of 1000"},
		{"one that another leaves enough of", half, claims("gpu", 500, "a"), func(c *cluster) { c.hold("n1", "gpu", 500, "a") }, ""},
		{"one that went", half, claims("gpu", 500, "c"),
			func(c *cluster) { c.ok(&RegisterNode{Node: deviceNode("n1", "gpu:A100:a,b"), Ready: true}) }, "its node has no gpu c"},
		{"one that is something else now", half, claims("gpu", 500, "a"),
			func(c *cluster) { c.ok(&RegisterNode{Node: deviceNode("n1", "fpga::a"), Ready: true}) }, "its node has no gpu a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			c.ok(&RegisterNode{Node: deviceNode("n1", "fpga::f", "gpu:A100:a,b", "gpu:T4:c"), Ready: true})
			c.register(deviceJob("web", 1, tc.request))
			p := c.plan("web", api.EvalComplete)
			c.put(p, 0, "n1").Devices = tc.claims
			tc.edit(c)
			r := c.ok(&CommitPlan{Plan: p})
			if tc.reason == "" {
				equal(t, "accepted", r.Accepted, 1)
				equals(t, "claims", c.m.Snapshot().Claims(c.live("web")[0]), tc.claims)
				return
			}
			if len(r.Rejections) != 1 || !strings.Contains(r.Rejections[0].Reason, tc.reason) {
				t.Fatalf("rejections: %+v, want %q", r.Rejections, tc.reason)
			}
		})
	}
	c := newCluster(t)
	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu::a"), Ready: true})
	c.register(testJob("web", api.JobService, 1))
	p := c.plan("web", api.EvalComplete)
	c.put(p, 0, "n1").Devices = claims("gpu", 1000, "a")
	equal(t, "a task that asks for none", c.ok(&CommitPlan{Plan: p}).Accepted, 0)
}

// hold has another job take a share of a device.
func (c *cluster) hold(node, kind string, share int, id string) api.ID {
	c.t.Helper()
	c.register(deviceJob("holder", 1, api.DeviceRequest{Type: kind, Count: 1, Share: share}))
	p := c.plan("holder", api.EvalComplete)
	c.put(p, 0, node).Devices = claims(kind, share, id)
	if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
		c.t.Fatalf("hold: %v", r.Rejections)
	}
	return c.live("holder")[0]
}

// TestOneEntryDoesNotGiveADeviceTwice: the placements before it in the entry count too.
func TestOneEntryDoesNotGiveADeviceTwice(t *testing.T) {
	c := newCluster(t)
	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu::a,b"), Ready: true})
	c.register(deviceJob("web", 4, api.DeviceRequest{Type: "gpu", Count: 1, Share: 400}))
	p := c.plan("web", api.EvalComplete)
	for slot := range uint32(4) {
		c.put(p, slot, "n1").Devices = claims("gpu", 400, []string{"a", "a", "a", "b"}[slot])
	}
	r := c.ok(&CommitPlan{Plan: p})
	equal(t, "accepted", r.Accepted, 3)
	equal(t, "rejected", r.Rejections[0].Slot, 2)
	equal(t, "use", c.use("n1"), "gpu a=800, gpu b=400")
}

func TestADeviceIsHeldUntilItsHolderHasEnded(t *testing.T) {
	c := newCluster(t)
	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu:A100:a,b"), Ready: true})
	before := c.m.Snapshot()
	id := c.hold("n1", "gpu", 300, "b")
	equal(t, "held", c.use("n1"), "gpu a=0, gpu b=300")
	equal(t, "what was read stays", before.NodeDevices("n1")[1].Held, 0)
	for node, held := range c.m.Snapshot().DevicesHeld() {
		equal(t, "ordinal", node, 0)
		equals(t, "held", held, []int16{0, 300})
	}
	freed := c.m.Snapshot().freed
	c.ok(&StopJob{Name: "holder"})
	p := c.plan("holder", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: id}}
	c.ok(&CommitPlan{Plan: p})
	equal(t, "until its client says so", c.use("n1"), "gpu a=0, gpu b=300")
	c.report(id, api.PhaseComplete)
	equal(t, "then", c.use("n1"), "gpu a=0, gpu b=0")
	equal(t, "waiting evaluations hear of it", c.m.Snapshot().freed > freed, true)
	equals(t, "what it had is known", c.m.Snapshot().Claims(id), claims("gpu", 300, "b"))
	a, _ := c.m.Snapshot().Allocation(id)
	equals(t, "to people too", a.Devices, claims("gpu", 300, "b"))
	c.ok(&Reap{Allocations: []api.ID{id}})
	equal(t, "until the row goes", len(c.m.Snapshot().Claims(id)), 0)

	id = c.hold("n1", "gpu", 1000, "a")
	c.ok(&NodesDown{Nodes: []string{"n1"}})
	equal(t, "phase", c.phase(id), api.PhaseLost)
	equal(t, "a lost one holds nothing", c.use("n1"), "gpu a=0, gpu b=0")
	equal(t, "an unknown node", c.use("n9"), "")
}

// TestDevicesThatGo: what is held stays held, nothing new comes, and a device that is back is as full as it was.
func TestDevicesThatGo(t *testing.T) {
	c := newCluster(t)
	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu:A100:a,b"), Ready: true})
	id := c.hold("n1", "gpu", 700, "b")
	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu:A100:a"), Ready: true})
	equal(t, "gone", c.use("n1"), "gpu a=0, gpu b=700 gone")
	for _, held := range c.m.Snapshot().DevicesHeld() {
		equals(t, "what there is", held, []int16{0})
	}
	raw := persisted(t, c.m.Snapshot())
	restored := New()
	if err := restored.Restore(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	equal(t, "restored", bytes.Equal(persisted(t, restored.Snapshot()), raw), true)
	equal(t, "restored", fmt.Sprint(restored.Snapshot().NodeDevices("n1")), fmt.Sprint(c.m.Snapshot().NodeDevices("n1")))

	c.ok(&RegisterNode{Node: deviceNode("n1", "gpu:A100:c", "gpu:H100:b"), Ready: true})
	equal(t, "back elsewhere", c.use("n1"), "gpu c=0, gpu b=700")
	c.ok(&RegisterNode{Node: testNode("n1"), Ready: true})
	equal(t, "all gone", c.use("n1"), "gpu b=700 gone")
	c.report(id, api.PhaseFailed)
	equal(t, "its holder ended", c.use("n1"), "")
	if err := restored.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	equals(t, "what it had is known", restored.Snapshot().Claims(id), claims("gpu", 700, "b"))

	c.refused(api.CodeInvalid, &RegisterNode{Node: deviceNode("n1", "gpu::a,b", "gpu:T4:b")})
}
