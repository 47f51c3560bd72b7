package scheduler

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"cube/api"
)

// Where a task has one instance on every node that meets what it asks for, a slot belongs to a node: the one that its
// allocations are on. A node that has none takes the lowest number that is free, which is that of a node that was
// forgotten, or the next. So logger[3] is on the same machine for as long as the cluster knows it.

// noteNoNode is what there is to say when no node at all is one for the task.
const noteNoNode = "no node meets what it asks for; it runs on those that will"

// slotsOfNodes says what has become of the slot of each node, by slot.
func (c *change) slotsOfNodes(r *request) []slot {
	rows := c.rowsOf(r.task)
	var out []slot
	has := newBitmap(len(c.view.nodes))
	var free []uint32 // numbers below next that no node has, the lowest first
	next := uint32(0)
	for len(rows) > 0 && rows[0].Task == r.task.Name {
		number, end := rows[0].Slot, 1
		for end < len(rows) && rows[end].Task == r.task.Name && rows[end].Slot == number {
			end++
		}
		s := c.slotOfNode(r, number, rows[:end])
		if s.node >= 0 {
			has.add(s.node)
		}
		for ; next < number; next++ {
			free = append(free, next)
		}
		next = number + 1
		out = append(out, s)
		rows = rows[end:]
	}
	r.open.each(func(node int) {
		if has.has(node) {
			return
		}
		number := next
		if len(free) > 0 {
			number, free = free[0], free[1:]
		} else {
			next++
		}
		if number < api.MaxTaskInstances {
			out = append(out, slot{number: number, node: node})
		}
	})
	slices.SortFunc(out, func(a, b slot) int { return int(a.number) - int(b.number) })
	return out
}

// slotOfNode judges a slot by its rows. A node that can take no new instance (it is down, not eligible, lacks the driver)
// keeps what runs there, in whatever version; one that the task no longer asks for loses it.
func (c *change) slotOfNode(r *request, number uint32, rows []api.AllocationRow) slot {
	s := c.slot(r, number, rows)
	s.node = s.last.NodeOrdinal
	open := s.node >= 0 && r.open.has(s.node)
	switch s.state {
	case slotVacant, slotFailed, slotLater:
		if !open {
			s.state = slotIdle
		}
	case slotOutdated:
		if s.node < 0 || !r.stays.has(s.node) {
			c.stop(s.last, reasonNode)
			s.state = slotIdle
		} else if !open {
			s.state = slotIdle
		}
	}
	return s
}

// placeOnNodes fills each vacant slot on its node, and explains what it could not do: why the nodes that are to have an
// instance and have none cannot take it; or, if there is no such node at all, why none is one.
func (c *change) placeOnNodes(r *request, slots []slot, wanted, later int, failed []uint32) *api.Explanation {
	r.count(c.rows, c.answer.Placements)
	var missing []int // nodes
	for i := range slots {
		s := &slots[i]
		if s.state != slotVacant {
			continue
		}
		if c.left == 0 {
			c.cut = true
			return nil
		}
		if given, ok := r.grantOn(s.node); ok {
			c.put(r, s, s.node, given)
		} else {
			missing = append(missing, s.node)
		}
	}
	e := &api.Explanation{Task: r.task.Name, Wanted: wanted, Placed: wanted - len(missing) - later}
	switch {
	case len(slots) == 0:
		e.Note = noteNoNode
		r.explain(e)
		return e
	case len(missing)+len(failed)+later == 0:
		return nil
	}
	if later > 0 {
		e.Retry = c.await(r.task, slots)
		c.messages = append(c.messages, e.Retry.Text(time.Time{}))
	}
	if len(failed) > 0 {
		e.Note = c.failedNote(r.task, failed)
		c.messages = append(c.messages, e.Note)
	}
	if len(missing) > 0 {
		c.answer.Status = api.EvalBlocked
		c.messages = append(c.messages, fmt.Sprintf("not placed: %s on %d of %d nodes", r.task.Name, len(missing), wanted))
		r.explainAmong(e, slices.Values(missing))
		c.preempt(r, len(missing), func(i int) iter.Seq[int] { return slices.Values(missing[i : i+1]) }, e)
	}
	return e
}

// fillSticky places those vacant slots of a kind whose instances left data on a node, each on that node, if it can take it and
// the instance did not fail there.
func (c *change) fillSticky(r *request, slots []slot, vacant slotState) (placed int) {
	for i := range slots {
		s := &slots[i]
		if s.state != vacant || s.last == nil || c.left == 0 {
			continue
		}
		node := s.last.NodeOrdinal
		if node < 0 || !r.open.has(node) || slices.Contains(s.retry.away(c.view), int32(node)) {
			continue
		}
		if given, ok := r.grantOn(node); ok {
			c.put(r, s, node, given)
			placed++
		}
	}
	return placed
}

// placeOn places a successor beside a slot's holder on a node, if that can take it.
func (c *change) placeOn(r *request, s *slot, id string) bool {
	node := c.view.ordinal(id)
	if node >= len(c.view.nodes) || c.view.nodes[node].ID != id || c.left == 0 {
		c.cut = c.cut || c.left == 0
		return false
	}
	r.count(c.rows, c.answer.Placements)
	if !r.open.has(node) {
		return false
	}
	given, ok := r.grantOn(node)
	if !ok {
		return false
	}
	copied := *s // the slot is still its holder's
	c.put(r, &copied, node, given).Beside = true
	s.next = slotStarting
	return true
}

// grantOn gives an instance to a node, if the node can take it now.
func (r *request) grantOn(node int) (given grant, ok bool) {
	if !r.fits(node) {
		return grant{}, false
	}
	if given.ports, ok = r.view.bind(node, r.task.Ports); !ok {
		return grant{}, false
	}
	given.devices = r.claim(node)
	r.give(node, given)
	return given, true
}

// wantedOnNodes counts the nodes that are to have an instance: those that are open to one, and those that keep theirs.
func (c *change) wantedOnNodes(r *request) (n int) {
	for node := range c.view.nodes {
		if r.open.has(node) || c.view.counts.task[node] > 0 {
			n++
		}
	}
	return n
}
