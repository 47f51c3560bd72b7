package command

import (
	"testing"

	"cube/api"
)

func someCluster() *api.ClusterStatus {
	return &api.ClusterStatus{
		Cluster: "5b1f0a7c9e3d4f21", Leader: "s1", Voters: 3, Healthy: 2, Spare: 0, Index: 812,
		Servers: []api.ServerStatus{
			{Name: "s1", Address: "10.0.0.1:5556", Voter: true, Leader: true, Healthy: true, Index: 812, Version: "0.2.0"},
			{Name: "s2", Address: "10.0.0.2:5556", Voter: true, Healthy: true, Index: 810, Behind: 2, Version: "0.2.0"},
			{Name: "s3", Address: "10.0.0.3:5556", Voter: true, Trouble: "no answer within 1s"}},
		Nodes:    api.NodeCounts{Total: 5, Ready: 3, Ineligible: 1, Down: 1, Disconnected: 1},
		Capacity: api.Fill{Held: api.Resources{CPU: 3200, Memory: 20480, Disk: 900}, Total: api.Resources{CPU: 12000, Memory: 24576, Disk: 300_000}},
		Devices:  []api.DeviceFill{{Type: "gpu", Held: 1500, Total: 8000}},
		Jobs:     api.JobCounts{Total: 7, Running: 4, Pending: 1, Degraded: 1, Stopped: 1},
		Phases:   api.PhaseCounts{Running: 31, Queued: 2, Failed: 1, Pending: 1},
		Blocked:  []api.WaitingJob{{Name: "web", Why: "web: 2 of 6 not placed: all 4 nodes lack memory (1 GiB wanted, 96 to 128 MiB free, nearest n2)"}, {Name: "shop", Why: "cart waits for db to be healthy"}},
		More:     3,
		Survival: &api.Survival{Survives: api.SurvivesNo, Nodes: 4, Checked: 4, Failing: 1, Losses: []api.NodeLoss{{Name: "n2", Missing: 2, Instance: "web[3]", Lacks: "memory"}}},
	}
}

func TestClusterStatus(t *testing.T) {
	c := newFakeCluster()
	c.overview = someCluster()
	p := newTerminal(t, c)
	p.cube(0, "cluster", "status")
	golden(t, "cluster_status", p.stdout.String())
	p = newTerminal(t, c)
	p.cube(0, "cluster", "status", "-json")
	p.shows(`"Survives": "no"`)
	p = newTerminal(t, c)
	p.columns, p.rows = 120, 24
	p.cube(0, "cluster", "status")
	p.shows("any one node: " + red + "no, tightest n2")
	p = newTerminal(t, c)
	p.cube(1, "cluster", "status", "web")
	p.complains("takes no arguments")

	c.fail = func(_ string, q api.Query) error {
		if q.Stale {
			return nil
		}
		return api.Errorf(api.CodeNoLeader, "no leader")
	}
	p = newTerminal(t, c)
	p.cube(0, "cluster", "status")
	p.shows("Cluster")
	p.complains("this is what one of them last knew")
}

func TestWhatCanBeLost(t *testing.T) {
	for want, c := range map[string]api.ClusterStatus{
		"3 of 3 voters healthy; survives the loss of 1 of 3 servers":                   {Voters: 3, Healthy: 3, Spare: 1, Servers: make([]api.ServerStatus, 3)},
		"5 of 5 voters healthy; survives the loss of 2 of 5 servers; 1 not voting yet": {Voters: 5, Healthy: 5, Spare: 2, Servers: make([]api.ServerStatus, 6)},
		"2 of 3 voters healthy; none of them can be lost":                              {Voters: 3, Healthy: 2, Servers: make([]api.ServerStatus, 3)},
		"1 of 3 voters healthy; no majority: nothing can be changed":                   {Voters: 3, Healthy: 1, Servers: make([]api.ServerStatus, 3)},
		"1 of 1 voter healthy; it is the only one, and cannot be lost":                 {Voters: 1, Healthy: 1, Servers: make([]api.ServerStatus, 1)},
	} {
		if got := serversLine(&c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := nodesLine(&api.NodeCounts{}); got != "none" {
		t.Errorf("no nodes: %q", got)
	}
	for want, s := range map[string]api.Survival{
		"yes, nothing runs that would have to move":                                                                {Survives: api.SurvivesYes},
		"yes, tightest n1 (the others would be 71 % full: memory)":                                                 {Survives: api.SurvivesYes, Nodes: 3, Checked: 3, Tightest: &api.Tightest{Name: "n1", Percent: 70.6, Resource: "memory"}},
		"not known: of 5000 nodes 250 were looked at, and can be spared":                                           {Survives: api.SurvivesUnknown, Nodes: 5000, Checked: 250},
		"no, tightest n1 (web[0] would not fit: no other node is ready)":                                           {Survives: api.SurvivesNo, Nodes: 1, Checked: 1, Failing: 1, Losses: []api.NodeLoss{{Name: "n1", Missing: 1, Instance: "web[0]", Lacks: "no other node is ready"}}},
		"no, tightest n1 (web[0] would not fit; 3 in all); of 900 nodes 20 were looked at, and 2 cannot be spared": {Survives: api.SurvivesNo, Nodes: 900, Checked: 20, Failing: 2, Losses: []api.NodeLoss{{Name: "n1", Missing: 3, Instance: "web[0]"}}},
	} {
		if got := s.Line(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
