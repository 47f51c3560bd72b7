package server

import (
	"context"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
	"cube/scheduler/whatif"
)

// foresee answers what would happen, from the leader's state and what it knows of the nodes' load: as the scheduling loop
// would look at it now. The answer is as fresh as a read.
func foresee[T any](ctx context.Context, s *Server, answer func(*fsm.Snapshot, scheduler.Options) (T, error)) (v T, err error) {
	t, err := s.leading()
	if err != nil {
		return v, err
	}
	leave, err := s.parses.enter(ctx) // to suppose something costs a server as much as to parse it
	if err != nil {
		return v, err
	}
	defer leave()
	if v, err = answer(s.machine.Snapshot(), options(s.cfg.Algorithm, t.directory.Loads(time.Now()))); err != nil {
		return v, err
	}
	if err := s.reads.wait(ctx); err != nil {
		return v, err
	}
	if s.tenure.Load() != t {
		return v, notLeader()
	}
	return v, nil
}

// PlanJobs implements api.Foresight.
func (s *Server) PlanJobs(ctx context.Context, sub api.Submission) (*api.Forecast, error) {
	jobs, err := s.jobsOf(ctx, sub)
	if err != nil {
		return nil, err
	}
	return foresee(ctx, s, func(snapshot *fsm.Snapshot, o scheduler.Options) (*api.Forecast, error) {
		return whatif.Plan(snapshot, jobs, o), nil
	})
}
