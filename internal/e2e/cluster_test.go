package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const spreadTask = `
task "web" {
  count = 6
  image = "%s"
  port "http" {}
  resources {
    cpu    = 0.05
    memory = 32
  }
  spread {
    attribute = "node.name"
    weight    = 100
  }
}
`

// TestTheNightAMachineDies runs one task of six instances through everything that goes wrong, in the order of a bad night.
func TestTheNightAMachineDies(t *testing.T) {
	f := newFleet(t)
	file := write(t, "web.hcl", fmt.Sprintf(spreadTask, helloimage.Tag))
	f.does("task", "run", file)
	cs := f.agree("web", 6, 10*time.Second)
	if nodes := nodesOf(cs); len(nodes) < 2 {
		t.Errorf("all six run on %v; spread asks for more than one node", nodes)
	}

	f.leaderDies(cs)
	f.clientRestarts(cs)
	f.clientDiesForGood()
	f.serversAreAway()
	f.serverIsWiped()
	f.serverIsEmptied()

	f.does("task", "stop", "web")
	f.eventually("no container of ours is left", 20*time.Second, func() error {
		if left := f.containers(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func nodesOf(cs []container) []string {
	var nodes []string
	for _, c := range cs {
		if !slices.Contains(nodes, c.Node) {
			nodes = append(nodes, c.Node)
		}
	}
	return nodes
}

// unchanged fails if any container is another one, or was started anew.
func (f *fleet) unchanged(when string, before []container) {
	f.t.Helper()
	after := f.running()
	if !slices.Equal(before, after) {
		f.t.Errorf("%s containers changed:\nbefore %v\nafter  %v", when, before, after)
	}
}

// leaderDies kills the leader: a write must be accepted again within three seconds, and no container may notice.
func (f *fleet) leaderDies(cs []container) {
	f.t.Helper()
	leader := f.leader()
	nodes, _, err := f.up().ListNodes(f.t.Context(), api.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	leader.end(f.t, syscall.SIGKILL)
	f.eventually("a write is accepted after kill -9 of the leader", 3*time.Second, func() error {
		ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Second)
		defer cancel()
		_, err := f.up().SetNodeEligibility(ctx, nodes[0].ID, api.EligibilityRequest{Eligible: true}, api.WriteMeta{})
		return err
	})
	f.unchanged("after the leader died,", cs)
	leader.start(f.t)
	f.eventually("the dead leader is back among three voters", 20*time.Second, f.voters)
}

// clientRestarts kills a client's agent and starts it within three seconds: its containers go on as they are.
func (f *fleet) clientRestarts(cs []container) {
	f.t.Helper()
	c := f.clients[0]
	c.end(f.t, syscall.SIGKILL)
	c.start(f.t)
	f.eventually("the restarted client is ready", 15*time.Second, func() error { return f.nodesReady(3) })
	f.agree("web", 6, 10*time.Second)
	f.unchanged("after the client restarted,", cs)
}

// clientDiesForGood kills a client and removes its containers: others take over within 15 seconds. When it comes back,
// what is stale is cleaned up and the counts are right.
func (f *fleet) clientDiesForGood() {
	f.t.Helper()
	c := f.clients[1]
	id := f.nodeID(c.name)
	c.end(f.t, syscall.SIGKILL)
	lost := 0
	for _, x := range f.running() {
		if x.Node == id {
			docker(f.t, "rm", "-f", x.ID)
			lost++
		}
	}
	if lost == 0 {
		f.t.Fatalf("node %s ran nothing; the test shows nothing", c.name)
	}
	cs := f.agree("web", 6, 15*time.Second)
	if slices.Contains(nodesOf(cs), id) {
		f.t.Errorf("something runs on the dead node %s", c.name)
	}
	c.start(f.t)
	f.eventually("the dead client is back and ready", 20*time.Second, func() error { return f.nodesReady(3) })
	back := f.agree("web", 6, 10*time.Second)
	if !slices.Equal(cs, back) {
		f.t.Errorf("its return changed containers:\nbefore %v\nafter  %v", cs, back)
	}
}

// serversAreAway stops all servers for 20 seconds: containers go on, and so does the cluster afterwards.
func (f *fleet) serversAreAway() {
	f.t.Helper()
	before := f.running()
	for _, s := range f.servers {
		s.end(f.t, syscall.SIGKILL)
	}
	until := time.NewTimer(20 * time.Second)
	<-until.C
	f.unchanged("while the servers were away,", before)
	for _, s := range f.servers {
		s.start(f.t)
	}
	f.leader()
	f.eventually("all nodes are ready again", 30*time.Second, func() error { return f.nodesReady(3) })
	f.unchanged("after the servers came back,", before)
	file := write(f.t, "web.hcl", strings.Replace(fmt.Sprintf(spreadTask, helloimage.Tag), "count = 6", "count = 7", 1))
	f.does("task", "run", file)
	after := f.agree("web", 7, 10*time.Second)
	for _, c := range before {
		if !slices.Contains(after, c) {
			f.t.Errorf("a count change in place touched %v", c)
		}
	}
}

// serverIsWiped removes a follower's data directory: it comes back as a new server and votes.
func (f *fleet) serverIsWiped() {
	f.t.Helper()
	s := f.follower()
	s.end(f.t, syscall.SIGKILL)
	if err := os.RemoveAll(s.dir); err != nil {
		f.t.Fatal(err)
	}
	s.start(f.t)
	f.eventually("the wiped server votes again", 60*time.Second, f.voters)
}

// serverIsEmptied empties a follower's raft.db: the server must refuse to start, since it may have voted.
func (f *fleet) serverIsEmptied() {
	f.t.Helper()
	s := f.follower()
	s.end(f.t, syscall.SIGTERM)
	db := filepath.Join(s.dir, "server", "raft.db")
	kept, err := os.ReadFile(db)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.Truncate(db, 0); err != nil {
		f.t.Fatal(err)
	}
	s.start(f.t)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		f.t.Fatal("a server with an emptied raft.db runs")
	}
	if s.err == nil || !strings.Contains(tail(s.log.String(), 3), "raft.db") {
		f.t.Errorf("it ends with %v and says:\n%s", s.err, tail(s.log.String(), 3))
	}
	if err := os.WriteFile(db, kept, 0o600); err != nil {
		f.t.Fatal(err)
	}
	s.start(f.t)
	f.eventually("with its raft.db put back it votes", 30*time.Second, f.voters)
}

// follower returns a server that does not lead.
func (f *fleet) follower() *process {
	f.t.Helper()
	leader := f.leader()
	for _, s := range f.servers {
		if s != leader {
			return s
		}
	}
	f.t.Fatal("there is only one server")
	return nil
}

// voters reports whether exactly our servers vote, each under the ID that is in its data directory now, and gossip sees
// them all alive.
func (f *fleet) voters() error {
	peers, err := f.up().RaftPeers(f.t.Context())
	if err != nil {
		return err
	}
	members, err := f.up().Members(f.t.Context())
	if err != nil {
		return err
	}
	for _, s := range f.servers {
		b, err := os.ReadFile(filepath.Join(s.dir, "server", "server-id"))
		if err != nil {
			return err
		}
		id := strings.TrimSpace(string(b))
		votes := slices.ContainsFunc(peers, func(p api.RaftPeer) bool { return p.ID == id && p.Voter })
		lives := slices.ContainsFunc(members, func(m api.Member) bool { return m.ID == id && m.Status == api.MemberAlive })
		if !votes || !lives {
			return fmt.Errorf("%s (%s) votes: %v, lives: %v; peers %+v", s.name, id, votes, lives, peers)
		}
	}
	if len(peers) != len(f.servers) {
		return fmt.Errorf("%d peers, want %d: %+v", len(peers), len(f.servers), peers)
	}
	return nil
}

func (f *fleet) nodeID(name string) string {
	f.t.Helper()
	nodes, _, err := f.up().ListNodes(f.t.Context(), api.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == name {
			return n.ID
		}
	}
	f.t.Fatalf("no node is called %s", name)
	return ""
}
