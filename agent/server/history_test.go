package server

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"cube/api"
	"cube/fsm"
	"cube/internal/memnet"
)

const secretFile = `
variable "key" {
  type      = string
  sensitive = true
}
task "web" {
  image = "nginx:1"
  env   = { KEY = var.key, A = "1" }
}
`

func TestAPlanSaysWhatARegistrationWouldDo(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := leaderOf(c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true }))
		n := c.node(1)
		n.connect(m)
		n.register(m)

		before := m.machine.Snapshot().Index()
		f, err := m.PlanJobs(ctx, api.Submission{Source: secretFile, Variables: map[string]string{"key": "hush"}})
		if err != nil || len(f.Jobs) != 1 || f.CheckIndex != 0 || f.Jobs[0].Tasks[0].Place != 1 || f.Jobs[0].Tasks[0].Nodes[0].Node != "node-1" {
			t.Fatalf("planned %+v, %v", f, err)
		}
		if after := m.machine.Snapshot(); after.Index() != before || after.Job("web") != nil {
			t.Errorf("a plan wrote something: index %d, was %d", after.Index(), before)
		}
		none := f.CheckIndex
		if _, err := m.RegisterJobs(ctx, api.Submission{Source: secretFile, Variables: map[string]string{"key": "hush"}, CheckIndex: &none}, api.WriteMeta{Who: "ada@host"}); err != nil {
			t.Fatal(err)
		}
		again, err := m.RegisterJobs(ctx, api.Submission{Source: secretFile, Variables: map[string]string{"key": "other"}, CheckIndex: &none}, api.WriteMeta{})
		wantCode(t, err, api.CodeConflict)
		if again != nil || m.machine.Snapshot().Job("web").Version != 1 {
			t.Errorf("a registration that was refused did something: %+v", again)
		}

		m.until("placed", func(s *fsm.Snapshot) bool { return s.Open("web") == nil })
		f, err = m.PlanJobs(ctx, api.Submission{Source: secretFile, Variables: map[string]string{"key": "other"}})
		if err != nil || !f.Changes() || f.Jobs[0].Tasks[0].Replace != 1 || f.CheckIndex != m.machine.Snapshot().Job("web").ModifyIndex {
			t.Fatalf("planned %+v, %v", f, err)
		}
		text, _ := json.Marshal(f)
		if strings.Contains(string(text), "hush") || strings.Contains(string(text), "other") || !strings.Contains(string(text), "KEY") {
			t.Errorf("the plan shows a secret, or not that it changes: %s", text)
		}
		why, err := m.ExplainJob(ctx, "web")
		if err != nil || len(why.Tasks) != 1 || why.Tasks[0].Nearest != -1 || why.Tasks[0].Nodes[0].Score == nil {
			t.Fatalf("explained %+v, %v", why, err)
		}
		if r := why.Tasks[0].Instances; len(r) != 1 || r[0].Node != "node-1" || r[0].Cause != api.CauseRegister || r[0].Evaluation == "" {
			t.Errorf("the instances: %+v", r)
		}
		wantCode(t, second(m.ExplainJob(ctx, "nobody")), api.CodeNotFound)

		for _, q := range []api.Query{{}, {Stale: true}} {
			status, meta, err := m.ClusterStatus(ctx, q)
			if err != nil || status.Voters != 1 || status.Healthy != 1 || status.Spare != 0 || status.Leader == "" || status.Nodes.Ready != 1 || meta.Stale != q.Stale ||
				len(status.Servers) != 1 || status.Servers[0].Behind != 0 || status.Survival.Survives != api.SurvivesNo {
				t.Errorf("the status is %+v with %+v, %v", status, meta, err)
			}
		}

		before = m.machine.Snapshot().Index()
		file := api.Submission{Source: secretFile, Variables: map[string]string{"key": "other"}}
		for _, q := range []api.Query{{}, {Stale: true}} {
			sim, meta, err := m.Simulate(ctx, api.SimulationRequest{Suppose: []api.Supposition{{NodeDown: "node-1"}, {Run: &file}}}, q)
			if err != nil || sim.Missing != 1 || sim.Fits() || len(sim.Jobs) != 1 || meta.Stale != q.Stale || m.machine.Snapshot().Index() != before {
				t.Fatalf("simulated %+v with %+v, %v", sim, meta, err)
			}
		}
		for _, of := range []struct {
			code    api.Code
			suppose []api.Supposition
		}{
			{api.CodeInvalid, nil}, {api.CodeInvalid, make([]api.Supposition, 1)}, {api.CodeInvalid, make([]api.Supposition, api.MaxSuppositions+1)},
			{api.CodeInvalid, []api.Supposition{{NodeDown: "node-1", Drain: "node-1"}}},
			{api.CodeNotFound, []api.Supposition{{NodeDown: "node-9"}}}, {api.CodeNotFound, []api.Supposition{{Scale: &api.ScaleSupposition{Job: "nope"}}}},
			{api.CodeInvalid, []api.Supposition{{Scale: &api.ScaleSupposition{Job: "web", Count: -1}}}}, {api.CodeInvalid, []api.Supposition{{Run: &api.Submission{}}}},
		} {
			_, _, err := m.Simulate(ctx, api.SimulationRequest{Suppose: of.suppose}, api.Query{})
			wantCode(t, err, of.code)
		}
		_, err = m.PlanJobs(ctx, api.Submission{Source: `task "web" { imag = "x" }`})
		wantCode(t, err, api.CodeInvalid)
	})
}

