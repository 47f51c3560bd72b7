package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"cube/api"
)

func newTaskLogs(m *Meta) *command {
	var o logFlags
	var instance int
	return &command{
		meta: m, name: "task logs", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show what a task's instances write",
		prose: `Shows the output of all instances of a job, or of one task of it (job/task), wherever they run. Each line begins with the instance that wrote it.

Following, instances that are placed later join in, and it ends when the job has ended.`,
		example: "$ cube task logs web -f -tail 20",
		flags: func(f *flag.FlagSet) {
			o.declare(f)
			f.IntVar(&instance, "instance", -1, "Only the instance of this `number`.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			request, err := o.request()
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			job, task := splitName(args[0])
			l := &logMerger{
				session: s, cluster: cluster, request: request, job: job, task: task, instance: instance,
				lines: &lineWriter{out: s.Stdout, safe: s.isTerminal()}, attached: map[string]bool{},
			}
			if err := l.run(ctx); err != nil && ctx.Err() == nil { // Ctrl-C is how following ends
				return failed(err, "reading the output of %q", args[0])
			}
			return nil
		},
	}
}

// logMerger shows the output of a job's instances as one.
type logMerger struct {
	*session
	cluster   api.Cluster
	request   api.LogRequest
	job, task string
	instance  int // -1: all
	lines     *lineWriter
	attached  map[string]bool // allocations whose output is shown; touched by run only
	padding   int             // the longest name so far
}

func (l *logMerger) run(ctx context.Context) error {
	status, index, err := l.status(ctx, 0)
	if err != nil {
		return err
	}
	if l.instance >= 0 && len(status.Allocations) == 0 {
		return api.Errorf(api.CodeNotFound, "it has no instance %d", l.instance)
	}
	for _, a := range status.Allocations {
		l.padding = max(l.padding, textWidth(a.Name))
	}
	if !l.request.Follow {
		return l.showOnce(ctx, holders(status.Allocations))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var streams errgroup.Group
	for {
		for _, a := range following(status.Allocations) {
			if !l.attached[a.ID] {
				l.attached[a.ID] = true
				streams.Go(func() error { return l.follow(ctx, a) })
			}
		}
		if ended(status) {
			return streams.Wait()
		}
		if status, index, err = l.status(ctx, index); err != nil {
			cancel()
			return errors.Join(err, streams.Wait())
		}
	}
}

// status reads the job, once it has changed after index.
func (l *logMerger) status(ctx context.Context, index uint64) (*api.JobStatus, uint64, error) {
	status, meta, err := l.cluster.Job(ctx, l.job, api.Query{Index: index})
	if err == nil {
		status, err = onlyTask(status, l.task)
	}
	if err != nil {
		return nil, 0, err
	}
	if l.instance >= 0 {
		one := *status
		one.Allocations = slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool { return a.Slot != l.instance })
		status = &one
	}
	return status, meta.Index, nil
}

// showOnce shows what there is, one instance after the other: lines carry no time that they could be sorted by.
func (l *logMerger) showOnce(ctx context.Context, allocs []*api.Allocation) error {
	var errs []error
	for _, a := range allocs {
		if a.StartedAt.IsZero() {
			continue // it has not written anything yet
		}
		if err := l.copy(ctx, a); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.Name, err))
		}
	}
	return errors.Join(errs...)
}

// follow shows one instance's output until it ends. A stream that breaks does not end the others.
func (l *logMerger) follow(ctx context.Context, a *api.Allocation) error {
	if err := l.copy(ctx, a); err != nil && ctx.Err() == nil {
		fmt.Fprintf(l.Stderr, "Error reading the output of %s (%s): %s\n", printable(a.Name), moments{}.id(a.ID), printable(err.Error()))
	}
	return nil
}

func (l *logMerger) copy(ctx context.Context, a *api.Allocation) error {
	body, err := l.cluster.Logs(ctx, a.ID, l.request)
	if err != nil {
		return err
	}
	defer body.Close()
	name := printable(a.Name)
	prefix := l.style.instance(a.Slot, name+strings.Repeat(" ", max(0, l.padding-textWidth(name)))+" | ")
	out := l.lines.prefixed(prefix)
	_, err = io.Copy(out, body)
	return errors.Join(err, out.Close())
}

// following are the allocations whose output is to be followed: those that have started and are not over, and of each
// slot that has none such, the newest that has started.
func following(allocs []*api.Allocation) []*api.Allocation {
	var out []*api.Allocation
	have := map[slotKey]bool{}
	for _, live := range []bool{true, false} {
		for _, a := range allocs {
			if a.StartedAt.IsZero() || a.Phase.Terminal() == live || !live && have[slotOf(a)] {
				continue
			}
			have[slotOf(a)] = true
			out = append(out, a)
		}
	}
	return out
}

// ended reports whether nothing more is to come of a job.
func ended(status *api.JobStatus) bool {
	if !status.Job.Stopped && status.Summary.Status != api.JobComplete {
		return false
	}
	return !slices.ContainsFunc(status.Allocations, func(a *api.Allocation) bool { return !a.Phase.Terminal() })
}
