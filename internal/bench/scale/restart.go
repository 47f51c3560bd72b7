package scale

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cube/api"
	"cube/internal/bench/load"
	"cube/internal/bench/result"
)

const (
	staleWithin = 5 * time.Second  // target for the first stale read
	tailWithin  = 15 * time.Second // target for the end of the log's tail
	askAgain    = 5 * time.Millisecond
	awayFor     = time.Second // between the kill and the start: the others go on meanwhile
	filling     = 100         // writes of 0.9 MB, which are more than the log after which a server takes a snapshot at the latest
)

// Restart kills a follower of a full cluster and starts it again, with what it has on disk.
type Restart struct {
	Burst
	Times int
}

// comeback is one start of a server that was killed.
type comeback struct {
	stale, caughtUp time.Duration // since the process was started: it knows all jobs, it is where the leader was
	entries         uint64        // of the log's tail
	peak            int64         // bytes of memory
}

// Run fills a cluster, restarts a server, and returns how soon it was back.
func (b Restart) Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	s, err := open(ctx, cfg, cfg.Nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	t := load.NewTracker(b.jobs(cfg.Classes))
	if err := s.fill(ctx, b.jobs(cfg.Classes), t); err != nil {
		return nil, err
	}
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	who := (s.leader + 1) % s.c.Size()
	r := result.New("restart")
	for name, v := range map[string]any{"instances": b.Jobs * b.Count, "jobs": b.Jobs, "nodes": cfg.Nodes, "servers": s.c.Size(), "times": b.Times} {
		r.Set(name, v)
	}
	note(r)
	r.Note("the times run from the start of the process; a follower is killed %s before; the other servers and all nodes go on", awayFor)
	if err := b.phase(ctx, s, who, r, "as the load left it"); err != nil {
		return nil, err
	}
	cfg.Progress("the servers are brought to take a snapshot")
	if err := s.within(ctx, func(ctx context.Context) error { return s.compact(ctx, who) }); err != nil {
		return nil, err
	}
	return r, b.phase(ctx, s, who, r, "after a snapshot of all")
}

// phase restarts a server some times and adds what that took. Its disk holds what the name says.
func (b Restart) phase(ctx context.Context, s *stage, who int, r *result.Result, name string) error {
	log, snapshots, err := s.c.Disk(who)
	if err != nil {
		return err
	}
	var stale, tail []time.Duration
	var last comeback
	for n := range b.Times {
		if last, err = b.once(ctx, s, who); err != nil {
			return fmt.Errorf("restart %d of %d %s: %w", n+1, b.Times, name, err)
		}
		s.cfg.Progress("%s: back after %s, caught up after %s", name, last.stale.Round(time.Millisecond), last.caughtUp.Round(time.Millisecond))
		stale, tail = append(stale, last.stale), append(tail, last.caughtUp)
	}
	within := staleWithin
	if snapshots == 0 { // all is tail
		within = tailWithin
	}
	r.AtMost(name+": a stale read has all jobs, p50", percentile(stale, 50, time.Second), "s", within.Seconds())
	r.AtMost(name+": the log's tail replayed, p50", percentile(tail, 50, time.Second), "s", tailWithin.Seconds())
	r.Add(name+": the log's tail replayed, slowest", percentile(tail, 100, time.Second), "s")
	r.Add(name+": entries in the tail", float64(last.entries), "")
	r.Add(name+": log on disk", float64(log)/(1<<20), "MiB")
	r.Add(name+": snapshots on disk", float64(snapshots)/(1<<20), "MiB")
	r.Add(name+": peak RSS of the server", float64(last.peak)/gib, "GiB")
	return nil
}

// compact makes the log as long as it takes for a server to have a snapshot of the full state. What it writes, a job file
// with more and more comment, changes nothing in the state.
func (s *stage) compact(ctx context.Context, who int) error {
	had, err := s.c.Snapshots(who)
	if err != nil {
		return err
	}
	comment := strings.Repeat("# "+strings.Repeat("x", 998)+"\n", 900)
	filler := load.Job{Name: "restart-filler", CPU: 0.1, Memory: 32}.Source()
	tick := time.NewTicker(askAgain) // a snapshot is seen only on disk
	defer tick.Stop()
	for written := 0; ; {
		has, err := s.c.Snapshots(who)
		if err != nil || has > had {
			return err
		}
		if written < filling { // the rest is waiting for the disk
			if _, err := s.people.RegisterJobs(ctx, api.Submission{Source: comment + filler, FileName: "filler.hcl"}, api.WriteMeta{}); err != nil {
				return fmt.Errorf("make the log longer: %w", err)
			}
			written++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no snapshot after %d writes of %d bytes: %w", written, len(comment), ctx.Err())
		}
	}
}

// once kills a server, starts it again and returns when it has all that the leader had.
func (b Restart) once(ctx context.Context, s *stage, who int) (c comeback, err error) {
	if err := s.c.Kill(who); err != nil {
		return c, err
	}
	if err := wait(ctx, awayFor); err != nil {
		return c, err
	}
	if err := s.find(ctx); err != nil {
		return c, err
	}
	leader, err := s.people.Health(ctx)
	if err != nil {
		return c, fmt.Errorf("ask the leader how far the log goes: %w", err)
	}
	began := time.Now()
	if err := s.c.Restart(who); err != nil {
		return c, err
	}
	return c, s.within(ctx, func(ctx context.Context) error {
		first, err := b.until(ctx, s, who, func(*api.Health) bool { return true })
		if err != nil {
			return err
		}
		c.stale = time.Since(began)
		if _, err := b.until(ctx, s, who, func(h *api.Health) bool { return h.Index >= leader.Index }); err != nil {
			return err
		}
		c.caughtUp = time.Since(began)
		c.entries = leader.Index - min(leader.Index, first.Index)
		if err := s.complete(ctx, who, b.Jobs*b.Count); err != nil {
			return err
		}
		u, err := s.c.Usage(who)
		c.peak = u.PeakRSS
		return err
	})
}

// until asks a server for a job of the burst, with a stale answer, until it knows of it and its health is as wanted.
func (b Restart) until(ctx context.Context, s *stage, who int, wanted func(*api.Health) bool) (*api.Health, error) {
	job := b.jobs(1)[b.Jobs-1].Name
	tick := time.NewTicker(askAgain) // nobody can tell that a process has come up
	defer tick.Stop()
	for {
		_, _, err := s.c.API(who).JobVersions(ctx, job, api.Query{Stale: true})
		if err == nil {
			h, err := s.c.API(who).Health(ctx)
			if err == nil && wanted(h) {
				return h, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the restarted server does not answer as it should: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// complete makes sure that a server has all instances running, by its own word.
func (s *stage) complete(ctx context.Context, who, instances int) error {
	jobs, _, err := s.c.API(who).ListJobs(ctx, api.Query{Stale: true})
	if err != nil {
		return err
	}
	running := 0
	for _, j := range jobs {
		running += j.Counts.Running
	}
	if running != instances {
		return fmt.Errorf("the restarted server knows of %d instances that run, there are %d", running, instances)
	}
	return nil
}
