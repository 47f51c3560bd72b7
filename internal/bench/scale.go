package main

import (
	"context"
	"flag"
	"os"
	"time"

	"cube/api"
	"cube/internal/bench/fleet"
	"cube/internal/bench/result"
	"cube/internal/bench/scale"
)

// scaleFlags are the flags of all scenarios with many simulated nodes.
type scaleFlags struct {
	*flag.FlagSet
	options
	cfg scale.Config
}

func newScaleFlags(name string, nodes, classes int) *scaleFlags {
	f := &scaleFlags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.declare(f.FlagSet)
	// A node like those of the published run of a million containers: 8 cores, 30 GiB.
	f.cfg.Node = api.Resources{CPU: 8000, Memory: 30 << 10, Disk: 100 << 10}
	f.IntVar(&f.cfg.Nodes, "nodes", nodes, "simulated nodes")
	f.IntVar(&f.cfg.Classes, "classes", classes, "classes of nodes; each job asks for the nodes of one")
	f.IntVar(&f.cfg.AtOnce, "at-once", 32, "submissions under way at a time; servers take 64")
	f.DurationVar(&f.cfg.Patience, "patience", 10*time.Minute, "how long a phase may take before the run fails")
	return f
}

// measure parses the flags, runs the scenario and publishes what came of it.
func (f *scaleFlags) measure(ctx context.Context, args []string, run func(context.Context, scale.Config) (*result.Result, error)) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	f.cfg.Cluster, f.cfg.Profile = f.cluster(), f.profile
	f.cfg.Progress = progress()
	r, err := run(ctx, f.cfg)
	if err != nil {
		return err
	}
	return f.publish(r)
}

// measureBurst submits many jobs at once to an empty cluster; the flags' defaults are b.
func measureBurst(b scale.Burst, nodes, classes int) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		f := newScaleFlags(b.Name, nodes, classes)
		f.IntVar(&b.Jobs, "jobs", b.Jobs, "jobs to submit")
		f.IntVar(&b.Count, "count", b.Count, "instances of each job")
		f.StringVar(&b.Scheduler, "scheduler", "", "the jobs' scheduling algorithm; the servers' default unless it is given")
		f.DurationVar(&b.Within, "within", b.Within, "target for all instances to run; 0 for none")
		return f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) { return b.Run(ctx, cfg) }) // b as parsed
	}
}

// c1m is a million instances; small ones, as 200 of them share a node.
func c1m() func(context.Context, []string) error {
	return measureBurst(scale.Burst{Name: "c1m", Jobs: 1000, Count: 1000, CPU: 0.03, Memory: 100, Within: time.Minute, LeaderGiB: 1.5}, 5000, 20)
}

// c100k is a tenth of it on a tenth of the nodes.
func c100k() func(context.Context, []string) error {
	return measureBurst(scale.Burst{Name: "c100k", Jobs: 318, Count: 315, CPU: 0.03, Memory: 100, Within: 5 * time.Second}, 500, 2)
}

// idle leaves a full cluster alone.
func idle(ctx context.Context, args []string) error {
	f := newScaleFlags("idle", 5000, 20)
	i := scale.Idle{}
	f.IntVar(&i.Instances, "instances", 200_000, "instances that run")
	f.DurationVar(&i.Rest, "rest", 30*time.Second, "between the last start and the measurement")
	f.DurationVar(&i.Duration, "duration", time.Minute, "of the measurement")
	return f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) { return i.Run(ctx, cfg) })
}

// churn stops and replaces instances at a steady rate.
func churn(ctx context.Context, args []string) error {
	f := newScaleFlags("churn", 5000, 20)
	c := scale.Churn{}
	f.IntVar(&c.Instances, "instances", 200_000, "instances that run")
	f.IntVar(&c.Rate, "rate", 500, "instances stopped and replaced a second")
	f.IntVar(&c.Count, "count", 10, "instances of a job that comes and goes")
	f.DurationVar(&c.Lifetime, "lifetime", 20*time.Second, "of such a job")
	f.DurationVar(&c.Duration, "duration", time.Minute, "of the measurement")
	return f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) { return c.Run(ctx, cfg) })
}

// nodeLoss has a part of the nodes vanish.
func nodeLoss(ctx context.Context, args []string) error {
	f := newScaleFlags("nodeloss", 5000, 20)
	l := scale.NodeLoss{}
	f.IntVar(&l.Instances, "instances", 200_000, "instances that run")
	f.IntVar(&l.Lost, "lost", 500, "nodes that vanish")
	return f.measure(ctx, args, func(ctx context.Context, cfg scale.Config) (*result.Result, error) { return l.Run(ctx, cfg) })
}

// serveFleet is the process of simulated nodes.
func serveFleet(ctx context.Context, _ []string) error { return fleet.Serve(ctx, os.Stdin, os.Stdout) }
