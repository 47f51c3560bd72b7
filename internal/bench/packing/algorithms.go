package packing

import (
	"fmt"
	"strings"
)

// builder makes an algorithm for a cluster. The seed is for those that leave things to chance.
type builder func(c *cluster, t *Trace, seed uint64) algorithm

// contender is an algorithm that is compared.
type contender struct {
	name, what string
	build      builder
}

// Ours is the name of the scheduler's default among the contenders; "cube:NAME" is another of its algorithms.
const Ours = "cube"

// contenders are all that there are to compare, Cube's default first.
func contenders() []contender {
	score := func(score func(c *cluster) func(int, *Task) float64) builder {
		return func(c *cluster, _ *Trace, seed uint64) algorithm {
			return &ranked{c, chance(seed, "ties"), score(c)}
		}
	}
	return []contender{
		{Ours, "Cube's default: prospects, through scheduler.Schedule", func(c *cluster, t *Trace, _ uint64) algorithm { return newCube(c, "") }},
		{"fgd", "fragmentation gradient descent, told the workload in advance", func(c *cluster, t *Trace, _ uint64) algorithm { return newFGD(c, t, nil) }},
		{"fgd-random", "the same, chance among equals", func(c *cluster, t *Trace, seed uint64) algorithm { return newFGD(c, t, chance(seed, "ties")) }},
		{"least", "least allocated of all nodes (Kubernetes)", score(func(c *cluster) func(int, *Task) float64 { return c.leastAllocated })},
		{"most", "most allocated of all nodes (Kubernetes)", score(func(c *cluster) func(int, *Task) float64 { return c.mostAllocated })},
		{"nomad", "best fit of log2(n) of the nodes, shuffled (Nomad)", func(c *cluster, _ *Trace, seed uint64) algorithm { return newNomad(c, chance(seed, "nodes")) }},
		{"swarm", "fewest instances (Swarm)", func(c *cluster, _ *Trace, seed uint64) algorithm { return newSwarm(c, chance(seed, "ties")) }},
		{"dot", "dot product (Tetris)", score(func(c *cluster) func(int, *Task) float64 { return c.dotProduct })},
		{"random", "any node that can", score(func(*cluster) func(int, *Task) float64 { return func(int, *Task) float64 { return 0 } })},
	}
}

// choose finds contenders by their names, all for "".
func choose(names string) ([]contender, error) {
	all := contenders()
	if names == "" {
		return all, nil
	}
	var chosen []contender
	for name := range strings.SplitSeq(names, ",") {
		if other, ok := strings.CutPrefix(name, Ours+":"); ok {
			chosen = append(chosen, contender{name, "Cube's " + other, func(c *cluster, _ *Trace, _ uint64) algorithm { return newCube(c, other) }})
			continue
		}
		found := false
		for _, k := range all {
			if k.name == name {
				chosen, found = append(chosen, k), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no algorithm %q", name)
		}
	}
	return chosen, nil
}
