package fake

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cube/api"
	"cube/client/driver/transcript"
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
	uses         api.Resources // CPU and memory, all the time
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

// parse reads a config block that CheckOptions has passed.
func parse(options map[string]any) (script, error) {
	if err := api.CheckOptions(Name, options); err != nil {
		return script{}, err
	}
	s := script{runFor: -1}
	s.startError, _ = options["start_error"].(string)
	s.ignoreSignal, _ = options["ignore_signal"].(bool)
	s.oom, _ = options["oom"].(bool)
	code, _ := api.OptionInt(options["exit_code"])
	lines, _ := api.OptionInt(options["lines"])
	s.exitCode, s.lines = int(code), int(lines)
	s.uses.CPU, _ = api.OptionInt(options["use_cpu"])
	s.uses.Memory, _ = api.OptionInt(options["use_memory"])
	if v, ok := options["run_for"].(string); ok {
		s.runFor, _ = time.ParseDuration(v)
	}
	if v, ok := options["start_delay"].(string); ok {
		s.startDelay, _ = time.ParseDuration(v)
	}
	return s, nil
}

// written is what one instance has written, all of it when it started.
type written struct {
	lines int // to each stream
	at    time.Time
}

// output is what answers a request for the output of these instances.
func output(all []written, r api.LogRequest) (string, error) {
	var b strings.Builder
	answer := transcript.NewAnswer(&b, r)
	for _, w := range all {
		for i := range w.lines {
			err := errors.Join(
				answer.Add(transcript.Record{Stream: transcript.Stdout, At: w.at, Text: fmt.Appendf(nil, "out %d\n", i+1)}),
				answer.Add(transcript.Record{Stream: transcript.Stderr, At: w.at, Text: fmt.Appendf(nil, "err %d\n", i+1)}),
			)
			if err != nil {
				return "", err
			}
		}
	}
	err := answer.EndPast()
	return b.String(), err
}
