package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm/balance"
	"cube/fsm/deployment"
	"cube/fsm/launch"
)

// TestAnyHistory drives random commands, sensible and not, and checks every invariant after every entry. Then the same
// log goes into a second machine, and into a third one through a snapshot at a random point: all must end up the same,
// byte for byte. On a failure rapid prints the seed and the shortest history it finds.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{cluster: newCluster(rt), rt: rt}
		first := &told{}
		h.m.Observe(first)
		if h.n(4, "tells") > 0 {
			h.ok(&RaiseRules{Version: rulesTell})
		}
		for range rapid.SampledFrom([]int{150, 40, 10}).Draw(rt, "steps") {
			h.step()
		}
		want := persisted(rt, h.m.Snapshot())

		first.explain(rt, h.m.Snapshot())
		again := &told{}
		second := New()
		second.Observe(again)
		replay(rt, second, h.log, 0)
		if !slices.Equal(again.events, first.events) {
			rt.Fatalf("the same log tells of other events")
		}
		if got := persisted(rt, second.Snapshot()); !bytes.Equal(got, want) {
			rt.Fatalf("the same log gives another state")
		}
		at := rapid.IntRange(0, len(h.log)).Draw(rt, "snapshot at")
		half := replay(rt, New(), h.log[:at], 0)
		third, rest := New(), &told{}
		third.Observe(rest)
		third.Apply(1, &Command{Body: &RegisterNode{Node: testNode("to be replaced")}})
		if err := third.Restore(bytes.NewReader(persisted(rt, half.Snapshot()))); err != nil {
			rt.Fatalf("restore: %v", err)
		}
		if errs := Check(third.Snapshot()); len(errs) > 0 {
			rt.Fatalf("after the restore: %v", errs)
		}
		if rest.restored != uint64(at) || len(rest.events) > 0 {
			rt.Fatalf("a restore at %d is told as one at %d", at, rest.restored)
		}
		replay(rt, third, h.log, at)
		if after := first.after(uint64(at)); !slices.Equal(rest.events, after) {
			rt.Fatalf("after a snapshot at %d the log tells of other events", at)
		}
		if got := persisted(rt, third.Snapshot()); !bytes.Equal(got, want) {
			rt.Fatalf("a snapshot after %d of %d entries leads to another state", at, len(h.log))
		}
		if third.Snapshot().Fingerprint() != h.m.Snapshot().Fingerprint() {
			rt.Fatalf("equal bytes, other fingerprints")
		}
	})
}

// replay applies a log's entries from the given one on, and checks that the reads that scheduling rests on go alike.
func replay(t failer, m *Machine, log [][]byte, from int) *Machine {
	t.Helper()
	for i, raw := range log[from:] {
		c, err := Decode(raw)
		if err != nil {
			t.Fatalf("entry %d: %v", from+i+1, err)
		}
		m.Apply(uint64(from+i+1), c)
	}
	if errs := Check(m.Snapshot()); len(errs) > 0 {
		t.Fatalf("after the replay: %v", errs)
	}
	return m
}

type history struct {
	*cluster
	rt    *rapid.T
	draws uint64
	past  *Snapshot // what a slow scheduler plans on
}

// n draws a number below limit, evenly. What rapid draws leans to the smallest values, which makes dull histories, so it
// is stirred with the number of draws before it.
func (h *history) n(limit int, what string) int {
	h.draws++
	v := (rapid.Uint64().Draw(h.rt, what) + h.draws) * 0x9e3779b97f4a7c15
	return int(v >> 33 % uint64(limit))
}

func (h *history) name(prefix string, of int) string {
	return fmt.Sprintf("%s%d", prefix, h.n(of, prefix))
}

func pick[T any](h *history, from []T, what string) (v T) {
	if len(from) > 0 {
		v = from[h.n(len(from), what)]
	}
	return v
}

