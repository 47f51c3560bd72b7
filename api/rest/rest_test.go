package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"cube/api"
)

// echo is a cluster that answers each question with what it was asked, so that a round trip shows whether every argument
// and every field arrives. err, when set, is every answer.
type echo struct {
	err   error
	query api.Query
	write api.WriteMeta
	sent  any
}

func (e *echo) meta(q api.Query) api.ReadMeta {
	e.query = q
	return api.ReadMeta{Index: 42, Stale: q.Stale}
}

func (e *echo) RegisterJobs(_ context.Context, s api.Submission, w api.WriteMeta) (*api.Registered, error) {
	e.sent, e.write = s, w
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: "web", Version: 3, Changed: true, Evaluation: "ab"}}, Index: 7}, e.err
}
func (e *echo) ValidateJobs(_ context.Context, s api.Submission) (*api.Validation, error) {
	e.sent = s
	return &api.Validation{Jobs: []*api.Job{s.Job}}, e.err
}
func (e *echo) PlanJobs(_ context.Context, s api.Submission) (*api.Forecast, error) {
	e.sent = s
	return &api.Forecast{CheckIndex: 12, Jobs: []api.JobForecast{{Name: "web", Diff: &api.Diff{Kind: api.DiffAdded, Block: "job"},
		Tasks: []api.TaskForecast{{Task: "web", Effect: api.EffectCreate, Place: 2, Nodes: []api.NodeCount{{Node: "n1", Count: 2}}}}}}}, e.err
}
func (e *echo) ClusterStatus(_ context.Context, q api.Query) (*api.ClusterStatus, api.ReadMeta, error) {
	return &api.ClusterStatus{Cluster: "c1", Servers: []api.ServerStatus{{Name: "s1", Healthy: true}}, Voters: 1}, e.meta(q), e.err
}

func (e *echo) Simulate(_ context.Context, r api.SimulationRequest, q api.Query) (*api.Simulation, api.ReadMeta, error) {
	if e.err != nil {
		return nil, api.ReadMeta{}, e.err
	}
	s := &api.Simulation{Index: 7, Totals: api.Totals{Moved: 2, Missing: 1}, Jobs: []api.JobOutcome{{Name: r.Suppose[0].NodeDown, Tasks: []api.TaskOutcome{{Task: "web", Totals: api.Totals{Moved: 2}}}}}}
	return s, api.ReadMeta{Index: 7, Stale: q.Stale}, nil
}

