package api

import (
	"context"
	"fmt"
	"time"
)

// DeploymentStatus is where the roll-out of a version stands.
type DeploymentStatus string

const (
	DeploymentRunning    DeploymentStatus = "running"    // moved on by the servers; its tasks' deadlines count
	DeploymentPaused     DeploymentStatus = "paused"     // by a person, for MaxHold at most
	DeploymentSuccessful DeploymentStatus = "successful" // every instance is of the version, and was healthy
	DeploymentFailed     DeploymentStatus = "failed"     // a deadline passed, or a person said so; nothing moves on
	DeploymentReverted   DeploymentStatus = "reverted"   // it failed, and the last stable version is in force again
	DeploymentCancelled  DeploymentStatus = "cancelled"  // a newer version, or the job's stop, took its place
)

// Active reports whether the deployment is still to come to an end. A job has at most one such, that of the version in force.
func (s DeploymentStatus) Active() bool { return s == DeploymentRunning || s == DeploymentPaused }

// MaxHold is how long a deployment may be paused, or wait for a person to promote it, before it fails: nothing stays half done
// because somebody forgot it.
const MaxHold = 24 * time.Hour

// KeptDeployments is how many deployments of a job are kept.
const KeptDeployments = 10

// Deployment is the roll-out of one version of a service job. It is a row; a stored one never changes, it is replaced.
type Deployment struct {
	ID         ID
	Job        string
	Version    uint64
	Before     uint64           `json:",omitempty"` // the version in force before; 0 for none, or a job that was stopped
	Automatic  bool             `json:",omitempty"` // it is itself an automatic revert: its failure does not revert again
	Status     DeploymentStatus // see there
	Reason     string           `json:",omitempty"` // of the status, for people
	By         string           // who last moved it: a person, or a loop of the leader
	RevertedTo uint64           `json:",omitempty"` // the version that its failure put in force
	Healthy    int              `json:",omitempty"` // the most instances of the version that were healthy at once: its progress
	Tasks      []DeploymentTask // by name
	Since      time.Time        // deadlines of instances count from here at the earliest: it began, or went on after a pause
	ProgressAt time.Time        // when it last came forward
	CreatedAt  time.Time        // like all of these, by the leader's clock
	ModifiedAt time.Time
	CreateIndex,
	ModifyIndex uint64
}

// DeploymentTask is how far a deployment is with one task.
type DeploymentTask struct {
	Task      string
	Canaries  int  `json:",omitempty"` // to be tried first
	Promoted  bool `json:",omitempty"` // they were found good
	Desired   int  // instances the task is to have
	Placed    int  // of these, of the version, or changed to it in place
	Healthy   int  // of these, healthy
	Unhealthy int  // instances of the version that failed, or were not healthy in time
}

// Task returns how far the deployment is with a task, nil if it has none of that name.
func (d *Deployment) Task(name string) *DeploymentTask {
	for i := range d.Tasks {
		if d.Tasks[i].Task == name {
			return &d.Tasks[i]
		}
	}
	return nil
}

// Turn says in words what the latest move made of the deployment, as the reason for what follows: "the roll-out of version 2 failed".
// It is "" for none.
func (d *Deployment) Turn() string {
	if d == nil {
		return ""
	}
	what := fmt.Sprintf("the roll-out of version %d ", d.Version)
	switch d.Status {
	case DeploymentRunning:
		return what + "goes on"
	case DeploymentPaused:
		return what + "is paused"
	case DeploymentSuccessful:
		return what + "came to its end"
	case DeploymentFailed:
		return what + "failed"
	}
	return what + "was " + string(d.Status)
}

// Held reports whether the task's roll-out must not move on: its canaries are not promoted, or the deployment is paused or has
// failed. A nil deployment holds nothing.
func (d *Deployment) Held(task string) bool {
	if d == nil {
		return false
	}
	return d.Status == DeploymentPaused || d.Status == DeploymentFailed || d.Status == DeploymentReverted || d.Unpromoted(task)
}

// Unpromoted reports whether the task has canaries that nobody has promoted.
func (d *Deployment) Unpromoted(task string) bool {
	if d == nil || !d.Status.Active() && d.Status != DeploymentFailed {
		return false
	}
	t := d.Task(task)
	return t != nil && t.Canaries > 0 && !t.Promoted
}

// DeploymentView is a deployment as people read it, with IDs as text.
type DeploymentView struct {
	ID         string
	Job        string
	Version    uint64
	Before     uint64 `json:",omitempty"`
	Automatic  bool   `json:",omitempty"`
	Status     DeploymentStatus
	Reason     string `json:",omitempty"` // of the status; of one that runs, what it waits for
	By         string
	RevertedTo uint64           `json:",omitempty"`
	Tasks      []DeploymentTask // counted now for one that is active, as they were at its end otherwise
	Deadline   time.Time        // when it fails unless it comes forward; zero once it has ended
	CreatedAt  time.Time
	ModifiedAt time.Time
	CreateIndex,
	ModifyIndex uint64
}

// View returns what people read of the deployment.
func (d *Deployment) View(text IDText) *DeploymentView {
	return &DeploymentView{
		ID: text.Format(d.ID), Job: d.Job, Version: d.Version, Before: d.Before, Automatic: d.Automatic, Status: d.Status, Reason: d.Reason,
		By: d.By, RevertedTo: d.RevertedTo, Tasks: d.Tasks, CreatedAt: d.CreatedAt, ModifiedAt: d.ModifiedAt,
		CreateIndex: d.CreateIndex, ModifyIndex: d.ModifyIndex,
	}
}

// What a person may ask of a deployment.
const (
	DeploymentPause   = "pause"   // one that runs stands still
	DeploymentResume  = "resume"  // one that is paused goes on; one that failed, and whose version is still in force, is tried again
	DeploymentPromote = "promote" // the canaries are good: the others follow
	DeploymentFail    = "fail"    // it is not to go on; with auto_revert the last stable version is in force again
)

// What the leader finds of a deployment that is active.
const (
	MoveProgress = "progress" // it came forward
	MovePromote  = "promote"  // its canaries are healthy, and that is enough for its job
	MoveSucceed  = "succeed"
	MoveFail     = "fail"
)

// DeploymentOrder is what a person asks of a deployment.
type DeploymentOrder struct {
	Action string // one of the above
	Reason string `json:",omitempty"` // kept with the deployment; at most MaxStatusMessage bytes
}

// Deployments are how versions were rolled out. A deployment is named by its ID, any unique prefix of it, or its job, which
// stands for the job's newest one.
type Deployments interface {
	// ListDeployments returns deployments, newest first; Query.Prefix is one of job names.
	ListDeployments(ctx context.Context, q Query) ([]*DeploymentView, ReadMeta, error)
	Deployment(ctx context.Context, id string, q Query) (*DeploymentView, ReadMeta, error)
	// SteerDeployment does what is asked and returns what became of the deployment. CodeConflict where that makes no sense, such
	// as to promote what has no healthy canaries.
	SteerDeployment(ctx context.Context, id string, o DeploymentOrder, w WriteMeta) (*DeploymentView, error)
}
