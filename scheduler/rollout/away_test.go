package rollout_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/scheduler/rollout"
)

// TestADeploymentDoesNotWaitForWhoIsAway: what is placed beside it counts, or it counts as what it was; it makes nothing fail.
func TestADeploymentDoesNotWaitForWhoIsAway(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	job := &api.Job{Name: "web", Type: api.JobService, Version: 2, Tasks: []*api.Task{api.DefaultTask("web")}}
	d := &api.Deployment{Job: "web", Version: 2, Status: api.DeploymentRunning, Since: start, ProgressAt: start}
	row := func(change func(*api.AllocationRow)) api.AllocationRow {
		r := api.AllocationRow{ID: 1, Job: "web", Task: "web", Version: 2, Phase: api.PhaseRunning, Health: api.HealthHealthy, CreatedAt: start.UnixNano()}
		change(&r)
		return r
	}
	away := func(h api.HealthStatus) api.AllocationRow {
		return row(func(r *api.AllocationRow) { r.Away, r.Health = true, h })
	}
	beside := func(h api.HealthStatus) api.AllocationRow {
		return row(func(r *api.AllocationRow) { r.ID, r.Replaces, r.Health = 2, 1, h })
	}
	const late = 9 * time.Minute
	for _, c := range []struct {
		name  string
		rows  []api.AllocationRow
		after time.Duration
		want  string
	}{
		{"it was healthy", []api.AllocationRow{away(api.HealthHealthy)}, time.Second, api.MoveSucceed},
		{"it was not healthy, and nobody knows", []api.AllocationRow{away(api.HealthUnhealthy)}, late, ""},
		{"nothing becomes of it in time", []api.AllocationRow{away(api.HealthUnhealthy)}, 10 * time.Minute, api.MoveFail},
		{"its replacement starts", []api.AllocationRow{away(api.HealthHealthy), beside(api.HealthUnknown)}, time.Second, ""},
		{"its replacement is healthy", []api.AllocationRow{away(api.HealthUnhealthy), beside(api.HealthHealthy)}, late, api.MoveSucceed},
		{"its replacement never is", []api.AllocationRow{away(api.HealthHealthy), beside(api.HealthUnhealthy)}, late, api.MoveFail},
		{"it is of the version before", []api.AllocationRow{row(func(r *api.AllocationRow) { r.Away, r.Version = true, 1 })}, time.Second, ""},
	} {
		v := rollout.Judge(d, job, slices.Values(c.rows), start.Add(c.after))
		if v.Move != c.want && !(c.want == "" && v.Move == api.MoveProgress) || strings.Contains(v.Reason, "web[0] is not healthy") != (c.name == "its replacement never is") {
			t.Errorf("%s: %+v, want %q", c.name, v, c.want)
		}
	}
}
