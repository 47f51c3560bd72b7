package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"cube/api"
)

// Reasons of stops, as people read them.
const (
	reasonJobStopped  = "job stopped"
	reasonTaskRemoved = "task removed"
	reasonCount       = "count reduced"
	reasonAsked       = "stopped on request, to be replaced"
	reasonRestart     = "restarted"
	reasonDuplicate   = "its slot has a newer holder"
	reasonSucceeded   = "its successor is healthy"
	reasonOvertaken   = "a newer version came before it took over"
	reasonGivenUp     = "the roll-out of its version has failed"
	reasonNode        = "its node is no longer one that the task asks for"
	reasonDone        = "its slot has completed"
	reasonNeither     = "given up: the other instance of its slot is not heard of either, and is kept rather than this one"
	reasonBeside      = "given up: its node is not heard of, and it has not taken over"
	reasonRoom        = "given up: its node is not heard of, and what took its place has to move"
)

// slotState is what has become of a slot, seen from the version in force.
type slotState uint8

const (
	slotVacant   slotState = iota // nobody holds it, somebody should
	slotBack                      // the same, in the version before: the roll-out is held back
	slotWaiting                   // the same, once the tasks that its task depends on are so far
	slotStarting                  // its holder is of the version in force and not healthy (yet)
	slotWell                      // its holder is of the version in force and healthy
	slotOutdated                  // its holder is of an older version and has to be replaced
	slotStopping                  // its holder was told to stop and is not gone
	slotFailed                    // its last holder failed for good
	slotLater                     // likewise, and it is placed again at a time that has not come
	slotDone                      // it has completed (batch)
	slotIdle                      // it is left as it is: its node is not one for a (new) instance (system), or it was filled in the version before
	slotAway                      // its holder is not heard of, and kept; nothing is placed beside it (yet)
)

type slot struct {
	number uint32
	state  slotState
	last   *api.AllocationRow // its holder, else the last one it had; nil if it never had one
	beside *api.AllocationRow // its holder's successor, live or failed for good, or one that was told to stop; nil if there is none
	next   slotState          // what has become of that one: slotStarting, slotWell, slotFailed or slotStopping; slotVacant: it was told to stop, and is gone
	absent *api.AllocationRow // another one that is kept, since it is not heard of, or was not until a moment ago; last is what is beside it, or itself
	node   int                // the only one it may be placed on, by ordinal, where each node has a slot
	retry  *retry             // if that one failed for good and is placed again; nil otherwise
}

// change works out the answer to one evaluation: it compares the job with its rows.
type change struct {
	*batch
	job      *api.Job
	asked    []api.ID // allocations a person asked to stop and replace
	by       string   // that person, if it is known
	rows     []api.AllocationRow
	answer   *api.JobPlan
	messages []string
	vain     map[string]string // what is known of tasks that others wait for, see hopeless; looked up, never ranged over
	cut      bool              // the plan is full; something was left for the next one
}

// take reserves room for one more change in the plan.
func (c *change) take() bool {
	if c.left == 0 {
		c.cut = true
		return false
	}
	c.left--
	return true
}

func (c *change) stop(row *api.AllocationRow, reason string) {
	if row.Live() && row.Desired == api.DesiredRun && c.take() {
		c.answer.Stops = append(c.answer.Stops, api.Stop{Allocation: row.ID, Reason: reason})
		row.Desired = api.DesiredStop // our copy: it does not count as an instance from here on
	}
}

// asked is a reason with who asked for it, if that is known.
func asked(reason, by string) string {
	if by == "" {
		return reason
	}
	return reason + ", asked for by " + by
}

// replaced is why an instance of an older version goes: the version in force, and who or what brought that about.
func (c *change) replaced() string {
	if c.job.IsRestart() {
		return asked(reasonRestart, c.job.SubmittedBy)
	}
	text := fmt.Sprintf("replaced by version %d", c.job.Version)
	d := c.state.Deployment(c.job.Name)
	switch {
	case c.job.Origin == "" && c.job.SubmittedBy == "":
		return text
	case c.job.Origin == "":
		return text + ", submitted by " + c.job.SubmittedBy
	case d != nil && d.Automatic:
		origin, _, failed := strings.Cut(c.job.Origin, " failed: ") // why is told with the roll-out
		if failed {
			origin += " failed"
		}
		return text + ", " + origin
	}
	return asked(text+", "+c.job.Origin, c.job.SubmittedBy)
}

