package overview

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

func TestOverview(t *testing.T) {
	m := fsm.New()
	index := uint64(0)
	do := func(body fsm.Body) {
		t.Helper()
		index++
		if r := m.Apply(index, &fsm.Command{At: int64(index) * int64(time.Second), Body: body}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	do(&fsm.InitCluster{ClusterID: "c1"})
	for i := range 4 {
		n := &api.Node{ID: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("host-%d", i), Incarnation: 1, Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 1000},
			Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}},
			Devices: []api.DeviceGroup{{Type: "gpu", Model: "x", IDs: []string{fmt.Sprintf("g%d", i)}}}}
		do(&fsm.RegisterNode{Node: n, Ready: i != 3})
	}
	job := func(name string, count int, memory int64) *api.Job {
		task := api.DefaultTask(name)
		task.Image, task.Count, task.Resources = "hello", count, api.Resources{CPU: 100, Memory: memory}
		task.Devices = []api.DeviceRequest{{Type: "gpu", Share: 500}}
		j := &api.Job{Name: name, Type: api.JobService, Tasks: []*api.Task{task}}
		j.Canonicalize()
		return j
	}
	do(&fsm.RegisterJobs{Jobs: []*api.Job{job("web", 2, 1024), job("gone", 1, 1024)}})
	do(&fsm.StopJob{Name: "gone"})
	for i := range 12 {
		do(&fsm.RegisterJobs{Jobs: []*api.Job{job(fmt.Sprintf("big%02d", i), 1, 9000)}})
	}
	s := m.Snapshot()
	do(&fsm.CommitPlan{Plan: scheduler.Schedule(s, s.Runnable(0), scheduler.Options{})})
	do(&fsm.SetEligibility{Node: "n1", Ineligible: true})
	do(&fsm.NodesDown{Nodes: []string{"n2"}})

	got := Of(m.Snapshot(), func(node string) bool { return node != "n1" }, scheduler.Options{})
	if want := (api.NodeCounts{Total: 4, Ready: 1, Ineligible: 1, Initializing: 1, Down: 1, Disconnected: 1}); got.Nodes != want {
		t.Errorf("nodes %+v, want %+v", got.Nodes, want)
	}
	if got.Cluster != "c1" || got.Index != index || got.Capacity.Total != (api.Resources{CPU: 4000, Memory: 8192, Disk: 1000}) {
		t.Errorf("%+v", got)
	}
	if got.Jobs.Total != 14 || got.Jobs.Stopped != 1 || got.Jobs.Pending != 13 {
		t.Errorf("jobs %+v", got.Jobs)
	}
	if len(got.Devices) != 1 || got.Devices[0].Type != "gpu" || got.Devices[0].Total != api.WholeDevice {
		t.Errorf("devices %+v", got.Devices)
	}
	if len(got.Blocked) != api.MaxBlocked || got.More != 2 || got.Blocked[0].Name != "big00" || !strings.Contains(got.Blocked[0].Why, "big00: 1 of 1 not placed: ") {
		t.Errorf("blocked %+v and %d more", got.Blocked, got.More)
	}
	if got.Survival == nil || got.Survival.Survives == "" || got.Phases.Queued < 12 {
		t.Errorf("%+v, %+v", got.Survival, got.Phases)
	}
	if unknown := Of(m.Snapshot(), nil, scheduler.Options{}); unknown.Nodes.Disconnected != 0 {
		t.Errorf("who does not know of sessions counts %d without", unknown.Nodes.Disconnected)
	}
}