func (e *echo) ExplainJob(_ context.Context, name string) (*api.JobDiagnosis, error) {
	return &api.JobDiagnosis{Job: name, Tasks: []api.TaskDiagnosis{{Task: "web", Nearest: -1, Nodes: []api.NodeDiagnosis{{Name: "n1", Score: &api.Score{Total: 0.5, Spread: -1}}}}}}, e.err
}
func (e *echo) JobHistory(_ context.Context, name string, q api.Query) ([]*api.Revision, api.ReadMeta, error) {
	return []*api.Revision{{Job: &api.Job{Name: name, Tags: []string{"good"}}, Diff: &api.Diff{Kind: api.DiffEdited, Block: "job"}}}, e.meta(q), e.err
}
func (e *echo) Events(_ context.Context, r api.EventRequest, take func(api.EventBatch) error) error {
	e.sent = r
	if e.err != nil {
		return e.err
	}
	at := time.Unix(5, 0).UTC()
	for _, b := range []api.EventBatch{{Index: 5}, {Index: 9, Events: []*api.EventView{{Index: 7, At: at, Type: "placed", Text: "web[0] placed", Nodes: []string{"n1"}}, {Index: 9, At: at, Type: "down"}}}} {
		if err := take(b); err != nil {
			return err
		}
	}
	if r.Job == "cut" {
		return api.Errorf(api.CodeTooOld, "too slow")
	}
	return nil
}
func (e *echo) JobTimeline(_ context.Context, name string, q api.Query) ([]*api.EventView, api.ReadMeta, error) {
	return []*api.EventView{{Index: 3, At: time.Unix(5, 0).UTC(), Job: name, Type: "submitted", Text: "version 1 submitted"}}, e.meta(q), e.err
}
func (e *echo) TagVersion(_ context.Context, name string, r api.TagRequest, w api.WriteMeta) (*api.Job, error) {
	e.sent, e.write = r, w
	return &api.Job{Name: name}, e.err
}
func (e *echo) RevertJob(_ context.Context, name string, r api.RevertRequest, w api.WriteMeta) (*api.Registered, error) {
	e.sent, e.write = r, w
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: name}}}, e.err
}
func (e *echo) ListDeployments(_ context.Context, q api.Query) ([]*api.DeploymentView, api.ReadMeta, error) {
	return []*api.DeploymentView{{ID: "d1", Job: "web", Tasks: []api.DeploymentTask{{Task: "web", Canaries: 1, Desired: 3}}}}, e.meta(q), e.err
}
func (e *echo) Deployment(_ context.Context, id string, q api.Query) (*api.DeploymentView, api.ReadMeta, error) {
	return &api.DeploymentView{ID: id, Status: api.DeploymentRunning}, e.meta(q), e.err
}
func (e *echo) SteerDeployment(_ context.Context, id string, o api.DeploymentOrder, w api.WriteMeta) (*api.DeploymentView, error) {
	e.sent, e.write = o, w
	return &api.DeploymentView{ID: id, Status: api.DeploymentPaused}, e.err
}
func (e *echo) ScaleJob(_ context.Context, name string, r api.ScaleRequest, w api.WriteMeta) (*api.Registered, error) {
	e.sent, e.write = r, w
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: name}}}, e.err
}
func (e *echo) DispatchJob(_ context.Context, name string, r api.DispatchRequest, w api.WriteMeta) (*api.Registered, error) {
	e.sent, e.write = r, w
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: name + "-1"}}}, e.err
}
func (e *echo) RestartJob(_ context.Context, name string, r api.RestartRequest, w api.WriteMeta) (*api.Registered, error) {
	e.sent, e.write = r, w
	return &api.Registered{Jobs: []api.RegisteredJob{{Name: name}}}, e.err
}
func (e *echo) StopJob(_ context.Context, name string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	e.sent, e.write = r, w
	return &api.EvaluationView{Job: name, Status: api.EvalPending}, e.err
}
func (e *echo) PurgeJob(_ context.Context, name string, w api.WriteMeta) error {
	e.sent, e.write = "purge "+name, w
	return e.err
}
func (e *echo) ListJobs(_ context.Context, q api.Query) ([]*api.JobSummary, api.ReadMeta, error) {
	return nil, e.meta(q), e.err
}
func (e *echo) Job(_ context.Context, name string, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
	if name == "panic" {
		panic("a fault of ours")
	}
	return &api.JobStatus{Job: &api.Job{Name: name}}, e.meta(q), e.err
}
func (e *echo) JobVersions(_ context.Context, name string, q api.Query) ([]*api.Job, api.ReadMeta, error) {
	return []*api.Job{{Name: name, Version: 2}}, e.meta(q), e.err
}
func (e *echo) JobAllocations(_ context.Context, name string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	code := 3
	return []*api.Allocation{{Job: name, Phase: api.PhaseFailed, Desired: api.DesiredStop, ExitCode: &code, StartedAt: time.Unix(1, 0).UTC()}}, e.meta(q), e.err
}
func (e *echo) JobEvaluations(_ context.Context, name string, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return []*api.EvaluationView{{Job: name, Explanations: []api.Explanation{{Task: "web", Wanted: 2}}}}, e.meta(q), e.err
}
func (e *echo) ListNodes(_ context.Context, q api.Query) ([]*api.NodeView, api.ReadMeta, error) {
	return []*api.NodeView{{Node: api.Node{ID: "n1"}, Running: 4}}, e.meta(q), e.err
}
func (e *echo) Node(_ context.Context, id string, q api.Query) (*api.NodeView, api.ReadMeta, error) {
	return &api.NodeView{Node: api.Node{ID: id, Resources: api.Resources{CPU: 4000}}, Load: &api.NodeLoad{CPU: 5}}, e.meta(q), e.err
}
func (e *echo) NodeAllocations(_ context.Context, id string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return []*api.Allocation{{NodeID: id}}, e.meta(q), e.err
}
func (e *echo) SetNodeEligibility(_ context.Context, id string, r api.EligibilityRequest, w api.WriteMeta) (*api.NodeView, error) {
	e.sent, e.write = r, w
	return &api.NodeView{Node: api.Node{ID: id, Ineligible: !r.Eligible, EligibilityReason: r.Reason}}, e.err
}
func (e *echo) DrainNode(_ context.Context, id string, r api.DrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	e.sent, e.write = r, w
	return &api.NodeView{Node: api.Node{ID: id, Drain: &api.Drain{Stage: api.DrainMoving}}}, e.err
}
func (e *echo) CancelDrain(_ context.Context, id string, r api.CancelDrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	e.sent, e.write = r, w
	return &api.NodeView{Node: api.Node{ID: id}}, e.err
}
func (e *echo) NodeDrain(_ context.Context, id string, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
	return &api.DrainStatus{Node: id, Left: []api.DrainingInstance{{Name: "web[0]", Stuck: true}}}, e.meta(q), e.err
}
func (e *echo) ListVolumes(_ context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
	return []*api.VolumeView{{NodeVolume: api.NodeVolume{Name: "db", Path: "/v", Made: &api.VolumeOrigin{By: "ann", At: time.Unix(9, 0).UTC()}}, NodeID: "n1", Hold: api.VolumeHold{Writers: 1}}}, e.meta(q), e.err
}
func (e *echo) CreateVolume(_ context.Context, o api.VolumeOrder, w api.WriteMeta) (*api.VolumeView, error) {
	e.sent, e.write = o, w
	return &api.VolumeView{NodeVolume: api.NodeVolume{Name: o.Name}, NodeName: o.Node, Kept: true}, e.err
}
func (e *echo) DeleteVolume(_ context.Context, name string, r api.VolumeRemoval, w api.WriteMeta) (*api.VolumeView, error) {
	e.sent, e.write = r, w
	return &api.VolumeView{NodeVolume: api.NodeVolume{Name: name}}, e.err
}
func (e *echo) PlanRebalance(_ context.Context, r api.RebalanceRequest) (*api.RebalancePlan, error) {
	e.sent = r
	return &api.RebalancePlan{Moves: []api.PlannedMove{{Name: "web[0]", From: "n1", To: "n2", Gain: 31}}}, e.err
}
func (e *echo) BeginRebalance(_ context.Context, r api.RebalanceRequest, w api.WriteMeta) (*api.RebalanceStatus, error) {
	e.sent, e.write = r, w
	return &api.RebalanceStatus{Stage: api.RebalanceMoving, Budget: r.Budget, Moves: []api.MoveView{{Name: "web[0]", Stage: api.MoveWaiting}}}, e.err
}
func (e *echo) CancelRebalance(_ context.Context, w api.WriteMeta) (*api.RebalanceStatus, error) {
	e.write = w
	return &api.RebalanceStatus{Stage: api.RebalanceCancelled, Moves: []api.MoveView{}}, e.err
}
func (e *echo) Rebalance(_ context.Context, q api.Query) (*api.RebalanceStatus, api.ReadMeta, error) {
	return &api.RebalanceStatus{Stage: api.RebalanceMoving, Moves: []api.MoveView{{Name: "web[0]", Health: api.HealthHealthy}}}, e.meta(q), e.err
}
func (e *echo) ListAllocations(_ context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return nil, e.meta(q), e.err
}
func (e *echo) Allocation(_ context.Context, id string, q api.Query) (*api.Allocation, api.ReadMeta, error) {
	return &api.Allocation{ID: id}, e.meta(q), e.err
}
func (e *echo) StopAllocation(_ context.Context, id string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	e.sent, e.write = r, w
	return &api.EvaluationView{ID: id}, e.err
}

