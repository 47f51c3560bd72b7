package cubetest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/fsm"
	"cube/internal/memnet"
)

var (
	seeds    = flag.Int("seeds", 3, "how many random histories TestNemesisBubble goes through")
	seedOnly = flag.Uint64("seed", 0, "the one history to go through: what a failure has printed")
)

const (
	storm = 3 * time.Minute  // how long a history's faults last
	doubt = 30 * time.Second // for which a write that nobody waits for any more may still be on its way from server to server
	calm  = 5 * time.Minute  // within which everything is right again: the hold on many lost nodes takes two of them
)

// TestNemesisBubble crashes, cuts off and brings back servers and clients at random while somebody submits, changes and
// stops jobs and instances end. When the faults are over: one leader, every acknowledged write is there, every server has
// the same state, and what runs on the engines is what the servers say, instance by instance.
func TestNemesisBubble(t *testing.T) {
	first, n := uint64(1), *seeds
	if *seedOnly != 0 {
		first, n = *seedOnly, 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) { history(t, seed) })
		})
	}
}

func history(t *testing.T, seed uint64) {
	t.Logf("again with: go test -tags hashicorpmetrics ./internal/cubetest -run Nemesis -seed %d", seed)
	var c *Cluster
	if seed%3 == 0 {
		c = NewBoth(t, 3, 1)
	} else {
		c = New(t, 3, 4)
	}
	c.NodesReady(4, time.Minute)
	w := newWriter(c, seed)
	ctx, stop := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { w.run(ctx) })
	n := &nemesis{Cluster: c, r: rand.New(rand.NewPCG(seed, 1)), kept: map[*Agent][]byte{}}
	for end := time.Now().Add(storm); time.Now().Before(end); {
		n.strike()
		time.Sleep(time.Duration(n.r.IntN(6000)) * time.Millisecond)
	}
	n.heal()
	stop()
	writing.Wait()
	t.Logf("%d writes were acknowledged, %d were not; faults:\n%s", w.acknowledged, w.doubtful, strings.Join(n.did, "\n"))

	time.Sleep(doubt)
	c.Eventually("everything is right", calm, func(ctx context.Context) error { return c.converged(ctx, w.jobs) })
	c.agree()
	c.stays(w.jobs)
}

// nemesis is what goes wrong.
type nemesis struct {
	*Cluster
	r    *rand.Rand
	did  []string
	kept map[*Agent][]byte // what clients remembered at some time
}

func (n *nemesis) strike() {
	all := n.agents()
	a, b := all[n.r.IntN(len(all))], all[n.r.IntN(len(all))]
	what := ""
	switch k := n.r.IntN(13); {
	case k < 3 && a.Running():
		how := []memnet.Death{memnet.Reset, memnet.Blackhole}[n.r.IntN(2)]
		what = fmt.Sprintf("crash %s (%d)", a.Name, how)
		n.Net.Crash(a.IP, how)
		_ = a.Stop() // it could not reach anybody
		what += n.spoil(a)
	case k < 3 || k == 3:
		for _, a := range all {
			if !a.Running() && n.r.IntN(2) == 0 {
				what += " return " + a.Name
				a.Return()
			}
		}
	case k == 4 && a.Running():
		what = "restart " + a.Name
		if err := a.Stop(); err != nil {
			n.t.Errorf("%s ended with %v", a.Name, err)
		}
		a.Start()
	case k == 5:
		var groups [2][]string
		for _, a := range all {
			g := n.r.IntN(2)
			groups[g] = append(groups[g], a.IP)
		}
		what = fmt.Sprint("partition ", groups)
		n.Net.Partition(groups[:]...)
	case k == 6:
		what = fmt.Sprintf("cut %s -> %s", a.Name, b.Name)
		n.Net.Cut(a.IP, b.IP)
	case k == 7:
		what = "slow network"
		// No jitter: yamux holds a lock while it waits for a frame's second half, and who waits for a lock stops a bubble.
		n.Net.SetLatency(time.Duration(n.r.IntN(60))*time.Millisecond, 0)
		n.Net.SetLoss(n.r.Float64() / 5)
	case k < 10:
		what = "heal the network"
		n.Net.Heal()
		n.Net.SetLatency(0, 0)
		n.Net.SetLoss(0)
	case k == 10:
		n.keep(n.Clients[n.r.IntN(len(n.Clients))])
	default:
		c := n.Clients[n.r.IntN(len(n.Clients))]
		running := c.running()
		if len(running) == 0 {
			return
		}
		id := running[n.r.IntN(len(running))].Handle.Key.Allocation
		what = fmt.Sprintf("kill an instance of %d on %s", id, c.Name)
		c.Engine.Kill(id, driver.Exit{Code: 1})
	}
	if what != "" {
		n.did = append(n.did, fmt.Sprintf("%s %s", time.Now().Format("04:05.000"), what))
	}
}

