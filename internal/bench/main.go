// Command bench measures Cube with its real code: servers with Raft on disk and fsync, real sockets, real clients.
//
//	go run -tags hashicorpmetrics ./internal/bench SCENARIO [flags]
//
// Each scenario prints a table of figures and, with -json FILE, writes them for machines. Without a scenario it lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"cube/internal/bench/fleet"
	"cube/internal/bench/packing"
)

// scenario is something that can be measured by one command.
type scenario struct {
	name, what string                                         // what is "" where another scenario runs it, in a process of its own
	run        func(ctx context.Context, args []string) error // args follow the name
}

// scenarios lists all there is to measure, in the order in which help shows it.
func scenarios() []scenario {
	return []scenario{
		{"agent", "one agent: start, rest, binary size, and its own way to the driver", measureAgent},
		{"c1m", "a million instances on 5,000 simulated nodes, submitted at once", c1m()},
		{"c100k", "a hundred thousand instances on 500 simulated nodes", c100k()},
		{"churn", "200,000 instances, 500 a second of them stopped and replaced", churn},
		{"nodeloss", "500 of 5,000 nodes vanish: how soon their instances run elsewhere", nodeLoss},
		{"idle", "200,000 instances on 5,000 nodes, and nothing happens", idle},
		{fleet.Command, "", serveFleet},
		{packing.Command, "a cluster's trace through the scheduler, and through what others do: how much is placed, on how few nodes",
			func(ctx context.Context, args []string) error { return packing.Run(ctx, args, os.Stdout) }},
		{"watch", "10,000 blocking queries: how soon a change reaches all, what they cost", measureWatch},
		{"oneshot", "single starts through a real Docker engine: what Cube adds, and when the API shows it", measureOneshot},
		{"restart", "a server with a million instances is killed and starts again", restart},
		{"failover", "the leader is killed under load, 100 times: the next accepted write, and what was lost", measureFailover},
		{"micro", "go test -bench of the hot paths, for benchstat; or their instructions", measureMicro},
		{"ci", "a small edition of all this, which fails when a ratio has fallen", measureCI},
		{watchersName, "", watchers},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// dispatch runs the scenario that args name.
func dispatch(ctx context.Context, args []string, help io.Writer) error {
	if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		usage(help)
		return nil
	}
	for _, s := range scenarios() {
		if s.name == args[0] {
			if err := s.run(ctx, args[1:]); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("there is no scenario %q; run it without one to see the list", args[0])
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "Usage: go run -tags hashicorpmetrics ./internal/bench SCENARIO [flags]")
	fmt.Fprintln(w)
	for _, s := range scenarios() {
		if s.what == "" {
			continue
		}
		fmt.Fprintf(w, "  %-10s %s\n", s.name, s.what)
	}
	fmt.Fprintln(w, "\nSCENARIO -h lists its flags.")
}