func (e *echo) Usage(_ context.Context, q api.UsageQuery) (*api.UsageReport, error) {
	e.sent = q
	return &api.UsageReport{
		Instances: []api.InstanceUsage{{Name: "web[0]", Usage: api.Usage{CPU: 120, Memory: 30, At: time.Unix(9, 0).UTC()}, Reserved: api.Resources{CPU: 500}}},
		Silent:    []api.SilentNode{{Name: "n2", Reason: "asleep"}},
	}, e.err
}
func (e *echo) Logs(ctx context.Context, id string, r api.LogRequest) (io.ReadCloser, error) {
	if e.err != nil {
		return nil, e.err
	}
	if !r.Follow {
		return io.NopCloser(strings.NewReader(fmt.Sprintf("%s %s %d\n", id, r.Stream, r.Tail))), nil
	}
	pr, pw := io.Pipe()
	go func() { // ends with the reader, which the handler closes
		fmt.Fprintln(pw, "first")
		<-ctx.Done()
		pw.CloseWithError(ctx.Err())
	}()
	return pr, nil
}
func (e *echo) ListEvaluations(_ context.Context, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return nil, e.meta(q), e.err
}
func (e *echo) Evaluation(_ context.Context, id string, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
	return &api.EvaluationView{ID: id}, e.meta(q), e.err
}
func (e *echo) Health(context.Context) (*api.Health, error) {
	return &api.Health{Role: api.RoleServer, Leader: "a", Index: 9}, e.err
}
func (e *echo) Leader(context.Context) (*api.Leader, error) { return &api.Leader{ID: "s1"}, e.err }
func (e *echo) Members(context.Context) ([]api.Member, error) {
	return []api.Member{{ID: "s1", Role: api.RoleServer}}, e.err
}
func (e *echo) RaftPeers(context.Context) ([]api.RaftPeer, error) {
	return []api.RaftPeer{{ID: "s1", Voter: true}}, e.err
}
func (e *echo) RemovePeer(_ context.Context, id string, w api.WriteMeta) error {
	e.sent, e.write = id, w
	return e.err
}
func (e *echo) Leave(context.Context) error { e.sent = "leave"; return e.err }
func (e *echo) SaveSnapshot(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("snapshot")), e.err
}
func (e *echo) RestoreSnapshot(_ context.Context, r io.Reader, w api.WriteMeta) error {
	b, err := io.ReadAll(r)
	e.sent, e.write = string(b), w
	return errors.Join(err, e.err)
}

