package packing

import (
	"container/heap"
	"context"
	"fmt"
	"syscall"
	"time"
)

// outcome is what an algorithm made of a sequence of arrivals.
type outcome struct {
	asked, placed usage
	mean          usage // in use over the second half of the arrivals, on average
	total         usage // of the cluster
	arrivals      int
	refused       int
	stranded      int // refused though the cluster had room in sum
	missed        int // refused though a machine could take it
	untouched     int // machines that never had a task
	cpu           time.Duration
}

// replay asks an algorithm for a place for each arrival, one after the other. A task that is refused goes away.
func replay(ctx context.Context, c *cluster, t *Trace, a algorithm, order []arrival) (outcome, error) {
	o := outcome{total: c.total, arrivals: len(order)}
	var ends departures
	began := cpuTime()
	for n, next := range order {
		if n%256 == 0 && ctx.Err() != nil {
			return o, ctx.Err()
		}
		for len(ends) > 0 && ends[0].end <= next.at {
			d := heap.Pop(&ends).(departure)
			a.remove(d.arrival)
			c.change(d.spot, d.task, -1)
		}
		k := &t.Tasks[next.task]
		o.asked.add(k, 1)
		s, ok := a.place(n, k)
		switch {
		case !ok:
			o.refuse(c, k)
		case !c.valid(s, k):
			return o, fmt.Errorf("arrival %d: task %s does not fit where it was put: node %d, GPUs %b", n, k.Name, s.machine, s.gpus)
		default:
			c.change(s, k, 1)
			o.placed.add(k, 1)
			heap.Push(&ends, departure{next.end, n, s, k})
		}
		if n >= len(order)/2 {
			o.mean.CPU += c.total.CPU - c.free.CPU
			o.mean.Memory += c.total.Memory - c.free.Memory
			o.mean.GPU += c.total.GPU - c.free.GPU
		}
	}
	o.cpu = cpuTime() - began
	half := int64(max(len(order)-len(order)/2, 1))
	o.mean = usage{o.mean.CPU / half, o.mean.Memory / half, o.mean.GPU / half}
	o.untouched = c.untouched()
	return o, nil
}

func (o *outcome) refuse(c *cluster, t *Task) {
	o.refused++
	if c.roomInSum(t) {
		o.stranded++
	}
	if c.anyFits(t) {
		o.missed++
	}
}

// cpuTime is what this process has had of the processors: on a shared machine it says more than a clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// departure is the end of a task that was placed.
type departure struct {
	end     float64
	arrival int
	spot    spot
	task    *Task
}

// departures is a heap, the first to end on top.
type departures []departure

func (d departures) Len() int { return len(d) }
func (d departures) Less(i, j int) bool {
	return d[i].end < d[j].end || d[i].end == d[j].end && d[i].arrival < d[j].arrival
}
func (d departures) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *departures) Push(x any) { *d = append(*d, x.(departure)) }

// Pop implements heap.Interface.
func (d *departures) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}