// eligibility has a node take no more, or take some again, in one of the ways there are.
func (h *history) eligibility() {
	node := h.name("node", 5)
	switch h.n(8, "eligibility") {
	case 6:
		h.apply(&Rebalance{Cancel: h.n(4, "cancel") == 0})
	case 7:
		var moves []api.Move
		for row := range h.m.Snapshot().Rows() {
			if h.n(2, "moves") == 0 {
				moves = append(moves, api.Move{Allocation: row.ID, Job: row.Job, Task: row.Task, Slot: row.Slot, From: row.Node, To: node})
			}
		}
		h.apply(&Rebalance{Begin: &balance.Order{Budget: api.RebalanceBudget{MaxMoves: 2, MinGain: 1, Per: pick(h, []time.Duration{0, time.Second}, "per")}, Moves: moves}})
	case 0:
		h.apply(&DrainNode{Node: node, Begin: &api.DrainRequest{Deadline: pick(h, []time.Duration{0, time.Second, time.Minute}, "deadline"), IgnoreSystem: h.n(2, "system") == 0}})
	case 1, 2:
		h.apply(&DrainNode{Node: node})
	case 3:
		h.apply(&DrainNode{Node: node, Cancel: &api.CancelDrainRequest{KeepIneligible: h.n(4, "keep") == 0}})
	default:
		h.apply(&SetEligibility{Node: node, Ineligible: h.n(4, "ineligible") == 0, Dated: h.n(2, "dated") == 0, Reason: []string{"", "new disks"}[h.n(2, "reason")]})
	}
}

func (h *history) step() {
	if h.past == nil || h.n(3, "look") > 0 {
		h.past = h.m.Snapshot()
	}
	if h.index < 5 {
		h.ok(&RegisterNode{Node: h.node(), Ready: true})
	}
	h.wait(pick(h, []time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, time.Second, time.Minute, 11 * time.Minute, 25 * time.Hour}, "wait"))
	switch h.n(18, "step") {
	case 16:
		if d := h.deployment(); d != nil {
			h.apply(&SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: pick(h, []string{api.DeploymentPause, api.DeploymentResume,
				api.DeploymentPromote, api.DeploymentFail, "dance"}, "action")}})
		}
	case 17:
		if d := h.deployment(); d != nil {
			h.apply(&JudgeDeployments{Moves: []deployment.Move{{ID: d.ID, Seen: d.ModifyIndex, Reason: "so", Tasks: d.Tasks, Healthy: h.n(3, "healthy"),
				To: pick(h, []string{api.MoveProgress, api.MovePromote, api.MoveSucceed, api.MoveSucceed, api.MoveFail}, "move")}}})
		}
	case 0, 1:
		h.request(pick(h, []string{"", "", "r1", "r2"}, "request"), &RegisterJobs{Jobs: h.jobs(), Deploy: h.n(4, "deploy") > 0})
	case 2:
		if h.n(4, "stop") == 0 {
			h.apply(&StopJob{Name: h.name("job", 3), NoShutdownDelay: h.n(3, "hurry") == 0})
		}
	case 3:
		h.apply(&StopAllocation{ID: h.allocation(), NoShutdownDelay: h.n(3, "hurry") == 0})
	case 4:
		h.apply(&RegisterNode{Node: h.node(), Ready: h.n(4, "ready") > 0})
	case 5:
		h.apply(&NodeReady{Node: h.name("node", 5), Incarnation: uint64(h.n(3, "incarnation"))})
	case 6:
		if h.n(4, "down") == 0 {
			h.apply(&NodesDown{Nodes: []string{h.name("node", 5), h.name("node", 5)}, Reason: "gone"})
		}
	case 7:
		h.eligibility()
	case 8, 9, 10, 11:
		h.apply(&CommitPlan{Plan: h.someplan()})
	case 12, 13:
		h.apply(&UpdateStatuses{Reports: h.reports()})
	case 14:
		h.reapSome()
	case 15:
		h.launches()
		switch h.n(9, "epoch") {
		case 0, 1:
			h.apply(&RaiseEpoch{})
		case 2:
			h.apply(&TagVersion{Name: h.name("job", 3), Version: h.version(), Tag: h.name("tag", 3), Remove: h.n(3, "remove") == 0})
		case 3, 4:
			h.request(pick(h, []string{"", "r3"}, "request"), &RevertJob{Name: h.name("job", 3), To: h.version(), Deploy: h.n(2, "deploy") > 0})
		case 5:
			h.apply(&RestartJob{Name: h.name("job", 3), RestartRequest: api.RestartRequest{Task: pick(h, []string{"", "side", "job0"}, "task"),
				Instances: pick(h, [][]int{nil, {0}, {2, 1}}, "instances")}, Deploy: h.n(2, "deploy") > 0})
		default:
			h.apply(&ScaleJob{Name: h.name("job", 3), Task: pick(h, []string{"", "side", "job0"}, "task"), Count: h.n(6, "count"), CheckIndex: h.check()})
		}
	}
}