func start(t *testing.T, e *echo) *Client {
	t.Helper()
	s := httptest.NewServer(NewHandler(e, hclog.NewNullLogger()))
	t.Cleanup(s.Close)
	c, err := NewClient(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryMethodArrives calls each method of the client and the echo directly: both must answer alike.
func TestEveryMethodArrives(t *testing.T) {
	e := &echo{}
	c := start(t, e)
	ctx := t.Context()
	q := api.Query{Index: 5, Wait: 3 * time.Second, Stale: true, Prefix: "w/%"}
	w := api.WriteMeta{RequestID: "r1", Who: "me"}
	reads := map[string]func(api.Cluster) (any, api.ReadMeta, error){
		"ListJobs": func(c api.Cluster) (any, api.ReadMeta, error) { v, m, err := c.ListJobs(ctx, q); return v, m, err },
		"Job":      func(c api.Cluster) (any, api.ReadMeta, error) { v, m, err := c.Job(ctx, "../x y", q); return v, m, err },
		"JobVersions": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.JobVersions(ctx, "web", q)
			return v, m, err
		},
		"JobHistory": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.JobHistory(ctx, "web", q)
			return v, m, err
		},
		"JobTimeline": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.JobTimeline(ctx, "web", q)
			return v, m, err
		},
		"JobAllocations": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.JobAllocations(ctx, "web", q)
			return v, m, err
		},
		"JobEvaluations": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.JobEvaluations(ctx, "web", q)
			return v, m, err
		},
		"ClusterStatus": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.ClusterStatus(ctx, q)
			return v, m, err
		},
		"ListNodes": func(c api.Cluster) (any, api.ReadMeta, error) { v, m, err := c.ListNodes(ctx, q); return v, m, err },
		"Node":      func(c api.Cluster) (any, api.ReadMeta, error) { v, m, err := c.Node(ctx, "n1", q); return v, m, err },
		"NodeDrain": func(c api.Cluster) (any, api.ReadMeta, error) { return c.NodeDrain(ctx, "n1", q) },
		"Rebalance": func(c api.Cluster) (any, api.ReadMeta, error) { return c.Rebalance(ctx, q) },
		"NodeAllocations": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.NodeAllocations(ctx, "n1", q)
			return v, m, err
		},
		"ListVolumes": func(c api.Cluster) (any, api.ReadMeta, error) { return c.ListVolumes(ctx, q) },
		"ListAllocations": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.ListAllocations(ctx, q)
			return v, m, err
		},
		"Allocation": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.Allocation(ctx, "a1", q)
			return v, m, err
		},
		"ListDeployments": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.ListDeployments(ctx, q)
			return v, m, err
		},
		"Deployment": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.Deployment(ctx, "d1", q)
			return v, m, err
		},
		"ListEvaluations": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.ListEvaluations(ctx, q)
			return v, m, err
		},
		"Evaluation": func(c api.Cluster) (any, api.ReadMeta, error) {
			v, m, err := c.Evaluation(ctx, "e1", q)
			return v, m, err
		},
	}
	for name, call := range reads {
		t.Run(name, func(t *testing.T) {
			want, wantMeta, err := call(&echo{})
			if err != nil {
				t.Fatal(err)
			}
			e.query = api.Query{}
			got, meta, err := call(c)
			if err != nil {
				t.Fatal(err)
			}
			// That it is awake, and when the wait is over, the handler sees to.
			sent, asked := e.query, api.Query{Index: q.Index, Wait: api.MaxWait, Stale: q.Stale, Prefix: q.Prefix}
			sent.Awake = nil
			if !reflect.DeepEqual(sent, asked) || meta != wantMeta {
				t.Errorf("query %+v and meta %+v arrived, want %+v and %+v", sent, meta, asked, wantMeta)
			}
			if v := reflect.ValueOf(want); v.Kind() == reflect.Slice && v.Len() == 0 {
				want = reflect.MakeSlice(v.Type(), 0, 0).Interface() // an empty list is [], not null
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
	nine := uint64(9)
	writes := map[string]func(api.Cluster) (any, error){
		"RegisterJobs": func(c api.Cluster) (any, error) {
			return c.RegisterJobs(ctx, api.Submission{Source: "x", FileName: "f", Variables: map[string]string{"a": "b"}, CheckIndex: &nine}, w)
		},
		"TagVersion": func(c api.Cluster) (any, error) {
			return c.TagVersion(ctx, "web", api.TagRequest{Version: "previous", Tag: "good"}, w)
		},
		"RevertJob": func(c api.Cluster) (any, error) {
			return c.RevertJob(ctx, "a/b", api.RevertRequest{To: "good", CheckIndex: &nine}, w)
		},
		"SteerDeployment": func(c api.Cluster) (any, error) {
			return c.SteerDeployment(ctx, "web", api.DeploymentOrder{Action: api.DeploymentPause, Reason: "lunch"}, w)
		},
		"ScaleJob": func(c api.Cluster) (any, error) {
			return c.ScaleJob(ctx, "web", api.ScaleRequest{Task: "x", Count: 3, CheckIndex: new(uint64)}, w)
		},
		"RestartJob": func(c api.Cluster) (any, error) {
			return c.RestartJob(ctx, "web", api.RestartRequest{Task: "x", Instances: []int{2}, CheckIndex: &nine}, w)
		},
		"DispatchJob": func(c api.Cluster) (any, error) {
			return c.DispatchJob(ctx, "web", api.DispatchRequest{Payload: []byte{0, 255}, Meta: map[string]string{"a": "b"}, ID: "x"}, w)
		},
		"StopJob": func(c api.Cluster) (any, error) {
			return c.StopJob(ctx, "web", api.StopRequest{NoShutdownDelay: true}, w)
		},
		"PurgeJob": func(c api.Cluster) (any, error) { return nil, c.PurgeJob(ctx, "web", w) },
		"StopAllocation": func(c api.Cluster) (any, error) {
			return c.StopAllocation(ctx, "a1", api.StopRequest{NoShutdownDelay: true}, w)
		},
		"SetNodeEligibility": func(c api.Cluster) (any, error) {
			return c.SetNodeEligibility(ctx, "n1", api.EligibilityRequest{Reason: "new disks"}, w)
		},
		"DrainNode": func(c api.Cluster) (any, error) {
			return c.DrainNode(ctx, "n1", api.DrainRequest{Deadline: time.Minute, IgnoreSystem: true, Message: "disk"}, w)
		},
		"CancelDrain": func(c api.Cluster) (any, error) {
			return c.CancelDrain(ctx, "n1", api.CancelDrainRequest{KeepIneligible: true}, w)
		},
		"CreateVolume": func(c api.Cluster) (any, error) {
			return c.CreateVolume(ctx, api.VolumeOrder{Name: "db", Node: "n1", Access: api.AccessSingleWriter}, w)
		},
		"DeleteVolume": func(c api.Cluster) (any, error) {
			return c.DeleteVolume(ctx, "db", api.VolumeRemoval{Node: "n1", Data: true}, w)
		},
		"BeginRebalance": func(c api.Cluster) (any, error) {
			return c.BeginRebalance(ctx, api.RebalanceRequest{Budget: api.RebalanceBudget{MaxMoves: 2, Per: time.Minute, MinGain: 0.5}}, w)
		},
		"CancelRebalance": func(c api.Cluster) (any, error) { return c.CancelRebalance(ctx, w) },
		"RemovePeer":      func(c api.Cluster) (any, error) { return nil, c.RemovePeer(ctx, "s1", w) },
	}
	for name, call := range writes {
		t.Run(name, func(t *testing.T) {
			direct := &echo{}
			want, err := call(direct)
			if err != nil {
				t.Fatal(err)
			}
			got, err := call(c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if e.write != w || !cmp.Equal(direct.sent, e.sent) {
				t.Errorf("%+v with %+v arrived, want %+v with %+v", e.sent, e.write, direct.sent, w)
			}
			e.sent = nil
		})
	}
}

func TestForesightRoutes(t *testing.T) {
	e := &echo{}
	c := start(t, e)
	direct := &echo{}
	want, _ := direct.PlanJobs(t.Context(), api.Submission{Source: "x"})
	got, err := c.PlanJobs(t.Context(), api.Submission{Source: "x"})
	if err != nil || !cmp.Equal(direct.sent, e.sent) || !cmp.Equal(want, got) {
		t.Errorf("%v: %+v arrived, %s came back", err, e.sent, cmp.Diff(want, got))
	}
	for _, stale := range []bool{false, true} {
		q := api.Query{Stale: stale}
		suppose := api.SimulationRequest{Suppose: []api.Supposition{{NodeDown: "n/1"}, {Scale: &api.ScaleSupposition{Job: "web", Count: 2}}}}
		wantSim, wantMeta, _ := direct.Simulate(t.Context(), suppose, q)
		if sim, meta, err := c.Simulate(t.Context(), suppose, q); err != nil || !cmp.Equal(wantSim, sim) || meta != wantMeta {
			t.Errorf("%v: %+v and %s came back", err, meta, cmp.Diff(wantSim, sim))
		}
	}
	wantWhy, _ := direct.ExplainJob(t.Context(), "a/b")
	if why, err := c.ExplainJob(t.Context(), "a/b"); err != nil || !cmp.Equal(wantWhy, why) {
		t.Errorf("%v: %s came back", err, cmp.Diff(wantWhy, why))
	}
	e.err = api.Errorf(api.CodeNotFound, "there is no job")
	if _, err := c.ExplainJob(t.Context(), "web"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("an error came back as %v", err)
	}
}

func TestOperatorRoutes(t *testing.T) {
	e := &echo{}
	c := start(t, e)
	ctx := t.Context()
	if h, err := c.Health(ctx); err != nil || h.Leader != "a" || h.Index != 9 {
		t.Errorf("health %+v, %v", h, err)
	}
	if l, err := c.Leader(ctx); err != nil || l.ID != "s1" {
		t.Errorf("leader %+v, %v", l, err)
	}
	if m, err := c.Members(ctx); err != nil || len(m) != 1 || m[0].ID != "s1" {
		t.Errorf("members %+v, %v", m, err)
	}
	if p, err := c.RaftPeers(ctx); err != nil || len(p) != 1 || !p[0].Voter {
		t.Errorf("peers %+v, %v", p, err)
	}
	if err := c.Leave(ctx); err != nil || e.sent != "leave" {
		t.Errorf("leave: %v, %v", e.sent, err)
	}
	r, err := c.SaveSnapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(b) != "snapshot" {
		t.Errorf("snapshot %q, %v", b, err)
	}
	if err := c.RestoreSnapshot(ctx, strings.NewReader("state"), api.WriteMeta{RequestID: "r", Who: "me"}); err != nil || e.sent != "state" || e.write.Who != "me" {
		t.Errorf("restore: %v, %v", e.sent, err)
	}
}

// TestWhatIsAskedOfLogsArrives sends requests through a query and back.
func TestWhatIsAskedOfLogsArrives(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 5, 1, 123456789, time.FixedZone("CET", 3600))
	for _, want := range []api.LogRequest{{Tail: -1}, {Tail: 3, Follow: true, Stream: "stderr"}, {Since: at, Timestamps: true}} {
		v, err := url.ParseQuery(strings.TrimPrefix(logQuery(want), "?"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseLogRequest(v)
		if !got.Since.Equal(want.Since) || err != nil {
			t.Errorf("since %v arrives as %v, %v", want.Since, got.Since, err)
		}
		if got.Since = want.Since; got != want {
			t.Errorf("%+v arrives as %+v", want, got)
		}
	}
}

func TestUsageArrives(t *testing.T) {
	e := &echo{}
	c := start(t, e)
	for _, q := range []api.UsageQuery{
		{Jobs: []string{"web", "a b"}}, {Nodes: []string{"n1"}, Stale: true}, {Allocations: []string{"a1", "a2"}},
	} {
		got, err := c.Usage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(q, e.sent); d != "" {
			t.Errorf("what is asked arrives otherwise (-want +got):\n%s", d)
		}
		want, _ := (&echo{}).Usage(t.Context(), q)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("what is answered arrives otherwise (-want +got):\n%s", d)
		}
	}
	if _, err := c.Usage(t.Context(), api.UsageQuery{}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("the use of nothing: %v", err)
	}
}

func TestLogsFlowAndEnd(t *testing.T) {
	c := start(t, &echo{})
	r, err := c.Logs(t.Context(), "a1", api.LogRequest{Stream: "stderr", Tail: 7})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if string(b) != "a1 stderr 7\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	r, err = c.Logs(t.Context(), "a1", api.LogRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(r, line); err != nil || string(line) != "first\n" {
		t.Errorf("a follower sees %q, %v before the end", line, err)
	}
	r.Close()
}

func TestErrorsArriveAsTheyWere(t *testing.T) {
	want := api.Errorf(api.CodeAmbiguous, "ID ab names two nodes")
	c := start(t, &echo{err: want})
	_, _, err := c.Node(t.Context(), "ab", api.Query{})
	if api.CodeOf(err) != want.Code || err.Error() != want.Message {
		t.Errorf("got %v (%s)", err, api.CodeOf(err))
	}
}

// TestBadRequests sends what nobody should: each gets its status and one line of JSON, and the server goes on.
func TestBadRequests(t *testing.T) {
	s := httptest.NewServer(NewHandler(&echo{}, hclog.NewNullLogger()))
	defer s.Close()
	deep := strings.Repeat(`{"Job":`, 20_000)
	cases := []struct {
		name, method, path, body string
		header                   map[string]string
		length                   int64
		status                   int
		says                     string
	}{
		{name: "a command on a connection that stays", method: "POST", path: "/v1/allocations/a1/exec", body: `{"Command":["sh"]}`, status: 400, says: "Upgrade: cube-exec/1"},
		{name: "no command", method: "POST", path: "/v1/allocations/a1/exec", body: `{"Command":[]}`, status: 400, says: "no command"},
		{name: "a command with a NUL", method: "POST", path: "/v1/allocations/a1/exec", body: `{"Command":["a\u0000b"]}`, status: 400, says: "NUL"},
		{name: "broken JSON", method: "POST", path: "/v1/jobs", body: `{"Source":`, status: 400, says: "ends in the middle"},
		{name: "empty body", method: "POST", path: "/v1/jobs", status: 400, says: "empty"},
		{name: "two values", method: "POST", path: "/v1/jobs", body: `{"Source":"x"} {}`, status: 400, says: "more follows"},
		{name: "unknown field", method: "POST", path: "/v1/jobs", body: `{"Sauce":"x"}`, status: 400, says: `unknown field \"Sauce\"`},
		{name: "unknown field of a task", method: "POST", path: "/v1/jobs", body: `{"Job":{"Name":"a","Tasks":[{"Nam":"a"}]}}`, status: 400, says: `unknown field \"Nam\"`},
		{name: "neither", method: "POST", path: "/v1/jobs", body: `{}`, status: 400, says: "neither"},
		{name: "both", method: "POST", path: "/v1/jobs", body: `{"Source":"x","Job":{}}`, status: 400, says: "both"},
		{name: "wrong type", method: "POST", path: "/v1/jobs", body: `{"Source":7}`, status: 400, says: "Source takes text, not number"},
		{name: "wrong type inside", method: "POST", path: "/v1/jobs", body: `{"Job":{"Tasks":[{"Count":"many"}]}}`, status: 400, says: "Job.Tasks.Count takes a whole number of 64 bits, not string"},
		{name: "too large a number", method: "POST", path: "/v1/jobs", body: `{"Job":{"Tasks":[{"Count":1e400}]}}`, status: 400, says: "not number 1e400"},
		{name: "a list", method: "POST", path: "/v1/jobs", body: `[1]`, status: 400, says: "it takes an object, not array"},
		{name: "twice", method: "POST", path: "/v1/jobs", body: `{"Source":"x", "Source":"y"}`, status: 400, says: `\"Source\" is in one object twice`},
		{name: "twice, deeper", method: "POST", path: "/v1/jobs", body: `{"Job":{"Name":"a","Tasks":[{"Env":{"Name":"A"}},{"Env":{"A":"A","B":"A","A":""}}]}}`, status: 400, says: `\"A\" is in one object twice`},
		{name: "not UTF-8", method: "POST", path: "/v1/jobs", body: "{\"Source\":\"a\xff\"}", status: 400, says: "not UTF-8"},
		{name: "deep", method: "POST", path: "/v1/jobs", body: deep, status: 400, says: "body"},
		{name: "a source too long", method: "POST", path: "/v1/jobs", body: `{"Source":"` + strings.Repeat("x", api.MaxSourceBytes+1) + `"}`, status: 413, says: "at most"},
		{name: "a body too long", method: "POST", path: "/v1/jobs", body: `{"Source":"` + strings.Repeat("x", maxJSONBody) + `"}`, status: 413, says: "at most"},
		{name: "index", method: "GET", path: "/v1/jobs?index=-1", status: 400, says: "index"},
		{name: "wait", method: "GET", path: "/v1/jobs?wait=soon", status: 400, says: "wait"},
		{name: "negative wait", method: "GET", path: "/v1/jobs?wait=-3s", status: 400, says: "wait"},
		{name: "stream", method: "GET", path: "/v1/allocations/a/logs?stream=both", status: 400, says: "stream"},
		{name: "tail", method: "GET", path: "/v1/allocations/a/logs?tail=x", status: 400, says: "tail"},
		{name: "since", method: "GET", path: "/v1/allocations/a/logs?since=yesterday", status: 400, says: "since"},
		{name: "no such route", method: "GET", path: "/v1/pods", status: 404, says: "/v1/pods"},
		{name: "no such method", method: "DELETE", path: "/v1/jobs", status: 405, says: "DELETE"},
		{name: "count left out", method: "POST", path: "/v1/jobs/web/scale", body: `{"Task":"web"}`, status: 400, says: "the body lacks Count"},
		{name: "eligibility left out", method: "POST", path: "/v1/nodes/n/eligibility", body: `{}`, status: 400, says: "Eligible"},
		{name: "long request ID", method: "POST", path: "/v1/jobs/web/stop", header: map[string]string{HeaderRequestID: strings.Repeat("x", 65)}, status: 400, says: "64 bytes"},
		{name: "another site", method: "POST", path: "/v1/jobs/web/stop", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403, says: `"Code":"forbidden"`},
		{name: "a panic", method: "GET", path: "/v1/jobs/panic", status: 500, says: "a fault of ours"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || !strings.Contains(string(b), c.says) || strings.Count(string(b), "\n") > 1 {
				t.Errorf("%d %.300s; want %d and %q in one line", resp.StatusCode, b, c.status, c.says)
			}
		})
	}
}

// TestHugeBodyIsRefusedUnread announces 10 GB: the answer must come without them.
func TestHugeBodyIsRefusedUnread(t *testing.T) {
	s := httptest.NewServer(NewHandler(&echo{}, hclog.NewNullLogger()))
	defer s.Close()
	for _, route := range []struct{ method, path string }{{"POST", "/v1/jobs"}, {"POST", "/v1/validate"}, {"PUT", "/v1/operator/snapshot"}} {
		var read atomic.Int64
		body := readerFunc(func(p []byte) (int, error) { read.Add(int64(len(p))); return len(p), nil })
		req, err := http.NewRequestWithContext(t.Context(), route.method, s.URL+route.path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 10 << 30
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 413 {
				t.Errorf("%s %s: status %d, want 413", route.method, route.path, resp.StatusCode)
			}
		}
		if n := read.Load(); n > 64<<20 {
			t.Errorf("%s %s: %d bytes were taken before the refusal", route.method, route.path, n)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestServerDownIsSaidAtOnce(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	addr := s.URL
	s.Close()
	c, err := NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.ListJobs(t.Context(), api.Query{})
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "cube agent") {
		t.Errorf("got %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"": "http://127.0.0.1:5555", "10.0.0.1": "http://10.0.0.1:5555", "10.0.0.1:80": "http://10.0.0.1:80",
		"http://h:1/": "http://h:1", "https://h": "https://h:5555", "[::1]:7": "http://[::1]:7",
		"http://[fe80::1%25lo]:7": "http://[fe80::1%25lo]:7",
	} {
		c, err := NewClient(in)
		if err != nil || c.Address() != want {
			t.Errorf("NewClient(%q) = %v, %v; want %s", in, c, err, want)
		}
	}
	for _, in := range []string{"ftp://h", "http://", "http://h/path", "unix://", "://", "h:0", "h:65536", "h:99999"} {
		if _, err := NewClient(in); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("NewClient(%q) gives %v, want an error that says invalid", in, err)
		}
	}
}

func TestJobSurvivesTheCodec(t *testing.T) {
	task := api.DefaultTask("web")
	task.Env = map[string]string{"A": "b"}
	task.Config = map[string]any{"entrypoint": []any{"/x"}, "labels": map[string]any{"k": "v"}, "n": int64(3), "ok": true, "f": 1.5}
	task.Ports = []api.Port{{Label: "http", To: 80}}
	job := &api.Job{
		Name: "web", Type: api.JobService, Datacenters: []string{"dc1"}, Priority: 50, Tasks: []*api.Task{task}, Version: 4,
		SubmittedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), ModifyIndex: 1 << 40, Source: &api.Source{HCL: "not for nodes"},
	}
	b, err := EncodeJob(job)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeJob(b)
	if err != nil {
		t.Fatal(err)
	}
	want := *job
	want.Source = nil
	if d := cmp.Diff(&want, got); d != "" {
		t.Error(d)
	}
	for n := range b {
		DecodeJob(b[:n]) // must not panic; most are errors, some prefixes are not
	}
}

func TestWorkerAndDispatcherOverHTTP(t *testing.T) {
	node := &node{}
	s := httptest.NewServer(NewWorkerHandler(node))
	defer s.Close()
	w := NewWorker(redirect{s.URL})
	if err := w.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	load, err := w.Stats(t.Context())
	if err != nil || load.CPU != 12 || load.Load1 != 0.5 {
		t.Errorf("%+v, %v", load, err)
	}
	measured, err := w.Usage(t.Context(), []api.ID{7, 8})
	if want, _ := node.Usage(t.Context(), []api.ID{7, 8}); err != nil || !cmp.Equal(measured, want) {
		t.Errorf("the use of instances arrives as %+v, %v; want %+v", measured, err, want)
	}
	change := api.VolumeChange{Step: api.VolumeMake, Name: "db", Access: api.AccessMultiReader, By: "ann", Request: "r", Data: true}
	done, err := w.Volume(t.Context(), change)
	if want, _ := node.Volume(t.Context(), change); err != nil || !cmp.Equal(done, want) {
		t.Errorf("what became of a volume arrives as %+v, %v; want %+v", done, err, want)
	}
	r, err := w.Logs(t.Context(), api.MakeID(1, 2), api.LogRequest{Tail: 3})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err != nil || string(b) != "4294967298 3" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := w.Logs(t.Context(), 0, api.LogRequest{}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("logs of nothing: %v", err)
	}
}

type node struct{}

func (*node) Ping(context.Context) error { return nil }
func (*node) Stats(context.Context) (*api.NodeLoad, error) {
	return &api.NodeLoad{CPU: 12, Load1: 0.5}, nil
}
func (*node) Usage(_ context.Context, ids []api.ID) (all []api.AllocationUsage, err error) {
	for _, id := range ids {
		all = append(all, api.AllocationUsage{ID: id, Usage: api.Usage{CPU: int64(id) * 10, Memory: 5, At: time.Unix(3, 4000).UTC()},
			Checks: []api.CheckStatus{{Name: "up", Type: api.CheckTCP, Every: time.Second, Health: api.HealthUnhealthy, Message: "refused"}}})
	}
	return all, nil
}
func (*node) Volume(_ context.Context, c api.VolumeChange) (*api.VolumeDone, error) {
	made := api.VolumeOrigin{By: c.By + c.Request, At: time.Unix(3, 4000).UTC()}
	return &api.VolumeDone{Volume: api.NodeVolume{Name: c.Name, ReadOnly: c.Access == api.AccessMultiReader, Made: &made}, Kept: c.Data}, nil
}
func (*node) Estate(_ context.Context, id api.ID, taken bool) (io.ReadCloser, error) {
	switch {
	case id == 0:
		return nil, api.Errorf(api.CodeNotFound, "no such allocation")
	case taken:
		return nil, nil
	case id == 1: // it breaks
		return io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrClosedPipe))), nil
	}
	return io.NopCloser(strings.NewReader(fmt.Sprint("of ", id))), nil
}
func (*node) Logs(_ context.Context, id api.ID, r api.LogRequest) (io.ReadCloser, error) {
	if id == 0 {
		return nil, api.Errorf(api.CodeNotFound, "no such allocation")
	}
	return io.NopCloser(strings.NewReader(fmt.Sprintf("%d %d", id, r.Tail))), nil
}

// redirect sends every request to one server, as a session's transport does.
type redirect struct{ base string }

func (d redirect) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = strings.TrimPrefix(d.base, "http://")
	return http.DefaultTransport.RoundTrip(r)
}