// fewer is why a task has fewer instances: its count was changed, by itself or with the version in force.
func (c *change) fewer(t *api.Task) string {
	if s := c.job.Scaled; s != nil && strings.HasPrefix(s.What, t.Name+" ") {
		return asked(reasonCount, s.By)
	}
	return asked(reasonCount, c.job.SubmittedBy)
}

func (c *change) stopAll() {
	reason := reasonJobStopped
	if c.job != nil { // it may be forgotten
		reason = asked(reason, c.job.StoppedBy)
	}
	for i := range c.rows {
		c.stop(&c.rows[i], reason)
	}
}

// stopUnwanted stops what the job no longer asks for, before anything else is looked at.
func (c *change) stopUnwanted() {
	for i := range c.rows {
		row := &c.rows[i]
		if t := c.job.Task(row.Task); t == nil {
			c.stop(row, reasonTaskRemoved)
		} else if int64(row.Slot) >= int64(c.job.Slots(t)) {
			c.stop(row, c.fewer(t))
		} else if n := c.evicting(row); n != nil && n.Drain.Stage != api.DrainMoving {
			c.stop(row, n.Drain.Cause(n.Name))
		}
	}
}

// task brings one task to what the job asks for: reconciles its slots, fills the vacant ones, and takes the next step of
// a rolling update.
func (c *change) task(t *api.Task) {
	r := newRequest(c.view, c.job, t)
	slots := c.slots(r)
	if c.cut {
		return
	}
	c.holdBack(r, slots)
	waits := c.unmet(t)
	held := waits.text != "" && c.hold(r, slots)
	e := c.place(r, slots)
	if c.cut {
		return
	}
	if held {
		e = c.waiting(t, slots, e, waits)
	}
	if e != nil {
		c.answer.Explanations = append(c.answer.Explanations, *e)
	}
	c.roll(r, slots, held)
	c.moveOut(r, slots)
	c.rebalance(r, slots)
	if away := c.notHeardOf(r.task, slots); away != "" {
		c.remark(r.task, away)
	}
}

// hold keeps vacant slots from being filled with what would be new, and reports whether the task has something that waits: such a
// slot, or an instance that an update will replace.
func (c *change) hold(r *request, slots []slot) (held bool) {
	for i := range slots {
		s := &slots[i]
		switch {
		case s.state == slotOutdated:
			held = true
		case s.state == slotVacant && c.begins(r, s.last):
			s.state = slotWaiting
			held = true
		}
	}
	return held
}

// waiting says in the task's explanation what it waits for. What ends the wait has the job looked at again; one that was given up
// is no reason to.
func (c *change) waiting(t *api.Task, slots []slot, e *api.Explanation, waits wait) *api.Explanation {
	if e == nil {
		e = &api.Explanation{Task: t.Name, Wanted: len(slots), Placed: len(slots)}
		for _, s := range slots {
			switch s.state {
			case slotWaiting:
				e.Placed--
			case slotDone:
				e.Wanted--
				e.Placed--
			}
		}
	}
	e.Note, e.GaveUp = strings.TrimPrefix(e.Note+"; "+waits.text, "; "), waits.over
	c.messages = append(c.messages, t.Name+" "+waits.text)
	if !waits.over {
		c.answer.Status = api.EvalBlocked
	}
	if !waits.due.IsZero() {
		c.wake(waits.due)
	}
	return e
}

// slots says what has become of each slot of the task, and stops or changes in place the holders for which that is all
// there is to do. The rows come by slot.
func (c *change) slots(r *request) []slot {
	if c.job.Type.EveryNode() {
		return c.slotsOfNodes(r)
	}
	out := make([]slot, r.task.Count)
	for n, rows := range c.bySlot(r.task) {
		out[n] = c.slot(r, uint32(n), rows)
	}
	return out
}

// rowsOf returns the rows from the task's first one on; those of later tasks follow.
func (c *change) rowsOf(t *api.Task) []api.AllocationRow {
	first, _ := slices.BinarySearchFunc(c.rows, t.Name, func(row api.AllocationRow, name string) int {
		return cmp.Compare(row.Task, name)
	})
	return c.rows[first:]
}