// keep copies what a client remembers, for spoil. The copy may be torn, like a disk in a power cut.
func (n *nemesis) keep(a *Agent) {
	if b, err := os.ReadFile(a.stateFile()); err == nil {
		n.kept[a] = b
	}
}

// spoil makes a client that does not run forget: a little, or everything but who it is. The labels of what runs and the
// servers know the rest.
func (n *nemesis) spoil(a *Agent) (what string) {
	if a.Engine == nil {
		return ""
	}
	var err error
	switch k := n.r.IntN(4); {
	case k == 0:
		what, err = ", which forgets everything", os.Remove(a.stateFile())
	case k == 1 && n.kept[a] != nil:
		what, err = ", which forgets the latest", os.WriteFile(a.stateFile(), n.kept[a], 0o600)
	}
	if err != nil {
		n.t.Errorf("spoil the state of %s: %v", a.Name, err)
	}
	return what
}

func (a *Agent) stateFile() string { return filepath.Join(a.cfg.DataDir, "client", "state.db") }

func (n *nemesis) heal() {
	n.Net.Heal()
	n.Net.SetLatency(0, 0)
	n.Net.SetLoss(0)
	for _, a := range n.agents() {
		if !a.Running() {
			a.Return()
		}
	}
}

// writer submits, changes and stops jobs, at any agent that runs, and keeps what may be the state of each.
type writer struct {
	c    *Cluster
	r    *rand.Rand
	jobs map[string]*asked

	requests, acknowledged, doubtful int
}

// asked is what a job may be, after all that was asked for it.
type asked struct {
	kind         api.JobType
	acknowledged bool
	counts       map[int]bool // what its count may be, 0 for stopped: the last one acknowledged, and unknown
	unknown      map[int]bool // what was asked for and may have happened, or may still
}

