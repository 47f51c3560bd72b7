package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"cube/api"
	"cube/fsm/balance"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files that do not exist yet")

// story is a history with something of everything: the golden log of this release, and a small state with every kind of
// row. It may not change: a new release adds a story of its own.
func story(t failer) *cluster {
	c := newCluster(t)
	c.ok(&RaiseRules{Version: 1})
	c.nodes("n1", "n2")
	c.ok(&RegisterNode{Node: testNode("n3")})
	c.ok(&NodeReady{Node: "n3", Incarnation: 1})
	c.request("r1", &RegisterJobs{Jobs: []*api.Job{testJob("web", api.JobService, 3), testJob("sum", api.JobBatch, 3)}})
	p := c.plan("web", api.EvalBlocked)
	c.put(p, 0, "n1", 20001, 20002)
	c.put(p, 1, "n2", 20001)
	c.put(p, 2, "n9")
	p.Jobs[0].Explanations = []api.Explanation{{Task: "web", Wanted: 3, Placed: 2, Nodes: 3}}
	c.ok(&CommitPlan{Plan: p})
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalBlocked)})
	web := c.live("web")
	sum := c.run("sum", 3, "n2", "n3")
	c.report(web[0], api.PhaseRunning)
	c.report(web[1], api.PhaseFailed, func(st *api.AllocationStatus) {
		st.Failure, st.Port, st.Message, st.ExitCode, st.FinishedAt = api.FailurePortTaken, 20001, "port 20001 is taken", 1, 77
	})
	c.report(sum[0], api.PhaseComplete)
	c.report(sum[1], api.PhaseRunning)
	c.ok(&StopAllocation{ID: sum[1]})
	c.ok(&SetEligibility{Node: "n3", Ineligible: true})
	c.ok(&NodesDown{Nodes: []string{"n3"}, Reason: "silent"})
	changed := testJob("web", api.JobService, 2)
	changed.Tasks[0].Image = "newer"
	c.register(changed)
	p = c.plan("web", api.EvalComplete)
	c.put(p, 0, "n2").Replaces = web[0]
	p.Jobs[0].Stops = []api.Stop{{Allocation: web[0], Reason: "a newer version"}}
	c.ok(&CommitPlan{Plan: p})
	c.register(testJob("old", api.JobService, 1))
	c.ok(&StopJob{Name: "old"})
	c.ok(&Reap{Jobs: []string{"old"}, Allocations: []api.ID{web[0]}})
	c.ok(&RaiseEpoch{})
	return c
}

// deviceStory is what the story lacks: claims of devices, some of which their node does not announce any more. It may not
// change either.
func deviceStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1")
	c.ok(&RegisterNode{Node: deviceNode("n2", "gpu:A100:a0,a1", "gpu:T4:t0,t1"), Ready: true})
	c.register(deviceJob("train", 3, api.DeviceRequest{Type: "gpu", Count: 2, Share: api.WholeDevice}))
	c.register(deviceJob("serve", 4, api.DeviceRequest{Type: "gpu", Count: 1, Share: 250}))
	p := c.plan("train", api.EvalBlocked)
	c.put(p, 0, "n2").Devices = claims("gpu", api.WholeDevice, "a1", "a0")
	c.put(p, 1, "n2").Devices = claims("gpu", api.WholeDevice, "t0", "a0")
	c.ok(&CommitPlan{Plan: p})
	p = c.plan("serve", api.EvalComplete)
	for slot := range uint32(4) {
		c.put(p, slot, "n2").Devices = claims("gpu", 250, []string{"t0", "t0", "t1", "t1"}[slot])
	}
	c.ok(&CommitPlan{Plan: p})
	c.report(c.live("serve")[1], api.PhaseFailed)
	c.report(c.live("train")[0], api.PhaseRunning)
	c.ok(&RegisterNode{Node: deviceNode("n2", "fpga::t0", "gpu:A100:a0,a2")})
	return c
}

