package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"cube/api"
)

// Cluster is a State that can be gone through job by job.
type Cluster interface {
	State
	// Jobs yields the version in force of each job, by name.
	Jobs() iter.Seq[*api.Job]
}

// Relocation is an instance that would do better on another node.
type Relocation struct {
	Row  api.AllocationRow
	To   int     // the node's ordinal
	Gain float64 // points: hundredths of a score
	Why  string  // what the gain is made of
}

// Relocations are what a rebalance would do.
type Relocations struct {
	Moves  []Relocation // in the order in which they are to be made
	More   bool         // after them there will be others
	Looked int          // instances
	Left   []api.LeftOut
}

// maxPasses bounds how often the search for moves goes through all tasks without an end.
const maxPasses = 16

// Rebalance finds at most so many moves of single instances that gain at least minGain points each. The goal of a move is where
// the scheduler would place the instance now, by all that it goes by, and the gain is by how much that node's score is above
// its own node's. What is moved first makes room, and another score, for what is moved after it.
//
// Every move also raises one figure of the whole cluster (see worth), so no sequence of moves, be it over many
// plans, goes round in circles. Unless More is set, another search in the cluster after the moves finds none.
//
// Instances are left alone while their job is rolled out or not wholly healthy, where they cannot run in two places, and where
// something on their node is theirs: volumes and devices. Equal arguments give equal answers.
func Rebalance(s Cluster, most int, minGain float64, o Options) *Relocations {
	b := &batch{state: s, options: o, view: newView(s, o)}
	for e := range s.Promised() {
		b.keep(e.Job, e.Promises)
	}
	h := &search{batch: b, out: &Relocations{}, least: minGain / 100, left: map[string]int{}}
	h.vacated = &vacated{State: s}
	b.view.state = h.vacated
	h.weigh()
	for job := range s.Jobs() {
		h.admit(job)
	}
	h.run(most)
	for why, n := range h.left { // sorted below
		h.out.Left = append(h.out.Left, api.LeftOut{Instances: n, Why: why})
	}
	slices.SortFunc(h.out.Left, func(a, b api.LeftOut) int {
		return cmp.Or(cmp.Compare(b.Instances, a.Instances), cmp.Compare(a.Why, b.Why))
	})
	return h.out
}

// vacated is a state in which some ports are free again.
type vacated struct {
	State
	ports map[nodePort]bool
}

// PortHeld implements State.
func (s *vacated) PortHeld(node, port int) bool {
	return !s.ports[nodePort{node, port}] && s.State.PortHeld(node, port)
}

// search is one call of Rebalance.
type search struct {
	*batch
	out     *Relocations
	least   float64 // gain
	left    map[string]int
	vacated *vacated
	tasks   []*seated
	queue   []*seated // those that may have a move, a heap by what was their best when last looked at

	sign                float64 // of load: more on one node is better, or worse
	meanCPU, meanMemory float64
}

// seated is a task whose instances may move.
type seated struct {
	job   *api.Job
	task  *api.Task
	own   []int // places in seats of those that may
	whole *[]seat
	best  option
}

// seat is an instance on a node.
type seat struct {
	row   *api.AllocationRow
	node  int
	moved bool
}

// option is the best move of a task as things are.
type option struct {
	seat, to int // seat: -1 for none
	gain     float64
	why      [3]float64
	again    bool // it is of an instance that has moved already: not in this plan
}

// weigh looks at what the nodes are like, for worth.
func (h *search) weigh() {
	for i := range h.view.total {
		h.meanCPU += float64(h.view.total[i].CPU) / float64(len(h.view.total))
		h.meanMemory += float64(h.view.total[i].Memory) / float64(len(h.view.total))
	}
	h.sign = -1
	if cmp.Or(h.options.Algorithm, api.AlgorithmBinpack) == api.AlgorithmBinpack {
		h.sign = 1
	}
}

