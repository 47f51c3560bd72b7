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

// Churn stops and replaces instances of a cluster at a steady rate. They are those of many small jobs, Lifetime long each;
// the others of Steady run on beside them.
type Churn struct {
	Steady
	Rate     int           // instances stopped and replaced a second
	Count    int           // instances of a job that comes and goes
	Lifetime time.Duration // of such a job
	Duration time.Duration
}

// pause is how long a job is stopped before it is registered again: its instances have ended by then.
const pause = 2 * time.Second

func (c Churn) ring(classes int) (jobs []load.Job, stopped int, beat time.Duration) {
	beat = time.Second * time.Duration(c.Count) / time.Duration(c.Rate)
	stopped = int(pause / beat)
	jobs = make([]load.Job, stopped+int(c.Lifetime/beat))
	for i := range jobs {
		jobs[i] = load.Job{Name: fmt.Sprintf("churn-%05d", i), Count: c.Count, CPU: 0.03, Memory: 100, Class: fleet.Class(i, classes), Scheduler: algorithm}
	}
	return jobs, stopped, beat
}

// Run measures how soon replacements run, and what that takes of the servers, minute by minute.
func (c Churn) Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	jobs, stopped, beat := c.ring(cfg.Classes)
	moving := (len(jobs) - stopped) * c.Count
	if c.Rate <= 0 || stopped == 0 || moving > c.Instances {
		return nil, fmt.Errorf("%d instances/s in jobs of %d that live %s are %d at a time of %d: choose a higher rate, smaller jobs, or a shorter life",
			c.Rate, c.Count, c.Lifetime, moving, c.Instances)
	}
	total := c.Instances
	c.Instances -= moving
	s, err := c.settle(ctx, cfg, cfg.Nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.steady(ctx, jobs); err != nil {
		return nil, err
	}
	churn := load.Churn{Jobs: jobs, Pause: stopped, Beat: beat, To: s.people, From: s.c.API((s.leader + 1) % s.c.Size())}
	if err := s.within(ctx, churn.Prepare); err != nil {
		return nil, err
	}
	r := result.New("churn")
	c.set(r, cfg)
	for name, v := range map[string]any{"instances": total, "rate": c.Rate, "count": c.Count, "lifetime": c.Lifetime, "duration": c.Duration} {
		r.Set(name, v)
	}
	note(r)
	r.Note("driven by %d jobs of %d instances in a ring: every %s one is stopped and one that was stopped %s before is registered again; the %d other instances run on", len(jobs), c.Count, beat, pause, c.Instances)
	r.Note("a round is timed from when its registration was due until a follower, asked by a blocking query, shows all instances running")
	readings, rounds, err := s.beat(ctx, r, churn, c.Duration)
	if err != nil {
		return nil, err
	}
	after, before := readings[len(readings)-1], readings[0]
	if _, err := s.hold(total); err != nil {
		return nil, err
	}
	c.figures(r, rounds, before, after)
	r.AtMost("the leader's share of a core", s.share(before, after, s.leader), "%", 60)
	s.others(r, before, after)
	s.growth(r, readings, rounds)
	return r, s.account(ctx, r, before, after, total)
}

// beat runs the churn and reads what everybody uses before it, every minute, and after it.
func (s *stage) beat(ctx context.Context, r *result.Result, churn load.Churn, d time.Duration) (readings []reading, rounds []load.Round, err error) {
	first, err := s.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	readings = append(readings, first)
	g, ctx := errgroup.WithContext(ctx)
	over, end := context.WithCancel(ctx)
	defer end()
	g.Go(func() error {
		defer end()
		return s.profiled(ctx, r, int(d.Seconds()), func() (err error) {
			rounds, err = churn.Run(ctx, d)
			return err
		})
	})
	g.Go(func() error {
		for wait(over, time.Minute) == nil {
			one, err := s.read(ctx)
			if err != nil {
				return err
			}
			readings = append(readings, one)
			s.cfg.Progress("minute %d", len(readings)-1)
		}
		return nil
	})
	if err := errors.Join(g.Wait(), s.fleetsErr()); err != nil {
		return nil, nil, err
	}
	last, err := s.read(context.WithoutCancel(ctx))
	return append(readings, last), rounds, err
}

// figures adds how soon replacements ran.
func (c Churn) figures(r *result.Result, rounds []load.Round, before, after reading) {
	took := make([]time.Duration, len(rounds))
	for i, round := range rounds {
		took[i] = round.Running.Sub(round.Due)
	}
	r.Add("instances replaced", float64(len(rounds)*c.Count)/after.at.Sub(before.at).Seconds(), "/s")
	r.Add("submit to running, a job, p50", percentile(took, 50, time.Millisecond), "ms")
	r.AtMost("submit to running, a job, p99", percentile(took, 99, time.Millisecond), "ms", 250)
	r.Add("submit to running, a job, longest", percentile(took, 100, time.Millisecond), "ms")
}

// growth adds rows for each minute: what grows here grows without end.
func (s *stage) growth(r *result.Result, readings []reading, rounds []load.Round) {
	for i := 1; i < len(readings); i++ {
		a, b := readings[i-1], readings[i]
		if b.at.Sub(a.at) < 10*time.Second {
			continue // the rest after the last whole minute
		}
		var took []time.Duration
		for _, round := range rounds {
			if !round.Due.Before(a.at) && round.Due.Before(b.at) {
				took = append(took, round.Running.Sub(round.Due))
			}
		}
		r.Add(fmt.Sprintf("minute %d: submit to running, p99", i), percentile(took, 99, time.Millisecond), "ms")
		r.Add(fmt.Sprintf("minute %d: the leader's share of a core", i), s.share(a, b, s.leader), "%")
		r.Add(fmt.Sprintf("minute %d: RSS of the leader", i), float64(b.servers[s.leader].RSS)/gib, "GiB")
		r.Add(fmt.Sprintf("minute %d: heap in use of the leader", i), b.metrics[s.leader]["go_heap_live_bytes"]/gib, "GiB")
		r.Add(fmt.Sprintf("minute %d: heap in use of the simulated nodes", i), float64(b.live)/gib, "GiB")
	}
}
