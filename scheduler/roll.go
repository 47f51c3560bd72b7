package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cube/api"
	"cube/scheduler/moving"
	"cube/scheduler/rollout"
)

// standing is what holds back the roll-out of a task.
func (c *change) standing(t *api.Task) rollout.Standing {
	return rollout.StandingOf(c.state.Deployment(c.job.Name), t.Name)
}

// outdated reports whether a slot's last instance is of an older version than the one in force, and not what that asks for.
func (c *change) outdated(r *request, s *slot) bool {
	return s.last != nil && s.last.Version != c.job.Version && !c.same(r, s.last)
}

// holdBack has what is missing be placed in the version before while the roll-out is held back. An automatic revert has none to go back
// to: that is the one that failed before it.
func (c *change) holdBack(r *request, slots []slot) {
	d := c.state.Deployment(c.job.Name)
	if c.job.Type.EveryNode() || !c.standing(r.task).Held() || d.Automatic {
		return
	}
	before := c.before(r, slots)
	if before == nil {
		return
	}
	for i := range slots {
		if s := &slots[i]; s.state == slotVacant && (s.last == nil || c.outdated(r, s)) {
			c.putBack(s, before, before.Task(r.task.Name))
		}
	}
	r.before = newRequest(c.view, before, before.Task(r.task.Name))
}

