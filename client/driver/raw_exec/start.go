package rawexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"cube/api"
	"cube/client/driver"
)

const (
	// startTimeout is how long a supervisor may take to start a program. It takes milliseconds on an idle machine.
	startTimeout = 30 * time.Second
	// abortTimeout is how long a supervisor may take to end what it started.
	abortTimeout = 10 * time.Second
)

// defaultPath is where commands are looked for when neither the task nor the agent has a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// inherited are the variables that a program has of the agent's environment. The rest is the agent's own affair and may
// hold secrets.
var inherited = [...]string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}

// Start starts a supervisor, which starts the program; see driver.Driver.
func (d *Driver) Start(ctx context.Context, c *driver.Config, _ driver.Progress) (driver.Handle, time.Time, error) {
	leave, err := d.lanes.Enter(ctx, c.Key)
	if err != nil {
		return driver.Handle{}, time.Time{}, err
	}
	defer leave()
	if err := ctx.Err(); err != nil {
		return driver.Handle{}, time.Time{}, fmt.Errorf("start %s: %w", c.Command, err)
	}
	s, err := d.start(ctx, c)
	if err != nil {
		return driver.Handle{}, time.Time{}, err
	}
	h := driver.Handle{Key: c.Key, Data: s.data()}
	d.announce(h)
	return h, s.StartedAt, nil
}

func (d *Driver) start(ctx context.Context, c *driver.Config) (*state, error) {
	if c.Key.Part != "" { // a task file that asks for it is refused before
		return nil, startError(true, fmt.Errorf("the %s driver has no containers, so there is nothing that %q can be beside", Name, c.Key.Part))
	}
	if err := d.archive.Place(c.Key.Allocation, c.Dir); err != nil {
		return nil, startError(false, err)
	}
	dir := runDir(c.Dir, c.Key.Restarts)
	have, err := readState(dir)
	if err != nil {
		d.log.Warn("replacing a run whose files are damaged", "dir", dir, "error", err)
	}
	if have != nil && have.Marks == marksOf(c) {
		return have, nil
	}
	if have != nil {
		d.log.Info("replacing a run whose marks do not agree", "dir", dir)
		if err := d.Stop(ctx, driver.Handle{Key: c.Key, Data: have.data()}, "SIGKILL", 0); err != nil {
			return nil, startError(false, fmt.Errorf("end the instance that is there: %w", err))
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, startError(false, fmt.Errorf("clear the run's directory: %w", err))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, startError(false, fmt.Errorf("make the run's directory: %w", err))
	}
	made, err := d.spawn(ctx, dir, c)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return made, nil
}

// specOf says what a supervisor is to run.
func (d *Driver) specOf(c *driver.Config) (*spec, error) {
	env := map[string]string{"PATH": defaultPath}
	for _, k := range inherited {
		if v, ok := os.LookupEnv(k); ok {
			env[k] = v
		}
	}
	dir := c.WorkDir
	if dir != "" && !isDir(dir) {
		return nil, fmt.Errorf("work_dir %s is not a directory of this machine", dir)
	}
	if c.User != "" {
		who, _, _ := bytes.Cut([]byte(c.User), []byte(":"))
		u, err := lookUpUser(string(who))
		if err != nil {
			return nil, err
		}
		home := u.HomeDir
		if !isDir(home) {
			home = "/" // as a login has it: many a service's user, such as nobody, has a home in name only
		}
		env["HOME"], env["USER"], env["LOGNAME"] = home, u.Username, u.Username
		if dir == "" {
			dir = home // the allocation's directory is not another user's to enter
		}
	}
	for k, v := range c.Env {
		env[k] = v
	}
	if dir == "" {
		dir = filepath.Join(c.Dir, "work")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory to work in: %w", err)
		}
	}
	return &spec{
		Marks: marksOf(c), Name: fmt.Sprintf("%s-%d", d.text.Format(c.Key.Allocation), c.Key.Restarts),
		Command: c.Command, Args: c.Args, Env: env, User: c.User, WorkDir: dir,
		CPU: c.Held.CPU, Memory: c.Held.Memory, LogSize: d.logSize, Logs: logFiles,
	}, nil
}

