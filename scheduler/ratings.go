package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"

	"cube/api"
)

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
	ask := r.task.Resources
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
