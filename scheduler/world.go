package scheduler

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"cube/api"
)

// World is a State made of plain data, for tests and simulations: put things in, schedule, Apply the plan, Report what
// the nodes make of it. The zero value is an empty world. It takes what it is given and checks nothing that the real
// state checks. It is not safe for concurrent use; what it yields must not be changed.
type World struct {
	index   uint64
	lastID  api.ID
	nodes   []*api.Node                    // by ID
	jobs    map[string][]*api.Job          // versions, the one in force last
	rows    map[string][]api.AllocationRow // by job; in each by task, slot, ID
	jobOf   map[api.ID]string
	grants  map[api.ID]grant
	held    map[string]api.Resources // by node
	devices map[worldDevice]int16    // what is held of each
	shares  map[string][]int16       // the same by node, in the order of its devices, until something changes there
	ports   map[worldPort]bool
	blocked map[worldPort]bool
	done    map[worldSlot]bool
	owed    map[string]*api.Evaluation // by job
	rolling map[string]*api.Deployment // by job
	now     int64                      // Unix nanoseconds
	pasts   map[api.ID]api.Past        // without the nodes that failed
	moves   *api.Rebalance
	started map[api.ID]int64 // Unix milliseconds
}

type worldPort struct {
	node string
	port int
}

type worldDevice struct{ node, id string }

type worldSlot struct {
	job, task string
	version   uint64
	slot      uint32
}

var _ Cluster = (*World)(nil)

// set makes writing to a map that may not exist yet one line.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// PutNode adds a node, or replaces the one with its ID.
func (w *World) PutNode(n *api.Node) {
	w.index++
	delete(w.shares, n.ID)
	i, found := w.place(n.ID)
	if found {
		w.nodes[i] = n
		return
	}
	w.nodes = slices.Insert(w.nodes, i, n)
}

// RemoveNode forgets a node. What ran on it stays in the rows.
func (w *World) RemoveNode(id string) {
	if i, found := w.place(id); found {
		w.index++
		w.nodes = slices.Delete(w.nodes, i, i+1)
	}
}

func (w *World) place(id string) (int, bool) {
	return slices.BinarySearchFunc(w.nodes, id, func(n *api.Node, id string) int { return cmp.Compare(n.ID, id) })
}

// PutJob puts a version of a job in force. A version with the same number is replaced.
func (w *World) PutJob(j *api.Job) {
	w.index++
	versions := slices.DeleteFunc(slices.Clone(w.jobs[j.Name]), func(o *api.Job) bool { return o.Version == j.Version })
	set(&w.jobs, j.Name, append(versions, j))
}

// RemoveJob forgets a job and its versions. Its allocations stay.
func (w *World) RemoveJob(name string) {
	w.index++
	delete(w.jobs, name)
}

// PutAllocation adds an allocation with the ports and devices it holds, or replaces the one with its ID. Without an ID it
// gets the next one, which is returned.
func (w *World) PutAllocation(row api.AllocationRow, ports []api.PortBinding, devices ...api.DeviceClaim) api.ID {
	return w.put(row, grant{ports, devices})
}

