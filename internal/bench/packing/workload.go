package packing

import (
	"math"
	"math/rand/v2"
)

// chance is a stream of numbers that a seed and a purpose give: the same on every machine.
func chance(seed uint64, purpose string) *rand.Rand {
	h := uint64(14695981039346656037)
	for i := range len(purpose) {
		h = (h ^ uint64(purpose[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// arrival is a task that asks for room.
type arrival struct {
	task    int     // into Trace.Tasks
	at, end float64 // seconds; end is +Inf without departures
}

const (
	// pressure is what all tasks together ask for, as a part of the cluster: the 130 % at which the FGD paper ends, far
	// enough behind the point where everything fits that every algorithm has to refuse.
	pressure = 1.3
	// turnover is how often the cluster's GPUs are asked for where tasks depart.
	turnover = 4
)

// arrivals are the trace's tasks in the order of creation and, where they do not ask for enough, more that are drawn from
// them by chance, until they ask for a multiple of the cluster's GPUs (of its CPU, if nobody asks for GPUs or there are
// none).
func arrivals(t *Trace, multiple float64, seed uint64) []arrival {
	total, asks := t.scarce()
	all := int64(0)
	for i := range t.Tasks {
		all += asks(&t.Tasks[i])
	}
	if all == 0 {
		return nil
	}
	draw := chance(seed, "arrivals")
	var order []arrival
	for sum := int64(0); float64(sum) < multiple*float64(total); {
		i := len(order)
		if i >= len(t.Tasks) {
			i = draw.IntN(len(t.Tasks))
		}
		order = append(order, arrival{task: i, end: math.Inf(1)})
		sum += asks(&t.Tasks[i])
	}
	return order
}

// scarce is what the cluster is filled with: how much there is of it, and what a task asks of it.
func (t *Trace) scarce() (total int64, asks func(*Task) int64) {
	c := newCluster(t.Machines)
	for i := range t.Tasks {
		if t.Tasks[i].GPUs > 0 && c.total.GPU > 0 {
			return c.total.GPU, (*Task).gpu
		}
	}
	return c.total.CPU, func(t *Task) int64 { return t.CPU }
}

// departing are arrivals that end after the time that their task took in the trace. In the trace itself tasks come so
// seldom that they would never fill the cluster; so they come at equal intervals, so short that those present at the end
// would ask for pressure times what there is, if none had been refused.
func departing(t *Trace, seed uint64) []arrival {
	order := arrivals(t, turnover, seed)
	total, asks := t.scarce()
	present := func(interval float64) float64 {
		sum := int64(0)
		for i, a := range order {
			if t.Tasks[a.task].lasts() > float64(len(order)-i)*interval {
				sum += asks(&t.Tasks[a.task])
			}
		}
		return float64(sum)
	}
	low, high := 0.0, 1e9
	for range 100 {
		if middle := (low + high) / 2; present(middle) > pressure*float64(total) {
			low = middle
		} else {
			high = middle
		}
	}
	for i := range order {
		order[i].at = float64(i) * high
		order[i].end = order[i].at + t.Tasks[order[i].task].lasts()
	}
	return order
}

// lasts is how long the task took, without end if the trace does not say.
func (t *Task) lasts() float64 { return max(t.Deleted-t.Created, 0) }
