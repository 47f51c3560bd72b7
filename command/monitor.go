package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
)

const (
	// defaultPatience is how long a monitor waits: most images are pulled within it.
	defaultPatience = 5 * time.Minute
	// watchWait is how long one blocking read lasts: an agent that vanished without a word is noticed within it.
	watchWait = time.Minute
	// watchPause lies between reads that fail: an election takes about a second.
	watchPause = 500 * time.Millisecond
)

// monitor follows jobs until their goals are reached, or cannot be, or patience or the person gives up.
type monitor struct {
	*session
	cluster  api.Cluster
	screen   screen
	patience patience
	said     map[string]bool // lines that need not be said again at the end
}

func newMonitor(s *session, cluster api.Cluster, patience patience, verbose bool) *monitor {
	m := &monitor{session: s, cluster: cluster, patience: patience, said: map[string]bool{}}
	if s.isTerminal() {
		m.screen = &terminalScreen{out: s.Stdout, now: s.Now, size: s.Size, style: s.style, verbose: verbose, begun: s.Now()}
	} else {
		m.screen = &plainScreen{out: s.Stdout, now: s.Now, verbose: verbose, last: map[string]shown{}}
	}
	return m
}

// sight is one look at a job.
type sight struct {
	job    string
	status *api.JobStatus
	err    error
}

// ending is how a monitor ended.
type ending struct {
	detached bool
	late     bool               // patience was over
	verdicts map[string]verdict // by job; every one is decided unless detached
}

// follow watches the jobs of goals until each goal is decided. looked is called after each look, before the verdict.
func (m *monitor) follow(ctx context.Context, goals map[string]goal, looked func(ctx context.Context, job string)) ending {
	ctx, cancel := context.WithCancel(ctx)
	patience := time.NewTimer(m.patience.Duration)
	defer patience.Stop()
	sights := make(chan sight)
	var watchers errgroup.Group
	for job := range goals {
		watchers.Go(func() error {
			m.watch(ctx, job, sights)
			return nil
		})
	}
	defer func() {
		cancel()
		_ = watchers.Wait() // the watchers return no errors
	}()
	var pulse <-chan time.Time // nil: never
	if every := m.screen.pulse(); every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		pulse = t.C
	}
	wake := time.NewTimer(0)
	defer wake.Stop()
	silent, over := false, false
	for {
		select {
		case <-ctx.Done():
			return ending{detached: true}
		case <-patience.C:
			over = true
		case seen := <-sights:
			goals[seen.job].look(seen.status, seen.err, m.Now())
			silent = m.reportSilence(silent, seen.err)
			if looked != nil {
				looked(ctx, seen.job)
			}
		case <-wake.C:
		case <-pulse:
		}
		m.screen.show(linesOf(goals))
		verdicts, next, decided := decide(goals, m.Now())
		if decided {
			return ending{verdicts: verdicts}
		}
		if over && (m.patience.firm || silent || !bounded(verdicts)) {
			return m.late(goals)
		}
		if !next.IsZero() {
			wake.Reset(max(0, next.Sub(m.Now())))
		}
	}
}

// reportSilence says when the servers cannot be asked, and when they can again.
func (m *monitor) reportSilence(silent bool, err error) bool {
	now := err != nil && unreachable(err)
	switch {
	case now && !silent:
		m.screen.say(false, "The servers cannot be asked: "+printable(err.Error())+"; trying again")
	case !now && silent:
		m.screen.say(false, "The servers answer again")
	}
	return now
}

// watch reads a job whenever it changes and sends what it sees, until ctx ends.
func (m *monitor) watch(ctx context.Context, job string, sights chan<- sight) {
	var index uint64
	for ctx.Err() == nil {
		status, meta, err := m.cluster.Job(ctx, job, api.Query{Index: index, Wait: watchWait})
		index = meta.Index // 0 after an error: the next read answers at once
		select {
		case sights <- sight{job, status, err}:
		case <-ctx.Done():
			return
		}
		if err != nil && pause(ctx, watchPause) != nil {
			return
		}
	}
}

func linesOf(goals map[string]goal) []instanceLine {
	var lines []instanceLine
	for _, job := range sortedKeys(goals) {
		lines = append(lines, goals[job].lines()...)
	}
	return lines
}

// decide asks every goal. decided is true when none of them waits any more.
func decide(goals map[string]goal, now time.Time) (verdicts map[string]verdict, wake time.Time, decided bool) {
	verdicts, decided = map[string]verdict{}, true
	for job, g := range goals {
		v := g.verdict(now)
		verdicts[job] = v
		if v.outcome != waiting {
			continue
		}
		decided = false
		if !v.wake.IsZero() {
			wake = earlier(wake, v.wake)
		}
	}
	return verdicts, wake, decided
}

// bounded reports whether all that waits ends by itself.
func bounded(verdicts map[string]verdict) bool {
	for _, v := range verdicts {
		if v.outcome == waiting && !v.bounded {
			return false
		}
	}
	return true
}

func (m *monitor) late(goals map[string]goal) ending {
	e := ending{late: true, verdicts: map[string]verdict{}}
	for job, g := range goals {
		v := g.verdict(m.Now())
		if v.outcome == waiting {
			v = g.late(m.Now())
		}
		e.verdicts[job] = v
	}
	return e
}

// conclude says how it ended and returns what the command is to return.
func (m *monitor) conclude(e ending, detached string) error {
	m.screen.settle()
	if e.detached {
		m.screen.say(true, detached)
		return nil
	}
	allReached := true
	for _, job := range sortedKeys(e.verdicts) {
		v := e.verdicts[job]
		if v.outcome == reached {
			m.screen.say(true, v.summary)
			continue
		}
		allReached = false
		text := "Accepted, but " + v.summary
		if e.late {
			text = fmt.Sprintf("Accepted, but after %s %s", duration(m.patience.Duration), v.summary)
		}
		m.screen.say(true, text)
		m.print(indented(slices.DeleteFunc(v.reasons, func(line string) bool { return m.said[line] })))
	}
	if allReached {
		return nil
	}
	return exitCode(exitNotPlaced)
}

func indented(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("    " + l + "\n")
	}
	return b.String()
}
