package fake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cube/api"
)

// script is what an instance is told to do by its task's config block. Equal scripts are shared.
type script struct {
	runFor       time.Duration // how long it runs; below 0: until it is stopped
	exitCode     int           // when it ends by itself, after run_for or when it is asked to
	startError   string        // not empty: it can not be started, for this reason
	startDelay   time.Duration // how long its start takes
	ignoreSignal bool          // it ends only by SIGKILL
	oom          bool          // after run_for it is killed for want of memory
	lines        int           // how many lines it writes to stdout, and to stderr, when it starts
}

// scripts shares equal scripts: instances are many and scripts few.
type scripts struct {
	mu   sync.Mutex
	seen map[script]*script
}

func (s *scripts) share(v script) *script {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.seen[v]; p != nil {
		return p
	}
	if s.seen == nil {
		s.seen = map[script]*script{}
	}
	s.seen[v] = &v
	return &v
}

// parse reads a config block.
func parse(options map[string]any) (script, error) {
	s := script{runFor: -1}
	keys := make([]string, 0, len(options))
	for k := range options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		var err error
		switch v := options[k]; k {
		case "run_for":
			s.runFor, err = duration(v)
		case "start_delay":
			s.startDelay, err = duration(v)
		case "exit_code":
			s.exitCode, err = number(v)
		case "lines":
			s.lines, err = number(v)
		case "start_error":
			s.startError, err = text(v)
		case "ignore_signal":
			s.ignoreSignal, err = truth(v)
		case "oom":
			s.oom, err = truth(v)
		default:
			return s, api.Errorf(api.CodeInvalid, "the fake driver has no option %q", k)
		}
		if err != nil {
			return s, api.Errorf(api.CodeInvalid, "option %s of the fake driver: %w", k, err)
		}
	}
	return s, nil
}

// Values come from HCL, JSON or msgpack, each with its own idea of what a number is.

func number(v any) (int, error) {
	switch v := v.(type) {
	case int:
		return v, nil
	case int64:
		return int(v), nil
	case uint64:
		return int(v), nil
	case float64:
		if v == float64(int(v)) {
			return int(v), nil
		}
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%v is not a whole number", v)
}

func duration(v any) (time.Duration, error) {
	switch v := v.(type) {
	case time.Duration:
		return v, nil
	case string:
		if d, err := time.ParseDuration(v); err == nil {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%v is not a duration like \"1.5s\"", v)
}

func truth(v any) (bool, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	return false, fmt.Errorf("%v is neither true nor false", v)
}

func text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("%v is not a text", v)
}

// output is what instances that wrote so many lines each have written to a stream ("" for both), its last tail lines (all
// for -1).
func output(counts []int, stream string, tail int) string {
	var lines []string
	for _, n := range counts {
		for i := 1; i <= n; i++ {
			if stream != "stderr" {
				lines = append(lines, fmt.Sprintf("out %d\n", i))
			}
			if stream != "stdout" {
				lines = append(lines, fmt.Sprintf("err %d\n", i))
			}
		}
	}
	if tail >= 0 && len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	return strings.Join(lines, "")
}