// bySlot yields each slot of the task with its rows, oldest first.
func (c *change) bySlot(t *api.Task) iter.Seq2[int, []api.AllocationRow] {
	return func(yield func(int, []api.AllocationRow) bool) {
		rest := c.rowsOf(t)
		for n := range t.Count {
			end := 0
			for end < len(rest) && rest[end].Task == t.Name && rest[end].Slot == uint32(n) {
				end++
			}
			if !yield(n, rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// slot judges one slot by its rows, oldest first. A successor that runs beside its holder takes over when it is healthy.
func (c *change) slot(r *request, number uint32, rows []api.AllocationRow) slot {
	var holder, successor, stopping, ended *api.AllocationRow
	for i := range rows {
		row := &rows[i]
		switch {
		case !row.Live():
			ended = row
		case row.Desired == api.DesiredStop:
			stopping = row
		default:
			if holder != nil && row.Replaces == holder.ID {
				successor = row
				continue
			}
			if holder != nil {
				c.stop(holder, reasonDuplicate)
			}
			holder = row
		}
	}
	if s, ok := c.parted(r, number, occupants{holder, successor, stopping, ended}); ok {
		return s
	}
	switch {
	case successor != nil:
		return c.succession(r, number, holder, successor)
	case holder != nil:
		s := slot{number: number, state: c.holderState(r, holder), last: holder}
		if ended != nil && ended.Replaces == holder.ID && (c.endedState(ended) == slotFailed || failedForGood(ended) && c.leavesBack(r, holder, ended)) {
			s.beside, s.next = ended, slotFailed
		} else if ended != nil && ended.Replaces == holder.ID && ended.Desired == api.DesiredStop {
			s.beside = ended
		}
		if stopping != nil { // until it is gone there is no place for a third one
			s.beside, s.next = stopping, slotStopping
		}
		return s
	case stopping != nil:
		return slot{number: number, state: slotStopping, last: stopping}
	case c.job.Type.Completes() && c.state.Completed(c.job.Name, r.task.Name, c.job.Version, number):
		return slot{number: number, state: slotDone, last: ended}
	case ended != nil:
		return c.endedSlot(r.task, number, ended)
	}
	return slot{number: number}
}

// succession judges a slot in which a successor runs beside the holder. When the one takes over is the roll-out's affair.
func (c *change) succession(r *request, number uint32, holder, successor *api.AllocationRow) slot {
	if slices.Contains(c.asked, holder.ID) {
		c.stop(holder, asked(reasonAsked, c.by))
		return slot{number: number, state: c.holderState(r, successor), last: successor, beside: holder, next: slotStopping}
	}
	next := c.holderState(r, successor)
	switch {
	case next == slotOutdated && c.leavesBack(r, holder, successor) && successor.Health == api.HealthHealthy:
		next = slotWell
	case next == slotOutdated && c.leavesBack(r, holder, successor):
		next = slotStarting
	case next == slotOutdated:
		c.stop(successor, reasonOvertaken)
		next = slotStopping
	}
	return slot{number: number, state: c.holderState(r, holder), last: holder, beside: successor, next: next}
}

func (c *change) holderState(r *request, row *api.AllocationRow) slotState {
	if slices.Contains(c.asked, row.ID) {
		c.stop(row, asked(reasonAsked, c.by))
		return slotStopping
	}
	if c.overtaken(r, row) {
		return slotOutdated
	}
	if row.Version != c.job.Version && c.take() {
		c.answer.InPlace = append(c.answer.InPlace, row.ID)
	}
	r.kept(row.NodeOrdinal)
	if row.Health == api.HealthHealthy {
		return slotWell
	}
	return slotStarting
}

// overtaken reports whether an instance is of an older version and has to be replaced.
func (c *change) overtaken(r *request, row *api.AllocationRow) bool {
	return row.Version != c.job.Version && (!c.same(r, row) || !r.keeps(row.NodeOrdinal))
}

// same reports whether an instance of an older version is just what the version in force asks for, and no restart is to replace it.
// A task's instances share few versions, and comparing two is dear, so each is compared once.
func (c *change) same(r *request, row *api.AllocationRow) bool {
	same, known := r.same[row.Version]
	if !known {
		if old := c.state.JobVersion(c.job.Name, row.Version); old != nil {
			before := old.Task(r.task.Name)
			same = before != nil && api.SameInstance(before, r.task)
		}
		if r.same == nil {
			r.same = map[uint64]bool{}
		}
		r.same[row.Version] = same
	}
	return same && !c.job.Renews(row.Task, row.Slot, row.Version)
}

// endedState judges a slot by the last holder it had.
func (c *change) endedState(row *api.AllocationRow) slotState {
	switch {
	case row.Desired == api.DesiredStop || slices.Contains(c.asked, row.ID):
		return slotVacant
	case row.Phase == api.PhaseComplete && c.job.Type.Completes() && row.Version == c.job.Version:
		return slotDone
	case failedForGood(row) && row.Version == c.job.Version:
		return slotFailed
	}
	return slotVacant
}

// place fills the vacant slots, lowest first, and explains what it could not do; nil if there is nothing to explain. The
// slots it fills become slotStarting.
func (c *change) place(r *request, slots []slot) *api.Explanation {
	wanted, vacant, waiting, later, failed := len(slots), 0, 0, 0, []uint32(nil)
	for _, s := range slots {
		switch s.state {
		case slotVacant, slotBack:
			vacant++
		case slotWaiting:
			waiting++
		case slotLater:
			later++
		case slotFailed:
			failed = append(failed, s.number)
		case slotDone, slotIdle:
			wanted--
		}
	}
	if c.job.Type.EveryNode() {
		return c.placeOnNodes(r, slots, wanted, later, failed)
	}
	if vacant > 0 {
		vacant -= c.fill(r, slots, slotVacant)
		if r.before != nil {
			vacant -= c.fill(r.before, slots, slotBack)
		}
	}
	if c.cut || vacant+len(failed)+later == 0 {
		return nil
	}
	e := &api.Explanation{Task: r.task.Name, Wanted: wanted, Placed: wanted - vacant - waiting - later - len(failed)}
	if len(failed) > 0 {
		e.Note = c.failedNote(r.task, failed)
		c.messages = append(c.messages, e.Note)
	}
	if later > 0 {
		e.Retry = c.await(r.task, slots)
		c.messages = append(c.messages, e.Retry.Text(time.Time{}))
	}
	if vacant > 0 {
		c.answer.Status = api.EvalBlocked
		c.messages = append(c.messages, fmt.Sprintf("not placed: %d of %d instances of %s", vacant, wanted, r.task.Name))
		r.explain(e)
		c.preempt(r, vacant, c.anywhere, e)
	}
	return e
}

// fill places vacant slots of one kind until none is left, no node can take one, or the plan is full.
func (c *change) fill(r *request, slots []slot, vacant slotState) (placed int) {
	r.count(c.rows, c.answer.Placements)
	if r.task.Sticky() {
		placed = c.fillSticky(r, slots, vacant)
		r.count(c.rows, c.answer.Placements)
	}
	ranking := c.rank(r)
	for i := range slots {
		s := &slots[i]
		if s.state != vacant {
			continue
		}
		if c.left == 0 {
			c.cut = true
			break
		}
		node, given, ok := ranking.nextAway(s.retry.away(c.view))
		if !ok {
			break
		}
		c.put(r, s, node, given)
		placed++
	}
	return placed
}

// put adds a placement to the plan, which has room for it, and returns it.
func (c *change) put(r *request, s *slot, node int, given grant) *api.Placement {
	c.take()
	p := api.Placement{Task: r.task.Name, Slot: s.number, Version: r.job.Version, Node: c.view.nodes[node].ID,
		Held: r.task.Holds(), Ports: given.ports, Devices: given.devices}
	if s.last != nil {
		p.Replaces = s.last.ID
	}
	if s.retry != nil {
		p.Trial = s.retry.trial
		c.noteReturn(r.task, s, node)
	}
	p.Beside = s.absent != nil
	c.answer.Placements = append(c.answer.Placements, p)
	if c.rooms != nil {
		c.rooms.Take(node, p.Held)
	}
	if s.state == slotBack {
		s.state = slotIdle
	} else {
		s.state = slotStarting
	}
	return &c.answer.Placements[len(c.answer.Placements)-1]
}

// failedNote says which slots failed for good: nothing places them again until the job is changed.
func (c *change) failedNote(t *api.Task, failed []uint32) string {
	if len(failed) == 0 {
		return ""
	}
	name := api.InstanceName(c.job.Name, t.Name, failed[0])
	if len(failed) == 1 {
		return name + " failed and is not placed again: " + c.usedUp(t)
	}
	return fmt.Sprintf("%s and %d more failed and are not placed again: %s", name, len(failed)-1, c.usedUp(t))
}
