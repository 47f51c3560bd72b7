package main

import (
	"context"
	"flag"

	"cube/internal/bench/failover"
)

// measureFailover takes the leader away under load and measures how long nothing is accepted.
func measureFailover(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("failover", flag.ContinueOnError)
	var o options
	o.declare(f)
	var cfg failover.Config
	f.IntVar(&cfg.Times, "times", 100, "how often the leader is lost")
	f.IntVar(&cfg.Rate, "rate", 500, "writes a second")
	f.BoolVar(&cfg.Freeze, "freeze", false, "stop the leader's process instead of killing it, as if its machine were gone")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg.Cluster, cfg.Progress = o.cluster(), progress()
	r, err := failover.Run(ctx, cfg)
	if err != nil {
		return err
	}
	return o.publish(r)
}
