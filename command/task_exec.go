package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"

	"cube/api"
	"cube/api/attach"
)

// exitExec is how `cube task exec` ends when it is Cube that failed; other codes are the command's, but 126 and 127, which
// say, with a line, that there was none.
const exitExec = 125

// impatience is how many signals to end make `cube task exec` end though the command does not.
const impatience = 3

// execFlags are what a person says about a command beside an instance.
type execFlags struct {
	stdin, tty, both bool
	instance         int
	dir, part        string
	env              keyValues
}

func newTaskExec(m *Meta) *command {
	o := execFlags{env: keyValues{}}
	return &command{
		meta: m, name: "task exec", args: "<name> -- <command> [<argument> ...]", min: 2, max: -1, predict: predictJobs, errorCode: exitExec, reads: true,
		synopsis: "Run a command beside a task's instance",
		prose: `Runs a command in the surroundings of a running instance, wherever that is: in its container, with its environment, directory and user. No shell is put around it. What stands after -- is the command's, flags too.

Without -instance it is the running instance with the lowest number, which a line on standard error names where there are several. A job with several tasks needs job/task.

With -it there is a terminal, as for a shell: keys go to the command as they are typed, Ctrl-C too. Otherwise standard output and standard error stay apart and signals are passed on; a third Ctrl-C ends the command.

It ends with the command's exit code. 125 says, after a line that begins with Error, that it was Cube that failed; so do 126 and 127 that the command could not be started, or not be found. The command ends when this one goes away, and when its instance does. Who reaches the agent's address may run anything: there is no permission to ask for yet.`,
		example: "$ cube task exec -it web -- sh\n$ cube task exec web -instance 2 -- cat /etc/hosts\n$ cube task exec web -part proxy -- sh\n$ cube task exec -i shop/db -- psql < dump.sql",
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&o.stdin, "i", false, "Pass standard input on.")
			f.BoolVar(&o.tty, "t", false, "Give the command a terminal.")
			f.BoolVar(&o.both, "it", false, "Both: what a shell needs.")
			o.instance = -1
			f.Var((*slotFlag)(&o.instance), "instance", "The instance of this `number`.")
			f.StringVar(&o.part, "part", "", "Run the command in this sidecar or hook of the task, instead of its main container: its `name`.")
			f.StringVar(&o.dir, "dir", "", "Run the command in this `directory`.")
			f.Var(o.env, "env", "Set a `name=value` in the command's environment. May be given several times.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if o.both {
				o.stdin, o.tty = true, true
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			a, err := s.instanceFor(ctx, cluster, args[0], o.instance)
			if err != nil {
				return failed(err, "running a command in %q", args[0])
			}
			code, err := s.exec(ctx, cluster, a, &o, args[1:])
			if err != nil {
				s.report(failed(err, "running %s in %s", args[1], a.Name))
				if code == 126 || code == 127 {
					return exitCode(code)
				}
				return exitCode(exitExec)
			}
			return exitCode(code)
		},
	}
}

// instanceFor chooses the instance that a command is to run beside.
func (s *session) instanceFor(ctx context.Context, cluster api.Cluster, name string, instance int) (*api.Allocation, error) {
	job, task := splitName(name)
	status, _, err := cluster.Job(ctx, job, api.Query{})
	if err == nil {
		status, err = onlyTask(status, task)
	}
	if err != nil {
		return nil, err
	}
	if len(status.Job.Tasks) > 1 && task == "" {
		var names []string
		for _, t := range status.Job.Tasks {
			names = append(names, job+"/"+t.Name)
		}
		return nil, api.Errorf(api.CodeAmbiguous, "the job has several tasks; say which: %s", strings.Join(names, ", "))
	}
	running := slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool { return a.Phase != api.PhaseRunning })
	if instance < 0 {
		if len(running) == 0 {
			return nil, api.Errorf(api.CodeConflict, "no instance runs; see why with 'cube task status %s'", name)
		}
		slices.SortStableFunc(running, func(a, b *api.Allocation) int { return a.Slot - b.Slot })
		if n := len(running); n > 1 {
			fmt.Fprintf(s.Stderr, "%s of %d that run, on %s\n", printable(running[0].Name), n, printable(running[0].NodeName))
		}
		return running[0], nil
	}
	of := func(a *api.Allocation) bool { return a.Slot == instance }
	if i := slices.IndexFunc(running, of); i >= 0 {
		return running[i], nil
	}
	if i := slices.IndexFunc(status.Allocations, of); i >= 0 {
		return nil, api.Errorf(api.CodeConflict, "instance %d does not run, it is %s", instance, status.Allocations[i].Phase)
	}
	var there []string
	for _, a := range running {
		there = append(there, strconv.Itoa(a.Slot))
	}
	if len(there) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "there is no instance %d, and none runs", instance)
	}
	return nil, api.Errorf(api.CodeNotFound, "there is no instance %d; those that run: %s", instance, api.FirstOf(there, 10))
}

