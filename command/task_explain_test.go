package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
)

func someDiagnosis(now time.Time) *api.JobDiagnosis {
	memory := func(free int64) api.FilterFailure {
		return api.FilterFailure{Filter: "memory", Wanted: "512 MiB", Seen: api.FormatMiB(free) + " free", Missing: api.FormatMiB(512 - free)}
	}
	class := api.FilterFailure{Filter: "constraint attr.class = edge", Wanted: "= edge", Seen: "core"}
	return &api.JobDiagnosis{Job: "web", Summary: api.JobSummary{Name: "web", Version: 4, Status: api.JobPending, Desired: 2, Counts: api.PhaseCounts{Running: 1}},
		Evaluation: &api.EvaluationView{Cause: api.CauseNodeDown, Status: api.EvalBlocked, Message: "not placed: 1 of 2 instances of web", ModifiedAt: now.Add(-3 * time.Minute)},
		Tasks: []api.TaskDiagnosis{{Task: "web", Wanted: 2, Algorithm: "binpack", Filters: []string{"ready", "constraint attr.class = edge", "cpu", "memory", "disk"}, Nearest: 1,
			Nodes: []api.NodeDiagnosis{{ID: "aa1", Name: "n1", Instances: 1, Failures: []api.FilterFailure{class, memory(96)}},
				{ID: "aa2", Name: "n2", Failures: []api.FilterFailure{memory(256)}},
				{ID: "bb3", Name: "n3", Failures: []api.FilterFailure{{Filter: "ready", Wanted: "ready", Seen: "down"}}}},
			Instances: []api.InstanceReason{{Name: "web[0]", Allocation: "c99f515c0000", Node: "n1", JobVersion: 4, Phase: api.PhaseRunning, At: now.Add(-time.Hour), Evaluation: "e6760cd20000", Cause: api.CauseNodeDown, CauseNode: "n3", Replaces: "157791dd0000"}}}}}
}

func explainTerminal(t *testing.T, c *fakeCluster) *terminal {
	p := newTerminal(t, c)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p.meta.Now = func() time.Time { return now }
	c.diagnosis = someDiagnosis(now)
	return p
}

func TestExplainShowsEveryNodeWithAllThatSpeaksAgainstIt(t *testing.T) {
	c := newFakeCluster()
	p := explainTerminal(t, c)
	p.cube(0, "task", "explain", "web")
	golden(t, "task_explain", p.stdout.String())

	p = explainTerminal(t, c)
	p.cube(0, "task", "explain", "-node", "aa1", "web/web")
	golden(t, "task_explain_node", p.stdout.String())

	p = explainTerminal(t, c)
	p.cube(0, "task", "explain", "-json", "web")
	p.shows(`"Missing": "416 MiB"`)
}

func TestExplainGroupsManyNodes(t *testing.T) {
	c := newFakeCluster()
	p := explainTerminal(t, c)
	task := &c.diagnosis.Tasks[0]
	for n := range 20 {
		task.Nodes = append(task.Nodes, api.NodeDiagnosis{ID: fmt.Sprint("x", n), Name: fmt.Sprint("m", n), Failures: task.Nodes[n%2].Failures})
	}
	for n := range 7 {
		task.Nodes = append(task.Nodes, api.NodeDiagnosis{ID: fmt.Sprint("y", n), Name: fmt.Sprint("f", n), Score: &api.Score{Total: 0.5 - float64(n)/10, Algorithm: 0.25 - float64(n)/10, Affinity: 0.25}})
	}
	task.Nearest = -1
	p.cube(0, "task", "explain", "web")
	p.shows("f0 has 0, score 0.500: fits: 0.250 +0.250 for affinities\n", "and 2 nodes fit too\n",
		"11 nodes: memory, such as m1: memory (512 MiB wanted, 256 MiB free)\n", "1 node: ready, such as n3: not ready (down)\n")
	if n := strings.Count(p.stdout.String(), "\n"); n > 24 {
		t.Errorf("30 nodes take %d lines", n)
	}
}

func TestExplainOfBadInput(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"web/db", `job "web" has no task "db"; it has web`},
		{"-node aa web", `2 nodes are meant by "aa"`},
		{"-node n9 web", `no node is called "n9"`},
		{"", "this command takes one argument"},
		{"nobody", `there is no job "nobody"`},
	} {
		p := explainTerminal(t, newFakeCluster())
		p.cube(1, append([]string{"task", "explain"}, strings.Fields(c.args)...)...)
		p.complains(c.want)
	}
}
