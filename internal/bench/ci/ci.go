// Package ci is the edition of the benchmarks that continuous integration runs: small, under a minute, and failing only
// when a ratio has fallen. It knows no times of day: what is compared are counts (allocations, bytes, reads) and processor
// time in units of a reference work that is done between the parts of the same run.
package ci

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cube/internal/bench/cluster"
	"cube/internal/bench/micro"
	"cube/internal/bench/result"
	"cube/internal/bench/scale"
	"cube/internal/bench/watch"
)

// bounds.json says what each figure was and how far it may rise: twice what was measured, since a bound is for what has
// broken and not for what has wavered.
//
//go:embed testdata/bounds.json
var boundsFile []byte

// Bound is the most that a figure may be.
type Bound struct {
	Figure   string
	Unit     string  `json:",omitempty"`
	Measured float64 // when the bound was set
	AtMost   float64
	Reason   string
}

// Bounds returns what is expected.
func Bounds() ([]Bound, error) {
	var all []Bound
	if err := json.Unmarshal(boundsFile, &all); err != nil {
		return nil, fmt.Errorf("read the bounds: %w", err)
	}
	return all, nil
}

// Config is what to run it with.
type Config struct {
	Cluster  cluster.Config // of each part; three servers
	Scale    scale.Config   // of the burst, but for its cluster
	Watch    []string       // see watch.Config
	Progress func(format string, args ...any)
}

// Size of the parts: as small as leaves processor times, which come in steps of 10 ms, readable.
const (
	jobs, count    = 20, 500
	queries        = 200
	changes        = 5
	benchmarkTimes = "3x"
)

// Run measures and judges. A figure over its bound is not an error: see Missed.
func Run(ctx context.Context, cfg Config) (*result.Result, error) {
	bounds, err := Bounds()
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for _, part := range []struct {
		name string
		run  func(context.Context, Config, map[string]float64) error
	}{{"benchmarks", benchmarks}, {"instances", instances}, {"watch", waiters}} {
		cfg.Progress("%s", part.name)
		if err := part.run(ctx, cfg, figures); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	r := result.New("ci")
	for _, b := range bounds {
		v, ok := figures[b.Figure]
		if !ok {
			return nil, fmt.Errorf("there is a bound for %q, which nothing measures", b.Figure)
		}
		r.AtMost(b.Figure, v, b.Unit, b.AtMost)
		delete(figures, b.Figure)
	}
	if len(figures) > 0 {
		return nil, fmt.Errorf("these are measured and have no bound: %v", figures)
	}
	return r, nil
}

// Missed says which figures are over their bounds, nil if none is.
func Missed(r *result.Result) error {
	bounds, err := Bounds()
	if err != nil {
		return err
	}
	var missed []string
	for _, b := range bounds {
		if f, ok := r.Figure(b.Figure); ok && f.Met != nil && !*f.Met {
			missed = append(missed, fmt.Sprintf("%s is %.4g %s; it was %.4g and may be %.4g: %s", b.Figure, f.Value, b.Unit, b.Measured, b.AtMost, b.Reason))
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d ratios have fallen:\n  %s", len(missed), strings.Join(missed, "\n  "))
	}
	return nil
}

// instances places and runs some thousand instances on real servers and simulated nodes.
func instances(ctx context.Context, cfg Config, figures map[string]float64) error {
	b := scale.Burst{Name: "ci", Jobs: jobs, Count: count, CPU: 0.03, Memory: 100}
	sc := cfg.Scale
	sc.Cluster, sc.Progress = cfg.Cluster, cfg.Progress
	var unit time.Duration
	add := func() error {
		d, err := reference()
		unit += d
		return err
	}
	if err := add(); err != nil {
		return err
	}
	r, err := b.Run(ctx, sc)
	if err != nil {
		return err
	}
	if err := add(); err != nil {
		return err
	}
	of := func(name string) float64 {
		f, _ := r.Figure(name)
		return f.Value
	}
	followers := float64(cfg.Cluster.Servers - 1)
	servers := of("CPU of the leader") + followers*of("CPU of a follower, mean")
	reference := unit.Seconds() / 2
	figures["processor time of the servers for 10,000 instances"] = servers / reference
	figures["processor time of the nodes for 10,000 instances"] = of("CPU of the simulated nodes") / reference
	figures["snapshot an instance"] = of("snapshot an instance")
	figures["memory of a simulated instance"] = of("an instance on it")
	return nil
}

// waiters counts how often the state is read and encoded for a change that many wait for.
func waiters(ctx context.Context, cfg Config, figures map[string]float64) error {
	one := cfg.Cluster
	one.Servers = 1
	r, err := watch.Run(ctx, watch.Config{Cluster: one, Queries: queries, Changes: changes, Watch: cfg.Watch, Progress: cfg.Progress})
	if err != nil {
		return err
	}
	f, _ := r.Figure("reads of the state for a change")
	figures["reads of the state for a change that 200 wait for"] = f.Value
	return nil
}

// benchmarks takes what go test -bench counts exactly.
func benchmarks(ctx context.Context, _ Config, figures map[string]float64) error {
	var out bytes.Buffer
	steps := regexp.MustCompile("^(Schedule|encode a plan|Apply a plan|Apply statuses|Diff|memory)$")
	if err := micro.Run(ctx, micro.Config{Count: 1, Time: benchmarkTimes, Only: steps}, &out); err != nil {
		return err
	}
	for _, m := range []struct {
		figure, benchmark, unit string
		per                     float64
	}{
		{"allocations of Schedule a placement", "BenchmarkSchedule/binpack/1x1000", "allocs/op", 1000},
		{"allocations of Schedule a placement, with constraints", "BenchmarkSchedule/constraints/1x1000", "allocs/op", 1000},
		{"allocations of Apply a placement", "BenchmarkCommitPlan", "allocs/op", 1000},
		{"allocations of Apply a status", "BenchmarkUpdateStatuses", "allocs/op", 1000},
		{"allocations of Diff over 200 instances", "BenchmarkDiff", "allocs/op", 1},
		{"log of a placement", "BenchmarkEncodePlan", "B/placement", 1},
		{"memory of an allocation in the state", "BenchmarkMemory", "B/allocation", 1},
	} {
		v, err := metric(out.String(), m.benchmark, m.unit)
		if err != nil {
			return err
		}
		figures[m.figure] = v / m.per
	}
	return nil
}

// metric finds a benchmark's figure in what go test prints.
func metric(text, benchmark, unit string) (float64, error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != benchmark && !strings.HasPrefix(words[0], benchmark+"-") {
			continue
		}
		for i, w := range words {
			if w == unit {
				return strconv.ParseFloat(words[i-1], 64)
			}
		}
	}
	return 0, fmt.Errorf("no %s of %s in:\n%s", unit, benchmark, text)
}
