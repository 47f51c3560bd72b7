package scheduler

import (
	"fmt"
	"slices"
	"time"

	"cube/api"
)

// retry is what is known of a slot whose instance ended, for the one that takes its place.
type retry struct {
	trial  api.Trial
	due    int64    // when it may be placed, Unix nanoseconds
	failed []string // nodes on which the slot's instances failed lately, the latest first
}

// failedForGood reports whether an instance failed of its own, its restart policy used up. One that lost its port to something
// outside Cube is placed again at once, with another.
func failedForGood(row *api.AllocationRow) bool {
	return row.Phase == api.PhaseFailed && row.Failure != api.FailurePortTaken
}

// endedSlot judges a slot that nothing holds, by the last holder it had.
func (c *change) endedSlot(t *api.Task, number uint32, row *api.AllocationRow) slot {
	s := slot{number: number, state: c.endedState(row), last: row}
	if s.state != slotVacant && s.state != slotFailed || row.Version != c.job.Version || row.Desired == api.DesiredStop {
		return s
	}
	past := c.state.Past(row.ID)
	if s.state == slotVacant { // it was lost, or its port was taken: that is no failure of its own
		if past.Trial != (api.Trial{}) || len(past.Failed) > 0 {
			s.retry = &retry{trial: past.Trial, failed: past.Failed}
		}
		return s
	}
	if row.Failure == api.FailureTime && t.Reschedule == (api.Reschedule{}) {
		return s // what took too long seldom gets done the next time: that is for a person to ask for
	}
	trial, due, ok := t.Rescheduling(c.job.Type).Next(past)
	if !ok {
		return s
	}
	s.retry, s.state = &retry{trial, due, past.Failed}, slotLater
	if due <= c.options.Now {
		s.state = slotVacant
	}
	return s
}

// await notes when the first of a task's waiting slots is to be looked at again, and says which.
func (c *change) await(t *api.Task, slots []slot) *api.Retry {
	var first *slot
	more := -1
	for i := range slots {
		if s := &slots[i]; s.state == slotLater {
			more++
			if first == nil || s.retry.due < first.retry.due {
				first = s
			}
		}
	}
	if due := first.retry.due; c.answer.WakeAt == 0 || due < c.answer.WakeAt {
		c.answer.WakeAt = due
	}
	return &api.Retry{Instance: api.InstanceName(c.job.Name, t.Name, first.number), At: time.Unix(0, first.retry.due).UTC(),
		Attempt: int(first.retry.trial.Used), Attempts: max(0, t.Rescheduling(c.job.Type).Attempts), More: more}
}

// usedUp says why what failed is not placed again.
func (c *change) usedUp(t *api.Task) string {
	if t.Rescheduling(c.job.Type).Attempts == 0 || t.MaxRunDuration > 0 && t.Reschedule == (api.Reschedule{}) {
		return "its restart policy is used up, and it is not to be rescheduled"
	}
	return "its restart policy and its attempts to reschedule are used up"
}

// away are the nodes that the instance had better stay away from, by their place: the worst first.
func (r *retry) away(v *view) []int32 {
	if r == nil {
		return nil
	}
	var out []int32
	for _, id := range r.failed {
		if node := v.ordinal(id); node < len(v.nodes) && v.nodes[node].ID == id { // it may be gone
			out = append(out, int32(node))
		}
	}
	return out
}

// noteReturn says so where an instance goes back to a node on which it failed, for want of another.
func (c *change) noteReturn(t *api.Task, s *slot, node int) {
	if n := c.view.nodes[node]; !c.job.Type.EveryNode() && slices.Contains(s.retry.failed, n.ID) {
		c.messages = append(c.messages, api.InstanceName(c.job.Name, t.Name, s.number)+" goes back to "+n.Name+", where it failed: no other node can take it")
	}
}

// wait is what a task waits for before anything of it begins.
type wait struct {
	text string    // "" for nothing
	due  time.Time // when it gives up; zero: never
	over bool      // it has
}

// unmet returns what the task waits for: the first of its dependencies, or one for which it has waited for as long as it may.
func (c *change) unmet(t *api.Task) (w wait) {
	for _, d := range t.DependsOn {
		on := c.job.Task(d.Task)
		n := c.meeting(on, d.Condition)
		if n >= on.Count {
			continue
		}
		due := d.GivesUp(c.job, c.state.Deployment(c.job.Name))
		if !due.IsZero() && due.UnixNano() <= c.options.Now {
			return wait{over: true, text: fmt.Sprintf("has waited %s for %s to be %s, and gives up: %d of %d instances are", api.Brief(d.Timeout), on.Name, d.Condition, n, on.Count)}
		}
		if w.text == "" {
			w.text = fmt.Sprintf("waits for %s to be %s: %d of %d instances are", on.Name, d.Condition, n, on.Count)
		}
		if w.due.IsZero() || !due.IsZero() && due.Before(w.due) {
			w.due = due
		}
	}
	if !w.due.IsZero() {
		w.text += "; gives up at " + w.due.UTC().Format("15:04:05 MST")
	}
	return w
}

// meeting counts the task's slots that meet a condition of a dependency, in the version in force.
func (c *change) meeting(t *api.Task, condition string) (n int) {
	r := &request{task: t}
	for _, rows := range c.bySlot(t) {
		if len(rows) == 0 {
			continue
		}
		last := &rows[len(rows)-1]
		current := last.Version == c.job.Version || c.same(r, last)
		up := current && last.Phase == api.PhaseRunning && last.Desired == api.DesiredRun
		switch {
		case c.job.Type.Completes() && c.state.Completed(c.job.Name, t.Name, c.job.Version, last.Slot),
			up && condition == api.DependRunning, up && condition == api.DependHealthy && last.Health == api.HealthHealthy:
			n++
		}
	}
	return n
}