func (w *World) put(row api.AllocationRow, g grant) api.ID {
	w.index++
	if row.ID == 0 {
		row.ID = w.lastID + 1
		row.CreateIndex = w.index
		row.CreatedAt = cmp.Or(row.CreatedAt, w.now)
	}
	row.ModifyIndex = w.index
	w.lastID = max(w.lastID, row.ID)
	if old, _, ok := w.Allocation(row.ID); ok {
		w.hold(&old, -1, false)
		rows := w.rows[old.Job]
		w.rows[old.Job] = slices.DeleteFunc(rows, func(r api.AllocationRow) bool { return r.ID == old.ID })
	}
	rows := w.rows[row.Job]
	i, _ := slices.BinarySearchFunc(rows, row, func(a, b api.AllocationRow) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	set(&w.rows, row.Job, slices.Insert(rows, i, row))
	set(&w.jobOf, row.ID, row.Job)
	w.remember(&row)
	set(&w.grants, row.ID, g)
	w.hold(&row, 1, true)
	return row.ID
}

// Pass lets time pass.
func (w *World) Pass(d time.Duration) { w.now += int64(d) }

// Now is the time in Unix nanoseconds: what has been passed.
func (w *World) Now() int64 { return w.now }

// remember notes when an allocation was placed and when it ended.
func (w *World) remember(row *api.AllocationRow) {
	if row.Phase == api.PhaseRunning && w.started[row.ID] == 0 {
		set(&w.started, row.ID, w.now/int64(time.Millisecond)+1)
	}
	past, known := w.pasts[row.ID]
	if !known {
		past.PlacedAt = w.now
	}
	if past.EndedAt == 0 && !row.Live() {
		past.EndedAt = w.now
	}
	set(&w.pasts, row.ID, past)
}

// Past implements State.
func (w *World) Past(id api.ID) api.Past {
	past := w.pasts[id]
	last, _, _ := w.Allocation(id)
	for _, row := range slices.Backward(w.rows[last.Job]) {
		if row.Task == last.Task && row.Slot == last.Slot && row.Version == last.Version && row.Desired == api.DesiredRun && failedForGood(&row) && !slices.Contains(past.Failed, row.Node) {
			past.Failed = append(past.Failed, row.Node)
		}
	}
	return past
}

// hold adds what a live allocation holds to its node and its devices, sign times, and marks its ports.
func (w *World) hold(row *api.AllocationRow, sign int64, ports bool) {
	if !row.Live() {
		return
	}
	h := row.Held
	set(&w.held, row.Node, w.held[row.Node].Add(api.Resources{CPU: sign * h.CPU, Memory: sign * h.Memory, Disk: sign * h.Disk}))
	g := w.grants[row.ID]
	for _, p := range g.ports {
		set(&w.ports, worldPort{row.Node, p.Host}, ports)
	}
	if len(g.devices) > 0 {
		delete(w.shares, row.Node)
	}
	for _, c := range g.devices {
		key := worldDevice{row.Node, c.ID}
		set(&w.devices, key, w.devices[key]+int16(sign)*int16(c.Share))
	}
}

// Allocation returns an allocation and the ports it was given.
func (w *World) Allocation(id api.ID) (row api.AllocationRow, ports []api.PortBinding, ok bool) {
	for _, r := range w.rows[w.jobOf[id]] {
		if r.ID == id {
			return r, w.grants[id].ports, true
		}
	}
	return api.AllocationRow{}, nil, false
}

// Claims returns the devices that an allocation was given.
func (w *World) Claims(id api.ID) []api.DeviceClaim { return w.grants[id].devices }

// Allocations yields every allocation of a job, ended or not, by task, slot, ID.
func (w *World) Allocations(job string) iter.Seq[api.AllocationRow] {
	return slices.Values(w.rows[job])
}

// Report is what a node says of an allocation; one that runs is healthy, unless SetHealth says otherwise. A batch instance that is complete without having been told to stop has
// completed its slot.
func (w *World) Report(id api.ID, phase api.Phase, failure api.Failure) {
	row, _, ok := w.Allocation(id)
	if !ok || row.Phase.Terminal() {
		return
	}
	row.Phase, row.Health, row.Failure = phase, api.ImpliedHealth(phase), failure
	w.put(row, w.grants[id])
	if j := w.Job(row.Job); j != nil && j.Type.Completes() && phase == api.PhaseComplete && row.Desired == api.DesiredRun {
		set(&w.done, worldSlot{row.Job, row.Task, row.Version, row.Slot}, true)
	}
}

// StartedAt implements State.
func (w *World) StartedAt(id api.ID) int64 { return w.started[id] }

// stop has an allocation end; one whose node is down is lost.
func (w *World) stop(id api.ID) {
	w.change(id, func(row *api.AllocationRow) {
		row.Desired = api.DesiredStop
		if at, found := w.place(row.Node); found && w.nodes[at].Status == api.NodeDown && row.Live() {
			row.Phase, row.Health = api.PhaseLost, api.HealthUnknown
		}
	})
}

// SetHealth is what a node says of the health of an allocation that runs.
func (w *World) SetHealth(id api.ID, h api.HealthStatus) {
	w.change(id, func(row *api.AllocationRow) { row.Health = api.HealthOf(row.Phase, h) })
}

// Quarantine marks a host port as taken by something outside Cube.
func (w *World) Quarantine(node string, port int) {
	w.index++
	set(&w.blocked, worldPort{node, port}, true)
}

// Apply does all that a plan says.
func (w *World) Apply(p *api.Plan) {
	for i := range p.Jobs {
		j := &p.Jobs[i]
		for _, s := range j.Stops {
			w.stop(s.Allocation)
		}
		delete(w.owed, j.Job)
		if len(j.Promises) > 0 {
			set(&w.owed, j.Job, &api.Evaluation{ID: j.Evaluation, Job: j.Job, Priority: w.Job(j.Job).Priority, Promises: j.Promises})
		}
		for _, p := range j.Preemptions {
			w.stop(p.Allocation)
		}
		for _, id := range j.InPlace {
			w.change(id, func(row *api.AllocationRow) { row.Version = w.Job(j.Job).Version })
		}
		for _, p := range j.Placements {
			id := w.put(api.AllocationRow{Job: j.Job, Task: p.Task, Slot: p.Slot, Version: p.Version, Node: p.Node,
				Replaces: p.Replaces, Evaluation: j.Evaluation, Held: p.Held, CreatedAt: w.now}, grant{p.Ports, p.Devices})
			past := w.pasts[id]
			past.Trial = p.Trial
			set(&w.pasts, id, past)
		}
	}
}

func (w *World) change(id api.ID, f func(*api.AllocationRow)) {
	if row, _, ok := w.Allocation(id); ok {
		f(&row)
		w.put(row, w.grants[id])
	}
}

// Index implements State: every change raises it.
func (w *World) Index() uint64 { return w.index }

// Job implements State.
func (w *World) Job(name string) *api.Job {
	if versions := w.jobs[name]; len(versions) > 0 {
		return versions[len(versions)-1]
	}
	return nil
}

// Jobs implements Cluster.
func (w *World) Jobs() iter.Seq[*api.Job] {
	return func(yield func(*api.Job) bool) {
		for _, name := range slices.Sorted(maps.Keys(w.jobs)) {
			if !yield(w.Job(name)) {
				return
			}
		}
	}
}

// JobVersion implements State.
func (w *World) JobVersion(name string, version uint64) *api.Job {
	for _, j := range w.jobs[name] {
		if j.Version == version {
			return j
		}
	}
	return nil
}

// Nodes implements State.
func (w *World) Nodes() iter.Seq2[*api.Node, api.Resources] {
	return func(yield func(*api.Node, api.Resources) bool) {
		for _, n := range w.nodes {
			if !yield(n, w.held[n.ID]) {
				return
			}
		}
	}
}

// DevicesHeld implements State.
func (w *World) DevicesHeld() iter.Seq2[int, []int16] {
	return func(yield func(int, []int16) bool) {
		for i, n := range w.nodes {
			if len(n.Devices) == 0 {
				continue
			}
			shares, known := w.shares[n.ID]
			if !known {
				for _, g := range n.Devices {
					for _, id := range g.IDs {
						shares = append(shares, w.devices[worldDevice{n.ID, id}])
					}
				}
				set(&w.shares, n.ID, shares)
			}
			if len(shares) > 0 && !yield(i, shares) {
				return
			}
		}
	}
}

// VolumesHeld implements State.
func (w *World) VolumesHeld(node int) map[string]api.VolumeHold {
	held := map[string]api.VolumeHold{}
	for _, rows := range w.rows {
		for i := range rows {
			if rows[i].Node != w.nodes[node].ID || !rows[i].Live() {
				continue
			}
			if j := w.JobVersion(rows[i].Job, rows[i].Version); j != nil && j.Task(rows[i].Task) != nil {
				for _, v := range j.Task(rows[i].Task).Volumes {
					hold := held[v.Source]
					hold.Add(v.Access)
					held[v.Source] = hold
				}
			}
		}
	}
	return held
}

// JobRows implements State.
func (w *World) JobRows(job string) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		rows := w.rows[job]
		for i, row := range rows {
			newest := i+1 == len(rows) || rows[i+1].Task != row.Task || rows[i+1].Slot != row.Slot
			if !newest && !row.Live() {
				continue
			}
			row.NodeOrdinal = -1
			if at, found := w.place(row.Node); found {
				row.NodeOrdinal, row.Away = at, row.Live() && w.nodes[at].Away()
			}
			if !yield(row) {
				return
			}
		}
	}
}

