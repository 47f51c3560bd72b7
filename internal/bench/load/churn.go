package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
	"cube/api/rest"
)

// Churn stops jobs and has others take their place, at a steady rate that does not yield when the cluster is slow: what is
// late counts from when it was due. The jobs stand in a ring of which Pause are stopped at any time: every beat stops one
// and registers the one that was stopped Pause beats before.
type Churn struct {
	Jobs  []Job         // the ring
	Pause int           // more than 0
	Beat  time.Duration // between one stop and the next
	To    *rest.Client  // writes go here
	From  *rest.Client  // jobs are followed here, by blocking queries that any server answers
}

// Round is one registration of a job and what became of it.
type Round struct {
	Due     time.Time // when it was to be sent
	Running time.Time // when all its instances were seen running
}

// inFlight bounds how many requests may be under way: with more the cluster does not keep up, and the run has failed.
const inFlight = 4000

// Prepare stops the first Pause jobs, when all run.
func (c Churn) Prepare(ctx context.Context) error {
	for _, j := range c.Jobs[:c.Pause] {
		if _, err := c.To.StopJob(ctx, j.Name, api.StopRequest{}, api.WriteMeta{}); err != nil {
			return fmt.Errorf("stop %s: %w", j.Name, err)
		}
	}
	for _, j := range c.Jobs[:c.Pause] {
		if err := c.ended(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// Run beats until d is over, then waits until all that was registered runs and all that was stopped has ended. It returns
// the rounds in the order of Due. Prepare comes before it.
func (c Churn) Run(ctx context.Context, d time.Duration) ([]Round, error) {
	g, under := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	var mu sync.Mutex
	var rounds []Round
	began, beats := time.Now(), int(d/c.Beat)
	for i := range beats {
		due := began.Add(time.Duration(i) * c.Beat)
		if !until(under, due) {
			break
		}
		stop, start := c.Jobs[(i+c.Pause)%len(c.Jobs)], c.Jobs[i%len(c.Jobs)]
		kept := g.TryGo(func() error {
			if _, err := c.To.StopJob(under, stop.Name, api.StopRequest{}, api.WriteMeta{}); err != nil {
				return fmt.Errorf("stop %s: %w", stop.Name, err)
			}
			return nil
		}) && g.TryGo(func() error {
			running, err := c.replace(under, start)
			mu.Lock()
			defer mu.Unlock()
			rounds = append(rounds, Round{due, running})
			return err
		})
		if !kept {
			return nil, errors.Join(fmt.Errorf("%d requests are under way after %s: the cluster does not keep up", inFlight, time.Since(began).Round(time.Second)), g.Wait())
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range min(c.Pause, beats) { // the others were registered again
		if err := c.ended(ctx, c.Jobs[(beats-1-i+c.Pause)%len(c.Jobs)]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(rounds, func(a, b Round) int { return a.Due.Compare(b.Due) })
	return rounds, nil
}

// until waits until a moment has come; it reports false when ctx is done before.
func until(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// replace registers a job that was stopped, and returns when its instances were seen running.
func (c Churn) replace(ctx context.Context, j Job) (time.Time, error) {
	registered, err := c.To.RegisterJobs(ctx, api.Submission{Source: j.Source(), FileName: j.Name + ".hcl"}, api.WriteMeta{})
	if err != nil {
		return time.Time{}, fmt.Errorf("register %s: %w", j.Name, err)
	}
	// Before that index the server that is asked may show the job as it was, running.
	q := api.Query{Index: registered.Index - 1, Wait: time.Minute, Stale: true}
	for {
		status, meta, err := c.From.Job(ctx, j.Name, q)
		if err != nil {
			return time.Time{}, fmt.Errorf("follow %s: %w", j.Name, err)
		}
		if meta.Index >= registered.Index && !status.Summary.Stopped && status.Summary.Counts.Running >= j.Count {
			return time.Now(), nil
		}
		q.Index = meta.Index
	}
}

// ended returns when nothing of a stopped job is left.
func (c Churn) ended(ctx context.Context, j Job) error {
	q := api.Query{Wait: time.Minute}
	for began := time.Now(); ; {
		status, meta, err := c.To.Job(ctx, j.Name, q)
		switch {
		case err != nil:
			return fmt.Errorf("follow the end of %s: %w", j.Name, err)
		case status.Summary.Status == api.JobDead:
			return nil
		case time.Since(began) > time.Minute:
			return fmt.Errorf("job %s was stopped a minute ago and is %s", j.Name, status.Summary.Status)
		}
		q.Index = meta.Index
	}
}
