package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

// Bounds of an explanation, so that it stays under api.MaxExplanationSize however long attributes and reasons are.
const (
	maxFilters     = 8
	maxFilterName  = 96
	maxFilterValue = 112
	maxValues      = 3 // different values that are named
)

// noteNoClient is what there is to say when there are no nodes at all.
const noteNoClient = "no client has joined the cluster"

// refusal is why a node cannot take an instance: the first filter that it fails. What a filter on an amount wants and sees
// stays a number here, since a thousand nodes may say the same.
type refusal struct {
	rank      int // filters passed before
	filter    string
	wanted    string             // of a filter that is not about an amount
	seen      string             // the same
	ask, free int64              // of one that is, or that knows how near a node is to passing it; else 1 and 0
	format    func(int64) string // writes amounts; nil if there are none
}

// short is the part of what is asked for that is missing.
func (f *refusal) short() float64 {
	return float64(f.ask-f.free) / float64(f.ask)
}

// refusal says why the node cannot take an instance now; ok is false if it can.
func (r *request) refusal(node int) (f refusal, ok bool) {
	for f := range r.objections(node) {
		return f, true
	}
	return refusal{}, false
}

// objections yields all that speaks against the node now, in the order in which it is asked.
func (r *request) objections(node int) iter.Seq[refusal] {
	return func(yield func(refusal) bool) {
		rank := 0
		for _, filters := range [2][]filter{r.fixed, r.others} {
			for i := range filters {
				if f := &filters[i]; (f.given == nil || f.given(node)) && !f.passes(node) {
					ask, free := int64(1), int64(0)
					if f.amount != nil {
						ask, free = f.amount(node)
					}
					if !yield(refusal{rank: rank, filter: f.name, wanted: f.wanted, seen: f.seen(node), ask: ask, free: free}) {
						return
					}
				}
				rank++
			}
		}
		ask, free := r.task.Holds(), r.view.free[node]
		if ask.CPU > free.CPU && !yield(amountRefusal(rank, "cpu", ask.CPU, free.CPU, api.FormatCPU)) ||
			ask.Memory > free.Memory && !yield(amountRefusal(rank+1, "memory", ask.Memory, free.Memory, api.FormatMiB)) ||
			ask.Disk > free.Disk && !yield(amountRefusal(rank+2, "disk", ask.Disk, free.Disk, api.FormatMiB)) {
			return
		}
		if ports := r.view.freeDynamicPorts(node, r.task.Ports, r.dynamic); ports < r.dynamic {
			yield(amountRefusal(rank+3, "dynamic ports", int64(r.dynamic), int64(ports), formatCount))
		}
	}
}

func amountRefusal(rank int, filter string, ask, free int64, format func(int64) string) refusal {
	// A node can shrink under what it holds: less than nothing is nothing.
	return refusal{rank: rank, filter: filter, ask: ask, free: max(free, 0), format: format}
}

func formatCount(n int64) string { return strconv.FormatInt(n, 10) }

// refusals adds up the nodes that one filter turned away.
type refusals struct {
	refusal
	nodes     int
	low, high int64          // amounts
	seen      map[string]int // nodes by what they have instead
}

func newRefusals(f refusal) *refusals {
	return &refusals{refusal: f, low: f.free, high: f.free, seen: map[string]int{}}
}

func (s *refusals) add(f *refusal) {
	s.nodes++
	if f.format == nil {
		s.seen[f.seen]++
		return
	}
	s.low, s.high = min(s.low, f.free), max(s.high, f.free)
}

func (s *refusals) wantedText() string {
	if s.format != nil {
		return s.format(s.ask)
	}
	return s.wanted
}

// seenText is the range of the amounts, or the commonest values.
func (s *refusals) seenText() string {
	if s.format != nil {
		low, high := s.format(s.low), s.format(s.high)
		if low == high {
			return low + " free"
		}
		if number, unit, _ := strings.Cut(low, " "); strings.HasSuffix(high, " "+unit) {
			low = number // "96 to 128 MiB", not "96 MiB to 128 MiB"
		}
		return low + " to " + high + " free"
	}
	values := slices.Sorted(maps.Keys(s.seen))
	slices.SortStableFunc(values, func(a, b string) int { return cmp.Compare(s.seen[b], s.seen[a]) })
	if len(values) > maxValues {
		values = append(values[:maxValues], "...")
	}
	return strings.Join(values, ", ")
}

// explain says of every node why it cannot take one more instance of the task.
func (r *request) explain(e *api.Explanation) { r.explainAmong(e, r.view.everyNode()) }

