package packing

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// fgd is fragmentation gradient descent (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
// Fragmentation Gradient Descent", USENIX ATC 2023): a task goes to the machine, and there to the GPU, where the expected
// fragmentation grows least. Fragmentation of a machine is the sum over its GPUs of what is left of them and cannot be
// given to a task, in expectation over the tasks of the workload: all of it if the machine cannot take the task or the
// task asks for no GPU, else that of the GPUs that have less left than the task's share.
//
// It is told the whole workload in advance, as in the paper. Sums are exact where the paper's program rounds to a hundred
// steps; memory counts besides CPU. Of machines that are equal the fullest is taken, or any if it is given chance, as the paper's
// program does: each of the two is better on some traces.
type fgd struct {
	cluster *cluster
	chance  *rand.Rand // nil: the fullest
	demands []demand
	known   [][]gradient // by kind of task, then machine
	before  []gradient   // by machine: the fragmentation as it is
	scratch room
}

// demand is the tasks that ask for the same GPUs, by CPU.
type demand struct {
	gpus   Task // CPU and Memory are not set
	likely []likely
}

type likely struct {
	cpu, memory int64
	part        float64 // of the workload
}

// gradient is what a kind of task would do to a machine; it holds as long as nothing changes there.
type gradient struct {
	when  int32 // room.changes when it was found, plus one
	fits  bool
	score float64
	full  float64
	gpus  uint64
}

func newFGD(c *cluster, t *Trace, ties *rand.Rand) *fgd {
	return &fgd{cluster: c, chance: ties, demands: demands(t.Tasks), known: make([][]gradient, t.kinds), before: make([]gradient, len(c.rooms))}
}

// demands is the distribution of tasks, as FGD wants it. Tasks without GPUs are left out: all that is left is fragmented
// for them, on any machine.
func demands(tasks []Task) []demand {
	type gpus struct {
		count, share int
		models       uint64
	}
	type asks struct {
		gpus
		cpu, memory int64
	}
	counts := map[asks]int{}
	for i := range tasks {
		if t := &tasks[i]; t.GPUs > 0 {
			counts[asks{gpus{t.GPUs, t.Share, t.models}, t.CPU, t.Memory}]++
		}
	}
	by := map[gpus][]likely{}
	for a, n := range counts {
		by[a.gpus] = append(by[a.gpus], likely{a.cpu, a.memory, float64(n) / float64(len(tasks))})
	}
	var all []demand
	for g, l := range by {
		slices.SortFunc(l, func(a, b likely) int { return cmp.Or(cmp.Compare(a.cpu, b.cpu), cmp.Compare(a.memory, b.memory)) })
		all = append(all, demand{Task{GPUs: g.count, Share: g.share, models: g.models}, l})
	}
	slices.SortFunc(all, func(a, b demand) int {
		return cmp.Or(cmp.Compare(a.gpus.GPUs, b.gpus.GPUs), cmp.Compare(a.gpus.Share, b.gpus.Share), cmp.Compare(a.gpus.models, b.gpus.models))
	})
	return all
}

// fragmentation is F of a machine with this room: what is left less what tasks can use of it, in expectation.
func (f *fgd) fragmentation(model uint64, r *room) float64 {
	left := float64(r.sum)
	if r.sum == 0 {
		return 0
	}
	for i := range f.demands {
		d := &f.demands[i]
		if model&d.gpus.models == 0 {
			continue
		}
		usable, fitting := 0, 0
		for _, g := range r.gpus {
			if g >= int16(d.gpus.Share) {
				usable += int(g)
				fitting++
			}
		}
		if fitting < d.gpus.GPUs {
			continue
		}
		for _, l := range d.likely {
			if l.cpu > r.cpu {
				break
			}
			if l.memory <= r.memory {
				left -= l.part * float64(usable)
			}
		}
	}
	return left
}

func (f *fgd) place(_ int, t *Task) (spot, bool) {
	if f.known[t.kind] == nil {
		f.known[t.kind] = make([]gradient, len(f.cluster.rooms))
	}
	known, best, equals := f.known[t.kind], -1, 0
	for i := range known {
		g := &known[i]
		if g.when != f.cluster.rooms[i].changes+1 {
			*g = f.descend(i, t)
		}
		switch {
		case !g.fits:
		case best < 0 || g.score > known[best].score:
			best, equals = i, 1
		case g.score < known[best].score:
		case f.chance == nil:
			if g.full > known[best].full {
				best = i
			}
		default:
			if equals++; f.chance.IntN(equals) == 0 {
				best = i
			}
		}
	}
	if best < 0 {
		return spot{}, false
	}
	return spot{best, known[best].gpus}, true
}

func (f *fgd) remove(int) {}

// descend finds the choice of GPUs on a machine that makes fragmentation grow least. A share is tried on each GPU that
// differs; whole GPUs are alike.
func (f *fgd) descend(machine int, t *Task) gradient {
	r, m := &f.cluster.rooms[machine], &f.cluster.machines[machine]
	g := gradient{when: r.changes + 1, fits: f.cluster.fits(machine, t)}
	if !g.fits {
		return g
	}
	b := &f.before[machine]
	if b.when != g.when {
		*b = gradient{when: g.when, score: f.fragmentation(m.model, r)}
	}
	cpu, memory, gpu, _ := f.cluster.parts(machine, t)
	g.full = cpu + memory + gpu
	first := true
	try := func(gpus uint64) {
		f.scratch = room{cpu: r.cpu, memory: r.memory, sum: r.sum, gpus: append(f.scratch.gpus[:0], r.gpus...)}
		f.scratch.give(gpus, t, 1)
		if s := b.score - f.fragmentation(m.model, &f.scratch); first || s > g.score {
			first, g.score, g.gpus = false, s, gpus
		}
	}
	if t.GPUs != 1 || t.Share == whole {
		try(r.tightest(t))
		return g
	}
	for i, left := range r.gpus {
		if left >= int16(t.Share) && slices.Index(r.gpus, left) == i {
			try(1 << i)
		}
	}
	return g
}
