package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cube/agent/server/contact"
	"cube/agent/server/members"
	"cube/api"
	"cube/fsm"
	"cube/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOneServer is the whole path in one process: a server founds a cluster, a node registers, a job is placed on it,
// polled, reported and read.
func TestOneServer(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m)
		n := c.node(1)
		n.connect(m)
		answer := n.register(m)
		if !answer.Ready || answer.ClusterID == "" || len(answer.Servers) != 1 {
			t.Errorf("registered with %+v", answer)
		}
		registered := m.register(job("web", 3))
		if len(registered.Jobs) != 1 || !registered.Jobs[0].Changed || registered.Jobs[0].Evaluation == "" {
			t.Errorf("registered %+v", registered)
		}
		poll := n.poll()
		if len(poll.Assignments) != 3 || len(poll.Specs) != 1 || poll.Register {
			t.Fatalf("polled %+v", poll)
		}
		// What the node reports itself is no news to it: its poll waits until something else happens.
		polled := make(chan *api.PollAnswer, 1)
		go func() { polled <- n.poll() }()
		synctest.Wait()
		report := n.run(m, poll.Assignments)
		if len(report.Unknown) > 0 || report.Spacing != contact.MinSpacing {
			t.Errorf("reported: %+v", report)
		}
		status, meta, err := m.Job(ctx, "web", api.Query{})
		if err != nil || status.Summary.Status != api.JobRunning || len(status.Allocations) != 3 || meta.Index == 0 {
			t.Errorf("the job: %+v, %+v, %v", status, meta, err)
		}
		nodes, _, err := m.ListNodes(ctx, api.Query{})
		if err != nil || len(nodes) != 1 || nodes[0].Running != 3 || !nodes[0].Connected || nodes[0].LastContact.IsZero() {
			t.Errorf("the nodes: %+v, %v", nodes, err)
		}
		logs, err := m.Logs(ctx, status.Allocations[0].ID[:8], api.LogRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(logs); err != nil || !strings.HasPrefix(string(b), "log of ") {
			t.Errorf("the log: %q, %v", b, err)
		}
		logs.Close()
		wantCode(t, m.PurgeJob(ctx, "web", api.WriteMeta{}), api.CodeConflict) // it is not stopped
		if _, err := m.StopJob(ctx, "web", api.StopRequest{}, api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, m.PurgeJob(ctx, "web", api.WriteMeta{}), api.CodeConflict) // it is not gone
		stops := <-polled
		if len(stops.Assignments) != 3 || len(stops.Specs) != 0 || stops.Assignments[0].Desired != api.DesiredStop {
			t.Errorf("polled after the stop: %+v", stops)
		}
		health, err := m.Health(ctx)
		if err != nil || !health.Leading || health.Leader != "server-1" {
			t.Errorf("health: %+v, %v", health, err)
		}
	})
}

func TestThreeServersLoseTheirLeader(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		for i := range 10 {
			leader.register(job(fmt.Sprintf("job-%d", i), 1))
		}
		var others []*member
		for _, m := range servers {
			if m != leader {
				others = append(others, m)
			}
		}
		_, err := others[0].RegisterJobs(context.Background(), api.Submission{Job: job("x", 1)}, api.WriteMeta{})
		wantCode(t, err, api.CodeNotLeader)
		_, _, err = others[0].ListJobs(context.Background(), api.Query{})
		wantCode(t, err, api.CodeNotLeader)

		began := time.Now()
		leader.kill()
		next := leaderOf(others...)
		next.register(job("after", 1))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("writes worked again after %s", took)
		}
		jobs, _, err := next.ListJobs(context.Background(), api.Query{})
		if err != nil || len(jobs) != 11 {
			t.Errorf("of 11 acknowledged jobs %d are left: %v", len(jobs), err)
		}
		others[0].until("in step", func(s *fsm.Snapshot) bool { return s.Job("after") != nil })
		stale, meta, err := others[0].ListJobs(context.Background(), api.Query{Stale: true})
		if err != nil || !meta.Stale || len(stale) != 11 {
			t.Errorf("a stale read: %d jobs, %+v, %v", len(stale), meta, err)
		}
		// The killed one comes back with its data directory, as itself.
		c.net.Restart(leader.ip)
		back := c.start(1+int(leader.cfg.ID[1]-'1'), leader.cfg.ID, leader.dir, func(cfg *Config) { cfg.Joining = true })
		back.until("caught up", func(s *fsm.Snapshot) bool { return s.Job("after") != nil })
	})
}

