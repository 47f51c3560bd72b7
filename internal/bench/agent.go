package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cube/api/rest"
	"cube/internal/bench/process"
)

// report adds a line to the table.
type report func(what, measured, target string)

// measureAgent measures what Cube promises of itself on one machine: how soon a -dev agent leads, what it costs at rest, how
// large the binary is, and how long its own way from a task file to the driver is. It prints figures and judges none: a
// shared machine is no judge of milliseconds. Compare rows of one run.
func measureAgent(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("agent", flag.ContinueOnError)
	cube := f.String("cube", "bin/cube", "the binary to measure")
	runs := f.Int("runs", 20, "starts measured")
	only := f.String("only", "binary,ready,path,rest", "what to measure, with commas between")
	if err := f.Parse(args); err != nil {
		return err
	}
	return measureParts(ctx, *cube, *runs, strings.Split(*only, ","))
}

func measureParts(ctx context.Context, cube string, runs int, only []string) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	row := func(what, measured, target string) { fmt.Fprintf(table, "%s\t%s\t%s\n", what, measured, target) }
	row("what", "measured", "target")
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"binary", func() error { return size(cube, row) }},
		{"ready", func() error { return ready(ctx, cube, row) }},
		{"path", func() error { return path(ctx, runs, row) }},
		{"rest", func() error { return atRest(ctx, cube, row) }},
	} {
		if !slices.Contains(only, part.name) {
			continue
		}
		if err := part.measure(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func size(cube string, row report) error {
	info, err := os.Stat(cube)
	if err != nil {
		return fmt.Errorf("find the binary: %w", err)
	}
	row("binary", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "<= 40 MB")
	return nil
}

func ready(ctx context.Context, cube string, row report) error {
	var took []time.Duration
	for range 9 {
		a, err := startDev(ctx, cube)
		if err != nil {
			return err
		}
		took = append(took, a.ready)
		if err := a.stop(); err != nil {
			return err
		}
	}
	row("agent -dev answers /v1/health as leader, p50 (p90)", spread(took), "<= 300ms")
	return nil
}

// dev is a running cube agent -dev.
type dev struct {
	cmd   *exec.Cmd
	api   *rest.Client
	ready time.Duration // from exec to the first answer as leader
	log   string
}

// startDev starts an agent, with env added to its environment, and waits until it leads.
func startDev(ctx context.Context, cube string, env ...string) (*dev, error) {
	log, err := os.CreateTemp("", "cube-bench-*.log")
	if err != nil {
		return nil, fmt.Errorf("make the agent's log: %w", err)
	}
	defer log.Close()
	path, err := filepath.Abs(cube)
	if err != nil {
		return nil, fmt.Errorf("find the binary: %w", err)
	}
	d := &dev{cmd: exec.CommandContext(ctx, path, "agent", "-dev", "-bind", "127.0.7.1"), log: log.Name()}
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Env = log, log, append(os.Environ(), env...)
	if d.api, err = rest.NewClient("http://127.0.7.1:5555"); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if h, err := d.api.Health(ctx); err == nil && h.Leading {
			d.ready = time.Since(start)
			return d, nil
		}
		if time.Since(start) > 10*time.Second || ctx.Err() != nil {
			d.stop()
			text, _ := os.ReadFile(log.Name()) // without it the message is only shorter
			return nil, fmt.Errorf("the agent does not lead after %s; its log:\n%s", time.Since(start).Round(time.Millisecond), text)
		}
		<-tick.C
	}
}

func (d *dev) stop() error {
	defer os.Remove(d.log)
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		return nil // it has ended
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("the agent ended with %w", err)
	}
	return nil
}

// atRest measures an agent that has nothing to do.
func atRest(ctx context.Context, cube string, row report) error {
	d, err := startDev(ctx, cube)
	if err != nil {
		return err
	}
	defer d.stop()
	settle := time.NewTimer(5 * time.Second) // what starting leaves behind is gone by then
	defer settle.Stop()
	select {
	case <-settle.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	before, err := process.ReadUsage(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	const watch = 20 * time.Second
	settle.Reset(watch)
	select {
	case <-settle.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := process.ReadUsage(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	row("agent -dev at rest, resident memory", fmt.Sprintf("%.1f MB", float64(after.RSS)/1e6), "<= 40 MB")
	row("agent -dev at rest, share of a core", fmt.Sprintf("%.2f %%", 100*float64(after.CPU-before.CPU)/float64(watch)), "<= 0.5 %")
	return nil
}
