package members

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"cube/api"
)

// HealthyFor is how long a new server must have been well before it votes: one that votes and then fails costs the
// cluster more than one that votes a little later.
const HealthyFor = 10 * time.Second

// Change is one step of the Raft configuration. They are made one at a time.
type Change struct {
	Server raft.Server // as it is to be: Voter or Nonvoter
	Remove bool
	Why    string
}

// Voters decides what the leader changes about the Raft configuration. It keeps since when each server is well; the rest
// is in its arguments. It is not safe for concurrent use.
type Voters struct {
	Self    string
	healthy map[string]time.Time
}

// Next returns the next change, nil if there is none for now, and when time alone may bring one (zero: never). failing
// names the servers that do not answer the leader's heartbeats.
func (v *Voters) Next(now time.Time, clusterID string, config []raft.Server, servers []Sighting, failing map[string]bool) (change *Change, again time.Time) {
	slices.SortFunc(servers, func(a, b Sighting) int { return cmp.Compare(a.ID, b.ID) })
	seen := make(map[string]Sighting, len(servers))
	for _, s := range servers {
		seen[s.ID] = s
	}
	if v.healthy == nil {
		v.healthy = make(map[string]time.Time)
	}
	for _, s := range servers {
		if s.ID == v.Self || s.Status != api.MemberAlive || s.RPCAddr == "" || s.ClusterID != "" && s.ClusterID != clusterID {
			delete(v.healthy, s.ID)
			continue
		}
		i := slices.IndexFunc(config, func(c raft.Server) bool { return string(c.ID) == s.ID })
		if i < 0 {
			if c := v.admit(s, config, seen); c != nil {
				return c, time.Time{}
			}
			continue
		}
		member := config[i]
		if string(member.Address) != s.RPCAddr {
			member.Address = raft.ServerAddress(s.RPCAddr)
			return &Change{Server: member, Why: "its address changed"}, time.Time{}
		}
		if member.Suffrage == raft.Voter {
			continue
		}
		if s.ClusterID == "" || failing[s.ID] {
			delete(v.healthy, s.ID) // it follows the log only once it knows the cluster
			continue
		}
		since, ok := v.healthy[s.ID]
		if !ok {
			since = now
			v.healthy[s.ID] = now
		}
		if at := since.Add(HealthyFor); at.After(now) {
			if again.IsZero() || at.Before(again) {
				again = at
			}
			continue
		}
		member.Suffrage = raft.Voter
		return &Change{Server: member, Why: fmt.Sprintf("it has been well for %s", HealthyFor)}, time.Time{}
	}
	return nil, again
}

// admit lets in a server that is not in the configuration. At a dead server's address it takes that one's place: two
// steps, of which this returns the first that is missing.
func (v *Voters) admit(s Sighting, config []raft.Server, seen map[string]Sighting) *Change {
	if s.HasState {
		return nil // it was removed, by a person; its old vote must not come back by itself
	}
	for _, c := range config {
		if string(c.Address) != s.RPCAddr {
			continue
		}
		if old, ok := seen[string(c.ID)]; string(c.ID) == v.Self || ok && old.Status == api.MemberAlive {
			return nil // gossip has yet to notice that the old one is gone
		}
		return &Change{Server: c, Remove: true, Why: fmt.Sprintf("server %s took its address", s.ID)}
	}
	return &Change{Server: raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.RPCAddr), Suffrage: raft.Nonvoter}, Why: "it joined"}
}
