package packing

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"cube/internal/bench/result"
)

// Command is the name of the scenario.
const Command = "packing"

// config is what the flags say.
type config struct {
	dir, nodes, tasks, json, vary, parts, algorithms string
	seeds, replays                                   int
}

// parts of a run, in the order in which they are shown.
const (
	withoutDepartures = "without"
	withDepartures    = "with"
	compaction        = "compaction"
)

// Run reads a trace, replays it through every algorithm and writes what they made of it to out. args are the flags.
func Run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet(Command, flag.ContinueOnError)
	var o config
	f.StringVar(&o.dir, "trace", "", "the directory with *node_list*.csv and *pod_list*.csv, in the format of cluster-trace-gpu-v2023")
	f.StringVar(&o.nodes, "nodes", "", "the file in it with the nodes, where there are several")
	f.StringVar(&o.tasks, "tasks", "", "the file in it with the tasks, where there are several")
	f.StringVar(&o.json, "json", "", "write the result to this file, too")
	f.StringVar(&o.vary, "vary", "", "make another trace of it first: gpushareN, multigpuN, gpuspecN, cpuN, nodesN (N in percent), gpunodes, shuffled, with commas between")
	f.StringVar(&o.parts, "parts", strings.Join([]string{withoutDepartures, withDepartures, compaction}, ","), "what to run: replays without and with departures, compaction")
	f.StringVar(&o.algorithms, "algorithms", "", "which to compare, with commas between; all unless they are given. cube:NAME is another algorithm of Cube's")
	f.IntVar(&o.seeds, "seeds", 11, "random orders of the nodes that compaction tries")
	f.IntVar(&o.replays, "replays", 3, "replays, each with other chance; the figures are their means")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.dir == "" || o.seeds < 1 || o.replays < 1 {
		return errors.New("give -trace DIR, and at least one of -seeds and -replays")
	}
	t, err := ReadTrace(o.dir, o.nodes, o.tasks)
	if err != nil {
		return err
	}
	if t, err = Vary(t, o.vary, 1); err != nil {
		return err
	}
	chosen, err := choose(o.algorithms)
	if err != nil {
		return err
	}
	r := report{config: o, trace: t, chosen: chosen, out: out, result: result.New(Command)}
	return r.run(ctx)
}

// report is a run, and what it has found so far.
type report struct {
	config
	trace  *Trace
	chosen []contender
	out    io.Writer
	result *result.Result
}

func (r *report) run(ctx context.Context) error {
	r.describe()
	parts := strings.Split(r.parts, ",")
	for _, p := range parts {
		if !slices.Contains([]string{withoutDepartures, withDepartures, compaction}, p) {
			return fmt.Errorf("there is no part %q: %s, %s, %s", p, withoutDepartures, withDepartures, compaction)
		}
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{withoutDepartures, func() error {
			return r.replays(ctx, withoutDepartures, func(seed uint64) []arrival { return arrivals(r.trace, pressure, seed) })
		}},
		{withDepartures, func() error {
			return r.replays(ctx, withDepartures, func(seed uint64) []arrival { return departing(r.trace, seed) })
		}},
		{compaction, func() error { return r.compaction(ctx) }},
	} {
		if !slices.Contains(parts, part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return err
		}
	}
	if r.json == "" {
		return nil
	}
	return r.result.Save(r.json)
}

func (r *report) describe() {
	c := newCluster(r.trace.Machines)
	var asked usage
	for i := range r.trace.Tasks {
		asked.add(&r.trace.Tasks[i], 1)
	}
	r.result.Set("trace", filepath.Join(filepath.Base(r.dir), r.tasks))
	r.result.Set("vary", r.vary)
	r.result.Set("replays", r.config.replays)
	r.result.Set("seeds", r.seeds)
	fmt.Fprintf(r.out, "packing on %s\n", r.result.Machine)
	fmt.Fprintf(r.out, "%d nodes, %d tasks that ask for %.1f %% of the CPU, %.1f %% of the memory, %.1f %% of the GPUs (%d)\n",
		len(r.trace.Machines), len(r.trace.Tasks), percent(asked.CPU, c.total.CPU), percent(asked.Memory, c.total.Memory),
		percent(asked.GPU, c.total.GPU), c.total.GPU/whole)
}

func percent(of, all int64) float64 { return 100 * part(of, all) }