// explainAmong says it of some nodes.
func (r *request) explainAmong(e *api.Explanation, nodes iter.Seq[int]) {
	e.Nodes = len(r.view.nodes)
	if e.Nodes == 0 {
		e.Note = strings.TrimSuffix(noteNoClient+"; "+e.Note, "; ")
		return
	}
	sums := map[int]*refusals{}
	var ordered []*refusals
	nearest, miss := -1, refusal{}
	for node := range nodes {
		f, ok := r.refusal(node)
		if !ok {
			continue // only if the filters disagree with each other, which the tests exclude
		}
		if nearest < 0 || f.rank > miss.rank || f.rank == miss.rank && f.short() < miss.short() {
			nearest, miss = node, f
		}
		s := sums[f.rank]
		if s == nil {
			s = newRefusals(f)
			sums[f.rank] = s
			ordered = append(ordered, s)
		}
		s.add(&f)
	}
	slices.SortFunc(ordered, func(a, b *refusals) int {
		return cmp.Or(cmp.Compare(b.nodes, a.nodes), cmp.Compare(a.rank, b.rank))
	})
	e.Filters = filterCounts(ordered)
	if nearest >= 0 {
		near := newRefusals(miss)
		near.add(&miss)
		c := near.count()
		e.Nearest = &api.NearestMiss{Node: clip(r.view.nodes[nearest].Name, maxFilterName), Filter: c.Filter, Wanted: c.Wanted, Seen: c.Seen}
	}
}

func (s *refusals) count() api.FilterCount {
	return api.FilterCount{Filter: clip(s.filter, maxFilterName), Nodes: s.nodes, Wanted: clip(s.wantedText(), maxFilterValue),
		Seen: clip(s.seenText(), maxFilterValue)}
}

// filterCounts writes down the filters that turned away most nodes. What is over the bound is added up, so that the
// counts still say of every node where it went.
func filterCounts(ordered []*refusals) []api.FilterCount {
	var out []api.FilterCount
	for i, s := range ordered {
		if i >= maxFilters {
			out[maxFilters].Nodes += s.nodes
			continue
		}
		out = append(out, s.count())
		if i == maxFilters-1 && len(ordered) > maxFilters {
			out = append(out, api.FilterCount{Filter: "other filters"})
		}
	}
	return out
}

// Diagnose says of every node whether it could take one more instance of a task now: all that speaks against it, or how
// well it would do. The filters and scores are those that Schedule decides by. The job is one that s holds, not stopped.
func Diagnose(s State, job *api.Job, task string, o Options) api.TaskDiagnosis {
	c := &change{batch: &batch{state: s, options: o, view: newView(s, o)}, job: job}
	for row := range s.JobRows(job.Name) {
		c.rows = append(c.rows, row)
	}
	t := job.Task(task)
	r := newRequest(c.view, job, t)
	r.count(c.rows, nil)
	d := api.TaskDiagnosis{Task: task, Wanted: t.Count, Algorithm: c.algorithmName(), Filters: r.filterNames()}
	if job.Type.EveryNode() {
		d.Wanted, d.Algorithm = c.wantedOnNodes(r), ""
	}
	base, spreads := c.base(r), newSpreadTables(r, c.rows)
	score := r.withAffinities(base)
	for node, n := range c.view.nodes {
		nd := api.NodeDiagnosis{ID: n.ID, Name: n.Name, Instances: int(c.view.counts.task[node])}
		if job.Type.EveryNode() && nd.Instances > 0 { // nothing else is asked of it
			nd.Score = &api.Score{}
			d.Nodes = append(d.Nodes, nd)
			continue
		}
		for f := range r.objections(node) {
			nd.Failures = append(nd.Failures, f.failure(n))
		}
		if len(nd.Failures) == 0 {
			own, wished, crowd := base(node), score(node), 0.0
			for i := range spreads {
				crowd += spreads[i].cost(spreads[i].of[node])
			}
			nd.Score = &api.Score{Total: wished - crowd, Algorithm: own, Affinity: wished - own, Spread: -crowd}
		}
		d.Nodes = append(d.Nodes, nd)
	}
	d.Nearest = r.nearest(d.Nodes)
	return d
}

// nearest returns the place of the node that has least against it, -1 if one fits or there is none: the fewest objections,
// of these the fewest that are not about amounts, of these the least that is missing.
func (r *request) nearest(nodes []api.NodeDiagnosis) int {
	best, bestRank := -1, [3]float64{}
	for node := range nodes {
		if r.job.Type.EveryNode() && nodes[node].Instances > 0 {
			continue // it has all that it is to have
		}
		rank := [3]float64{}
		for f := range r.objections(node) {
			rank[0]++
			rank[2] += f.short()
			if f.format == nil {
				rank[1]++
			}
		}
		if rank[0] == 0 {
			return -1
		}
		if best < 0 || slices.Compare(rank[:], bestRank[:]) < 0 {
			best, bestRank = node, rank
		}
	}
	return best
}

