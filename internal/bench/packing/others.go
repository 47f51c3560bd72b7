package packing

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// algorithm decides where tasks go. Whoever asks does the book-keeping in the cluster: place is asked with the cluster as
// it is before, and a task that is placed is on its machine from then on, until remove.
type algorithm interface {
	// place chooses for the arrival with this number; ok is false when the task is refused.
	place(arrival int, t *Task) (s spot, ok bool)
	// remove says that the arrival's task has ended.
	remove(arrival int)
}

// ranked chooses the machine with the highest score among all that can take the task, by chance among equals.
type ranked struct {
	cluster *cluster
	chance  *rand.Rand
	score   func(machine int, t *Task) float64
}

func (a *ranked) place(_ int, t *Task) (spot, bool) {
	best, most, equals := -1, 0.0, 0
	for i := range a.cluster.rooms {
		if !a.cluster.fits(i, t) {
			continue
		}
		switch s := a.score(i, t); {
		case best < 0 || s > most:
			best, most, equals = i, s, 1
		case s == most:
			if equals++; a.chance.IntN(equals) == 0 {
				best = i
			}
		}
	}
	if best < 0 {
		return spot{}, false
	}
	return spot{best, a.cluster.rooms[best].tightest(t)}, true
}

func (a *ranked) remove(int) {}

// parts are what would be in use of a machine with the task on it, from 0 to 1; asked is false for GPUs if the machine
// has none or the task asks for none.
func (c *cluster) parts(machine int, t *Task) (cpu, memory, gpu float64, asked bool) {
	m, r := &c.machines[machine], &c.rooms[machine]
	cpu = part(m.CPU-r.cpu+t.CPU, m.CPU)
	memory = part(m.Memory-r.memory+t.Memory, m.Memory)
	if m.GPUs == 0 || t.GPUs == 0 {
		return cpu, memory, 0, false
	}
	all := int64(m.GPUs) * whole
	return cpu, memory, part(all-r.sum+t.gpu(), all), true
}

func part(used, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(used) / float64(of)
}

// Weights of CPU, memory and an extended resource in Kubernetes' NodeResourcesFit: CPU and memory count 1, and its
// documentation gives the extended resource 3 where nodes are to be filled.
const weightOfGPU = 3

// mostAllocated is Kubernetes' NodeResourcesFit with MostAllocated: the fullest machine. A resource that the task does
// not ask for is left out, as Kubernetes does with extended ones.
func (c *cluster) mostAllocated(machine int, t *Task) float64 {
	cpu, memory, gpu, asked := c.parts(machine, t)
	if !asked {
		return (cpu + memory) / 2
	}
	return (cpu + memory + weightOfGPU*gpu) / (2 + weightOfGPU)
}

// leastAllocated is Kubernetes' default, LeastAllocated: the emptiest.
func (c *cluster) leastAllocated(machine int, t *Task) float64 { return -c.mostAllocated(machine, t) }

// dotProduct is Tetris as the FGD paper runs it: the machine whose room, seen as a vector of parts of the machine, has
// the smallest product with what the task asks for.
func (c *cluster) dotProduct(machine int, t *Task) float64 {
	m, r := &c.machines[machine], &c.rooms[machine]
	all := int64(m.GPUs) * whole
	return -(part(r.cpu, m.CPU)*part(t.CPU, m.CPU) + part(r.memory, m.Memory)*part(t.Memory, m.Memory) + part(r.sum, all)*part(t.gpu(), all))
}

// swarm spreads as Docker Swarm does: the machine with the fewest instances. All tasks of a trace are of different
// services, so that only the sum decides.
type swarm struct {
	ranked
	instances []int
	on        map[int]int // arrival -> machine
}

func newSwarm(c *cluster, chance *rand.Rand) *swarm {
	s := &swarm{instances: make([]int, len(c.rooms)), on: map[int]int{}}
	s.ranked = ranked{c, chance, func(machine int, _ *Task) float64 { return -float64(s.instances[machine]) }}
	return s
}

func (s *swarm) place(arrival int, t *Task) (spot, bool) {
	to, ok := s.ranked.place(arrival, t)
	if ok {
		s.instances[to.machine]++
		s.on[arrival] = to.machine
	}
	return to, ok
}

func (s *swarm) remove(arrival int) {
	s.instances[s.on[arrival]]--
	delete(s.on, arrival)
}

// nomad looks at the machines in an order shuffled anew for every task, and takes the best of the first few that can
// take it: log2 of the number of machines, at least two. Up to three whose score is not above zero are put aside, and
// come back if there are not enough others. The score is Google's best fit v3 over CPU and memory; devices have a part in
// whether a machine can take the task only.
type nomad struct {
	cluster *cluster
	chance  *rand.Rand
	order   []int
}

func newNomad(c *cluster, chance *rand.Rand) *nomad {
	n := &nomad{c, chance, make([]int, len(c.rooms))}
	for i := range n.order {
		n.order[i] = i
	}
	return n
}

func (n *nomad) remove(int) {}

func (n *nomad) place(_ int, t *Task) (spot, bool) {
	const aside = 3
	n.chance.Shuffle(len(n.order), func(i, j int) { n.order[i], n.order[j] = n.order[j], n.order[i] })
	limit := max(2, bits.Len(uint(len(n.order)-1))) // log2, rounded up
	best, most, seen, skipped := -1, 0.0, 0, 0
	consider := func(machine int, s float64) {
		if best < 0 || s > most {
			best, most = machine, s
		}
	}
	var low [aside]int
	for _, machine := range n.order {
		if seen == limit {
			break
		}
		if !n.cluster.fits(machine, t) {
			continue
		}
		s := n.score(machine, t)
		if s <= 0 && skipped < aside {
			low[skipped] = machine
			skipped++
			continue
		}
		seen++
		consider(machine, s)
	}
	for _, machine := range low[:min(skipped, limit-seen)] {
		consider(machine, n.score(machine, t))
	}
	if best < 0 {
		return spot{}, false
	}
	return spot{best, n.cluster.rooms[best].tightest(t)}, true
}

func (n *nomad) score(machine int, t *Task) float64 {
	cpu, memory, _, _ := n.cluster.parts(machine, t)
	return min(max(20-math.Pow(10, 1-cpu)-math.Pow(10, 1-memory), 0), 18) / 18
}