// historyStory is versions that say who made them, with tags, and the ways back. It may not change either.
func historyStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1")
	signed := func(count int, image string) *RegisterJobs {
		j := testJob("web", api.JobService, count)
		j.Tasks[0].Image, j.SubmittedBy = image, "ada@host"
		return &RegisterJobs{Jobs: []*api.Job{j}}
	}
	c.request("r1", signed(2, "one"))
	c.run("web", 2, "n1")
	c.ok(&TagVersion{Name: "web", Version: "1", Tag: "good"})
	c.ok(signed(2, "two"))
	c.request("r2", &RevertJob{Name: "web", To: api.VersionPrevious})
	c.request("r3", &ScaleJob{Name: "web", Count: 3})
	for i := range 11 {
		c.ok(signed(2+i, "three"))
	}
	c.ok(&TagVersion{Name: "web", Version: api.VersionCurrent, Tag: "late"})
	c.refused(api.CodeConflict, &RevertJob{Name: "web", To: "1", CheckIndex: new(uint64)})
	return c
}

// healthStory is what the stories lack: instances that run and are not healthy. It may not change either.
func healthStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 5))
	ids := c.run("web", 5, "n1", "n2")
	for i, h := range []api.HealthStatus{api.HealthUnknown, api.HealthHealthy, api.HealthUnhealthy, api.HealthUnhealthy} {
		c.report(ids[i], api.PhaseRunning, health(h), func(st *api.AllocationStatus) { st.Message = "check web: " + h.String() })
	}
	c.report(ids[4], api.PhaseFailed, health(api.HealthUnhealthy), func(st *api.AllocationStatus) { st.Failure = api.FailureCheck })
	c.report(ids[3], api.PhasePending, func(st *api.AllocationStatus) { st.Restarts = 1 })
	return c
}

// hurryStory is what the stories lack: a job and instances that are to stop without delay. It may not change either.
func hurryStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 3))
	c.register(testJob("api", api.JobService, 2))
	web := c.run("web", 3, "n1", "n2")
	c.run("api", 2, "n1")
	c.ok(&StopAllocation{ID: web[1], NoShutdownDelay: true})
	c.ok(&StopJob{Name: "api"})
	c.ok(&StopJob{Name: "api", NoShutdownDelay: true})
	return c
}

// drainStory is what the stories lack: nodes that are drained, were drained, or whose eligibility has a date. It may not change
// either.
func drainStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2", "n3", "n4")
	c.register(testJob("web", api.JobService, 2))
	web := c.run("web", 2, "n1", "n2")
	c.ok(&DrainNode{Node: "n1", Begin: &api.DrainRequest{Message: "kernel update"}})
	c.ok(&DrainNode{Node: "n2", Begin: &api.DrainRequest{Deadline: time.Minute, IgnoreSystem: true}})
	c.ok(&DrainNode{Node: "n3", Begin: &api.DrainRequest{Force: true}})
	c.ok(&SetEligibility{Node: "n4", Ineligible: true, Dated: true})
	c.wait(2 * time.Minute)
	c.ok(&DrainNode{Node: "n2"})
	c.report(web[0], api.PhaseFailed)
	c.ok(&DrainNode{Node: "n1"})
	c.ok(&DrainNode{Node: "n4", Begin: &api.DrainRequest{}})
	c.ok(&SetEligibility{Node: "n3", Dated: true})
	return c
}

// restartStory is what the stories lack: restarts of whole jobs and of single instances, through and not, and one that a newer
// version takes over. It may not change either.
func restartStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 3))
	c.register(testJob("sum", api.JobBatch, 2))
	web, sum := c.run("web", 3, "n1", "n2"), c.run("sum", 2, "n1")
	c.report(web[0], api.PhaseRunning)
	c.report(sum[0], api.PhaseComplete)
	c.request("r1", &RestartJob{Name: "web", RestartRequest: api.RestartRequest{Instances: []int{2, 0}}, Deploy: true})
	c.refused(api.CodeConflict, &RestartJob{Name: "web", Deploy: true})
	c.judge(api.MoveFail, "web[0] failed")
	c.ok(&RestartJob{Name: "web"})
	c.register(imageJob("web", "v4", 3))
	c.ok(&RestartJob{Name: "sum", RestartRequest: api.RestartRequest{Task: "sum"}})
	return c
}

