package deployment

import (
	"fmt"
	"time"

	"cube/api"
)

// Statuses are all that a deployment can have.
func Statuses() []api.DeploymentStatus {
	return []api.DeploymentStatus{api.DeploymentRunning, api.DeploymentPaused, api.DeploymentSuccessful, api.DeploymentFailed,
		api.DeploymentReverted, api.DeploymentCancelled}
}

// Begin returns the deployment of a new version, which follows before; nil is none, or a job that was stopped. Canaries are
// tried where instances of a task are to be replaced; where there are none, or they stay as they are, there is nothing to try.
// They may be those of a version before that: last is the job's deployment until now, and where its canaries were not promoted
// the new version is tried in their place.
func Begin(id api.ID, j, before *api.Job, last *api.Deployment, who string, now time.Time) *api.Deployment {
	d := &api.Deployment{ID: id, Job: j.Name, Version: j.Version, Status: api.DeploymentRunning, By: who,
		Since: now, ProgressAt: now, CreatedAt: now}
	if before != nil {
		d.Before = before.Version
	}
	for _, t := range j.Tasks {
		task := api.DeploymentTask{Task: t.Name, Desired: t.Count}
		if before != nil {
			old, untried := before.Task(t.Name), last != nil && last.Version == before.Version && last.Unpromoted(t.Name)
			if old != nil && (untried || !api.SameInstance(old, t)) {
				task.Canaries = t.Update.Canary
			}
		}
		d.Tasks = append(d.Tasks, task)
	}
	return d
}

// Facts are what an order depends on besides the deployment.
type Facts struct {
	InForce bool                  // the deployment's version is, and its job is not stopped
	Healthy func(task string) int // healthy instances of the version
	Who     string
	Now     time.Time
}

// Steer returns what an order makes of a deployment, which is not changed.
func Steer(old *api.Deployment, o api.DeploymentOrder, f Facts) (*api.Deployment, error) {
	d := *old
	d.By, d.Reason = f.Who, o.Reason
	conflict := func(format string, args ...any) error {
		return api.Errorf(api.CodeConflict, "the deployment of version %d of job %.80q %s", d.Version, d.Job, fmt.Sprintf(format, args...))
	}
	ended := func() error { return conflict("is %s: there is nothing to %s", d.Status, o.Action) }
	switch o.Action {
	case api.DeploymentPause:
		if d.Status != api.DeploymentRunning {
			return nil, ended()
		}
		d.Status = api.DeploymentPaused
	case api.DeploymentResume:
		switch {
		case d.Status != api.DeploymentPaused && d.Status != api.DeploymentFailed:
			return nil, ended()
		case !f.InForce:
			return nil, conflict("cannot go on: another version is in force, or the job is stopped")
		}
		d.Status, d.Since, d.ProgressAt = api.DeploymentRunning, f.Now, f.Now
	case api.DeploymentPromote:
		if d.Status != api.DeploymentRunning {
			return nil, ended()
		}
		if err := promote(&d, f, conflict); err != nil {
			return nil, err
		}
	case api.DeploymentFail:
		if !d.Status.Active() {
			return nil, ended()
		}
		d.Status = api.DeploymentFailed
		if d.Reason == "" {
			d.Reason = "failed on request"
		}
	default:
		return nil, api.Errorf(api.CodeInvalid, "action %.40q is none of %s, %s, %s, %s", o.Action, api.DeploymentPause, api.DeploymentResume,
			api.DeploymentPromote, api.DeploymentFail)
	}
	return &d, nil
}

// promote has the roll-out go on to the instances that are no canaries. All canaries of the job must be healthy.
func promote(d *api.Deployment, f Facts, conflict func(string, ...any) error) error {
	some := false
	tasks := append([]api.DeploymentTask(nil), d.Tasks...)
	for i := range tasks {
		t := &tasks[i]
		if t.Canaries == 0 || t.Promoted {
			continue
		}
		if healthy, wanted := f.Healthy(t.Task), min(t.Canaries, t.Desired); healthy < wanted {
			return conflict("cannot be promoted: of task %s %d of %d canaries are healthy", t.Task, healthy, wanted)
		}
		t.Promoted, some = true, true
	}
	if !some {
		return conflict("has nothing to promote: it has no canaries, or they are promoted")
	}
	d.Tasks, d.ProgressAt = tasks, f.Now
	return nil
}

// Move is what the leader found of a deployment. Seen is the modify index of the row that it judged: if the row is another by
// now, the move does not count.
type Move struct {
	ID      api.ID
	Seen    uint64
	To      string // api.MoveProgress and so on
	Reason  string `json:",omitempty"`
	Healthy int    `json:",omitempty"`
	Tasks   []api.DeploymentTask
}

// Take returns what a move makes of a deployment, which is not changed; nil if it does not count.
func Take(old *api.Deployment, m *Move, f Facts) *api.Deployment {
	if old == nil || old.ModifyIndex != m.Seen || !old.Status.Active() || !f.InForce {
		return nil
	}
	d := *old
	d.By = f.Who
	d.Tasks = append([]api.DeploymentTask(nil), m.Tasks...)
	for i := range d.Tasks { // what was promoted is not the leader's to say
		if was := old.Task(d.Tasks[i].Task); was != nil {
			d.Tasks[i].Canaries, d.Tasks[i].Promoted = was.Canaries, was.Promoted
		}
	}
	d.Reason = m.Reason
	switch m.To {
	case api.MoveProgress:
		d.ProgressAt = f.Now
	case api.MovePromote:
		refused := func(string, ...any) error { return api.Errorf(api.CodeConflict, "not yet") }
		if promote(&d, f, refused) != nil {
			return nil
		}
	case api.MoveSucceed:
		d.Status = api.DeploymentSuccessful
	case api.MoveFail:
		d.Status = api.DeploymentFailed
	default:
		return nil
	}
	d.Healthy = max(old.Healthy, m.Healthy)
	return &d
}
