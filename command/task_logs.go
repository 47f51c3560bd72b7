package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"cube/api"
)

// maxLogStreams bounds how many instances' output is read at once: each is a connection to an agent, and more than this no
// person reads side by side.
const maxLogStreams = 256

func newTaskLogs(m *Meta) *command {
	var o logFlags
	var instance int
	return &command{
		meta: m, name: "task logs", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show what a task's instances write",
		prose: `Shows the output of all instances of a job, or of one task of it (job/task), wherever they run. Each line begins with the instance that wrote it, and the lines are in the order of their times as far as they have arrived. What is kept of an instance's former runs, the last 256 KiB of each, comes first; with -since also that of instances which have been replaced since. Of a periodic or parameterized job, whose work others do, it is the output of the one that was launched last.

Following, instances that start later join in from their beginning, one that ends leaves with a line on standard error, an output that breaks off because a server or an agent fell is followed again from where it broke off, and it ends when the job has ended. When the output of an instance cannot be had, standard error says so, the others' is shown, and without -f the exit code is 1.`,
		example: "$ cube task logs web -f -tail 20\n$ cube task logs web -since 10m -stderr\n$ cube task logs web -part proxy",
		flags: func(f *flag.FlagSet) {
			o.declare(f)
			instance = -1
			f.Var((*slotFlag)(&instance), "instance", "Only the instance of this `number`.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			request, err := o.request(s.Now())
			if err != nil {
				return err
			}
			request.Timestamps = true // for their order
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			job, task := splitName(args[0])
			l := &logReader{
				session: s, cluster: cluster, request: request, job: job, task: task, instance: instance,
				merge: newLogMerge(s.Stdout, mergePatience, s.Now), attached: map[string]bool{},
			}
			l.merge.safe, l.merge.timestamps = s.isTerminal(), o.timestamps
			if request.Follow {
				l.merge.patience = mergeHold
			}
			if err := l.run(ctx); err != nil && ctx.Err() == nil { // Ctrl-C is how following ends
				var code exitCode
				if errors.As(err, &code) {
					return code
				}
				return failed(err, "reading the output of %q", args[0])
			}
			return nil
		},
	}
}

// logReader shows the output of a job's instances as one.
type logReader struct {
	*session
	cluster   api.Cluster
	request   api.LogRequest
	job, task string
	instance  int // -1: all
	merge     *logMerge

	// touched by run only
	attached map[string]bool // allocations whose output is shown
	refused  bool            // there were too many, and that was said
	padding  int             // the longest name so far

	missing atomic.Int32 // how many instances' output could not be had
}

// latest takes the job that was launched last in place of one that launches others: that one has no instances, and who asks for its
// output means what ran last.
func (l *logReader) latest(ctx context.Context, parent *api.JobStatus) (*api.JobStatus, uint64, error) {
	if parent.Launches == nil || len(parent.Launches.Children) == 0 {
		return nil, 0, api.Errorf(api.CodeNotFound, "nothing of it was launched yet; 'cube task dispatch %s' launches it now", l.job)
	}
	l.job = parent.Launches.Children[0].Name
	fmt.Fprintf(l.Stderr, "The output of %s, which was launched last; 'cube task status %s' lists the others\n", l.job, parent.Job.Name)
	return l.status(ctx, 0)
}

func (l *logReader) run(ctx context.Context) error {
	status, index, err := l.status(ctx, 0)
	if err == nil && status.Job.Launches() {
		status, index, err = l.latest(ctx, status)
	}
	if err != nil {
		return err
	}
	if l.instance >= 0 && len(status.Allocations) == 0 {
		return api.Errorf(api.CodeNotFound, "it has no instance %d", l.instance)
	}
	for _, a := range status.Allocations {
		l.padding = max(l.padding, textWidth(a.Name))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		written <- l.merge.run(ctx)
		cancel()
	}()
	var streams sync.WaitGroup
	if l.request.Follow {
		err = l.followAll(ctx, status, index, &streams)
	} else {
		l.showOnce(ctx, status, &streams)
	}
	if err != nil {
		cancel()
	}
	streams.Wait()
	l.merge.finish()
	if err := errors.Join(<-written, err); err != nil {
		return err
	}
	if !l.request.Follow && l.missing.Load() > 0 {
		return exitCode(exitError)
	}
	return nil
}

// followAll follows what runs, and what starts later, until the job has ended.
func (l *logReader) followAll(ctx context.Context, status *api.JobStatus, index uint64, streams *sync.WaitGroup) error {
	for tail := l.request.Tail; ; tail = -1 { // what starts later is shown from its beginning
		request := l.request
		request.Tail = tail
		l.attach(ctx, append(following(l.ofJob(status), l.request.Part), l.replaced(status)...), streams, func(a *api.Allocation, out *output) {
			out.request = request
			l.follow(ctx, a, out)
		})
		if ended(status) {
			return nil
		}
		var err error
		if status, index, err = l.next(ctx, index); err != nil {
			return err
		}
	}
}

// showOnce shows what there is.
func (l *logReader) showOnce(ctx context.Context, status *api.JobStatus, streams *sync.WaitGroup) {
	l.attach(ctx, append(holders(l.ofJob(status)), l.replaced(status)...), streams, func(a *api.Allocation, out *output) {
		broke, err := out.copy(ctx)
		l.complain(ctx, a, errors.Join(broke, err))
	})
	if len(l.attached) == 0 {
		fmt.Fprintln(l.Stderr, "No instance has started yet")
	}
}

// attach begins to show the output of the allocations that have written something and are not shown yet.
func (l *logReader) attach(ctx context.Context, allocs []*api.Allocation, streams *sync.WaitGroup, show func(*api.Allocation, *output)) {
	for _, a := range allocs {
		if l.attached[a.ID] || !hasWritten(a, l.request.Part) {
			continue
		}
		if len(l.attached) >= maxLogStreams {
			if !l.refused {
				fmt.Fprintf(l.Stderr, "The output of %d instances is shown, which is as many as there can be; choose another with -instance\n", maxLogStreams)
			}
			l.refused = true
			return
		}
		l.attached[a.ID] = true
		name := printable(a.Name)
		prefix := l.style.instance(a.Slot, name+strings.Repeat(" ", max(0, l.padding-textWidth(name)))+" | ")
		to := l.merge.open(ctx, prefix) // before any line is written: what is older than others' lines comes before them
		out := &output{session: l.session, cluster: l.cluster, id: a.ID, name: a.Name, request: l.request, to: to, resume: to.resume}
		streams.Go(func() {
			show(a, out)
			l.complain(ctx, a, to.Close())
		})
	}
}

// next reads the job once it has changed after index. When the servers cannot be asked, it goes on asking.
func (l *logReader) next(ctx context.Context, index uint64) (*api.JobStatus, uint64, error) {
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
func (l *logReader) ofJob(status *api.JobStatus) []*api.Allocation {
	if l.instance >= 0 {
		return status.Allocations
	}
	return slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool {
		task := status.Job.Task(a.Task)
		return a.Phase.Terminal() && (task == nil || a.Slot >= status.Job.Slots(task))
	})
}

// status reads the job, once it has changed after index.
func (l *logReader) status(ctx context.Context, index uint64) (*api.JobStatus, uint64, error) {
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

// follow shows one instance's output until it ends. One that cannot be had does not end the others.
func (l *logReader) follow(ctx context.Context, a *api.Allocation, out *output) {
	err := out.follow(ctx)
	l.complain(ctx, a, err)
	if err == nil && ctx.Err() == nil && !a.Phase.Terminal() && !out.told { // who follows others too must not wonder at its silence
		fmt.Fprintf(l.Stderr, "%s (%s) has ended\n", printable(a.Name), moments{}.id(a.ID))
	}
}

// complain says that an instance's output could not be had, or not to its end.
func (l *logReader) complain(ctx context.Context, a *api.Allocation, err error) {
	forgotten := a.Phase.Terminal() && api.CodeOf(err) == api.CodeNotFound // nobody asks for what ended long ago
	if err == nil || ctx.Err() != nil || forgotten {
		return
	}
	l.missing.Add(1)
	fmt.Fprintf(l.Stderr, "Error reading the output of %s (%s): %s\n", printable(a.Name), moments{}.id(a.ID), printable(err.Error()))
}

// replaced are the allocations that ended since the time that is asked for: what they wrote is asked for, too.
func (l *logReader) replaced(status *api.JobStatus) []*api.Allocation {
	if l.request.Since.IsZero() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool {
		return !a.Phase.Terminal() || a.FinishedAt.Before(l.request.Since)
	})
}

// hasWritten reports whether there may be output of an instance, or of a part of its task, which may run before it.
func hasWritten(a *api.Allocation, part string) bool {
	return !a.StartedAt.IsZero() || part != "" && (a.Phase != api.PhasePending || a.Restarts > 0)
}

// following are the allocations whose output is to be followed: those that have started and are not over, and of each
// slot that has none such, the newest that has started.
func following(allocs []*api.Allocation, part string) []*api.Allocation {
	var out []*api.Allocation
	have := map[slotKey]bool{}
	for _, live := range []bool{true, false} {
		for _, a := range allocs {
			if !hasWritten(a, part) || a.Phase.Terminal() == live || !live && have[slotOf(a)] {
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
	switch {
	case status.Job.Stopped, status.Summary.Status == api.JobComplete, status.Summary.Status == api.JobFailed:
	default:
		return false
	}
	return !slices.ContainsFunc(status.Allocations, func(a *api.Allocation) bool { return !a.Phase.Terminal() })
}