// filterNames lists what a node is asked, in order.
func (r *request) filterNames() []string {
	var names []string
	for _, filters := range [2][]filter{r.fixed, r.others} {
		for i := range filters {
			names = append(names, filters[i].name)
		}
	}
	names = append(names, "cpu", "memory", "disk")
	if r.dynamic > 0 {
		names = append(names, "dynamic ports")
	}
	return names
}

func (f *refusal) failure(n *api.Node) api.FilterFailure {
	out := api.FilterFailure{Filter: f.filter, Wanted: f.wanted, Seen: f.seen}
	if f.filter == filterReady {
		out.Since = n.UnreadySince()
		if n.Status == api.NodeReady {
			out.Seen = n.Closed() // about one node there is room for who and why
		}
	}
	if f.format != nil {
		out.Wanted, out.Seen, out.Missing = f.format(f.ask), f.format(f.free)+" free", f.format(f.ask-f.free)
	}
	return out
}

// Room tells, without placing anything, whether instances would surely find a place. It is made of one state and looks at
// it as Schedule does; it is not safe for concurrent use.
type Room struct {
	view     *view
	roomiest []int32 // the nodes, those with the largest free part first
	tasks    map[*api.Task]*room
	ports    []int16 // 1 + the dynamic ports left, up to manyPorts; 0: not counted yet
}

// manyPorts is how many free ports of a node are counted: more than what runs on one machine asks for.
const manyPorts = 256

// room is what is known of one task.
type room struct {
	request *request
	nodes   bitmap // that can take one more instance, dynamic ports apart
	devices bool
	static  bool // ports
}

// Want is instances of one task that are to be placed: Count that must have a place, and Others that may take one.
type Want struct {
	Job           *api.Job
	Task          *api.Task // of the job
	Count, Others int
}

// NewRoom looks at all nodes once.
func NewRoom(s State) *Room {
	b := &batch{view: newView(s, Options{})}
	for e := range s.Promised() { // whoever is less important has to do without that
		b.keep(e.Job, e.Promises)
	}
	r := &Room{view: b.view, tasks: map[*api.Task]*room{}}
	free := make([]float64, len(r.view.nodes))
	for i := range r.view.nodes {
		r.roomiest = append(r.roomiest, int32(i))
		free[i] = 1 - max(r.view.cpu[i], r.view.memory[i])
	}
	slices.SortStableFunc(r.roomiest, func(a, b int32) int { return cmp.Compare(free[b], free[a]) })
	return r
}

// Suffices reports that whoever places the instances, in whatever order and on whichever nodes that can take them, places all,
// though the node with the ordinal takes none. false says that this is not certain, not that it is not so.
//
// The argument: let the last instance of a task find no place. Then each node that could take one when all began has been
// given so much of some resource that this one does not fit any more. How much that is at least is known of every node; what
// all the others hold together is known, too. Counted in parts of that, those who fill nodes have one whole to spend of each
// resource: once the nodes' shares add up to more, somebody is missing to fill them. What fills a node otherwise (another
// instance of the task where hosts are to be distinct, a port, a device) fills one node each: as many nodes, the roomiest, are
// given up beforehand.
func (r *Room) Suffices(wants []Want, without int) bool {
	var load api.Resources
	instances, bound, served := 0, 0, 0 // in all, with ports, with devices
	ports := 0
	for i := range wants {
		w, n := &wants[i], wants[i].Count+wants[i].Others
		ask := w.Task.Holds()
		load = load.Add(api.Resources{CPU: int64(n) * ask.CPU, Memory: int64(n) * ask.Memory, Disk: int64(n) * ask.Disk})
		instances += n
		ports += n * len(w.Task.Ports)
		if len(w.Task.Ports) > 0 {
			bound += n
		}
		if len(w.Task.Devices) > 0 {
			served += n
		}
	}
	for i := range wants {
		w := &wants[i]
		if w.Count == 0 {
			continue
		}
		t := r.task(w)
		others := 0 // that may fill a node by other things than amounts
		if t.request.distinct {
			others += w.Count + w.Others - 1
		}
		if t.static {
			others += bound - 1
		}
		if t.devices {
			others += served - 1
		}
		if !r.holds(t, load, min(others, instances-1), ports, without) {
			return false
		}
	}
	return true
}