func TestAJobsHistory(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := leaderOf(c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true }))
		ada := api.WriteMeta{Who: "ada@host"}
		for _, key := range []string{"hush", "other"} {
			if _, err := m.RegisterJobs(ctx, api.Submission{Source: secretFile, Variables: map[string]string{"key": key}}, ada); err != nil {
				t.Fatal(err)
			}
		}
		if v, err := m.TagVersion(ctx, "web", api.TagRequest{Version: api.VersionPrevious, Tag: "good"}, ada); err != nil || v.Version != 1 || len(v.Tags) != 1 {
			t.Fatalf("tagged %+v, %v", v, err)
		}
		once := api.WriteMeta{RequestID: "once", Who: "bob@host"}
		reverted, err := m.RevertJob(ctx, "web", api.RevertRequest{To: "good"}, once)
		if err != nil || reverted.Jobs[0].Version != 3 || reverted.Jobs[0].Evaluation == "" {
			t.Fatalf("reverted %+v, %v", reverted, err)
		}
		if again, err := m.RevertJob(ctx, "web", api.RevertRequest{To: "good"}, once); err != nil || again.Jobs[0] != reverted.Jobs[0] {
			t.Errorf("the same request again: %+v, %v", again, err)
		}
		if got := m.machine.Snapshot().Job("web").Tasks[0].Env["KEY"]; got != "hush" {
			t.Errorf("the reverted job has the key %q", got)
		}
		if r, err := m.ScaleJob(ctx, "web", api.ScaleRequest{Count: 4}, ada); err != nil || r.Jobs[0].Version != 3 || !r.Jobs[0].Changed {
			t.Errorf("scaled %+v, %v", r, err)
		}
		history, _, err := m.JobHistory(ctx, "web", api.Query{})
		if err != nil || len(history) != 3 {
			t.Fatalf("%d versions, %v", len(history), err)
		}
		now, first := history[0], history[2]
		if now.Job.SubmittedBy != "bob@host" || now.Job.Origin != "reverted to version 1 (good)" || now.Job.Scaled.By != "ada@host" || first.Diff != nil || first.Job.Tags[0] != "good" {
			t.Errorf("the history: %+v, %+v", now.Job, first)
		}
		text, _ := json.Marshal(history)
		if strings.Contains(string(text), "hush") || now.Diff.Kind != api.DiffEdited {
			t.Errorf("the history shows a secret, or not that it changed: %s", text)
		}

		index := m.machine.Snapshot().Index()
		stale := uint64(1)
		for what, err := range map[string]error{
			"a version that is gone": second(m.RevertJob(ctx, "web", api.RevertRequest{To: "9"}, ada)),
			"no job":                 second(m.ScaleJob(ctx, "nobody", api.ScaleRequest{Count: 1}, ada)),
			"a tag that is not":      second(m.TagVersion(ctx, "web", api.TagRequest{Tag: "x", Remove: true}, ada)),
		} {
			if api.CodeOf(err) != api.CodeNotFound {
				t.Errorf("%s: %v", what, err)
			}
		}
		wantCode(t, second(m.RevertJob(ctx, "web", api.RevertRequest{}, ada)), api.CodeInvalid)
		wantCode(t, second(m.TagVersion(ctx, "web", api.TagRequest{Tag: "x"}, ada)), api.CodeInvalid)
		wantCode(t, second(m.ScaleJob(ctx, "web", api.ScaleRequest{Count: 1, CheckIndex: &stale}, ada)), api.CodeConflict)
		m.until("at rest", func(s *fsm.Snapshot) bool { return s.Index() > index })
		if j := m.machine.Snapshot().Job("web"); j.Version != 3 || j.Tasks[0].Count != 4 {
			t.Errorf("what was refused changed the job: %+v", j)
		}
	})
}

func second[T any](_ T, err error) error { return err }
