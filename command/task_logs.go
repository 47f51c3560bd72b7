package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
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

Following, instances that start later join in from their beginning, one that ends leaves with a line on standard error, an output that breaks off because a server or an agent fell is followed again, and it ends when the job has ended.`,
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
		return l.showOnce(ctx, holders(l.ofJob(status)))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var streams errgroup.Group
	for tail := l.request.Tail; ; tail = -1 { // what starts later is shown from its beginning
		request := l.request
		request.Tail = tail
		for _, a := range following(l.ofJob(status)) {
			if !l.attached[a.ID] {
				l.attached[a.ID] = true
				streams.Go(func() error { return l.follow(ctx, a, request) })
			}
		}
		if ended(status) {
			return streams.Wait()
		}
		if status, index, err = l.next(ctx, index); err != nil {
			cancel()
			return errors.Join(err, streams.Wait())
		}
	}
}

// next reads the job once it has changed after index. When the servers cannot be asked, it goes on asking.
func (l *logMerger) next(ctx context.Context, index uint64) (*api.JobStatus, uint64, error) {
	for said := false; ; said = true {
		status, now, err := l.status(ctx, index)
		if err == nil || !unreachable(err) || ctx.Err() != nil {
			return status, now, err
		}
		if !said {
			fmt.Fprintf(l.Stderr, "The servers cannot be asked: %s; trying again\n", printable(err.Error()))
		}
		if err := pause(ctx, watchPause); err != nil {
			return nil, 0, err
		}
		index = 0 // the next answer is at once
	}
}

// ofJob are the allocations to show: those of the slots that the job has, and whatever still runs. With -instance it is
// for the person to say.
func (l *logMerger) ofJob(status *api.JobStatus) []*api.Allocation {
	if l.instance >= 0 {
		return status.Allocations
	}
	return slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool {
		task := status.Job.Task(a.Task)
		return a.Phase.Terminal() && (task == nil || a.Slot >= task.Count)
	})
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
	started := false
	for _, a := range allocs {
		if a.StartedAt.IsZero() {
			continue // it has not written anything yet
		}
		started = true
		out, end := l.output(a, l.request)
		broke, err := out.copy(ctx)
		if err := errors.Join(broke, err, end()); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.Name, err))
		}
	}
	if !started {
		fmt.Fprintln(l.Stderr, "No instance has started yet")
	}
	return errors.Join(errs...)
}

// follow shows one instance's output until it ends. One that cannot be had does not end the others.
func (l *logMerger) follow(ctx context.Context, a *api.Allocation, r api.LogRequest) error {
	out, end := l.output(a, r)
	err := errors.Join(out.follow(ctx), end())
	forgotten := a.Phase.Terminal() && api.CodeOf(err) == api.CodeNotFound // nobody follows what ended long ago
	if err != nil && ctx.Err() == nil && !forgotten {
		fmt.Fprintf(l.Stderr, "Error reading the output of %s (%s): %s\n", printable(a.Name), moments{}.id(a.ID), printable(err.Error()))
	}
	if err == nil && ctx.Err() == nil && !a.Phase.Terminal() && !out.told { // who follows others too must not wonder at its silence
		fmt.Fprintf(l.Stderr, "%s (%s) has ended\n", printable(a.Name), moments{}.id(a.ID))
	}
	return nil
}

// output is where one instance's lines go. end writes what is left of the last one.
func (l *logMerger) output(a *api.Allocation, r api.LogRequest) (out *output, end func() error) {
	name := printable(a.Name)
	prefix := l.style.instance(a.Slot, name+strings.Repeat(" ", max(0, l.padding-textWidth(name)))+" | ")
	to := l.lines.prefixed(prefix)
	return &output{session: l.session, cluster: l.cluster, id: a.ID, name: a.Name, request: r, to: to}, to.Close
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
