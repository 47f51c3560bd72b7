package deployer

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/fsm"
)

// TestWhatIsPlacedAfterALookHasItsDeadline: the loop does not look at a deployment for every instance that is placed, and
// misses the time until which one has to be healthy no less for that.
func TestWhatIsPlacedAfterALookHasItsDeadline(t *testing.T) {
	m, index, at := fsm.New(), uint64(0), time.Unix(1_700_000_000, 0)
	apply := func(body fsm.Body) {
		t.Helper()
		index++
		if r := m.Apply(index, &fsm.Command{At: at.UnixNano(), Who: "test", Body: body}); r.Err != nil || len(r.Rejections) > 0 {
			t.Fatalf("%T: %+v", body, r)
		}
	}
	d := &Deployer{Machine: m, Now: func() int64 { return at.UnixNano() }, Logger: hclog.NewNullLogger(),
		Commit: func(b *fsm.JudgeDeployments) error { apply(b); return nil }}
	sweep := func(want api.DeploymentStatus) (next time.Time) {
		t.Helper()
		_, next, err := d.Sweep()
		if got := m.Snapshot().Deployment("web").Status; err != nil || got != want {
			t.Fatalf("after %s the deployment is %s (%v), want %s", at.Sub(time.Unix(1_700_000_000, 0)), got, err, want)
		}
		return next
	}
	task := api.DefaultTask("web")
	task.Image = "cube/hello:1"
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	job.Canonicalize()
	apply(&fsm.InitCluster{ClusterID: "c"})
	apply(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: "n1", Name: "n1", Resources: api.Resources{CPU: 1000, Memory: 1024}}})
	apply(&fsm.RegisterJobs{Jobs: []*api.Job{job}, Deploy: true})
	sweep(api.DeploymentRunning) // nothing is placed yet

	at = at.Add(time.Minute)
	current := m.Snapshot().Job("web")
	apply(&fsm.CommitPlan{Plan: &api.Plan{BaseIndex: index, Jobs: []api.JobPlan{{Evaluation: m.Snapshot().Open("web").ID, Job: "web",
		JobModifyIndex: current.ModifyIndex, Status: api.EvalComplete,
		Placements: []api.Placement{{Task: "web", Version: current.Version, Node: "n1", Held: task.Resources}}}}}})
	sweep(api.DeploymentRunning)

	at = at.Add(4 * time.Minute)
	next := sweep(api.DeploymentRunning)
	if want := at.Add(time.Minute); !next.Equal(want) {
		t.Errorf("the next look is in %s, want it at the instance's deadline in %s", next.Sub(at), want.Sub(at))
	}
	at = next
	sweep(api.DeploymentFailed)
}