// launches draws an order for what came due, or for what somebody asks for.
func (h *history) launches() {
	switch h.n(4, "launch") {
	case 0:
		h.apply(&LaunchJob{launch.Order{Name: h.name("job", 3), Time: h.at/int64(time.Second) - int64(h.n(3, "time")-1), Missed: h.n(8, "missed") == 0}})
	case 1, 2:
		r := &api.DispatchRequest{ID: pick(h, []string{"", "a", "b"}, "id"), Payload: pick(h, [][]byte{nil, nil, {0}}, "payload")}
		if h.n(3, "meta") == 0 {
			r.Meta = map[string]string{"size": h.name("size", 2)}
		}
		h.request(pick(h, []string{"", "r4"}, "request"), &LaunchJob{launch.Order{Name: pick(h, []string{"job1", "job1", "job1", h.name("job", 3)}, "parent"), Asked: r}})
	}
}

func (h *history) jobs() (out []*api.Job) {
	for range 1 + h.n(2, "jobs") {
		j := testJob(h.name("job", 3), pick(h, []api.JobType{api.JobService, api.JobBatch}, "type"), 1+h.n(5, "count"))
		if h.n(3, "kept") == 0 {
			j.Tasks[0].Disconnect.LostAfter = time.Hour
		}
		if j.Name == "job2" { // mostly: the other kinds do not become one another
			j.Type = pick(h, []api.JobType{api.JobSystem, api.JobSysbatch, api.JobSystem, api.JobSysbatch, api.JobService}, "type")
		}
		if j.Name == "job1" && h.n(3, "periodic") > 0 {
			j.Type, j.Periodic = api.JobBatch, &api.Periodic{Crons: []string{"* * * * *"}, ProhibitOverlap: h.n(2, "overlap") == 0}
			if h.n(2, "parameterized") == 0 {
				j.Periodic, j.Parameterized = nil, &api.Parameterized{Payload: api.PayloadOptional, MetaOptional: []string{"size"}}
			}
		}
		j.Priority = 50 + h.n(2, "priority")
		j.Tasks[0].Image = h.name("image", 2)
		j.Tasks[0].Update.Canary, j.Tasks[0].Update.AutoRevert = h.n(3, "canary"), h.n(3, "revert") > 0
		if h.n(3, "tasks") == 0 {
			second := api.DefaultTask("side")
			second.Count = h.n(3, "count")
			j.Tasks = append(j.Tasks, second)
		}
		switch h.n(4, "devices") {
		case 0:
			j.Tasks[0].Devices = []api.DeviceRequest{{Type: "gpu", Count: 1, Share: 250 * (1 + h.n(3, "share"))}}
		case 1:
			j.Tasks[0].Devices = []api.DeviceRequest{{Type: "fpga", Count: 1, Share: 1000}, {Type: "gpu", Count: 1 + h.n(2, "count"), Share: 1000}}
		}
		out = append(out, j)
	}
	return out
}

func (h *history) version() string {
	return pick(h, []string{api.VersionPrevious, api.VersionCurrent, "1", "2", "tag0", "tag1"}, "version")
}

// check draws the index that a change was decided on, mostly none.
func (h *history) check() *uint64 {
	j := h.past.Job("job0")
	if j == nil || h.n(4, "check") > 0 {
		return nil
	}
	return &j.ModifyIndex
}

