package rawexec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube/client/driver"
	"cube/client/driver/cgroup"
	"cube/client/driver/transcript"
)

const (
	// reportFD is where a supervisor says how the start went.
	reportFD = 3
	// drainTimeout is how long the output is read on after the program and its descendants have ended. It only matters
	// for a descendant that escaped and holds the pipe open.
	drainTimeout = time.Second
	// abort is the signal that makes a supervisor end its program at once. It does not heed those that end agents: a
	// supervisor is to outlive its agent.
	abort = syscall.SIGUSR1
)

// Supervise is the hidden command `cube supervise DIRECTORY`: it runs one program until its end and writes down what
// became of it. The driver starts it; the number is the exit code. It must be called by a process that does nothing
// else, and takes over its signals and children.
//
// `cube supervise -enter` becomes a command beside a program that runs; Exec starts it.
func Supervise(args []string) int {
	if len(args) == 1 && args[0] == enterFlag {
		return enterInstance()
	}
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "supervise: want one directory; this command is for Cube's own use")
		return 2
	}
	// The program is told to die with the thread that started it, and begins in that thread's control group.
	runtime.LockOSThread()
	// Notified, not ignored: what is ignored stays so in the program. Those of agents and terminals go unread.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, abort, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	unix.CloseOnExec(reportFD) // the driver reads until it is closed: the program must not hold it
	reports := os.NewFile(reportFD, "report")
	s, err := newSupervisor(args[0], os.Stdin)
	if err == nil {
		defer s.dir.Close()
		err = s.start(signals)
	}
	answer := report{}
	if err != nil {
		var failed *driver.StartError
		answer.Error, answer.Permanent = err.Error(), errors.As(err, &failed) && failed.Permanent
	} else {
		answer.State = s.state
	}
	reported := json.NewEncoder(reports).Encode(answer)
	reports.Close()
	if err != nil {
		return 1
	}
	if reported != nil {
		fmt.Fprintln(os.Stderr, "supervise: ending the program, nobody hears that it runs:", reported)
		signals <- abort
	}
	if err := s.finish(); err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		return 1
	}
	return 0
}

// supervisor runs one program. Its methods are called by one goroutine, on one thread.
type supervisor struct {
	dir     *os.Root // stays the run's directory whatever happens to its name
	spec    spec
	group   group
	output  *transcript.Writer
	state   state
	pipes   [2]*os.File // the reading ends
	readers sync.WaitGroup
}

func newSupervisor(dir string, in io.Reader) (*supervisor, error) {
	// Whoever adopts orphans can end a whole tree of processes, also where there are no control groups.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the run's directory: %w", err)
	}
	s := &supervisor{dir: root}
	if err := json.NewDecoder(in).Decode(&s.spec); err != nil {
		return nil, errors.Join(fmt.Errorf("read what to run: %w", err), root.Close())
	}
	return s, nil
}

// start starts the program. When it fails, nothing is left running.
func (s *supervisor) start(signals <-chan os.Signal) error {
	var err error
	if s.output, err = transcript.NewWriter(s.dir, s.spec.LogSize, s.spec.Logs); err != nil {
		return err
	}
	if s.group, err = newGroup(cgroup.Root, s.spec.Name, &s.spec); err != nil {
		fmt.Fprintln(os.Stderr, "supervise: the program runs with no limits of its own:", err)
	}
	pid, err := s.launch()
	if err != nil {
		s.group.remove()
		return err
	}
	boot, err := bootID()
	program, ok := identify(pid)
	itself, _ := identify(os.Getpid())
	var running *process
	if !ok {
		program = identity{PID: pid} // it has ended already: nobody will find it, nor need to
	} else if err == nil {
		running, err = program.open()
	}
	s.state = state{
		Marks: s.spec.Marks, Boot: boot, Supervisor: itself, Program: program,
		Cgroups: s.group.dirs, User: s.spec.User, WorkDir: s.spec.WorkDir, StartedAt: time.Now().Round(0),
	}
	if err == nil {
		err = writeJSON(s.dir, stateFile, &s.state)
	}
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL) // our own child, not reaped: it is there
		s.reap(pid)
		return err
	}
	if running != nil {
		go heed(signals, running)
	}
	return nil
}

// heed ends the program when the driver says so. It ends with the process: there is nothing to hand over.
func heed(signals <-chan os.Signal, program *process) {
	for got := range signals {
		if got != abort {
			continue
		}
		if err := program.signal(syscall.SIGKILL); err != nil {
			fmt.Fprintln(os.Stderr, "supervise: end the program:", err)
		}
	}
}

