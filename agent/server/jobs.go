package server

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"time"

	"cube/agent/server/deployer"
	"cube/agent/server/launch"
	"cube/api"
	"cube/fsm"
	order "cube/fsm/launch"
	"cube/jobspec"
	"cube/scheduler/rollout"
)

const (
	// maxParses is how many submissions may wait for the parser or be in it; more are told to come back.
	maxParses = 64
	// maxFileName is the longest path that Linux takes. The name is kept with the job's version.
	maxFileName = 4 << 10
)

// gate bounds how much is parsed at a time: a parser is the most that one request can make a server compute.
type gate struct {
	places  chan struct{} // waiting or working
	working chan struct{}
}

func newGate() *gate {
	return &gate{places: make(chan struct{}, maxParses), working: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// enter returns the way out again. CodeBusy when too many wait.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.places <- struct{}{}:
	default:
		return nil, api.Errorf(api.CodeBusy, "%d job files wait to be parsed already: nothing was written, try again", maxParses)
	}
	select {
	case g.working <- struct{}{}:
	case <-ctx.Done():
		<-g.places
		return nil, ctx.Err()
	}
	return func() { <-g.working; <-g.places }, nil
}

// jobsOf parses and checks a submission. The jobs are canonical.
func (s *Server) jobsOf(ctx context.Context, sub api.Submission) ([]*api.Job, error) {
	if (sub.Source == "") == (sub.Job == nil) {
		return nil, api.Errorf(api.CodeInvalid, "a submission has either a source or a job; an empty file has neither")
	}
	if len(sub.Source) > api.MaxSourceBytes {
		return nil, api.Errorf(api.CodeTooLarge, "%s has %d bytes; %d are allowed", sub.FileName, len(sub.Source), api.MaxSourceBytes)
	}
	if len(sub.FileName) > maxFileName {
		return nil, api.Errorf(api.CodeTooLarge, "the file's name has %d bytes; %d are allowed", len(sub.FileName), maxFileName)
	}
	if sub.FileName == "" {
		sub.FileName = "<source>" // messages name a file before the line
	}
	leave, err := s.parses.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if sub.Job != nil {
		job := sub.Job.Asked() // its tasks become the state's own
		job.Canonicalize()
		if err := job.Validate(); err != nil {
			return nil, err
		}
		return []*api.Job{job}, nil
	}
	file, err := jobspec.Parse([]byte(sub.Source), sub.FileName, sub.Variables)
	if err != nil {
		return nil, err
	}
	return file.Jobs, nil
}

// RegisterJobs implements api.Jobs.
func (s *Server) RegisterJobs(ctx context.Context, sub api.Submission, w api.WriteMeta) (*api.Registered, error) {
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	if err := checkWrite(w); err != nil {
		return nil, err
	}
	jobs, err := s.jobsOf(ctx, sub)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		j.SubmittedBy = w.Who
	}
	return s.register(&fsm.RegisterJobs{Jobs: jobs, CheckIndex: sub.CheckIndex, Deploy: true}, w, api.CauseRegister)
}

// register commits what makes versions of jobs, or changes them.
func (s *Server) register(body fsm.Body, w api.WriteMeta, why string) (*api.Registered, error) {
	result, err := s.door.apply(body, person(w, why))
	if err != nil {
		return nil, err
	}
	out := &api.Registered{Index: result.Index}
	text := s.machine.Snapshot().Text()
	for _, r := range result.Registered {
		job := api.RegisteredJob{Name: r.Name, Version: r.Version, Changed: r.Changed}
		if r.Evaluation != 0 {
			job.Evaluation = text.Format(r.Evaluation)
		}
		out.Jobs = append(out.Jobs, job)
	}
	return out, nil
}

// ValidateJobs implements api.Jobs. Any server answers.
func (s *Server) ValidateJobs(ctx context.Context, sub api.Submission) (*api.Validation, error) {
	jobs, err := s.jobsOf(ctx, sub)
	if err != nil {
		return nil, err
	}
	v := &api.Validation{}
	for _, j := range jobs {
		v.Jobs = append(v.Jobs, j.Redacted())
	}
	return v, nil
}

// StopJob implements api.Jobs.
func (s *Server) StopJob(_ context.Context, name string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	return s.writeForEvaluation(&fsm.StopJob{Name: name, NoShutdownDelay: r.NoShutdownDelay}, w, api.CauseStop)
}

// purgeAtOnce bounds an entry, as the state machine does.
const purgeAtOnce = 900

