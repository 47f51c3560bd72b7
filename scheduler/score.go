package scheduler

import (
	"cmp"
	"math"

	"cube/api"
	"cube/scheduler/matching"
)

// How much wishes count, in units of the range of an algorithm's own score (0 to 1, or a part of it):
//
//	an affinity of weight 100   1, so it outweighs everything an algorithm finds between two nodes
//	a spread of weight 50       1 for each instance that a value has: never more than one off, as long as there is room
//	binpack's anti-affinity     1/2 times the part of the task's instances that a node has already
const (
	affinityUnit = 1.0 / 100
	spreadUnit   = 1.0 / 50
	selfAversion = 0.5
)

// scoring says how well an instance of the task would do on a node that can take it; more is better. It reads the view
// as it is at the call.
type scoring func(node int) float64

// algorithm returns the scoring that the job, or else the batch, asks for, affinities included.
func (c *change) algorithm(r *request) scoring { return r.withAffinities(c.base(r)) }

func (c *change) algorithmName() string {
	return cmp.Or(c.job.Scheduler, c.options.Algorithm, api.AlgorithmBinpack)
}

// base is the algorithm's own scoring.
func (c *change) base(r *request) scoring {
	switch c.algorithmName() {
	case api.AlgorithmSpread:
		return r.spreadOut
	case api.AlgorithmEPVM:
		return r.marginalCost()
	case api.AlgorithmGreedy:
		return r.leastLoaded()
	case api.AlgorithmRoundRobin:
		return r.nextInTurn(c.rows)
	}
	if r.view.devices != nil {
		return r.keepProspects()
	}
	return r.bestFit
}

// bestFit prefers the node that is fullest afterwards, CPU and memory counting alike. It shies away from nodes that hold
// much of the task already: of two instances the second goes elsewhere unless that node is 25 % emptier, of a thousand
// nearly nothing is left of this.
func (r *request) bestFit(node int) float64 { return r.fullAfter(node) - r.aversion(node) }

// fullAfter is the part of the node that is reserved once it has one more instance.
func (r *request) fullAfter(node int) float64 {
	v, ask := r.view, r.task.Holds()
	return (v.cpu[node] + float64(ask.CPU)*v.perCPU[node] + v.memory[node] + float64(ask.Memory)*v.perMemory[node]) / 2
}

// aversion is the part of the task's instances that the node has, in bestFit's unit.
func (r *request) aversion(node int) float64 {
	return selfAversion * float64(r.view.counts.task[node]) / float64(max(r.task.Count, 1))
}

// spreadOut prefers the node with the fewest instances of the task, then of the job, then the emptiest. A job's other
// instances are told apart up to fifteen a node.
func (r *request) spreadOut(node int) float64 {
	v := r.view
	own := v.counts.task[node]
	others := min(v.counts.job[node]-own, 15)
	full := min((v.cpu[node]+v.memory[node])/2, 1)
	return -float64(own) - (float64(others)+full*0.999)/16
}

// leastLoaded prefers the node whose processors have the least to do: as measured where that is known, with what this
// plan adds, else as reserved.
func (r *request) leastLoaded() scoring {
	v := r.view
	m := v.load()
	return func(node int) float64 {
		if used, ok := m.usedCPU(v, node); ok {
			return 1 - used
		}
		return 1 - v.cpu[node]
	}
}

// nextInTurn goes round the nodes in the order of their IDs. It begins behind the node that was used last: in this batch,
// else by the job's newest allocation, else at a place that moves with the state's index. Each round a node has had
// counts one.
func (r *request) nextInTurn(rows []api.AllocationRow) scoring {
	v := r.view
	size := len(v.nodes)
	last := v.lastRotated
	if last < 0 && size > 0 {
		last = int(v.base % uint64(size))
		var newest *api.AllocationRow
		for i := range rows {
			if rows[i].NodeOrdinal >= 0 && (newest == nil || rows[i].ID > newest.ID) {
				newest, last = &rows[i], rows[i].NodeOrdinal
			}
		}
	}
	r.turns = make([]int32, size)
	return func(node int) float64 {
		distance := (node - last - 1 + size) % size
		return -float64(r.turns[node]) - float64(distance)/float64(size)
	}
}

