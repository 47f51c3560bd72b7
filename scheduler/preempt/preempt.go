// Package preempt chooses which instances give way to a more important job. It is a pure function of the nodes' instances.
package preempt

import (
	"cmp"
	"iter"
	"slices"

	"cube/api"
)

// Gap is by how much a job's priority must be higher for another's instances to give way to it: neighbours in importance do
// not chase each other.
const Gap = 10

// Instance is what runs on a node.
type Instance struct {
	ID       api.ID
	Job      string
	Name     string // as people call it
	Priority int    // of its job
	Held     api.Resources
	Stopping bool // it is on its way out already, and gives its room in any case
}

// Rooms remember, for one plan, what was taken and promised on nodes. A Rooms is for one goroutine.
type Rooms struct {
	load  func(node int) (free api.Resources, instances []Instance)
	rooms map[int]*room
}

// room is one node as it will be when all that was told to stop has stopped.
type room struct {
	free      api.Resources // what was promised is taken off
	instances []Instance    // which may give way: the least important first, of these the largest
}

// NewRooms returns the nodes as load describes them: what is free, and all that is alive there.
func NewRooms(load func(node int) (free api.Resources, instances []Instance)) *Rooms {
	return &Rooms{load: load, rooms: map[int]*room{}}
}

func (r *Rooms) of(node int) *room {
	if known := r.rooms[node]; known != nil {
		return known
	}
	free, instances := r.load(node)
	out := &room{free: free}
	for _, i := range instances {
		if i.Stopping {
			out.free = out.free.Add(i.Held)
			continue
		}
		out.instances = append(out.instances, i)
	}
	slices.SortFunc(out.instances, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Held.Memory, a.Held.Memory), cmp.Compare(b.Held.CPU, a.Held.CPU), cmp.Compare(b.ID, a.ID))
	})
	r.rooms[node] = out
	return out
}

// Promise finds the node on which room for an instance comes at the least price, and promises the room to it: the most
// important instance that gives way is as unimportant as can be, then the fewest give way, then the first node counts. What gives way is
// returned; none does where room comes by itself, since something is stopping. ok is false if no node of nodes can do it.
func (r *Rooms) Promise(ask api.Resources, priority int, nodes iter.Seq[int]) (node int, stops []Instance, ok bool) {
	for n := range nodes {
		chosen, fits := r.of(n).choose(ask, priority)
		if fits && (!ok || cheaper(chosen, stops)) {
			node, stops, ok = n, chosen, true
		}
	}
	if !ok {
		return 0, nil, false
	}
	on := r.of(node)
	for _, s := range stops {
		on.free = on.free.Add(s.Held)
		on.instances = slices.DeleteFunc(on.instances, func(i Instance) bool { return i.ID == s.ID })
	}
	on.free = on.free.Sub(ask)
	return node, stops, true
}

// Take notes that an instance is placed on a node: what it holds is there for nobody else.
func (r *Rooms) Take(node int, held api.Resources) {
	if known := r.rooms[node]; known != nil {
		known.free = known.free.Sub(held)
	}
}

// cheaper compares what gives way on two nodes, the most important first.
func cheaper(a, b []Instance) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) < len(b)
	}
	return cmp.Or(cmp.Compare(a[0].Priority, b[0].Priority), cmp.Compare(len(a), len(b))) < 0
}

// choose takes instances from the least important on until there is room, and then spares each that is not needed after
// all, from the most important on. The result begins with the most important.
func (r *room) choose(ask api.Resources, priority int) (chosen []Instance, ok bool) {
	free := r.free
	for _, i := range r.instances {
		if ask.Fits(free) || i.Priority > priority-Gap {
			break
		}
		free = free.Add(i.Held)
		chosen = append(chosen, i)
	}
	if !ask.Fits(free) {
		return nil, false
	}
	slices.Reverse(chosen)
	return slices.DeleteFunc(chosen, func(i Instance) bool {
		without := free.Sub(i.Held)
		if !ask.Fits(without) {
			return false
		}
		free = without
		return true
	}), true
}
