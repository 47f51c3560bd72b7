package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"

	"cube/internal/bench/micro"
)

// measureMicro runs the benchmarks of the hot paths.
func measureMicro(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("micro", flag.ContinueOnError)
	var cfg micro.Config
	f.IntVar(&cfg.Count, "count", 10, "runs of each benchmark, for benchstat to compare")
	f.StringVar(&cfg.Time, "time", "1s", "of each run; 100x for so many iterations")
	f.BoolVar(&cfg.Instructions, "instructions", false, "count instructions with valgrind instead of measuring time")
	only := f.String("only", "", "a regular expression of the steps to measure")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if cfg.Only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	return micro.Run(ctx, cfg, os.Stdout)
}
