package main

import (
	"context"
	"errors"

	"cube/internal/bench/ci"
	"cube/internal/bench/result"
	"cube/internal/bench/scale"
)

// measureCI is what continuous integration runs: it fails when a ratio is over its bound.
func measureCI(ctx context.Context, args []string) error {
	f := newScaleFlags("ci", 50, 2)
	f.cfg.Node.CPU, f.cfg.Node.Memory = 16_000, 60<<10
	var missed error
	return errors.Join(f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) {
		r, err := ci.Run(ctx, ci.Config{Cluster: cfg.Cluster, Scale: cfg, Watch: []string{watchersName}, Progress: cfg.Progress})
		if err == nil {
			missed = ci.Missed(r)
		}
		return r, err
	}), missed)
}
