package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"cube/api"
	"cube/api/attach"
)

// fakeCluster is a cluster in memory that works: it keeps jobs, nodes, allocations and evaluations, answers blocking
// queries, remembers request IDs and streams logs. What a scheduler and clients would do, a test does through its methods.
// Its task files are JSON, so that these tests say nothing about HCL.
type fakeCluster struct {
	mu       sync.Mutex
	index    uint64
	changed  chan struct{} // closed and made anew with each change
	text     api.IDText
	minted   uint32
	jobs     map[string]*api.Job
	jobIndex map[string]uint64
	allocs   []*api.Allocation
	evals    []*api.Evaluation // oldest first
	nodes    []*api.NodeView
	members  []api.Member
	peers    []api.RaftPeer
	output   map[string]*fakeOutput // by allocation
	cuts     int                    // how often all streams of output were broken off
	use      map[string]api.Usage   // by allocation
	silent   []api.SilentNode
	checks   map[string][]api.CheckStatus
	// unreachable are the allocations whose nodes do not answer.
	unreachable map[string]bool
	requests    map[string]api.WriteMeta
	submitted   api.Submission // the latest
	asks        any            // the latest request to change a job
	forecast    *api.Forecast
	diagnosis   *api.JobDiagnosis
	sim         *api.Simulation
	overview    *api.ClusterStatus
	history     []*api.Revision
	events      []*api.EventView
	streams     int                   // how often all streams of events are broken off
	stays       bool                  // a stream of events ends with its reader only
	deployments []*api.DeploymentView // newest first
	left        bool
	self        string // ID of the node that the agent which is asked runs
	snapshot    []byte
	restored    []byte
	asked       []string // methods, in order

	// fail is asked before each method; what it returns is the answer.
	fail func(method string, q api.Query) error
	// registered plays the scheduler: it is called after each accepted change of a job, in a goroutine of its own.
	registered func(c *fakeCluster, job *api.Job)
	// launches plays the clock: what there is to say of a periodic job.
	launches func(*api.Job) *api.LaunchStatus
	scripts  sync.WaitGroup // the goroutines of registered and exec
	// exec plays a command beside an instance.
	exec func(ctx context.Context, a *api.Allocation, r api.ExecRequest, c *attach.Command) (int, error)
	// settle lets everybody see a change before the next one, so that what a monitor prints does not hang on luck.
	settle func()
}

var _ api.Cluster = (*fakeCluster)(nil)

type fakeOutput struct {
	lines []fakeLine
	ended bool
}

// of returns what was written to a stream; "" is both.
func (o *fakeOutput) of(stream string) []fakeLine {
	return slices.DeleteFunc(slices.Clone(o.lines), func(l fakeLine) bool {
		return stream != "" && stream != cmp.Or(l.stream, "stdout")
	})
}

type fakeLine struct {
	at     time.Time
	text   string
	stream string // "" is stdout
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		changed: make(chan struct{}), text: api.NewIDText("fake"), index: 1, jobs: map[string]*api.Job{}, jobIndex: map[string]uint64{},
		output: map[string]*fakeOutput{}, requests: map[string]api.WriteMeta{}, settle: func() {},
	}
}

// do changes the state under the lock and wakes whoever waits.
func (c *fakeCluster) do(f func()) {
	c.mu.Lock()
	f()
	c.touch()
	c.mu.Unlock()
	c.settle()
}

func (c *fakeCluster) touch() {
	c.index++
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) begin(method string, q api.Query) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, method)
	if c.fail != nil {
		return c.fail(method, q)
	}
	return nil
}

func (c *fakeCluster) mint() api.ID {
	c.minted++
	return api.MakeID(0, c.minted)
}

// addNode adds a ready node.
func (c *fakeCluster) addNode(name string, change func(*api.NodeView)) *api.NodeView {
	n := &api.NodeView{Node: api.Node{
		ID: fmt.Sprintf("%x0000000000000000000000000000", []byte(name)), Name: name, Datacenter: "dc1", Address: "10.0.0.1", Version: "0.1.0",
		Status: api.NodeReady, StatusAt: time.Now().Add(-time.Hour), Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 102400},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}, Attributes: map[string]string{"kernel.name": "linux"},
	}, LastContact: time.Now().Add(-2 * time.Second), Connected: true}
	if change != nil {
		change(n)
	}
	c.do(func() { c.nodes = append(c.nodes, n) })
	return n
}

