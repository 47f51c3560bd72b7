package members

import (
	"cmp"
	"fmt"
	"slices"

	"cube/api"
)

// Founders decides for a server without Raft state whether it founds a cluster, and with whom. It returns nil while the
// server must wait, and why.
//
// A server that was given no -join founds one alone. With -bootstrap-expect n it does so with others, if it sees exactly
// n servers that want the same and have no state, and nobody who has state; the one with the lowest ID acts for all.
// -join without that never founds anything: it would split a cluster in two whenever the others are out of reach.
func Founders(self api.Member, joining bool, servers []Sighting) (founders []api.Member, why string) {
	if !joining && self.Expect <= 1 {
		return []api.Member{self}, ""
	}
	if self.Expect <= 1 {
		return nil, "waiting for the leader of the cluster to let this server in"
	}
	founders = []api.Member{self}
	for _, s := range servers {
		switch {
		case s.ID == self.ID || s.Status != api.MemberAlive:
		case s.HasState || s.ClusterID != "":
			return nil, fmt.Sprintf("server %s belongs to a cluster already: waiting to be let in", s.Name)
		case s.Expect != self.Expect:
			return nil, fmt.Sprintf("server %s has -bootstrap-expect %d and this one %d: they must agree", s.Name, s.Expect, self.Expect)
		default:
			founders = append(founders, s.Member)
		}
	}
	if len(founders) != self.Expect {
		return nil, fmt.Sprintf("%d of %d new servers are here", len(founders), self.Expect)
	}
	slices.SortFunc(founders, func(a, b api.Member) int { return cmp.Compare(a.ID, b.ID) })
	if founders[0].ID != self.ID {
		return nil, fmt.Sprintf("server %s bootstraps for all %d", founders[0].Name, self.Expect)
	}
	return founders, ""
}
