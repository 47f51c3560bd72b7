package scheduler

import (
	"math"
	"slices"

	"cube/api"
)

// What tasks are imagined to ask for, when the scheduler asks what a node's devices are still good for. The figures are not
// taken from any workload: they lie evenly over what can be asked, and the search that led to them (DESIGN.md) found a
// plain, not a peak.
const (
	imaginedShares = 10 // one device: a tenth of it, two, three, up to all
	imaginedStep   = api.WholeDevice / imaginedShares
	// A device is asked for with 1/4, 2/4, 3/4, 4/4 or 6/4 of the CPU and memory that go with a device in this cluster.
	imaginedCompany = 5
	// The weight of a task that asks for several devices, where one that asks for one has 1: as the former are few kinds,
	// this makes up about a twentieth of all. That they need nodes which are empty makes them dear enough.
	manyWeight = 0.2
	// What goes with a device is what is held beside those in use, and what the machines have beside theirs, as if this
	// part of all devices were in use in that way.
	companyPrior = 0.05
	// How much more a loss of prospects counts than how full the node is afterwards, which is there to tell equals apart.
	prospectUnit = 1000
)

// quarters are the parts of the usual company, in fourths.
func quarters() [imaginedCompany]int64 { return [imaginedCompany]int64{1, 2, 3, 4, 6} }

// prospects are what the nodes' devices of one type are still good for: for each of a set of imagined tasks, how much of
// a node's devices could be given to such tasks with the CPU, the memory and the shares that the node has left.
//
// What is lost of that is priced by how much of it there is in the cluster: a thousandth lost of what tasks with eight
// devices could still get is dear when few nodes could take one, and cheap when all could. The prices are those of the
// batch's first look, and hold for the batch: so a placement changes the score of its own node only.
type prospects struct {
	devices *devices
	typ     int32
	cpu     int64 // the company of one device: thousandths of a core
	memory  int64 // MiB
	counts  []int // how many devices the imagined tasks ask for that want several: 2, 4, 8...
	price   []float64
	usable  []int64 // scratch
}

// newProspects looks at all nodes. It is nil for a type of which nothing is left.
func newProspects(v *view, typ int32) *prospects {
	p := &prospects{devices: v.devices, typ: typ}
	largest, left := p.learn(v)
	if left == 0 {
		return nil
	}
	for n := 2; n <= largest; n *= 2 {
		p.counts = append(p.counts, n)
	}
	kinds := (imaginedShares + len(p.counts)) * imaginedCompany
	p.usable = make([]int64, kinds)
	total := make([]int64, kinds)
	for node := range v.nodes {
		if p.has(node) {
			p.look(node, v.free[node].CPU, v.free[node].Memory, v.devices.of(node))
			for i, u := range p.usable {
				total[i] += u
			}
		}
	}
	// Prices are per thousandth, on the scale of devices: if all tasks could use all that is left, losing one device
	// costs one.
	weight := 0.0
	p.price = make([]float64, kinds)
	for i := range p.price {
		p.price[i] = 1
		if i >= imaginedShares*imaginedCompany {
			p.price[i] = manyWeight
		}
		weight += p.price[i]
	}
	for i := range p.price {
		if total[i] > 0 {
			p.price[i] *= float64(left) / (api.WholeDevice * weight * float64(total[i]))
		}
	}
	return p
}

