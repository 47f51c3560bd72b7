package command

import (
	"context"
	"errors"
	"flag"
	"strings"

	"cube/api"
)

func newTaskTimeline(m *Meta) *command {
	var read readFlags
	var last int
	return &command{
		meta: m, name: "task timeline", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show what happened to a job, and why",
		prose: `Shows what has happened to a job, newest last, and what caused it: versions and who submitted them, where instances were placed and because of what, how they ended, restarts, lost nodes, stops and who asked for them. Of a job that launches others also each launch that is still known, with what it was for or who dispatched it, and the latest time if nothing was launched for that. What is alike and close together is one line, at the time of its latest. With job/task only that task's instances.

The servers agree on it, so it survives restarts and changes of leader; they keep the last 100 lines of each job.`,
		example: "$ cube task timeline web\n$ cube task timeline -n 10 shop/web",
		flags: func(f *flag.FlagSet) {
			read.declare(f)
			f.IntVar(&last, "n", 50, "The last so many `lines`; -1 for all.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			if last < -1 || last == 0 {
				return failed(errors.New("-n is a number of lines, or -1 for all"), "reading the arguments")
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			job, task := splitName(args[0])
			moments, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) ([]*api.EventView, api.ReadMeta, error) {
				return cluster.JobTimeline(ctx, job, q)
			})
			if err != nil {
				return failed(err, "reading the timeline of %q", args[0])
			}
			moments = ofTask(moments, task)
			if last >= 0 {
				moments = moments[max(0, len(moments)-last):]
			}
			if done, err := read.emit(s, moments); done {
				return err
			}
			if len(moments) == 0 {
				s.print("Nothing is known: the job is older than timelines are, or has no such task\n")
			}
			var out strings.Builder
			for _, e := range moments {
				out.WriteString(timelineLine(e, read.moments(s)) + "\n")
			}
			s.print(out.String())
			return nil
		},
	}
}

// timelineLine is a moment of a job's timeline for people: when and what, which has the cause in its words.
func timelineLine(e *api.EventView, f moments) string {
	line := moment(e.At, f.now, f.verbose) + "  " + printable(e.Text)
	if f.verbose {
		line += verboseEvent(e)
	}
	return line
}

// ofTask leaves out what happened to other tasks; "" is all of them.
func ofTask(moments []*api.EventView, task string) []*api.EventView {
	if task == "" {
		return moments
	}
	out := []*api.EventView{}
	for _, e := range moments {
		if e.Task == "" || e.Task == task {
			out = append(out, e)
		}
	}
	return out
}
