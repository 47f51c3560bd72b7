package scheduler

import "cube/api"

// Options are what a plan depends on besides the state.
type Options struct {
	// Algorithm is used by jobs that name none; "" is binpack.
	Algorithm string
	// Load tells what a node measures of itself, false if nothing is known. It ranks nodes and never decides whether one
	// can take an instance. nil: nothing is known of any node.
	Load func(nodeID string) (api.NodeLoad, bool)
	// MaxPlacements bounds the changes of one plan (placements, stops and in-place changes together), so that it fits a
	// log entry; 0: no bound. Evaluations that are not reached are left out of the plan; the one that is cut short keeps
	// the status pending.
	MaxPlacements int
}

// Schedule answers a batch of evaluations with a plan.
func Schedule(s State, evaluations []*api.Evaluation, o Options) *api.Plan {
	return &api.Plan{BaseIndex: s.Index()}
}
