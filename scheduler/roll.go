package scheduler

import (
	"fmt"

	"cube/api"
	"cube/scheduler/rollout"
)

// standing is what holds back the roll-out of a task.
func (c *change) standing(t *api.Task) rollout.Standing {
	return rollout.StandingOf(c.state.Deployment(c.job.Name), t.Name)
}

// outdated reports whether a slot's last instance is of an older version than the one in force, and not what that asks for.
func (c *change) outdated(r *request, s *slot) bool {
	return s.last != nil && s.last.Version != c.job.Version && !c.same(r, s.last.Version)
}

// holdBack has what is missing be placed in the version before while the roll-out is held back: the stable one of those that the
// task's instances are of or were, else the newest.
func (c *change) holdBack(r *request, slots []slot) {
	if c.job.Type.EveryNode() || !c.standing(r.task).Held() {
		return
	}
	var before *api.Job
	for i := range slots {
		if s := &slots[i]; c.outdated(r, s) && (before == nil || s.last.Version != before.Version) {
			j := c.state.JobVersion(c.job.Name, s.last.Version)
			if j != nil && (before == nil || j.Stable && !before.Stable || j.Stable == before.Stable && j.Version > before.Version) {
				before = j
			}
		}
	}
	if before == nil {
		return
	}
	for i := range slots {
		if s := &slots[i]; s.state == slotVacant && (s.last == nil || c.outdated(r, s)) {
			s.state = slotBack
		}
	}
	r.before = newRequest(c.view, before, before.Task(r.task.Name))
}

// roll takes the next step of the task's roll-out, as package rollout decides it, and says what it waits for.
func (c *change) roll(r *request, slots []slot) {
	seen := c.stages(r, slots)
	if seen == nil {
		return
	}
	u := r.task.Update
	if c.job.Type.EveryNode() {
		u.Order = api.OrderStopFirst // a node has room for one, as its ports may have
	}
	step := rollout.Decide(u, c.standing(r.task), seen)
	for _, i := range step.Drop {
		c.stop(slots[i].beside, reasonUnneeded)
	}
	for _, i := range step.Retire {
		c.stop(slots[i].last, reasonSucceeded)
	}
	for _, i := range step.Stop {
		c.stop(slots[i].last, reasonUpdate)
		slots[i].state = slotStopping
	}
	c.begin(r, slots, step.Start)
	waits := ""
	switch step.Wait {
	case rollout.WaitNothing:
		return
	case rollout.WaitChange: // it has ended: what comes next has the job looked at again
		c.messages = append(c.messages, "rolling update: failed; it stays as it is until another version comes, or it is resumed")
		return
	case rollout.WaitSlot:
		waits = c.waitsFor(r.task, &slots[step.For])
	case rollout.WaitPromotion:
		waits = "its canaries are healthy, and wait to be promoted"
	case rollout.WaitResume:
		waits = "paused"
	}
	c.answer.Status = api.EvalBlocked
	c.messages = append(c.messages, "rolling update: "+waits)
}

// stages are the slots as a roll-out sees them; nil if there is none under way.
func (c *change) stages(r *request, slots []slot) []rollout.Slot {
	any := false
	for i := range slots {
		s := &slots[i]
		any = any || s.state == slotOutdated || s.next != slotVacant || s.state == slotStopping && s.last.Version != c.job.Version
	}
	if !any {
		return nil
	}
	out := make([]rollout.Slot, len(slots))
	for i := range slots {
		out[i] = rollout.Slot{Holder: c.stage(r, &slots[i]), Successor: stageOf(slots[i].next)}
	}
	return out
}

// stageOf is what a roll-out calls a state that means the same wherever it stands.
func stageOf(s slotState) rollout.Stage {
	switch s {
	case slotStarting:
		return rollout.Starting
	case slotWell:
		return rollout.Well
	case slotFailed, slotLater:
		return rollout.Failed
	case slotStopping:
		return rollout.Stopping
	case slotDone, slotIdle:
		return rollout.Done
	}
	return rollout.None
}

func (c *change) stage(r *request, s *slot) rollout.Stage {
	switch {
	case s.state == slotOutdated && s.last.Health == api.HealthHealthy:
		return rollout.Outdated
	case s.state == slotOutdated:
		return rollout.Ill
	case s.state == slotStopping && s.last.Version != c.job.Version:
		return rollout.Leaving
	case s.state == slotStopping:
		return rollout.Stopping
	case s.state <= slotWaiting && s.last == nil:
		return rollout.New
	}
	return stageOf(s.state)
}

// begin places successors beside the holders of slots, and says for which there is no room.
func (c *change) begin(r *request, slots []slot, places []int) {
	if len(places) == 0 {
		return
	}
	r.count(c.rows, c.answer.Placements)
	ranking := c.rank(r)
	for n, i := range places {
		if c.left == 0 {
			c.cut = true
			return
		}
		node, given, ok := ranking.next()
		if !ok {
			e := api.Explanation{Task: r.task.Name, Wanted: len(places), Placed: n, Note: "a new instance starts before the old one stops, and needs room beside it"}
			r.explain(&e)
			c.answer.Explanations = append(c.answer.Explanations, e)
			return
		}
		s := slots[i] // a copy: the slot is still its holder's
		c.put(r, &s, node, given).Beside = true
		slots[i].next = slotStarting
	}
}

// waitsFor says what has to become of a slot before a roll-out goes on.
func (c *change) waitsFor(t *api.Task, s *slot) string {
	name, row, state := api.InstanceName(c.job.Name, t.Name, s.number), s.last, s.state
	if s.next == slotStopping {
		return "waits for a former " + name + " to stop"
	}
	if s.next != slotVacant {
		name, row, state = "the new "+name, s.beside, s.next
	}
	switch {
	case state == slotStopping:
		return "waits for " + name + " to stop"
	case state == slotStarting && row != nil && row.Live() && row.Phase == api.PhaseRunning:
		return "waits for " + name + " to be healthy"
	case state == slotStarting:
		return "waits for " + name + " to run"
	case state == slotFailed, state == slotLater:
		return "held up by " + name + ", which failed"
	case state == slotOutdated:
		return fmt.Sprintf("waits for room for the new %s", name)
	}
	return "waits for " + name + " to be placed"
}