// holds reports whether the nodes cannot all be filled by the load less one instance of the task, and so many nodes more.
func (r *Room) holds(t *room, load api.Resources, others, ports, without int) bool {
	ask := t.request.task.Holds()
	rest := load.Sub(ask)
	kinds := 0.0
	for _, amount := range [3]int64{rest.CPU, rest.Memory, rest.Disk} {
		if amount > 0 {
			kinds++
		}
	}
	// No node counts for more than it takes to decide, so that giving one up costs no more than that either.
	most := kinds + 1
	enough := kinds + float64(others)*most
	sum := 0.0
	for _, n := range r.roomiest {
		node := int(n)
		if node == without || !t.nodes.has(node) || !r.portsLeft(t, node, ports) {
			continue
		}
		sum += min(most, fillable(r.view.free[node].Sub(ask), rest, most))
		if sum > enough {
			return true
		}
	}
	return false
}

// fillable is the least part of the load that has to go to a node to leave it with less than it needs: it has more left than
// that by over.
func fillable(over, load api.Resources, most float64) float64 {
	part := most
	for _, of := range [3][2]int64{{over.CPU, load.CPU}, {over.Memory, load.Memory}, {over.Disk, load.Disk}} {
		if of[1] > 0 && of[0] < of[1] { // else there is not enough of it to fill the node
			part = min(part, float64(of[0]+1)/float64(of[1]))
		}
	}
	return part
}

// portsLeft reports whether a node surely has dynamic ports for all there is to place, wherever it goes.
func (r *Room) portsLeft(t *room, node, ports int) bool {
	if t.request.dynamic == 0 {
		return true
	}
	if r.ports == nil {
		r.ports = make([]int16, len(r.view.nodes))
	}
	if r.ports[node] == 0 {
		r.ports[node] = int16(1 + r.view.freeDynamicPorts(node, nil, manyPorts))
	}
	return int(r.ports[node])-1 >= ports
}

func (r *Room) task(w *Want) *room {
	if t := r.tasks[w.Task]; t != nil {
		return t
	}
	q := newRequest(r.view, w.Job, w.Task)
	t := &room{request: q, nodes: newBitmap(len(r.view.nodes)), devices: len(w.Task.Devices) > 0,
		static: slices.ContainsFunc(w.Task.Ports, func(p api.Port) bool { return p.Static != 0 })}
	if q.distinct {
		var rows []api.AllocationRow
		for row := range r.view.state.JobRows(w.Job.Name) {
			rows = append(rows, row)
		}
		q.count(rows, nil)
	}
	q.open.each(func(node int) { t.nodes.put(node, q.fits(node)) })
	r.tasks[w.Task] = t
	return t
}

// cannotLeave explains that an instance stays on its node for now, and with filters what speaks against all others.
func (c *change) cannotLeave(r *request, s *slot, row *api.AllocationRow, why string, filters bool) {
	note := fmt.Sprintf("%s cannot leave %s, which is being drained: %s",
		api.InstanceName(c.job.Name, r.task.Name, s.number), c.view.nodes[row.NodeOrdinal].Name, why)
	if e, fresh := c.remark(r.task, note); fresh && filters {
		r.explain(e)
	}
}

// remark says something of a task in its explanation, and reports whether it has made that.
func (c *change) remark(t *api.Task, note string) (e *api.Explanation, fresh bool) {
	c.messages = append(c.messages, note)
	for i := range c.answer.Explanations {
		if e := &c.answer.Explanations[i]; e.Task == t.Name {
			e.Note = strings.TrimPrefix(e.Note+"; "+note, "; ")
			return e, false
		}
	}
	c.answer.Explanations = append(c.answer.Explanations, api.Explanation{Task: t.Name, Wanted: t.Count, Placed: t.Count, Note: note})
	return &c.answer.Explanations[len(c.answer.Explanations)-1], true
}

// arrives says what a move waits for: "web[3] waits to be healthy on n2".
func (c *change) arrives(r *request, s *slot) string {
	name := api.InstanceName(c.job.Name, r.task.Name, s.number)
	for i := range c.answer.Placements {
		if p := &c.answer.Placements[i]; p.Task == r.task.Name && p.Slot == s.number {
			return name + " waits to run on " + c.view.nodes[c.view.ordinal(p.Node)].Name
		}
	}
	if s.state == slotStopping || s.next == slotStopping || s.beside == nil || s.beside.NodeOrdinal < 0 {
		return c.waitsFor(r.task, s)
	}
	if s.beside.Phase != api.PhaseRunning {
		return name + " waits to run on " + c.view.nodes[s.beside.NodeOrdinal].Name
	}
	return name + " waits to be healthy on " + c.view.nodes[s.beside.NodeOrdinal].Name
}
