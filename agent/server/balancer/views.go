package balancer

import (
	"cmp"
	"slices"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// find looks for moves, and says what the nodes are by their ordinals.
func find(s *fsm.Snapshot, b api.RebalanceBudget, most int, o scheduler.Options) (*scheduler.Relocations, []api.Move, []*api.Node) {
	var nodes []*api.Node
	for n := range s.Nodes() {
		nodes = append(nodes, n)
	}
	found := scheduler.Rebalance(s, most, b.MinGain, o)
	moves := make([]api.Move, len(found.Moves))
	for i := range found.Moves {
		f := &found.Moves[i]
		moves[i] = api.Move{Allocation: f.Row.ID, Job: f.Row.Job, Task: f.Row.Task, Slot: f.Row.Slot, From: f.Row.Node, To: nodes[f.To].ID, Gain: f.Gain}
	}
	return found, moves, nodes
}

// Plan says what a rebalance would do to the state, and returns its moves for whoever wants them made.
func Plan(s *fsm.Snapshot, b api.RebalanceBudget, o scheduler.Options) (*api.RebalancePlan, []api.Move) {
	found, moves, nodes := find(s, b, api.MaxRebalanceMoves, o)
	p := &api.RebalancePlan{Algorithm: cmp.Or(o.Algorithm, api.AlgorithmBinpack), Moves: []api.PlannedMove{}, More: found.More,
		Looked: found.Looked, Left: found.Left, Index: s.Index()}
	fills := make([]api.NodeOutcome, 0, len(nodes))
	for n, held := range s.Nodes() {
		of := api.Fill{Held: held, Total: n.Resources}
		fills = append(fills, api.NodeOutcome{ID: n.ID, Name: n.Name, Before: of, After: of})
	}
	for i := range found.Moves {
		f := &found.Moves[i]
		from, to := &fills[f.Row.NodeOrdinal], &fills[f.To]
		from.Leave++
		from.After.Held = from.After.Held.Sub(f.Row.Held)
		to.Arrive++
		to.After.Held = to.After.Held.Add(f.Row.Held)
		p.Moves = append(p.Moves, api.PlannedMove{Allocation: s.Text().Format(f.Row.ID), Name: api.InstanceName(f.Row.Job, f.Row.Task, f.Row.Slot),
			From: from.Name, To: to.Name, Gain: f.Gain, Why: f.Why})
	}
	p.Before = levels(fills, nodes, func(n *api.NodeOutcome) *api.Fill { return &n.Before })
	p.After = levels(fills, nodes, func(n *api.NodeOutcome) *api.Fill { return &n.After })
	for _, n := range fills {
		if n.Leave+n.Arrive > 0 {
			p.Nodes = append(p.Nodes, n)
		}
	}
	slices.SortStableFunc(p.Nodes, func(a, b api.NodeOutcome) int {
		x, _ := a.Before.Fullest()
		y, _ := b.Before.Fullest()
		return cmp.Compare(y, x)
	})
	return p, moves
}

// levels look at the nodes that take instances.
func levels(fills []api.NodeOutcome, nodes []*api.Node, of func(*api.NodeOutcome) *api.Fill) (l api.Levels) {
	count := 0
	for i := range fills {
		if !nodes[i].Ready() {
			continue
		}
		percent, _ := of(&fills[i]).Fullest()
		if l.Fullest = max(l.Fullest, percent); count == 0 || percent < l.Emptiest {
			l.Emptiest = percent
		}
		if percent > 0 {
			l.Used++
		}
		l.Mean += percent
		count++
	}
	l.Mean /= float64(max(count, 1))
	return l
}

// Status says how the latest rebalance gets on.
func Status(s *fsm.Snapshot) *api.RebalanceStatus {
	out := &api.RebalanceStatus{Moves: []api.MoveView{}}
	r := s.LatestRebalance()
	if r == nil {
		return out
	}
	out.Stage, out.By, out.Automatic, out.StartedAt, out.EndedAt, out.Budget = r.Stage, r.By, r.Automatic, r.StartedAt, r.EndedAt, r.Budget
	for i := range r.Moves {
		out.Moves = append(out.Moves, view(s, &r.Moves[i]))
	}
	return out
}

func view(s *fsm.Snapshot, m *api.Move) api.MoveView {
	v := api.MoveView{Allocation: s.Text().Format(m.Allocation), Name: api.InstanceName(m.Job, m.Task, m.Slot),
		From: s.NodeName(m.From), To: s.NodeName(m.To), Gain: m.Gain, Stage: m.Stage}
	row, known := s.Row(m.Allocation)
	successor, succeeded := s.Successor(m.Allocation)
	if m.Under() && succeeded {
		v.Successor, v.Phase, v.Health = s.Text().Format(successor.ID), successor.Phase, successor.Health
	}
	switch {
	case m.Stage == api.MoveWaiting:
		v.Text = "waits for its turn"
	case m.Stage == api.MoveDone:
		v.Text = "moved"
	case m.Stage == api.MoveDropped, m.Stage == api.MoveUndone:
		v.Text = m.Reason
	case known && row.Live() && row.Desired == api.DesiredStop:
		v.Text = "is stopping on " + v.From
	case !succeeded:
		v.Text = "waits to be placed on " + v.To
	case successor.Phase != api.PhaseRunning:
		v.Text = "waits to run on " + v.To
	default:
		v.Text = "waits to be healthy on " + v.To
	}
	return v
}
