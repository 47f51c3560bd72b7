package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cube/api"
	"cube/api/rest"
)

// Pace is the shortest time between two looks at the list of jobs. The list is read by blocking queries, but while a
// million instances start it has always changed: without a pace the looking would be a part of the load. A time that a
// Tracker notes is late by up to this much.
const Pace = 100 * time.Millisecond

// Tracker follows jobs until all their instances run. Its methods are safe for concurrent use.
type Tracker struct {
	byName map[string]int
	counts []int

	mu       sync.Mutex // guards what follows
	progress []Progress
	looks    int    // at the list
	last     Sample // what the latest saw
}

// Sample is how far all jobs together were at some moment.
type Sample struct {
	At              time.Time
	Placed, Running int // instances
}

// NewTracker returns a Tracker of the jobs.
func NewTracker(jobs []Job) *Tracker {
	t := &Tracker{byName: map[string]int{}, progress: make([]Progress, len(jobs))}
	for i, j := range jobs {
		t.byName[j.Name] = i
		t.counts = append(t.counts, j.Count)
	}
	return t
}

// Submitted notes when job i was sent; it is an argument of Submit.
func (t *Tracker) Submitted(i int, at time.Time) { t.note(func() { t.progress[i].Submitted = at }) }

// Accepted notes when the answer to it came; it is an argument of Submit.
func (t *Tracker) Accepted(i int, at time.Time) { t.note(func() { t.progress[i].Accepted = at }) }

func (t *Tracker) note(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// Follow looks at the list of jobs each time it has changed, but no more often than Pace, until every job has been seen
// running whole. When ctx is done before that, it says how far they were.
func (t *Tracker) Follow(ctx context.Context, from *rest.Client) error {
	return t.follow(ctx, from, t.look)
}

// Settle looks at the list in the same way until all instances of every job are healthy: then nothing of their start is
// left to be told.
func (t *Tracker) Settle(ctx context.Context, from *rest.Client) error {
	return t.follow(ctx, from, func(jobs []*api.JobSummary, _ time.Time) bool {
		well := 0
		for _, j := range jobs {
			if i, ok := t.byName[j.Name]; ok && j.Healthy >= t.counts[i] {
				well++
			}
		}
		return well == len(t.counts)
	})
}

func (t *Tracker) follow(ctx context.Context, from *rest.Client, look func([]*api.JobSummary, time.Time) bool) error {
	q := api.Query{Wait: 10 * time.Second}
	tick := time.NewTicker(Pace)
	defer tick.Stop()
	for {
		jobs, meta, err := from.ListJobs(ctx, q)
		switch {
		case ctx.Err() != nil:
			s := t.Last()
			return fmt.Errorf("follow the jobs: %d instances are placed and %d run: %w", s.Placed, s.Running, ctx.Err())
		case err != nil && passing(err):
			// an election: what was seen stays seen
		case err != nil:
			return fmt.Errorf("follow the jobs: %w", err)
		default:
			q.Index = meta.Index
			if look(jobs, time.Now()) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// look takes a list of jobs as it was at a moment, and reports whether all that are followed run whole.
func (t *Tracker) look(jobs []*api.JobSummary, at time.Time) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, whole := Sample{At: at}, 0
	for _, j := range jobs {
		i, ok := t.byName[j.Name]
		if !ok {
			continue
		}
		p, c := &t.progress[i], j.Counts
		placed := c.Pending + c.Preparing + c.Running
		s.Placed, s.Running = s.Placed+placed, s.Running+c.Running
		if placed >= t.counts[i] && p.Placed.IsZero() {
			p.Placed = at
		}
		if c.Running >= t.counts[i] {
			if whole++; p.Running.IsZero() {
				p.Running = at
			}
		}
	}
	t.looks++
	t.last = s
	return whole == len(t.counts)
}

// Last returns what the latest look at the list saw.
func (t *Tracker) Last() Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Progress returns how far each job came, in the order in which they were given.
func (t *Tracker) Progress() []Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Progress(nil), t.progress...)
}
