package rawexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube/client/driver"
	"cube/client/driver/transcript"
)

// killTimeout is how long the processes of an instance may take to die of SIGKILL: they can be stuck in the kernel.
const killTimeout = 15 * time.Second

// Stop sends the signal to the program and kills it, with all that it started, after the timeout; see driver.Driver. It
// takes no lane: a second, less patient stop must get through.
func (d *Driver) Stop(ctx context.Context, h driver.Handle, signal string, timeout time.Duration) error {
	number := unix.SignalNum(signal)
	if number == 0 {
		return fmt.Errorf("stop: there is no signal %s", signal)
	}
	s, err := parseData(h.Data)
	if err != nil {
		return err
	}
	supervisor, err := d.supervisorOf(&s)
	if supervisor == nil {
		return err
	}
	defer supervisor.close()
	program, err := s.Program.open()
	if err != nil {
		return err
	}
	if program == nil { // it has ended, and its supervisor is about to
		return d.awaitEnd(ctx, supervisor, killTimeout)
	}
	defer program.close()
	if err := program.signal(number); err != nil {
		return err
	}
	if err := d.awaitEnd(ctx, supervisor, timeout); !errors.Is(err, errStillRuns) {
		return err
	}
	if err := program.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return d.awaitEnd(ctx, supervisor, killTimeout)
}

// errStillRuns is the answer when the time is up.
var errStillRuns = errors.New("the instance still runs")

// awaitEnd returns nil once the supervisor has ended: it does so last.
func (d *Driver) awaitEnd(ctx context.Context, supervisor *process, timeout time.Duration) error {
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := supervisor.wait(within)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for the instance's end: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return errStillRuns
	}
	return err
}

// supervisorOf opens the run's supervisor, nil if it has ended.
func (d *Driver) supervisorOf(s *state) (*process, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if boot != s.Boot {
		return nil, nil
	}
	p, err := s.Supervisor.open()
	if p == nil {
		s.Supervisor.reapZombie()
	}
	return p, err
}

// Remove keeps the tail of an ended instance's output and deletes its files; see driver.Driver.
func (d *Driver) Remove(ctx context.Context, h driver.Handle) error {
	leave, err := d.lanes.Enter(ctx, h.Key)
	if err != nil {
		return err
	}
	defer leave()
	home, ok := d.archive.Dir(h.Key.Allocation)
	if !ok {
		return nil
	}
	dir := runDir(home, h.Key.Restarts)
	s, err := readState(dir)
	if err != nil || s == nil || s.data() != h.Data {
		return err
	}
	x, err := d.ending(dir, s)
	if err != nil {
		return err
	}
	if x == nil {
		return fmt.Errorf("remove an instance that still runs (process %d): stop it first", s.Program.PID)
	}
	group{dirs: s.Cgroups}.remove()
	tail := transcript.LastBytes(transcript.KeepBytes)
	output := transcript.OpenOutput(dir)
	defer output.Close()
	err = output.Each(func(r transcript.Record) error { tail.Add(r); return nil })
	if err == nil {
		err = d.archive.Keep(h.Key, tail)
	}
	if err != nil {
		// Output that cannot be read must not keep an instance for ever.
		d.log.Warn("the last output of an instance is lost", "dir", dir, "error", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete the run's directory: %w", err)
	}
	return nil
}

// ending returns how a run ended, nil while it runs. Where its supervisor ended without writing that down, it is done
// here.
func (d *Driver) ending(dir string, s *state) (*driver.Exit, error) {
	x, err := readExit(dir)
	if x != nil || err != nil {
		return x, err
	}
	supervisor, err := d.supervisorOf(s)
	if err != nil {
		return nil, err
	}
	if supervisor != nil {
		supervisor.close()
		return nil, nil
	}
	if x, err = readExit(dir); x != nil || err != nil { // it may have come between the two looks
		return x, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	x = &driver.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), Message: "its supervisor was killed", FinishedAt: time.Now().Round(0)}
	if boot == s.Boot {
		// The program was told to die with its supervisor; what it had started was not.
		left := group{dirs: s.Cgroups}
		left.kill()
		left.remove() // or Remove does it, when they have had the time to die
	} else {
		x.Message = "the machine was started anew"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the run's directory: %w", err)
	}
	defer root.Close()
	return x, writeJSON(root, exitFile, x)
}
