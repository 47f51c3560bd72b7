// Package balance is how a rebalance goes on: what each wish and each look makes of its row. It is pure; the state machine keeps
// the row, and says what has become of the instances.
package balance

import (
	"fmt"
	"slices"
	"time"

	"cube/api"
)

// Fact is what has become of the instance of a move.
type Fact struct {
	Runs      bool          // it is there, and is to run
	Unfit     string        // why it is not to begin to move now: "it is not healthy"; "" if it may
	Gone      bool          // it has ended
	Successor bool          // one that names it is to run
	OnGoal    bool          // that one is on the node it was to move to
	Failed    string        // how one ended that was placed since the move began; "" if none has
	Looked    bool          // the scheduler has looked at its job since the move began
	Deadline  time.Duration // within which a successor is to be healthy
	Goal      string        // the name of the node that it moves to
	Closed    bool          // that node takes nothing
}

// Order is what a rebalance is to do. Moves have no stage yet.
type Order struct {
	Budget    api.RebalanceBudget
	Automatic bool `json:",omitempty"` // the servers' configuration asks for it
	Moves     []api.Move
}

// Begin returns a rebalance of moves that were found to be worth it.
func Begin(last *api.Rebalance, o *Order, by string, now time.Time) (*api.Rebalance, error) {
	if last.Active() {
		return nil, api.Errorf(api.CodeConflict, "a rebalance is under way; to watch it: cube rebalance -status, to end it: cube rebalance -cancel")
	}
	if err := o.Budget.Check(); err != nil {
		return nil, err
	}
	if n := len(o.Moves); n == 0 || n > api.MaxRebalanceMoves {
		return nil, api.Errorf(api.CodeInvalid, "a rebalance makes 1 to %d moves, not %d", api.MaxRebalanceMoves, n)
	}
	r := &api.Rebalance{Stage: api.RebalanceMoving, By: by, Automatic: o.Automatic, StartedAt: now, Budget: o.Budget, Moves: slices.Clone(o.Moves)}
	for i := range r.Moves {
		r.Moves[i].Stage = api.MoveWaiting
	}
	return r, nil
}

// Cancel returns the rebalance without the moves that have not begun.
func Cancel(r *api.Rebalance, now time.Time) (*api.Rebalance, error) {
	if !r.Active() {
		return nil, api.Errorf(api.CodeConflict, "no rebalance is under way: there is nothing to cancel")
	}
	s := step{next: *r, now: now}
	s.next.Stage, s.next.Moves = api.RebalanceCancelled, slices.Clone(r.Moves)
	for i := range s.next.Moves {
		if m := &s.next.Moves[i]; m.Stage == api.MoveWaiting {
			s.drop(m, "the rebalance was cancelled")
		}
	}
	s.settle()
	return &s.next, nil
}

// Step returns the rebalance after what has happened and what time it is, and the places of the moves about which the scheduler
// has something to do now; nil if nothing has changed. What has arrived makes room in the budget, and the next ones begin.
//
// A move after which another's goal is freed comes before it: it may be that there is room only then. Once a move to a node has
// failed, no other goes there.
func Step(r *api.Rebalance, fact func(*api.Move) Fact, now time.Time) (next *api.Rebalance, look []int) {
	if !r.Active() {
		return nil, nil
	}
	s := step{next: *r, now: now, facts: fact, failed: map[string]bool{}}
	s.next.Moves = slices.Clone(r.Moves)
	for i := range s.next.Moves {
		if s.goOn(&s.next.Moves[i]) {
			look = append(look, i)
		}
	}
	look = append(look, s.begin()...)
	s.settle()
	if !s.changed {
		return nil, nil
	}
	return &s.next, look
}

// Next is when Step may have something to do though nothing happens: when a deadline comes, or the budget has room again. Zero: never.
func Next(r *api.Rebalance, fact func(*api.Move) Fact) (at time.Time) {
	if !r.Active() {
		return at
	}
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	waits := slices.ContainsFunc(r.Moves, func(m api.Move) bool { return m.Stage == api.MoveWaiting })
	var begun []time.Time
	for i := range r.Moves {
		m := &r.Moves[i]
		if m.Stage == api.MoveUnder {
			earlier(m.BegunAt.Add(fact(m).Deadline))
		}
		if !m.BegunAt.IsZero() {
			begun = append(begun, m.BegunAt)
		}
	}
	if waits && r.Budget.Per > 0 {
		// The oldest of the last MaxMoves that began is the first to leave the window.
		slices.SortFunc(begun, func(a, b time.Time) int { return b.Compare(a) })
		if n := len(begun); n > 0 {
			earlier(begun[min(n, r.Budget.MaxMoves)-1].Add(r.Budget.Per))
		}
	}
	return at
}

