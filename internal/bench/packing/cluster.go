package packing

import "math/bits"

// cluster is the machines as the competitors see them, and the book-keeping against which every placement is checked, of
// whichever algorithm. It knows CPU, memory and what is left of each GPU.
type cluster struct {
	machines []Machine
	rooms    []room
	touched  []bool // was ever given a task
	free     usage  // over all machines
	total    usage
}

// room is what a machine has left.
type room struct {
	cpu, memory int64
	gpus        []int16 // thousandths of each
	sum         int64   // of gpus
	changes     int32   // times it was changed: what answers that are kept are held against
}

// usage is an amount of what tasks ask for.
type usage struct{ CPU, Memory, GPU int64 }

func (u *usage) add(t *Task, sign int64) {
	u.CPU += sign * t.CPU
	u.Memory += sign * t.Memory
	u.GPU += sign * t.gpu()
}

// spot is where a task goes: a machine, and which of its GPUs.
type spot struct {
	machine int
	gpus    uint64 // a bit for each
}

func newCluster(machines []Machine) *cluster {
	c := &cluster{machines: machines, rooms: make([]room, len(machines)), touched: make([]bool, len(machines))}
	for i := range machines {
		m := &machines[i]
		r := &c.rooms[i]
		*r = room{cpu: m.CPU, memory: m.Memory, gpus: make([]int16, m.GPUs), sum: int64(m.GPUs) * whole}
		for g := range r.gpus {
			r.gpus[g] = whole
		}
		c.total.CPU += m.CPU
		c.total.Memory += m.Memory
		c.total.GPU += r.sum
	}
	c.free = c.total
	return c
}

// fits reports whether a machine can take one more task.
func (c *cluster) fits(machine int, t *Task) bool {
	r := &c.rooms[machine]
	if t.CPU > r.cpu || t.Memory > r.memory || t.gpu() > r.sum {
		return false
	}
	if t.GPUs == 0 {
		return true
	}
	if c.machines[machine].model&t.models == 0 {
		return false
	}
	return r.enough(t)
}

// enough reports whether the task's GPUs are there.
func (r *room) enough(t *Task) bool {
	n, share := t.GPUs, int16(t.Share)
	for _, left := range r.gpus {
		if left >= share {
			if n--; n <= 0 {
				return true
			}
		}
	}
	return n <= 0
}

// tightest chooses the fullest GPUs that still have the share: best fit, which leaves whole GPUs whole. It is what every
// competitor gets that does not itself say which GPU.
func (r *room) tightest(t *Task) uint64 {
	var chosen uint64
	for range t.GPUs {
		best := -1
		for g, left := range r.gpus {
			if chosen>>g&1 == 0 && left >= int16(t.Share) && (best < 0 || left < r.gpus[best]) {
				best = g
			}
		}
		chosen |= 1 << best
	}
	return chosen
}

// valid reports whether a spot can take the task. It trusts nothing.
func (c *cluster) valid(s spot, t *Task) bool {
	if s.machine < 0 || s.machine >= len(c.rooms) || !c.fits(s.machine, t) || bits.OnesCount64(s.gpus) != t.GPUs ||
		bits.Len64(s.gpus) > len(c.rooms[s.machine].gpus) {
		return false
	}
	for rest := s.gpus; rest != 0; rest &= rest - 1 {
		if c.rooms[s.machine].gpus[bits.TrailingZeros64(rest)] < int16(t.Share) {
			return false
		}
	}
	return true
}

// change takes a task's room off a machine (sign 1), or gives it back (-1).
func (c *cluster) change(s spot, t *Task, sign int64) {
	r := &c.rooms[s.machine]
	r.give(s.gpus, t, sign)
	r.changes++
	c.touched[s.machine] = true
	c.free.add(t, -sign)
}

func (r *room) give(gpus uint64, t *Task, sign int64) {
	r.cpu -= sign * t.CPU
	r.memory -= sign * t.Memory
	r.sum -= sign * t.gpu()
	for ; gpus != 0; gpus &= gpus - 1 {
		r.gpus[bits.TrailingZeros64(gpus)] -= int16(sign) * int16(t.Share)
	}
}

// roomInSum reports whether all machines together have what the task asks for, on GPUs of the models it allows.
func (c *cluster) roomInSum(t *Task) bool {
	if t.CPU > c.free.CPU || t.Memory > c.free.Memory || t.gpu() > c.free.GPU {
		return false
	}
	if t.GPUs == 0 || t.models == everyModel {
		return true
	}
	left := int64(0)
	for i := range c.rooms {
		if c.machines[i].model&t.models != 0 {
			left += c.rooms[i].sum
		}
	}
	return left >= t.gpu()
}

// anyFits reports whether some machine could take the task.
func (c *cluster) anyFits(t *Task) bool {
	for i := range c.rooms {
		if c.fits(i, t) {
			return true
		}
	}
	return false
}

func (c *cluster) untouched() int {
	n := 0
	for _, t := range c.touched {
		if !t {
			n++
		}
	}
	return n
}
