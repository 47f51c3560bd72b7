package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cube/api"
	"cube/scheduler/moving"
	"cube/scheduler/reunion"
)

// retry is what is known of a slot whose instance ended, for the one that takes its place.
type retry struct {
	trial  api.Trial
	due    int64    // when it may be placed, Unix nanoseconds
	failed []string // nodes on which the slot's instances failed lately, the latest first
}

// failedForGood reports whether an instance failed of its own, its restart policy used up. One that lost its port to something
// outside Cube, or was stopped by a client that was cut off, is placed again at once.
func failedForGood(row *api.AllocationRow) bool {
	return row.Phase == api.PhaseFailed && !row.Failure.Blameless()
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

// due is when an instance of the task is to be healthy that takes the place of one that moves, Unix nanoseconds.
func (c *change) due(t *api.Task, row *api.AllocationRow) int64 {
	_, deadline := t.Move()
	return row.CreatedAt + int64(deadline)
}

// tried are the nodes that a slot which is to move had better stay away from.
func (c *change) tried(standing moving.Standing, s *slot) []int32 {
	if standing != moving.Tried || s.beside.NodeOrdinal < 0 {
		return nil
	}
	return []int32{int32(s.beside.NodeOrdinal)}
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
	c.wake(time.Unix(0, first.retry.due))
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

// unmet returns what the task waits for: the first of its dependencies, or one for which it waits in vain, or has waited for as long as
// it may.
func (c *change) unmet(t *api.Task) (w wait) {
	for _, d := range t.DependsOn {
		on := c.job.Task(d.Task)
		n := c.meeting(on, d.Condition)
		if n >= on.Count {
			continue
		}
		if why := c.hopeless(on); why != "" {
			return wait{over: true, text: fmt.Sprintf("waits in vain for %s to be %s: %s", on.Name, d.Condition, why)}
		}
		due := d.GivesUp(c.job, c.state.Deployment(c.job.Name))
		if !due.IsZero() && c.begun(t, due.Add(-d.Timeout)) { // the condition has been met since: what is not met now is another wait
			due = time.Time{}
		}
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

// begun reports whether an instance of the task's version in force has been placed since a time.
func (c *change) begun(t *api.Task, since time.Time) bool {
	return slices.ContainsFunc(c.rows, func(row api.AllocationRow) bool {
		return row.Task == t.Name && row.Version == c.job.Version && row.CreatedAt >= since.UnixNano()
	})
}

// begins reports whether what takes the place of a slot's last instance, nil for none, is a beginning: there was none, or one of another
// content, or of a version in which the job was stopped.
func (c *change) begins(r *request, last *api.AllocationRow) bool {
	if last == nil || last.Version == c.job.Version {
		return last == nil
	}
	old := c.state.JobVersion(c.job.Name, last.Version)
	return old != nil && old.Stopped || !c.same(r, last)
}

// hopeless says why a task will not get by itself to where another waits for it to be: an instance has failed and is not placed again, or
// the task is not going to begin either. It is "" where it may. What changes that has the job be looked at again.
func (c *change) hopeless(t *api.Task) (why string) {
	if why, known := c.vain[t.Name]; known {
		return why
	}
	if c.vain == nil {
		c.vain = map[string]string{}
	}
	c.vain[t.Name] = "" // no task waits for itself, and none is to be asked twice
	r, waits := &request{task: t}, c.unmet(t)
	for n, rows := range c.bySlot(t) {
		var last *api.AllocationRow
		if len(rows) > 0 {
			last = &rows[len(rows)-1]
		}
		switch {
		case slices.ContainsFunc(rows, func(row api.AllocationRow) bool { return row.Live() }):
		case c.job.Type.Completes() && c.state.Completed(c.job.Name, t.Name, c.job.Version, uint32(n)):
		case last != nil && c.endedSlot(t, uint32(n), last).state == slotFailed:
			why = api.InstanceName(c.job.Name, t.Name, uint32(n)) + " failed and is not placed again"
		case waits.over && c.begins(r, last):
			why = t.Name + " does not begin"
		}
		if why != "" {
			break
		}
	}
	c.vain[t.Name] = why
	return why
}

// meeting counts the task's slots that meet a condition of a dependency, in the version in force.
func (c *change) meeting(t *api.Task, condition string) (n int) {
	r := &request{task: t}
	for _, rows := range c.bySlot(t) {
		if len(rows) == 0 {
			continue
		}
		if c.job.Type.Completes() && c.state.Completed(c.job.Name, t.Name, c.job.Version, rows[0].Slot) {
			n++
		} else if slices.ContainsFunc(rows, func(row api.AllocationRow) bool { // what was tried after it may have failed, and be the last
			return (row.Version == c.job.Version || c.same(r, &row)) && !row.Away && row.Phase == api.PhaseRunning && row.Desired == api.DesiredRun &&
				(condition == api.DependRunning || condition == api.DependHealthy && row.Health == api.HealthHealthy)
		}) {
			n++
		}
	}
	return n
}

// Instances that are not heard of, since their node was declared down a while ago, and may run on.

// occupants are those of a slot that matter; nil is none.
type occupants struct{ holder, successor, stopping, ended *api.AllocationRow }

// parted judges a slot that has an instance which is not heard of, or was not; ok is false for all others.
func (c *change) parted(r *request, number uint32, in occupants) (s slot, ok bool) {
	h := in.holder
	switch {
	case h == nil || slices.Contains(c.asked, h.ID):
		return s, false
	case c.job.Type.Completes() && (h.Replaces != 0 || in.ended != nil && in.ended.Phase == api.PhaseComplete) &&
		c.state.Completed(c.job.Name, r.task.Name, c.job.Version, number):
		c.stop(h, reasonDone) // the other one of the slot did it
		return slot{number: number, state: slotDone, last: h}, true
	case h.Away && !c.down(h) && (c.overtaken(r, h) || c.evicting(h) != nil):
		return s, false // its node is about to be ready: it can be asked to stop, as others are
	case h.Away:
		return c.away(r, number, in), true
	case in.successor == nil || slices.Contains(c.asked, in.successor.ID):
		return s, false
	case in.successor.Away:
		c.stop(in.successor, reasonBeside)
		return slot{number: number, state: c.holderState(r, h), last: h, beside: in.successor, next: slotStopping}, true
	}
	return c.reunite(r, number, h, in.successor)
}

// away judges a slot whose holder is not heard of: whether it is given up, and what there is, or is to be, beside it.
func (c *change) away(r *request, number uint32, in occupants) slot {
	h, node, down := in.holder, c.view.nodes[in.holder.NodeOrdinal], c.down(in.holder)
	due := reunion.GivenUp(node.Absence, r.task.Disconnect)
	switch {
	case c.overtaken(r, h):
		return c.giveUp(r, number, in, c.replaced()+"; node "+node.Name+" is not heard of")
	case c.evicting(h) != nil:
		return c.giveUp(r, number, in, node.Drain.Cause(node.Name))
	case due.UnixNano() <= c.options.Now:
		return c.giveUp(r, number, in, fmt.Sprintf("given up: node %s has not been heard of for %s", node.Name, api.Brief(r.task.Disconnect.LostAfter)))
	}
	c.holderState(r, h)
	c.wake(due)
	s := slot{number: number, state: slotAway, last: h, absent: h}
	switch {
	case in.successor != nil && in.successor.Away:
		if down && reunion.Prefer(r.task.Disconnect.Reconcile, c.instance(h), c.instance(in.successor)) == reunion.Replacement {
			return c.giveUp(r, number, in, reasonNeither)
		}
		c.stop(in.successor, reasonNeither)
		s.beside, s.next = in.successor, slotStopping
	case in.successor != nil:
		s.state, s.last = c.holderState(r, in.successor), in.successor
	case in.stopping != nil: // until it is gone there is no place for a third one
		s.beside, s.next = in.stopping, slotStopping
	case r.task.Disconnect.Replace && !c.job.Type.EveryNode():
		s = c.without(r, number, in)
		s.absent = h
	}
	return s
}

// giveUp has an instance that is not heard of be lost, and judges the slot as it is without it.
func (c *change) giveUp(r *request, number uint32, in occupants, why string) slot {
	c.stop(in.holder, why)
	switch {
	case in.successor != nil && in.successor.Away:
		return slot{number: number, state: slotAway, last: in.successor, absent: in.successor, beside: in.holder, next: slotStopping}
	case in.successor != nil:
		return slot{number: number, state: c.holderState(r, in.successor), last: in.successor, beside: in.holder, next: slotStopping}
	case in.stopping != nil:
		return slot{number: number, state: slotStopping, last: in.stopping}
	case !c.down(in.holder): // it stops in good order
		return slot{number: number, state: slotStopping, last: in.holder}
	}
	return c.without(r, number, in)
}

// down reports whether an instance's node is down, so that it is lost at once when it is to stop.
func (c *change) down(row *api.AllocationRow) bool {
	return row.NodeOrdinal >= 0 && c.view.nodes[row.NodeOrdinal].Status == api.NodeDown
}

// without judges a slot that has nothing but an instance which is not heard of: as if that were lost. Which of those that were
// tried beside it failed counts.
func (c *change) without(r *request, number uint32, in occupants) slot {
	if in.ended != nil && in.ended.Replaces == in.holder.ID {
		s := c.endedSlot(r.task, number, in.ended)
		s.last = in.holder
		return s
	}
	s := slot{number: number, last: in.holder}
	if past := c.state.Past(in.holder.ID); past.Trial != (api.Trial{}) || len(past.Failed) > 0 {
		s.retry = &retry{trial: past.Trial, failed: past.Failed}
	}
	return s
}

// reunite judges a slot whose holder is heard of again, after a successor was placed beside it because it was not. One of the
// two stays, as package reunion decides. ok is false where the successor is there for another reason, or the holder has to go anyway.
func (c *change) reunite(r *request, number uint32, h, successor *api.AllocationRow) (s slot, ok bool) {
	if h.NodeOrdinal < 0 || !reunion.Apart(c.view.nodes[h.NodeOrdinal].Absence, successor.CreatedAt) || !r.task.Disconnect.Keeps() ||
		c.overtaken(r, h) || c.overtaken(r, successor) || c.evicting(h) != nil || c.moveOf(h.ID) != nil {
		return s, false
	}
	node := c.view.nodes[h.NodeOrdinal]
	due := node.Absence.Until.Add(r.task.Update.HealthyDeadline)
	original, replacement := c.instance(h), c.instance(successor)
	first := slot{number: number, state: c.holderState(r, h), last: h, beside: successor, next: slotStopping}
	second := slot{number: number, state: c.holderState(r, successor), last: successor, beside: h, next: slotStopping}
	why := "; reconcile is " + r.task.Disconnect.Reconcile
	switch reunion.Decide(r.task.Disconnect.Reconcile, original, replacement, due.UnixNano() <= c.options.Now) {
	case reunion.Original:
		if original.Well && !replacement.Well {
			why = "; this one is not healthy"
		}
		c.stop(successor, "node "+node.Name+" is back, and the original there is kept"+why)
		return first, true
	case reunion.Replacement:
		if replacement.Well && !original.Well {
			why = "; this one is not healthy"
		}
		c.stop(h, "node "+node.Name+" is back, and the replacement is kept"+why)
		return second, true
	}
	c.wake(due)
	c.messages = append(c.messages, api.InstanceName(c.job.Name, r.task.Name, number)+" is back on "+node.Name+": waits for it or its replacement to be healthy")
	second.beside, second.next, second.absent = nil, slotVacant, h
	return second, true
}

// instance is one of two as package reunion sees it.
func (c *change) instance(row *api.AllocationRow) reunion.Instance {
	return reunion.Instance{Well: row.Health == api.HealthHealthy && !row.Away, Leaves: c.evicting(row) != nil, Started: c.state.StartedAt(row.ID)}
}

// giveWay has an instance that is kept beside a slot's present one go, where that one is to have a successor: a slot has no place
// for three. It reports whether there was one.
func (c *change) giveWay(s *slot) bool {
	if s.absent == nil {
		return false
	}
	c.stop(s.absent, reasonRoom)
	s.beside, s.next, s.absent = s.absent, slotStopping, nil
	return true
}

// wake has the job looked at again at a time, if nothing else does before. What is past has been looked at just now.
func (c *change) wake(at time.Time) {
	if due := at.UnixNano(); due > c.options.Now && (c.answer.WakeAt == 0 || due < c.answer.WakeAt) {
		c.answer.WakeAt = due
	}
}

// notHeardOf says which of a task's instances are kept though nothing is heard of them, and until when; "" if none is.
func (c *change) notHeardOf(t *api.Task, slots []slot) string {
	var nodes []*api.Node
	names := map[*api.Node][]string{} // looked up, never ranged over
	for i := range slots {
		row := slots[i].absent
		if row == nil || !row.Away || row.Desired == api.DesiredStop {
			continue
		}
		n := c.view.nodes[row.NodeOrdinal]
		if names[n] == nil {
			nodes = append(nodes, n)
		}
		names[n] = append(names[n], api.InstanceName(c.job.Name, t.Name, slots[i].number))
	}
	var out []string
	for _, n := range nodes {
		away := api.AwayInstance{Since: n.Absence.Since, GivenUpAt: reunion.GivenUp(n.Absence, t.Disconnect)}
		out = append(out, api.FirstOf(names[n], 3)+": "+away.Text(n.Name))
	}
	return strings.Join(out, "; ")
}

// Instances that leave nodes in the version before the one in force, since the roll-out of that is held back: it would not take them
// off their nodes for as long as that lasts.

// leavesBack reports whether an instance took, or was to take, the place of one that has to leave its node, in the version of both. One
// that is what the version in force asks for, too, takes over as in any update.
func (c *change) leavesBack(r *request, holder, successor *api.AllocationRow) bool {
	return successor.Version == holder.Version && c.overtaken(r, holder) && c.overtaken(r, successor) && c.evicting(holder) != nil &&
		c.evicting(successor) == nil && !c.job.Type.EveryNode() && c.standing(r.task).Held()
}

// before is the version that a roll-out which is held back leaves in place: the stable one of those that the task's instances are of or
// were, else the newest. One that never was stable, and of which an instance has failed for good, is none.
func (c *change) before(r *request, slots []slot) (before *api.Job) {
	broken := map[uint64]bool{} // looked up, never ranged over
	for i := range slots {
		if last := slots[i].last; last != nil && failedForGood(last) && last.Desired == api.DesiredRun {
			broken[last.Version] = true
		}
	}
	for i := range slots {
		s := &slots[i]
		if !c.outdated(r, s) || before != nil && s.last.Version == before.Version {
			continue
		}
		j := c.state.JobVersion(c.job.Name, s.last.Version)
		if j == nil || broken[j.Version] && !j.Stable {
			continue
		}
		if before == nil || j.Stable && !before.Stable || j.Stable == before.Stable && j.Version > before.Version {
			before = j
		}
	}
	return before
}

// putBack has a slot be filled in the version before. What failed in that is tried again as its task says, and no more often: then the
// slot is for the version in force.
func (c *change) putBack(s *slot, before *api.Job, t *api.Task) {
	if s.last == nil || s.last.Version != before.Version || !failedForGood(s.last) || s.last.Desired == api.DesiredStop || slices.Contains(c.asked, s.last.ID) {
		s.state = slotBack
		return
	}
	past := c.state.Past(s.last.ID)
	trial, due, ok := t.Rescheduling(c.job.Type).Next(past)
	if !ok {
		return
	}
	s.state, s.retry = slotBack, &retry{trial, due, past.Failed}
	if due > c.options.Now {
		s.state = slotLater
	}
}

// movedBack reports whether what is beside a slot's holder is there because that leaves its node in its own version.
func (c *change) movedBack(r *request, s *slot) bool {
	there := s.next == slotStarting || s.next == slotWell || s.next == slotFailed
	return there && s.state == slotOutdated && s.beside != nil && c.leavesBack(r, s.last, s.beside)
}

// leavesHeld is leaves for an instance that the update would replace. What has taken its place is healthy before it goes.
func (c *change) leavesHeld(r *request, s *slot) (moving.Standing, *api.AllocationRow) {
	node, ill := c.evicting(s.last), s.last.Health != api.HealthHealthy
	switch {
	case s.next == slotStopping, s.next != slotVacant && !c.movedBack(r, s): // the update has begun with it, or a former one is on its way out
		if ill && s.next != slotWell {
			return moving.Failed, nil
		}
		return moving.Settled, nil
	case s.next == slotWell:
		c.stop(s.last, node.Drain.Cause(node.Name))
		s.state = slotStopping
		return moving.Settled, nil
	case s.next == slotStarting:
		return moving.Moving, s.last
	case s.next == slotFailed:
		return moving.Failed, s.last
	case node != nil && ill:
		return moving.LeavingIll, s.last
	case node != nil && s.beside != nil:
		return moving.Tried, s.last
	case node != nil:
		return moving.Leaving, s.last
	case ill && c.due(r.task, s.last) > c.options.Now:
		return moving.Out, nil
	case ill:
		return moving.Failed, nil
	}
	return moving.Settled, nil
}
