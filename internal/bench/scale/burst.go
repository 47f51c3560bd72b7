package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/internal/bench/fleet"
	"cube/internal/bench/load"
	"cube/internal/bench/result"
)

// Burst is a number of jobs submitted at once to an empty cluster.
type Burst struct {
	Name      string
	Jobs      int
	Count     int     // instances of each
	CPU       float64 // cores of each instance
	Memory    int64   // MiB of each instance
	Scheduler string
	Within    time.Duration // target for all to run; 0: none
	LeaderGiB float64       // target for the leader's memory; 0: none
}

// jobs are the burst's jobs: job i runs on the nodes of one class, in turn.
func (b Burst) jobs(classes int) []load.Job {
	jobs := make([]load.Job, b.Jobs)
	for i := range jobs {
		jobs[i] = load.Job{Name: fmt.Sprintf("%s-%05d", b.Name, i), Count: b.Count, CPU: b.CPU, Memory: b.Memory,
			Class: fleet.Class(i, classes), Scheduler: b.Scheduler}
	}
	return jobs
}

// Run starts a cluster, submits the burst, and returns what that took when every instance has been reported running.
func (b Burst) Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	s, err := open(ctx, cfg, cfg.Nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := result.New(b.Name)
	for name, v := range map[string]any{"jobs": b.Jobs, "count": b.Count, "nodes": cfg.Nodes, "servers": cfg.Cluster.Servers, "classes": cfg.Classes, "at-once": cfg.AtOnce} {
		r.Set(name, v)
	}
	note(r)
	empty, err := s.weight()
	if err != nil {
		return nil, err
	}
	before, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	t := load.NewTracker(b.jobs(cfg.Classes))
	err = s.profiled(ctx, r, int(b.Within.Seconds()), func() error {
		return s.fill(ctx, b.jobs(cfg.Classes), t)
	})
	if err != nil {
		return nil, err
	}
	after, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	full, err := s.hold(b.Jobs * b.Count)
	if err != nil {
		return nil, err
	}
	b.rates(r, t)
	if b.LeaderGiB > 0 {
		r.AtMost("peak RSS of the leader", s.leaderMemory(after), "GiB", b.LeaderGiB)
	} else {
		r.Add("peak RSS of the leader", s.leaderMemory(after), "GiB")
	}
	if err := s.account(ctx, r, before, after, b.Jobs*b.Count); err != nil {
		return nil, err
	}
	s.weigh(r, empty, full)
	return r, nil
}

// fill submits jobs and returns when all their instances run.
func (s *stage) fill(ctx context.Context, jobs []load.Job, t *load.Tracker) error {
	return s.within(ctx, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return load.Submit(ctx, s.people, jobs, s.cfg.AtOnce, t.Submitted, t.Accepted) })
		g.Go(func() error { return t.Follow(ctx, s.people) })
		done := make(chan struct{})
		go s.tell(t, done) // ends with done
		defer close(done)
		return g.Wait()
	})
}

// steady is fill, and a wait until all instances are healthy, so that nothing of their start is left to be told when
// what is measured begins.
func (s *stage) steady(ctx context.Context, jobs []load.Job) error {
	t := load.NewTracker(jobs)
	if err := s.fill(ctx, jobs, t); err != nil {
		return err
	}
	return s.within(ctx, func(ctx context.Context) error { return t.Settle(ctx, s.people) })
}

// tell says from time to time how far the jobs are.
func (s *stage) tell(t *load.Tracker, done <-chan struct{}) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-tick.C:
			l := t.Last()
			s.cfg.Progress("%3.0f s: %d instances are placed, %d run", time.Since(began).Seconds(), l.Placed, l.Running)
		case <-done:
			return
		}
	}
}

// rates adds how fast all were placed and running, and how long each job took.
func (b Burst) rates(r *result.Result, t *load.Tracker) {
	var placed, running []time.Duration
	var first, lastAccepted, lastPlaced, lastRunning time.Time
	for i, p := range t.Progress() {
		if i == 0 || p.Submitted.Before(first) {
			first = p.Submitted
		}
		lastAccepted, lastPlaced, lastRunning = later(lastAccepted, p.Accepted), later(lastPlaced, p.Placed), later(lastRunning, p.Running)
		placed, running = append(placed, p.Placed.Sub(p.Submitted)), append(running, p.Running.Sub(p.Submitted))
	}
	n := float64(b.Jobs * b.Count)
	all := lastRunning.Sub(first).Seconds()
	r.Add("all jobs accepted after", lastAccepted.Sub(first).Seconds(), "s")
	r.Add("all instances placed after", lastPlaced.Sub(first).Seconds(), "s")
	if b.Within > 0 {
		r.AtMost("all instances reported running after", all, "s", b.Within.Seconds())
	} else {
		r.Add("all instances reported running after", all, "s")
	}
	r.Add("placed", n/lastPlaced.Sub(first).Seconds(), "/s")
	r.Add("running", n/all, "/s")
	r.Add("submit to placed, a job, p50", percentile(placed, 50, time.Second), "s")
	r.Add("submit to placed, a job, p99", percentile(placed, 99, time.Second), "s")
	r.Add("submit to running, a job, p50", percentile(running, 50, time.Second), "s")
	r.Add("submit to running, a job, p99", percentile(running, 99, time.Second), "s")
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// note says what a reader must know of all figures with simulated nodes.
func note(r *result.Result) {
	r.Note("simulated nodes are whole clients with sessions of their own, many in a process; left out: gossip, the state file on disk, containers, and each node's own decoding of jobs")
	r.Note("times of jobs are as a reader of the job list sees them, who looks at most every %s", load.Pace)
}
