package scheduler_test

import (
	"slices"
	"strings"
	"testing"

	"cube/api"
	"cube/scheduler"
)

// TestAStopSaysWhoAskedForIt: each way in which a person makes instances go is named with the person, where he is known.
func TestAStopSaysWhoAskedForIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(j *api.Job, e *api.Evaluation)
		want   []string
	}{
		{"stop", func(j *api.Job, _ *api.Evaluation) { j.Stopped, j.StoppedBy = true, "bob" }, []string{"job stopped, asked for by bob", "job stopped, asked for by bob"}},
		{"stop by nobody", func(j *api.Job, _ *api.Evaluation) { j.Stopped = true }, []string{"job stopped", "job stopped"}},
		{"scale", func(j *api.Job, _ *api.Evaluation) {
			j.Tasks[0].Count, j.Scaled = 1, &api.Scaling{By: "bob", What: "web from 2 to 1"}
		}, []string{"count reduced, asked for by bob"}},
		{"version", func(j *api.Job, _ *api.Evaluation) {
			j.Tasks[0].Count, j.Scaled = 1, &api.Scaling{By: "bob", What: "db from 2 to 1"}
		}, []string{"count reduced, asked for by ada"}},
		{"one", func(_ *api.Job, e *api.Evaluation) { e.Cause, e.By, e.Stop = api.CauseAllocStop, "bob", e.Stop[:1] }, []string{"stopped on request, to be replaced, asked for by bob"}},
		{"one, asked for before", func(_ *api.Job, e *api.Evaluation) { e.Cause, e.By, e.Stop = api.CauseRegister, "bob", e.Stop[:1] }, []string{"stopped on request, to be replaced"}},
	} {
		w := &scheduler.World{}
		w.PutNode(&api.Node{ID: "n1", Name: "n1", Status: api.NodeReady, Resources: api.Resources{CPU: 64000, Memory: 64000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}})
		put := func(change func(*api.Job, *api.Evaluation), e *api.Evaluation) {
			task := api.DefaultTask("web")
			task.Count, task.Image = 2, "hello"
			j := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Version: 1, SubmittedBy: "ada", ModifyIndex: w.Index() + 1, Tasks: []*api.Task{task}}
			change(j, e)
			w.PutJob(j)
		}
		put(func(*api.Job, *api.Evaluation) {}, nil)
		w.Apply(scheduler.Schedule(w, []*api.Evaluation{{ID: 1, Job: "web"}}, scheduler.Options{}))
		e := &api.Evaluation{ID: 2, Job: "web"}
		if strings.HasPrefix(c.name, "one") {
			for row := range w.Allocations("web") {
				e.Stop = append(e.Stop, row.ID)
			}
		}
		put(c.change, e)
		var got []string
		for _, stop := range scheduler.Schedule(w, []*api.Evaluation{e}, scheduler.Options{}).Jobs[0].Stops {
			got = append(got, stop.Reason)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
