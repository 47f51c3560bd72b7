package rawexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver"
)

// Exec starts this program again, which becomes the command; see driver.Driver. The agent itself must not enter the
// instance's control group on the way, as a thread of it could: what ends the instance kills all that is in there.
func (d *Driver) Exec(ctx context.Context, h driver.Handle, r *driver.ExecRequest) (int, error) {
	if r.Stdin != nil {
		defer r.Stdin.Close()
	}
	run, program, err := d.running(h)
	if err != nil {
		return -1, err
	}
	defer program.close()
	env, err := environmentOf(run.Program.PID)
	if err != nil {
		return -1, err
	}
	what := &entry{
		Program: run.Program, Cgroups: run.Cgroups, User: run.User, Command: r.Command, TTY: r.TTY,
		Env: merge(env, r.Env), WorkDir: run.WorkDir,
	}
	if r.WorkDir != "" {
		what.WorkDir = r.WorkDir
	}
	s, ends, err := openStreams(r)
	if err != nil {
		return -1, err
	}
	command, err := d.enter(ctx, what, ends)
	ends.close()
	if err != nil {
		s.close()
		return d.refused(h, run, err)
	}
	return s.attend(ctx, command, program)
}

// refused says why a command did not begin.
func (d *Driver) refused(h driver.Handle, run *state, err error) (int, error) {
	var refused *entryError
	if !errors.As(err, &refused) {
		return -1, err
	}
	if now, ok := identify(run.Program.PID); !ok || now != run.Program {
		return -1, d.notRunning(h)
	}
	if refused.Code < 0 {
		return -1, err
	}
	return refused.Code, api.Errorf(api.CodeInvalid, "%w", err)
}

func (d *Driver) notRunning(h driver.Handle) error {
	return api.Errorf(api.CodeConflict, "instance %s does not run", d.text.Format(h.Key.Allocation))
}

// Usage counts what the instance's control group holds; see driver.Driver.
func (d *Driver) Usage(_ context.Context, h driver.Handle) (driver.Usage, error) {
	run, program, err := d.running(h)
	if err != nil {
		return driver.Usage{}, err
	}
	program.close()
	u, ok := group{dirs: run.Cgroups}.counted().Usage()
	if !ok {
		return u, api.Errorf(api.CodeNotYet, "instance %s has no control group that counts what it uses", d.text.Format(h.Key.Allocation))
	}
	return u, nil
}

// running finds the instance's run and its program, which lives.
func (d *Driver) running(h driver.Handle) (*state, *process, error) {
	home, ok := d.archive.Dir(h.Key.Allocation)
	if !ok {
		return nil, nil, d.notRunning(h)
	}
	run, err := readState(runDir(home, h.Key.Restarts))
	if err != nil {
		return nil, nil, err
	}
	if run == nil || run.data() != h.Data {
		return nil, nil, d.notRunning(h)
	}
	boot, err := bootID()
	if err != nil {
		return nil, nil, err
	}
	if boot != run.Boot {
		return nil, nil, d.notRunning(h)
	}
	program, err := run.Program.open()
	if err != nil {
		return nil, nil, err
	}
	if program == nil {
		return nil, nil, d.notRunning(h)
	}
	return run, program, nil
}

// environmentOf is what a process began with. It is kept nowhere else: it may hold secrets.
func environmentOf(pid int) (map[string]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil, fmt.Errorf("read the instance's environment: %w", err)
	}
	env := map[string]string{}
	for v := range strings.SplitSeq(strings.TrimRight(string(text), "\x00"), "\x00") {
		if k, value, ok := strings.Cut(v, "="); ok {
			env[k] = value
		}
	}
	return env, nil
}

func merge(env, more map[string]string) map[string]string {
	for k, v := range more {
		env[k] = v
	}
	return env
}

// enter starts the command and hears that it has begun.
func (d *Driver) enter(ctx context.Context, what *entry, ends *childEnds) (*exec.Cmd, error) {
	in, err := json.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("say what to run: %w", err)
	}
	telling, told, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the command: %w", err)
	}
	defer told.Close()
	defer telling.Close()
	reports, reporting, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe to the command: %w", err)
	}
	defer reports.Close()
	defer reporting.Close()
	command := &exec.Cmd{
		Path: d.executable, Args: []string{d.executable, "supervise", enterFlag}, Env: []string{"PATH=" + what.Env["PATH"]}, Dir: "/",
		Stdin: ends.stdin, Stdout: ends.stdout, Stderr: ends.stderr, ExtraFiles: []*os.File{telling, reporting},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: what.TTY}, // a session of its own can be ended as one
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.executable, err)
	}
	telling.Close()
	reporting.Close()
	text, written, err := converse(ctx, told, in, reports)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("hear whether the command has begun: %w", err)
	case written != nil && len(text) == 0:
		err = fmt.Errorf("say what to run: %w", written)
	}
	if err == nil && len(text) == 0 {
		return command, nil // the pipe was closed by becoming the command
	}
	var refused entryError
	if err == nil {
		if err = json.Unmarshal(text, &refused); err == nil {
			err = &refused
		}
	}
	_ = command.Process.Kill()
	_ = command.Wait() // it says only that it was killed, or why it ended: that is known
	return nil, err
}