// TestPartitions cuts the leader off, again and again, while jobs are registered. What was acknowledged is there in the
// end, on every server, and the servers agree to the byte.
func TestPartitions(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		const rounds = 10
		ctx := context.Background()
		c := newCluster(t)
		servers := c.three()
		var acknowledged []string
		for round := range rounds {
			leader := leaderOf(servers...)
			c.net.Partition([]string{leader.ip})
			_, err := leader.RegisterJobs(ctx, api.Submission{Job: job(fmt.Sprintf("lost-%d", round), 1)}, api.WriteMeta{})
			if err == nil {
				t.Errorf("round %d: a leader without a majority acknowledged a write", round)
			}
			if _, _, err := leader.ListJobs(ctx, api.Query{}); err == nil {
				t.Errorf("round %d: a leader without a majority answered a read", round)
			}
			var others []*member
			for _, m := range servers {
				if m != leader {
					others = append(others, m)
				}
			}
			name := fmt.Sprintf("kept-%d", round)
			leaderOf(others...).register(job(name, 1))
			acknowledged = append(acknowledged, name)
			c.net.Heal()
		}
		last := leaderOf(servers...)
		last.register(job("last", 1))
		synctest.Wait()
		time.Sleep(5 * time.Second) // virtual: everybody catches up
		want := last.machine.Snapshot()
		for _, name := range acknowledged {
			if want.Job(name) == nil {
				t.Errorf("job %s was acknowledged and is gone", name)
			}
		}
		for _, m := range servers {
			if s := m.machine.Snapshot(); s.Fingerprint() != want.Fingerprint() {
				t.Errorf("server %s at index %d differs from the leader at %d", m.cfg.ID, s.Index(), want.Index())
			}
		}
	})
}

// TestAJobFile: the leader parses; the same request again has no second effect, and with another body is a conflict.
func TestAJobFile(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m)
		file := api.Submission{FileName: "web.hcl", Source: "task \"web\" {\n  image = \"hello\"\n  count = 2\n}\n"}
		first, err := m.RegisterJobs(ctx, file, api.WriteMeta{RequestID: "r1", Who: "me"})
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.RegisterJobs(ctx, file, api.WriteMeta{RequestID: "r1", Who: "me"})
		if err != nil || len(again.Jobs) != 1 || again.Jobs[0] != first.Jobs[0] {
			t.Errorf("the same request again: %+v, %v; the first time %+v", again, err, first)
		}
		file.Source = strings.Replace(file.Source, "2", "3", 1)
		_, err = m.RegisterJobs(ctx, file, api.WriteMeta{RequestID: "r1", Who: "me"})
		wantCode(t, err, api.CodeConflict)
		if status, _, err := m.Job(ctx, "web", api.Query{}); err != nil || status.Job.Source == nil || status.Job.Tasks[0].Count != 2 {
			t.Errorf("the job is %+v, %v", status, err)
		}
		for _, bad := range []api.Submission{{}, {Source: "task {", FileName: "x.hcl"}, {Job: &api.Job{Name: "../x"}}, {Source: "x", Job: job("x", 1)}} {
			_, err := m.RegisterJobs(ctx, bad, api.WriteMeta{})
			wantCode(t, err, api.CodeInvalid)
		}
		_, err = m.RegisterJobs(ctx, api.Submission{Source: "task {"}, api.WriteMeta{})
		if wantCode(t, err, api.CodeInvalid); err != nil && !strings.HasPrefix(err.Error(), "<source>:1:") {
			t.Errorf("without a file's name: %v", err)
		}
		_, err = m.RegisterJobs(ctx, api.Submission{Source: "task {", FileName: strings.Repeat("x", maxFileName+1)}, api.WriteMeta{})
		wantCode(t, err, api.CodeTooLarge)
	})
}

// TestAServerIsReplaced: a server that comes back with nothing, at the same address, takes its former self's place.
func TestAServerIsReplaced(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		first := c.start(1, "a", t.TempDir(), nil)
		leaderOf(first)
		second := c.start(2, "b", t.TempDir(), func(cfg *Config) { cfg.Joining = true })
		third := c.start(3, "c", t.TempDir(), func(cfg *Config) { cfg.Joining = true })
		voters := func(m *member) string {
			peers, err := m.RaftPeers(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, p := range peers {
				if p.Voter {
					out = append(out, p.ID)
				}
			}
			return strings.Join(out, " ")
		}
		waitVoters := func(m *member, want string) {
			t.Helper()
			for end := time.Now().Add(time.Minute); voters(m) != want; time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the voters are %q, not %q", voters(m), want)
				}
			}
		}
		began := time.Now()
		waitVoters(first, "a b c")
		if took := time.Since(began); took < 10*time.Second {
			t.Errorf("servers voted after %s", took)
		}
		third.kill()
		c.net.Restart(third.ip)
		c.start(3, "d", t.TempDir(), func(cfg *Config) { cfg.Joining = true })
		waitVoters(first, "a b d")
		waitVoters(second, "a b d")
	})
}

