package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"cube/api"
)

// stopFlags are those of commands that stop something and wait for its end.
type stopFlags struct {
	detach, verbose bool
	timeout         patience
	noDelay         bool
}

func (o *stopFlags) declare(f *flag.FlagSet) {
	f.BoolVar(&o.detach, "detach", false, "Do not wait: print the ID of the evaluation and return.")
	f.BoolVar(&o.verbose, "verbose", false, "Whole IDs and exact times.")
	f.BoolVar(&o.noDelay, "no-shutdown-delay", false, "Do not wait for the task's shutdown_delay; those too that wait for it already end at once.")
	patienceVar(f, &o.timeout, "")
}

func (o *stopFlags) request() api.StopRequest { return api.StopRequest{NoShutdownDelay: o.noDelay} }

func newTaskStop(m *Meta) *command {
	var o stopFlags
	var purge bool
	return &command{
		meta: m, name: "task stop", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Stop a job",
		prose: `Stops all instances of a job and places no new ones. The job and its versions are kept: 'cube task run' starts it again. With -purge they are forgotten once all has stopped, and the job is listed no more.

Waits until every instance is gone; Ctrl-C stops the waiting and nothing else. The exit code is 2 when the stop was accepted but not everything is gone in time.`,
		example: "$ cube task stop web",
		flags: func(f *flag.FlagSet) {
			o.declare(f)
			f.BoolVar(&purge, "purge", false, "Forget the job when all of it has stopped.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if purge && o.detach {
				return failed(errors.New("-purge waits until all has stopped, and -detach does not wait"), "reading the arguments")
			}
			name, task := splitName(args[0])
			if task != "" && task != name {
				return failed(api.Errorf(api.CodeInvalid, "tasks stop with their job; give 'cube task stop %s', or take the task out of its file and run that", name), "stopping %q", args[0])
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			eval, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.EvaluationView, error) {
				return cluster.StopJob(ctx, name, o.request(), w)
			})
			if err != nil {
				return failed(err, "stopping %q", args[0])
			}
			if o.detach {
				fmt.Fprintln(s.Stdout, eval.ID)
				return nil
			}
			of := stopOf{job: name, what: fmt.Sprintf("Job %q", name)}
			if purge {
				of.then = func(ctx context.Context) (string, error) { return forget(ctx, s, cluster, name) }
			}
			return monitorStop(ctx, s, cluster, o, eval, of)
		},
	}
}

// forget has a job purged that has stopped.
func forget(ctx context.Context, s *session, cluster api.Cluster, name string) (string, error) {
	_, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (struct{}, error) {
		return struct{}{}, cluster.PurgeJob(ctx, name, w)
	})
	if err != nil && api.CodeOf(err) != api.CodeNotFound { // a try whose answer was lost had done it
		return "", failed(err, "purging %q", name)
	}
	return fmt.Sprintf("Job %q is forgotten", name), nil
}

// monitorStop follows a stop until what it stops is gone.
func monitorStop(ctx context.Context, s *session, cluster api.Cluster, o stopFlags, eval *api.EvaluationView, of stopOf) error {
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	m := newMonitor(s, cluster, o.timeout, o.verbose)
	m.screen.say(true, fmt.Sprintf("%s is stopping; evaluation %s", of.what, moments{verbose: o.verbose}.id(eval.ID)))
	end := m.follow(ctx, map[string]goal{of.job: newStopGoal(of)}, nil)
	err := m.conclude(end, fmt.Sprintf("Detached: it goes on stopping; see 'cube task status %s'", of.job))
	if err != nil || end.detached || of.then == nil {
		return err
	}
	text, err := of.then(ctx)
	if err == nil {
		m.screen.say(true, text)
	}
	return err
}
