// Package failover kills the leader under load, again and again: how long is nothing accepted, and is anything lost that
// was.
package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cube/internal/bench/cluster"
	"cube/internal/bench/result"
)

// Config is what to measure.
type Config struct {
	Cluster cluster.Config
	Times   int // that the leader is killed
	Rate    int // writes a second
	// Freeze stops the leader's process instead of killing it: its connections stay open and nobody is refused, as when
	// its machine is gone.
	Freeze   bool
	Progress func(format string, args ...any)
}

const (
	before     = time.Second            // of writes, before each kill
	after      = 500 * time.Millisecond // and after the first that was accepted again
	acceptedIn = 30 * time.Second       // or the scenario fails
)

// Run kills the leader and reports.
func Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	servers, err := cluster.Start(ctx, cfg.Cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	w := newWriters(servers, cfg.Rate)
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	defer w.stop()
	var gaps []time.Duration
	for n := range cfg.Times {
		gap, err := once(ctx, cfg, servers, w)
		if err != nil {
			return nil, fmt.Errorf("kill %d of %d: %w", n+1, cfg.Times, err)
		}
		gaps = append(gaps, gap)
		cfg.Progress("%d of %d: a write was accepted again after %d ms", n+1, cfg.Times, gap.Milliseconds())
	}
	w.stop()
	if err := servers.Settled(ctx); err != nil {
		return nil, err
	}
	if err := w.judgeJobs(ctx); err != nil {
		return nil, err
	}
	return report(cfg, servers, gaps, w), nil
}

func report(cfg Config, servers *cluster.Cluster, gaps []time.Duration, w *writers) *result.Result {
	r := result.New("failover")
	r.Set("servers", servers.Size())
	r.Set("times", cfg.Times)
	r.Set("writes a second", cfg.Rate)
	r.Set("the leader is", map[bool]string{false: "killed", true: "frozen"}[cfg.Freeze])
	slices.Sort(gaps)
	at := func(p float64) float64 { return gaps[min(len(gaps)-1, int(p*float64(len(gaps))))].Seconds() * 1000 }
	r.AtMost("next accepted write, p50", at(0.5), "ms", 1000)
	r.AtMost("next accepted write, p99", at(0.99), "ms", 2000)
	r.Add("next accepted write, slowest", at(1), "ms")
	r.AtMost("acknowledged writes lost", float64(w.lost), "", 0)
	r.Add("acknowledged writes", float64(w.acknowledged), "")
	for _, code := range slices.Sorted(maps.Keys(w.failed)) {
		r.Add("attempts answered "+string(code), float64(w.failed[code]), "")
	}
	r.Note("The time runs from the signal to the answer of the first attempt that was begun after it. A write is asked for again, of the next server, until it is acknowledged. " +
		"After each loss every acknowledged write is sent once more with its request ID: the servers must answer with its first result. In the end every job must be what its last write made of it.")
	return r
}

// once is one loss of the leader: it returns the time until a write was accepted.
func once(ctx context.Context, cfg Config, servers *cluster.Cluster, w *writers) (time.Duration, error) {
	if err := pause(ctx, before); err != nil {
		return 0, err
	}
	leader, ok := servers.Leader(ctx)
	if !ok {
		return 0, errors.New("the servers have no leader")
	}
	began := time.Now()
	accepted := w.next(began)
	if err := lose(cfg, servers, leader); err != nil {
		return 0, err
	}
	var gap time.Duration
	select {
	case at := <-accepted:
		gap = at.Sub(began)
	case <-time.After(acceptedIn):
		return 0, fmt.Errorf("no write was accepted for %s", acceptedIn)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := pause(ctx, after); err != nil {
		return 0, err
	}
	if cfg.Freeze { // what was frozen does not come back: its memory is from before
		if err := servers.Kill(leader); err != nil {
			return 0, err
		}
	}
	if err := servers.Restart(leader); err != nil {
		return 0, err
	}
	if err := servers.Settled(ctx); err != nil {
		return 0, err
	}
	return gap, w.judge(ctx)
}

func lose(cfg Config, servers *cluster.Cluster, leader int) error {
	if cfg.Freeze {
		return servers.Freeze(leader)
	}
	return servers.Kill(leader)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
