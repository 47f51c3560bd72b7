// Package usage gathers what instances use from the nodes that run them, when somebody asks.
package usage

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"cube/api"
)

const (
	// patience is how long a node is waited for: a person looks at a screen meanwhile. It is enough for an engine that
	// counts once a second, to be asked for two counts.
	patience = 2500 * time.Millisecond
	// nodesAtOnce bounds the questions under way.
	nodesAtOnce = 64
)

// Question is whose use is asked for. Make it with NewQuestion.
type Question struct {
	text    api.IDText
	nodes   map[string]*node
	asked   int
	omitted int
}

// node is a node with what is to be measured there.
type node struct {
	id, name  string
	worker    api.Worker                    // nil: it cannot be asked
	reason    string                        // why
	instances map[api.ID]*api.InstanceUsage // the use is filled in
}

// NewQuestion begins a question; text says how people see IDs.
func NewQuestion(text api.IDText) *Question { return &Question{text: text, nodes: map[string]*node{}} }

// Add asks for the use of those of the allocations that run, or have parts that run before them, each once, and at most api.MaxUsage in all.
func (q *Question) Add(rows iter.Seq[api.AllocationRow]) {
	for r := range rows {
		if r.Phase != api.PhaseRunning && r.Phase != api.PhasePreparing || q.nodes[r.Node] != nil && q.nodes[r.Node].instances[r.ID] != nil {
			continue
		}
		if q.asked == api.MaxUsage {
			q.omitted++
			continue
		}
		q.asked++
		n := q.nodes[r.Node]
		if n == nil {
			n = &node{id: r.Node, instances: map[api.ID]*api.InstanceUsage{}}
			q.nodes[r.Node] = n
		}
		n.instances[r.ID] = &api.InstanceUsage{
			Allocation: q.text.Format(r.ID), Name: api.InstanceName(r.Job, r.Task, r.Slot), Job: r.Job, Task: r.Task, NodeID: r.Node, Reserved: r.Held,
		}
	}
}

// Gather asks all nodes at once and returns what those told that answered in time. find returns a node's name, and the way
// to it or why there is none.
func (q *Question) Gather(ctx context.Context, find func(node string) (name string, w api.Worker, err error)) *api.UsageReport {
	report := &api.UsageReport{Instances: []api.InstanceUsage{}, Omitted: q.omitted}
	var mu sync.Mutex // guards report
	var group sync.WaitGroup
	places := make(chan struct{}, nodesAtOnce)
	for _, n := range q.nodes {
		var err error
		if n.name, n.worker, err = find(n.id); err != nil {
			n.worker, n.reason = nil, err.Error()
		}
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			measured, reason := n.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			if reason != "" {
				report.Silent = append(report.Silent, api.SilentNode{ID: n.id, Name: n.name, Reason: reason})
			}
			for _, u := range measured {
				if i := n.instances[u.ID]; i != nil {
					i.Usage, i.Checks, i.Parts = u.Usage, u.Checks, u.Parts
					report.Instances = append(report.Instances, *i)
				}
			}
		})
	}
	group.Wait()
	slices.SortFunc(report.Instances, func(a, b api.InstanceUsage) int { return cmp.Compare(a.Allocation, b.Allocation) })
	slices.SortFunc(report.Silent, func(a, b api.SilentNode) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return report
}

func (n *node) ask(ctx context.Context) (measured []api.AllocationUsage, reason string) {
	if n.worker == nil {
		return nil, n.reason
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	measured, err := n.worker.Usage(ctx, slices.Sorted(maps.Keys(n.instances)))
	switch {
	case err == nil:
		return measured, ""
	case ctx.Err() != nil:
		return nil, "it did not answer in time"
	}
	return nil, err.Error()
}