// withAffinities adds the task's affinities to a score.
func (r *request) withAffinities(base scoring) scoring {
	type wish struct {
		nodes  bitmap
		weight float64
	}
	var wishes []wish
	for _, a := range r.task.Affinities {
		match, err := matching.New(a.Operator, a.Value)
		if err != nil {
			continue // a wish that cannot be read is one that no node meets
		}
		wishes = append(wishes, wish{r.view.set(conditionKey(a.Attribute, a.Operator, a.Value), attributeTest(a.Attribute, match)),
			float64(a.Weight) * affinityUnit})
	}
	if len(wishes) == 0 {
		return base
	}
	return func(node int) float64 {
		score := base(node)
		for _, w := range wishes {
			if w.nodes.has(node) {
				score += w.weight
			}
		}
		return score
	}
}

// measured is what the nodes say they use, as parts of what their machines have; negative where nothing is known.
type measured struct {
	cpu, memory       []float64
	perCPU, perMemory []float64
}

// load asks for the measured load of every node, once a batch.
func (v *view) load() *measured {
	if v.measured != nil {
		return v.measured
	}
	size := len(v.nodes)
	floats := make([]float64, 4*size)
	m := &measured{floats[:size], floats[size : 2*size], floats[2*size : 3*size], floats[3*size:]}
	for i, n := range v.nodes {
		m.cpu[i], m.memory[i] = -1, -1
		if v.loadOf == nil {
			continue
		}
		l, ok := v.loadOf(n.ID)
		if ok && l.CPUTotal > 0 {
			m.perCPU[i] = inverse(l.CPUTotal)
			m.cpu[i] = float64(max(l.CPU, 0)) * m.perCPU[i]
		}
		if ok && l.MemoryTotal > 0 {
			m.perMemory[i] = inverse(l.MemoryTotal)
			m.memory[i] = float64(max(l.Memory, 0)) * m.perMemory[i]
		}
	}
	v.measured = m
	return m
}

// usedCPU is the part of a node's processors in use, as measured, with what this plan adds.
func (m *measured) usedCPU(v *view, node int) (used float64, ok bool) {
	return m.cpu[node] + float64(v.given[node].CPU)*m.perCPU[node], m.cpu[node] >= 0
}

// usedMemory is the same for memory.
func (m *measured) usedMemory(v *view, node int) (used float64, ok bool) {
	return m.memory[node] + float64(v.given[node].Memory)*m.perMemory[node], m.memory[node] >= 0
}

// opportunity is what the nodes' resources cost at their present use: n to the power of the part in use, n being the
// number of nodes. It is kept in columns so that the power is worked out once a batch and once a placement.
type opportunity struct {
	log         float64 // of n
	cpu, memory []float64
}

// marginalCost is E-PVM, after Amir, Awerbuch, Barak, Borgstrom and Keren, "An Opportunity Cost Approach for Job Assignment
// in a Scalable Computing Cluster" (IEEE TPDS 11(7), 2000): unlike resources are made comparable by charging for each of
// them n^u, u being the part in use, and an instance goes where it makes the sum over CPU and memory grow least. A
// resource is in use as far as it is reserved or, if that is more, as far as it is measured to be used.
//
// The growth is n^u (n^a - 1), a being the part that the instance asks for. The score is its negative, as a part of the
// most that two resources can cost.
func (r *request) marginalCost() scoring {
	v, ask := r.view, r.task.Holds()
	o := v.costs()
	most := 2 * math.Expm1(o.log)
	growCPU, growMemory := growth(o.log, ask.CPU), growth(o.log, ask.Memory)
	return func(node int) float64 {
		return -(o.cpu[node]*growCPU(v.perCPU[node]) + o.memory[node]*growMemory(v.perMemory[node])) / most
	}
}

// growth returns n^a - 1 for an amount, given 1 / the capacity it is asked of. Nodes of one kind follow each other often
// enough that remembering the last answer saves most of the work.
func growth(log float64, amount int64) func(per float64) float64 {
	lastPer, last := 0.0, 0.0
	return func(per float64) float64 {
		if per != lastPer {
			lastPer, last = per, math.Expm1(float64(amount)*per*log)
		}
		return last
	}
}

