package contact

import (
	"iter"
	"sync"
	"time"

	"cube/api"
	"cube/fsm"
)

// Told is what the nodes that poll a server know: the version and desire of each of their allocations. A row that changed
// only because its own node reported it is no news to the node, so that a start costs one poll's answer, not three. It is kept
// between polls, so that a poll costs what has changed and not what there is.
type Told struct {
	mu    sync.Mutex
	nodes map[string]*ToldNode
}

// ToldNode is what one life of a node knows. One poll uses it at a time.
type ToldNode struct {
	incarnation uint64
	epoch       uint32
	index       uint64             // that a node asks from which knows all this
	scanned     uint64             // what changed up to here is no news to it
	Next        time.Time          // its turn for another answer with news
	rows        map[api.ID]toldRow // nil: not known yet
}

type toldRow struct {
	version uint64
	desired api.Desired
	hurry   bool
}

// NewTold returns what is known at first: nothing.
func NewTold() *Told { return &Told{nodes: make(map[string]*ToldNode)} }

// Take returns what the node knows, for one poll. One that asks from elsewhere than it was told last has missed an
// answer, or begins anew.
func (t *Told) Take(r *api.PollRequest) *ToldNode {
	t.mu.Lock()
	n := t.nodes[r.Node]
	delete(t.nodes, r.Node)
	t.mu.Unlock()
	if n == nil || n.incarnation != r.Incarnation {
		n = &ToldNode{incarnation: r.Incarnation}
	}
	if n.rows == nil || n.epoch != r.Epoch || n.index != r.Index || r.Index == 0 {
		n.epoch, n.index, n.scanned, n.rows = r.Epoch, r.Index, r.Index, nil
	}
	return n
}

// Put keeps what the node knows for its next poll.
func (t *Told) Put(r *api.PollRequest, n *ToldNode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes[r.Node] = n
}

// Forget drops a life of a node whose session ended.
func (t *Told) Forget(node string, incarnation uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[node]; n != nil && n.incarnation == incarnation {
		delete(t.nodes, node)
	}
}

// learn finds out what the node knew at the index that it asks from: its allocations that have not changed since.
func (n *ToldNode) learn(snapshot *fsm.Snapshot, r *api.PollRequest) {
	if n.rows != nil {
		return
	}
	n.rows = make(map[api.ID]toldRow)
	if r.Index == 0 {
		return
	}
	for row := range snapshot.NodeRows(r.Node, 0) {
		if row.ModifyIndex <= r.Index {
			n.rows[row.ID] = toldRow{row.Version, row.Desired, row.Hurry}
		}
	}
}

// News reports whether there is something to tell, and passes over what is none.
func (n *ToldNode) News(snapshot *fsm.Snapshot, r *api.PollRequest) bool {
	n.learn(snapshot, r)
	for row := range snapshot.NodeRows(r.Node, n.scanned) {
		if n.isNews(&row) {
			return true
		}
	}
	n.scanned = snapshot.Index()
	return false
}

// isNews says whether the node is to hear of a row that changed. What ended it said itself.
func (n *ToldNode) isNews(row *api.AllocationRow) bool {
	if row.Phase.Terminal() {
		delete(n.rows, row.ID)
		return false
	}
	known, ok := n.rows[row.ID]
	return !ok || known != toldRow{row.Version, row.Desired, row.Hurry}
}

// Tell yields what is news, which the node knows from then on.
func (n *ToldNode) Tell(snapshot *fsm.Snapshot, r *api.PollRequest) iter.Seq[*api.AllocationRow] {
	return func(yield func(*api.AllocationRow) bool) {
		n.learn(snapshot, r)
		for row := range snapshot.NodeRows(r.Node, n.scanned) {
			if !n.isNews(&row) {
				continue
			}
			n.rows[row.ID] = toldRow{row.Version, row.Desired, row.Hurry}
			if !yield(&row) {
				n.rows = nil // it was not told all of it
				return
			}
		}
		n.scanned, n.index = snapshot.Index(), snapshot.Index()
	}
}
