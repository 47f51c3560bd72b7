package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"cube/api"
)

// ranking is the nodes that can take an instance of a task, the best on top. Taking one changes the score of that node
// only, so the ranking is a heap whose top is put right after each placement.
//
// Spreads break this: an instance on a node makes every node with the same value of the attribute worse. So the nodes are
// grouped by their values: within a group all are worse by the same cost, which leaves their order alone. Each group is a
// heap, and the groups are a heap by their best node less their cost. With one spread a placement changes the cost of its
// own group only; with several, all groups are put in order anew.
//
// Most evaluations place few instances. The first ones are found by looking at what all requests of the shape have in
// common (ratings), where there is such a thing; and of the rest all is put right when the next one is asked for, since a
// look at each node is enough to find the best.
type ranking struct {
	request *request
	score   scoring
	ratings *ratings
	looks   int // how often the ratings may still be asked
	spreads []spreadTable
	made    bool // the groups
	groups  []group
	order   []int32 // heap of the groups that have nodes left
	used    bool    // the first group's best node has been taken or changed since all was in order
	before  func(a, b int32) bool
}

// group is the nodes that share their values of the spread attributes.
type group struct {
	nodes  []candidate // the best in front; a heap once it is heaped
	heaped bool
	values []int32 // of each spread, into its table
	cost   float64
}

// candidate is a node with its score. Equal scores are told apart by tie, the smaller first: by how many instances of the
// job the node has, then by a hash of node and job, so that jobs begin at different nodes.
type candidate struct {
	score float64
	tie   uint64
	node  int32
}

func better(a, b candidate) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	if a.tie != b.tie {
		return a.tie < b.tie
	}
	return a.node < b.node
}

// newRanking ranks the nodes for a request whose counts are filled in. rows are the job's.
func newRanking(r *request, score scoring, rows []api.AllocationRow) *ranking {
	k := &ranking{request: r, score: score, spreads: newSpreadTables(r, rows)}
	k.before = k.betterGroup
	return k
}

// make ranks all nodes as they are now.
func (k *ranking) make() {
	r := k.request
	k.made = true
	if len(k.spreads) == 0 {
		k.groups = []group{{nodes: r.view.scratch[:0]}} // a batch ranks for one task at a time
	}
	places := map[string]int32{} // of groups, by their values
	var key []byte
	r.open.each(func(node int) {
		if !r.fits(node) {
			return
		}
		g := int32(0)
		if len(k.spreads) > 0 {
			key = k.groupKey(key[:0], node)
			place, ok := places[string(key)]
			if !ok {
				place = int32(len(k.groups))
				places[string(key)] = place
				k.groups = append(k.groups, k.newGroup(node))
			}
			g = place
		}
		k.groups[g].nodes = append(k.groups[g].nodes, k.candidate(node))
	})
	for g := range k.groups {
		if nodes := k.groups[g].nodes; len(nodes) > 0 {
			best := 0
			for i := range nodes {
				if better(nodes[i], nodes[best]) {
					best = i
				}
			}
			nodes[0], nodes[best] = nodes[best], nodes[0]
			k.order = append(k.order, int32(g))
		}
	}
	heapify(k.order, k.before)
}

func (k *ranking) candidate(node int) candidate {
	return candidate{k.score(node), k.tie(node), int32(node)}
}

func (k *ranking) tie(node int) uint64 {
	v := k.request.view
	return uint64(v.counts.job[node])<<48 | mix64(v.hash[node]^k.request.seed)>>16
}

func (k *ranking) groupKey(key []byte, node int) []byte {
	for i := range k.spreads {
		value := k.spreads[i].of[node]
		key = append(key, byte(value), byte(value>>8), byte(value>>16), byte(value>>24))
	}
	return key
}

func (k *ranking) newGroup(node int) group {
	g := group{values: make([]int32, len(k.spreads))}
	for i := range k.spreads {
		g.values[i] = k.spreads[i].of[node]
	}
	g.cost = k.cost(&g)
	return g
}

func (k *ranking) cost(g *group) float64 {
	cost := 0.0
	for i, value := range g.values {
		cost += k.spreads[i].cost(value)
	}
	return cost
}

func (k *ranking) betterGroup(a, b int32) bool {
	x, y := k.groups[a].nodes[0], k.groups[b].nodes[0]
	x.score -= k.groups[a].cost
	y.score -= k.groups[b].cost
	return better(x, y)
}