// place puts an instance on a node and returns its ID.
func (c *fakeCluster) place(job *api.Job, task string, slot int, node *api.NodeView, change func(*api.Allocation)) string {
	var id string
	c.do(func() {
		id = c.text.Format(c.mint())
		a := &api.Allocation{
			ID: id, Name: api.InstanceName(job.Name, task, uint32(slot)), Job: job.Name, Task: task, Slot: slot, JobVersion: job.Version,
			NodeID: node.ID, NodeName: node.Name, NodeAddress: node.Address, CreatedAt: time.Now(), CreateIndex: c.index,
		}
		if change != nil {
			change(a)
		}
		c.allocs = append(c.allocs, a)
		c.output[id] = &fakeOutput{}
	})
	return id
}

// set changes an allocation.
func (c *fakeCluster) set(id string, change func(*api.Allocation)) {
	c.do(func() {
		for i, a := range c.allocs {
			if a.ID == id {
				next := *a // what was handed out stays as it was
				change(&next)
				c.allocs[i] = &next
				c.output[id].ended = c.output[id].ended || next.Phase.Terminal()
			}
		}
	})
}

func (c *fakeCluster) phase(id string, p api.Phase, message string) {
	c.set(id, func(a *api.Allocation) {
		if p == api.PhaseRunning {
			a.StartedAt = time.Now()
		}
		a.Phase, a.Message = p, message
	})
}

func (c *fakeCluster) say(id string, lines ...string) {
	c.sayAt(time.Now(), id, lines...)
}

// cry has an instance write lines to stderr.
func (c *fakeCluster) cry(id string, lines ...string) {
	c.do(func() {
		for _, text := range lines {
			c.output[id].lines = append(c.output[id].lines, fakeLine{time.Now(), text, "stderr"})
		}
	})
}

// sayAt has an instance write lines of which its node says this time.
func (c *fakeCluster) sayAt(at time.Time, id string, lines ...string) {
	c.do(func() {
		for _, text := range lines {
			c.output[id].lines = append(c.output[id].lines, fakeLine{at, text, ""})
		}
	})
}

// cut breaks off every stream of output, as a server does that falls.
func (c *fakeCluster) cut() { c.do(func() { c.cuts++ }) }

// evaluate sets the state of a job's newest evaluation.
func (c *fakeCluster) evaluate(job string, status api.EvaluationStatus, explanations ...api.Explanation) {
	c.do(func() {
		for i := len(c.evals) - 1; i >= 0; i-- {
			if c.evals[i].Job == job {
				next := *c.evals[i]
				next.Status, next.Explanations = status, explanations
				c.evals[i] = &next
				return
			}
		}
	})
}

func (c *fakeCluster) RegisterJobs(_ context.Context, s api.Submission, w api.WriteMeta) (*api.Registered, error) {
	if err := c.begin("RegisterJobs", api.Query{}); err != nil {
		return nil, err
	}
	c.do(func() { c.submitted = s })
	var jobs []*api.Job
	if err := json.Unmarshal([]byte(s.Source), &jobs); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%s:1:1: %w", s.FileName, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	answer := &api.Registered{}
	for _, j := range jobs {
		old := c.jobs[j.Name]
		if old != nil && !old.Stopped && sameJob(old, j) {
			answer.Jobs = append(answer.Jobs, api.RegisteredJob{Name: j.Name, Version: old.Version})
			continue
		}
		j.Version, j.SubmittedAt = 1, time.Now()
		if old != nil {
			j.Version = old.Version + 1
		}
		answer.Jobs = append(answer.Jobs, c.accept(j, api.CauseRegister))
	}
	c.touch()
	answer.Index = c.index
	return answer, nil
}

// accept puts a version of a job in force. The lock is held.
func (c *fakeCluster) accept(j *api.Job, cause string) api.RegisteredJob {
	e := &api.Evaluation{ID: c.mint(), Job: j.Name, Type: j.Type, Cause: cause, Status: api.EvalPending, JobVersion: j.Version, At: time.Now()}
	c.jobs[j.Name], c.evals = j, append(c.evals, e)
	if c.registered != nil {
		f := c.registered
		c.scripts.Go(func() {
			c.settle()
			f(c, j)
		})
	}
	return api.RegisteredJob{Name: j.Name, Version: j.Version, Changed: true, Evaluation: c.text.Format(e.ID)}
}

func sameJob(a, b *api.Job) bool {
	x, y := *a, *b
	x.Version, x.SubmittedAt = y.Version, y.SubmittedAt
	xs, _ := json.Marshal(x)
	ys, _ := json.Marshal(y)
	return bytes.Equal(xs, ys)
}

func (c *fakeCluster) ValidateJobs(context.Context, api.Submission) (*api.Validation, error) {
	return nil, api.Errorf(api.CodeNotYet, "not in tests")
}