// step is one call of Step.
type step struct {
	next    api.Rebalance
	now     time.Time
	facts   func(*api.Move) Fact
	failed  map[string]bool // nodes to which a move has failed
	changed bool
}

func (s *step) drop(m *api.Move, why string) {
	m.Stage, m.Reason, m.EndedAt = api.MoveDropped, why, s.now
	s.changed = true
}

// goOn takes a move that has begun to where it has come, and reports whether the scheduler has to see to it.
func (s *step) goOn(m *api.Move) (look bool) {
	switch m.Stage {
	case api.MoveDropped:
		s.failed[m.To] = s.failed[m.To] || !m.BegunAt.IsZero()
		return false
	case api.MoveUnder, api.MoveUndone:
	default:
		return false
	}
	f := s.facts(m)
	switch {
	case f.Gone && f.Successor && f.OnGoal:
		m.Stage, m.EndedAt, s.changed = api.MoveDone, s.now, true
	case !f.Runs && f.Successor && f.OnGoal: // it is stopping
	case !f.Runs:
		s.drop(m, "it ended, or was to, before it had moved")
	case m.Stage == api.MoveUndone && !f.Successor:
		s.drop(m, m.Reason)
	case m.Stage == api.MoveUndone:
	case f.Failed != "" && !f.Successor:
		s.drop(m, "what was to take its place failed on "+f.Goal+": "+f.Failed)
	case f.Successor && !f.OnGoal:
		s.drop(m, "something else is to take its place")
	case f.Successor && !s.now.Before(m.BegunAt.Add(f.Deadline)):
		m.Stage, m.Reason = api.MoveUndone, fmt.Sprintf("what was to take its place was not healthy on %s within %s", f.Goal, f.Deadline)
		s.changed, look = true, true
	case !f.Successor && f.Looked:
		s.drop(m, f.Goal+" cannot take it any more")
	}
	if m.Stage == api.MoveDropped || m.Stage == api.MoveUndone {
		s.failed[m.To] = true
	}
	return look
}

// begin has as many moves begin as the budget allows.
func (s *step) begin() (begun []int) {
	under, recent := 0, 0
	for i := range s.next.Moves {
		m := &s.next.Moves[i]
		if m.Under() {
			under++
		}
		if !m.BegunAt.IsZero() && m.BegunAt.Add(s.next.Budget.Per).After(s.now) {
			recent++
		}
	}
	for i := range s.next.Moves {
		m := &s.next.Moves[i]
		if m.Stage != api.MoveWaiting {
			continue
		}
		f := s.facts(m)
		if s.failed[m.To] {
			s.drop(m, "a move to "+f.Goal+" has failed before it")
			continue
		}
		if under >= s.next.Budget.MaxMoves || recent >= s.next.Budget.MaxMoves {
			return begun
		}
		switch {
		case f.Gone || !f.Runs:
			s.drop(m, "it ended, or was to, before its turn came")
		case f.Unfit != "":
			s.drop(m, f.Unfit)
		case f.Closed:
			s.drop(m, f.Goal+" takes nothing any more")
		case slices.ContainsFunc(s.next.Moves[:i], func(o api.Move) bool { return !o.Stage.Over() && o.From == m.To }):
		default:
			m.Stage, m.BegunAt, s.changed = api.MoveUnder, s.now, true
			under, recent = under+1, recent+1
			begun = append(begun, i)
		}
	}
	return begun
}

// settle ends the rebalance when no move is left.
func (s *step) settle() {
	if slices.ContainsFunc(s.next.Moves, func(m api.Move) bool { return !m.Stage.Over() }) {
		return
	}
	if s.next.Stage == api.RebalanceMoving {
		s.next.Stage = api.RebalanceComplete
	}
	s.next.EndedAt, s.changed = s.now, true
}
