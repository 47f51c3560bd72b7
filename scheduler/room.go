package scheduler

import (
	"cmp"
	"slices"

	"cube/api"
)

// Room tells, without placing anything, whether instances would surely find a place. It is made of one state and looks at
// it as Schedule does; it is not safe for concurrent use.
type Room struct {
	view     *view
	roomiest []int32 // the nodes, those with the largest free part first
	tasks    map[*api.Task]*room
	ports    []int16 // 1 + the dynamic ports left, up to manyPorts; 0: not counted yet
}

// manyPorts is how many free ports of a node are counted: more than what runs on one machine asks for.
const manyPorts = 256

// room is what is known of one task.
type room struct {
	request *request
	nodes   bitmap // that can take one more instance, dynamic ports apart
	devices bool
	static  bool // ports
}

// Want is instances of one task that are to be placed: Count that must have a place, and Others that may take one.
type Want struct {
	Job           *api.Job
	Task          *api.Task // of the job
	Count, Others int
}

// NewRoom looks at all nodes once.
func NewRoom(s State) *Room {
	b := &batch{view: newView(s, Options{})}
	for e := range s.Promised() { // whoever is less important has to do without that
		b.keep(e.Promises)
	}
	r := &Room{view: b.view, tasks: map[*api.Task]*room{}}
	free := make([]float64, len(r.view.nodes))
	for i := range r.view.nodes {
		r.roomiest = append(r.roomiest, int32(i))
		free[i] = 1 - max(r.view.cpu[i], r.view.memory[i])
	}
	slices.SortStableFunc(r.roomiest, func(a, b int32) int { return cmp.Compare(free[b], free[a]) })
	return r
}

// Suffices reports that whoever places the instances, in whatever order and on whichever nodes that can take them, places all,
// though the node with the ordinal takes none. false says that this is not certain, not that it is not so.
//
// The argument: let the last instance of a task find no place. Then each node that could take one when all began has been
// given so much of some resource that this one does not fit any more. How much that is at least is known of every node; what
// all the others hold together is known, too. Counted in parts of that, those who fill nodes have one whole to spend of each
// resource: once the nodes' shares add up to more, somebody is missing to fill them. What fills a node otherwise (another
// instance of the task where hosts are to be distinct, a port, a device) fills one node each: as many nodes, the roomiest, are
// given up beforehand.
func (r *Room) Suffices(wants []Want, without int) bool {
	var load api.Resources
	instances, bound, served := 0, 0, 0 // in all, with ports, with devices
	ports := 0
	for i := range wants {
		w, n := &wants[i], wants[i].Count+wants[i].Others
		ask := w.Task.Resources
		load = load.Add(api.Resources{CPU: int64(n) * ask.CPU, Memory: int64(n) * ask.Memory, Disk: int64(n) * ask.Disk})
		instances += n
		ports += n * len(w.Task.Ports)
		if len(w.Task.Ports) > 0 {
			bound += n
		}
		if len(w.Task.Devices) > 0 {
			served += n
		}
	}
	for i := range wants {
		w := &wants[i]
		if w.Count == 0 {
			continue
		}
		t := r.task(w)
		others := 0 // that may fill a node by other things than amounts
		if t.request.distinct {
			others += w.Count + w.Others - 1
		}
		if t.static {
			others += bound - 1
		}
		if t.devices {
			others += served - 1
		}
		if !r.holds(t, load, min(others, instances-1), ports, without) {
			return false
		}
	}
	return true
}

// holds reports whether the nodes cannot all be filled by the load less one instance of the task, and so many nodes more.
func (r *Room) holds(t *room, load api.Resources, others, ports, without int) bool {
	ask := t.request.task.Resources
	rest := load.Sub(ask)
	kinds := 0.0
	for _, amount := range [3]int64{rest.CPU, rest.Memory, rest.Disk} {
		if amount > 0 {
			kinds++
		}
	}
	// No node counts for more than it takes to decide, so that giving one up costs no more than that either.
	most := kinds + 1
	enough := kinds + float64(others)*most
	sum := 0.0
	for _, n := range r.roomiest {
		node := int(n)
		if node == without || !t.nodes.has(node) || !r.portsLeft(t, node, ports) {
			continue
		}
		sum += min(most, fillable(r.view.free[node].Sub(ask), rest, most))
		if sum > enough {
			return true
		}
	}
	return false
}

// fillable is the least part of the load that has to go to a node to leave it with less than it needs: it has more left than
// that by over.
func fillable(over, load api.Resources, most float64) float64 {
	part := most
	for _, of := range [3][2]int64{{over.CPU, load.CPU}, {over.Memory, load.Memory}, {over.Disk, load.Disk}} {
		if of[1] > 0 && of[0] < of[1] { // else there is not enough of it to fill the node
			part = min(part, float64(of[0]+1)/float64(of[1]))
		}
	}
	return part
}

// portsLeft reports whether a node surely has dynamic ports for all there is to place, wherever it goes.
func (r *Room) portsLeft(t *room, node, ports int) bool {
	if t.request.dynamic == 0 {
		return true
	}
	if r.ports == nil {
		r.ports = make([]int16, len(r.view.nodes))
	}
	if r.ports[node] == 0 {
		r.ports[node] = int16(1 + r.view.freeDynamicPorts(node, nil, manyPorts))
	}
	return int(r.ports[node])-1 >= ports
}

func (r *Room) task(w *Want) *room {
	if t := r.tasks[w.Task]; t != nil {
		return t
	}
	q := newRequest(r.view, w.Job, w.Task)
	t := &room{request: q, nodes: newBitmap(len(r.view.nodes)), devices: len(w.Task.Devices) > 0,
		static: slices.ContainsFunc(w.Task.Ports, func(p api.Port) bool { return p.Static != 0 })}
	if q.distinct {
		var rows []api.AllocationRow
		for row := range r.view.state.JobRows(w.Job.Name) {
			rows = append(rows, row)
		}
		q.count(rows, nil)
	}
	q.open.each(func(node int) { t.nodes.put(node, q.fits(node)) })
	r.tasks[w.Task] = t
	return t
}