func (v *view) costs() *opportunity {
	if v.opportunity == nil {
		v.load()
		size := len(v.nodes)
		v.opportunity = &opportunity{math.Log(float64(max(size, 2))), make([]float64, size), make([]float64, size)}
		for i := range v.nodes {
			v.opportunity.reckon(v, i)
		}
	}
	return v.opportunity
}

func (o *opportunity) reckon(v *view, node int) {
	cpu, memory := v.cpu[node], v.memory[node]
	if used, ok := v.measured.usedCPU(v, node); ok {
		cpu = max(cpu, used)
	}
	if used, ok := v.measured.usedMemory(v, node); ok {
		memory = max(memory, used)
	}
	o.cpu[node], o.memory[node] = math.Exp(cpu*o.log), math.Exp(memory*o.log)
}

// spreadTable is how a task's instances stand over the values of one attribute.
//
// A value's cost is its next instance divided by the instances that its share of the whole would give it if all values
// had one each: with even shares it rises by one unit an instance, with a share twice as large by half a unit. Taking the
// cheapest value again and again is D'Hondt's method of handing out seats by votes. The cost of a value depends on its own
// instances only; that is what lets ranking mend one group a placement.
type spreadTable struct {
	of     []int32 // each open node's value
	counts []int32 // instances that each value has
	unit   []float64
}

// leastShare stands for a share of nothing: such a value is the last resort, and still used evenly.
const leastShare = 1.0 / 1000

func (t *spreadTable) cost(value int32) float64 { return float64(t.counts[value]+1) * t.unit[value] }

func newSpreadTables(r *request, rows []api.AllocationRow) []spreadTable {
	var tables []spreadTable
	for _, s := range r.task.Spreads {
		tables = append(tables, newSpreadTable(r, s, rows))
	}
	return tables
}

// newSpreadTable counts the task's instances by value. Only values that a node the task could go to has take part. Nodes
// without the attribute are one more value, with a share of nothing.
func newSpreadTable(r *request, s api.Spread, rows []api.AllocationRow) spreadTable {
	v := r.view
	t := spreadTable{of: make([]int32, len(v.nodes))}
	known := map[string]int32{}
	var names []string
	unset := int32(-1)
	r.open.each(func(node int) {
		name, ok := v.nodes[node].Attribute(s.Attribute)
		value, seen := known[name]
		if !ok {
			value, seen = unset, unset >= 0
		}
		if !seen {
			value = int32(len(names))
			names = append(names, name)
			if ok {
				known[name] = value
			} else {
				unset = value
			}
		}
		t.of[node] = value
	})
	t.counts = make([]int32, len(names))
	for i := range rows {
		row := &rows[i]
		if !row.Live() || row.Desired != api.DesiredRun || row.Task != r.task.Name || row.NodeOrdinal < 0 {
			continue
		}
		name, ok := v.nodes[row.NodeOrdinal].Attribute(s.Attribute)
		if value, seen := known[name]; ok && seen {
			t.counts[value]++
		} else if !ok && unset >= 0 {
			t.counts[unset]++
		}
	}
	t.unit = spreadUnits(s, names, unset)
	return t
}

// spreadUnits is what an instance costs on each value: the spread's weight over the value's share, relative to even
// shares. What the targets leave of 100 percent is shared evenly by the values that are no target.
func spreadUnits(s api.Spread, names []string, unset int32) []float64 {
	targets := make(map[string]float64, len(s.Targets))
	left := 1.0
	for _, target := range s.Targets {
		targets[target.Value] = float64(target.Percent) / 100
		left -= float64(target.Percent) / 100
	}
	total, others := 0, 0
	for i, name := range names {
		if int32(i) == unset {
			continue
		}
		total++
		if _, ok := targets[name]; !ok {
			others++
		}
	}
	units := make([]float64, len(names))
	for i, name := range names {
		share, ok := targets[name]
		switch {
		case int32(i) == unset:
			share = 0
		case !ok:
			share = left / float64(others)
		}
		units[i] = float64(s.Weight) * spreadUnit / (max(share, leastShare) * float64(max(total, 1)))
	}
	return units
}