// learn finds out what goes with a device, and returns the largest group and what is left of all devices.
func (p *prospects) learn(v *view) (largest int, left int64) {
	d := v.devices
	t := &d.types[p.typ]
	var all, held, cpu, memory int64 // devices in thousandths
	var has api.Resources
	for node, n := range v.nodes {
		if t.total[node] == 0 {
			continue
		}
		all += int64(t.total[node]) * api.WholeDevice
		left += int64(t.free[node])
		cpu += n.Resources.CPU - v.free[node].CPU
		memory += n.Resources.Memory - v.free[node].Memory
		has = has.Add(n.Resources)
		for g := d.groups[node]; g < d.groups[node+1]; g++ {
			if d.kinds[d.kind[g]].typ == p.typ {
				largest = max(largest, len(d.group(g)))
			}
		}
	}
	held = all - left
	if all > 0 {
		beside := (float64(held) + companyPrior*float64(all)) / api.WholeDevice
		p.cpu = int64((float64(cpu) + companyPrior*float64(has.CPU)) / beside)
		p.memory = int64((float64(memory) + companyPrior*float64(has.Memory)) / beside)
	}
	return largest, left
}

func (p *prospects) has(node int) bool { return p.devices.types[p.typ].total[node] > 0 }

// worth is the price of what a node would still be good for with so much left.
func (p *prospects) worth(node int, cpu, memory int64, left []int16) float64 {
	if !p.has(node) {
		return 0
	}
	p.look(node, cpu, memory, left)
	sum := 0.0
	for i, u := range p.usable {
		sum += float64(p.price[i] * float64(u)) // rounded here on every machine, so that none fuses the sum
	}
	return sum
}

// look works out p.usable, by count and share, then company: the thousandths of the node's devices that such tasks could
// get. left is what is left of each of the node's devices, of whatever type.
func (p *prospects) look(node int, cpu, memory int64, left []int16) {
	d := p.devices
	var shares [imaginedShares]int64 // by smallest share: what is left of the devices that have as much
	clear(p.usable)
	at := d.first[d.groups[node]]
	whole := p.usable[imaginedShares*imaginedCompany:] // first of each count: what is left of groups that have as many whole
	for g := d.groups[node]; g < d.groups[node+1]; g++ {
		if d.kinds[d.kind[g]].typ != p.typ {
			continue
		}
		free := 0
		for _, l := range left[d.first[g]-at : d.first[g+1]-at] {
			if l == api.WholeDevice {
				free++
				continue
			}
			for s, share := 0, int16(imaginedStep); s < imaginedShares && l >= share; s, share = s+1, share+imaginedStep {
				shares[s] += int64(l)
			}
		}
		for s := range shares {
			shares[s] += int64(free) * api.WholeDevice
		}
		for c, n := range p.counts {
			if free >= n {
				whole[c*imaginedCompany] += int64(free) * api.WholeDevice
			}
		}
	}
	company := int64(math.MaxInt64) // thousandths of devices that could have a quarter of the usual company
	if p.cpu > 0 {
		company = min(company, max(cpu, 0)*4*api.WholeDevice/p.cpu)
	}
	if p.memory > 0 {
		company = min(company, max(memory, 0)*4*api.WholeDevice/p.memory)
	}
	var most [imaginedCompany]int64 // the same for each company
	for i, q := range quarters() {
		most[i] = company / q
	}
	for s, sum := range shares {
		bound(p.usable[s*imaginedCompany:], sum, &most, int64(s+1)*imaginedStep)
	}
	for c, n := range p.counts {
		bound(whole[c*imaginedCompany:], whole[c*imaginedCompany], &most, int64(n)*api.WholeDevice)
	}
}

// bound says for each company how much of sum can be had with it, nothing if it is not enough for a task that asks for
// need.
func bound(into []int64, sum int64, most *[imaginedCompany]int64, need int64) {
	if sum == 0 {
		return
	}
	for i, m := range most {
		if m < need {
			m = 0
		}
		into[i] = min(sum, m)
	}
}

// outlook is the prospects of every type of device in the view.
type outlook struct {
	prospects []*prospects
	worth     []float64 // of a node as it is; NaN where nobody asked since it last changed
	left      []int16   // scratch

	// What the task being ranked costs of nodes that were asked about, found by a hash of what they have left: in most
	// clusters many nodes are alike. An entry of another round is none; each task and each placement begins a round.
	seen [256]struct {
		round int
		node  int
		loss  float64
	}
	round int
}