// attend passes on what goes in and out until the command has ended, and returns its code.
func (s *streams) attend(ctx context.Context, command *exec.Cmd, program *process) (int, error) {
	defer s.close()
	within, cancel := context.WithCancelCause(ctx)
	pid := command.Process.Pid
	s.begin(cancel)
	s.all.Go(func() {
		if program.await(within) == nil {
			cancel(errInstanceEnded)
		}
	})
	done := make(chan error, 1)
	s.all.Go(func() { done <- awaitChild(pid) })

	signals, sizes, over := s.r.Signals, s.r.Resize, within.Done()
	var failed error
	for running := true; running; {
		select {
		case failed = <-done:
			running = false
		case <-over:
			over = nil
			_ = unix.Kill(-pid, unix.SIGKILL) // it is our child and not waited for: the number is its own
		case n, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			_ = unix.Kill(-pid, n)
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			s.resize(size)
		}
	}
	why := context.Cause(within)
	s.finish()
	cancel(nil)
	s.all.Wait()
	err := command.Wait()
	switch {
	case failed != nil:
		return -1, failed
	case ctx.Err() != nil:
		return -1, ctx.Err()
	case why != nil && !errors.Is(why, errInstanceEnded):
		return -1, why
	case command.ProcessState == nil:
		return -1, fmt.Errorf("wait for the command: %w", err)
	}
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// errInstanceEnded is why a command ends whose instance has.
var errInstanceEnded = errors.New("the instance has ended")

// awaitChild returns once a child has ended, and leaves it to be waited for: until then its number is no other's.
func awaitChild(pid int) error {
	child, err := openProcess(pid)
	if err != nil {
		return err
	}
	defer child.close()
	return child.await(context.Background())
}

// entryError is why a command did not begin.
type entryError struct {
	Code int
	Text string
}

func (e *entryError) Error() string { return e.Text }

// entry says what is to run where. It travels through a pipe, for the environment's sake.
type entry struct {
	Program identity // of the instance: while it lives, what enters its control groups ends with it
	Cgroups []string
	User    string
	WorkDir string
	Env     map[string]string
	Command []string
	TTY     bool
}

// enterFlag makes a supervisor process a command beside an instance instead.
const enterFlag = "-enter"

// become turns this process into the command. It returns only what keeps it from that.
func become(in io.Reader) *entryError {
	var e entry
	if err := json.NewDecoder(in).Decode(&e); err != nil {
		return &entryError{-1, fmt.Sprintf("read what to run: %v", err)}
	}
	trouble := func(code int, err error) *entryError { return &entryError{code, err.Error()} }
	for _, dir := range e.Cgroups {
		if err := joinGroup(dir); err != nil {
			return trouble(-1, err)
		}
	}
	if now, ok := identify(e.Program.PID); !ok || now != e.Program {
		return trouble(-1, errInstanceEnded)
	}
	if len(e.Command) == 0 {
		return trouble(driver.ExecNotFound, errors.New("there is no command to run"))
	}
	credential, err := credentialOf(e.User)
	if err != nil {
		return trouble(-1, err)
	}
	if err := assume(credential, e.TTY); err != nil {
		return trouble(-1, err)
	}
	if err := os.Chdir(e.WorkDir); err != nil {
		return trouble(driver.ExecNotRunnable, fmt.Errorf("go to the directory to work in: %w", err))
	}
	path, err := lookUp(e.Command[0], e.Env["PATH"], e.WorkDir)
	if err != nil {
		return trouble(driver.ExecNotFound, err)
	}
	env := make([]string, 0, len(e.Env))
	for k, v := range e.Env {
		env = append(env, k+"="+v)
	}
	err = syscall.Exec(path, e.Command, env)
	return trouble(driver.ExecNotRunnable, fmt.Errorf("run %s: %w", e.Command[0], err))
}

// joinGroup puts this whole process into a control group.
func joinGroup(dir string) error {
	f, err := os.OpenFile(dir+"/cgroup.procs", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("enter the instance's control group: %w", err)
	}
	_, err = fmt.Fprint(f, os.Getpid())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("enter the instance's control group: %w", err)
	}
	return nil
}

// assume makes this process the user's, with the terminal it has.
func assume(c *syscall.Credential, tty bool) error {
	if c == nil {
		return nil
	}
	if tty {
		if err := unix.Fchown(0, int(c.Uid), -1); err != nil {
			return fmt.Errorf("give the terminal to the user: %w", err)
		}
	}
	groups := make([]int, len(c.Groups))
	for i, g := range c.Groups {
		groups[i] = int(g)
	}
	err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(int(c.Gid)))
	if err == nil {
		err = syscall.Setuid(int(c.Uid))
	}
	if err != nil {
		return fmt.Errorf("become user %d: %w", c.Uid, err)
	}
	return nil
}

// enterInstance is `cube supervise -enter`.
func enterInstance() int {
	const toldFD, reportFD = 3, 4
	unix.CloseOnExec(toldFD)
	unix.CloseOnExec(reportFD) // its end tells that the command has begun
	reports := os.NewFile(reportFD, "report")
	failed := become(os.NewFile(toldFD, "entry"))
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(failed); err != nil {
		return 1
	}
	_, _ = reports.Write(text.Bytes()) // nobody to tell if nobody hears
	return 1
}