func (c *fakeCluster) PlanJobs(_ context.Context, s api.Submission) (*api.Forecast, error) {
	if err := c.begin("PlanJobs", api.Query{}); err != nil {
		return nil, err
	}
	c.do(func() { c.submitted = s })
	return c.forecast, nil
}

func (c *fakeCluster) ExplainJob(_ context.Context, name string) (*api.JobDiagnosis, error) {
	if c.diagnosis == nil || c.diagnosis.Job != name {
		return nil, api.Errorf(api.CodeNotFound, "there is no job %q", name)
	}
	return c.diagnosis, c.begin("ExplainJob", api.Query{})
}

func (c *fakeCluster) ClusterStatus(_ context.Context, q api.Query) (*api.ClusterStatus, api.ReadMeta, error) {
	return c.overview, c.readMeta(q), c.begin("ClusterStatus", q)
}

func (c *fakeCluster) Simulate(_ context.Context, r api.SimulationRequest, q api.Query) (*api.Simulation, api.ReadMeta, error) {
	if err := c.begin("Simulate", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.do(func() { c.asks = r })
	return c.sim, c.readMeta(q), nil
}

// Events tells what c.events holds, in batches of two, and breaks off c.streams times after the first.
func (c *fakeCluster) Events(ctx context.Context, r api.EventRequest, take func(api.EventBatch) error) error {
	if err := c.begin("Events", api.Query{}); err != nil {
		return err
	}
	c.asks = r
	all := slices.DeleteFunc(slices.Clone(c.events), func(e *api.EventView) bool {
		return r.Node != "" && !slices.Contains(e.NodeIDs, r.Node) && !slices.Contains(e.Nodes, r.Node)
	})
	if r.After != nil {
		all = slices.DeleteFunc(slices.Clone(all), func(e *api.EventView) bool { return e.Index <= *r.After })
	} else if r.Tail >= 0 {
		all = all[max(0, len(all)-r.Tail):]
	}
	for pair := range slices.Chunk(all, 2) {
		if err := take(api.EventBatch{Index: pair[len(pair)-1].Index, Events: pair}); err != nil {
			return err
		}
		if c.streams > 0 {
			c.streams--
			return api.Errorf(api.CodeUnavailable, "the server went away")
		}
	}
	if c.stays {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (c *fakeCluster) JobTimeline(_ context.Context, name string, q api.Query) ([]*api.EventView, api.ReadMeta, error) {
	kept := slices.DeleteFunc(slices.Clone(c.events), func(e *api.EventView) bool { return e.Topic == api.TopicNode })
	return kept, c.readMeta(q), c.begin("JobTimeline", q)
}

func (c *fakeCluster) JobHistory(_ context.Context, name string, q api.Query) ([]*api.Revision, api.ReadMeta, error) {
	return c.history, c.readMeta(q), c.begin("JobHistory", q)
}

func (c *fakeCluster) TagVersion(_ context.Context, name string, r api.TagRequest, w api.WriteMeta) (*api.Job, error) {
	c.do(func() { c.asks = r })
	return &api.Job{Name: name, Version: 3}, c.begin("TagVersion", api.Query{})
}

func (c *fakeCluster) RevertJob(_ context.Context, name string, r api.RevertRequest, w api.WriteMeta) (*api.Registered, error) {
	return c.changeJob("RevertJob", name, r)
}

func (c *fakeCluster) ScaleJob(_ context.Context, name string, r api.ScaleRequest, w api.WriteMeta) (*api.Registered, error) {
	return c.changeJob("ScaleJob", name, r)
}

func (c *fakeCluster) RestartJob(_ context.Context, name string, r api.RestartRequest, w api.WriteMeta) (*api.Registered, error) {
	return c.changeJob("RestartJob", name, r)
}

// DispatchJob launches jobs that are called after their parent, with a number.
func (c *fakeCluster) DispatchJob(_ context.Context, name string, r api.DispatchRequest, w api.WriteMeta) (*api.Registered, error) {
	if err := c.begin("DispatchJob", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID], c.asks = w, r
	parent := c.jobs[name]
	if parent == nil {
		return nil, api.Errorf(api.CodeNotFound, "no job is named %q", name)
	}
	if err := parent.Dispatchable(&r); err != nil {
		return nil, err
	}
	for _, j := range c.jobs {
		if j.Parent == name && r.ID != "" && j.Dispatched.ID == r.ID {
			return &api.Registered{Jobs: []api.RegisteredJob{{Name: j.Name, Version: j.Version}}}, nil
		}
	}
	child := *parent
	child.Name, child.Parent, child.Version, child.SubmittedAt = fmt.Sprintf("%s-%08x", name, len(c.jobs)), name, 1, time.Now()
	child.Dispatched, child.Parameterized, child.Periodic = parent.Dispatch(&r), nil, nil
	out := c.accept(&child, api.CauseLaunch)
	c.touch()
	return &api.Registered{Jobs: []api.RegisteredJob{out}}, nil
}

// changeJob keeps what was asked for; the job stays as it is.
func (c *fakeCluster) changeJob(method, name string, request any) (*api.Registered, error) {
	if err := c.begin(method, api.Query{}); err != nil {
		return nil, err
	}
	c.do(func() { c.asks = request })
	j := c.jobs[name]
	if j == nil {
		return nil, api.Errorf(api.CodeNotFound, "there is no job %q", name)
	}
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: name, Version: j.Version, Changed: true, Evaluation: c.text.Format(c.mint())}}}, nil
}

