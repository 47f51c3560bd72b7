package api

import (
	"context"
	"fmt"
	"time"
)

// RebalanceBudget is how much a rebalance may move, how fast, and for how little.
type RebalanceBudget struct {
	// MaxMoves is how many instances are on the move at a time, and how many begin to move within Per.
	MaxMoves int
	// Per is the time for which MaxMoves is counted. 0: the next one begins as soon as one has arrived.
	Per time.Duration
	// MinGain is what a move must be worth at least, in points: hundredths of the scheduler's score.
	MinGain float64
}

// Bounds of a rebalance.
const (
	// MaxRebalanceMoves is how many moves one rebalance makes. A cluster that needs more is rebalanced again.
	MaxRebalanceMoves = 500
	// MaxRebalancePer bounds RebalanceBudget.Per.
	MaxRebalancePer = 7 * 24 * time.Hour
	maxMinGain      = 1000
)

// DefaultRebalanceBudget is what a rebalance has on which nobody says more: it is in no hurry, and moves nothing for the
// difference that one small instance makes.
func DefaultRebalanceBudget() RebalanceBudget { return RebalanceBudget{MaxMoves: 2, MinGain: 5} }

// DefaultRebalancePer is the Per of servers that rebalance by themselves.
const DefaultRebalancePer = 10 * time.Minute

// Check says what is wrong with a budget.
func (b *RebalanceBudget) Check() error {
	switch {
	case b.MaxMoves < 1 || b.MaxMoves > MaxRebalanceMoves:
		return Errorf(CodeInvalid, "max_moves %d is not from 1 to %d", b.MaxMoves, MaxRebalanceMoves)
	case b.Per < 0 || b.Per > MaxRebalancePer:
		return Errorf(CodeInvalid, "per %s is not from 0 to %s", b.Per, MaxRebalancePer)
	case !(b.MinGain > 0) || b.MinGain > maxMinGain:
		return Errorf(CodeInvalid, "min_gain %g is not above 0 and at most %d; it is in hundredths of the scheduler's score", b.MinGain, maxMinGain)
	}
	return nil
}

// RebalanceStage is how far a rebalance has come.
type RebalanceStage string

const (
	RebalanceMoving    RebalanceStage = "moving"    // moves are waiting or under way
	RebalanceCancelled RebalanceStage = "cancelled" // what was under way arrives; nothing more begins, or has
	RebalanceComplete  RebalanceStage = "complete"
)

// Rebalance is a round of moves that make the cluster better balanced, or tighter: the latest one there was. It is a row of the
// state, so whoever leads goes on with it.
type Rebalance struct {
	Stage     RebalanceStage
	By        string    `json:",omitempty"` // who asked for it; "" if it is not known
	Automatic bool      `json:",omitempty"` // nobody did: the servers' configuration says so
	StartedAt time.Time // the leader's clock, as all of these
	EndedAt   time.Time // zero: something is waiting or under way
	Budget    RebalanceBudget
	Moves     []Move // in the order in which they begin
}

// Active reports whether something is waiting or under way. A nil rebalance is not.
func (r *Rebalance) Active() bool { return r != nil && r.EndedAt.IsZero() }

// Cause is why an instance moves, as it is recorded with the instance: "moved from n1 to n4 to balance, asked for by alice".
func (r *Rebalance) Cause(from, to string) string {
	cause := "moved from " + from + " to " + to + " to balance"
	switch {
	case r.Automatic:
		cause += ", as the servers are configured to"
	case r.By != "":
		cause += ", asked for by " + r.By
	}
	return cause
}

// MoveStage is how far a move has come.
type MoveStage string

const (
	MoveWaiting MoveStage = "waiting" // for its turn
	MoveUnder   MoveStage = "moving"  // its successor is to be placed, to become healthy, and to take over
	MoveUndone  MoveStage = "undone"  // its successor did not become healthy in time, and is to stop
	MoveDone    MoveStage = "done"    // the instance has moved
	MoveDropped MoveStage = "dropped" // it has not, and stays where it is
)

// Over reports whether the move has come to its end.
func (s MoveStage) Over() bool { return s == MoveDone || s == MoveDropped }

// Move is that of one instance from a node to another.
type Move struct {
	Allocation ID
	Job, Task  string
	Slot       uint32
	From, To   string  // node IDs
	Gain       float64 // points
	Stage      MoveStage
	BegunAt    time.Time `json:",omitzero"`
	EndedAt    time.Time `json:",omitzero"`
	Begun      uint64    `json:",omitempty"` // the index at which it began
	Reason     string    `json:",omitempty"` // why it was dropped, or is undone
}

