package packing

import (
	"context"
	"fmt"
	"slices"
)

// largest is how many copies of the node list compaction tries before it says that a workload does not fit at all.
const largest = 4

// cell is the nodes of the list in an order that chance gives, over and over again: the first n of them are a cluster of
// n nodes. A cluster larger than the list has nodes of the list twice, as in Borg's evaluation (Verma et al., "Large-scale
// cluster management at Google with Borg", EuroSys 2015, section 5.1), so that what fits the list by far and what misses
// it by little are measured alike.
func cell(machines []Machine, seed uint64) []Machine {
	mix := chance(seed, "compaction")
	var all []Machine
	for copies := range largest {
		for _, i := range mix.Perm(len(machines)) {
			m := machines[i]
			m.Name = fmt.Sprintf("%s-%d", m.Name, copies)
			all = append(all, m)
		}
	}
	return all
}

// compact finds the smallest number of nodes on which an algorithm places all tasks of a trace, in the order of creation and
// without departures; 0 if there is none. guess is where to begin.
//
// More nodes do not always do better: one more can turn every later choice. So the size that bisection ends at is held
// against a few smaller ones, and the search goes on below if one of them does.
func compact(ctx context.Context, t *Trace, build builder, seed uint64, guess int) (int, error) {
	nodes := cell(t.Machines, seed)
	fits := func(n int) (bool, error) {
		if n <= 0 || n > len(nodes) {
			return false, nil
		}
		return fitsAll(ctx, t, nodes[:n], build, seed)
	}
	low, high := 0, 0 // the largest known not to fit, the smallest known to
	for step, n := max(guess/50, 1), guess; ; step *= 2 {
		ok, err := fits(n)
		switch {
		case err != nil:
			return 0, err
		case ok:
			high = n
		default:
			low = n
		}
		if high > 0 && (low > 0 || high == 1) {
			break
		}
		if low >= len(nodes) {
			return 0, nil
		}
		if ok {
			n = max(n-step, 1)
		} else {
			n = min(n+step, len(nodes))
		}
	}
	for {
		for high-low > 1 {
			middle := (low + high) / 2
			ok, err := fits(middle)
			if err != nil {
				return 0, err
			}
			if ok {
				high = middle
			} else {
				low = middle
			}
		}
		smaller, err := below(high, fits)
		if err != nil || smaller == 0 {
			return high, err
		}
		low, high = smaller-max(high/100, 1), smaller
	}
}

// below tries the sizes 1/2, 1 and 2 percent under one that fits, and returns one that does as well, 0 if none.
func below(size int, fits func(int) (bool, error)) (int, error) {
	for _, part := range []int{200, 100, 50} {
		n := size - 1 - max(size/part, 1)
		if ok, err := fits(n); ok || err != nil {
			return n, err
		}
	}
	return 0, nil
}

// fitsAll reports whether an algorithm places every task.
func fitsAll(ctx context.Context, t *Trace, nodes []Machine, build builder, seed uint64) (bool, error) {
	c := newCluster(nodes)
	a := build(c, t, seed)
	for n := range t.Tasks {
		if n%256 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		k := &t.Tasks[n]
		s, ok := a.place(n, k)
		if !ok {
			return false, nil
		}
		if !c.valid(s, k) {
			return false, fmt.Errorf("task %s does not fit where it was put: node %d, GPUs %b", k.Name, s.machine, s.gpus)
		}
		c.change(s, k, 1)
	}
	return true, nil
}

// enough is the smallest number of nodes whose sums are what all tasks ask for: no algorithm needs fewer.
func enough(t *Trace, seed uint64) int {
	var asked, have usage
	for i := range t.Tasks {
		asked.add(&t.Tasks[i], 1)
	}
	nodes := cell(t.Machines, seed)
	for i := range nodes {
		m := &nodes[i]
		have.CPU += m.CPU
		have.Memory += m.Memory
		have.GPU += int64(m.GPUs) * whole
		if have.CPU >= asked.CPU && have.Memory >= asked.Memory && have.GPU >= asked.GPU {
			return i + 1
		}
	}
	return len(nodes)
}

// percentile is the value that p of the sorted values are at most.
func percentile(values []int, p float64) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
