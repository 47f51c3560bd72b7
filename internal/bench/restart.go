package main

import (
	"context"

	"cube/internal/bench/result"
	"cube/internal/bench/scale"
)

// restart kills a server of a full cluster and starts it again.
func restart(ctx context.Context, args []string) error {
	f := newScaleFlags("restart", 500, 20)
	f.cfg.Node.CPU, f.cfg.Node.Memory = 80_000, 300<<10 // few large nodes: what is restored are instances
	b := scale.Restart{Burst: scale.Burst{Name: "restart", CPU: 0.03, Memory: 100}}
	f.IntVar(&b.Jobs, "jobs", 1000, "jobs to submit before")
	f.IntVar(&b.Count, "count", 1000, "instances of each job")
	f.IntVar(&b.Times, "times", 3, "restarts")
	return f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) { return b.Run(ctx, cfg) })
}