func TestAServerLeaves(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		if err := leader.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := leader.halt(); err != nil {
			t.Errorf("leaving ended with: %v", err)
		}
		var others []*member
		for _, m := range servers {
			if m != leader {
				others = append(others, m)
			}
		}
		next := leaderOf(others...)
		peers, err := next.RaftPeers(context.Background())
		if err != nil || len(peers) != 2 {
			t.Errorf("the servers are %+v, %v", peers, err)
		}
		one := c.start(4, "alone", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(one)
		wantCode(t, one.Leave(context.Background()), api.CodeForbidden)
	})
}

// Of three servers one is lost: another that left would take the majority with it.
func TestAPurgedJobIsForgotten(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m).register(job("web", 1))
		wantCode(t, m.PurgeJob(ctx, "nobody", api.WriteMeta{}), api.CodeNotFound)
		if _, err := m.StopJob(ctx, "web", api.StopRequest{}, api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		if err := m.PurgeJob(ctx, "web", api.WriteMeta{RequestID: "once"}); err != nil {
			t.Fatal(err)
		}
		if jobs, _, err := m.ListJobs(ctx, api.Query{}); err != nil || len(jobs) != 0 {
			t.Errorf("after the purge there is %+v, %v", jobs, err)
		}
		wantCode(t, m.PurgeJob(ctx, "web", api.WriteMeta{RequestID: "once"}), api.CodeNotFound)
		if r := m.register(job("web", 1)); r.Jobs[0].Version != 2 {
			t.Errorf("its name goes on with version %d", r.Jobs[0].Version)
		}
	})
}

func TestNoServerLeavesTheOthersWithoutAMajority(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		var others []*member
		for _, m := range servers {
			if m != leader {
				others = append(others, m)
			}
		}
		lost, other := others[0], others[1]
		other.until("in step", func(s *fsm.Snapshot) bool { return s.ClusterID() != "" })
		lost.kill()
		for leader.alive(lost.cfg.ID) || other.alive(lost.cfg.ID) {
			time.Sleep(time.Second)
		}
		wantCode(t, leader.Leave(ctx), api.CodeForbidden)
		wantCode(t, other.Leave(ctx), api.CodeForbidden)
		wantCode(t, leader.RemovePeer(ctx, other.cfg.ID, api.WriteMeta{}), api.CodeForbidden)
		if _, self, _ := leader.LeaderInfo(); !self {
			t.Error("leadership was handed over for a leaving that was refused")
		}
		if err := leader.RemovePeer(ctx, lost.cfg.ID, api.WriteMeta{}); err != nil {
			t.Errorf("a dead server is not removed: %v", err)
		}
		if err := other.Leave(ctx); err != nil {
			t.Errorf("leaving now: %v", err)
		}
		leader.register(job("without", 1))
	})
}

// alive reports whether this server takes another for alive.
func (m *member) alive(id string) bool {
	o, ok := m.roster.Server(id)
	return ok && o.Status == api.MemberAlive
}

func TestSnapshotSaveAndRestore(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		leader.register(job("kept", 1))
		r, err := leader.SaveSnapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := io.ReadAll(r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		leader.register(job("forgotten", 1))
		for _, at := range []int{0, len(saved) / 2, len(saved) - 1} {
			bad := bytes.Clone(saved)
			bad[at] ^= 0x10
			if err := leader.RestoreSnapshot(ctx, bytes.NewReader(bad), api.WriteMeta{}); err == nil {
				t.Errorf("a snapshot with byte %d flipped was restored", at)
			}
		}
		long := &counted{from: io.MultiReader(strings.NewReader("no snapshot"), endless{})}
		if err := leader.RestoreSnapshot(ctx, long, api.WriteMeta{}); err == nil || long.n > 1<<20 {
			t.Errorf("%d bytes were taken of what is no snapshot, and %v", long.n, err)
		}
		broken := io.MultiReader(bytes.NewReader(saved[:len(saved)/2]), iotest.ErrReader(errors.New("the line broke")))
		if err := leader.RestoreSnapshot(ctx, broken, api.WriteMeta{}); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "the line broke") {
			t.Errorf("a snapshot that did not come whole: %v", err)
		}
		if leader.machine.Snapshot().Job("forgotten") == nil {
			t.Fatal("a refused snapshot changed the state")
		}
		epoch := leader.machine.Snapshot().Epoch()
		if err := leader.RestoreSnapshot(ctx, bytes.NewReader(saved), api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		for _, m := range servers {
			m.until("restored everywhere", func(s *fsm.Snapshot) bool {
				return s.Job("kept") != nil && s.Job("forgotten") == nil && s.Epoch() == epoch+1
			})
		}
		leaderOf(servers...).register(job("later", 1)) // the loops of the leader began anew
	})
}

