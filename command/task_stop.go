package command

import (
	"context"
	"flag"
	"fmt"
	"time"

	"cube/api"
)

// stopFlags are those of commands that stop something and wait for its end.
type stopFlags struct {
	detach, verbose bool
	timeout         patience
}

func (o *stopFlags) declare(f *flag.FlagSet) {
	f.BoolVar(&o.detach, "detach", false, "Do not wait: print the ID of the evaluation and return.")
	f.BoolVar(&o.verbose, "verbose", false, "Whole IDs and exact times.")
	patienceVar(f, &o.timeout, "")
}

func newTaskStop(m *Meta) *command {
	var o stopFlags
	return &command{
		meta: m, name: "task stop", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Stop a job",
		prose: `Stops all instances of a job and places no new ones. The job and its versions are kept: 'cube task run' starts it again.

Waits until every instance is gone; Ctrl-C stops the waiting and nothing else. The exit code is 2 when the stop was accepted but not everything is gone in time.`,
		example: "$ cube task stop web",
		flags:   func(f *flag.FlagSet) { o.declare(f) },
		run: func(ctx context.Context, s *session, args []string) error {
			name, task := splitName(args[0])
			if task != "" && task != name {
				return failed(api.Errorf(api.CodeInvalid, "tasks stop with their job; give 'cube task stop %s', or take the task out of its file and run that", name), "stopping %q", args[0])
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			eval, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.EvaluationView, error) {
				return cluster.StopJob(ctx, name, w)
			})
			if err != nil {
				return failed(err, "stopping %q", args[0])
			}
			if o.detach {
				fmt.Fprintln(s.Stdout, eval.ID)
				return nil
			}
			return monitorStop(ctx, s, cluster, o, eval, stopOf{job: name, what: fmt.Sprintf("Job %q", name)})
		},
	}
}

// monitorStop follows a stop until what it stops is gone.
func monitorStop(ctx context.Context, s *session, cluster api.Cluster, o stopFlags, eval *api.EvaluationView, of stopOf) error {
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	m := newMonitor(s, cluster, time.Duration(o.timeout), o.verbose)
	m.screen.say(true, fmt.Sprintf("%s is stopping; evaluation %s", of.what, moments{verbose: o.verbose}.id(eval.ID)))
	end := m.follow(ctx, map[string]goal{of.job: newStopGoal(of)}, nil)
	return m.conclude(end, fmt.Sprintf("Detached: it goes on stopping; see 'cube task status %s'", of.job))
}