// NodeRows implements State.
func (w *World) NodeRows(node string, since uint64) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		for _, job := range slices.Sorted(maps.Keys(w.rows)) {
			for _, row := range w.rows[job] {
				if row.Node == node && row.ModifyIndex > since && !yield(row) {
					return
				}
			}
		}
	}
}

// Promised implements State.
func (w *World) Promised() iter.Seq[*api.Evaluation] {
	return slices.Values(slices.SortedFunc(maps.Values(w.owed), func(a, b *api.Evaluation) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	}))
}

// PutRebalance sets the rebalance that is under way; nil is none.
func (w *World) PutRebalance(r *api.Rebalance) {
	w.index++
	w.moves = r
}

// Rebalancing implements State.
func (w *World) Rebalancing() *api.Rebalance { return w.moves }

// Completed implements State. What completed stays so through restarts; any other version begins anew.
func (w *World) Completed(job, task string, version uint64, slot uint32) bool {
	for ; !w.done[worldSlot{job, task, version, slot}]; version-- {
		if j := w.JobVersion(job, version); j == nil || !j.IsRestart() {
			return false
		}
	}
	return true
}

// PutDeployment sets the deployment of a job's version in force.
func (w *World) PutDeployment(d *api.Deployment) {
	w.index++
	set(&w.rolling, d.Job, d)
}

// Deployment implements State.
func (w *World) Deployment(job string) *api.Deployment {
	if d, j := w.rolling[job], w.Job(job); d != nil && j != nil && j.Version == d.Version {
		return d
	}
	return nil
}

// PortHeld implements State.
func (w *World) PortHeld(node int, port int) bool { return w.ports[worldPort{w.nodes[node].ID, port}] }

// Quarantined implements State.
func (w *World) Quarantined(node int, port int) bool {
	return w.blocked[worldPort{w.nodes[node].ID, port}]
}