// counted counts what is read.
type counted struct {
	from io.Reader
	n    int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	return n, err
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAnEmptiedServerIsRefused(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		dir := t.TempDir()
		m := c.start(1, "s1", dir, nil)
		leaderOf(m).register(job("web", 1))
		if err := m.halt(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "raft.db"), 0); err != nil {
			t.Fatal(err)
		}
		_, err := c.open(1, "s1", dir, nil)
		if err == nil || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("an emptied data directory: %v", err)
		}
		if _, err := Recover(dir, c.log); err == nil {
			t.Error("an emptied data directory was recovered")
		}
	})
}

// TestRemovePeer: a server that is removed knows it, and disturbs nobody.
func TestRemovePeer(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		var other *member
		for _, m := range servers {
			if m != leader {
				other = m
			}
		}
		other.until("in step", func(s *fsm.Snapshot) bool { return s.ClusterID() != "" })
		// A removed server that gossip still calls new would be let in again.
		for known := false; !known; {
			changed := leader.roster.Changed.Wait()
			known = slices.ContainsFunc(leader.roster.Servers(), func(m members.Sighting) bool { return m.ID == other.cfg.ID && m.HasState })
			if !known {
				<-changed
			}
		}
		wantCode(t, leader.RemovePeer(context.Background(), "s", api.WriteMeta{}), api.CodeAmbiguous)
		wantCode(t, leader.RemovePeer(context.Background(), "nobody", api.WriteMeta{}), api.CodeNotFound)
		if err := leader.RemovePeer(context.Background(), other.cfg.ID, api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		for {
			changed := other.LeaderChanged()
			if _, err := other.Health(context.Background()); api.CodeOf(err) == api.CodeNoLeader {
				break
			}
			<-changed
		}
		if !other.removed() {
			t.Error("the removed server does not know it")
		}
		leader.register(job("without", 1))
	})
}

// TestBlockingQueries: a query with an index returns when what it asks for changes, not before, and not for anything else.
func TestBlockingQueries(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m).register(job("web", 1))
		m.until("looked at", func(s *fsm.Snapshot) bool { return s.Open("web").Status == api.EvalBlocked })
		_, meta, err := m.Job(ctx, "web", api.Query{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, same, err := m.Job(ctx, "web", api.Query{Index: meta.Index, Wait: 10 * time.Second})
		if err != nil || same.Index != meta.Index || time.Since(began) != 10*time.Second {
			t.Errorf("with no change: index %d after %s, %v; want %d after 10s", same.Index, time.Since(began), err, meta.Index)
		}
		type answer struct {
			status *api.JobStatus
			meta   api.ReadMeta
			err    error
		}
		answers := make(chan answer, 1)
		go func() {
			status, meta, err := m.Job(ctx, "web", api.Query{Index: meta.Index, Wait: time.Minute})
			answers <- answer{status, meta, err}
		}()
		m.register(job("other", 1))
		time.Sleep(time.Second)
		if len(answers) > 0 {
			t.Error("another job's change ended the wait")
		}
		m.register(job("web", 2))
		a := <-answers
		if a.err != nil || a.meta.Index <= meta.Index || a.status.Job.Tasks[0].Count != 2 {
			t.Errorf("after the change: %+v, %v", a.meta, a.err)
		}
		_, _, err = m.Job(ctx, "nothing", api.Query{Index: 1})
		wantCode(t, err, api.CodeNotFound)
	})
}

// TestADevServerIsAlone: other servers are turned away at the door.
func TestADevServerIsAlone(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), func(cfg *Config) { cfg.Dev = true })
		leaderOf(m)
		other := c.start(2, "s2", t.TempDir(), func(cfg *Config) { cfg.Joining = true })
		_, err := other.peers.get(context.Background(), "s1")
		if err == nil || !strings.Contains(err.Error(), "-dev") {
			t.Errorf("a -dev server let another in: %v", err)
		}
		time.Sleep(time.Minute)
		if peers, err := m.RaftPeers(context.Background()); err != nil || len(peers) != 1 {
			t.Errorf("the servers are %+v, %v", peers, err)
		}
		_, err = other.Health(context.Background())
		wantCode(t, err, api.CodeNoLeader)
	})
}
