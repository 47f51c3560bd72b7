package scheduler

import (
	"cmp"
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
		ask, free := r.task.Resources, r.view.free[node]
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
			nd.Failures = append(nd.Failures, f.failure())
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

func (f *refusal) failure() api.FilterFailure {
	out := api.FilterFailure{Filter: f.filter, Wanted: f.wanted, Seen: f.seen}
	if f.format != nil {
		out.Wanted, out.Seen, out.Missing = f.format(f.ask), f.format(f.free)+" free", f.format(f.ask-f.free)
	}
	return out
}
