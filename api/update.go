package api

import (
	"encoding/json"
	"fmt"
	"time"
)

// Update is how a new version of a task takes the place of the old one: its roll-out. What a running instance need not be
// replaced for (see SameInstance) changes in place, whatever is said here.
type Update struct {
	// MaxParallel is how many slots of the task are replaced at a time, at least 1. A slot is done when its new instance is
	// healthy; until then, and while it is ill, it counts.
	MaxParallel int
	// Order says whether the old instance of a slot goes before the new one comes (OrderStopFirst) or when the new one is
	// healthy (OrderStartFirst), which takes room for both.
	Order string
	// MinHealthyTime is how long an instance must have run before it can be healthy. Without checks that is all that it
	// takes. A rolling update goes on when the new instance is healthy.
	MinHealthyTime time.Duration
	// HealthyDeadline is how long a new instance may take from its placement until it is healthy; past it the deployment fails.
	HealthyDeadline time.Duration
	// ProgressDeadline is how long a deployment may go on without one more instance becoming healthy; past it, it fails.
	ProgressDeadline time.Duration
	// Canary is how many new instances are first put beside old ones, which stay until the deployment is promoted; 0: none.
	Canary int
	// AutoPromote promotes the deployment when all canaries of the job are healthy.
	AutoPromote bool
	// AutoRevert puts the last stable version in force again when the deployment fails.
	AutoRevert bool
}

// Orders of the steps in which an instance is replaced, or leaves its node.
const (
	OrderStopFirst  = "stop-first"  // the next one starts when the old one is gone
	OrderStartFirst = "start-first" // the old one goes when the next one is healthy
)

// What a task without an update block has.
const (
	// DefaultMinHealthyTime: most programs that cannot live with their configuration die within it, and a person who watches
	// an update of three instances still waits for it.
	DefaultMinHealthyTime = 5 * time.Second
	// DefaultHealthyDeadline leaves time for the pull of a large image.
	DefaultHealthyDeadline = 5 * time.Minute
	// DefaultProgressDeadline is twice that: one instance may be placed anew before the whole counts as stuck.
	DefaultProgressDeadline = 10 * time.Minute
)

// DefaultUpdate is what a task without an update block has.
func DefaultUpdate() Update {
	return Update{MaxParallel: 1, Order: OrderStopFirst, MinHealthyTime: DefaultMinHealthyTime, HealthyDeadline: DefaultHealthyDeadline,
		ProgressDeadline: DefaultProgressDeadline}
}

// IsZero reports whether there is nothing to say: the task has the default. JSON leaves it out then, as it did before there
// was an update block, so that what was said then and what is said now are the same text.
func (u Update) IsZero() bool { return u == DefaultUpdate() }

// MarshalJSON leaves out what is as by default, but for MinHealthyTime, for the reason that IsZero gives.
func (u Update) MarshalJSON() ([]byte, error) {
	said := struct {
		MaxParallel      int    `json:",omitempty"`
		Order            string `json:",omitempty"`
		MinHealthyTime   time.Duration
		HealthyDeadline  time.Duration `json:",omitempty"`
		ProgressDeadline time.Duration `json:",omitempty"`
		Canary           int           `json:",omitempty"`
		AutoPromote      bool          `json:",omitempty"`
		AutoRevert       bool          `json:",omitempty"`
	}(u)
	usual := DefaultUpdate()
	if said.MaxParallel == usual.MaxParallel {
		said.MaxParallel = 0
	}
	if said.Order == usual.Order {
		said.Order = ""
	}
	if said.HealthyDeadline == usual.HealthyDeadline {
		said.HealthyDeadline = 0
	}
	if said.ProgressDeadline == usual.ProgressDeadline {
		said.ProgressDeadline = 0
	}
	return json.Marshal(said)
}

// RollOut says in words how so many instances of the task are replaced in a job of that type.
func (t *Task) RollOut(kind JobType, replaced int) string {
	u := t.Update
	if kind.EveryNode() {
		u.Order = OrderStopFirst // whatever it says: a node has room for one
	}
	text := fmt.Sprintf("rolls %d at a time, %s", u.MaxParallel, u.Order)
	if u.MaxParallel >= replaced {
		text = "rolls all at once, " + u.Order
	}
	if u.MinHealthyTime > 0 {
		text += ", each healthy after " + Brief(u.MinHealthyTime) + " at the earliest"
	}
	switch n := min(u.Canary, t.Count); {
	case n > 0 && u.AutoPromote:
		text = fmt.Sprintf("first places %d beside the old (canary); when healthy, it goes on by itself and %s", n, text)
	case n > 0:
		text = fmt.Sprintf("first places %d beside the old (canary), until somebody promotes the deployment; then %s", n, text)
	}
	switch {
	case kind != JobService:
		return text // it has no deployment, and so no deadline
	case u.AutoRevert:
		return text + "; reverts by itself if one is not healthy within " + Brief(u.HealthyDeadline)
	}
	return text + "; stops there if one is not healthy within " + Brief(u.HealthyDeadline)
}

// maxDeadline has room for an instance that is to run for maxTimeout, and for one after it.
const maxDeadline = 4 * maxTimeout

func (u Update) validate() error {
	switch {
	case u.MaxParallel < 1 || u.MaxParallel > MaxTaskInstances:
		return faultf("max_parallel", "max_parallel %d is not from 1 to %d", u.MaxParallel, MaxTaskInstances)
	case u.Order != OrderStopFirst && u.Order != OrderStartFirst:
		return faultf("order", "order %.40q is neither %s nor %s", u.Order, OrderStopFirst, OrderStartFirst)
	case u.MinHealthyTime < 0 || u.MinHealthyTime > maxTimeout:
		return faultf("min_healthy_time", "min_healthy_time %s is not from 0 to %s", u.MinHealthyTime, maxTimeout)
	case u.HealthyDeadline <= 0 || u.HealthyDeadline > maxDeadline:
		return faultf("healthy_deadline", "healthy_deadline %s is not above 0 and at most %s", u.HealthyDeadline, maxDeadline)
	case u.HealthyDeadline <= u.MinHealthyTime:
		return faultf("healthy_deadline", "healthy_deadline %s is not above min_healthy_time %s: no instance could be healthy in time", u.HealthyDeadline, u.MinHealthyTime)
	case u.ProgressDeadline <= 0 || u.ProgressDeadline > maxDeadline:
		return faultf("progress_deadline", "progress_deadline %s is not above 0 and at most %s", u.ProgressDeadline, maxDeadline)
	case u.ProgressDeadline < u.HealthyDeadline:
		return faultf("progress_deadline", "progress_deadline %s is below healthy_deadline %s: the deployment would fail before its instance", u.ProgressDeadline, u.HealthyDeadline)
	case u.Canary < 0 || u.Canary > MaxTaskInstances:
		return faultf("canary", "canary %d is not from 0 to %d", u.Canary, MaxTaskInstances)
	case u.AutoPromote && u.Canary == 0:
		return faultf("auto_promote", "auto_promote has nothing to promote: canary is 0")
	}
	return nil
}

// validateFor checks what depends on the job's type: only services have deployments.
func (u Update) validateFor(kind JobType) error {
	switch {
	case kind == JobService:
		return nil
	case u.Order != OrderStopFirst:
		return faultf("order", "order %s is for jobs of type %s, not %s", u.Order, JobService, kind)
	case u.Canary > 0:
		return faultf("canary", "canary is for jobs of type %s, not %s", JobService, kind)
	case u.AutoRevert:
		return faultf("auto_revert", "auto_revert is for jobs of type %s, not %s", JobService, kind)
	}
	return nil
}
