package lifecycle

import (
	"time"

	"cube/agent/server/balancer"
	"cube/api"
	"cube/fsm"
	"cube/fsm/balance"
)

// Rebalances: instances go where the scheduler would place them now.

// rebalance has somebody begin one, or end it.
func (w *world) rebalance() {
	if w.pick("cancel", 5) == 0 {
		w.note("ada cancels the rebalance")
		w.propose("ada", &fsm.Rebalance{Cancel: true}, nil)
		return
	}
	w.move(api.RebalanceBudget{MaxMoves: 1 + w.pick("max_moves", 3), Per: time.Duration(w.pick("per", 3)) * 5 * time.Minute, MinGain: 1})
}

// move has everything moved that is worth it within a budget, and reports whether anything is.
func (w *world) move(b api.RebalanceBudget) bool {
	s := w.m.Snapshot()
	_, moves := balancer.Plan(s, b, w.options())
	for _, m := range moves {
		row, _ := s.Row(m.Allocation)
		t := s.Job(m.Job).Task(m.Task)
		if row.Health != api.HealthHealthy || row.Away || t.Sticky() || len(t.Volumes) > 0 || t.Migrate.Order == api.OrderStopFirst || !s.Node(m.To).Ready() {
			w.fatalf("%s[%d] #%d is to move to %s: %s, %+v", m.Task, m.Slot, m.Allocation, m.To, row.Health, t)
		}
	}
	if len(moves) == 0 {
		return false
	}
	w.note("ada rebalances: %d moves, %+v", len(moves), b)
	w.propose("ada", &fsm.Rebalance{Begin: &balance.Order{Budget: b, Moves: moves}}, nil)
	return true
}

// balances is the leader's loop that keeps a rebalance going.
func (w *world) balances() bool {
	l := w.leader
	if due, _ := w.m.Snapshot().RebalanceDue(w.at.UnixNano()); !due || l.balancing {
		return false
	}
	l.balancing = true
	w.propose("leader/balancer", &fsm.Rebalance{}, func(fsm.Result, bool) { l.balancing = false })
	return true
}

// judgeMoves: no more are on the move than the budget allows, nor have begun within its time.
func (w *world) judgeMoves(s *fsm.Snapshot) {
	r := s.Rebalancing()
	if r == nil {
		return
	}
	under, recent := 0, 0
	for i := range r.Moves {
		m := &r.Moves[i]
		if m.Under() {
			under++
		}
		if !m.BegunAt.IsZero() && m.BegunAt.Add(r.Budget.Per).After(time.Unix(0, s.Now())) {
			recent++
		}
	}
	if under > r.Budget.MaxMoves || recent > r.Budget.MaxMoves {
		w.fatalf("%d are on the move and %d have begun of late: %+v", under, recent, r.Budget)
	}
}

// level rebalances a cluster in which all is well until nothing is left to move. That comes to an end, and all is well then.
func (w *world) level() {
	for round := 0; w.move(api.RebalanceBudget{MaxMoves: machines, MinGain: 5}); round++ {
		if round > 8 {
			w.fatalf("there is always something to move")
		}
		w.settle()
		w.calm(8, time.Minute)
		if r := w.m.Snapshot().Rebalancing(); r != nil {
			w.fatalf("the rebalance is stuck: %+v", r)
		}
	}
	w.quiet()
	w.whole()
}