// PurgeJob implements api.Jobs. The allocations go first, in entries of their own where they are many: a purge that is cut
// short is one that retention had done in time, and can be asked for again.
func (s *Server) PurgeJob(_ context.Context, name string, w api.WriteMeta) error {
	if _, err := s.leading(); err != nil {
		return err
	}
	if err := checkWrite(w); err != nil {
		return err
	}
	snapshot := s.machine.Snapshot()
	job := snapshot.Job(name)
	switch {
	case job == nil:
		return api.Errorf(api.CodeNotFound, "there is no job %.80q", name)
	case !job.Stopped:
		return api.Errorf(api.CodeConflict, "job %.80q is not stopped", name)
	}
	ended := []api.ID{}
	for row := range snapshot.JobAllRows(name) {
		if row.Live() {
			return api.Errorf(api.CodeConflict, "job %.80q is stopping: %s is not gone yet", name, api.InstanceName(name, row.Task, row.Slot))
		}
		ended = append(ended, row.ID)
	}
	for len(ended) > purgeAtOnce {
		if _, err := s.door.apply(&fsm.Reap{Allocations: ended[:purgeAtOnce]}, origin{Who: w.Who, Why: "purge"}); err != nil {
			return err
		}
		ended = ended[purgeAtOnce:]
	}
	if _, err := s.door.apply(&fsm.Reap{Allocations: ended, Jobs: []string{name}}, person(w, "purge")); err != nil {
		return err
	}
	if s.machine.Snapshot().Job(name) != nil {
		return api.Errorf(api.CodeConflict, "job %.80q may still have instances on nodes that are down: purge it again when they are back, or a day after they went", name)
	}
	return nil
}

// writeForEvaluation commits a person's write and returns the evaluation that follows from it; an empty one if nothing
// does.
func (s *Server) writeForEvaluation(body fsm.Body, w api.WriteMeta, why string) (*api.EvaluationView, error) {
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	if err := checkWrite(w); err != nil {
		return nil, err
	}
	result, err := s.door.apply(body, person(w, why))
	if err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	if e := snapshot.Evaluation(result.Evaluation); e != nil {
		return e.View(snapshot.Text()), nil
	}
	return &api.EvaluationView{Status: api.EvalComplete, Message: "there was nothing to do"}, nil
}

func checkWrite(w api.WriteMeta) error {
	const maxRequestID, maxWho = 64, 256
	if len(w.RequestID) > maxRequestID || len(w.Who) > maxWho {
		return api.Errorf(api.CodeTooLarge, "a request ID has at most %d bytes and a name at most %d", maxRequestID, maxWho)
	}
	return nil
}

// ListJobs implements api.Jobs.
func (s *Server) ListJobs(ctx context.Context, q api.Query) ([]*api.JobSummary, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.JobSummary]{
		keys: always(fsm.WatchKey{Table: fsm.TableJobs}, fsm.WatchKey{Table: fsm.TableAllocations}),
		get: func(snapshot *fsm.Snapshot) ([]*api.JobSummary, error) {
			out := []*api.JobSummary{}
			for j := range snapshot.Jobs() {
				if strings.HasPrefix(j.Name, q.Prefix) {
					summary := snapshot.Summary(j.Name)
					out = append(out, &summary)
				}
			}
			return out, nil
		},
	})
}

// jobKeys are the keys of reads about one job, which must exist.
func jobKeys(name string, tables ...fsm.Table) func(*fsm.Snapshot) ([]fsm.WatchKey, error) {
	return func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
		if snapshot.Job(name) == nil {
			return nil, api.Errorf(api.CodeNotFound, "there is no job %.80q", name)
		}
		keys := make([]fsm.WatchKey, len(tables))
		for i, t := range tables {
			keys[i] = fsm.WatchKey{Table: t, Key: name}
		}
		return keys, nil
	}
}

// Job implements api.Jobs.
func (s *Server) Job(ctx context.Context, name string, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.JobStatus]{
		keys: jobKeys(name, fsm.TableJobs, fsm.TableJobAllocations, fsm.TableJobEvaluations, fsm.TableDeployments),
		get: func(snapshot *fsm.Snapshot) (*api.JobStatus, error) {
			job := snapshot.Job(name)
			if job == nil {
				return nil, api.Errorf(api.CodeNotFound, "there is no job %.80q", name)
			}
			status := &api.JobStatus{Job: job.Redacted(), Deployment: viewDeployment(snapshot, snapshot.Deployment(name)), Summary: snapshot.Summary(name), Allocations: allocationsOfJob(snapshot, name)}
			if all := snapshot.JobEvaluations(name); len(all) > 0 {
				status.Evaluation = newest(all)
			}
			status.Launches = launch.Status(snapshot, job, time.Now())
			return status, nil
		},
	})
}

func newest(all []*api.Evaluation) *api.Evaluation {
	return slices.MaxFunc(all, func(a, b *api.Evaluation) int { return compareIDs(a.ID, b.ID) })
}

