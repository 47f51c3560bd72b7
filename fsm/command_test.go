package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"cube/api"
	"cube/fsm/balance"
	"cube/fsm/deployment"
	"cube/fsm/launch"
)

// everyCommand is one of each kind, with every field of what has a layout of its own.
func everyCommand() []*Command {
	job := testJob("web", api.JobService, 3)
	job.Tasks[0].Config = map[string]any{"privileged": true, "size": 3.5}
	job.Tasks[0].Env = map[string]string{"A": "<&>", "B": ""}
	job.Tasks[0].Ports = []api.Port{{Label: "http", To: 80}}
	job.Source = &api.Source{FileName: "web.hcl", HCL: "task \"web\" {}\n"}
	plan := &api.Plan{BaseIndex: 99, Jobs: []api.JobPlan{
		{Evaluation: api.MakeID(1, 7), Job: "web", JobModifyIndex: 1 << 40, Status: api.EvalBlocked, Message: "not all", Explanations: []api.Explanation{
			{Task: "web", Wanted: 3, Placed: 2, Nodes: 2, Filters: []api.FilterCount{{Filter: "memory", Nodes: 2, Wanted: "1 GiB", Seen: "96 MiB free"}},
				Nearest: &api.NearestMiss{Node: "n1", Filter: "memory"}}},
			Placements: []api.Placement{
				{Task: "web", Slot: 1, Version: 3, Node: "n1", Replaces: api.MakeID(0, 9), Held: oneSize, Ports: []api.PortBinding{{Label: "http", Host: 20001, To: 80}, {Label: "x", Host: 1}}},
				{Task: "web", Slot: 0, Version: 3, Node: "n2", Held: oneSize},
				{Task: "web", Slot: 1<<32 - 1, Version: 1<<64 - 1, Node: "n1", Held: api.Resources{CPU: -1, Memory: 1 << 60, Disk: 3}}},
			Stops:   []api.Stop{{Allocation: 9, Reason: "older"}, {Allocation: 2, Reason: "older"}},
			InPlace: []api.ID{5, 4, api.MakeID(1<<32-1, 1<<32-1)}},
		{Job: "gone", Status: api.EvalComplete}}}
	devices := &api.Plan{BaseIndex: 1, Jobs: []api.JobPlan{{Job: "web", Status: api.EvalComplete, Placements: []api.Placement{
		{Task: "web", Node: "n1", Devices: []api.DeviceClaim{{Type: "gpu", ID: "GPU-1", Share: 250}, {Type: "gpu", ID: "GPU-2", Share: -1}}},
		{Task: "web", Slot: 1, Node: "n1"}, {Task: "web", Slot: 2, Node: "n2", Devices: []api.DeviceClaim{{Type: "fpga", ID: "GPU-1", Share: 1 << 40}}}}}}}
	beside := &api.Plan{BaseIndex: 1, Jobs: []api.JobPlan{{Job: "web", Status: api.EvalComplete, Placements: []api.Placement{
		{Task: "web", Node: "n1", Replaces: 3, Beside: true}, {Task: "web", Slot: 1, Node: "n1", Replaces: 4}}}}}
	preempt := &api.Plan{BaseIndex: 1, Jobs: []api.JobPlan{{Job: "web", Status: api.EvalBlocked, Preemptions: []api.Preemption{
		{Allocation: 7, Job: "sum", Reason: "gives way"}, {Allocation: 3, Job: "web", Reason: "gives way"}},
		Promises: []api.Promise{{Node: "n1", Room: oneSize}}}, {Job: "db", Status: api.EvalComplete}}}
	retried := &api.Plan{BaseIndex: 1, Jobs: []api.JobPlan{{Job: "web", Status: api.EvalWaiting, WakeAt: 1_700_000_000_000_000_000, Placements: []api.Placement{
		{Task: "web", Node: "n1", Replaces: 3, Trial: api.Trial{Since: -1, Used: 3, Streak: 1<<32 - 1}}, {Task: "web", Slot: 1, Node: "n1"}}},
		{Job: "sum", Status: api.EvalBlocked, WakeAt: 1}, {Job: "gone", Status: api.EvalComplete}}}
	reports := []NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{
		{ID: 9, Seq: 4, Restarts: 2, Phase: api.PhaseFailed, Failure: api.FailureOOM, ExitCode: -1, Signal: 9, Port: 65535, Message: "killed", StartedAt: 1_700_000_000_000, FinishedAt: 1_700_000_000_500},
		{ID: 3, Seq: 1 << 60, Phase: api.PhaseRunning, StartedAt: 5}}}, {Node: "n2"}}
	signed, nine := testJob("web", api.JobService, 1), uint64(9)
	signed.SubmittedBy = "ada@host"
	var out []*Command
	for _, body := range []Body{&InitCluster{ClusterID: "c1"}, &RegisterJobs{Jobs: []*api.Job{job, testJob("sum", api.JobBatch, 0)}}, &StopJob{Name: "web"},
		&StopAllocation{ID: 7}, &StopAllocation{ID: 7, NoShutdownDelay: true}, &StopJob{Name: "web", NoShutdownDelay: true}, &RegisterNode{Node: testNode("n1"), Ready: true}, &NodeReady{Node: "n1", Incarnation: 1<<64 - 1},
		&NodesDown{Nodes: []string{"n1", "n2"}, Reason: "silent"}, &SetEligibility{Node: "n1", Ineligible: true}, &SetEligibility{Node: "n1", Dated: true}, &SetEligibility{Node: "n1", Ineligible: true, Dated: true, Reason: "new disks"},
		&DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Minute, Message: "disk"}}, &DrainNode{Node: "n1", Cancel: &api.CancelDrainRequest{KeepIneligible: true}}, &DrainNode{Node: "n1"},
		&Rebalance{Begin: &balance.Order{Budget: api.RebalanceBudget{MaxMoves: 2, Per: time.Hour, MinGain: 0.5}, Moves: []api.Move{{Allocation: 7, Job: "web", Task: "web", Slot: 3, From: "n1", To: "n2", Gain: 12.25}}}}, &Rebalance{Cancel: true}, &Rebalance{}, &CommitPlan{Plan: plan},
		&CommitPlan{Plan: &api.Plan{}}, &CommitPlan{Plan: devices}, &CommitPlan{Plan: beside}, &CommitPlan{Plan: preempt}, &CommitPlan{Plan: retried}, &UpdateStatuses{Reports: reports}, &UpdateStatuses{},
		&Reap{Allocations: []api.ID{1}, Evaluations: []api.ID{2}, Jobs: []string{"web"}, Nodes: []string{"n1"}}, &RaiseRules{Version: 1}, &RaiseEpoch{Above: 1},
		&RegisterJobs{Jobs: []*api.Job{signed}, CheckIndex: &nine}, &TagVersion{Name: "web", Version: "3", Tag: "stable"}, &TagVersion{Name: "web", Tag: "stable", Remove: true},
		&RevertJob{Name: "web", To: "stable", CheckIndex: &nine}, &RevertJob{Name: "web", To: "1", Deploy: true},
		&RegisterJobs{Jobs: []*api.Job{job}, Deploy: true}, &SteerDeployment{ID: 9, DeploymentOrder: api.DeploymentOrder{Action: api.DeploymentFail, Reason: "slow"}},
		&JudgeDeployments{Moves: []deployment.Move{{ID: 9, Seen: 8, To: api.MoveFail, Reason: "web[0] failed", Healthy: 2, Tasks: []api.DeploymentTask{{Task: "web", Desired: 3}}}}}, &ScaleJob{Name: "shop", Task: "web", CheckIndex: &nine},
		&RestartJob{Name: "shop", RestartRequest: api.RestartRequest{Task: "web", Instances: []int{0, 2}, CheckIndex: &nine}, Deploy: true}, &RestartJob{Name: "web"}, &LaunchJob{launch.Order{Name: "backup", Time: 1_763_863_200, Missed: true}},
		&LaunchJob{launch.Order{Name: "backup", Time: 1_763_863_200, Full: true}}, &LaunchJob{launch.Order{Name: "resize", Asked: &api.DispatchRequest{Payload: []byte{0, 255}, Meta: map[string]string{"size": "<&>"}, ID: "a"}}}} {
		out = append(out, &Command{Kind: body.kind(), Rules: 1, RequestID: "r-1", At: time.Date(2026, 11, 23, 0, 0, 0, 1, time.UTC).UnixNano(),
			Who: "ada", Why: "to see", Body: body})
	}
	return out
}

