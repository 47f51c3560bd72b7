package deployer

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/fsm"
)

// rig is a deployer over a state, without a goroutine.
type rig struct {
	*testing.T
	*Deployer
	index uint64
	at    time.Time
}

func newRig(t *testing.T, count int) *rig {
	r := &rig{T: t, at: time.Unix(1_700_000_000, 0)}
	r.Deployer = &Deployer{Machine: fsm.New(), Now: func() int64 { return r.at.UnixNano() }, Logger: hclog.NewNullLogger(),
		Commit: func(b *fsm.JudgeDeployments) error { r.apply(b); return nil }}
	task := api.DefaultTask("web")
	task.Image, task.Count = "cube/hello:1", count
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	job.Canonicalize()
	r.apply(&fsm.InitCluster{ClusterID: "c"})
	r.apply(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: "n1", Name: "n1", Resources: api.Resources{CPU: 1000, Memory: 1024}}})
	r.apply(&fsm.RegisterJobs{Jobs: []*api.Job{job}, Deploy: true})
	return r
}

func (r *rig) apply(body fsm.Body) {
	r.Helper()
	r.index++
	if result := r.Machine.Apply(r.index, &fsm.Command{At: r.at.UnixNano(), Who: "test", Body: body}); result.Err != nil || len(result.Rejections) > 0 {
		r.Fatalf("%T: %+v", body, result)
	}
}

// sweep has a look taken, and checks what became of the deployment.
func (r *rig) sweep(want api.DeploymentStatus) (next time.Time) {
	r.Helper()
	_, next, err := r.Sweep()
	if d := r.Machine.Snapshot().Deployment("web"); err != nil || d.Status != want {
		r.Fatalf("at %s the deployment is %s: %s (%v); want %s", r.at.UTC().Format(time.TimeOnly), d.Status, d.Reason, err, want)
	}
	return next
}

func (r *rig) place(slot uint32) {
	r.Helper()
	job := r.Machine.Snapshot().Job("web")
	r.apply(&fsm.CommitPlan{Plan: &api.Plan{BaseIndex: r.index, Jobs: []api.JobPlan{{Evaluation: r.Machine.Snapshot().Open("web").ID, Job: "web",
		JobModifyIndex: job.ModifyIndex, Status: api.EvalBlocked,
		Placements: []api.Placement{{Task: "web", Slot: slot, Version: job.Version, Node: "n1", Held: job.Tasks[0].Resources}}}}}})
}

func (r *rig) report(slot uint32, health api.HealthStatus) {
	r.Helper()
	for row := range r.Machine.Snapshot().JobRows("web") {
		if row.Slot == slot {
			r.apply(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{
				{ID: row.ID, Seq: row.Seq + 1, Phase: api.PhaseRunning, Health: health}}}}})
		}
	}
}

// TestWhatIsPlacedAfterALookHasItsDeadline: the loop does not look at a deployment for every instance that is placed, and
// misses the time until which one has to be healthy no less for that.
func TestWhatIsPlacedAfterALookHasItsDeadline(t *testing.T) {
	r := newRig(t, 1)
	r.sweep(api.DeploymentRunning) // nothing is placed yet
	r.at = r.at.Add(time.Minute)
	r.place(0)
	r.sweep(api.DeploymentRunning)
	r.at = r.at.Add(4 * time.Minute)
	next := r.sweep(api.DeploymentRunning)
	if want := r.at.Add(time.Minute); !next.Equal(want) {
		t.Errorf("the next look is in %s, want it at the instance's deadline in %s", next.Sub(r.at), want.Sub(r.at))
	}
	r.at = next
	r.sweep(api.DeploymentFailed)
}

// TestOneThatFallsIllIsNoticed, also where it was not counted while it was well: a look that something else brings about
// would find it, so that it must not be left to chance.
func TestOneThatFallsIllIsNoticed(t *testing.T) {
	r := newRig(t, 3)
	r.place(0)
	r.place(1)
	r.sweep(api.DeploymentRunning)
	r.at = r.at.Add(time.Minute)
	r.report(0, api.HealthHealthy)
	r.sweep(api.DeploymentRunning)
	r.at = r.at.Add(time.Second)
	r.report(1, api.HealthHealthy)
	r.sweep(api.DeploymentRunning)
	r.at = r.at.Add(4*time.Minute - time.Second)
	r.sweep(api.DeploymentRunning)
	r.at = r.at.Add(time.Second)
	r.report(1, api.HealthUnhealthy)
	r.sweep(api.DeploymentFailed)
}

// TestACountThatChangesIsWrittenDown: canaries that are enough for the count as it is now can be promoted.
func TestACountThatChangesIsWrittenDown(t *testing.T) {
	r := newRig(t, 3)
	holders := map[uint32]api.ID{}
	for slot := range uint32(3) {
		r.place(slot)
		r.report(slot, api.HealthHealthy)
	}
	for row := range r.Machine.Snapshot().JobRows("web") {
		holders[row.Slot] = row.ID
	}
	r.sweep(api.DeploymentSuccessful)

	old := r.Machine.Snapshot().Job("web")
	job, task := *old, *old.Tasks[0]
	task.Image, task.Update.Canary = "cube/hello:2", 2
	job.Tasks = []*api.Task{&task}
	r.apply(&fsm.RegisterJobs{Jobs: []*api.Job{&job}, Deploy: true})
	commit := func(p api.JobPlan) {
		s := r.Machine.Snapshot()
		p.Evaluation, p.Job, p.JobModifyIndex, p.Status = s.Open("web").ID, "web", s.Job("web").ModifyIndex, api.EvalBlocked
		r.apply(&fsm.CommitPlan{Plan: &api.Plan{BaseIndex: r.index, Jobs: []api.JobPlan{p}}})
	}
	for slot := range uint32(2) {
		commit(api.JobPlan{Placements: []api.Placement{{Task: "web", Slot: slot, Version: 2, Node: "n1", Held: task.Resources, Replaces: holders[slot], Beside: true}}})
		r.report(slot, api.HealthHealthy)
	}
	r.sweep(api.DeploymentRunning)
	r.apply(&fsm.ScaleJob{Name: "web", Count: 1})
	var above []api.Stop
	for row := range r.Machine.Snapshot().JobRows("web") {
		if row.Slot > 0 {
			above = append(above, api.Stop{Allocation: row.ID, Reason: "count reduced"})
		}
	}
	commit(api.JobPlan{Stops: above})
	r.sweep(api.DeploymentRunning)
	d := r.Machine.Snapshot().Deployment("web")
	if n := d.Tasks[0].Desired; n != 1 {
		t.Errorf("it is for %d instances, want 1", n)
	}
	r.apply(&fsm.SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: api.DeploymentPromote}})
}
