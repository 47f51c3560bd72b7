package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cube/internal/bench/fleet"
	"cube/internal/bench/load"
	"cube/internal/bench/result"
)

// Steady is what runs before a scenario that disturbs it, or leaves it alone, begins: jobs of equal size, spread evenly over
// the nodes.
type Steady struct {
	Instances int // in jobs of perJob, the last one with what is left
}

// perJob is how many instances a job of Steady has.
const perJob = 1000

// algorithm spreads: every node has as many instances as the others, so that it does not matter which of them are lost.
const algorithm = "spread"

func (st Steady) jobs(classes int) []load.Job {
	var jobs []load.Job
	for left := st.Instances; left > 0; left -= perJob {
		jobs = append(jobs, load.Job{Name: fmt.Sprintf("steady-%05d", len(jobs)), Count: min(perJob, left), CPU: 0.03, Memory: 100,
			Class: fleet.Class(len(jobs), classes), Scheduler: algorithm})
	}
	return jobs
}

// settle is a cluster where that many instances run. The caller closes the stage.
func (st Steady) settle(ctx context.Context, cfg Config, split ...int) (*stage, error) {
	s, err := open(ctx, cfg, split...)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	jobs := st.jobs(cfg.Classes)
	if err := s.steady(ctx, jobs); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if _, err := s.hold(st.Instances); err != nil {
		return nil, errors.Join(err, s.close())
	}
	cfg.Progress("%d instances run and are healthy after %.1f s", st.Instances, time.Since(began).Seconds())
	return s, nil
}

// set notes the parameters that all scenarios with a Steady have.
func (st Steady) set(r *result.Result, cfg Config) {
	for name, v := range map[string]any{"instances": st.Instances, "nodes": cfg.Nodes, "servers": cfg.Cluster.Servers, "classes": cfg.Classes, "scheduler": algorithm} {
		r.Set(name, v)
	}
}

// Idle leaves a cluster alone for a while.
type Idle struct {
	Steady
	Rest     time.Duration // between the last start and the measurement: what starting leaves to do is done by then
	Duration time.Duration // of the measurement
}

// Run measures what a cluster uses in which nothing happens.
func (i Idle) Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	s, err := i.settle(ctx, cfg, cfg.Nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := result.New("idle")
	i.set(r, cfg)
	r.Set("duration", i.Duration)
	note(r)
	if err := wait(ctx, i.Rest); err != nil {
		return nil, err
	}
	before, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	err = s.profiled(ctx, r, int(i.Duration.Seconds()), func() error { return wait(ctx, i.Duration) })
	if err != nil {
		return nil, err
	}
	after, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	r.AtMost("the leader's share of a core", s.share(before, after, s.leader), "%", 2)
	s.others(r, before, after)
	more := after.metrics[s.leader]
	span := after.at.Sub(before.at).Seconds()
	r.Add("log entries", (more["cube_raft_last_index"]-before.metrics[s.leader]["cube_raft_last_index"])/span, "/s")
	r.Add("reports of nodes", (more["cube_reports_total"]-before.metrics[s.leader]["cube_reports_total"])/span, "/s")
	r.Add("RSS of the leader", float64(after.servers[s.leader].RSS)/gib, "GiB")
	r.Add("goroutines of the leader", more["go_goroutines"], "")
	return r, s.account(ctx, r, before, after, i.Instances)
}

// share is how much of one core a server used, in per cent.
func (s *stage) share(before, after reading, i int) float64 {
	return 100 * (after.servers[i].CPU - before.servers[i].CPU).Seconds() / after.at.Sub(before.at).Seconds()
}

// others adds the shares of the followers and of the fleet.
func (s *stage) others(r *result.Result, before, after reading) {
	most := 0.0
	for i := range after.servers {
		if i != s.leader {
			most = max(most, s.share(before, after, i))
		}
	}
	r.Add("a follower's share of a core, at most", most, "%")
	r.Add("the simulated nodes' share of a core", 100*(after.fleet.CPU-before.fleet.CPU).Seconds()/after.at.Sub(before.at).Seconds(), "%")
}

// wait waits, unless ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