func compareIDs(a, b api.ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// JobVersions implements api.Jobs.
func (s *Server) JobVersions(ctx context.Context, name string, q api.Query) ([]*api.Job, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.Job]{
		keys: jobKeys(name, fsm.TableJobs),
		get: func(snapshot *fsm.Snapshot) ([]*api.Job, error) {
			out := []*api.Job{}
			for _, j := range snapshot.Versions(name) {
				out = append(out, j.Redacted())
			}
			slices.SortFunc(out, func(a, b *api.Job) int { return compareIDs(api.ID(b.Version), api.ID(a.Version)) })
			return out, nil
		},
	})
}

// JobAllocations implements api.Jobs.
func (s *Server) JobAllocations(ctx context.Context, name string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.Allocation]{
		keys: jobKeys(name, fsm.TableJobAllocations),
		get: func(snapshot *fsm.Snapshot) ([]*api.Allocation, error) {
			return allocationsOfJob(snapshot, name), nil
		},
	})
}

// JobEvaluations implements api.Jobs.
func (s *Server) JobEvaluations(ctx context.Context, name string, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.EvaluationView]{
		keys: jobKeys(name, fsm.TableJobEvaluations),
		get: func(snapshot *fsm.Snapshot) ([]*api.EvaluationView, error) {
			return evaluationViews(snapshot, snapshot.JobEvaluations(name)), nil
		},
	})
}

// JobHistory implements api.History. Differences are found in what the versions really say, and shown without what is
// sensitive.
func (s *Server) JobHistory(ctx context.Context, name string, q api.Query) ([]*api.Revision, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.Revision]{
		keys: jobKeys(name, fsm.TableJobs),
		get: func(snapshot *fsm.Snapshot) ([]*api.Revision, error) {
			out := []*api.Revision{}
			versions := snapshot.Versions(name)
			for i, j := range versions {
				r := &api.Revision{Job: j.Redacted()}
				if i+1 < len(versions) {
					r.Diff = api.DiffJobs(versions[i+1], j)
				}
				out = append(out, r)
			}
			return out, nil
		},
	})
}

// JobTimeline implements api.Events.
func (s *Server) JobTimeline(ctx context.Context, name string, q api.Query) ([]*api.EventView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.EventView]{
		keys: jobKeys(name, fsm.TableJobs, fsm.TableJobAllocations, fsm.TableJobEvaluations),
		get: func(snapshot *fsm.Snapshot) ([]*api.EventView, error) {
			return launch.Timeline(snapshot, name), nil
		},
	})
}

// TagVersion implements api.History.
func (s *Server) TagVersion(_ context.Context, name string, r api.TagRequest, w api.WriteMeta) (*api.Job, error) {
	if err := namesVersion("version", r.Version, r.Remove); err != nil {
		return nil, err
	}
	out, err := s.change(&fsm.TagVersion{Name: name, Version: r.Version, Tag: r.Tag, Remove: r.Remove}, w, "tag")
	if err != nil {
		return nil, err
	}
	j := s.machine.Snapshot().JobVersion(name, out.Jobs[0].Version)
	if j == nil {
		return nil, api.Errorf(api.CodeConflict, "job %.80q was forgotten meanwhile", name)
	}
	return j.Redacted(), nil
}

// RevertJob implements api.History.
func (s *Server) RevertJob(_ context.Context, name string, r api.RevertRequest, w api.WriteMeta) (*api.Registered, error) {
	if err := namesVersion("To", r.To, false); err != nil {
		return nil, err
	}
	return s.change(&fsm.RevertJob{Name: name, To: r.To, CheckIndex: r.CheckIndex, Deploy: true}, w, api.CauseRevert)
}

// ScaleJob implements api.History.
func (s *Server) ScaleJob(_ context.Context, name string, r api.ScaleRequest, w api.WriteMeta) (*api.Registered, error) {
	return s.change(&fsm.ScaleJob{Name: name, Task: r.Task, Count: r.Count, CheckIndex: r.CheckIndex}, w, api.CauseScale)
}

// RestartJob implements api.History.
func (s *Server) RestartJob(_ context.Context, name string, r api.RestartRequest, w api.WriteMeta) (*api.Registered, error) {
	if j := s.machine.Snapshot().Job(name); j != nil && j.Launches() {
		return nil, api.Errorf(api.CodeInvalid, "job %.80q has no instances: restart one that it has launched", name)
	}
	return s.change(&fsm.RestartJob{Name: name, RestartRequest: r, Deploy: true}, w, api.CauseRestart)
}

// DispatchJob implements api.Dispatches. What no job takes does not become an entry.
func (s *Server) DispatchJob(_ context.Context, name string, r api.DispatchRequest, w api.WriteMeta) (*api.Registered, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return s.change(&fsm.LaunchJob{Order: order.Order{Name: name, Asked: &r}}, w, api.CauseLaunch)
}