// Under reports whether the scheduler has something to do for the move.
func (m *Move) Under() bool { return m.Stage == MoveUnder || m.Stage == MoveUndone }

// RebalanceRequest asks for a rebalance, or for what it would do.
type RebalanceRequest struct{ Budget RebalanceBudget } // zero: DefaultRebalanceBudget

// Check fills in what a request leaves out altogether, and says what is wrong with it.
func (r *RebalanceRequest) Check() error {
	if r.Budget == (RebalanceBudget{}) {
		r.Budget = DefaultRebalanceBudget()
	}
	return r.Budget.Check()
}

// RebalancePlan is what a rebalance would do now.
type RebalancePlan struct {
	Algorithm string        // by which jobs are placed that name none
	Moves     []PlannedMove // those that gain most first
	More      bool          `json:",omitempty"` // when all these have been made, there will be others
	Nodes     []NodeOutcome // that something leaves or comes to, the fullest first
	Before    Levels
	After     Levels
	Looked    int       // instances that were looked at
	Left      []LeftOut `json:",omitempty"` // and those that were not, most first
	Index     uint64    // of the state it was made from
}

// PlannedMove is one that is worth making.
type PlannedMove struct {
	Allocation string // ID
	Name       string // web[3]
	From, To   string // names of nodes
	Gain       float64
	Why        string // what the gain is made of: "binpack +31, affinity +50"
}

// Levels are how full the nodes are that take instances: each by its scarcest resource.
type Levels struct {
	Fullest, Emptiest, Mean float64 // percent
	Used                    int     // nodes that have something
}

// LeftOut is how many instances a rebalance leaves where they are, whatever would be gained, and why.
type LeftOut struct {
	Instances int
	Why       string
}

// Sentence says in a line what a plan comes to.
func (p *RebalancePlan) Sentence() string {
	switch {
	case len(p.Moves) == 0 && p.Looked == 0:
		return "Nothing to move: there is no instance that could be"
	case len(p.Moves) == 0:
		return fmt.Sprintf("Nothing to move: each of %d instances is where the scheduler would put it, or nearly", p.Looked)
	case len(p.Moves) == 1:
		return "1 move" + p.more()
	}
	return fmt.Sprintf("%d moves%s", len(p.Moves), p.more())
}

func (p *RebalancePlan) more() string {
	if p.More {
		return ", and others after these"
	}
	return ""
}

// RebalanceStatus is how the latest rebalance gets on, or what became of it.
type RebalanceStatus struct {
	Stage     RebalanceStage `json:",omitempty"` // "": there was none
	By        string         `json:",omitempty"`
	Automatic bool           `json:",omitempty"`
	StartedAt time.Time      `json:",omitzero"`
	EndedAt   time.Time      `json:",omitzero"`
	Budget    RebalanceBudget
	Moves     []MoveView
}

// MoveView is a move as people read it.
type MoveView struct {
	Allocation string // ID
	Name       string // web[3]
	From, To   string // names of nodes
	Gain       float64
	Stage      MoveStage
	Successor  string       `json:",omitempty"` // ID of the allocation that takes the place, once it is there
	Phase      Phase        // of the successor
	Health     HealthStatus // of the successor
	Text       string       // what it waits for, or how it ended: "waits to be healthy on n4"
}

// Active reports whether something is waiting or under way.
func (s *RebalanceStatus) Active() bool { return s.Stage != "" && s.EndedAt.IsZero() }

// Count is how many moves stand so.
func (s *RebalanceStatus) Count(stage MoveStage) (n int) {
	for i := range s.Moves {
		if s.Moves[i].Stage == stage {
			n++
		}
	}
	return n
}

// Rebalances moves instances to where the scheduler would put them now.
type Rebalances interface {
	// PlanRebalance says what would be moved, and changes nothing.
	PlanRebalance(ctx context.Context, r RebalanceRequest) (*RebalancePlan, error)
	// BeginRebalance begins to move. Where there is nothing to move it changes nothing, and the status has no moves.
	// CodeConflict: a rebalance is under way.
	BeginRebalance(ctx context.Context, r RebalanceRequest, w WriteMeta) (*RebalanceStatus, error)
	// CancelRebalance has nothing more begin; what is under way arrives. CodeConflict: none is under way.
	CancelRebalance(ctx context.Context, w WriteMeta) (*RebalanceStatus, error)
	// Rebalance says how the latest rebalance gets on.
	Rebalance(ctx context.Context, q Query) (*RebalanceStatus, ReadMeta, error)
}