// next takes the best node and gives it an instance, with its ports and devices. ok is false when no node can take one.
func (k *ranking) next() (node int, given grant, ok bool) {
	r := k.request
	if k.looks > 0 {
		k.looks--
		if node = k.best(); node < 0 {
			return 0, grant{}, false
		}
		if given.ports, ok = r.view.bind(node, r.task.Ports); ok {
			given.devices = r.claim(node)
			r.give(node, given)
			return node, given, true
		}
		k.looks = 0 // they know nothing of ports; the groups can do without a node
	}
	return k.take(nil)
}

// nextAway is next for an instance that is better off away from some nodes, the worst of them first: one of these is taken
// only where no other node can take it, and then the last.
func (k *ranking) nextAway(from []int32) (node int, given grant, ok bool) {
	if len(from) == 0 {
		return k.next()
	}
	k.looks = 0
	for {
		if node, given, ok = k.take(from); ok || len(from) == 0 {
			return node, given, ok
		}
		from = from[:len(from)-1]
	}
}

// take takes the best node that is none of some.
func (k *ranking) take(but []int32) (node int, given grant, ok bool) {
	if !k.made {
		k.make()
	}
	if k.used {
		k.mend()
	}
	r := k.request
	var aside []placed
	if len(but) > 0 {
		defer func() { k.bringBack(aside) }()
	}
	for len(k.order) > 0 {
		g := &k.groups[k.order[0]]
		if slices.Contains(but, g.nodes[0].node) {
			aside = append(aside, placed{k.order[0], g.nodes[0]})
			g.drop()
			k.mend()
			continue
		}
		node = int(g.nodes[0].node)
		if given.ports, ok = r.view.bind(node, r.task.Ports); !ok {
			g.drop()
			k.mend()
			continue
		}
		given.devices = r.claim(node)
		r.give(node, given)
		for i, value := range g.values {
			k.spreads[i].counts[value]++
		}
		if r.fits(node) {
			g.nodes[0] = k.candidate(node)
		} else {
			g.drop()
		}
		k.used = true
		return node, given, true
	}
	return 0, grant{}, false
}

// placed is a node that was taken out of its group.
type placed struct {
	group int32
	candidate
}

// bringBack puts nodes back to where they were taken from.
func (k *ranking) bringBack(nodes []placed) {
	if len(nodes) == 0 {
		return
	}
	if k.used {
		k.mend()
	}
	for _, n := range nodes {
		g := &k.groups[n.group]
		if len(g.nodes) == 0 {
			g.cost = k.cost(g)
			k.order = append(k.order, n.group)
		}
		g.nodes, g.heaped = append(g.nodes, n.candidate), false
		if last := len(g.nodes) - 1; better(n.candidate, g.nodes[0]) {
			g.nodes[0], g.nodes[last] = g.nodes[last], g.nodes[0]
		}
	}
	heapify(k.order, k.before)
}

// drop removes the group's best node; any other takes its place until the group is mended.
func (g *group) drop() {
	last := len(g.nodes) - 1
	g.nodes[0] = g.nodes[last]
	g.nodes = g.nodes[:last]
}

// mend puts the nodes of the first group in order after its first one changed, then the groups.
func (k *ranking) mend() {
	k.used = false
	g := &k.groups[k.order[0]]
	if g.heaped {
		siftDown(g.nodes, 0, better)
	} else {
		heapify(g.nodes, better)
		g.heaped = true
	}
	if len(g.nodes) == 0 {
		last := len(k.order) - 1
		k.order[0] = k.order[last]
		k.order = k.order[:last]
	} else {
		g.cost = k.cost(g)
	}
	if len(k.spreads) < 2 {
		siftDown(k.order, 0, k.before)
		return
	}
	for _, i := range k.order {
		k.groups[i].cost = k.cost(&k.groups[i])
	}
	heapify(k.order, k.before)
}

func heapify[T any](h []T, better func(a, b T) bool) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i, better)
	}
}

// siftDown moves the element at i down to where it belongs.
func siftDown[T any](h []T, i int, better func(a, b T) bool) {
	for {
		best := 2*i + 1
		if best >= len(h) {
			return
		}
		if right := best + 1; right < len(h) && better(h[right], h[best]) {
			best = right
		}
		if !better(h[best], h[i]) {
			return
		}
		h[i], h[best] = h[best], h[i]
		i = best
	}
}

const (
	// maxRatings is how many shapes of requests a view remembers the ratings of, twice over: 8 bytes for each and node.
	maxRatings = 16
	// looks is how many instances of a task are placed by looking through all ratings, a few microseconds each. From then on
	// scoring every node for the request and keeping a heap, a hundred microseconds or more, is cheaper.
	looks = 16
)

