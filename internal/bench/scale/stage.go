// Package scale holds the scenarios with many simulated nodes: real server processes, a process of nodes, load through the
// HTTP API, and an account of what it all took.
package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
	"cube/api/rest"
	"cube/internal/bench/cluster"
	"cube/internal/bench/fleet"
	"cube/internal/bench/result"
)

// Config is what all scenarios of this package have in common.
type Config struct {
	Cluster  cluster.Config
	Nodes    int
	Classes  int           // of nodes, by meta.class
	Node     api.Resources // what each node has
	AtOnce   int           // submissions under way at a time; servers take 64, and refuse more
	Profile  string        // directory for profiles of the measured time; "": none
	Patience time.Duration // a phase that takes longer has failed
	Progress func(format string, args ...any)
}

// stage is a cluster with its simulated nodes.
type stage struct {
	cfg    Config
	c      *cluster.Cluster
	fleets []*fleet.Fleet
	leader int          // when the nodes were ready
	people *rest.Client // of the leader then; any server answers, one asks the other
}

// open starts servers and, in one process for each number in split, nodes, and returns when all nodes are ready. The caller
// calls close.
func open(ctx context.Context, cfg Config, split ...int) (_ *stage, err error) {
	if cfg.Profile != "" {
		if err := os.MkdirAll(cfg.Profile, 0o755); err != nil {
			return nil, fmt.Errorf("make the directory of profiles: %w", err)
		}
	}
	s := &stage{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.c, err = cluster.Start(ctx, cfg.Cluster); err != nil {
		return nil, err
	}
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	cfg.Progress("%d servers are up, %s leads", s.c.Size(), s.people.Address())
	first := 0
	for i, n := range split {
		f, err := fleet.Start(fleet.Config{Servers: s.c.RPC(), Nodes: n, First: first, Classes: cfg.Classes, Node: cfg.Node},
			filepath.Join(s.c.Dir(), fmt.Sprintf("fleet%d.log", i+1)))
		if err != nil {
			return nil, err
		}
		s.fleets, first = append(s.fleets, f), first+n
	}
	began := time.Now()
	if err := s.awaitNodes(ctx, first); err != nil {
		return nil, err
	}
	cfg.Progress("%d nodes are ready after %.1f s", first, time.Since(began).Seconds())
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// find finds who leads.
func (s *stage) find(ctx context.Context) error {
	if err := s.c.Settled(ctx); err != nil {
		return err
	}
	leader, ok := s.c.Leader(ctx)
	if !ok {
		return fmt.Errorf("the servers have just lost their leader: run it again")
	}
	s.leader, s.people = leader, s.c.API(leader)
	return nil
}

// awaitNodes returns when so many nodes are ready.
func (s *stage) awaitNodes(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	ended := s.guard(cancel)
	defer ended()
	tick := time.NewTicker(250 * time.Millisecond) // the list is long: it is not read anew for each node that comes
	defer tick.Stop()
	q, ready := api.Query{Wait: time.Second}, 0
	for {
		nodes, meta, err := s.people.ListNodes(ctx, q)
		if err == nil {
			q.Index, ready = meta.Index, 0
			for _, n := range nodes {
				if n.Status == api.NodeReady {
					ready++
				}
			}
			if ready == want {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(s.fleetsErr(), fmt.Errorf("%d of %d nodes are ready: %w", ready, want, errors.Join(ctx.Err(), err)))
		}
	}
}

// guard calls cancel when a fleet ends; the function that it returns ends the watch.
func (s *stage) guard(cancel func()) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var g errgroup.Group
	for _, f := range s.fleets {
		g.Go(func() error {
			select {
			case <-f.Ended():
				cancel()
			case <-ctx.Done():
			}
			return nil
		})
	}
	return func() {
		stop()
		_ = g.Wait() // it only waits
	}
}

// fleetsErr says why a fleet has ended, if one has.
func (s *stage) fleetsErr() error {
	for _, f := range s.fleets {
		select {
		case <-f.Ended():
			return f.Err()
		default:
		}
	}
	return nil
}

// within runs f with a context that ends when it has taken too long or when a fleet has ended.
func (s *stage) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	end := s.guard(cancel)
	defer end()
	if err := f(ctx); err != nil {
		return errors.Join(s.fleetsErr(), err)
	}
	return nil
}

// profiled runs f while profiles of the leader, a follower and the fleet are taken, if they are wanted. The servers'
// profiles are of at most the first seconds of it, as many as Patience allows; what f takes decides when the fleet's ends.
func (s *stage) profiled(ctx context.Context, r *result.Result, seconds int, f func() error) error {
	if s.cfg.Profile == "" {
		return f()
	}
	r.Note("profiles were taken during the run, which costs a few per cent")
	var g errgroup.Group
	of := map[string]int{"leader": s.leader}
	if s.c.Size() > 1 {
		of["follower"] = (s.leader + 1) % s.c.Size()
	}
	for name, i := range of {
		g.Go(func() error { return s.c.Profile(ctx, i, time.Duration(seconds)*time.Second, s.cfg.Profile, name) })
	}
	if err := s.fleets[0].Profile(filepath.Join(s.cfg.Profile, "fleet.cpu")); err != nil {
		return errors.Join(err, g.Wait())
	}
	err := f()
	return errors.Join(err, s.fleets[0].Profiled(filepath.Join(s.cfg.Profile, "fleet.heap")), g.Wait())
}

// close ends everything, nodes first.
func (s *stage) close() error {
	var errs []error
	for _, f := range s.fleets {
		errs = append(errs, f.Kill())
	}
	if s.c != nil {
		errs = append(errs, s.c.Stop())
	}
	return errors.Join(errs...)
}
