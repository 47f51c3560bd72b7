package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// world is a state with nodes that make volumes, and tell it so.
type world struct {
	*testing.T
	m      *fsm.Machine
	index  uint64
	silent bool                     // nodes do not tell
	before func(c api.VolumeChange) // is called before a node does something
	asked  []string
}

// node is one of them. It keeps no data.
type node struct {
	api.Worker
	w  *world
	id string
}

func (n node) Volume(_ context.Context, c api.VolumeChange) (*api.VolumeDone, error) {
	n.w.asked = append(n.w.asked, string(c.Step))
	if n.w.before != nil {
		n.w.before(c)
	}
	row := *n.w.m.Snapshot().Node(n.id)
	v := api.NodeVolume{Name: c.Name, Path: "/made/" + c.Name, Made: &api.VolumeOrigin{By: c.By}}
	row.Volumes = slices.DeleteFunc(slices.Clone(row.Volumes), func(o api.NodeVolume) bool { return o.Name == c.Name })
	if c.Step == api.VolumeMake || c.Step == api.VolumeOffer {
		row.Volumes = append(row.Volumes, v)
	}
	if !n.w.silent && c.Step != api.VolumeRemove {
		slices.SortFunc(row.Volumes, func(a, b api.NodeVolume) int { return strings.Compare(a.Name, b.Name) })
		n.w.do(&fsm.RegisterNode{Node: &row})
	}
	return &api.VolumeDone{Volume: v, Kept: !c.Data}, nil
}

func (w *world) do(body fsm.Body) {
	w.Helper()
	w.index++
	if r := w.m.Apply(w.index, &fsm.Command{At: int64(w.index) * int64(time.Second), Body: body}); r.Err != nil {
		w.Fatal(r.Err)
	}
}

func (w *world) schedule() {
	s := w.m.Snapshot()
	w.do(&fsm.CommitPlan{Plan: scheduler.Schedule(s, s.Runnable(0), scheduler.Options{})})
}

// run runs a job that writes to a volume.
func (w *world) run(name, volume string) {
	task := api.DefaultTask(name)
	task.Image, task.Volumes = "hello", []api.VolumeRequest{{Name: "v", Source: volume, Destination: "/v"}}
	j := &api.Job{Name: name, Type: api.JobService, Tasks: []*api.Task{task}}
	j.Canonicalize()
	w.do(&fsm.RegisterJobs{Jobs: []*api.Job{j}})
	w.schedule()
}

func (w *world) cluster() *Cluster {
	return &Cluster{
		Snapshot: w.m.Snapshot, Watch: w.m.Watch,
		Worker: func(id string) (api.Worker, error) {
			if id == "n3" {
				return nil, api.Errorf(api.CodeUnavailable, "it is not here")
			}
			return node{w: w, id: id}, nil
		},
		Allocations: func(s *fsm.Snapshot, id string) (out []*api.Allocation) {
			for r := range s.NodeRows(id, 0) {
				if a, ok := s.Allocation(r.ID); ok && !a.Phase.Terminal() {
					out = append(out, a)
				}
			}
			return out
		},
	}
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, m: fsm.New()}
	w.do(&fsm.InitCluster{ClusterID: "c1"})
	for i := range 4 {
		n := &api.Node{ID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("host-%d", i), Incarnation: 1, Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 1000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}, Volumes: []api.NodeVolume{{Name: "assets", Path: "/srv"}}}
		w.do(&fsm.RegisterNode{Node: n, Ready: true})
	}
	w.do(&fsm.NodesDown{Nodes: []string{"n2"}, Reason: "silent"})
	return w
}

func (w *world) create(node, name string) (*api.VolumeView, error) {
	return w.cluster().Create(w.Context(), w.m.Snapshot().Node(node), api.VolumeOrder{Name: name, Node: node}, api.WriteMeta{Who: "ann"})
}

func (w *world) remove(name, node string, data bool) (*api.VolumeView, error) {
	v, err := w.cluster().Find(w.m.Snapshot(), name, w.m.Snapshot().Node(node))
	if err != nil {
		return nil, err
	}
	return w.cluster().Delete(w.Context(), v, data)
}

func (w *world) refused(err error, code api.Code, says string) {
	w.Helper()
	if api.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), says) {
		w.Errorf("%v; want %s that says %q", err, code, says)
	}
}

