package estate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cube/agent/server/drain"
	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// rig is a state with nodes, and what a scheduler and the nodes do to it.
type rig struct {
	*testing.T
	m     *fsm.Machine
	index uint64
	at    time.Time
}

func newRig(t *testing.T, change func(*api.Task)) *rig {
	r := &rig{T: t, m: fsm.New(), at: time.Unix(1_700_000_000, 0)}
	task := api.DefaultTask("web")
	task.Image, task.Resources = "cube/hello:1", api.Resources{CPU: 200, Memory: 128}
	change(task)
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	job.Canonicalize()
	r.apply(&fsm.InitCluster{ClusterID: "c"})
	r.node("n1")
	r.apply(&fsm.RegisterJobs{Jobs: []*api.Job{job}})
	r.schedule()
	r.report(api.PhaseRunning)
	r.node("n2")
	return r
}

// sticky is a task whose data moves.
func sticky(t *api.Task) {
	t.EphemeralDisk, t.Migrate.Order = &api.EphemeralDisk{Sticky: true}, api.OrderStopFirst
}

func (r *rig) apply(body fsm.Body) {
	r.Helper()
	r.index++
	if result := r.m.Apply(r.index, &fsm.Command{At: r.at.UnixNano(), Who: "alice", Body: body}); result.Err != nil || len(result.Rejections) > 0 {
		r.Fatalf("%T: %+v", body, result)
	}
}

func (r *rig) node(name string) {
	r.apply(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: name, Name: name, Resources: api.Resources{CPU: 1000, Memory: 1024, Disk: 1024},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}})
}

func (r *rig) schedule() {
	r.Helper()
	s := r.m.Snapshot()
	if e := s.Open("web"); e != nil {
		r.apply(&fsm.CommitPlan{Plan: scheduler.Schedule(s, []*api.Evaluation{e}, scheduler.Options{Now: r.at.UnixNano()})})
	}
}

// report has what is to run come to a phase, and what is to stop end.
func (r *rig) report(phase api.Phase) {
	r.Helper()
	for _, row := range slices.Collect(r.m.Snapshot().JobRows("web")) {
		st := api.AllocationStatus{ID: row.ID, Seq: row.Seq + 1, Phase: phase, Health: api.ImpliedHealth(phase)}
		if row.Desired == api.DesiredStop {
			st.Phase, st.Health = api.PhaseComplete, row.Health
		}
		if row.Live() {
			r.apply(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: row.Node, Statuses: []api.AllocationStatus{st}}}})
		}
	}
}

// row is the latest allocation.
func (r *rig) row() (latest api.AllocationRow) {
	for row := range r.m.Snapshot().JobAllRows("web") {
		if row.ID > latest.ID {
			latest = row
		}
	}
	return latest
}

// told is what the node of an allocation is told of those before it.
func (r *rig) told(row api.AllocationRow) (a api.Assignment) {
	Tell(r.m.Snapshot(), &row, &a)
	return a
}

// drained reports whether a node's drain is to come to its end now, and what people are told that it waits for.
func (r *rig) drained(node string) (bool, string) {
	s := r.m.Snapshot()
	due, _ := drain.Due(s, r.at.UnixNano())
	return slices.Contains(due, node), strings.Join(drain.Status(s, s.Node(node)).Lines(), "; ")
}

