// Package fleet simulates nodes: one process holds thousands of them. Each is the real client with the fake driver, its own
// session with a server, its own polls, reports and load; what it keeps is in memory. Left out is gossip, so servers judge
// a node by its session alone, and each node's own decoding of job versions (see specs).
package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"cube/internal/bench/process"
)

// Command is the name under which the program that uses this package must call Serve.
const Command = "fleet"

// Fleet is a fleet process, seen by the process that started it. Its methods are safe for concurrent use, but for Kill.
type Fleet struct {
	process *process.Process
	mu      sync.Mutex // one question at a time
	in      io.WriteCloser
	out     *bufio.Reader
}

// Start starts this program again as a fleet process, with Command as its argument. It returns at once: the nodes are there
// when the servers say so. The caller calls Kill.
func Start(cfg Config, logPath string) (*Fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	f := &Fleet{}
	var out io.ReadCloser
	f.process, err = process.Start(self, []string{Command}, logPath, func(c *exec.Cmd) {
		c.Stdout = nil // a pipe takes its place; neither can fail before the start
		f.in, _ = c.StdinPipe()
		out, _ = c.StdoutPipe()
	})
	if err != nil {
		return nil, err
	}
	f.out = bufio.NewReader(out)
	b, err := json.Marshal(cfg)
	if err == nil {
		_, err = f.in.Write(append(b, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tell the fleet what it is: %w", err), f.Kill())
	}
	return f, nil
}

// Ended is closed when the process has ended, and Err says how.
func (f *Fleet) Ended() <-chan struct{} { return f.process.Ended() }

// Err says how the process ended.
func (f *Fleet) Err() error { return f.process.Err() }

// Usage is what the kernel counts of the process.
func (f *Fleet) Usage() (process.Usage, error) { return process.ReadUsage(f.process.PID()) }

// Stats asks the fleet what it holds, after a garbage collection, which with a million instances takes some seconds of
// processor time.
func (f *Fleet) Stats() (Stats, error) {
	var s Stats
	err := f.ask(askStats, &s)
	return s, err
}

// Live is the memory that the fleet's last garbage collection found in use, in bytes.
func (f *Fleet) Live() (uint64, error) {
	var bytes uint64
	err := f.ask(askLive, &bytes)
	return bytes, err
}

// Profile has a CPU profile begin.
func (f *Fleet) Profile(path string) error { return f.ask(askProfile+path, &struct{}{}) }

// Profiled ends the CPU profile and writes one of the heap.
func (f *Fleet) Profiled(path string) error { return f.ask(askProfiled+path, &struct{}{}) }

func (f *Fleet) ask(what string, answer any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := io.WriteString(f.in, what+"\n")
	var line []byte
	if err == nil {
		line, err = f.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		return fmt.Errorf("ask the fleet for %s: %w", what, err)
	}
	return nil
}

// Kill makes all nodes vanish at once, as a power cut does, and waits until the process is gone.
func (f *Fleet) Kill() error { return f.process.Kill() }
