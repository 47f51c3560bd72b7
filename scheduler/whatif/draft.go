// Package whatif asks the scheduler what would happen: it draws something supposed over the state of the cluster, has the
// real scheduler plan on that, and says what the plans come to. It is pure: nothing is written, and equal arguments give
// equal answers.
package whatif

import (
	"cmp"
	"iter"
	"slices"

	"cube/api"
	"cube/scheduler"
)

// State is what can be drawn over: what the scheduler sees, and what single allocations hold, so that it can be given back.
// *fsm.Snapshot satisfies it.
type State interface {
	scheduler.State
	Ports(allocation api.ID) []api.PortBinding
	Claims(allocation api.ID) []api.DeviceClaim
	NextVersion(job string) uint64
}

// draft is a State with something supposed drawn over it. It is a State itself; what is under it never changes.
type draft struct {
	State
	nodes   []*api.Node
	places  map[string]int // by node ID
	held    []api.Resources
	devices [][]int16 // by node; nil if the node has none
	jobs    map[string]*api.Job
	rows    map[string][]api.AllocationRow // of jobs that were drawn over: by task, slot, ID
	freed   map[nodePort]bool
}

type nodePort struct{ node, port int }

func newDraft(s State) *draft {
	d := &draft{State: s, places: map[string]int{}, jobs: map[string]*api.Job{}, rows: map[string][]api.AllocationRow{}, freed: map[nodePort]bool{}}
	for n, held := range s.Nodes() {
		d.places[n.ID] = len(d.nodes)
		d.nodes = append(d.nodes, n)
		d.held = append(d.held, held)
	}
	d.devices = make([][]int16, len(d.nodes))
	for node, held := range s.DevicesHeld() {
		d.devices[node] = slices.Clone(held)
	}
	return d
}

// rowsOf returns the job's rows, for reading and for writing.
func (d *draft) rowsOf(job string) []api.AllocationRow {
	rows, drawn := d.rows[job]
	if !drawn {
		rows = slices.Collect(d.State.JobRows(job))
		d.rows[job] = rows
	}
	return rows
}

// end has an instance be gone, stopped by a plan, and gives back what it held.
func (d *draft) end(row *api.AllocationRow, phase api.Phase) {
	if !row.Live() {
		return
	}
	row.Phase = phase
	node := row.NodeOrdinal
	if node < 0 {
		return
	}
	d.held[node] = d.held[node].Sub(row.Held)
	for _, p := range d.State.Ports(row.ID) {
		d.freed[nodePort{node, p.Host}] = true
	}
	claims := d.State.Claims(row.ID)
	place := 0
	for _, g := range d.nodes[node].Devices {
		for _, id := range g.IDs {
			for _, c := range claims {
				if c.ID == id && place < len(d.devices[node]) {
					d.devices[node][place] -= int16(c.Share)
				}
			}
			place++
		}
	}
}

// Job implements scheduler.State.
func (d *draft) Job(name string) *api.Job {
	if j, drawn := d.jobs[name]; drawn {
		return j
	}
	return d.State.Job(name)
}

// JobVersion implements scheduler.State.
func (d *draft) JobVersion(name string, version uint64) *api.Job {
	if j := d.jobs[name]; j != nil && j.Version == version {
		return j
	}
	return d.State.JobVersion(name, version)
}

// Nodes implements scheduler.State.
func (d *draft) Nodes() iter.Seq2[*api.Node, api.Resources] {
	return func(yield func(*api.Node, api.Resources) bool) {
		for i, n := range d.nodes {
			if !yield(n, d.held[i]) {
				return
			}
		}
	}
}

// DevicesHeld implements scheduler.State.
func (d *draft) DevicesHeld() iter.Seq2[int, []int16] {
	return func(yield func(int, []int16) bool) {
		for i, held := range d.devices {
			if len(held) > 0 && !yield(i, held) {
				return
			}
		}
	}
}

// JobRows implements scheduler.State.
func (d *draft) JobRows(job string) iter.Seq[api.AllocationRow] {
	if rows, drawn := d.rows[job]; drawn {
		return slices.Values(rows)
	}
	return d.State.JobRows(job)
}

// Completed implements scheduler.State. What completed stays so in a version whose instances are the same.
func (d *draft) Completed(job, task string, version uint64, slot uint32) bool {
	drawn := d.jobs[job]
	if drawn == nil || drawn.Version != version {
		return d.State.Completed(job, task, version, slot)
	}
	old := d.State.Job(job)
	if old == nil || old.Stopped {
		return false
	}
	a, b := old.Task(task), drawn.Task(task)
	return a != nil && b != nil && api.SameInstance(a, b) && d.State.Completed(job, task, old.Version, slot)
}

// PortHeld implements scheduler.State.
func (d *draft) PortHeld(node, port int) bool {
	return !d.freed[nodePort{node, port}] && d.State.PortHeld(node, port)
}

// evaluations are a reason to look at each of the jobs, in the order in which the leader would: by priority, then as they
// come.
func (d *draft) evaluations(names []string) []*api.Evaluation {
	var out []*api.Evaluation
	for i, name := range names {
		e := &api.Evaluation{ID: api.ID(i + 1), Job: name, Status: api.EvalPending}
		if j := d.Job(name); j != nil {
			e.Priority = j.Priority
		}
		out = append(out, e)
	}
	return out
}

// spread counts the placements of a task by node, most first.
func (d *draft) spread(placements []api.Placement, task string) []api.NodeCount {
	counts := map[string]int{}
	var out []api.NodeCount
	for i := range placements {
		if placements[i].Task == task {
			counts[placements[i].Node]++
		}
	}
	for _, n := range d.nodes {
		if c := counts[n.ID]; c > 0 {
			out = append(out, api.NodeCount{Node: n.Name, Count: c})
		}
	}
	slices.SortStableFunc(out, func(a, b api.NodeCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Node, b.Node))
	})
	return out
}