func (c *fakeCluster) StopJob(_ context.Context, name string, _ api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	if err := c.begin("StopJob", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	j := c.jobs[name]
	if j == nil {
		return nil, api.Errorf(api.CodeNotFound, "no job is named %q", name)
	}
	next := *j
	next.Stopped = true
	c.jobs[name] = &next
	e := &api.Evaluation{ID: c.mint(), Job: name, Cause: api.CauseStop, Status: api.EvalComplete, JobVersion: j.Version, At: time.Now()}
	c.evals = append(c.evals, e)
	for i, a := range c.allocs {
		if a.Job == name {
			stopped := *a
			stopped.Desired, stopped.DesiredReason = api.DesiredStop, "the job was stopped"
			c.allocs[i] = &stopped
		}
	}
	c.touch()
	return e.View(c.text), nil
}

func (c *fakeCluster) PurgeJob(_ context.Context, name string, w api.WriteMeta) error {
	if err := c.begin("PurgeJob", api.Query{}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	if c.jobs[name] == nil {
		return api.Errorf(api.CodeNotFound, "no job is named %q", name)
	}
	delete(c.jobs, name)
	c.touch()
	return nil
}

func (c *fakeCluster) ListJobs(_ context.Context, q api.Query) ([]*api.JobSummary, api.ReadMeta, error) {
	if err := c.begin("ListJobs", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*api.JobSummary
	for _, name := range sortedKeys(c.jobs) {
		if strings.HasPrefix(name, q.Prefix) {
			out = append(out, &c.status(name).Summary)
		}
	}
	return out, c.readMeta(q), nil
}

func (c *fakeCluster) readMeta(q api.Query) api.ReadMeta {
	return api.ReadMeta{Index: c.index, Stale: q.Stale}
}

// wait returns, with the lock held, once the state has changed after q.Index or q.Wait is over.
func (c *fakeCluster) wait(ctx context.Context, q api.Query) error {
	timeout := time.NewTimer(cmp.Or(q.Wait, api.DefaultWait))
	defer timeout.Stop()
	for {
		c.mu.Lock()
		if q.Index == 0 || c.index > q.Index {
			return nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-timeout.C:
			c.mu.Lock()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *fakeCluster) Job(ctx context.Context, name string, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
	if err := c.begin("Job", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	if err := c.wait(ctx, q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	defer c.mu.Unlock()
	if c.jobs[name] == nil {
		return nil, api.ReadMeta{}, api.Errorf(api.CodeNotFound, "no job is named %q", name)
	}
	return c.status(name), c.readMeta(q), nil
}

func (c *fakeCluster) status(name string) *api.JobStatus {
	j := c.jobs[name]
	s := &api.JobStatus{Job: j, Summary: api.JobSummary{
		Name: name, Type: j.Type, Priority: j.Priority, Version: j.Version, Stopped: j.Stopped, SubmittedAt: j.SubmittedAt, Status: api.JobPending,
	}}
	if c.launches != nil {
		s.Launches = c.launches(j)
	}
	if i := slices.IndexFunc(c.deployments, func(d *api.DeploymentView) bool { return d.Job == name }); i >= 0 {
		s.Deployment = c.deployments[i]
	}
	for _, t := range j.Tasks {
		s.Summary.Desired += t.Count
	}
	for _, a := range c.allocs {
		if a.Job == name {
			s.Allocations = append(s.Allocations, a)
		}
	}
	slices.SortStableFunc(s.Allocations, func(a, b *api.Allocation) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Slot, b.Slot), cmp.Compare(b.CreateIndex, a.CreateIndex))
	})
	for _, a := range holders(s.Allocations) {
		switch a.Phase {
		case api.PhaseRunning:
			s.Summary.Counts.Running++
			if a.Health == api.HealthHealthy {
				s.Summary.Healthy++
			}
		case api.PhaseComplete:
			s.Summary.Counts.Complete++
		case api.PhaseFailed:
			s.Summary.Counts.Failed++
			s.Summary.Status = api.JobDegraded
			if j.Type.Completes() {
				s.Summary.Status = api.JobFailed
			}
		}
	}
	switch {
	case j.Stopped:
		s.Summary.Status = api.JobDead
	case j.Type == api.JobBatch && s.Summary.Counts.Complete == s.Summary.Desired:
		s.Summary.Status = api.JobComplete
	case s.Summary.Counts.Running == s.Summary.Desired:
		s.Summary.Status = api.JobRunning
	}
	for _, e := range c.evals {
		if e.Job == name {
			s.Evaluation = e
		}
	}
	return s
}

func (c *fakeCluster) JobVersions(context.Context, string, api.Query) ([]*api.Job, api.ReadMeta, error) {
	return nil, api.ReadMeta{}, api.Errorf(api.CodeNotYet, "not in tests")
}

func (c *fakeCluster) JobAllocations(ctx context.Context, name string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	s, meta, err := c.Job(ctx, name, q)
	if err != nil {
		return nil, meta, err
	}
	return s.Allocations, meta, nil
}

func (c *fakeCluster) JobEvaluations(context.Context, string, api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return nil, api.ReadMeta{}, api.Errorf(api.CodeNotYet, "not in tests")
}

// byPrefix finds the one row whose ID begins so.
func byPrefix[T any](rows []T, what, prefix string, id func(T) string) (found T, err error) {
	n := 0
	for _, r := range rows {
		if strings.HasPrefix(id(r), prefix) {
			found = r
			n++
		}
	}
	switch n {
	case 0:
		return found, api.Errorf(api.CodeNotFound, "no %s has an ID that begins with %q", what, prefix)
	case 1:
		return found, nil
	}
	return found, api.Errorf(api.CodeAmbiguous, "%d %ss have IDs that begin with %q", n, what, prefix)
}

func (c *fakeCluster) ListNodes(_ context.Context, q api.Query) ([]*api.NodeView, api.ReadMeta, error) {
	if err := c.begin("ListNodes", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(c.nodes), func(n *api.NodeView) bool { return !strings.HasPrefix(n.ID, q.Prefix) })
	return out, c.readMeta(q), nil
}

func (c *fakeCluster) Node(_ context.Context, id string, q api.Query) (*api.NodeView, api.ReadMeta, error) {
	if err := c.begin("Node", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := byPrefix(c.nodes, "node", id, func(n *api.NodeView) string { return n.ID })
	return n, c.readMeta(q), err
}

func (c *fakeCluster) NodeAllocations(_ context.Context, id string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.allocs), func(a *api.Allocation) bool { return a.NodeID != id }), c.readMeta(q), nil
}

func (c *fakeCluster) SetNodeEligibility(_ context.Context, id string, r api.EligibilityRequest, w api.WriteMeta) (*api.NodeView, error) {
	if err := c.begin("SetNodeEligibility", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	n, err := byPrefix(c.nodes, "node", id, func(n *api.NodeView) string { return n.ID })
	if err == nil {
		n.Ineligible, n.EligibilityBy, n.EligibilityReason = !r.Eligible, w.Who, r.Reason
	}
	return n, err
}

func (c *fakeCluster) DrainNode(_ context.Context, id string, r api.DrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	if err := c.begin("DrainNode", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	n, err := byPrefix(c.nodes, "node", id, func(n *api.NodeView) string { return n.ID })
	if err == nil {
		n.Ineligible = true
		n.Drain = &api.Drain{Stage: api.DrainMoving, By: w.Who, Message: r.Message, StartedAt: time.Now(), Deadline: time.Now().Add(r.Deadline), Instances: 3}
	}
	return n, err
}

func (c *fakeCluster) CancelDrain(_ context.Context, id string, r api.CancelDrainRequest, _ api.WriteMeta) (*api.NodeView, error) {
	if err := c.begin("CancelDrain", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := byPrefix(c.nodes, "node", id, func(n *api.NodeView) string { return n.ID })
	if err == nil {
		n.Ineligible, n.Drain = r.KeepIneligible, nil
	}
	return n, err
}

func (c *fakeCluster) PlanRebalance(_ context.Context, r api.RebalanceRequest) (*api.RebalancePlan, error) {
	if err := c.begin("PlanRebalance", api.Query{}); err != nil {
		return nil, err
	}
	p := &api.RebalancePlan{Algorithm: "binpack", Moves: []api.PlannedMove{}, Looked: 4, Left: []api.LeftOut{{Instances: 2, Why: "batch jobs are not moved"}}}
	if r.Budget.MinGain < 50 {
		of := func(cpu int64) api.Fill {
			return api.Fill{Held: api.Resources{CPU: cpu}, Total: api.Resources{CPU: 1000}}
		}
		p.Moves = []api.PlannedMove{{Name: "web[0]", From: "n1", To: "n4", Gain: 33.25, Why: "binpack +33"}, {Name: "web[1]", From: "n1", To: "n4", Gain: 12, Why: "spread +12"}}
		p.Nodes = []api.NodeOutcome{{Name: "n1", Leave: 2, Before: of(810), After: of(600)}, {Name: "n4", Arrive: 2, Before: of(0), After: of(400)}}
		p.Before, p.After = api.Levels{Fullest: 81, Used: 1}, api.Levels{Fullest: 60, Emptiest: 40, Used: 2}
	}
	return p, nil
}

func (c *fakeCluster) BeginRebalance(ctx context.Context, r api.RebalanceRequest, w api.WriteMeta) (*api.RebalanceStatus, error) {
	if err := c.begin("BeginRebalance", api.Query{}); err != nil {
		return nil, err
	}
	if r.Budget.MinGain >= 50 {
		return &api.RebalanceStatus{}, nil
	}
	status, _, err := c.Rebalance(ctx, api.Query{})
	status.By, status.Budget = w.Who, r.Budget
	return status, err
}

func (c *fakeCluster) CancelRebalance(ctx context.Context, _ api.WriteMeta) (*api.RebalanceStatus, error) {
	if err := c.begin("CancelRebalance", api.Query{}); err != nil {
		return nil, err
	}
	status, _, err := c.Rebalance(ctx, api.Query{})
	status.Stage = api.RebalanceCancelled
	return status, err
}

// Rebalance makes a move with each look, and drops the last.
func (c *fakeCluster) Rebalance(_ context.Context, q api.Query) (*api.RebalanceStatus, api.ReadMeta, error) {
	if err := c.begin("Rebalance", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	status := &api.RebalanceStatus{Stage: api.RebalanceMoving, StartedAt: time.Now(), Budget: api.DefaultRebalanceBudget()}
	for i := range uint64(3) {
		v := api.MoveView{Allocation: "f00d", Name: fmt.Sprintf("web[%d]", i), From: "n1", To: "n4", Gain: 33, Stage: api.MoveUnder, Text: "waits to be healthy on n4"}
		switch {
		case i < q.Index && i == 2:
			v.Stage, v.Text = api.MoveDropped, "n4 cannot take it any more"
			status.Stage, status.EndedAt = api.RebalanceComplete, time.Now().Add(time.Minute)
		case i < q.Index:
			v.Stage, v.Text = api.MoveDone, "moved"
		}
		status.Moves = append(status.Moves, v)
	}
	return status, api.ReadMeta{Index: q.Index + 1}, nil
}

// NodeDrain moves an instance with each look.
func (c *fakeCluster) NodeDrain(_ context.Context, id string, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
	if err := c.begin("NodeDrain", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := byPrefix(c.nodes, "node", id, func(n *api.NodeView) string { return n.ID })
	if err != nil {
		return nil, api.ReadMeta{}, err
	}
	status := &api.DrainStatus{Node: n.ID, NodeName: n.Name, Drain: n.Drain}
	for i := int(q.Index); i < 3; i++ {
		status.Left = append(status.Left, api.DrainingInstance{Allocation: "f00d", Name: fmt.Sprintf("web[%d]", i), Phase: api.PhaseRunning, Waits: fmt.Sprintf("web[%d] waits to be healthy on n2", i)})
	}
	if len(status.Left) == 0 {
		d := *n.Drain
		d.Stage, d.EndedAt = api.DrainComplete, time.Now().Add(time.Minute)
		status.Drain = &d
	}
	return status, api.ReadMeta{Index: q.Index + 1}, nil
}

// ListVolumes lists those of its nodes, and who of the allocations asks for them.
func (c *fakeCluster) ListVolumes(_ context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
	if err := c.begin("ListVolumes", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []*api.VolumeView{}
	for _, n := range c.nodes {
		for _, v := range n.Volumes {
			view := &api.VolumeView{NodeVolume: v, NodeID: n.ID, NodeName: n.Name, NodeStatus: n.Status}
			for _, a := range c.allocs {
				for _, r := range a.Volumes {
					if a.NodeID == n.ID && r.Source == v.Name {
						view.Hold.Add(r.Access)
						view.Claims = append(view.Claims, api.VolumeClaim{Allocation: a.ID, Name: a.Name, Job: a.Job, Access: r.Access, Phase: a.Phase, Desired: a.Desired})
					}
				}
			}
			if strings.HasPrefix(v.Name, q.Prefix) {
				out = append(out, view)
			}
		}
	}
	return out, c.readMeta(q), nil
}

func (c *fakeCluster) CreateVolume(_ context.Context, o api.VolumeOrder, w api.WriteMeta) (*api.VolumeView, error) {
	if err := c.begin("CreateVolume", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := byPrefix(c.nodes, "node", o.Node, func(n *api.NodeView) string { return n.ID })
	if err != nil {
		return nil, err
	}
	v := api.NodeVolume{Name: o.Name, Path: "/var/lib/cube/client/volumes/" + o.Name, SingleWriter: o.Access == api.AccessSingleWriter, Made: &api.VolumeOrigin{By: w.Who, At: time.Now()}}
	n.Volumes = append(n.Volumes, v)
	return &api.VolumeView{NodeVolume: v, NodeID: n.ID, NodeName: n.Name, NodeStatus: n.Status}, nil
}

func (c *fakeCluster) DeleteVolume(_ context.Context, name string, r api.VolumeRemoval, _ api.WriteMeta) (*api.VolumeView, error) {
	if err := c.begin("DeleteVolume", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		for i, v := range n.Volumes {
			if v.Name == name && v.Made != nil {
				n.Volumes = slices.Delete(n.Volumes, i, i+1)
				return &api.VolumeView{NodeVolume: v, NodeID: n.ID, NodeName: n.Name, Kept: !r.Data}, nil
			}
		}
	}
	return nil, api.Errorf(api.CodeNotFound, "no node has a volume %q", name)
}

func (c *fakeCluster) ListAllocations(_ context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	if err := c.begin("ListAllocations", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(c.allocs), func(a *api.Allocation) bool { return !strings.HasPrefix(a.ID, q.Prefix) })
	return out, c.readMeta(q), nil
}

func (c *fakeCluster) Allocation(_ context.Context, id string, q api.Query) (*api.Allocation, api.ReadMeta, error) {
	if err := c.begin("Allocation", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := byPrefix(c.allocs, "allocation", id, func(a *api.Allocation) string { return a.ID })
	return a, c.readMeta(q), err
}

func (c *fakeCluster) StopAllocation(_ context.Context, id string, _ api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	if err := c.begin("StopAllocation", api.Query{}); err != nil {
		return nil, err
	}
	c.set(id, func(a *api.Allocation) { a.Desired, a.DesiredReason = api.DesiredStop, "asked for" })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[w.RequestID] = w
	e := &api.Evaluation{ID: c.mint(), Cause: api.CauseAllocStop, Status: api.EvalPending}
	return e.View(c.text), nil
}

func (c *fakeCluster) Exec(ctx context.Context, id string, r api.ExecRequest) (io.ReadWriteCloser, error) {
	if err := c.begin("Exec", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	a, err := byPrefix(c.allocs, "allocation", id, func(a *api.Allocation) string { return a.ID })
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	theirs, ours := net.Pipe()
	c.scripts.Go(func() {
		attach.Serve(ctx, ours, func(ctx context.Context, command *attach.Command) (int, error) { return c.exec(ctx, a, r, command) })
	})
	return theirs, nil
}

// Usage answers what use says, for the nodes that are not silent.
func (c *fakeCluster) Usage(ctx context.Context, q api.UsageQuery) (*api.UsageReport, error) {
	if err := c.begin("Usage", api.Query{Stale: q.Stale}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	report := &api.UsageReport{Instances: []api.InstanceUsage{}}
	for _, a := range c.allocs {
		wanted := slices.Contains(q.Jobs, a.Job) || slices.ContainsFunc(q.Nodes, func(id string) bool { return strings.HasPrefix(a.NodeID, id) }) || slices.ContainsFunc(q.Allocations, func(id string) bool { return strings.HasPrefix(a.ID, id) })
		if u, ok := c.use[a.ID]; ok && wanted {
			report.Instances = append(report.Instances, api.InstanceUsage{Allocation: a.ID, Name: a.Name, Job: a.Job, Task: a.Task, NodeID: a.NodeID, Usage: u, Reserved: a.Resources, Checks: c.checks[a.ID]})
		}
	}
	report.Silent = c.silent
	return report, nil
}

func (c *fakeCluster) Logs(ctx context.Context, id string, r api.LogRequest) (io.ReadCloser, error) {
	if err := c.begin("Logs", api.Query{}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	a, err := byPrefix(c.allocs, "allocation", id, func(a *api.Allocation) string { return a.ID })
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if c.unreachable[a.ID] {
		c.mu.Unlock()
		return nil, api.Errorf(api.CodeUnavailable, "its node does not answer")
	}
	out := c.output[a.ID]
	next, begun := 0, out.of(r.Stream)
	for next < len(begun) && begun[next].at.Before(r.Since) && !begun[next].at.IsZero() {
		next++
	}
	if r.Tail >= 0 {
		next = max(next, len(begun)-r.Tail)
	}
	cuts := c.cuts
	c.mu.Unlock()
	reader, writer := io.Pipe()
	go func() {
		for {
			c.mu.Lock()
			all := out.of(r.Stream)
			lines, ended, changed, cut := all[next:], out.ended || !r.Follow, c.changed, c.cuts != cuts
			next = len(all)
			c.mu.Unlock()
			if cut {
				writer.CloseWithError(io.ErrUnexpectedEOF)
				return
			}
			for _, l := range lines {
				text := l.text + "\n"
				if r.Timestamps {
					text = string(api.AppendLogTime(nil, l.at)) + text
				}
				if _, err := io.WriteString(writer, text); err != nil {
					return // the reader left
				}
			}
			if ended {
				writer.Close()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				writer.CloseWithError(ctx.Err())
				return
			}
		}
	}()
	return reader, nil
}

func (c *fakeCluster) ListDeployments(_ context.Context, q api.Query) ([]*api.DeploymentView, api.ReadMeta, error) {
	if err := c.begin("ListDeployments", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deployments, c.readMeta(q), nil
}

func (c *fakeCluster) Deployment(_ context.Context, id string, q api.Query) (*api.DeploymentView, api.ReadMeta, error) {
	if err := c.begin("Deployment", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.deployments {
		if d.Job == id || strings.HasPrefix(d.ID, id) {
			return d, c.readMeta(q), nil
		}
	}
	return nil, api.ReadMeta{}, api.Errorf(api.CodeNotFound, "there is no deployment %q", id)
}

func (c *fakeCluster) SteerDeployment(ctx context.Context, id string, o api.DeploymentOrder, w api.WriteMeta) (*api.DeploymentView, error) {
	d, _, err := c.Deployment(ctx, id, api.Query{})
	if err != nil {
		return nil, err
	}
	c.do(func() { c.asks = o })
	return d, c.begin("SteerDeployment", api.Query{})
}

func (c *fakeCluster) ListEvaluations(_ context.Context, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	if err := c.begin("ListEvaluations", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evaluations(), c.readMeta(q), nil
}

func (c *fakeCluster) evaluations() []*api.EvaluationView {
	var out []*api.EvaluationView
	for _, e := range slices.Backward(c.evals) {
		out = append(out, e.View(c.text))
	}
	return out
}

func (c *fakeCluster) Evaluation(_ context.Context, id string, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
	if err := c.begin("Evaluation", q); err != nil {
		return nil, api.ReadMeta{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, err := byPrefix(c.evaluations(), "evaluation", id, func(e *api.EvaluationView) string { return e.ID })
	return e, c.readMeta(q), err
}

func (c *fakeCluster) Health(context.Context) (*api.Health, error) {
	return &api.Health{Node: c.self}, nil
}

func (c *fakeCluster) Leader(context.Context) (*api.Leader, error) { return &api.Leader{}, nil }

func (c *fakeCluster) Members(context.Context) ([]api.Member, error) {
	return c.members, c.begin("Members", api.Query{})
}

func (c *fakeCluster) RaftPeers(context.Context) ([]api.RaftPeer, error) {
	return c.peers, c.begin("RaftPeers", api.Query{})
}

func (c *fakeCluster) RemovePeer(_ context.Context, id string, w api.WriteMeta) error {
	if err := c.begin("RemovePeer", api.Query{}); err != nil {
		return err
	}
	c.do(func() {
		c.requests[w.RequestID] = w
		c.peers = slices.DeleteFunc(c.peers, func(p api.RaftPeer) bool { return p.ID == id })
	})
	return nil
}

func (c *fakeCluster) Leave(context.Context) error {
	c.left = true
	return c.begin("Leave", api.Query{})
}

func (c *fakeCluster) SaveSnapshot(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c.snapshot)), c.begin("SaveSnapshot", api.Query{})
}

func (c *fakeCluster) RestoreSnapshot(_ context.Context, r io.Reader, _ api.WriteMeta) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.restored = b
	return c.begin("RestoreSnapshot", api.Query{})
}
