// Package moving paces how the instances of a task leave nodes that are being drained. It looks at nothing but where each slot
// of the task stands, and is asked again whenever one has moved on.
package moving

import "cube/api"

// Standing is where a slot stands.
type Standing uint8

// The standings. Zero is that of a slot of which nothing is expected: its instance is healthy and may stay, or it has none
// and never had.
const (
	Settled    Standing = iota
	Leaving             // its instance is healthy, and to leave its node
	LeavingIll          // likewise, but it is not healthy (yet): to move it costs nothing
	Tried               // likewise, healthy or not, and what was to take its place was not healthy in time
	Moving              // its instance is to leave, and one that is to take its place is on its way
	Out                 // it is elsewhere and not healthy, or nowhere
	Failed              // it has no healthy instance, and nobody knows when: the last one failed for good, is not healthy in time, or is for an update to replace
)

// Next returns the slots that are to begin to move now, the lowest first, ill ones before healthy ones, and last those that were
// tried before: what keeps them would keep the others, too. No more than m.MaxParallel are on the move at a time: a slot is,
// until its new instance is healthy, or has had its time to be.
//
// By stop-first a moving slot has no healthy instance, so that every slot that has none, for whatever reason, counts: there
// are never fewer healthy ones than all but MaxParallel for the drain's sake. By start-first a move takes none away: what is
// out counts even so, since it is most likely what was moved last and fell ill; what has failed for good does not, or one
// broken instance would keep the others on the node until the drain's deadline.
func Next(slots []Standing, m api.Migrate) []int {
	free, ill := max(1, m.MaxParallel), 0
	stopFirst := m.Order == api.OrderStopFirst
	for _, s := range slots {
		switch {
		case s == Moving, s == Out, s == Failed && stopFirst:
			free--
		case s == LeavingIll:
			ill++
		}
	}
	next := first(slots, LeavingIll, free)
	free -= len(next)
	if stopFirst {
		free -= ill - len(next) // those that stay for now have no healthy instance either
	}
	for _, s := range []Standing{Leaving, Tried} {
		more := first(slots, s, free)
		next, free = append(next, more...), free-len(more)
	}
	return next
}

// first returns up to n slots that stand so.
func first(slots []Standing, s Standing, n int) (out []int) {
	for i := 0; i < len(slots) && len(out) < n; i++ {
		if slots[i] == s {
			out = append(out, i)
		}
	}
	return out
}
