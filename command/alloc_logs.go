package command

import (
	"context"
	"errors"
	"flag"
	"io"

	"cube/api"
)

// logFlags are those of commands that show output.
type logFlags struct {
	follow         bool
	tail           int
	stdout, stderr bool
}

func (o *logFlags) declare(f *flag.FlagSet) {
	f.BoolVar(&o.follow, "f", false, "Follow: go on as more is written.")
	f.IntVar(&o.tail, "tail", 100, "Begin with the last so many `lines`; -1 for all that is kept.")
	f.BoolVar(&o.stdout, "stdout", false, "Only what was written to standard output.")
	f.BoolVar(&o.stderr, "stderr", false, "Only what was written to standard error.")
}

func (o *logFlags) request() (api.LogRequest, error) {
	r := api.LogRequest{Tail: o.tail, Follow: o.follow}
	if o.tail < -1 {
		return r, failed(errors.New("-tail is a number of lines, or -1 for all"), "reading the arguments")
	}
	switch {
	case o.stdout && !o.stderr:
		r.Stream = "stdout"
	case o.stderr && !o.stdout:
		r.Stream = "stderr"
	}
	return r, nil
}

func newAllocLogs(m *Meta) *command {
	var o logFlags
	return &command{
		meta: m, name: "alloc logs", args: "<allocation>", min: 1, max: 1, predict: predictAllocations,
		synopsis: "Show what an instance writes",
		prose:    "Shows the output of one instance, as it wrote it, wherever it runs. For all instances of a task at once use 'cube task logs'.",
		example:  "$ cube alloc logs -f 3afe8858",
		flags:    func(f *flag.FlagSet) { o.declare(f) },
		run: func(ctx context.Context, s *session, args []string) error {
			request, err := o.request()
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			lines := &lineWriter{out: s.Stdout, safe: s.isTerminal()}
			to := io.WriteCloser(nopCloser{s.Stdout})
			if lines.safe {
				to = lines.prefixed("")
			}
			out := &output{session: s, cluster: cluster, id: args[0], name: args[0], request: request, to: to}
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
