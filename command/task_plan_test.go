package command

import (
	"strings"
	"testing"

	"cube/api"
)

// someForecast has something of everything that a plan can say.
func someForecast() *api.Forecast {
	old, next := webJob(3), webJob(4)
	old.Tasks[0].Env = map[string]string{"LOG": "info", "KEY": "1"}
	old.Tasks[0].Constraints = []api.Constraint{{Attribute: "attr.class", Operator: api.OpEqual, Value: "edge"}}
	next.Tasks[0].Image, next.Tasks[0].Resources.Memory = "hello:2", 256
	next.Tasks[0].Env = map[string]string{"LOG": "debug", "KEY": "2"}
	old.Tasks[0].Sensitive, next.Tasks[0].Sensitive = []string{"KEY"}, []string{"KEY"}
	fresh := &api.Job{Name: "cron", Type: api.JobBatch, Priority: 50, Tasks: []*api.Task{api.DefaultTask("cron")}}
	fresh.Tasks[0].Image = "cron:\x1b[31m1"
	same := webJob(1)
	return &api.Forecast{CheckIndex: 42, Index: 99, Jobs: []api.JobForecast{
		{Name: "web", Version: 5, ModifyIndex: 42, Changed: true, Diff: api.DiffJobs(old, next), Tasks: []api.TaskForecast{{
			Task: "web", Effect: api.EffectDestructive, Wanted: 4, Replace: 3, RollOut: next.Tasks[0].RollOut(api.JobService, 3), Nodes: []api.NodeCount{{Node: "n1", Count: 2}, {Node: "n2", Count: 1}},
			Explanation: &api.Explanation{Task: "web", Wanted: 4, Placed: 3, Nodes: 3, Filters: []api.FilterCount{{Filter: "memory", Nodes: 2, Wanted: "256 MiB", Seen: "96 to 128 MiB free"}, {Filter: "ready", Nodes: 1, Wanted: "ready", Seen: "down"}},
				Nearest: &api.NearestMiss{Node: "n2", Filter: "memory"}}}}},
		{Name: "cron", Version: 1, Changed: true, Diff: api.DiffJobs(nil, fresh), Tasks: []api.TaskForecast{{Task: "cron", Effect: api.EffectCreate, Wanted: 1, Place: 1, Nodes: []api.NodeCount{{Node: "n1", Count: 1}}}}},
		{Name: "db", Version: 2, ModifyIndex: 7, Diff: api.DiffJobs(same, same)},
	}}
}

func TestPlanShowsWhatWouldChange(t *testing.T) {
	c := newFakeCluster()
	c.forecast = someForecast()
	p := newTerminal(t, c)
	p.cube(1, "task", "plan", "-var", "x=1", jobFile(t, webJob(4)))
	text := p.stdout.String()
	file := text[strings.LastIndex(text, " ")+1:]
	golden(t, "task_plan", strings.Replace(text, file, "web.hcl\n", 1))
	if c.submitted.Variables["x"] != "1" || c.submitted.Source == "" {
		t.Errorf("submitted %+v", c.submitted)
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours, or an escape sequence of an image, in a pipe")
	}

	p = newTerminal(t, c)
	p.columns, p.rows = 100, 24
	p.cube(1, "task", "plan", jobFile(t, webJob(4)))
	p.shows(green+"+"+reset, red+"-"+reset, yellow+"~"+reset)
}

// TestPlanRepeatsItsVariables: the command that it ends with runs what was planned, and says nothing that is to stay secret.
func TestPlanRepeatsItsVariables(t *testing.T) {
	v := variableFlags{values: keyValues{"tag": "1.2", "title": "it's $HOME", "key": "hunter2"}, files: words{"eu west.vars"}}
	got := v.again("variable \"tag\" {}\nvariable \"title\" {}\nvariable \"key\" {\n  sensitive = true\n}\n")
	if want := ` -var-file 'eu west.vars' -var tag=1.2 -var 'title=it'\''s $HOME'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPlanSaysByItsExitCode(t *testing.T) {
	c := newFakeCluster()
	c.forecast = &api.Forecast{Jobs: []api.JobForecast{{Name: "web", Version: 3, ModifyIndex: 8, Diff: &api.Diff{Kind: api.DiffNone}}}}
	p := newTerminal(t, c)
	p.cube(0, "task", "plan", jobFile(t, webJob(1)))
	if want := "= job \"web\": version 3 says this already\n"; p.stdout.String() != want {
		t.Errorf("%q, want %q", p.stdout.String(), want)
	}
	p = newTerminal(t, c)
	p.cube(0, "task", "plan", "-json", jobFile(t, webJob(1)))
	p.shows(`"CheckIndex": 0`)

	c.fail = func(method string, _ api.Query) error { return api.Errorf(api.CodeInvalid, "web.hcl:1:1: no") }
	p = newTerminal(t, c)
	p.cube(255, "task", "plan", jobFile(t, webJob(1)))
	p.complains("Error planning", "web.hcl:1:1: no")
	for _, args := range [][]string{{}, {"a", "b"}, {"-nope", "x"}, {"/does/not/exist"}, {"-json", "-t", "x", "y"}} {
		p = newTerminal(t, c)
		p.cube(255, append([]string{"task", "plan"}, args...)...)
	}
}

func TestWhatBecomesOfInstances(t *testing.T) {
	for want, forecast := range map[string]api.TaskForecast{
		"nothing to do":         {},
		"nothing can be placed": {Wanted: 1, Explanation: &api.Explanation{}},
		"1 unchanged, 2 changed in place (no restart), 3 replaced, 4 new, 5 stopped": {Keep: 1, InPlace: 2, Replace: 3, Place: 4, Stop: 5},
		"11 new; would go to a, a, a, a, a, a, a, a (2), 2 more nodes (2)": {Place: 11, Nodes: []api.NodeCount{{Node: "a", Count: 1}, {Node: "a", Count: 1}, {Node: "a", Count: 1},
			{Node: "a", Count: 1}, {Node: "a", Count: 1}, {Node: "a", Count: 1}, {Node: "a", Count: 1}, {Node: "a", Count: 2}, {Node: "b", Count: 1}, {Node: "c", Count: 1}}},
	} {
		if got := effects(&forecast); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRunMayDependOnAPlan(t *testing.T) {
	c := newFakeCluster()
	p := newTerminal(t, c)
	p.cube(0, "run", "-detach", "-check-index", "42", jobFile(t, webJob(1)))
	if c.submitted.CheckIndex == nil || *c.submitted.CheckIndex != 42 {
		t.Errorf("submitted %+v", c.submitted)
	}
	p = newTerminal(t, c)
	p.cube(1, "run", "-check-index", "web", jobFile(t, webJob(1)))
	p.complains("not a modify index, which is a number such as 42")
}