// ratings are what all requests of one shape (the fixed filters, devices, resources, affinities and the algorithm) think of
// the nodes: each node's score as long as the request's job has nothing there. So they serve one job after the other, and
// only the nodes that have changed are scored again.
type ratings struct {
	scores  []float64 // by node, of those that are open to the shape; NaN: it cannot take an instance
	seen    int       // how many of the view's changes they know; -1: they know nothing
	lasting bool      // they hold beyond the batch: the algorithm looks at nothing but what the view follows
}

// rank ranks the nodes for a request whose counts are filled in.
func (c *change) rank(r *request) *ranking {
	k := newRanking(r, c.algorithm(r), c.rows)
	algorithm := cmp.Or(c.job.Scheduler, c.options.Algorithm, api.AlgorithmBinpack)
	if len(r.task.Spreads) > 0 || len(r.task.Ports) > r.dynamic || algorithm == api.AlgorithmRoundRobin {
		return k // what they think of a node depends on other nodes, on static ports, or on the job
	}
	ask := r.task.Holds()
	key := fmt.Appendf(r.shape, "%d %d %d\n%s", ask.CPU, ask.Memory, ask.Disk, algorithm)
	for _, a := range r.task.Affinities {
		key = append(append(key, '\n'), conditionKey(a.Attribute, a.Operator, a.Value)...)
		key = fmt.Appendf(key, " %d", a.Weight)
	}
	v := r.view
	k.looks = looks
	ok := false
	if k.ratings, ok = v.ratings.get(string(key)); !ok {
		lasting := algorithm == api.AlgorithmSpread || algorithm == api.AlgorithmBinpack && v.devices == nil
		k.ratings = &ratings{scores: make([]float64, len(v.nodes)), seen: -1, lasting: lasting}
		v.ratings.put(string(key), k.ratings)
	}
	return k
}

// best finds the best node for one more instance, -1 if none can take it. The nodes on which the job has something are
// scored for it, in place of what others think of them.
func (k *ranking) best() int {
	k.follow()
	scores, some := k.ratings.scores, k.request.view.counts.some
	others := make([]float64, len(some))
	for i, node := range some {
		others[i] = scores[node]
		if k.request.open.has(int(node)) {
			scores[node] = k.rate(int(node))
		}
	}
	node := k.top()
	for i, node := range some {
		scores[node] = others[i]
	}
	return node
}

// follow brings the ratings up to date.
func (k *ranking) follow() {
	r, t := k.request, k.ratings
	changes := r.view.changes
	if t.seen < 0 || len(changes)-t.seen > len(t.scores)/2 {
		r.open.each(func(node int) { t.scores[node] = k.rateAlone(node) })
	} else {
		for _, node := range changes[t.seen:] {
			if r.open.has(int(node)) {
				t.scores[node] = k.rateAlone(int(node))
			}
		}
	}
	t.seen = len(changes)
}

// rate is the node's score for the request as it is.
func (k *ranking) rate(node int) float64 {
	if !k.request.fits(node) {
		return math.NaN()
	}
	if score := k.score(node); score == score {
		return score
	}
	return math.Inf(-1)
}

// rateAlone is the node's score as if the job had nothing there.
func (k *ranking) rateAlone(node int) float64 {
	c := &k.request.view.counts
	task, job, live := c.task[node], c.job[node], c.live[node]
	if task|job|live == 0 {
		return k.rate(node)
	}
	c.task[node], c.job[node], c.live[node] = 0, 0, 0
	score := k.rate(node)
	c.task[node], c.job[node], c.live[node] = task, job, live
	return score
}

// top returns the node with the highest score of those that are open, -1 if there is none; ties go as in better.
func (k *ranking) top() int {
	scores, open := k.ratings.scores, k.request.open
	highest := math.Inf(-1)
	for w, word := range open {
		if word == ^uint64(0) { // most words are all or nothing
			for _, score := range scores[w<<6 : w<<6+64] {
				if score > highest {
					highest = score
				}
			}
			continue
		}
		for ; word != 0; word &= word - 1 {
			if score := scores[w<<6+bits.TrailingZeros64(word)]; score > highest {
				highest = score
			}
		}
	}
	best, least := -1, uint64(0)
	open.each(func(node int) {
		if scores[node] == highest {
			if tie := k.tie(node); best < 0 || tie < least {
				best, least = node, tie
			}
		}
	})
	return best
}