func encoded(t testing.TB, c *Command) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCommandsSurviveTheLog(t *testing.T) {
	kinds := map[Kind]bool{}
	for _, c := range everyCommand() {
		raw := encoded(t, c)
		got, err := Decode(raw)
		if err != nil {
			t.Fatalf("%s: %v", c.Kind, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Fatalf("%s: got %+v, want %+v", c.Kind, got.Body, c.Body)
		}
		if again := encoded(t, got); !bytes.Equal(again, raw) {
			t.Fatalf("%s: it is encoded another way the second time", c.Kind)
		}
		kinds[c.Kind] = true
	}
	equal(t, "kinds", len(kinds), len(kindNames)-1)
}

func TestDamageIsToldFromNovelty(t *testing.T) {
	raw := encoded(t, &Command{Body: &StopJob{Name: "web"}})
	reseal := func(edit func([]byte)) []byte {
		b := bytes.Clone(raw)
		edit(b)
		putU32(b[4:], envelopeCRC(b))
		return b
	}
	for _, tc := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nothing", nil, ErrDamaged},
		{"cut short", raw[:len(raw)-1], ErrDamaged},
		{"one byte more", append(bytes.Clone(raw), 0), ErrDamaged},
		{"one byte more, sealed", reseal(func([]byte) {})[:len(raw):len(raw)], nil},
		{"a kind to come", reseal(func(b []byte) { b[0] = 200 }), ErrUnknownKind},
		{"no kind", reseal(func(b []byte) { b[0] = 0 }), ErrUnknownKind},
		{"what the first release did not know", encoded(t, &Command{Body: &RegisterJobs{CheckIndex: new(uint64)}}), nil},
		{"an envelope to come", reseal(func(b []byte) { b[1] = envelopeVersion + 1 }), ErrNewer},
		{"rules to come", reseal(func(b []byte) { b[2] = byte(RulesVersion + 1) }), ErrNewer},
		{"another kind's body", reseal(func(b []byte) { b[0] = byte(kindCommitPlan) }), ErrDamaged},
		{"a field to come", reseal(func(b []byte) { copy(b[bytes.Index(b, []byte("Name")):], "Fame") }), ErrDamaged},
		{"higher rules", encoded(t, &Command{Body: &RaiseRules{Version: RulesVersion + 1}}), ErrNewer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Decode(tc.raw)
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			for _, other := range []error{ErrDamaged, ErrUnknownKind, ErrNewer} {
				if other != tc.want && errors.Is(err, other) {
					t.Fatalf("%v is %v too", err, other)
				}
			}
		})
	}
}

