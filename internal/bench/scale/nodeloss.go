package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cube/api"
	"cube/internal/bench/load"
	"cube/internal/bench/result"
)

// NodeLoss has a part of the nodes vanish at once.
type NodeLoss struct {
	Steady
	Lost int // nodes
}

// Run kills the process that holds the nodes to lose, and measures how soon their instances run elsewhere.
func (l NodeLoss) Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	if l.Lost <= 0 || l.Lost*2 > cfg.Nodes {
		return nil, fmt.Errorf("%d of %d nodes cannot be lost: servers hold their judgement when more than half fall at once", l.Lost, cfg.Nodes)
	}
	s, err := l.settle(ctx, cfg, cfg.Nodes-l.Lost, l.Lost)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := result.New("nodeloss")
	l.set(r, cfg)
	r.Set("lost", l.Lost)
	note(r)
	r.Note("without gossip nothing but the end of its session speaks against a node, and a node is declared down when disconnect_after (30 s) has passed since then")
	victims := s.fleets[1]
	st, err := victims.Stats()
	if err != nil {
		return nil, err
	}
	s.fleets = s.fleets[:1] // what those use who are left is counted
	before, err := s.read(ctx)
	if err != nil {
		return nil, errors.Join(err, victims.Kill())
	}
	gone := time.Now()
	if err := victims.Kill(); err != nil {
		return nil, err
	}
	s.cfg.Progress("%d nodes with %d instances are gone", l.Lost, st.Running)
	var first, last, back time.Time
	err = s.profiled(ctx, r, 45, func() error {
		return s.within(ctx, func(ctx context.Context) (err error) {
			if first, last, err = s.awaitDown(ctx, l.Lost); err != nil {
				return err
			}
			s.cfg.Progress("they are declared down")
			if err := load.NewTracker(l.jobs(cfg.Classes)).Follow(ctx, s.people); err != nil {
				return err
			}
			back = time.Now()
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	after, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.hold(l.Instances); err != nil {
		return nil, err
	}
	r.Add("instances lost", float64(st.Running), "")
	r.Add("gone to first node declared down", first.Sub(gone).Seconds(), "s")
	r.Add("gone to last node declared down", last.Sub(gone).Seconds(), "s")
	r.AtMost("first declared down to every replacement running", back.Sub(first).Seconds(), "s", 5)
	r.Add("last declared down to every replacement running", back.Sub(last).Seconds(), "s")
	r.Add("gone to every replacement running", back.Sub(gone).Seconds(), "s")
	return r, s.account(ctx, r, before, after, l.Instances)
}

// awaitDown returns when the list of nodes first showed one of them as down, and when so many.
func (s *stage) awaitDown(ctx context.Context, want int) (first, last time.Time, err error) {
	q := api.Query{Wait: time.Minute}
	tick := time.NewTicker(load.Pace)
	defer tick.Stop()
	for {
		nodes, meta, err := s.people.ListNodes(ctx, q)
		if err == nil {
			q.Index, last = meta.Index, time.Now()
			down := 0
			for _, n := range nodes {
				if n.Status == api.NodeDown {
					down++
				}
			}
			if down > 0 && first.IsZero() {
				first = last
			}
			if down >= want {
				return first, last, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return first, last, fmt.Errorf("wait for %d nodes to be declared down: %w", want, errors.Join(ctx.Err(), err))
		}
	}
}