func (h *history) node() *api.Node {
	n := testNode(h.name("node", 4))
	n.Resources = api.Resources{CPU: int64(200 * h.n(20, "cpu")), Memory: 1024, Disk: 10}
	n.Incarnation = uint64(h.n(3, "incarnation"))
	for from := 0; from < 6; { // the same few IDs, now in one group, now in another, now in none
		g := api.DeviceGroup{Type: pick(h, []string{"fpga", "gpu", "gpu"}, "device type"), Model: h.name("model", 2)}
		for range 1 + h.n(3, "devices") {
			g.IDs = append(g.IDs, fmt.Sprintf("dev%d", from))
			from++
		}
		if h.n(4, "gone") > 0 {
			n.Devices = append(n.Devices, g)
		}
	}
	api.SortDevices(n.Devices)
	return n
}

// claims draws what a task asks for of a node's devices, right for the most part.
func (h *history) claims(task *api.Task, node *api.Node) (claims []api.DeviceClaim) {
	for _, d := range task.Devices {
		var ids []string
		for _, g := range node.Devices {
			if g.Type == d.Type && (len(ids) < d.Count || h.n(8, "mix") == 0) {
				ids = append(ids, g.IDs...)
			}
		}
		for range d.Count {
			share := d.Share
			if h.n(16, "other share") == 0 {
				share = h.n(1100, "share")
			}
			if len(ids) > 0 {
				i := h.n(len(ids), "device")
				claims = append(claims, api.DeviceClaim{Type: d.Type, ID: ids[i], Share: share})
				ids = slices.Delete(ids, i, i+1)
			}
		}
	}
	return claims
}

// deployment draws one, that of a version in force mostly.
func (h *history) deployment() *api.Deployment {
	d := h.past.Deployment(h.name("job", 3))
	if all := h.past.deployments.OfJob(h.name("job", 3)); h.n(4, "old one") == 0 {
		d = pick(h, all, "deployment")
	}
	return d
}

// allocation draws one that exists, mostly.
func (h *history) allocation() api.ID {
	var ids []api.ID
	for row := range h.past.Rows() {
		if row.Live() || h.n(8, "ended") == 0 {
			ids = append(ids, row.ID)
		}
	}
	return pick(h, append(ids, 12345), "allocation")
}

func (h *history) someplan() *api.Plan {
	p := &api.Plan{BaseIndex: h.past.Index()}
	for range 1 + h.n(2, "plans") {
		job := h.past.Job(h.name("job", 3))
		if job == nil {
			continue
		}
		jp := api.JobPlan{Job: job.Name, JobModifyIndex: job.ModifyIndex, Message: "so it is",
			Status: pick(h, []api.EvaluationStatus{api.EvalPending, api.EvalBlocked, api.EvalComplete, api.EvalFailed}, "status")}
		if e := h.past.Open(job.Name); e != nil {
			jp.Evaluation = e.ID
		}
		if h.n(3, "time") == 0 {
			jp.WakeAt = h.past.Now() + int64(time.Duration(h.n(5, "wake"))*time.Minute) + 1
			jp.Status = pick(h, []api.EvaluationStatus{api.EvalWaiting, api.EvalWaiting, jp.Status}, "status")
		}
		for range h.n(5, "placements") {
			jp.Placements = append(jp.Placements, h.placement(job, &jp))
		}
		if h.n(3, "stop") == 0 {
			jp.Stops = append(jp.Stops, api.Stop{Allocation: h.allocation(), Reason: "enough"})
		}
		if h.n(3, "in place") == 0 {
			jp.InPlace = append(jp.InPlace, h.allocation())
		}
		p.Jobs = append(p.Jobs, jp)
	}
	return p
}