// isDir is false only where there surely is no directory: one that the agent may not look at may be the user's own.
func isDir(path string) bool {
	i, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
	}
	return i.IsDir()
}

// spawn starts a supervisor and hears how it went. When it fails, the supervisor has ended.
func (d *Driver) spawn(ctx context.Context, dir string, c *driver.Config) (*state, error) {
	what, err := d.specOf(c)
	if err != nil {
		return nil, startError(true, err)
	}
	in, err := json.Marshal(what)
	if err != nil {
		return nil, startError(false, fmt.Errorf("tell the supervisor what to run: %w", err))
	}
	said, err := os.OpenFile(filepath.Join(dir, errorFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, startError(false, fmt.Errorf("make the supervisor's log: %w", err))
	}
	defer said.Close()
	reports, reporting, err := os.Pipe()
	if err != nil {
		return nil, startError(false, fmt.Errorf("make a pipe to the supervisor: %w", err))
	}
	defer reports.Close()
	telling, told, err := os.Pipe()
	if err != nil {
		reporting.Close()
		return nil, startError(false, fmt.Errorf("make a pipe to the supervisor: %w", err))
	}
	defer told.Close()
	command := &exec.Cmd{
		Path: d.executable, Args: []string{d.executable, "supervise", dir}, Env: []string{"PATH=" + what.Env["PATH"]},
		Dir: "/", Stdin: telling, Stderr: said, ExtraFiles: []*os.File{reporting}, // ExtraFiles begin at reportFD
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // what ends the agent's session does not end it
	}
	err = command.Start()
	reporting.Close()
	telling.Close()
	if err != nil {
		return nil, startError(false, fmt.Errorf("start the supervisor %s: %w", d.executable, err))
	}
	answer, err := d.hear(ctx, told, in, reports)
	if err == nil && answer.Error == "" {
		return &answer.State, command.Process.Release() // reaped when its end is seen
	}
	if err != nil {
		reports.Close() // a supervisor that nobody hears ends what it started
		d.abandon(command.Process)
		if text, _ := os.ReadFile(filepath.Join(dir, errorFile)); len(text) > 0 && ctx.Err() == nil {
			err = fmt.Errorf("%w: it said %q", err, lastLine(text))
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start %s: %w", c.Command, ctx.Err())
		}
		return nil, startError(false, err)
	}
	_, _ = command.Process.Wait() // it has said why it ends
	return nil, startError(answer.Permanent, errors.New(answer.Error))
}

// converse writes in to a process that was just started, closes told, and returns all that the process says until it
// closes its end: within startTimeout, and no longer than ctx. written is what became of the writing.
func converse(ctx context.Context, told *os.File, in []byte, reports *os.File) (text []byte, written, err error) {
	until := time.Now().Add(startTimeout)
	if err := errors.Join(told.SetWriteDeadline(until), reports.SetReadDeadline(until)); err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = told.SetWriteDeadline(time.Unix(1, 0))
		_ = reports.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	_, written = told.Write(in)
	told.Close()
	text, err = io.ReadAll(reports)
	return text, written, err
}

// hear tells the supervisor what to run and reads its answer.
func (d *Driver) hear(ctx context.Context, told *os.File, in []byte, reports *os.File) (answer report, err error) {
	// An error in writing is explained by what the supervisor says, if it says anything.
	text, written, err := converse(ctx, told, in, reports)
	if err != nil {
		return answer, fmt.Errorf("hear from the supervisor: %w", err)
	}
	if len(text) == 0 {
		return answer, errors.Join(errors.New("the supervisor ended without a word"), written)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("hear from the supervisor: %w", err)
	}
	return answer, nil
}

// abandon ends a supervisor whose start is not wanted any more, and with it what it may have started.
func (d *Driver) abandon(p *os.Process) {
	_ = p.Signal(abort)
	hurry := time.AfterFunc(abortTimeout, func() { _ = p.Kill() })
	defer hurry.Stop()
	if _, err := p.Wait(); err != nil && !errors.Is(err, syscall.ECHILD) {
		d.log.Warn("a supervisor is left behind", "pid", p.Pid, "error", err)
	}
}

func startError(permanent bool, err error) error {
	return &driver.StartError{Failure: api.FailureStart, Permanent: permanent, Err: err}
}

func lastLine(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(lines[len(lines)-1])
}
