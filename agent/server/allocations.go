package server

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"

	"cube/agent/server/estate"
	"cube/api"
	"cube/fsm"
	"cube/internal/session"
)

// allocations assembles what people read, newest last as the rows come.
func allocations(snapshot *fsm.Snapshot, rows iter.Seq[api.AllocationRow]) []*api.Allocation {
	out := []*api.Allocation{}
	for row := range rows {
		if a, ok := snapshot.Allocation(row.ID); ok {
			out = append(out, a)
		}
	}
	return out
}

// allocationsOfJob orders by task and slot, then newest first.
func allocationsOfJob(snapshot *fsm.Snapshot, job string) []*api.Allocation {
	rows := slices.SortedFunc(snapshot.JobAllRows(job), func(a, b api.AllocationRow) int {
		if c := strings.Compare(a.Task, b.Task); c != 0 {
			return c
		}
		if a.Slot != b.Slot {
			return compareIDs(api.ID(a.Slot), api.ID(b.Slot))
		}
		return compareIDs(b.ID, a.ID)
	})
	return allocations(snapshot, slices.Values(rows))
}

// ListAllocations implements api.Allocations. The prefix is of the ID.
func (s *Server) ListAllocations(ctx context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.Allocation]{
		keys: always(fsm.WatchKey{Table: fsm.TableAllocations}),
		get: func(snapshot *fsm.Snapshot) ([]*api.Allocation, error) {
			if q.Prefix == "" {
				return allocations(snapshot, snapshot.Rows()), nil
			}
			out := []*api.Allocation{}
			for _, id := range snapshot.FindAllocations(q.Prefix) {
				if a, ok := snapshot.Allocation(id); ok {
					out = append(out, a)
				}
			}
			return out, nil
		},
	})
}

func findAllocation(snapshot *fsm.Snapshot, id string) (api.ID, error) {
	var found []api.ID
	if id != "" {
		found = snapshot.FindAllocations(id)
	}
	return resolve("allocation", id, found, snapshot.Text().Format)
}

// Allocation implements api.Allocations.
func (s *Server) Allocation(ctx context.Context, id string, q api.Query) (*api.Allocation, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.Allocation]{
		keys: func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
			key, err := findAllocation(snapshot, id)
			return []fsm.WatchKey{{Table: fsm.TableAllocations, ID: key}}, err
		},
		get: func(snapshot *fsm.Snapshot) (*api.Allocation, error) {
			key, err := findAllocation(snapshot, id)
			if err != nil {
				return nil, err
			}
			a, ok := snapshot.Allocation(key)
			if !ok {
				return nil, api.Errorf(api.CodeNotFound, "allocation %s is gone", id)
			}
			return a, nil
		},
	})
}

// StopAllocation implements api.Allocations.
func (s *Server) StopAllocation(_ context.Context, id string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	key, err := findAllocation(s.machine.Snapshot(), id)
	if err != nil {
		return nil, err
	}
	return s.writeForEvaluation(&fsm.StopAllocation{ID: key, NoShutdownDelay: r.NoShutdownDelay}, w, api.CauseAllocStop)
}

// Logs implements api.Allocations. The server that holds the node's session answers, and the leader for any node.
func (s *Server) Logs(ctx context.Context, id string, r api.LogRequest) (io.ReadCloser, error) {
	row, err := s.allocationRow(id)
	if err != nil {
		return nil, err
	}
	worker, err := s.workerOf(row.Node)
	if err != nil {
		return nil, err
	}
	return worker.Logs(ctx, row.ID, r)
}