func (h *history) placement(job *api.Job, jp *api.JobPlan) api.Placement {
	task := pick(h, job.Tasks, "task")
	p := api.Placement{Task: task.Name, Slot: uint32(h.n(min(job.Slots(task), 5)+1, "slot")), Version: job.Version - uint64(h.n(8, "version")/7),
		Node: h.name("node", 4), Held: api.Resources{CPU: int64(100 * h.n(3, "size")), Memory: 32}}
	for range h.n(6, "ports") / 3 {
		p.Ports = append(p.Ports, api.PortBinding{Label: h.name("port", 2), Host: 8000 + h.n(5, "port"), To: 80})
	}
	if h.n(4, "again") == 0 {
		p.Trial = api.Trial{Since: h.past.Now(), Used: uint32(h.n(3, "used")), Streak: uint32(h.n(9, "streak"))}
	}
	if n := h.past.Node(p.Node); n != nil {
		p.Devices = h.claims(task, n)
	}
	if h.n(2, "replace") > 0 {
		for row := range h.past.JobRows(job.Name) {
			if row.Task == p.Task && row.Slot == p.Slot && row.Live() {
				p.Replaces, p.Beside = row.ID, h.n(3, "beside") == 0
				if p.Beside {
					continue
				}
				jp.Stops = append(jp.Stops, api.Stop{Allocation: row.ID, Reason: "replaced"})
			}
		}
	}
	return p
}

func (h *history) reports() (out []NodeReport) {
	for range 1 + h.n(5, "reports") {
		row, _ := h.past.Row(h.allocation())
		st := api.AllocationStatus{ID: row.ID, Seq: row.Seq + uint64(h.n(4, "seq")), Restarts: row.Restarts + uint32(h.n(2, "restarts")),
			Phase: api.Phase(h.n(6, "phase")), Message: pick(h, []string{"", "why"}, "message"), FinishedAt: 7}
		st.Health = api.HealthStatus(h.n(4, "health")) // 3 is none
		if h.n(3, "failure") == 0 {
			st.Failure, st.Port = api.FailurePortTaken, uint16(8000+h.n(5, "port"))
		}
		node := row.Node
		if h.n(8, "stranger") == 0 {
			node = h.name("node", 5)
		}
		out = append(out, NodeReport{Node: node, Statuses: []api.AllocationStatus{st}})
	}
	return out
}

func (h *history) reapSome() {
	if r := h.m.Snapshot().Garbage(1 + h.n(20, "limit")); r != nil {
		h.apply(r)
		after := h.m.Snapshot()
		for _, id := range r.Allocations {
			if _, ok := after.Row(id); ok {
				h.rt.Fatalf("allocation %d was called garbage and could not be reaped", id)
			}
		}
		for _, id := range r.Evaluations {
			if after.Evaluation(id) != nil {
				h.rt.Fatalf("evaluation %d was called garbage and could not be reaped", id)
			}
		}
		for _, id := range r.Nodes {
			if after.Node(id) != nil {
				h.rt.Fatalf("node %s was called garbage and could not be reaped", id)
			}
		}
	}
	h.apply(&Reap{Allocations: []api.ID{h.allocation()}, Jobs: []string{h.name("job", 3)}, Nodes: []string{h.name("node", 5)}})
}

// TestRunnableIsWhatACompleteLookWouldFind compares the lanes with a walk over all evaluations, along random histories.
func TestRunnableIsWhatACompleteLookWouldFind(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{cluster: newCluster(rt), rt: rt}
		for range rapid.SampledFrom([]int{60, 10}).Draw(rt, "steps") {
			h.step()
			s := h.m.Snapshot()
			var want []*api.Evaluation
			for e := range s.Evaluations() {
				progress := s.tally(s.jobs.get(e.Job).handle).progress
				due := e.Status.Open() && !e.WakeAt.IsZero() && e.WakeAt.UnixNano() <= s.Now()
				if e.Status == api.EvalPending || e.Status == api.EvalBlocked && e.SeenIndex < max(s.freed, progress) ||
					e.Status == api.EvalWaiting && e.SeenIndex < progress || due {
					want = append(want, e)
				}
			}
			slices.SortFunc(want, func(a, b *api.Evaluation) int {
				if laneLess(runnableLane(a), runnableLane(b)) {
					return -1
				}
				return 1
			})
			if got := s.RunnableAt(s.Now(), 0); !slices.Equal(got, want) {
				rt.Fatalf("runnable: %v, want %v", got, want)
			}
			if got := s.RunnableAt(s.Now(), 2); !slices.Equal(got, want[:min(2, len(want))]) {
				rt.Fatalf("the first two: %v, want %v", got, want)
			}
		}
	})
}
