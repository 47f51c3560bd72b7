package rollout_test

import (
	"slices"
	"testing"
	"time"

	"cube/api"
	"cube/scheduler/rollout"
)

func TestADeploymentFailsWhenATaskHasWaitedForTooLong(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	db, web := api.DefaultTask("db"), api.DefaultTask("web")
	web.DependsOn = []api.Dependency{{Task: "db", Condition: api.DependHealthy, Timeout: 2 * time.Minute}}
	job := &api.Job{Name: "shop", Type: api.JobService, Tasks: []*api.Task{db, web}, Version: 3, SubmittedAt: start}
	d := &api.Deployment{Job: "shop", Version: 3, Status: api.DeploymentRunning, Since: start, ProgressAt: start, ModifiedAt: start}
	row := api.AllocationRow{Job: "shop", Task: "db", Version: 3, Phase: api.PhaseRunning, CreatedAt: start.UnixNano()}
	judge := func(after time.Duration, rows ...api.AllocationRow) rollout.Verdict {
		return rollout.Judge(d, job, slices.Values(rows), start.Add(after))
	}
	if v := judge(time.Minute, row); v.Move != "" || !v.Next.Equal(start.Add(2*time.Minute)) || !v.Fails.Equal(v.Next) {
		t.Errorf("before the timeout: %+v", v)
	}
	if v := judge(2*time.Minute, row); v.Move != api.MoveFail || v.Reason != "web has waited 2m for db to be healthy" {
		t.Errorf("at the timeout: %+v", v)
	}
	placed, healthy := row, row
	placed.Task, healthy.Health = "web", api.HealthHealthy
	if v := judge(2*time.Minute, row, placed); v.Move == api.MoveFail {
		t.Errorf("what has begun waits no more: %+v", v)
	}
	if v := judge(2*time.Minute, healthy); v.Move == api.MoveFail {
		t.Errorf("the condition holds: %+v", v)
	}
	d.Since = start.Add(time.Minute)
	if v := judge(2*time.Minute, row); v.Move == api.MoveFail || !v.Next.Equal(start.Add(3*time.Minute)) {
		t.Errorf("resumed: %+v", v)
	}
	d.Status = api.DeploymentPaused
	if v := judge(time.Hour, row); v.Move == api.MoveFail {
		t.Errorf("paused: %+v", v)
	}
	d.Status, web.DependsOn[0].Condition = api.DeploymentRunning, api.DependRunning
	if v := judge(4*time.Minute, row); v.Move == api.MoveFail {
		t.Errorf("it runs: %+v", v)
	}
}