// TestDataLeavesADrainedNode: its successor is told where the data is and may have it, nobody else may, and the node is not drained
// before that is done.
func TestDataLeavesADrainedNode(t *testing.T) {
	r := newRig(t, sticky)
	first := r.row()
	r.apply(&fsm.DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Hour}})
	r.schedule()
	r.report(api.PhaseRunning)
	waits := func(want string) {
		t.Helper()
		if due, lines := r.drained("n1"); due || lines != "0 of 1 instances moved; "+want {
			t.Errorf("the node is drained: %v, %s; want %s", due, lines, want)
		}
	}
	waits("web[0] waits to be placed; its data is still here")
	r.schedule()
	heir := r.row()
	waits("web[0] waits to run on n2, and to fetch its data from here")
	a := r.told(heir)
	if !a.Moved || len(a.Former) != 1 || a.Former[0] != (api.Former{Allocation: first.ID, Node: "n1", NodeName: "n1"}) {
		t.Errorf("its node is told %+v", a)
	}
	for _, c := range []struct {
		node    string
		request api.FetchRequest
		want    api.Code
	}{
		{"n2", api.FetchRequest{Allocation: heir.ID, Former: first.ID}, ""},
		{"n2", api.FetchRequest{Allocation: heir.ID, Former: first.ID, Taken: true}, ""},
		{"n1", api.FetchRequest{Allocation: heir.ID, Former: first.ID}, api.CodeForbidden},
		{"n2", api.FetchRequest{Allocation: heir.ID, Former: heir.ID}, api.CodeForbidden},
		{"n1", api.FetchRequest{Allocation: first.ID, Former: first.ID}, api.CodeForbidden},
		{"n2", api.FetchRequest{Allocation: 12345, Former: first.ID}, api.CodeUnavailable},
		{"n2", api.FetchRequest{Allocation: heir.ID, Former: 12345}, api.CodeNotFound},
	} {
		former, err := Check(r.m.Snapshot(), c.node, c.request)
		if api.CodeOf(err) != c.want || err == nil && former.Node != "n1" {
			t.Errorf("%s asks for %+v: %v; want %q", c.node, c.request, err, c.want)
		}
	}
	r.report(api.PhasePreparing)
	waits("web[0] waits to run on n2, and to fetch its data from here")
	r.report(api.PhaseRunning)
	if due, lines := r.drained("n1"); !due || lines != "1 of 1 instances moved" {
		t.Errorf("the node is drained: %v, %s", due, lines)
	}
	if a := r.told(r.row()); a.Former != nil {
		t.Errorf("what runs is told %+v", a.Former)
	}
}

// TestADrainDoesNotWaitForDataBeyondItsDeadline, and not for what nobody wants.
func TestADrainDoesNotWaitForDataBeyondItsDeadline(t *testing.T) {
	r := newRig(t, sticky)
	r.apply(&fsm.DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Hour}})
	r.schedule()
	r.report(api.PhaseRunning)
	if due, _ := r.drained("n1"); due {
		t.Error("it does not wait for the data")
	}
	r.at = r.at.Add(time.Hour)
	if due, _ := r.drained("n1"); !due {
		t.Error("it waits beyond its deadline")
	}
	r.at = r.at.Add(-time.Minute)
	r.apply(&fsm.StopJob{Name: "web"})
	if due, _ := r.drained("n1"); !due {
		t.Error("it waits though the job is stopped")
	}
}

// TestWhoIsToldOfWhom: instances that run beside their predecessor inherit nothing, and what failed is not moved.
func TestWhoIsToldOfWhom(t *testing.T) {
	r := newRig(t, func(*api.Task) {})
	r.apply(&fsm.DrainNode{Node: "n1", Begin: &api.DrainRequest{Deadline: time.Hour}})
	r.schedule()
	if a := r.told(r.row()); !a.Moved || a.Former != nil {
		t.Errorf("the successor beside it is told %+v", a)
	}
	if _, err := Check(r.m.Snapshot(), "n2", api.FetchRequest{Allocation: r.row().ID, Former: r.row().Replaces}); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("what is not sticky is given away: %v", err)
	}

	r = newRig(t, sticky)
	first := r.row()
	r.apply(&fsm.NodesDown{Nodes: []string{"n1"}})
	r.schedule()
	a := r.told(r.row())
	if a.Moved || len(a.Former) != 1 {
		t.Errorf("the successor of one that is lost is told %+v", a)
	}
	if _, err := Check(r.m.Snapshot(), "n2", api.FetchRequest{Allocation: r.row().ID, Former: first.ID}); api.CodeOf(err) != api.CodeConflict || err.Error() != "node n1 is down" {
		t.Errorf("its data is asked for: %v", err)
	}
}
