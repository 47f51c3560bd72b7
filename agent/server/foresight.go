package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
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
	if v, err = supposed(ctx, s, t.directory.Loads(time.Now()), answer); err != nil {
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

// supposed answers from what this server has. To suppose something costs a server as much as to parse it, so the same gate
// bounds it.
func supposed[T any](ctx context.Context, s *Server, loads map[string]api.NodeLoad, answer func(*fsm.Snapshot, scheduler.Options) (T, error)) (v T, err error) {
	leave, err := s.parses.enter(ctx)
	if err != nil {
		return v, err
	}
	defer leave()
	return answer(s.machine.Snapshot(), options(s.cfg.Policy, loads, s.door.clock.now()))
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

// Simulate implements api.Foresight. Asked for a stale answer, any server gives it from its own state; what the nodes measure
// of themselves only the leader knows, and so only it counts that in.
func (s *Server) Simulate(ctx context.Context, r api.SimulationRequest, q api.Query) (out *api.Simulation, meta api.ReadMeta, err error) {
	if err := r.Check(); err != nil {
		return nil, meta, err
	}
	steps := make([]whatif.Step, len(r.Suppose))
	for i := range r.Suppose {
		if run := r.Suppose[i].Run; run != nil {
			if steps[i].Run, err = s.jobsOf(ctx, *run); err != nil {
				return nil, meta, err
			}
		}
	}
	answer := func(snapshot *fsm.Snapshot, o scheduler.Options) (*api.Simulation, error) {
		for i := range r.Suppose {
			if err := resolveStep(snapshot, &r.Suppose[i], &steps[i]); err != nil {
				return nil, err
			}
		}
		return whatif.Simulate(snapshot, steps, o)
	}
	if q.Stale {
		out, err = supposed(ctx, s, nil, answer)
	} else {
		out, err = foresee(ctx, s, answer)
	}
	if err != nil {
		return nil, meta, err
	}
	return out, api.ReadMeta{Index: max(1, out.Index), Stale: q.Stale}, nil
}

// resolveStep finds the nodes that a supposition names.
func resolveStep(snapshot *fsm.Snapshot, from *api.Supposition, to *whatif.Step) error {
	to.Scale = from.Scale
	for _, of := range []struct {
		name string
		id   *string
	}{{from.NodeDown, &to.Down}, {from.Drain, &to.Drain}} {
		if of.name == "" {
			continue
		}
		n, err := findNode(snapshot, of.name)
		if err != nil {
			return err
		}
		*of.id = n.ID
	}
	return nil
}

// ExplainJob implements api.Foresight.
func (s *Server) ExplainJob(ctx context.Context, name string) (*api.JobDiagnosis, error) {
	return foresee(ctx, s, func(snapshot *fsm.Snapshot, o scheduler.Options) (*api.JobDiagnosis, error) {
		job := snapshot.Job(name)
		if job == nil {
			return nil, api.Errorf(api.CodeNotFound, "there is no job %.80q", name)
		}
		d := &api.JobDiagnosis{Job: name, Summary: snapshot.Summary(name), MadeAt: job.SubmittedAt, MadeBy: job.SubmittedBy, MadeFrom: job.MadeFrom(),
			Deployment: viewDeployment(snapshot, snapshot.Deployment(name)), Index: snapshot.Index()}
		if all := snapshot.JobEvaluations(name); len(all) > 0 {
			d.Evaluation = newest(all).View(snapshot.Text())
		}
		if job.Stopped {
			return d, nil
		}
		for _, t := range job.Tasks {
			of := scheduler.Diagnose(snapshot, job, t.Name, o)
			of.Instances, of.More = reasons(snapshot, name, t.Name)
			d.Tasks = append(d.Tasks, of)
		}
		return d, nil
	})
}

// reasons says why the instances of a task are where they are, those that live and what failed for good with nothing in its place,
// and how many are left out: of those that run, what is beyond the bound.
func reasons(snapshot *fsm.Snapshot, job, task string) (out []api.InstanceReason, more int) {
	var rows []api.AllocationRow
	newest := map[uint32]api.AllocationRow{}
	for row := range snapshot.JobRows(job) {
		if row.Task != task {
			continue
		}
		if row.Live() {
			rows = append(rows, row)
		}
		if row.ID > newest[row.Slot].ID {
			newest[row.Slot] = row
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(newest)) {
		if row := newest[slot]; row.Phase == api.PhaseFailed && row.Desired == api.DesiredRun {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b api.AllocationRow) int { return cmp.Compare(settled(a), settled(b)) })
	for _, row := range rows[:min(len(rows), api.MaxExplained)] {
		a, ok := snapshot.Allocation(row.ID)
		if !ok {
			continue
		}
		r := api.InstanceReason{Name: a.Name, Allocation: a.ID, Node: a.NodeName, JobVersion: a.JobVersion, Desired: a.Desired, Phase: a.Phase,
			At: a.CreatedAt, Evaluation: a.Evaluation, Replaces: a.Replaces}
		if a.Phase != api.PhaseRunning {
			r.Message = a.Message
		}
		if e := snapshot.Evaluation(row.Evaluation); e != nil {
			r.Cause, r.CauseNode = e.Cause, e.Node
			if d := snapshot.Deployment(job); e.Cause == api.CauseDeployment && d != nil && a.JobVersion < d.Version {
				r.CauseText = d.Turn()
			}
			switch last, ok := snapshot.Row(row.Replaces); {
			case !ok:
			case last.Phase == api.PhaseFailed && last.Version == row.Version:
				r.CauseText = last.Failure.On(snapshot.NodeName(last.Node))
			case e.Interrupts(&last, row.Version):
				r.CauseText = fmt.Sprintf("update to version %d", row.Version)
			}
			if n := snapshot.Node(e.Node); n != nil {
				r.CauseNode = n.Name
			}
		}
		out = append(out, r)
	}
	return out, len(rows) - len(out)
}

// settled orders instances by how little there is to say of them.
func settled(row api.AllocationRow) int {
	if row.Phase == api.PhaseRunning && row.Desired == api.DesiredRun {
		return 1
	}
	return 0
}