// replays runs the arrivals through every algorithm and prints the means.
func (r *report) replays(ctx context.Context, name string, order func(seed uint64) []arrival) error {
	heading := "\nwithout departures: until tasks have asked for %.0f %% of the GPUs\n"
	if name == withDepartures {
		heading = "\nwith departures: so many that %.0f %% of the GPUs would be asked for at once; of capacity: in use over the second half\n"
	}
	fmt.Fprintf(r.out, heading, 100*pressure)
	fmt.Fprintf(r.out, "%-12s %21s   %21s\n", "", "% placed of requested", "% of capacity")
	fmt.Fprintf(r.out, "%-12s %7s%7s%7s   %7s%7s%7s %9s%9s%10s%17s\n", "algorithm", "GPU", "CPU", "memory", "GPU", "CPU", "memory",
		"refused", "stranded", "untouched", "decisions/CPU s")
	for _, k := range r.chosen {
		var sum outcome
		for seed := range uint64(r.config.replays) {
			c := newCluster(r.trace.Machines)
			o, err := replay(ctx, c, r.trace, k.build(c, r.trace, seed+1), order(seed+1))
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if o.missed > 0 {
				return fmt.Errorf("%s refused %d tasks that a machine could have taken", k.name, o.missed)
			}
			sum.join(&o)
		}
		r.row(name, k.name, &sum)
	}
	return nil
}

// join adds up the outcomes of several replays.
func (o *outcome) join(other *outcome) {
	for _, u := range [][2]*usage{{&o.asked, &other.asked}, {&o.placed, &other.placed}, {&o.mean, &other.mean}, {&o.total, &other.total}} {
		u[0].CPU += u[1].CPU
		u[0].Memory += u[1].Memory
		u[0].GPU += u[1].GPU
	}
	o.arrivals += other.arrivals
	o.refused += other.refused
	o.stranded += other.stranded
	o.untouched += other.untouched
	o.cpu += other.cpu
}

// row prints a line, and adds its figures to the result.
func (r *report) row(part, name string, o *outcome) {
	used := o.placed
	if part == withDepartures {
		used = o.mean
	}
	times := float64(r.config.replays)
	figures := []struct {
		name   string
		value  float64
		unit   string
		format string
	}{
		{"GPU placed", percent(o.placed.GPU, o.asked.GPU), "% of requested", "%7.2f"},
		{"CPU placed", percent(o.placed.CPU, o.asked.CPU), "% of requested", "%7.2f"},
		{"memory placed", percent(o.placed.Memory, o.asked.Memory), "% of requested", "%7.2f"},
		{"GPU of capacity", percent(used.GPU, o.total.GPU), "%", "   %7.2f"},
		{"CPU of capacity", percent(used.CPU, o.total.CPU), "%", "%7.2f"},
		{"memory of capacity", percent(used.Memory, o.total.Memory), "%", "%7.2f"},
		{"refused", float64(o.refused) / times, "instances", " %9.0f"},
		{"stranded", float64(o.stranded) / times, "instances", "%9.0f"},
		{"nodes untouched", float64(o.untouched) / times, "", "%10.0f"},
		{"decisions per CPU second", float64(o.arrivals) / max(o.cpu.Seconds(), 1e-9), "1/s", "%17.0f"},
	}
	fmt.Fprintf(r.out, "%-12s ", name)
	for _, f := range figures {
		fmt.Fprintf(r.out, f.format, f.value)
		r.result.Add(strings.Join([]string{part, name, f.name}, ": "), f.value, f.unit)
	}
	fmt.Fprintln(r.out)
}

// compaction finds for every algorithm how many nodes it needs for all tasks.
func (r *report) compaction(ctx context.Context) error {
	most := largest * len(r.trace.Machines)
	fmt.Fprintf(r.out, "\ncompaction: the fewest nodes that take all tasks, over %d random orders of the nodes (%d are there; beyond, nodes come twice)\n",
		r.seeds, len(r.trace.Machines))
	var sums []int
	for seed := range uint64(r.seeds) {
		sums = append(sums, enough(r.trace, seed+1))
	}
	fmt.Fprintf(r.out, "the sums alone need %d at the 90th percentile\n", percentile(sums, 0.9))
	r.result.Add(compaction+": sums", float64(percentile(sums, 0.9)), "nodes")
	fmt.Fprintf(r.out, "%-12s %16s%14s%9s%9s\n", "algorithm", "90th percentile", "of the nodes", "fewest", "most")
	for _, k := range r.chosen {
		var found []int
		guess := percentile(sums, 0.9) * 21 / 20
		for seed := range uint64(r.seeds) {
			n, err := compact(ctx, r.trace, k.build, seed+1, guess)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if n == 0 {
				n = most + 1
			} else {
				guess = n
			}
			found = append(found, n)
		}
		n := percentile(found, 0.9)
		fmt.Fprintf(r.out, "%-12s %16s%12.1f %%%9s%9s\n", k.name, nodes(n, most), percent(int64(n), int64(len(r.trace.Machines))),
			nodes(slices.Min(found), most), nodes(slices.Max(found), most))
		r.result.Add(compaction+": "+k.name, float64(n), "nodes")
	}
	return nil
}

// nodes writes a number of nodes; one beyond the largest tried stands for all that were not found.
func nodes(n, most int) string {
	if n > most {
		return fmt.Sprintf("> %d", most)
	}
	return fmt.Sprint(n)
}
