package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"cube/internal/bench/cluster"
	"cube/internal/bench/result"
)

// options are the flags that all scenarios with servers have.
type options struct {
	cube, dir, json, profile string
	servers                  int
}

func (o *options) declare(f *flag.FlagSet) {
	f.StringVar(&o.cube, "cube", "", "the binary to measure; built from the checkout unless it is given")
	f.StringVar(&o.dir, "dir", "", "keep the servers' data and logs in this directory; a temporary one is removed at the end")
	f.StringVar(&o.json, "json", "", "write the result to this file, too")
	f.StringVar(&o.profile, "profile", "", "write CPU and heap profiles of the processes to this directory; they cost a few per cent")
	f.IntVar(&o.servers, "servers", 3, "how many servers")
}

// cluster is the configuration of the servers to start.
func (o *options) cluster() cluster.Config {
	return cluster.Config{Servers: o.servers, Cube: o.cube, Dir: o.dir, Debug: o.profile != ""}
}

// progress returns what tells a person, on standard error, how far a scenario is.
func progress() func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// publish prints the result, and saves it where that is asked for.
func (o *options) publish(r *result.Result) error {
	err := r.Table(os.Stdout)
	if o.json != "" {
		err = errors.Join(err, r.Save(o.json))
	}
	return err
}