func newWriter(c *Cluster, seed uint64) *writer {
	return &writer{c: c, r: rand.New(rand.NewPCG(seed, 2)), jobs: map[string]*asked{}}
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.write(ctx)
		select {
		case <-time.After(time.Duration(w.r.IntN(3000)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *writer) write(ctx context.Context) {
	all := w.c.agents()
	a := all[w.r.IntN(len(all))]
	if conn, err := w.c.Net.Host(a.IP).Dial(ctx, a.IP+":5555"); err != nil {
		return // it does not run
	} else {
		conn.Close()
	}
	cluster := a.API()
	name := fmt.Sprintf("job-%d", w.r.IntN(8))
	job := w.jobs[name]
	if job == nil {
		job = &asked{kind: api.JobService, counts: map[int]bool{}, unknown: map[int]bool{}}
		if w.r.IntN(3) == 0 {
			job.kind = api.JobBatch
		}
		w.jobs[name] = job
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	w.requests++
	meta := api.WriteMeta{RequestID: fmt.Sprintf("request-%d", w.requests)}
	count := 0
	var do func() error
	switch k := w.r.IntN(10); {
	case k == 0 && job.acknowledged:
		do = func() error { _, err := cluster.StopJob(ctx, name, api.StopRequest{}, meta); return err }
	case k == 1:
		do = func() error { return w.stopOne(ctx, cluster, name, meta) }
		count = -1
	default:
		count = 1 + w.r.IntN(8)
		do = func() error {
			_, err := cluster.RegisterJobs(ctx, api.Submission{Job: w.job(name, job.kind, count)}, meta)
			return err
		}
	}
	err := do()
	if err != nil && w.r.IntN(2) == 0 {
		err = do() // the same request again has no second effect
	}
	if count < 0 {
		return // it changes nothing that lasts
	}
	switch {
	case err == nil:
		w.acknowledged++
		job.acknowledged = true
		job.counts = maps.Clone(job.unknown)
		job.counts[count] = true
	case api.CodeOf(err) == api.CodeNotFound && count == 0:
	case api.CodeOf(err) == api.CodeInvalid:
		w.c.t.Errorf("%s: %v", name, err)
	default:
		w.doubtful++
		job.unknown[count], job.counts[count] = true, true
	}
}

func (w *writer) stopOne(ctx context.Context, cluster api.Cluster, job string, meta api.WriteMeta) error {
	allocs, _, err := cluster.JobAllocations(ctx, job, api.Query{})
	if err != nil || len(allocs) == 0 {
		return err
	}
	_, err = cluster.StopAllocation(ctx, allocs[w.r.IntN(len(allocs))].ID, api.StopRequest{}, meta)
	return err
}

func (w *writer) job(name string, kind api.JobType, count int) *api.Job {
	options := map[string]any{"start_delay": "50ms"}
	if kind == api.JobBatch {
		options["run_for"] = "5s"
	}
	task := api.DefaultTask(name)
	task.Driver, task.Count, task.Config = "fake", count, options
	return &api.Job{Name: name, Type: kind, Tasks: []*api.Task{task}}
}

// running lists what runs on a client's machine.
func (a *Agent) running() []driver.Instance {
	a.t.Helper()
	var out []driver.Instance
	for _, o := range a.Engine.Owners() {
		for _, i := range a.Engine.Instances(o) {
			if i.Running {
				out = append(out, i)
			}
		}
	}
	return out
}

// converged says what is not yet as it must be when all faults are over.
func (c *Cluster) converged(ctx context.Context, jobs map[string]*asked) error {
	leaders := map[string]bool{}
	leading := 0
	for _, s := range c.Servers {
		h, err := s.API().Health(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		leaders[h.Leader] = true
		if h.Leading {
			leading++
		}
	}
	if leading != 1 || len(leaders) != 1 {
		return fmt.Errorf("%d servers lead; the servers follow %v", leading, slices.Collect(maps.Keys(leaders)))
	}
	for _, a := range c.agents() {
		if _, _, err := a.API().ListNodes(ctx, api.Query{}); err != nil {
			return fmt.Errorf("%s answers no read: %w", a.Name, err)
		}
	}
	nodes, _, err := c.Up().ListNodes(ctx, api.Query{})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Ready() || !n.Connected {
			return fmt.Errorf("node %s is %s (%s), connected %v", n.Name, n.Status, n.StatusReason, n.Connected)
		}
	}
	for name, job := range jobs {
		if err := c.settled(ctx, name, job); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return c.owned(ctx)
}

// settled says in what a job is not as it was asked for.
func (c *Cluster) settled(ctx context.Context, name string, job *asked) error {
	status, _, err := c.Up().Job(ctx, name, api.Query{})
	switch {
	case api.CodeOf(err) == api.CodeNotFound && !job.acknowledged:
		return nil
	case err != nil:
		return err
	}
	want := status.Summary.Desired // 0 when it is stopped
	if !job.counts[want] {
		return fmt.Errorf("the servers have a count of %d; asked for and possible: %v", want, slices.Sorted(maps.Keys(job.counts)))
	}
	running, complete := 0, 0
	slots := map[int]bool{}
	for _, a := range status.Allocations {
		switch {
		case a.Phase == api.PhaseRunning && a.Desired == api.DesiredRun:
			running++
		case !a.Phase.Terminal():
			return fmt.Errorf("%s (%s) on %s is to %s and %s: %s", a.Name, a.ID, a.NodeName, a.Desired, a.Phase, a.Message)
		case a.Phase == api.PhaseComplete && a.Desired == api.DesiredRun && a.Slot < want:
			complete++
		}
		if a.Phase == api.PhaseRunning || a.Phase == api.PhaseComplete && a.Desired == api.DesiredRun {
			slots[a.Slot] = true
		}
	}
	e := status.Evaluation
	switch {
	case e != nil && e.Status.Open():
		return fmt.Errorf("its evaluation is %s: %s", e.Status, e.Message)
	case job.kind == api.JobService && running != want:
		return fmt.Errorf("%d of %d run", running, want)
	case job.kind == api.JobBatch && want > 0 && status.Summary.Counts.Complete != want:
		return fmt.Errorf("%d of %d are complete: %+v", status.Summary.Counts.Complete, want, status.Summary.Counts)
	}
	return nil
}

// owned says which instance runs that the servers do not have running there, or the other way round.
func (c *Cluster) owned(ctx context.Context) error {
	allocs, _, err := c.Up().ListAllocations(ctx, api.Query{})
	if err != nil {
		return err
	}
	health, err := c.Up().Health(ctx)
	if err != nil {
		return err
	}
	text := api.NewIDText(health.Cluster)
	expected := map[string]string{} // allocation to node name
	for _, a := range allocs {
		if !a.Phase.Terminal() {
			expected[a.ID] = a.NodeName
		}
	}
	for _, n := range c.Clients {
		for _, i := range n.running() {
			id := text.Format(i.Handle.Key.Allocation)
			if expected[id] != n.Name {
				return fmt.Errorf("an instance of %s runs on %s, the servers have it on %q", id, n.Name, expected[id])
			}
			delete(expected, id)
		}
	}
	if len(expected) > 0 {
		return fmt.Errorf("the servers have these running and no engine has: %v", expected)
	}
	return nil
}

// agree fails the test unless every server has the same state, and one that breaks no invariant.
func (c *Cluster) agree() {
	c.t.Helper()
	c.Eventually("all servers have the same state", 10*time.Second, func(ctx context.Context) error {
		var first []byte
		for _, s := range c.Servers {
			b, err := stateOf(ctx, s)
			if err != nil {
				return err
			}
			if first == nil {
				first = b
			}
			if string(first) != string(b) {
				return fmt.Errorf("%s and %s differ:\n%s\n%s", c.Servers[0].Name, s.Name, first, b)
			}
		}
		return nil
	})
	r, err := c.Up().SaveSnapshot(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	machine := fsm.New()
	if err := machine.Restore(r); err != nil {
		c.t.Fatal(err)
	}
	for _, err := range fsm.Check(machine.Snapshot()) {
		c.t.Error(err)
	}
}

// stateOf is all that a server's own state shows, as it has it.
func stateOf(ctx context.Context, s *Agent) ([]byte, error) {
	q, cluster := api.Query{Stale: true}, s.API()
	nodes, _, err1 := cluster.ListNodes(ctx, q)
	for _, n := range nodes {
		n.Load, n.LastContact, n.Connected = nil, time.Time{}, false // the leader's memory
	}
	jobs, _, err2 := cluster.ListJobs(ctx, q)
	allocs, _, err3 := cluster.ListAllocations(ctx, q)
	evaluations, _, err4 := cluster.ListEvaluations(ctx, q)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	return json.Marshal([]any{nodes, jobs, allocs, evaluations})
}

// stays fails the test unless what has come right stays so, with nothing started or stopped, for a while.
func (c *Cluster) stays(jobs map[string]*asked) {
	c.t.Helper()
	ctx := context.Background()
	before := c.started()
	time.Sleep(time.Minute)
	if err := c.converged(ctx, jobs); err != nil {
		c.t.Errorf("a minute later: %v", err)
	}
	if after := c.started(); !slices.Equal(before, after) {
		c.t.Errorf("a minute later other instances run: %v, then %v", before, after)
	}
}

// started lists what runs, each with the time at which it was started.
func (c *Cluster) started() []string {
	var out []string
	for _, n := range c.Clients {
		for _, i := range n.running() {
			out = append(out, fmt.Sprintf("%s:%d/%d@%s", n.Name, i.Handle.Key.Allocation, i.Handle.Key.Restarts, i.StartedAt.Format("04:05.000")))
		}
	}
	return out
}
