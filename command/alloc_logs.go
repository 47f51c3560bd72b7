package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"cube/api"
)

// logFlags are those of commands that show output.
type logFlags struct {
	follow         bool
	tail           int
	stdout, stderr bool
	since          string
	timestamps     bool
	part           string

	set *flag.FlagSet
}

func (o *logFlags) declare(f *flag.FlagSet) {
	o.set = f
	f.BoolVar(&o.follow, "f", false, "Follow: go on as more is written.")
	f.IntVar(&o.tail, "tail", 100, "Begin with the last so many `lines`; -1 for all that is kept. With -since that is the default.")
	f.StringVar(&o.since, "since", "", "Only what was written since a `time`: for so long, such as 10m or 2h30m, or from a moment on, such as 15:04, \"2006-01-02 15:04\" or 2006-01-02T15:04:05Z. Instances' times are those of their nodes' clocks.")
	f.StringVar(&o.part, "part", "", "Instead of what the main container wrote, what this sidecar, prestart or poststop of the task did: its `name`.")
	f.BoolVar(&o.timestamps, "timestamps", false, "Show when each line was written.")
	f.BoolVar(&o.stdout, "stdout", false, "Only what was written to standard output.")
	f.BoolVar(&o.stderr, "stderr", false, "Only what was written to standard error.")
}

func (o *logFlags) request(now time.Time) (api.LogRequest, error) {
	r := api.LogRequest{Tail: o.tail, Follow: o.follow, Timestamps: o.timestamps, Part: o.part}
	if o.tail < -1 {
		return r, failed(errors.New("-tail is a number of lines, or -1 for all"), "reading the arguments")
	}
	if o.since != "" {
		since, err := parseSince(o.since, now)
		if err != nil {
			return r, failed(err, "reading the arguments")
		}
		r.Since, r.Tail = since, -1
		o.set.Visit(func(f *flag.Flag) {
			if f.Name == "tail" {
				r.Tail = o.tail
			}
		})
	}
	switch {
	case o.stdout && !o.stderr:
		r.Stream = "stdout"
	case o.stderr && !o.stdout:
		r.Stream = "stderr"
	}
	return r, nil
}

// parseSince reads a moment as people write it: how long ago, a time of today, or a date with or without a time and a
// zone. Without a zone it is the zone of now.
func parseSince(text string, now time.Time) (time.Time, error) {
	since, ok := time.Time{}, false
	if ago, err := time.ParseDuration(text); err == nil {
		if ago < 0 {
			return since, errors.New("-since is how long ago, without a minus")
		}
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			since, ok = at, true
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			year, month, day := now.Date()
			since, ok = time.Date(year, month, day, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), now.Location()), true
		}
	}
	switch {
	case !ok:
		return since, fmt.Errorf("-since %.40q is neither how long ago, such as 10m, nor a time, such as 15:04 or 2006-01-02T15:04:05Z", text)
	case since.After(now):
		return since, fmt.Errorf("-since %s has not come yet: it is %s", text, now.Format(time.DateTime))
	}
	return since, nil
}

func newAllocLogs(m *Meta) *command {
	var o logFlags
	return &command{
		meta: m, name: "alloc logs", args: "<allocation>", min: 1, max: 1, predict: predictAllocations,
		synopsis: "Show what an instance writes",
		prose:    "Shows the output of one instance, as it wrote it, wherever it runs: first what is kept of its former runs, the last 256 KiB of each. For all instances of a task at once use 'cube task logs'.",
		example:  "$ cube alloc logs -f 3afe8858\n$ cube alloc logs -since 10m -timestamps 3afe8858\n$ cube alloc logs -part proxy 3afe8858",
		flags:    func(f *flag.FlagSet) { o.declare(f) },
		run: func(ctx context.Context, s *session, args []string) error {
			request, err := o.request(s.Now())
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			to := io.WriteCloser(nopCloser{s.Stdout})
			if s.isTerminal() {
				to = &lineSplitter{each: func(line []byte) error {
					_, err := io.WriteString(s.Stdout, printableColours(string(line))+"\n")
					return err
				}}
			}
			out := &output{session: s, cluster: cluster, id: args[0], name: args[0], request: request, to: to, resume: withGap}
			if request.Follow {
				// That the agent answers and knows the allocation is asked first: what never began is not waited for.
				if _, _, err = cluster.Allocation(ctx, args[0], api.Query{}); err == nil {
					err = out.follow(ctx)
				}
			} else {
				var broke error
				broke, err = out.copy(ctx)
				err = errors.Join(broke, err)
			}
			if err := errors.Join(err, to.Close()); err != nil && ctx.Err() == nil { // Ctrl-C is how following ends
				return failed(err, "reading the output of allocation %q", args[0])
			}
			return nil
		},
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
