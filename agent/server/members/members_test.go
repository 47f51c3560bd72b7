package members

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"cube/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func seen(members ...api.Member) []Sighting {
	var out []Sighting
	for _, m := range members {
		m.Role = api.RoleServer
		if m.Status == "" {
			m.Status = api.MemberAlive
		}
		if m.RPCAddr == "" {
			m.RPCAddr = m.ID + ":5556"
		}
		out = append(out, Sighting{Member: m})
	}
	return out
}

func TestFounders(t *testing.T) {
	server := func(id string, expect int) api.Member { return api.Member{ID: id, Name: id, Expect: expect} }
	tests := []struct {
		name    string
		self    api.Member
		joining bool
		others  []api.Member
		want    string
		why     string
	}{
		{"alone, no -join", server("a", 0), false, nil, "a", ""},
		{"alone, -bootstrap-expect 1", server("a", 1), false, nil, "a", ""},
		{"-join alone never founds", server("a", 0), true, nil, "", "let this server in"},
		{"-join -bootstrap-expect 1 neither", server("a", 1), true, nil, "", "let this server in"},
		{"not all here", server("a", 3), true, []api.Member{server("b", 3)}, "", "2 of 3"},
		{"all here, the lowest ID acts", server("a", 3), true, []api.Member{server("c", 3), server("b", 3)}, "a b c", ""},
		{"the others wait for it", server("b", 3), false, []api.Member{server("a", 3), server("c", 3)}, "", "server a bootstraps"},
		{"one more than expected", server("a", 3), false, []api.Member{server("b", 3), server("c", 3), server("d", 3)}, "", "4 of 3"},
		{"one disagrees", server("a", 3), false, []api.Member{server("b", 3), server("c", 5)}, "", "must agree"},
		{"one has state", server("a", 3), false, []api.Member{server("b", 3), {ID: "c", Name: "c", HasState: true}}, "", "belongs to a cluster"},
		{"one knows a cluster", server("a", 3), false, []api.Member{server("b", 3), {ID: "c", Name: "c", Expect: 3, ClusterID: "x"}}, "", "belongs to a cluster"},
		{"a dead one does not count", server("a", 2), false, []api.Member{server("b", 2), {ID: "c", Name: "c", Expect: 2, Status: api.MemberFailed}}, "a b", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, why := Founders(test.self, test.joining, seen(test.others...))
			var ids []string
			for _, m := range got {
				ids = append(ids, m.ID)
			}
			if s := strings.Join(ids, " "); s != test.want || !strings.Contains(why, test.why) {
				t.Errorf("founds with %q because %q, want %q, %q", s, why, test.want, test.why)
			}
		})
	}
}