func TestEveryFlippedByteIsSeen(t *testing.T) {
	for _, c := range everyCommand() {
		raw := encoded(t, c)
		for i := range raw {
			bad := bytes.Clone(raw)
			bad[i] ^= 0x10
			if _, err := Decode(bad); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, byte %d flipped: %v", c.Kind, i, err)
			}
		}
	}
}

func TestWhatCannotBeEncoded(t *testing.T) {
	for _, c := range []*Command{{}, {Body: &CommitPlan{}}, {Body: &CommitPlan{Plan: &api.Plan{Jobs: []api.JobPlan{{Status: "odd"}}}}}} {
		if _, err := c.Encode(); err == nil {
			t.Fatalf("%+v was encoded", c)
		}
	}
	r := New().Apply(1, &Command{})
	equal(t, "an empty command", api.CodeOf(r.Err), api.CodeInternal)
	r = New().Apply(1, &Command{Body: &CommitPlan{}})
	equal(t, "no plan", api.CodeOf(r.Err), api.CodeInvalid)
}

// FuzzDecode feeds bodies that no checksum protects: the fuzzer's bytes are sealed into an envelope.
func FuzzDecode(f *testing.F) {
	for _, c := range everyCommand() {
		body, err := encodeBody(c.Body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(c.Kind), envelope(c.Body), body)
	}
	f.Fuzz(func(t *testing.T, kind, version uint8, body []byte) {
		w := writer{b: []byte{kind, version, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
		w.bytes(body)
		putU32(w.b[4:], envelopeCRC(w.b))
		c, err := Decode(w.b)
		if err != nil {
			return
		}
		m := New()
		m.Apply(1, &Command{Body: &RegisterNode{Node: testNode("n1"), Ready: true}})
		m.Apply(2, &Command{Body: &RegisterJobs{Jobs: []*api.Job{testJob("web", api.JobService, 3)}}})
		m.Apply(3, c)
		if errs := Check(m.Snapshot()); len(errs) > 0 {
			t.Fatal(errs)
		}
		if again := encoded(t, c); len(again) == 0 {
			t.Fatal("what was decoded cannot be encoded")
		}
	})
}
