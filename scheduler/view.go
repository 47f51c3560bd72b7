package scheduler

import (
	"cmp"
	"math/bits"
	"slices"

	"cube/api"
)

// view is the nodes as one batch sees them: a column for each thing that is read for every node, by ordinal, so that a
// pass over 5,000 nodes reads a few hundred kilobytes in order. It is made once a batch; what the plan gives away is
// taken off at once, so that later evaluations see it.
type view struct {
	state State
	base  uint64
	nodes []*api.Node
	hash  []uint64 // of the node's ID: what makes jobs start at different nodes

	free        []api.Resources // what is left, this plan's placements taken off
	given       []api.Resources // what this plan gives away
	perCPU      []float64       // 1 / the node's CPU; 0 if it has none
	perMemory   []float64
	cpu, memory []float64         // parts reserved, 0 to 1
	taken       map[nodePort]bool // ports this plan gives away
	portCursor  []int32           // where the search for dynamic ports goes on; 0: not begun
	sets        map[string]bitmap // what static filters let pass
	counts      counts            // of the task being placed
	devices     *devices          // nil if no node has any
	scratch     []candidate       // room for a ranking
	lastRotated int               // the node roundrobin used last in this batch, -1 for none

	loadOf      func(nodeID string) (api.NodeLoad, bool)
	measured    *measured    // nil until an algorithm asks for it
	opportunity *opportunity // nil until epvm asks for it
}

type nodePort struct{ node, port int }

// counts are the instances that a task and its job have on each node.
type counts struct {
	task []int32 // live and to run
	job  []int32 // the same, over all tasks of the job
	live []int32 // of the task: live, even if told to stop
}

func newView(s State, o Options) *view {
	v := &view{state: s, base: s.Index(), lastRotated: -1, loadOf: o.Load, taken: map[nodePort]bool{}, sets: map[string]bitmap{}}
	any := false
	for n, held := range s.Nodes() {
		any = any || len(n.Devices) > 0
		v.nodes = append(v.nodes, n)
		v.free = append(v.free, n.Resources.Sub(held))
	}
	size := len(v.nodes)
	v.hash = make([]uint64, size)
	v.given = make([]api.Resources, size)
	v.scratch = make([]candidate, size)
	v.portCursor = make([]int32, size)
	floats := make([]float64, 4*size)
	v.perCPU, v.perMemory, v.cpu, v.memory = floats[:size], floats[size:2*size], floats[2*size:3*size], floats[3*size:]
	ints := make([]int32, 3*size)
	v.counts = counts{ints[:size], ints[size : 2*size], ints[2*size:]}
	for i, n := range v.nodes {
		v.hash[i] = hashString(n.ID)
		v.perCPU[i] = inverse(n.Resources.CPU)
		v.perMemory[i] = inverse(n.Resources.Memory)
		v.reckon(i)
	}
	if any {
		v.devices = newDevices(v.nodes, s.DevicesHeld())
	}
	return v
}

// reckon works out what follows from the node's free resources.
func (v *view) reckon(node int) {
	total, free := v.nodes[node].Resources, v.free[node]
	v.cpu[node] = float64(total.CPU-free.CPU) * v.perCPU[node]
	v.memory[node] = float64(total.Memory-free.Memory) * v.perMemory[node]
}

// grant is what an instance is given of a node besides its resources.
type grant struct {
	ports   []api.PortBinding
	devices []api.DeviceClaim
}

// give takes resources, ports and devices off a node.
func (v *view) give(node int, held api.Resources, g grant) {
	v.free[node] = v.free[node].Sub(held)
	v.given[node] = v.given[node].Add(held)
	for _, p := range g.ports {
		v.taken[nodePort{node, p.Host}] = true
	}
	if len(g.devices) > 0 {
		v.devices.take(node, v.nodes[node].Devices, g.devices)
	}
	v.reckon(node)
	if v.opportunity != nil {
		v.opportunity.reckon(v, node)
	}
	if v.devices != nil && v.devices.outlook != nil {
		v.devices.outlook.changed(node)
	}
}

// ordinal finds a node by ID. The state yields nodes in the order of their IDs.
func (v *view) ordinal(id string) int {
	i, _ := slices.BinarySearchFunc(v.nodes, id, func(n *api.Node, id string) int { return cmp.Compare(n.ID, id) })
	return i
}

// set returns the nodes that meet a condition which does not change within a batch, working it out at the first call
// with the key.
func (v *view) set(key string, test func(*api.Node) bool) bitmap {
	if b, ok := v.sets[key]; ok {
		return b
	}
	b := newBitmap(len(v.nodes))
	for i, n := range v.nodes {
		if test(n) {
			b.add(i)
		}
	}
	v.sets[key] = b
	return b
}

func inverse(total int64) float64 {
	if total <= 0 {
		return 0
	}
	return 1 / float64(total)
}

// bitmap is a set of nodes.
type bitmap []uint64

func newBitmap(size int) bitmap { return make(bitmap, (size+63)/64) }
func (b bitmap) add(i int)      { b[i>>6] |= 1 << (i & 63) }
func (b bitmap) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitmap) intersect(other bitmap) {
	for i := range b {
		b[i] &= other[i]
	}
}

// each calls f with every member, in order.
func (b bitmap) each(f func(i int)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			f(w<<6 + bits.TrailingZeros64(word))
		}
	}
}

// hashString is FNV-1a (Fowler, Noll, Vo), finished by mix64: the same on every machine and in every version of Go.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix64(h)
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
func mix64(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
