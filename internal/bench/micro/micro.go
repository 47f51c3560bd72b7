// Package micro runs the benchmarks of the hot paths and prints what benchstat reads: times and allocations from go test,
// and, where times are too noisy to compare, instructions counted by valgrind's cachegrind. The counters of the processor,
// which perf stat would read, are not there in most virtual machines.
package micro

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Subject is one benchmark of the checkout.
type Subject struct {
	What    string // the step of the way
	Package string // below the module
	Name    string // as go test -bench takes it
	// Few and Many are the numbers of iterations between whose instructions the difference is taken, so that neither the
	// start of the process nor a benchmark's preparation counts. 0: it stops the timer in its loop, and instructions
	// know of no timer.
	Few, Many int
}

// Subjects are the steps that each instance goes through, in their order.
func Subjects() []Subject {
	return []Subject{
		{"Schedule", "scheduler", "^BenchmarkSchedule$/^(binpack|constraints)$/^1x1000$", 2, 12},
		{"encode a plan", "fsm", "^BenchmarkEncodePlan$", 10, 60},
		{"Apply a plan", "fsm", "^BenchmarkCommitPlan$", 0, 0},
		{"Diff", "client", "^BenchmarkDiff$", 100, 2100},
		{"Apply statuses", "fsm", "^BenchmarkUpdateStatuses$", 0, 0},
		{"encode an answer", "api/rest", "^BenchmarkEncodeAnswer$", 2, 12},
		{"persist", "fsm", "^BenchmarkPersist$", 1, 3},
		{"restore", "fsm", "^BenchmarkRestore$", 1, 3},
		{"memory", "fsm", "^BenchmarkMemory$", 0, 0},
	}
}

// Config is how to measure.
type Config struct {
	Count        int    // runs of each benchmark: benchstat wants 10
	Time         string // of each run, as go test -benchtime takes it
	Only         *regexp.Regexp
	Instructions bool // count them instead of the time
}

// Run runs the benchmarks and writes what they print to out.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	dir, err := os.MkdirTemp("", "cube-bench-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir) // only what was compiled
	if cfg.Instructions {
		if _, err := exec.LookPath("valgrind"); err != nil {
			return fmt.Errorf("instructions are counted by valgrind, which is not installed (apt-get install valgrind): %w", err)
		}
	}
	for _, s := range Subjects() {
		if cfg.Only != nil && !cfg.Only.MatchString(s.What) {
			continue
		}
		binary := filepath.Join(dir, path.Base(s.Package)+".test")
		if err := compile(ctx, s.Package, binary); err != nil {
			return err
		}
		if cfg.Instructions {
			err = s.count(ctx, binary, cfg.Count, out)
		} else {
			err = s.measure(ctx, binary, cfg, out)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.What, err)
		}
	}
	return nil
}

// compile makes the package's test binary, unless it is there.
func compile(ctx context.Context, pkg, binary string) error {
	if _, err := os.Stat(binary); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", "hashicorpmetrics", "-c", "-o", binary, "cube/"+pkg)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the tests of %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func (s Subject) measure(ctx context.Context, binary string, cfg Config, out io.Writer) error {
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^$", "-test.bench", s.Name, "-test.benchmem", "-test.count", strconv.Itoa(cfg.Count), "-test.benchtime", cfg.Time)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, &text), &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run it: %w\n%s", err, text.Bytes())
	}
	return nil
}

// count prints the instructions of one iteration.
func (s Subject) count(ctx context.Context, binary string, runs int, out io.Writer) error {
	if s.Many == 0 {
		fmt.Fprintf(out, "# %s: instructions are not counted, it stops the timer in its loop\n", s.What)
		return nil
	}
	fmt.Fprintf(out, "pkg: cube/%s\n", s.Package)
	for range runs {
		few, name, err := s.instructions(ctx, binary, s.Few)
		if err != nil {
			return err
		}
		many, _, err := s.instructions(ctx, binary, s.Many)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\t%d\t%.0f instructions/op\n", name, s.Many-s.Few, float64(many-few)/float64(s.Many-s.Few))
	}
	return nil
}

// instructions runs the benchmark n times under cachegrind. Its first variant stands for all.
func (s Subject) instructions(ctx context.Context, binary string, n int) (count int64, name string, err error) {
	first := strings.NewReplacer("(binpack|constraints)", "binpack").Replace(s.Name)
	cmd := exec.CommandContext(ctx, "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", binary,
		"-test.run", "^$", "-test.bench", first, "-test.benchtime", strconv.Itoa(n)+"x", "-test.cpu", "1")
	// The collector runs when it likes, beside what is measured: it is left out, here and there.
	cmd.Env = append(os.Environ(), "GOGC=off")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return 0, "", fmt.Errorf("run it under valgrind: %w\n%s", err, text)
	}
	return parseCount(string(text))
}

// parseCount reads what valgrind and the benchmark say.
func parseCount(text string) (count int64, name string, err error) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Benchmark") {
			name = strings.Fields(line)[0]
		}
		if _, after, ok := strings.Cut(line, "I   refs:"); ok {
			if count, err = strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(after), ",", ""), 10, 64); err != nil {
				return 0, "", fmt.Errorf("read valgrind's count: %w", err)
			}
		}
	}
	if count == 0 || name == "" {
		return 0, "", fmt.Errorf("valgrind and the benchmark say neither a count nor a name:\n%s", text)
	}
	return count, name, nil
}
