package gossip

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, mostly under its own lock: it must not block, and not call memberlist.
type delegate struct{ p *Pool }

// NodeMeta says what this agent is.
func (d *delegate) NodeMeta(int) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	b, err := encodeMeta(d.p.self, d.p.life)
	if err != nil {
		return nil // cannot be: New and Update have tried it
	}
	return b
}

// NotifyMsg hears a farewell, and passes it on once.
func (d *delegate) NotifyMsg(b []byte) {
	if f, ok := decodeFarewell(b); ok && d.p.table.farewell(f.name, f.life) {
		d.p.farewells.QueueBroadcast(f)
	}
}

// GetBroadcasts gives memberlist the farewells to pass on.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.p.farewells.GetBroadcasts(overhead, limit)
}

func (d *delegate) LocalState(bool) []byte        { return nil }
func (d *delegate) MergeRemoteState([]byte, bool) {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.heard(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.heard(n) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.p.table.gone(n.Name) }

func (d *delegate) heard(n *memberlist.Node) {
	if m, life, err := decodeNode(n); err == nil { // else NotifyAlive has refused it
		d.p.table.alive(m, life)
	}
}

// NotifyAlive refuses members of another cluster however they are heard of: also those whom a third agent, which does not
// know its cluster yet, has met.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, _, err := decodeNode(n)
	if err != nil {
		return err
	}
	if own := d.p.cluster(); foreign(own, m.ClusterID) {
		return d.refuse(n, m.ClusterID, own)
	}
	return nil
}

// NotifyMerge refuses a pool in which a member is of another cluster, before anything of it is taken over.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	own := d.p.cluster()
	for _, n := range nodes {
		if m, _, err := decodeNode(n); err == nil && foreign(own, m.ClusterID) {
			return d.refuse(n, m.ClusterID, own)
		}
	}
	return nil
}

func (d *delegate) refuse(n *memberlist.Node, theirs, own string) error {
	if d.p.strife.allow() {
		d.p.log.Warn("refused an agent of another cluster", "agent", n.Name, "address", n.Address(), "cluster", theirs, "own_cluster", own)
	}
	return fmt.Errorf("it belongs to cluster %s and this agent to cluster %s", theirs, own)
}

// NotifyConflict hears that a name is claimed from a second address.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	if d.p.strife.allow() {
		d.p.log.Warn("one agent at two addresses: it has just moved, or its data directory was copied",
			"agent", existing.Name, "address", existing.Address(), "other", other.Address())
	}
}

// limiter lets one of many alike through.
type limiter struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time
}

func (l *limiter) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() && now.Sub(l.last) < l.every {
		return false
	}
	l.last = now
	return true
}