// rebalanceStory is what the stories lack: a rebalance of which a move is under way. It may not change either.
func rebalanceStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2", "n3")
	c.register(testJob("web", api.JobService, 3))
	web := c.run("web", 3, "n1", "n3")
	for _, id := range web {
		c.report(id, api.PhaseRunning)
	}
	c.ok(&Rebalance{Begin: &balance.Order{Budget: api.RebalanceBudget{MaxMoves: 3, MinGain: 0.5}, Automatic: true,
		Moves: append(c.moves("n2", web[0]), c.moves("n1", web[1], web[1])...)}})
	c.ok(&Rebalance{})
	return c
}

// TestGoldenHistory replays the log of each release, and restores the snapshot that the release made of it. What an entry
// means never changes, so both give the same state. The two are compared as this binary writes them: a field that a later
// release adds to a job changes a snapshot's bytes, not what it says.
func TestGoldenHistory(t *testing.T) {
	stories := map[string]func(failer) *cluster{"0.1": story, "0.1-devices": deviceStory, "0.1-history": historyStory, "0.1-health": healthStory, "0.1-hurry": hurryStory, "0.1-everynode": everyNodeStory,
		"0.1-rollout": rolloutStory, "0.1-timeline": timelineStory, "0.1-retry": retryStory, "0.1-drain": drainStory,
		"0.1-restart": restartStory, "0.1-launch": launchStory, "0.1-rebalance": rebalanceStory, "0.1-dispatch": dispatchStory, "0.1-away": awayStory, "0.1-word": wordStory}
	for name, story := range stories {
		if _, err := os.Stat(filepath.Join("testdata", "log-"+name)); *rewrite && os.IsNotExist(err) {
			writeGolden(t, name, story(t))
		}
	}
	logs, _ := filepath.Glob(filepath.Join("testdata", "log-*"))
	equal(t, "golden logs", len(logs), len(stories))
	for _, file := range logs {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var log [][]byte
		for r := (reader{b: raw}); r.left() > 0; {
			log = append(log, r.bytes())
			if r.err != nil {
				t.Fatal(r.err)
			}
			c, err := Decode(log[len(log)-1])
			if err != nil {
				t.Fatal(err)
			}
			if again := encoded(t, c); (c.Kind == kindCommitPlan || c.Kind == kindUpdateStatuses) && !bytes.Equal(again, log[len(log)-1]) {
				t.Fatalf("%s, entry %d: this binary writes it in another way than the release did", file, len(log))
			}
		}
		replayed := replay(t, New(), log, 0).Snapshot()

		raw, err = os.ReadFile(strings.Replace(file, "log-", "snapshot-", 1))
		if err != nil {
			t.Fatal(err)
		}
		m := New()
		if err := m.Restore(bytes.NewReader(raw)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if errs := Check(m.Snapshot()); len(errs) > 0 {
			t.Fatalf("%s: %v", file, errs)
		}
		if file == filepath.Join("testdata", "log-0.1") {
			equal(t, "jobs", len(collect(m.Snapshot().Jobs())), 2)
			equal(t, "allocations", len(collect(m.Snapshot().Rows())), 6)
			equal(t, "the format that is enough", binary.LittleEndian.Uint16(persisted(t, replayed)[len(snapshotMagic):]), 1)
		}
		equal(t, file+" leads to its snapshot", hex(replayed), hex(m.Snapshot()))
	}
}

func hex(s *Snapshot) string { return fmt.Sprintf("%x", s.Fingerprint()) }

func writeGolden(t *testing.T, release string, c *cluster) {
	var log writer
	for _, entry := range c.log {
		log.bytes(entry)
	}
	for name, content := range map[string][]byte{"log-": log.b, "snapshot-": persisted(t, c.m.Snapshot())} {
		if err := os.WriteFile(filepath.Join("testdata", name+release), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHealthThatGoesWithoutSaying: a state in which all that runs is well is written as before there were checks, and
// what that said then is understood so.
func TestHealthThatGoesWithoutSaying(t *testing.T) {
	c := healthStory(t)
	format := func(s *Snapshot) uint16 { return binary.LittleEndian.Uint16(persisted(t, s)[len(snapshotMagic):]) }
	equal(t, "the format", format(c.m.Snapshot()), 4)
	for _, id := range c.live("web") {
		c.report(id, api.PhaseRunning, health(api.HealthHealthy))
	}
	equal(t, "the format when all are well", format(c.m.Snapshot()), 1)
	m := New()
	if err := m.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	equal(t, "healthy", m.Snapshot().Summary("web").Healthy, 4)
	for _, st := range []struct {
		status  api.AllocationStatus
		version uint8
	}{
		{api.AllocationStatus{Phase: api.PhaseRunning, Health: api.HealthHealthy}, 1},
		{api.AllocationStatus{Phase: api.PhaseFailed}, 1},
		{api.AllocationStatus{Phase: api.PhaseRunning}, 4},
		{api.AllocationStatus{Phase: api.PhaseRunning, Health: api.HealthUnhealthy}, 4},
	} {
		st.status.ID = 1
		command := &Command{Body: &UpdateStatuses{Reports: []NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{st.status}}}}}
		raw := encoded(t, command)
		equal(t, "the envelope", raw[1], st.version)
		back, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the status", back.Body.(*UpdateStatuses).Reports[0].Statuses[0], st.status)
	}
}

func TestASnapshotCarriesEverything(t *testing.T) {
	c := story(t)
	s := c.m.Snapshot()
	raw := persisted(t, s)
	h, err := Inspect(iotest.OneByteReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "header", h, Header{Format: 1, Index: c.index, ClusterID: "c1", Epoch: 1})
	sum := s.Fingerprint()
	equal(t, "the fingerprint is the digest", bytes.Equal(sum[:], raw[len(raw)-sha256.Size:]), true)

	m := New()
	if err := m.Restore(iotest.HalfReader(bytes.NewReader(raw))); err != nil {
		t.Fatal(err)
	}
	got := m.Snapshot()
	if errs := Check(got); len(errs) > 0 {
		t.Fatal(errs)
	}
	equal(t, "equal bytes", bytes.Equal(persisted(t, got), raw), true)
	equal(t, "summary", got.Summary("web"), s.Summary("web"))
	equal(t, "completed", got.Completed("sum", "sum", 1, 0), true)
	equal(t, "runnable", len(got.Runnable(0)), len(s.Runnable(0)))
	equal(t, "text", got.Text(), s.Text())
	for table := range tableCount {
		equal(t, "index", got.TableIndex(WatchKey{Table: table}), s.TableIndex(WatchKey{Table: table}))
	}
	equal(t, "deleted", got.deleted, s.deleted)
	equal(t, "freed", got.freed, s.freed)
	equal(t, "counter", got.counter, s.counter)
	for row := range s.Rows() {
		a, _ := s.Allocation(row.ID)
		b, _ := got.Allocation(row.ID)
		if fmt.Sprintf("%+v", deref(a)) != fmt.Sprintf("%+v", deref(b)) {
			t.Fatalf("got %+v, want %+v", b, a)
		}
	}
	first := Command{RequestID: "r1", At: c.at, Body: &RegisterJobs{Jobs: []*api.Job{testJob("web", api.JobService, 3), testJob("sum", api.JobBatch, 3)}}}
	equal(t, "a request of before", m.Apply(c.index+1, &first).Replayed, true)
	equal(t, "the purged job's version goes on", m.Apply(c.index+2, &Command{Body: &RegisterJobs{Jobs: []*api.Job{testJob("old", api.JobService, 1)}}}).Registered[0].Version, 2)
}

// TestHandlesDoNotShow builds a state whose names were met in another order than the alphabet's, in every table whose own
// order is that of handles. Restoring interns names in alphabetical order.
func TestHandlesDoNotShow(t *testing.T) {
	c := newCluster(t)
	c.nodes("n2", "n1")
	for _, name := range []string{"zeta", "alpha"} {
		j := testJob(name, api.JobBatch, 2)
		j.Tasks[0].Name = "same"
		c.register(j)
		p := c.plan(name, api.EvalComplete)
		c.put(p, 0, "n1", 8080).Task = "same"
		c.put(p, 1, "n2", 8080).Task = "same"
		c.ok(&CommitPlan{Plan: p})
		ids := c.live(name)
		c.report(ids[0], api.PhaseComplete)
		c.report(ids[1], api.PhaseFailed)
	}
	for i, node := range []string{"n2", "n1"} {
		c.register(testJob("web", api.JobService, i+1))
		p := c.plan("web", api.EvalComplete)
		c.put(p, uint32(i), node, 9000)
		c.ok(&CommitPlan{Plan: p})
		c.report(c.live("web")[0], api.PhaseFailed, func(st *api.AllocationStatus) { st.Failure, st.Port = api.FailurePortTaken, 9000 })
	}
	restored := New()
	raw := persisted(t, c.m.Snapshot())
	if err := restored.Restore(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	equal(t, "equal bytes", bytes.Equal(persisted(t, restored.Snapshot()), raw), true)
	for name, s := range map[string]*Snapshot{"before": c.m.Snapshot(), "after": restored.Snapshot()} {
		equal(t, name+" alpha[0]", s.Completed("alpha", "same", 1, 0), true)
		equal(t, name+" alpha[1]", s.Completed("alpha", "same", 1, 1), false)
		equal(t, name+" n1", s.Quarantined(0, 9000), true)
		equal(t, name+" n2", s.Quarantined(1, 9000), true)
	}
}

func deref(a *api.Allocation) api.Allocation {
	b := *a
	b.ExitCode = nil
	return b
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	for name, story := range map[string]func(failer) *cluster{"format 1": story, "format 2": deviceStory} {
		t.Run(name, func(t *testing.T) { refuseDamage(t, persisted(t, story(t).m.Snapshot())) })
	}
	if err := story(t).m.Snapshot().Persist(&fullDisk{left: 100}); err == nil {
		t.Fatal("a full disk was not noticed")
	}
}

func refuseDamage(t *testing.T, raw []byte) {
	m := New()
	m.Apply(1, &Command{Body: &RegisterNode{Node: testNode("n1"), Ready: true}})
	before := m.Snapshot().Fingerprint()
	refuse := func(what string, bad []byte) {
		t.Helper()
		err := m.Restore(bytes.NewReader(bad))
		if err == nil {
			t.Fatalf("%s: it was restored", what)
		}
		if code := api.CodeOf(err); code != api.CodeInvalid && code != api.CodeIncompatible {
			t.Fatalf("%s: %s: %v", what, code, err)
		}
		if _, err := Inspect(bytes.NewReader(bad)); err == nil {
			t.Fatalf("%s: it passes inspection", what)
		}
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		refuse(fmt.Sprintf("byte %d flipped", i), bad)
	}
	for n := range raw {
		refuse(fmt.Sprintf("cut after %d bytes", n), raw[:n])
	}
	refuse("one byte more", append(bytes.Clone(raw), 0))
	refuse("something else", []byte("PK\x03\x04 this is another kind of file altogether"))
	equal(t, "the state", m.Snapshot().Fingerprint() == before, true)

	newer := bytes.Clone(raw)
	newer[len(snapshotMagic)] = snapshotFormat + 1
	if _, err := Inspect(bytes.NewReader(newer)); !errors.Is(err, ErrNewer) || api.CodeOf(err) != api.CodeIncompatible {
		t.Fatalf("a newer format: %v", err)
	}
	if err := m.Restore(iotest.TimeoutReader(bytes.NewReader(raw))); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrDamaged) {
		t.Fatalf("a reader's own error is hidden: %v", err)
	}
}

type fullDisk struct{ left int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestRestoreWakesEverybody(t *testing.T) {
	c := story(t)
	keys := []WatchKey{{}, {Table: TableJobs}, {Table: TableJobs, Key: "nobody"}, {Table: TableRunnable}, {Table: TableAllocations, ID: 5}}
	var channels []<-chan struct{}
	for _, k := range keys {
		channels = append(channels, c.m.Watch(k))
	}
	if err := c.m.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	for _, ch := range channels {
		<-ch
	}
}

func TestWhoIsWoken(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.register(testJob("web", api.JobService, 2))
	c.register(testJob("other", api.JobService, 1))
	id := c.run("web", 1, "n1")[0]
	e := c.register(testJob("web", api.JobService, 3)).Evaluation
	for _, tc := range []struct {
		body  Body
		woken []WatchKey
		not   []WatchKey
	}{
		{&Reap{}, []WatchKey{{}}, []WatchKey{{Table: TableJobs}, {Table: TableNodes}, {Table: TableRunnable}}},
		{&SetEligibility{Node: "n2", Ineligible: true}, []WatchKey{{Table: TableNodes}, {Table: TableNodes, Key: "n2"}},
			[]WatchKey{{Table: TableNodes, Key: "n1"}, {Table: TableRunnable}}},
		{&UpdateStatuses{Reports: []NodeReport{{Node: "n1", Statuses: []api.AllocationStatus{{ID: id, Seq: 1, Phase: api.PhaseRunning}}}}},
			[]WatchKey{{Table: TableAllocations}, {Table: TableAllocations, ID: id}, {Table: TableNodeAllocations, Key: "n1"}, {Table: TableJobAllocations, Key: "web"}},
			[]WatchKey{{Table: TableAllocations, ID: id + 1}, {Table: TableNodeAllocations, Key: "n2"}, {Table: TableJobAllocations, Key: "other"}, {Table: TableEvaluations}, {Table: TableJobs}}},
		{&StopJob{Name: "web"},
			[]WatchKey{{Table: TableJobs}, {Table: TableJobs, Key: "web"}, {Table: TableEvaluations, ID: e}, {Table: TableJobEvaluations, Key: "web"}, {Table: TableRunnable}},
			[]WatchKey{{Table: TableJobs, Key: "other"}, {Table: TableJobEvaluations, Key: "other"}, {Table: TableAllocations}}},
	} {
		woken := func(k WatchKey, ch <-chan struct{}) bool {
			select {
			case <-ch:
				equal(t, fmt.Sprintf("%T: the index of %+v", tc.body, k), c.m.Snapshot().TableIndex(k), c.index)
				return true
			default:
				return false
			}
		}
		var wake, sleep []<-chan struct{}
		for _, k := range tc.woken {
			wake = append(wake, c.m.Watch(k))
		}
		for _, k := range tc.not {
			sleep = append(sleep, c.m.Watch(k))
		}
		c.ok(tc.body)
		for i, ch := range wake {
			equal(t, fmt.Sprintf("%T wakes %+v", tc.body, tc.woken[i]), woken(tc.woken[i], ch), true)
		}
		for i, ch := range sleep {
			equal(t, fmt.Sprintf("%T wakes %+v", tc.body, tc.not[i]), woken(tc.not[i], ch), false)
		}
	}
	equal(t, "nonsense", c.m.Snapshot().TableIndex(WatchKey{Table: 99}), 1)
}

func TestForgottenWatchesDoNotPileUp(t *testing.T) {
	m := New()
	first := m.Watch(WatchKey{Table: TableJobs, Key: "first"})
	for i := range maxWatches {
		m.Watch(WatchKey{Table: TableJobs, Key: fmt.Sprint(i)})
	}
	<-first
	equal(t, "waiting", len(m.watches.waiting), 1)
}

func TestAnEpochThatIsUsedUp(t *testing.T) {
	c := newCluster(t)
	c.m.state.counter = ^uint32(0) - 1
	last := c.register(testJob("a", api.JobService, 1)).Evaluation
	next := c.register(testJob("b", api.JobService, 1)).Evaluation
	equal(t, "the last", last, api.MakeID(0, ^uint32(0)))
	equal(t, "the next", next, api.MakeID(1, 1))
}

// FuzzRestore feeds snapshots whose digest is right, whatever they say.
func FuzzRestore(f *testing.F) {
	raw := persisted(f, story(f).m.Snapshot())
	f.Add(raw[:len(raw)-sha256.Size])
	raw = persisted(f, deviceStory(f).m.Snapshot())
	f.Add(raw[:len(raw)-sha256.Size])
	empty := persisted(f, New().Snapshot())
	f.Add(empty[:len(empty)-sha256.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		m := New()
		if err := m.Restore(bytes.NewReader(append(bytes.Clone(b), sum[:]...))); err != nil {
			return
		}
		s := m.Snapshot()
		Check(s) // whatever it finds
		s.Fingerprint()
		for e := range s.Evaluations() {
			m.Apply(s.Index()+1, &Command{At: int64(48 * time.Hour), Body: &StopJob{Name: e.Job}})
		}
	})
}