// text is the volumes of that name as a list shows them.
func (w *world) text(prefix string) string {
	var all []string
	for _, v := range w.cluster().List(w.m.Snapshot(), prefix) {
		line := v.Name + " on " + v.NodeName + " held by " + v.Hold.String()
		for _, c := range v.Claims {
			line += " (" + c.Name + ")"
		}
		if v.Made != nil {
			line += ", made by " + v.Made.By
		}
		if v.Gone {
			line += ", gone"
		}
		all = append(all, line)
	}
	return strings.Join(all, "\n")
}

func TestVolumesOfACluster(t *testing.T) {
	w := newWorld(t)
	v, err := w.create("n1", "data")
	if err != nil || v.NodeName != "host-1" || !v.Kept || v.Made.By != "ann" {
		t.Fatalf("made: %+v, %v", v, err)
	}
	w.run("db", "data")
	if want := "data on host-1 held by 1 writer (db[0]), made by ann"; w.text("data") != want {
		t.Errorf("there is\n%s\nwant\n%s", w.text("data"), want)
	}
	_, err = w.remove("data", "", true)
	w.refused(err, api.CodeConflict, "volume data on node host-1 is held by db[0]: stop it first")

	_, err = w.create("n2", "x")
	w.refused(err, api.CodeUnavailable, "node host-2 is down: volume x is not made")
	_, err = w.create("n3", "x")
	w.refused(err, api.CodeUnavailable, "node host-3 is not connected: volume x is not made")
	_, err = w.remove("assets", "n1", false)
	w.refused(err, api.CodeConflict, "is named in the configuration of node host-1")
	_, err = w.remove("assets", "", false)
	w.refused(err, api.CodeAmbiguous, "4 nodes have a volume assets, such as host-0, host-1")
	_, err = w.remove("nothing", "", false)
	w.refused(err, api.CodeNotFound, `no node has a volume "nothing"`)
	_, err = w.remove("data", "n0", false)
	w.refused(err, api.CodeNotFound, `node host-0 has no volume "data"`)

	w.do(&fsm.StopJob{Name: "db"})
	w.schedule()
	for r := range w.m.Snapshot().NodeRows("n1", 0) {
		w.do(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{{ID: r.ID, Seq: 1, Phase: api.PhaseComplete}}}}})
	}
	w.asked = nil
	if v, err := w.remove("data", "", true); err != nil || v.Kept || w.text("data") != "" {
		t.Errorf("removed: %+v, %v; there is %q", v, err, w.text("data"))
	}
	if got := strings.Join(w.asked, " "); got != "withdraw remove" {
		t.Errorf("the node was asked to %s", got)
	}
}

// TestWhoComesInBetweenKeepsTheVolume: an instance is placed for the volume while its removal is under way.
func TestWhoComesInBetweenKeepsTheVolume(t *testing.T) {
	w := newWorld(t)
	if _, err := w.create("n1", "data"); err != nil {
		t.Fatal(err)
	}
	w.before = func(c api.VolumeChange) {
		if c.Step == api.VolumeWithdraw {
			w.run("db", "data")
		}
	}
	w.asked = nil
	_, err := w.remove("data", "", true)
	w.refused(err, api.CodeConflict, "is held by db[0]")
	if got := strings.Join(w.asked, " "); got != "withdraw offer" {
		t.Errorf("the node was asked to %s", got)
	}
	if want := "data on host-1 held by 1 writer (db[0]), made by "; w.text("data") != want {
		t.Errorf("there is\n%s\nwant\n%s", w.text("data"), want)
	}
}

// TestANodeThatDoesNotTell: what it was asked for is not taken for done.
func TestANodeThatDoesNotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.create("n1", "data"); err != nil {
			t.Fatal(err)
		}
		w.silent, w.asked = true, nil
		_, err := w.create("n1", "more")
		w.refused(err, api.CodeUnknown, "has made volume more and has not said so to the leader yet")
		_, err = w.remove("data", "", true)
		w.refused(err, api.CodeUnavailable, "does not tell the leader that it has withdrawn volume data, which stays")
		if got := strings.Join(w.asked, " "); got != "make withdraw offer" {
			t.Errorf("the node was asked to %s", got)
		}
	})
}