// namesVersion refuses what cannot name a version before it becomes an entry.
func namesVersion(field, text string, optional bool) error {
	if text == "" && !optional || len(text) > api.MaxNameLength {
		return api.Errorf(api.CodeInvalid, "%s %.80q names no version: give a number, a tag, %s or %s", field, text, api.VersionCurrent, api.VersionPrevious)
	}
	return nil
}

// change commits a person's change of one job.
func (s *Server) change(body fsm.Body, w api.WriteMeta, why string) (*api.Registered, error) {
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	if err := checkWrite(w); err != nil {
		return nil, err
	}
	return s.register(body, w, why)
}

// viewDeployment is a deployment as people read it: one that is active as it stands now. nil for nil.
func viewDeployment(s *fsm.Snapshot, d *api.Deployment) *api.DeploymentView {
	if d == nil {
		return nil
	}
	v := d.View(s.Text())
	if job := s.Job(d.Job); d.Status.Active() && job != nil {
		now := rollout.Judge(d, job, deployer.Rows(s, d.Job), time.Now())
		v.Tasks, v.Reason, v.Deadline = now.Tasks, now.Reason, now.Fails
	}
	return v
}

// ListDeployments implements api.Deployments.
func (s *Server) ListDeployments(ctx context.Context, q api.Query) ([]*api.DeploymentView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[[]*api.DeploymentView]{
		keys: always(fsm.WatchKey{Table: fsm.TableDeployments}, fsm.WatchKey{Table: fsm.TableAllocations}),
		get: func(snapshot *fsm.Snapshot) ([]*api.DeploymentView, error) {
			out := []*api.DeploymentView{}
			snapshot.Deployments().Reverse(func(d *api.Deployment) bool {
				if strings.HasPrefix(d.Job, q.Prefix) {
					out = append(out, viewDeployment(snapshot, d))
				}
				return true
			})
			return out, nil
		},
	})
}

// findDeployment returns the one that an ID, the beginning of one, or a job's name means.
func findDeployment(s *fsm.Snapshot, id string) (*api.Deployment, error) {
	if d := s.Deployments().Newest(id); d != nil {
		return d, nil
	}
	var found []*api.Deployment
	s.Deployments().Reverse(func(d *api.Deployment) bool {
		if strings.HasPrefix(s.Text().Format(d.ID), id) {
			found = append(found, d)
		}
		return true
	})
	switch {
	case len(id) < 2 || len(found) == 0:
		return nil, api.Errorf(api.CodeNotFound, "there is no deployment %.80q, nor one of a job of that name", id)
	case len(found) > 1:
		return nil, api.Errorf(api.CodeAmbiguous, "%d deployments begin with %q: give more of the ID", len(found), id)
	}
	return found[0], nil
}

// Deployment implements api.Deployments.
func (s *Server) Deployment(ctx context.Context, id string, q api.Query) (*api.DeploymentView, api.ReadMeta, error) {
	return read(ctx, s, q, lookup[*api.DeploymentView]{
		keys: func(snapshot *fsm.Snapshot) ([]fsm.WatchKey, error) {
			d, err := findDeployment(snapshot, id)
			if err != nil {
				return nil, err
			}
			return []fsm.WatchKey{{Table: fsm.TableDeployments, Key: d.Job}, {Table: fsm.TableJobAllocations, Key: d.Job}}, nil
		},
		get: func(snapshot *fsm.Snapshot) (*api.DeploymentView, error) {
			d, err := findDeployment(snapshot, id)
			return viewDeployment(snapshot, d), err
		},
	})
}

// SteerDeployment implements api.Deployments.
func (s *Server) SteerDeployment(_ context.Context, id string, o api.DeploymentOrder, w api.WriteMeta) (*api.DeploymentView, error) {
	if _, err := s.leading(); err != nil {
		return nil, err
	}
	if err := checkWrite(w); err != nil {
		return nil, err
	}
	if len(o.Reason) > api.MaxStatusMessage {
		return nil, api.Errorf(api.CodeTooLarge, "the reason has %d bytes; %d are allowed", len(o.Reason), api.MaxStatusMessage)
	}
	d, err := findDeployment(s.machine.Snapshot(), id)
	if err != nil {
		return nil, err
	}
	if _, err := s.door.apply(&fsm.SteerDeployment{ID: d.ID, DeploymentOrder: o}, person(w, api.CauseDeployment)); err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	if d = snapshot.Deployments().Get(d.ID); d == nil {
		return nil, api.Errorf(api.CodeConflict, "the deployment was forgotten meanwhile")
	}
	return viewDeployment(snapshot, d), nil
}
