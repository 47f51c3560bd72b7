// Package whatif asks the scheduler what would happen: it draws something supposed over the state of the cluster, has the
// real scheduler plan on that, and says what the plans come to. It is pure: nothing is written, and equal arguments give
// equal answers.
package whatif

import (
	"cmp"
	"iter"
	"maps"
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
	// Rows yields every allocation.
	Rows() iter.Seq[api.AllocationRow]
	// Waiting returns the evaluations with an open status, at most limit: by priority, then by ID.
	Waiting(status api.EvaluationStatus, limit int) []*api.Evaluation
}

// draft is a State with something supposed drawn over it. It is a State itself; what is under it never changes, and nothing
// of it is copied but what is counted for each node.
type draft struct {
	State
	nodes   []*api.Node
	held    []api.Resources
	devices [][]int16 // by node; nil if the node has none
	jobs    map[string]*api.Job
	rows    map[api.ID]api.AllocationRow // that are not what they were
	freed   map[nodePort]bool
	roomier bool // some node that takes instances has more room than it had
}

type nodePort struct{ node, port int }

func newDraft(s State) *draft {
	d := &draft{State: s, jobs: map[string]*api.Job{}, rows: map[api.ID]api.AllocationRow{}, freed: map[nodePort]bool{}}
	for n, held := range s.Nodes() {
		d.nodes = append(d.nodes, n)
		d.held = append(d.held, held)
	}
	d.devices = make([][]int16, len(d.nodes))
	for node, held := range s.DevicesHeld() {
		d.devices[node] = slices.Clone(held)
	}
	return d
}

// fork returns a draft of the same state, with nothing drawn over it.
func (d *draft) fork() *draft {
	return &draft{State: d.State, nodes: slices.Clone(d.nodes), held: slices.Clone(d.held), devices: slices.Clone(d.devices),
		jobs: map[string]*api.Job{}, rows: map[api.ID]api.AllocationRow{}, freed: map[nodePort]bool{}}
}

// ordinal finds a node by its ID, which is what they are sorted by.
func (d *draft) ordinal(id string) (int, bool) {
	return slices.BinarySearchFunc(d.nodes, id, func(n *api.Node, id string) int { return cmp.Compare(n.ID, id) })
}

// end has an instance be gone and gives back what it held.
func (d *draft) end(row api.AllocationRow, phase api.Phase) {
	row.Phase = phase
	d.rows[row.ID] = row
	node := row.NodeOrdinal
	if node < 0 {
		return
	}
	d.roomier = d.roomier || d.nodes[node].Ready()
	d.held[node] = d.held[node].Sub(row.Held)
	for _, p := range d.State.Ports(row.ID) {
		d.freed[nodePort{node, p.Host}] = true
	}
	claims := d.State.Claims(row.ID)
	if len(claims) == 0 {
		return
	}
	d.devices[node] = slices.Clone(d.devices[node]) // which forks share
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

// VolumesHeld implements scheduler.State.
func (d *draft) VolumesHeld(node int) map[string]api.VolumeHold {
	held := map[string]api.VolumeHold{}
	for row := range d.NodeRows(d.nodes[node].ID, 0) {
		if j := d.JobVersion(row.Job, row.Version); row.Live() && j != nil && j.Task(row.Task) != nil {
			for _, v := range j.Task(row.Task).Volumes {
				hold := held[v.Source]
				hold.Add(v.Access)
				held[v.Source] = hold
			}
		}
	}
	return held
}

// JobRows implements scheduler.State.
func (d *draft) JobRows(job string) iter.Seq[api.AllocationRow] {
	return d.drawn(d.State.JobRows(job))
}

// NodeRows implements State. Rows that have ended in the draft are yielded as such.
func (d *draft) NodeRows(node string, since uint64) iter.Seq[api.AllocationRow] {
	return d.drawn(d.State.NodeRows(node, since))
}

func (d *draft) drawn(under iter.Seq[api.AllocationRow]) iter.Seq[api.AllocationRow] {
	if len(d.rows) == 0 {
		return under
	}
	return func(yield func(api.AllocationRow) bool) {
		for row := range under {
			if other, is := d.rows[row.ID]; is {
				row = other
			}
			if !yield(row) {
				return
			}
		}
	}
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
	return a != nil && b != nil && api.SameLine(a, b) && d.State.Completed(job, task, old.Version, slot)
}

// Deployment implements scheduler.State. That of a version that is only supposed would have just begun.
func (d *draft) Deployment(job string) *api.Deployment {
	if _, drawn := d.jobs[job]; drawn {
		return nil
	}
	return d.State.Deployment(job)
}

// Rebalancing implements scheduler.State. What would happen does not hang on what is just being moved.
func (d *draft) Rebalancing() *api.Rebalance { return nil }

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
	counts := map[int]int{}
	for i := range placements {
		if node, ok := d.ordinal(placements[i].Node); ok && placements[i].Task == task {
			counts[node]++
		}
	}
	return d.counted(counts)
}

// counted lists counts by node, most first.
func (d *draft) counted(counts map[int]int) []api.NodeCount {
	var out []api.NodeCount
	for _, node := range slices.Sorted(maps.Keys(counts)) { // names may be shared, places are not
		out = append(out, api.NodeCount{Node: d.nodes[node].Name, Count: counts[node]})
	}
	slices.SortStableFunc(out, func(a, b api.NodeCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Node, b.Node))
	})
	return out
}
