// Package members is who belongs to the cluster's servers: what gossip says of everyone, when new servers found a
// cluster, and which servers the leader takes into the Raft configuration. Gossip is a hint here: it lets a server in and
// names a dead one's successor, and never removes one on its word alone.
package members

import (
	"context"
	"sync"
	"time"

	"cube/agent/server/signal"
	"cube/api"
)

// Roster is what gossip says of everyone. It is safe for concurrent use.
type Roster struct {
	// Changed wakes when anything about anyone did.
	Changed signal.Broadcast
	doubted func(node string)

	mu      sync.Mutex
	members map[memberKey]Sighting
	nodes   map[string]memberKey // by node ID: a server's agent may run a client too
}

type memberKey struct {
	role api.Role
	id   string
}

// Sighting is a member and since when it has its status.
type Sighting struct {
	api.Member
	Since time.Time
}

// NewRoster returns the roster that begins with these members. doubted is told of each node whose agent gossip calls
// failed, when it does so; it must not block.
func NewRoster(members []api.Member, doubted func(node string)) *Roster {
	r := &Roster{doubted: doubted, members: make(map[memberKey]Sighting), nodes: make(map[string]memberKey)}
	for _, m := range members {
		r.note(m)
	}
	return r
}

// Run keeps the roster until ctx or the events end.
func (r *Roster) Run(ctx context.Context, events <-chan api.MemberEvent) error {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return nil
			}
			r.note(e.Member)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Roster) note(m api.Member) {
	key := memberKey{m.Role, m.ID}
	r.mu.Lock()
	s := Sighting{Member: m, Since: time.Now()}
	if old, ok := r.members[key]; ok && old.Status == m.Status {
		s.Since = old.Since
	}
	r.members[key] = s
	// The word that a former agent of the node is gone may come after its successor's first.
	if m.NodeID != "" && (m.Status == api.MemberAlive || r.members[r.nodes[m.NodeID]].Status != api.MemberAlive) {
		r.nodes[m.NodeID] = key
	}
	r.mu.Unlock()
	r.Changed.Notify()
	if m.NodeID != "" && m.Status == api.MemberFailed {
		r.doubted(m.NodeID)
	}
}

// Server returns a server; ok is false when gossip has never seen it.
func (r *Roster) Server(id string) (s Sighting, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok = r.members[memberKey{api.RoleServer, id}]
	return s, ok
}

// Servers returns every server, in no order.
func (r *Roster) Servers() []Sighting {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Sighting
	for k, s := range r.members {
		if k.role == api.RoleServer {
			out = append(out, s)
		}
	}
	return out
}

// Node returns what gossip believes of the agent that runs a node's client; "" when it has never seen it.
func (r *Roster) Node(id string) api.MemberStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.nodes[id]
	if !ok {
		key = memberKey{api.RoleClient, id}
	}
	return r.members[key].Status
}
