// Package load gives a cluster work through its HTTP API, as people do, and follows what becomes of it through blocking
// queries.
package load

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
	"cube/api/rest"
)

// Job is a job to submit: one task, which the fake driver runs until it is stopped.
type Job struct {
	Name      string
	Count     int
	CPU       float64 // cores of each instance
	Memory    int64   // MiB of each instance
	Class     string  // the nodes' meta.class that is asked for; "": any
	Scheduler string  // "": the servers' default
}

// Source is the job as people write it. Each has a constraint on what the machine is and, with a Class, one on what its
// configuration says, so that constraints cost what they cost.
func (j Job) Source() string {
	var b strings.Builder
	fmt.Fprintf(&b, "task %q {\n  driver = \"fake\"\n  image  = \"none\"\n  count  = %d\n", j.Name, j.Count)
	if j.Scheduler != "" {
		fmt.Fprintf(&b, "  scheduler = %q\n", j.Scheduler)
	}
	fmt.Fprintf(&b, "  resources {\n    cpu    = %v\n    memory = %d\n  }\n", j.CPU, j.Memory)
	fmt.Fprintf(&b, "  constraint {\n    attribute = \"attr.kernel.name\"\n    value     = \"linux\"\n  }\n")
	if j.Class != "" {
		fmt.Fprintf(&b, "  constraint {\n    attribute = \"meta.class\"\n    value     = %q\n  }\n", j.Class)
	}
	b.WriteString("}\n")
	return b.String()
}

// Progress is when a job came how far, as its submitter saw it; a zero time: not yet.
type Progress struct {
	Submitted time.Time // the request was sent
	Accepted  time.Time // its answer came
	Placed    time.Time // every instance had been placed
	Running   time.Time // every instance had been reported running
}

// Submit sends the jobs, so many at a time, and returns when all are accepted. submitted is called before each request and
// accepted after its answer, with the job's index, from several goroutines.
func Submit(ctx context.Context, to *rest.Client, jobs []Job, atOnce int, submitted, accepted func(i int, at time.Time)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			submitted(i, time.Now())
			if err := register(ctx, to, j); err != nil {
				return fmt.Errorf("submit %s: %w", j.Name, err)
			}
			accepted(i, time.Now())
			return nil
		})
	}
	return g.Wait()
}

// retryAfter is how long a submission waits that a server could not take now, as in an election.
const retryAfter = 100 * time.Millisecond

// register submits a job until it is accepted or refused. Its name is the request's ID: sent again it is not done again.
func register(ctx context.Context, to *rest.Client, j Job) error {
	for {
		_, err := to.RegisterJobs(ctx, api.Submission{Source: j.Source(), FileName: j.Name + ".hcl"}, api.WriteMeta{RequestID: j.Name})
		if err == nil || !passing(err) {
			return err
		}
		again := time.NewTimer(retryAfter)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}

// passing reports whether asking again may help.
func passing(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNoLeader, api.CodeNotLeader, api.CodeUnavailable, api.CodeBusy, api.CodeUnknown:
		return true
	}
	return false
}