// exec runs the command and passes on what goes in and out. The terminal is as it was when it returns.
func (s *session) exec(ctx context.Context, cluster api.Cluster, a *api.Allocation, o *execFlags, args []string) (code int, err error) {
	r := api.ExecRequest{Command: args, Env: o.env, WorkDir: o.dir, Part: o.part, Stdin: o.stdin, TTY: o.tty}
	p := &attach.Person{Stdout: s.Stdout, Stderr: s.Stderr}
	if o.stdin {
		p.Stdin = s.Stdin
	}
	keyboard, typed := terminalOf(s.Stdin)
	if o.tty && !typed {
		return -1, api.Errorf(api.CodeInvalid, "-t needs a terminal, and standard input is none; leave it out in scripts")
	}
	ctx, signals, stop := passSignals(ctx, keyboard, o.tty)
	defer stop()
	p.Signals, p.Resize = signals.numbers, signals.sizes
	if o.tty {
		r.Size = sizeOf(keyboard)
	}
	conn, err := cluster.Exec(ctx, a.ID, r)
	if err != nil {
		return -1, err
	}
	if o.tty && o.stdin {
		before, err := term.MakeRaw(int(keyboard.Fd()))
		if err != nil {
			conn.Close()
			return -1, fmt.Errorf("take the terminal over: %w", err)
		}
		defer func() { _ = term.Restore(int(keyboard.Fd()), before) }() // it fails only where the terminal is gone
	}
	signals.begun.Store(true)
	return p.Run(ctx, conn)
}

// terminalOf returns the terminal that a stream is.
func terminalOf(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

func sizeOf(terminal *os.File) api.WindowSize {
	columns, rows, err := term.GetSize(int(terminal.Fd()))
	if err != nil {
		return api.WindowSize{}
	}
	return api.WindowSize{Rows: uint16(rows), Columns: uint16(columns)}
}

// passedOn is what a process is told from outside, for the command. What the command's node does not take in time is
// dropped, but for the latest size.
type passedOn struct {
	numbers chan syscall.Signal
	sizes   chan api.WindowSize
	begun   atomic.Bool // there is a command to pass it to
}

// passSignals passes on what comes until stop is called. The context ends when this process is to: before there is a
// command, with its terminal, or when the command has been asked in vain to end.
func passSignals(parent context.Context, terminal *os.File, tty bool) (ctx context.Context, p *passedOn, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	p = &passedOn{numbers: make(chan syscall.Signal, impatience), sizes: make(chan api.WindowSize, 1)}
	got := make(chan os.Signal, 16)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for asked := 0; ; {
			select {
			case n := <-got:
				switch n {
				case syscall.SIGWINCH:
					if tty {
						p.resize(sizeOf(terminal))
					}
					continue
				case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP:
					if asked++; asked >= impatience || tty || !p.begun.Load() {
						cancel()
					}
				}
				select {
				case p.numbers <- n.(syscall.Signal):
				default:
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, p, func() { signal.Stop(got); cancel(); <-done }
}

func (p *passedOn) resize(size api.WindowSize) {
	select {
	case <-p.sizes:
	default:
	}
	p.sizes <- size // there is room: nobody else puts anything in
}