// Exec implements api.Allocations. The same servers answer as for Logs.
func (s *Server) Exec(ctx context.Context, id string, r api.ExecRequest) (io.ReadWriteCloser, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	row, err := s.allocationRow(id)
	if err != nil {
		return nil, err
	}
	if row.Phase != api.PhaseRunning && (r.Part == "" || row.Phase.Terminal()) {
		if _, err := s.leading(); err != nil {
			return nil, err // it may run by now
		}
		return nil, api.Errorf(api.CodeConflict, "%s (allocation %.8s) does not run, it is %s", api.InstanceName(row.Job, row.Task, row.Slot), s.machine.Snapshot().Text().Format(row.ID), row.Phase)
	}
	worker, err := s.workerOf(row.Node)
	if err != nil {
		return nil, err
	}
	return worker.Exec(ctx, row.ID, r)
}

// Fetch implements api.Estates. The server that holds the session of the node with the directory asks that node; the leader does so
// for all others, once.
func (s *Server) Fetch(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error) {
	former, err := estate.Check(s.machine.Snapshot(), node, r)
	if err != nil {
		return nil, err
	}
	worker, err := s.workerOf(former.Node)
	if from, ok := session.From(ctx); api.CodeOf(err) == api.CodeNotLeader && !(ok && from.Role == api.RoleServer) {
		leader, self, known := s.LeaderInfo()
		if !known || self {
			return nil, err
		}
		return s.cfg.NewEstates(s.Transport(leader.ID)).Fetch(ctx, node, r)
	}
	if err != nil {
		return nil, err
	}
	return worker.Estate(ctx, r.Former, r.Taken)
}

// allocationRow finds an allocation for what is to be asked of its node.
func (s *Server) allocationRow(id string) (row api.AllocationRow, err error) {
	snapshot := s.machine.Snapshot()
	key, err := findAllocation(snapshot, id)
	if err != nil {
		if _, notLeading := s.leading(); notLeading != nil {
			return row, notLeading // it may be news to this server
		}
		return row, err
	}
	row, ok := snapshot.Row(key)
	if !ok {
		return row, api.Errorf(api.CodeNotFound, "allocation %s is gone", id)
	}
	return row, nil
}

func evaluationViews(snapshot *fsm.Snapshot, all []*api.Evaluation) []*api.EvaluationView {
	all = slices.SortedFunc(slices.Values(all), func(a, b *api.Evaluation) int { return compareIDs(b.ID, a.ID) })
	out := make([]*api.EvaluationView, len(all))
	for i, e := range all {
		out[i] = e.View(snapshot.Text())
	}
	return out
}

// ListEvaluations implements api.Evaluations. The prefix is of the ID.
func (s *Server) ListEvaluations(ctx context.Context, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.EvaluationView]{
		keys: always(fsm.WatchKey{Table: fsm.TableEvaluations}),
		get: func(snapshot *fsm.Snapshot) ([]*api.EvaluationView, error) {
			text, all := snapshot.Text(), []*api.Evaluation{}
			for e := range snapshot.Evaluations() {
				if q.Prefix == "" || strings.HasPrefix(text.Format(e.ID), q.Prefix) {
					all = append(all, e)
				}
			}
			return evaluationViews(snapshot, all), nil
		},
	})
}

func findEvaluation(snapshot *fsm.Snapshot, id string) (api.ID, error) {
	var found []api.ID
	if id != "" {
		found = snapshot.FindEvaluations(id)
	}
	return resolve("evaluation", id, found, snapshot.Text().Format)
}

// Evaluation implements api.Evaluations.
func (s *Server) Evaluation(ctx context.Context, id string, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.EvaluationView]{
		keys: func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
			key, err := findEvaluation(snapshot, id)
			return []fsm.WatchKey{{Table: fsm.TableEvaluations, ID: key}}, err
		},
		get: func(snapshot *fsm.Snapshot) (*api.EvaluationView, error) {
			key, err := findEvaluation(snapshot, id)
			if err != nil {
				return nil, err
			}
			e := snapshot.Evaluation(key)
			if e == nil {
				return nil, api.Errorf(api.CodeNotFound, "evaluation %s is gone", id)
			}
			return e.View(snapshot.Text()), nil
		},
	})
}
