package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"

	"cube/api"
)

// dispatchFlags are those of task dispatch.
type dispatchFlags struct {
	follow  runFlags
	meta    keyValues
	payload string // path; "-": standard input; "": none
	id      string
}

func newTaskDispatch(m *Meta) *command {
	var o dispatchFlags
	return &command{
		meta: m, name: "task dispatch", args: "<name>", min: 1, max: 1, predict: predictJobs, reads: true,
		synopsis: "Launch a parameterized job, or a periodic one now",
		prose: `Launches a job that does what the parameterized or periodic job NAME says, in the version that is in force, and prints its name. A parameterized job is told what -payload and -meta hold: its instances find the payload in the file that their task names, and each meta key in CUBE_META_<key>. A periodic job is launched as it is; its times stay as they are.

Then follows the launched job until it has ended, however long that takes. Ctrl-C stops the following and nothing else.

With -id, the same request is launched once: given again, it finds the job that was launched the first time, for as long as that is kept, and follows that one. The same ID with another payload or other meta is refused.

The exit code is 0 when the job is complete, 1 when nothing was launched, and 2 when it was launched and has failed, was stopped or did not end in time.`,
		example: "$ cube task dispatch -meta size=800x600 -payload photo.json resize\n$ cube task dispatch -detach -id nightly-7 backup",
		flags: func(f *flag.FlagSet) {
			o.meta = keyValues{}
			f.Var(o.meta, "meta", "Meta of the launched job, as `key=value`. May be given several times.")
			f.StringVar(&o.payload, "payload", "", "`File` that holds the payload, at most 16 KiB; - is standard input.")
			f.StringVar(&o.id, "id", "", "What the request is called, any `text`: given again, it launches nothing.")
			f.BoolVar(&o.follow.detach, "detach", false, "Do not follow: print the name of the launched job and return.")
			f.BoolVar(&o.follow.json, "json", false, "Do not follow: print what was launched, as the API gives it.")
			f.BoolVar(&o.follow.verbose, "verbose", false, "Whole IDs and exact times.")
			o.follow.timeout.Duration = math.MaxInt64 // what was asked for may take days
			f.Var(&o.follow.timeout, "timeout", "How long to wait for the end: a `duration` such as 90s or 10m. Without it, until the end.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			request := api.DispatchRequest{Meta: o.meta, ID: o.id}
			var err error
			if request.Payload, err = readPayload(s.Stdin, o.payload); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			launched, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.Registered, error) {
				return cluster.DispatchJob(ctx, args[0], request, w)
			})
			if err != nil {
				return failed(err, "dispatching %q", args[0])
			}
			return followDispatch(ctx, s, cluster, &o.follow, launched)
		},
	}
}

// readPayload reads what a job is to be told; "" is nothing.
func readPayload(stdin io.Reader, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	in := stdin
	if path != "-" {
		f, err := openFile(path)
		if err != nil {
			return nil, failed(err, "reading %q", path)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, api.MaxPayload+1))
	if err != nil {
		return nil, failed(plainPathError(err), "reading %q", path)
	}
	if len(b) > api.MaxPayload {
		return nil, failed(errors.New("it is over 16 KiB, more than a payload may have: put it where the task can fetch it, and say where that is"), "reading %q", path)
	}
	return b, nil
}

// followDispatch says what was launched, and follows it to its end.
func followDispatch(ctx context.Context, s *session, cluster api.Cluster, o *runFlags, launched *api.Registered) error {
	if o.json {
		_, err := (&readFlags{json: true}).emit(s, launched)
		return err
	}
	job := launched.Jobs[0]
	text := fmt.Sprintf("Job %q is launched", job.Name)
	if !job.Changed {
		text = fmt.Sprintf("Job %q was launched with this id before: nothing new is launched", job.Name)
	}
	if o.detach {
		if !job.Changed {
			fmt.Fprintln(s.Stderr, text)
		}
		fmt.Fprintln(s.Stdout, job.Name)
		return nil
	}
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	g := newRunGoal(job, s.Now())
	g.toEnd = true
	m := &runMonitor{
		monitor: newMonitor(s, cluster, o.timeout, o.verbose),
		goals:   map[string]*runGoal{job.Name: g}, explained: map[string]string{},
	}
	m.screen.say(true, text)
	end := m.follow(ctx, map[string]goal{job.Name: g}, m.looked)
	err := m.conclude(end, fmt.Sprintf("Detached: the job goes on; see 'cube task status %s'", job.Name))
	if err != nil && g.status != nil {
		printTails(ctx, s, cluster, unwellOf(g.status.Allocations, s.Now()))
	}
	return err
}
