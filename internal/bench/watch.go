package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"

	"cube/internal/bench/watch"
)

// measureWatch has many wait for a change, and measures how soon it reaches them all.
func measureWatch(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("watch", flag.ContinueOnError)
	var o options
	o.declare(f)
	cfg := watch.Config{Watch: []string{watchersName}}
	f.IntVar(&cfg.Queries, "queries", 10_000, "blocking queries to have open")
	f.IntVar(&cfg.Changes, "changes", 20, "changes, one after the other")
	f.BoolVar(&cfg.Follower, "follower", false, "ask a follower, with stale answers, instead of the leader")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg.Cluster, cfg.Progress = o.cluster(), progress()
	r, err := watch.Run(ctx, cfg)
	if err != nil {
		return err
	}
	return o.publish(r)
}

// watchersName is the command of the process that holds the other end of the queries.
const watchersName = "watchers"

func watchers(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("the arguments are ADDRESS QUESTION INDEX QUERIES, as scenario watch gives them")
	}
	index, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("the index: %w", err)
	}
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return fmt.Errorf("the number of queries: %w", err)
	}
	return watch.Watchers(ctx, args[0], args[1], index, n, os.Stdin, os.Stdout)
}