// changed notes that a node has something else left than before.
func (o *outlook) changed(node int) {
	o.worth[node] = math.NaN()
	o.round++
}

// outlook looks at the nodes' prospects, at the first call of a batch.
func (v *view) outlook() *outlook {
	if v.devices.outlook == nil {
		o := &outlook{worth: make([]float64, len(v.nodes))}
		for typ := range v.devices.types {
			if p := newProspects(v, int32(typ)); p != nil {
				o.prospects = append(o.prospects, p)
			}
		}
		for i := range o.worth {
			o.worth[i] = math.NaN()
		}
		v.devices.outlook = o
	}
	return v.devices.outlook
}

// worthOf adds up what a node would be worth with so much left.
func (o *outlook) worthOf(node int, cpu, memory int64, left []int16) float64 {
	sum := 0.0
	for _, p := range o.prospects {
		sum += p.worth(node, cpu, memory, left)
	}
	return sum
}

// keepProspects is bestFit for clusters with devices: an instance goes where the prospects shrink least, and of nodes that
// are equal there to the one that is fullest afterwards. It shies away from nodes that hold much of the task already: of
// two instances the second goes elsewhere unless that costs a third of a device more. Nodes without devices have nothing
// to lose, and among themselves they differ as they do in bestFit.
func (r *request) keepProspects() scoring {
	o, d := r.view.outlook(), r.view.devices
	o.round++
	return func(node int) float64 {
		if d.groups[node] == d.groups[node+1] {
			return r.bestFit(node) / (1 + prospectUnit)
		}
		seen := &o.seen[d.hash(node, r.view.free[node])%uint64(len(o.seen))]
		if seen.round != o.round || !r.view.alike(seen.node, node) {
			seen.round, seen.node, seen.loss = o.round, node, r.loss(o, node)
		}
		lost := seen.loss
		return (r.fullAfter(node)-prospectUnit*lost/(1+lost))/(1+prospectUnit) - r.aversion(node)
	}
}

// hash is of what a node has left: nodes that are alike have the same.
func (d *devices) hash(node int, free api.Resources) uint64 {
	h := uint64(free.CPU)*0x9e3779b97f4a7c15 ^ uint64(free.Memory)
	for _, l := range d.of(node) {
		h = (h ^ uint64(l)) * 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: the high bits depend on all
	}
	return h >> 32
}

// alike reports whether an instance does the same to the prospects of two nodes.
func (v *view) alike(a, b int) bool {
	d := v.devices
	groups := d.groups[a+1] - d.groups[a]
	if v.free[a].CPU != v.free[b].CPU || v.free[a].Memory != v.free[b].Memory || d.groups[b+1]-d.groups[b] != groups {
		return false
	}
	for i := range groups {
		g, h := d.groups[a]+i, d.groups[b]+i
		if d.kind[g] != d.kind[h] || !slices.Equal(d.group(g), d.group(h)) {
			return false
		}
	}
	return true
}

// loss is what an instance of the task would cost of a node's prospects, in devices.
func (r *request) loss(o *outlook, node int) float64 {
	v, d, ask := r.view, r.view.devices, r.task.Holds()
	cpu, memory := v.free[node].CPU, v.free[node].Memory
	if math.IsNaN(o.worth[node]) {
		o.worth[node] = o.worthOf(node, cpu, memory, d.of(node))
	}
	o.left = append(o.left[:0], d.of(node)...)
	for i := range r.devices {
		a := &r.devices[i]
		g := a.best(d, node)
		own := o.left[d.first[g]-d.first[d.groups[node]]:][:len(d.group(g))]
		r.chosen = a.Choose(own, r.chosen[:0])
		for _, place := range r.chosen {
			own[place] -= int16(a.Share)
		}
	}
	return max(o.worth[node]-o.worthOf(node, cpu-ask.CPU, memory-ask.Memory, o.left), 0)
}
