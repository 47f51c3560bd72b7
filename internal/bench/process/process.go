// Package process starts the processes that a scenario measures, reads what the kernel counts of them, and makes sure that
// none outlives the scenario, however it ends.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Process is a child that was started here. Its methods are not safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{} // closed when it has been waited for
	err   error         // how it ended; read after ended is closed
}

// Start starts a program whose output is appended to the file at logPath. Its standard input is stdin, which may be nil.
// Its standard output goes to the log too unless prepare, which may be nil, puts it elsewhere. The child gets SIGKILL when
// this process ends in whatever way.
func Start(program string, args []string, logPath string, prepare func(*exec.Cmd)) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", program, err)
	}
	p := &Process{cmd: exec.Command(program, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// The signal comes when the thread that started the child ends. Go ends a thread only with a goroutine that is locked
	// to it, and nothing here locks one: so it comes with the end of the process. A group of its own keeps Ctrl-C, which
	// a terminal sends to all, from ending the child before it has been measured and closed in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if prepare != nil {
		prepare(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), log.Close())
	}
	go func() { // ends with the child
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// PID is the kernel's number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended and Err says how.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err says how the process ended, with the end of its log. Call it after Ended is closed.
func (p *Process) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s (process %d) ended: %w; the end of its log, %s:\n%s", p.cmd.Path, p.PID(), p.err, p.log.Name(), Tail(p.log.Name()))
}

// Tail is the last 4 KiB of a log file, "" if it cannot be read.
func Tail(path string) string {
	const most = 4 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-most):])
}

// Kill ends the process as a power cut would, and waits until it is gone.
func (p *Process) Kill() error {
	err := p.cmd.Process.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.ended // SIGKILL is not refused
	return errors.Join(err, p.log.Close())
}

// Stop asks the process to end, and kills it when ctx is done before it has. It returns how the process ended.
func (p *Process) Stop(ctx context.Context) error {
	err := p.cmd.Process.Signal(os.Interrupt)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.Kill())
	}
	select {
	case <-p.ended:
		return errors.Join(p.Err(), p.log.Close())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("process %d did not end in time: %w", p.PID(), ctx.Err()), p.Kill())
	}
}
