// Package drain is how the emptying of a node goes on: what each wish and each look makes of the node's row. It is pure; the
// state machine keeps the rows, and counts what is left.
package drain

import (
	"time"

	"cube/api"
)

// Left is what is on a node and not gone.
type Left struct {
	Work   int // instances of service and batch jobs
	System int // of system and sysbatch jobs
}

// Add counts an instance of a type of job.
func (l *Left) Add(t api.JobType) {
	if t == api.JobSystem || t == api.JobSysbatch {
		l.System++
	} else {
		l.Work++
	}
}

// of is how much of what is left has to go.
func (l Left) of(d *api.Drain) int {
	if d.IgnoreSystem {
		return l.Work
	}
	return l.Work + l.System
}

// Word is who says that a node takes new instances or none, and why. The zero value is nobody's.
type Word struct{ By, Why string }

// Begin returns the node with a drain begun, or with the one under way changed to what the request says. A node that has
// nothing to lose is drained at once.
func Begin(n *api.Node, r *api.DrainRequest, by string, word Word, left Left, now time.Time) (*api.Node, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if n.Status == api.NodeDown {
		return nil, api.Errorf(api.CodeConflict,
			"node %s is down: nothing runs on it; so that nothing is placed on it when it comes back: cube node eligibility -disable %s", n.Name, n.Name)
	}
	d := &api.Drain{Stage: api.DrainMoving, By: by, Message: r.Message, StartedAt: now, IgnoreSystem: r.IgnoreSystem}
	switch {
	case r.Force:
		d.Deadline = now
	case r.Deadline == 0:
		d.Deadline = now.Add(api.DefaultDrainDeadline)
	default:
		d.Deadline = now.Add(r.Deadline)
	}
	d.Instances = left.of(d)
	if n.Drain.Active() {
		d.StartedAt, d.Instances = n.Drain.StartedAt, max(d.Instances, n.Drain.Instances)
	}
	changed := eligible(n, false, word, now)
	changed.Drain = d
	if settled := Settle(changed, left, now); settled != nil {
		return settled, nil
	}
	return changed, nil
}

// Cancel returns the node without the drain that is under way. One that is kept ineligible is so since it was made so, by whom and
// why that was.
func Cancel(n *api.Node, r *api.CancelDrainRequest, word Word, now time.Time) (*api.Node, error) {
	switch {
	case n.Drain == nil:
		return nil, api.Errorf(api.CodeConflict, "node %s is not being drained: there is nothing to cancel", n.Name)
	case !n.Drain.Active():
		return nil, api.Errorf(api.CodeConflict, "node %s is drained already; to use it again: cube node eligibility -enable %s", n.Name, n.Name)
	}
	changed := eligible(n, !r.KeepIneligible, word, now)
	changed.Drain = nil
	return changed, nil
}

// Eligible returns the node as eligible or not, n itself if it is so already and nothing new is said of why. A drain under way
// keeps a node ineligible; one that is complete is over for good when the node is eligible.
func Eligible(n *api.Node, yes bool, word Word, now time.Time) (*api.Node, error) {
	if yes && n.Drain.Active() {
		return nil, api.Errorf(api.CodeConflict, "node %s is being drained; to end that: cube node drain -cancel %s", n.Name, n.Name)
	}
	if yes != n.Ineligible {
		if word.Why == "" || word.Why == n.EligibilityReason {
			return n, nil
		}
		changed := *n
		changed.EligibilityBy, changed.EligibilityReason = word.By, word.Why
		return &changed, nil
	}
	changed := eligible(n, yes, word, now)
	if yes {
		changed.Drain = nil
	}
	return changed, nil
}

func eligible(n *api.Node, yes bool, word Word, now time.Time) *api.Node {
	changed := *n
	if n.Ineligible == yes {
		changed.Ineligible, changed.EligibilityAt = !yes, now
		changed.EligibilityBy, changed.EligibilityReason = word.By, word.Why
	}
	return &changed
}

// Settle returns the node with its drain in the next stage, nil if that has not come. Past the deadline everything goes; the
// instances of system jobs go when nothing else is left; and when nothing is left the drain is complete.
func Settle(n *api.Node, left Left, now time.Time) *api.Node {
	if !n.Drain.Active() {
		return nil
	}
	d := *n.Drain
	switch {
	case left.of(&d) == 0:
		d.Stage, d.EndedAt = api.DrainComplete, now
	case d.Stage != api.DrainForced && !now.Before(d.Deadline):
		d.Stage = api.DrainForced
	case d.Stage == api.DrainMoving && left.Work == 0:
		d.Stage = api.DrainSystem
	default:
		return nil
	}
	changed := *n
	changed.Drain = &d
	return &changed
}
