package command

import (
	"slices"
	"testing"
	"time"

	"cube/api"
)

// TestARunEndsWithItsDeployment: who waits for a version is told what its deployment says, and why.
func TestARunEndsWithItsDeployment(t *testing.T) {
	canary := func(u *api.Update) { u.Canary = 1 }
	for _, c := range []struct {
		name    string
		edit    func(*api.Update)
		version uint64 // in force; the run is of 2
		d       api.DeploymentView
		healthy int
		want    outcome
		summary string
	}{
		{"failed", nil, 2, api.DeploymentView{Version: 2, Status: api.DeploymentFailed, Reason: "web[0] failed"}, 0, stuck, `the deployment of version 2 of job "web" failed`},
		{"reverted", nil, 3, api.DeploymentView{Version: 3, Before: 2, Automatic: true, Status: api.DeploymentRunning}, 0, stuck, `version 2 of job "web" failed, and version 3 took its place`},
		{"paused", nil, 2, api.DeploymentView{Version: 2, Status: api.DeploymentPaused}, 0, stuck, `the deployment of version 2 of job "web" is paused`},
		{"canaries wait for a person", canary, 2, api.DeploymentView{Version: 2, Status: api.DeploymentRunning,
			Tasks: []api.DeploymentTask{{Task: "web", Canaries: 1, Desired: 3, Healthy: 1}}}, 0, reached,
			`Job "web" version 2: 1 instance on trial (canary), and healthy; the others follow with: cube deployment promote web`},
		{"canaries are not healthy", canary, 2, api.DeploymentView{Version: 2, Status: api.DeploymentRunning,
			Tasks: []api.DeploymentTask{{Task: "web", Canaries: 1, Desired: 3}}}, 0, waiting, ""},
		{"all are healthy, and it has yet to end", nil, 2, api.DeploymentView{Version: 2, Status: api.DeploymentRunning}, 3, waiting, ""},
		{"all are healthy, and it has ended", nil, 2, api.DeploymentView{Version: 2, Status: api.DeploymentSuccessful}, 3, reached, `Job "web" version 2: 3 of 3 instances running`},
	} {
		t.Run(c.name, func(t *testing.T) {
			task := api.DefaultTask("web")
			task.Count = 3
			if c.edit != nil {
				c.edit(&task.Update)
			}
			g := newRunGoal(api.RegisteredJob{Name: "web", Version: 2, Changed: true}, time.Unix(0, 0))
			status := &api.JobStatus{Job: &api.Job{Name: "web", Type: api.JobService, Version: c.version, Tasks: []*api.Task{task}}, Deployment: &c.d}
			for i := range c.healthy {
				status.Allocations = append(status.Allocations, &api.Allocation{ID: api.InstanceName("web", "web", uint32(i)), Job: "web", Task: "web", Slot: i, JobVersion: 2, Phase: api.PhaseRunning, Health: api.HealthHealthy})
			}
			g.look(status, nil, time.Unix(1, 0))
			if v := g.verdict(time.Unix(1, 0)); v.outcome != c.want || v.summary != c.summary {
				t.Errorf("%v %q", v.outcome, v.summary)
			}
		})
	}
}

// A deployment says which instance it failed for, and the instance why, unless the deployment has said that already.
func TestAFailedDeploymentIsExplained(t *testing.T) {
	for _, c := range []struct {
		reason string
		want   []string
	}{
		{"web[0] failed", []string{"web[0] failed", "web[0]: exit code 2"}},
		{"web[0] failed: exit code 2", []string{"web[0] failed: exit code 2"}},
		{"web[1] failed: exit code 25", []string{"web[1] failed: exit code 25", "web[0]: exit code 2"}},
	} {
		g := newRunGoal(api.RegisteredJob{Name: "web", Version: 1, Changed: true}, time.Unix(0, 0))
		g.look(&api.JobStatus{
			Job:         &api.Job{Name: "web", Type: api.JobService, Version: 1, Tasks: []*api.Task{api.DefaultTask("web")}},
			Deployment:  &api.DeploymentView{Version: 1, Status: api.DeploymentFailed, Reason: c.reason},
			Allocations: []*api.Allocation{{ID: "a", Name: "web[0]", Job: "web", Task: "web", JobVersion: 1, Desired: api.DesiredRun, Phase: api.PhaseFailed, Message: "exit code 2"}},
		}, nil, time.Unix(1, 0))
		if got := g.verdict(time.Unix(1, 0)).reasons; !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.reason, got)
		}
	}
}

func TestOutputIsSetInWithItsTabs(t *testing.T) {
	if got, want := tailText([]string{"  -listen address", "\taddress \x1b[1mto serve"}, ""), "      -listen address\n        address \\x1b[1mto serve\n"; got != want {
		t.Errorf("%q", got)
	}
}
