// Package watch measures how soon a change reaches everyone who waits for it, and what waiting costs the server.
package watch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
	"cube/internal/bench/cluster"
	"cube/internal/bench/process"
	"cube/internal/bench/result"
)

// Config is what to measure.
type Config struct {
	Cluster  cluster.Config
	Queries  int  // that are open
	Changes  int  // that reach them, one after the other
	Follower bool // they ask a follower and let stale answers do; else they ask the leader
	// Watch is the command line, after the program of this very process, that calls Watchers; what Watchers takes follows.
	Watch    []string
	Progress func(format string, args ...any)
}

const (
	jobName = "watched"
	patient = 60 * time.Second // for ten thousand connections to open
)

// Run starts servers and as many queries, changes what they ask for, and says how long the news took.
func Run(ctx context.Context, cfg Config) (_ *result.Result, err error) {
	servers, err := cluster.Start(ctx, cfg.Cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	leader, ok := servers.Leader(ctx)
	if !ok {
		return nil, errors.New("the servers have no leader")
	}
	// The versions of a job change with its submission alone. Its status would change again as soon as it is scheduled.
	asked, question := leader, "/v1/jobs/"+jobName+"/versions?"
	if cfg.Follower {
		if servers.Size() < 2 {
			return nil, errors.New("a single server has no follower: give -servers 3")
		}
		asked, question = (leader+1)%servers.Size(), question+"stale&"
	}
	people := servers.API(leader)
	registered, err := people.RegisterJobs(ctx, change(0), api.WriteMeta{})
	if err != nil {
		return nil, err
	}
	before, err := atRest(ctx, servers, asked)
	if err != nil {
		return nil, err
	}
	r := result.New("watch")
	r.Set("queries", cfg.Queries)
	r.Set("changes", cfg.Changes)
	r.Set("servers", servers.Size())
	r.Set("asked", map[bool]string{false: "the leader", true: "a follower"}[cfg.Follower])
	w, err := start(cfg, strings.TrimPrefix(servers.API(asked).Address(), "http://"), question, registered.Index, servers.Dir())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := w.expect(ctx, "ready"); err != nil {
		return nil, err
	}
	open, err := atRest(ctx, servers, asked)
	if err != nil {
		return nil, err
	}
	reads, err := readsOf(ctx, servers, asked)
	if err != nil {
		return nil, err
	}
	settled := func() error { _, err := atRest(ctx, servers, asked); return err }
	if err := changes(ctx, cfg, people, w, settled, r); err != nil {
		return nil, err
	}
	since, err := readsOf(ctx, servers, asked)
	if err != nil {
		return nil, err
	}
	r.Add("reads of the state for a change", (since-reads)/float64(cfg.Changes), "")
	after, err := servers.Usage(asked)
	if err != nil {
		return nil, err
	}
	per := func(bytes int64) float64 { return float64(bytes-before.RSS) / float64(cfg.Queries) / 1000 }
	r.AtMost("server memory a query, while it waits", per(open.RSS), "kB", 30)
	r.Add("server memory a query, at its peak", per(after.PeakRSS), "kB")
	r.Add("server connections", float64(open.OpenFDs-before.OpenFDs), "")
	r.Note("The time of a change runs from when its write was asked for, so it contains the write itself. Both ends of the %d connections share this machine's processors.", cfg.Queries)
	return r, nil
}

// changes makes changes, each when the server has taken up all that was asked after the one before, and adds what they took.
func changes(ctx context.Context, cfg Config, people api.Jobs, w *watchers, settled func() error, r *result.Result) error {
	var each, last, written []float64
	var length uint64
	for n := range cfg.Changes {
		began := time.Now()
		if _, err := people.RegisterJobs(ctx, change(n+1), api.WriteMeta{}); err != nil {
			return err
		}
		written = append(written, milliseconds(time.Since(began)))
		round, err := w.round(ctx)
		if err != nil {
			return err
		}
		if round.Different > 0 {
			return fmt.Errorf("change %d: %d answers had another index than %d", n, round.Different, round.Index)
		}
		slowest := 0.0
		length = max(length, round.Length)
		for _, at := range round.At {
			took := milliseconds(time.Unix(0, at).Sub(began))
			each = append(each, took)
			slowest = max(slowest, took)
		}
		last = append(last, slowest)
		cfg.Progress("%d of %d: a change has reached all after %.0f ms", n+1, cfg.Changes, slowest)
		if err := errors.Join(w.expect(ctx, "again"), settled()); err != nil {
			return err
		}
	}
	r.AtMost("a change reaches all, p50", percentile(last, 0.5), "ms", 250)
	r.Add("a change reaches all, slowest", percentile(last, 1), "ms")
	r.Add("a change reaches one, p50", percentile(each, 0.5), "ms")
	r.Add("a change reaches one, p99", percentile(each, 0.99), "ms")
	r.Add("the write itself, p50", percentile(written, 0.5), "ms")
	r.Add("an answer", float64(length), "B")
	return nil
}

// readsOf is how often a server has read the state for people, and encoded what it found.
func readsOf(ctx context.Context, servers *cluster.Cluster, i int) (float64, error) {
	m, err := servers.Metrics(ctx, i)
	if err != nil {
		return 0, err
	}
	return m["cube_reads_total"], nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile returns the value that a share p of the values do not exceed.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// change is a submission that changes the job, in place. Its instances find no node.
func change(n int) api.Submission {
	source := fmt.Sprintf("task %q {\n  driver = \"fake\"\n  image = \"none\"\n  count = %d\n}\n", jobName, 1+n%2)
	return api.Submission{Source: source, FileName: "watch.hcl"}
}

// atRest returns what a server uses once it has nothing to do: its processor time has stood still for a while.
func atRest(ctx context.Context, servers *cluster.Cluster, i int) (process.Usage, error) {
	const still, busy = 500 * time.Millisecond, 30 * time.Millisecond
	tick := time.NewTicker(still)
	defer tick.Stop()
	for last := time.Duration(-1); ; {
		u, err := servers.Usage(i)
		if err != nil {
			return u, err
		}
		if last >= 0 && u.CPU-last < busy {
			return u, nil
		}
		last = u.CPU
		select {
		case <-tick.C:
		case <-ctx.Done():
			return u, ctx.Err()
		}
	}
}

// watchers is the process that holds the other end of the connections.
type watchers struct {
	process *process.Process
	in      io.Closer // its end is the process's
	lines   chan string
}

func start(cfg Config, address, question string, index uint64, dir string) (*watchers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the watchers: %w", err)
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe from the watchers: %w", err)
	}
	args := append(slices.Clone(cfg.Watch), address, question, strconv.FormatUint(index, 10), strconv.Itoa(cfg.Queries))
	p, err := process.Start(self, args, filepath.Join(dir, "watchers.log"), func(cmd *exec.Cmd) { cmd.Stdin, cmd.Stdout = inRead, outWrite })
	inRead.Close() // the child has its own
	outWrite.Close()
	if err != nil {
		inWrite.Close() // nobody reads it
		outRead.Close()
		return nil, err
	}
	w := &watchers{process: p, in: inWrite, lines: make(chan string)}
	go func() { // ends with the process, whose output it reads
		defer close(w.lines)
		defer outRead.Close()
		s := bufio.NewScanner(outRead)
		s.Buffer(nil, 64<<20)
		for s.Scan() {
			w.lines <- s.Text()
		}
	}()
	return w, nil
}

func (w *watchers) line(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	select {
	case line, ok := <-w.lines:
		if ok {
			return line, nil
		}
		<-w.process.Ended()
		return "", fmt.Errorf("the watchers ended: %w", w.process.Err())
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the watchers: %w", ctx.Err())
	}
}

func (w *watchers) expect(ctx context.Context, word string) error {
	line, err := w.line(ctx)
	if err == nil && line != word {
		err = fmt.Errorf("the watchers say %.100q, not %q", line, word)
	}
	return err
}

func (w *watchers) round(ctx context.Context) (r round, err error) {
	line, err := w.line(ctx)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return r, fmt.Errorf("the watchers say %.100q: %w", line, err)
	}
	return r, nil
}

// stop ends the process.
func (w *watchers) stop() error {
	err := w.in.Close()
	for range w.lines { // what it still says goes to nobody
	}
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	return errors.Join(err, w.process.Stop(ctx))
}