func TestVoters(t *testing.T) {
	now := time.Unix(1000, 0)
	voter := func(id string) raft.Server {
		return raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":5556")}
	}
	follower := func(id string) raft.Server {
		s := voter(id)
		s.Suffrage = raft.Nonvoter
		return s
	}
	tests := []struct {
		name    string
		config  []raft.Server
		servers []api.Member
		failing string
		want    string // what happens to whom; "" for nothing
	}{
		{"all is well", []raft.Server{voter("a"), voter("b")}, []api.Member{{ID: "a"}, {ID: "b"}}, "", ""},
		{"a new one follows", []raft.Server{voter("a")}, []api.Member{{ID: "a"}, {ID: "b"}}, "", "add b Nonvoter b:5556"},
		{"of another cluster", []raft.Server{voter("a")}, []api.Member{{ID: "b", ClusterID: "other"}}, "", ""},
		{"a dead one is not let in", []raft.Server{voter("a")}, []api.Member{{ID: "b", Status: api.MemberFailed}}, "", ""},
		{"a dead one is not removed", []raft.Server{voter("a"), voter("b")}, []api.Member{{ID: "a"}, {ID: "b", Status: api.MemberFailed}}, "", ""},
		{"one that was removed stays out", []raft.Server{voter("a")}, []api.Member{{ID: "b", ClusterID: "c1", HasState: true}}, "", ""},
		{"well for long enough", []raft.Server{voter("a"), follower("b")}, []api.Member{{ID: "b", ClusterID: "c1", HasState: true}}, "", "add b Voter b:5556"},
		{"does not answer", []raft.Server{voter("a"), follower("b")}, []api.Member{{ID: "b", ClusterID: "c1"}}, "b", ""},
		{"has not caught up", []raft.Server{voter("a"), follower("b")}, []api.Member{{ID: "b"}}, "", ""},
		{"moved", []raft.Server{voter("a"), voter("b")}, []api.Member{{ID: "b", ClusterID: "c1", RPCAddr: "new:1"}}, "", "add b Voter new:1"},
		{"at a dead one's address", []raft.Server{voter("a"), voter("b")},
			[]api.Member{{ID: "b", Status: api.MemberFailed}, {ID: "n", RPCAddr: "b:5556"}}, "", "remove b"},
		{"at the address of one that gossip still sees", []raft.Server{voter("a"), voter("b")},
			[]api.Member{{ID: "b"}, {ID: "n", RPCAddr: "b:5556"}}, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := Voters{Self: "a"}
			failing := map[string]bool{test.failing: true}
			change, again := v.Next(now, "c1", test.config, seen(test.servers...), failing)
			if change == nil && !again.IsZero() {
				if !again.Equal(now.Add(HealthyFor)) {
					t.Errorf("looks again at %s", again)
				}
				if change, _ = v.Next(again.Add(-time.Millisecond), "c1", test.config, seen(test.servers...), failing); change != nil {
					t.Errorf("too early: %+v", change)
				}
				change, _ = v.Next(again, "c1", test.config, seen(test.servers...), failing)
			}
			got := ""
			switch {
			case change != nil && change.Remove:
				got = "remove " + string(change.Server.ID)
			case change != nil:
				got = "add " + string(change.Server.ID) + " " + change.Server.Suffrage.String() + " " + string(change.Server.Address)
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestVotersBeginsToCountAnew: one bad moment, and the probation starts over.
func TestVotersBeginsToCountAnew(t *testing.T) {
	now := time.Unix(1000, 0)
	config := []raft.Server{{ID: "a", Address: "a:5556"}, {ID: "b", Address: "b:5556", Suffrage: raft.Nonvoter}}
	well := seen(api.Member{ID: "b", ClusterID: "c1"})
	v := Voters{Self: "a"}
	v.Next(now, "c1", config, well, nil)
	v.Next(now.Add(9*time.Second), "c1", config, well, map[string]bool{"b": true})
	if change, again := v.Next(now.Add(11*time.Second), "c1", config, well, nil); change != nil || !again.Equal(now.Add(21*time.Second)) {
		t.Errorf("after a bad moment: %+v, again at %s", change, again)
	}
}

func TestRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var doubted []string
		r := NewRoster([]api.Member{{ID: "s", NodeID: "n", Role: api.RoleServer, Status: api.MemberAlive}}, func(node string) { doubted = append(doubted, node) })
		events := make(chan api.MemberEvent)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx, events) }()
		began := time.Now()
		time.Sleep(time.Second)
		events <- api.MemberEvent{Member: api.Member{ID: "s", NodeID: "n", Role: api.RoleServer, Status: api.MemberAlive, Name: "new"}}
		synctest.Wait()
		if s, ok := r.Server("s"); !ok || s.Name != "new" || !s.Since.Equal(began) {
			t.Errorf("a new name is not a new status: %+v, %v", s, ok)
		}
		changed := r.Changed.Wait()
		events <- api.MemberEvent{Member: api.Member{ID: "s", NodeID: "n", Role: api.RoleServer, Status: api.MemberFailed}}
		<-changed
		if got := r.Node("n"); got != api.MemberFailed {
			t.Errorf("the node of a server's agent is %q", got)
		}
		if synctest.Wait(); !slices.Equal(doubted, []string{"n"}) {
			t.Errorf("%v are doubted, want the node of the agent that failed", doubted)
		}
		for _, m := range []api.Member{ // the node's agent is no server any more
			{ID: "n", NodeID: "n", Role: api.RoleClient, Status: api.MemberAlive},
			{ID: "s", NodeID: "n", Role: api.RoleServer, Status: api.MemberLeft},
		} {
			events <- api.MemberEvent{Member: m}
		}
		synctest.Wait()
		if got := r.Node("n"); got != api.MemberAlive {
			t.Errorf("the node whose agent has changed its role is %q", got)
		}
		events <- api.MemberEvent{Member: api.Member{ID: "c", Role: api.RoleClient, Status: api.MemberAlive}}
		synctest.Wait()
		if r.Node("c") != api.MemberAlive || r.Node("nobody") != "" || len(r.Servers()) != 1 {
			t.Errorf("c is %q, nobody is %q, %d servers", r.Node("c"), r.Node("nobody"), len(r.Servers()))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