// roll takes the next step of the task's roll-out, as package rollout decides it, and says what it waits for. One that waits for other
// tasks begins with no further instance; those that it has begun with come to their end.
func (c *change) roll(r *request, slots []slot, held bool) {
	seen := c.stages(r, slots)
	if seen == nil {
		return
	}
	u := r.task.Update
	if c.job.Type.EveryNode() {
		u.Order = api.OrderStopFirst // a node has room for one, as its ports may have
	}
	standing := c.standing(r.task)
	step := rollout.Decide(u, standing, seen)
	for _, i := range step.Drop {
		c.stop(slots[i].beside, reasonGivenUp)
	}
	for _, i := range step.Retire {
		reason := reasonSucceeded
		if slots[i].last.Version != c.job.Version {
			reason = c.replaced() + "; " + reasonSucceeded
		}
		if n := c.evicting(slots[i].last); n != nil {
			reason = n.Drain.Cause(n.Name)
		} else if m := c.moveOf(slots[i].last.ID); m != nil {
			reason = c.state.Rebalancing().Cause(c.nodeName(m.From), c.nodeName(m.To))
		}
		c.stop(slots[i].last, reason)
	}
	if held {
		return
	}
	c.clear(r, slots, step.Stop)
	c.begin(r, slots, step.Start)
	waits := ""
	switch step.Wait {
	case rollout.WaitNothing:
		if i := c.twice(slots); i >= 0 {
			c.answer.Status = api.EvalBlocked
			c.messages = append(c.messages, c.waitsFor(r.task, &slots[i]))
			return
		}
		back := filledBack(slots)
		if standing.Canaries == 0 || back < 0 {
			return
		}
		waits = c.waitsFor(r.task, &slots[back]) // what takes its canaries is on its way
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

// clear stops the holders of slots, and says which stays since its successor would have no place even then.
func (c *change) clear(r *request, slots []slot, places []int) {
	stays := api.Explanation{Task: r.task.Name, Wanted: len(places)}
	r.count(c.rows, c.answer.Placements)
	for _, i := range places {
		if s := &slots[i]; s.last.Health == api.HealthHealthy && !c.mayPreempt(r) && !r.succeeds(s.last) {
			stays.Note = cmp.Or(stays.Note, api.InstanceName(c.job.Name, r.task.Name, s.number)+" is not stopped: the new one would have no place even then")
			continue
		}
		c.stop(slots[i].last, c.replaced())
		slots[i].state = slotStopping
		stays.Placed++
	}
	if stays.Placed < stays.Wanted {
		r.explain(&stays)
		c.answer.Explanations = append(c.answer.Explanations, stays)
	}
}

// stages are the slots as a roll-out sees them; nil if there is none under way.
func (c *change) stages(r *request, slots []slot) []rollout.Slot {
	any := false
	for i := range slots {
		s := &slots[i]
		any = any || s.state == slotOutdated || s.next != slotVacant || s.state == slotStopping && s.last.Version != c.job.Version
	}
	if !any && (c.job.Type.EveryNode() || filledBack(slots) < 0) {
		return nil
	}
	out := make([]rollout.Slot, len(slots))
	for i := range slots {
		out[i] = rollout.Slot{Holder: c.stage(r, &slots[i]), Successor: stageOf(slots[i].next)}
		switch {
		case !c.movedBack(r, &slots[i]):
		case slots[i].next == slotFailed:
			out[i].Successor = rollout.None
		default:
			out[i].Successor = rollout.Stopping // a drain's, and no place for another one
		}
	}
	return out
}

// twice returns the place of a slot that has two instances of the same version though nothing wants the first to leave any more, as after
// a drain that was cancelled: the one to come is to take over, whether the first is well or not. A move of a rebalance says itself what it waits for. It is -1 if there is none.
func (c *change) twice(slots []slot) int {
	return slices.IndexFunc(slots, func(s slot) bool {
		return s.next == slotStarting && (s.state == slotWell || s.state == slotStarting) && c.evicting(s.last) == nil && c.moveOf(s.last.ID) == nil
	})
}

// filledBack returns the place of a slot that this plan has filled in the version before, -1 if there is none. The slots are not nodes.
func filledBack(slots []slot) int {
	return slices.IndexFunc(slots, func(s slot) bool { return s.state == slotIdle })
}

// stageOf is what a roll-out calls a state that means the same wherever it stands.
func stageOf(s slotState) rollout.Stage {
	switch s {
	case slotStarting:
		return rollout.Starting
	case slotWell, slotAway:
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
	case s.state == slotAway && s.last.Health != api.HealthHealthy && !c.job.Type.EveryNode():
		return rollout.Starting // it was not well when it went; a node that is away holds up no job of all nodes
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
		if c.giveWay(&slots[i]) {
			continue
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
	case state == slotStarting, state == slotIdle:
		return "waits for " + name + " to run"
	case state == slotFailed, state == slotLater:
		return "held up by " + name + ", which failed"
	case state == slotAway:
		return "waits for " + name + ", which is not heard of"
	case state == slotOutdated && row.Health != api.HealthHealthy:
		return "waits for " + name + " to be healthy"
	case state == slotOutdated:
		return fmt.Sprintf("waits for room for the new %s", name)
	}
	return "waits for " + name + " to be placed"
}

// evicting returns the node of an instance if that has to leave it, nil if not.
func (c *change) evicting(row *api.AllocationRow) *api.Node {
	if row == nil || row.NodeOrdinal < 0 || !c.view.nodes[row.NodeOrdinal].Evicts(c.job.Type) {
		return nil
	}
	return c.view.nodes[row.NodeOrdinal]
}

// leaves says where a slot stands in the eyes of a drain, and which of its instances is to leave its node. What a newer version
// is to replace is no drain's affair, since the update takes it off the node, unless that is held back.
func (c *change) leaves(r *request, s *slot) (moving.Standing, *api.AllocationRow) {
	switch s.state {
	case slotFailed, slotLater:
		return moving.Failed, nil
	case slotAway:
		if s.last.Health != api.HealthHealthy { // nobody knows when
			return moving.Failed, nil
		}
		return moving.Settled, nil
	case slotOutdated, slotWaiting:
		if s.state == slotOutdated && r.before != nil {
			return c.leavesHeld(r, s)
		}
		if s.last == nil || s.state == slotOutdated && s.last.Health == api.HealthHealthy {
			return moving.Settled, nil
		}
		return moving.Failed, nil // when it is well again is the update's affair
	case slotIdle:
		return moving.Out, nil // placed by this plan, in the version before
	case slotVacant, slotBack, slotStopping:
		if s.last == nil {
			return moving.Settled, nil
		}
		return moving.Out, nil
	case slotStarting, slotWell:
		if s.last == nil || !s.last.Live() {
			return moving.Out, nil // placed by this plan
		}
	default:
		return moving.Settled, nil
	}
	leaves, ill := c.evicting(s.last) != nil, s.state == slotStarting
	two := s.next == slotStarting || s.next == slotWell || s.next == slotStopping // as many as a slot may have
	switch {
	case two && s.last.Desired == api.DesiredStop && c.evicting(s.beside) == nil:
		return moving.Settled, nil // it has just been succeeded
	case leaves && !ill && s.next == slotStopping && s.beside.Replaces == s.last.ID:
		return moving.Settled, s.last // that one was given up
	case two && leaves:
		return moving.Moving, s.last
	case s.next == slotStopping && !ill:
		return moving.Settled, nil // a former one is on its way out
	case two && s.next != slotStopping && c.evicting(s.beside) != nil:
		return moving.Moving, s.beside
	case leaves && s.next == slotFailed:
		return moving.Failed, s.last
	case leaves && ill:
		return moving.LeavingIll, s.last
	case leaves && s.beside != nil:
		return moving.Tried, s.last
	case leaves:
		return moving.Leaving, s.last
	case ill && !two && c.due(r.task, s.last) <= c.options.Now:
		return moving.Failed, nil
	case ill || two:
		return moving.Out, nil
	}
	return moving.Settled, nil
}

// moveOut takes the next steps in which the task's instances leave nodes that are being drained, as the task's migrate block
// paces them, and says what the rest waits for.
func (c *change) moveOut(r *request, slots []slot) {
	draining := c.view.set("drain", func(n *api.Node) bool { return n.Drain.Active() })
	if c.cut || c.job.Type.EveryNode() || !slices.ContainsFunc(draining, func(word uint64) bool { return word != 0 }) {
		return
	}
	standings, leaving := make([]moving.Standing, len(slots)), map[int]*api.AllocationRow{}
	for n := range slots {
		s, row := c.leaves(r, &slots[n])
		if standings[n] = s; row != nil {
			leaving[n] = row
		}
	}
	if len(leaving) == 0 {
		c.leftToUpdate(r, slots)
		return
	}
	c.answer.Status = api.EvalBlocked
	c.forsake(r, slots, standings, leaving)
	_, deadline := r.task.Move()
	rankings := map[*request]*ranking{}
	for _, n := range moving.Next(standings, r.task.Migrate) {
		if c.left < 2 {
			c.cut = true
			return
		}
		startFirst := r.task.Migrate.Order == api.OrderStartFirst
		if startFirst && c.giveWay(&slots[n]) {
			standings[n] = moving.Moving
			continue
		}
		of := r
		if slots[n].state == slotOutdated {
			of = r.before
		}
		if rankings[of] == nil {
			of.count(c.rows, c.answer.Placements)
			rankings[of] = c.rank(of)
		}
		node, given, ok := rankings[of].nextAway(c.tried(standings[n], &slots[n]))
		if !ok {
			c.cannotLeave(r, &slots[n], leaving[n], "no other node can take it", true)
			break
		}
		standings[n] = moving.Moving
		if !startFirst {
			from := c.evicting(leaving[n])
			c.stop(leaving[n], from.Drain.Cause(from.Name))
			slots[n].state = slotStopping
			continue
		}
		s := slots[n] // a copy: the slot is still its holder's
		c.put(of, &s, node, given).Beside = true
		slots[n].next = slotStarting
		c.wake(time.Unix(0, c.options.Now).Add(deadline))
	}
	for n, s := range standings {
		if s == moving.Failed && leaving[n] != nil {
			c.cannotLeave(r, &slots[n], leaving[n], "what was to take its place failed", false)
			break // one says it for all
		}
	}
	if n := slices.Index(standings, moving.Moving); n >= 0 {
		c.messages = append(c.messages, "draining "+c.view.nodes[leaving[n].NodeOrdinal].Name+": "+c.arrives(r, &slots[n]))
	} else if n := slices.Index(standings, moving.Out); n >= 0 {
		c.messages = append(c.messages, "draining: "+c.waitsFor(r.task, &slots[n]))
	} else if n := slices.Index(standings, moving.Failed); n >= 0 && leaving[n] == nil && r.task.Migrate.Order == api.OrderStopFirst {
		c.messages = append(c.messages, "draining: "+c.waitsFor(r.task, &slots[n]))
	}
}

// leftToUpdate says which instance on a node that is being drained waits for the update, though that is held back: there is no version
// to move it in, for as long as what failed in its own is not succeeded.
func (c *change) leftToUpdate(r *request, slots []slot) {
	if r.before != nil || !c.standing(r.task).Held() {
		return
	}
	for i := range slots {
		if s := &slots[i]; s.state == slotOutdated && c.evicting(s.last) != nil {
			c.answer.Status = api.EvalBlocked
			c.messages = append(c.messages, fmt.Sprintf("draining %s: %s leaves it with the update, or when its time is up",
				c.evicting(s.last).Name, api.InstanceName(c.job.Name, r.task.Name, s.number)))
			return
		}
	}
}

// forsake stops what was to take the place of an instance that leaves its node, and is not healthy in time: the others need not wait
// for it any more. When the time of the rest comes, the job is looked at again.
func (c *change) forsake(r *request, slots []slot, standings []moving.Standing, leaving map[int]*api.AllocationRow) {
	_, deadline := r.task.Move()
	for n := range slots {
		s := &slots[n]
		switch {
		case standings[n] == moving.Out && (s.state == slotStarting || s.state == slotOutdated) && s.last != nil && s.last.Live():
			c.wake(time.Unix(0, c.due(r.task, s.last)))
		case standings[n] != moving.Moving || s.state != slotWell && s.state != slotOutdated || s.next != slotStarting:
		case c.due(r.task, s.beside) > c.options.Now:
			c.wake(time.Unix(0, c.due(r.task, s.beside)))
		default:
			where, name := "its node", api.InstanceName(c.job.Name, r.task.Name, s.number)
			if s.beside.NodeOrdinal >= 0 {
				where = c.view.nodes[s.beside.NodeOrdinal].Name
			}
			c.stop(s.beside, fmt.Sprintf("given up: not healthy on %s within %s, to take the place of %s", where, api.Brief(deadline), name))
			s.next, standings[n] = slotStopping, moving.Settled
			if leaving[n] == s.last {
				c.cannotLeave(r, s, s.last, fmt.Sprintf("what was to take its place was not healthy on %s within %s; it is tried again after the others", where, api.Brief(deadline)), false)
			}
		}
	}
}

// moveOf returns the move of an instance that the rebalance under way has begun, nil if there is none.
func (c *change) moveOf(id api.ID) *api.Move {
	if r := c.state.Rebalancing(); r != nil {
		for i := range r.Moves {
			if m := &r.Moves[i]; m.Allocation == id && m.Under() {
				return m
			}
		}
	}
	return nil
}

// nodeName is what people call a node; its ID if it is not known any more.
func (c *change) nodeName(id string) string {
	if i := c.view.ordinal(id); i < len(c.view.nodes) && c.view.nodes[i].ID == id {
		return c.view.nodes[i].Name
	}
	return id
}

// rebalance takes the next steps of the moves that were begun for instances of the task: it places what is to take their place,
// on the node that was chosen, and says what that waits for. What finds no room there is not placed: the leader drops
// the move when it sees so. A successor whose time is up stops.
func (c *change) rebalance(r *request, slots []slot) {
	under := c.state.Rebalancing()
	if under == nil || c.cut || c.job.Type.EveryNode() {
		return
	}
	for i := range under.Moves {
		m := &under.Moves[i]
		if !m.Under() || m.Job != c.job.Name || m.Task != r.task.Name || int64(m.Slot) >= int64(len(slots)) {
			continue
		}
		s := &slots[m.Slot]
		if s.last == nil || s.last.ID != m.Allocation || s.last.Desired == api.DesiredStop {
			continue
		}
		switch {
		case m.Stage == api.MoveUndone:
			if s.next == slotStarting {
				c.stop(s.beside, m.Reason)
			}
			continue
		case s.next == slotVacant, s.next == slotFailed && s.beside.CreateIndex < m.Begun: // that one is of an earlier try
			if s.absent != nil || s.state != slotWell || !c.placeOn(r, s, m.To) {
				continue
			}
		case s.next != slotStarting:
			continue
		}
		c.answer.Status = api.EvalBlocked
		c.messages = append(c.messages, "rebalancing: "+c.arrives(r, s))
	}
}