// admit takes a job's instances into the search, or says why not.
func (h *search) admit(job *api.Job) {
	if job.Stopped {
		return
	}
	var rows []api.AllocationRow
	for row := range h.state.JobRows(job.Name) {
		if row.Live() && row.Desired == api.DesiredRun {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return // it has ended, or waits for its time
	}
	if why := h.restless(job, rows); why != "" {
		h.left[why] += len(rows)
		return
	}
	seats := make([]seat, len(rows))
	tasks := map[string]*seated{}
	for i := range rows {
		seats[i] = seat{row: &rows[i], node: rows[i].NodeOrdinal}
		t := job.Task(rows[i].Task)
		if why := h.pinned(t, &rows[i]); why != "" {
			h.left[why]++
			continue
		}
		of := tasks[t.Name]
		if of == nil {
			of = &seated{job: job, task: t, whole: &seats}
			tasks[t.Name] = of
			h.tasks = append(h.tasks, of)
		}
		of.own = append(of.own, i)
		h.out.Looked++
	}
}

// restless says why no instance of a job is to be moved, "" if some may be. The rows are those that are to run.
func (h *search) restless(job *api.Job, rows []api.AllocationRow) string {
	switch {
	case job.Type != api.JobService:
		return fmt.Sprintf("%s jobs are not moved", job.Type)
	case cmp.Or(job.Scheduler, h.options.Algorithm) == api.AlgorithmRoundRobin:
		return "placed round robin, by which no node is better than another"
	}
	if d := h.state.Deployment(job.Name); d != nil && d.Status.Active() {
		return "their job is being rolled out"
	}
	wanted := 0
	for _, t := range job.Tasks {
		wanted += t.Count
	}
	for i := range rows {
		if row := &rows[i]; row.Version != job.Version || row.Health != api.HealthHealthy || job.Task(row.Task) == nil || row.NodeOrdinal < 0 {
			return "their job is not at rest: something of it is not healthy, or of another version"
		}
	}
	if len(rows) != wanted {
		return "their job is not at rest: it has more or fewer instances than it is to have"
	}
	return ""
}

// pinned says why an instance has to stay where it is, "" if it may move.
func (h *search) pinned(t *api.Task, row *api.AllocationRow) string {
	switch {
	case t.Sticky():
		return "their ephemeral disk is handed on when they stop, not while they run"
	case t.Migrate.Order == api.OrderStopFirst:
		return "their migrate block says stop-first: no two may run for one slot"
	case len(t.Volumes) > 0:
		return "their volumes stay on their node"
	case len(t.Devices) > 0:
		return "they hold devices of their node"
	case !h.view.nodes[row.NodeOrdinal].Ready():
		return "their node is not ready, or not eligible"
	}
	return ""
}

// run makes moves until there is none left that is worth it, or most have been made. Of what is best by the latest look
// it looks at the best again, since the moves made meanwhile have changed it.
func (h *search) run(most int) {
	better := func(a, b *seated) bool { return a.best.gain > b.best.gain }
	for range maxPasses {
		h.queue = h.queue[:0]
		for _, t := range h.tasks {
			if h.look(t); t.best.seat >= 0 {
				h.queue = append(h.queue, t)
			}
		}
		slices.SortStableFunc(h.queue, func(a, b *seated) int { return cmp.Compare(b.best.gain, a.best.gain) })
		made := false
		for len(h.queue) > 0 {
			t := h.queue[0]
			before := t.best.gain
			if h.look(t); t.best.seat >= 0 && t.best.gain >= before {
				if len(h.out.Moves) == most {
					h.out.More = true
					return
				}
				h.move(t)
				made = true
				h.look(t)
			}
			if t.best.seat < 0 {
				last := len(h.queue) - 1
				h.queue[0] = h.queue[last]
				h.queue = h.queue[:last]
			}
			siftDown(h.queue, 0, better)
		}
		if !made {
			for _, t := range h.tasks {
				h.out.More = h.out.More || t.best.again
			}
			return
		}
	}
	h.out.More = true
}

// rows are the job's instances where they sit now.
func (t *seated) rows() []api.AllocationRow {
	out := make([]api.AllocationRow, len(*t.whole))
	for i, s := range *t.whole {
		out[i] = *s.row
		out[i].NodeOrdinal = s.node
	}
	return out
}

// front is the two best nodes of those that are alike to the task's spreads: one may be the instance's own.
type front struct {
	first, second candidate
	values        []int32 // of each spread
}

// look finds the task's best move as things are. Taking an instance off its node changes the scores of no other node, so all
// its instances choose among the same few.
func (h *search) look(t *seated) {
	t.best = option{seat: -1}
	rows := t.rows()
	c := &change{batch: h.batch, job: t.job, rows: rows}
	r := newRequest(h.view, t.job, t.task)
	r.count(rows, nil)
	base := c.base(r)
	a := asking{request: r, base: base, score: r.withAffinities(base)}
	k := newRanking(r, a.score, rows)
	a.spreads = k.spreads
	fronts := h.fronts(k)
	seen := map[int]bool{}
	for _, i := range t.own {
		s := &(*t.whole)[i]
		if seen[s.node] && !s.moved || !r.open.has(s.node) {
			continue // the one that was asked before it stands for it; or its node has no score, since nothing would go there now
		}
		seen[s.node] = seen[s.node] || !s.moved
		o := h.chance(t, &a, k, fronts, s.node)
		if o.seat = i; o.gain < h.least {
			continue
		}
		if s.moved {
			t.best.again = true
		} else if t.best.seat < 0 || o.gain > t.best.gain {
			o.again = t.best.again
			t.best = o
		}
	}
}

// fronts are the best nodes that can take one more instance, for each set of values of the spreads.
func (h *search) fronts(k *ranking) (out []front) {
	r := k.request
	places := map[string]int{}
	var key []byte
	r.open.each(func(node int) {
		if !r.fits(node) { // dynamic ports are looked at when the move is made, like everywhere
			return
		}
		key = k.groupKey(key[:0], node)
		place, known := places[string(key)]
		if !known {
			place = len(out)
			places[string(key)] = place
			f := front{first: candidate{node: -1}, second: candidate{node: -1}}
			for i := range k.spreads {
				f.values = append(f.values, k.spreads[i].of[node])
			}
			out = append(out, f)
		}
		f, n := &out[place], k.candidate(node)
		switch {
		case f.first.node < 0 || better(n, f.first):
			f.first, f.second = n, f.first
		case f.second.node < 0 || better(n, f.second):
			f.second = n
		}
	})
	return out
}

// asking is how a task's nodes are scored.
type asking struct {
	*request
	base, score scoring
	spreads     []spreadTable
}

// crowd is what the spreads cost on a node, or on those that are like it.
func (a *asking) crowd(values func(i int) int32) (sum float64) {
	for i := range a.spreads {
		sum += a.spreads[i].cost(values(i))
	}
	return sum
}

// chance is what one of the task's instances on a node would gain elsewhere. The gain is 0 if that is nothing, or the cluster
// would not gain by it.
func (h *search) chance(t *seated, a *asking, k *ranking, fronts []front, from int) (o option) {
	h.leave(a, from, 1)
	defer h.leave(a, from, -1)
	at := func(node int) func(i int) int32 {
		return func(i int) int32 { return a.spreads[i].of[node] }
	}
	stay := k.candidate(from)
	stay.score -= a.crowd(at(from))
	best := candidate{node: -1}
	for i := range fronts {
		n := fronts[i].first
		if int(n.node) == from {
			n = fronts[i].second
		}
		if n.node < 0 {
			continue
		}
		n.score -= a.crowd(func(s int) int32 { return fronts[i].values[s] })
		if best.node < 0 || better(n, best) {
			best = n
		}
	}
	if best.node < 0 || !better(best, stay) {
		return o
	}
	to := int(best.node)
	o.to, o.gain = to, best.score-stay.score
	crowd := a.crowd(at(from)) - a.crowd(at(to))
	own := a.base(to) - a.base(from)
	o.why = [3]float64{own, o.gain - crowd - own, crowd}
	if h.worth(t, a, from, to, o.gain-own) <= 0 {
		return option{}
	}
	return o
}

// leave takes an instance of the task off a node, or with sign -1 puts it back.
func (h *search) leave(a *asking, node int, sign int64) {
	v, res := h.view, a.task.Resources
	res = api.Resources{CPU: sign * res.CPU, Memory: sign * res.Memory, Disk: sign * res.Disk}
	v.free[node] = v.free[node].Add(res)
	v.given[node] = v.given[node].Sub(res)
	v.reckon(node)
	if v.opportunity != nil {
		v.opportunity.reckon(v, node)
	}
	if v.devices != nil && v.devices.outlook != nil {
		v.devices.outlook.changed(node)
	}
	v.counts.task[node] -= int32(sign)
	v.counts.job[node] -= int32(sign)
	v.counts.live[node] -= int32(sign)
	for i := range a.spreads {
		a.spreads[i].counts[a.spreads[i].of[node]] -= int32(sign)
	}
}

// worth is what the cluster gains when an instance that was just taken off from goes to another node. Scores are what
// single instances think, and what one gains another may lose: a small one that packs would run after a large one that flees
// company for ever. The figure that this is a difference of goes by the algorithm of the cluster: the sum over the nodes of
// the squares of their load, which packing raises and levelling lowers; and for the rest what the task says of the numbers of its
// own instances, weighed by how large they are. So each instance's wish is a step up or down one and the same hill.
func (h *search) worth(t *seated, a *asking, from, to int, wishes float64) float64 {
	v, ask := h.view, t.task.Resources
	cpu, memory := 0.0, 0.0 // what is asked for, in parts of a mean node
	if h.meanCPU > 0 {
		cpu = float64(ask.CPU) / h.meanCPU
	}
	if h.meanMemory > 0 {
		memory = float64(ask.Memory) / h.meanMemory
	}
	size := max((cpu+memory)/2, 1e-6)
	own := float64(v.counts.task[from] - v.counts.task[to])
	switch cmp.Or(t.job.Scheduler, h.options.Algorithm, api.AlgorithmBinpack) {
	case api.AlgorithmSpread:
		wishes += own
	case api.AlgorithmBinpack:
		wishes += own * selfAversion / float64(max(t.task.Count, 1))
	}
	cpuTo, memoryTo := h.loaded(to, ask)
	cpuFrom, memoryFrom := h.loaded(from, ask)
	load := cpu*(cpuTo-cpuFrom) + memory*(memoryTo-memoryFrom)
	const rounding = 1e-9
	return size*wishes + h.sign*load/2 - rounding
}

// loaded are the parts of a node in use with half of an instance more: on average while it comes. What is measured counts where
// the cluster's algorithm goes by it.
func (h *search) loaded(node int, ask api.Resources) (cpu, memory float64) {
	v := h.view
	cpu, memory = v.cpu[node], v.memory[node]
	if a := h.options.Algorithm; a == api.AlgorithmGreedy || a == api.AlgorithmEPVM {
		if used, ok := v.load().usedCPU(v, node); ok {
			cpu = max(cpu, used)
		}
		if used, ok := v.load().usedMemory(v, node); ok {
			memory = max(memory, used)
		}
	}
	return cpu + float64(ask.CPU)*v.perCPU[node]/2, memory + float64(ask.Memory)*v.perMemory[node]/2
}

// move makes a task's best move.
func (h *search) move(t *seated) {
	s := &(*t.whole)[t.best.seat]
	v, from := h.view, s.node
	h.out.Moves = append(h.out.Moves, Relocation{Row: *s.row, To: t.best.to, Gain: 100 * t.best.gain, Why: h.words(t)})
	v.free[from] = v.free[from].Add(t.task.Resources)
	v.given[from] = v.given[from].Sub(t.task.Resources)
	v.give(from, api.Resources{}, grant{})
	var ports []api.PortBinding
	for _, p := range t.task.Ports {
		if p.Static == 0 {
			continue
		}
		delete(v.taken, nodePort{from, p.Static})
		set(&h.vacated.ports, nodePort{from, p.Static}, true)
		delete(h.vacated.ports, nodePort{t.best.to, p.Static})
		ports = append(ports, api.PortBinding{Host: p.Static})
	}
	v.give(t.best.to, t.task.Resources, grant{ports: ports})
	s.node, s.moved = t.best.to, true
}

// words name the parts of the best move's gain that can be seen.
func (h *search) words(t *seated) string {
	var parts []string
	for i, name := range [3]string{cmp.Or(t.job.Scheduler, h.options.Algorithm, api.AlgorithmBinpack), "affinity", "spread"} {
		if points := math.Round(100 * t.best.why[i]); points != 0 {
			parts = append(parts, fmt.Sprintf("%s %+.0f", name, points))
		}
	}
	return strings.Join(parts, ", ")
}
