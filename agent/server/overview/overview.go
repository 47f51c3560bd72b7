// Package overview says in one answer how a cluster is doing, from what it has agreed: its nodes, what is held of them, its
// jobs, what is blocked, and whether everything would survive the loss of any one node. It is pure; who asks the other
// servers how they are adds that.
package overview

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
	"cube/scheduler/whatif"
)

// simulations bounds what is computed to know whether any one node can be lost: some 3 to 8 ms each in large clusters that are
// full. Those with some air need none.
const simulations = 250

// Of looks at the state. connected tells whether a node has a session; nil: that is not known.
func Of(s *fsm.Snapshot, connected func(node string) bool, o scheduler.Options) *api.ClusterStatus {
	out := &api.ClusterStatus{Cluster: s.ClusterID(), Index: s.Index()}
	devices := map[string]*api.DeviceFill{}
	for n, held := range s.Nodes() {
		count(&out.Nodes, n, connected)
		if n.Ready() {
			out.Capacity.Held, out.Capacity.Total = out.Capacity.Held.Add(held), out.Capacity.Total.Add(n.Resources)
			if len(n.Devices) > 0 {
				addDevices(devices, s.NodeDevices(n.ID))
			}
		}
	}
	for _, d := range devices {
		out.Devices = append(out.Devices, *d)
	}
	slices.SortFunc(out.Devices, func(a, b api.DeviceFill) int { return cmp.Compare(a.Type, b.Type) })
	for j := range s.Jobs() {
		summary := s.Summary(j.Name)
		countJob(&out.Jobs, &summary)
		addPhases(&out.Phases, &summary.Counts)
	}
	blocked := s.Waiting(api.EvalBlocked, math.MaxInt)
	out.More = max(0, len(blocked)-api.MaxBlocked)
	for _, e := range blocked[:len(blocked)-out.More] {
		out.Blocked = append(out.Blocked, api.WaitingJob{Name: e.Job, Why: why(e)})
	}
	out.Survival = whatif.Survive(s, simulations, o)
	return out
}

func count(c *api.NodeCounts, n *api.Node, connected func(string) bool) {
	c.Total++
	switch {
	case n.Status == api.NodeDown:
		c.Down++
		return
	case n.Status == api.NodeInitializing:
		c.Initializing++
		return
	case n.Ready():
		c.Ready++
	default:
		c.Ineligible++
	}
	if connected != nil && !connected(n.ID) {
		c.Disconnected++
	}
}

func addDevices(to map[string]*api.DeviceFill, uses []api.DeviceUse) {
	for _, u := range uses {
		if u.Gone {
			continue
		}
		if to[u.Type] == nil {
			to[u.Type] = &api.DeviceFill{Type: u.Type}
		}
		to[u.Type].Held += u.Held
		to[u.Type].Total += api.WholeDevice
	}
}

func countJob(c *api.JobCounts, j *api.JobSummary) {
	c.Total++
	switch j.Status {
	case api.JobRunning:
		c.Running++
	case api.JobDegraded:
		c.Degraded++
	case api.JobFailed:
		c.Failed++
	case api.JobComplete:
		c.Complete++
	case api.JobDead:
		c.Stopped++
	case api.JobWaiting:
		c.Waiting++
	default:
		c.Pending++
	}
}

func addPhases(to, of *api.PhaseCounts) {
	to.Queued += of.Queued
	to.Pending += of.Pending
	to.Preparing += of.Preparing
	to.Running += of.Running
	to.Complete += of.Complete
	to.Failed += of.Failed
	to.Lost += of.Lost
}

// why is what an evaluation waits for, in a line.
func why(e *api.Evaluation) string {
	for i := range e.Explanations {
		if lines := e.Explanations[i].Lines(); len(lines) > 0 {
			return strings.Join(lines, "; ")
		}
	}
	return e.Message
}