// launch starts the program with its output in pipes that are read from now on.
func (s *supervisor) launch() (pid int, err error) {
	command, err := s.command()
	if err != nil {
		return 0, &driver.StartError{Permanent: true, Err: err}
	}
	var ends [2]*os.File
	for i := range ends {
		if s.pipes[i], ends[i], err = os.Pipe(); err != nil {
			return 0, fmt.Errorf("make a pipe for the output: %w", err)
		}
		defer ends[i].Close()
	}
	command.Stdout, command.Stderr = ends[0], ends[1]

	leave, err := s.group.enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "supervise: the program runs with no limits of its own:", err)
		leave = func() error { return nil }
	}
	opened, err := s.group.attributes(command.SysProcAttr)
	if err == nil {
		err = command.Start()
		opened()
	}
	if left := leave(); left != nil {
		fmt.Fprintln(os.Stderr, "supervise:", left)
	}
	if err != nil {
		// The path was looked up: what is wrong now is the file, the directory or the user.
		permanent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC)
		return 0, &driver.StartError{Permanent: permanent, Err: fmt.Errorf("start %s: %w", s.spec.Command, err)}
	}
	for i, stream := range []transcript.Stream{transcript.Stdout, transcript.Stderr} {
		s.readers.Go(func() { s.copy(stream, s.pipes[i]) })
	}
	pid = command.Process.Pid
	return pid, command.Process.Release() // reaped by reap, with all other children
}

func (s *supervisor) command() (*exec.Cmd, error) {
	path, err := lookUp(s.spec.Command, s.spec.Env["PATH"], s.spec.WorkDir)
	if err != nil {
		return nil, err
	}
	credential, err := credentialOf(s.spec.User)
	if err != nil {
		return nil, err
	}
	env := make([]string, 0, len(s.spec.Env))
	for k, v := range s.spec.Env {
		env = append(env, k+"="+v)
	}
	return &exec.Cmd{
		Path: path, Args: append([]string{s.spec.Command}, s.spec.Args...), Env: env, Dir: s.spec.WorkDir,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: credential},
	}, nil
}

// lookUp finds the program as a shell would, but in the task's PATH and directory.
func lookUp(command, path, dir string) (string, error) {
	if command == "" {
		return "", errors.New("the task has no command")
	}
	if strings.Contains(command, "/") {
		if !filepath.IsAbs(command) {
			command = filepath.Join(dir, command)
		}
		if _, err := os.Stat(command); err != nil {
			return "", fmt.Errorf("find the command: %w", err)
		}
		return command, nil
	}
	for d := range strings.SplitSeq(path, ":") {
		if d == "" {
			continue
		}
		candidate := filepath.Join(d, command)
		if i, err := os.Stat(candidate); err == nil && !i.IsDir() && i.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("find the command: %s is in no directory of the PATH %s", command, path)
}

// copy keeps what the program prints. Where it cannot be written, on a full disk, it is lost: the program goes on.
func (s *supervisor) copy(stream transcript.Stream, from *os.File) {
	lost := false
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		if n > 0 {
			if err := s.output.Write(stream, buffer[:n]); err != nil && !lost {
				fmt.Fprintln(os.Stderr, "supervise: output is lost:", err)
				lost = true
			}
		}
		if err != nil {
			return
		}
	}
}

// finish waits for the end of the program and of everything it started, and writes down how it ended.
func (s *supervisor) finish() error {
	status := s.reap(s.state.Program.PID)
	x := driver.Exit{Code: status.ExitStatus(), FinishedAt: time.Now().Round(0)}
	if status.Signaled() {
		x.Signal = int(status.Signal())
		x.Code = 128 + x.Signal // as shells and Docker say it
	}
	x.OOM = x.Signal == int(syscall.SIGKILL) && s.group.outOfMemory()
	s.group.remove()

	for _, p := range s.pipes {
		if err := p.SetReadDeadline(time.Now().Add(drainTimeout)); err != nil {
			return fmt.Errorf("read the rest of the output: %w", err)
		}
	}
	s.readers.Wait()
	if err := s.output.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "supervise: close the output:", err)
	}
	return writeJSON(s.dir, exitFile, &x)
}

// reap waits for the program, then kills and waits for what is left of its descendants: orphans are children of ours.
func (s *supervisor) reap(program int) (status unix.WaitStatus) {
	for ended := false; ; {
		if ended {
			s.group.kill()
			for _, pid := range children() {
				_ = unix.Kill(pid, unix.SIGKILL) // a child's PID is not used again before it is waited for
			}
		}
		var one unix.WaitStatus
		pid, err := unix.Wait4(-1, &one, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			return status
		}
		if pid == program {
			status, ended = one, true
		}
	}
}

// children returns the PIDs of this process's children.
func children() []int {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var all []int
	for _, t := range threads {
		text, err := os.ReadFile(filepath.Join("/proc/self/task", t.Name(), "children"))
		if err != nil {
			continue // a thread that has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}
