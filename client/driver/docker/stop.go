package docker

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"cube/client/driver"
)

// killTimeout is how long a container may take to die of SIGKILL: its processes can be stuck in the kernel.
const killTimeout = 15 * time.Second

// Stop asks the container to end, and kills it after the timeout; see driver.Driver. It takes no lane: a second, less
// patient stop must get through.
func (d *Driver) Stop(ctx context.Context, h driver.Handle, signal string, timeout time.Duration) error {
	if err := d.meet(ctx); err != nil {
		return err
	}
	if err := d.kill(ctx, h.Data, signal); err != nil {
		return ended(err)
	}
	polite, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := d.await(polite, h.Data, container.WaitConditionNotRunning)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err := d.kill(ctx, h.Data, "SIGKILL"); err != nil {
		return ended(err)
	}
	final, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := d.await(final, h.Data, container.WaitConditionNotRunning); err != nil {
		return fmt.Errorf("the container %.12s does not die: %w", h.Data, err)
	}
	return nil
}

// errEnded is the engine's word for a signal to what does not run.
var errEnded = errors.New("it has ended already")

func (d *Driver) kill(ctx context.Context, id, signal string) error {
	ctx, cancel := d.within(ctx)
	defer cancel()
	err := d.engine.ContainerKill(ctx, id, signal)
	if gone(err) || errdefs.IsConflict(err) {
		return errEnded
	}
	if err != nil {
		return fmt.Errorf("send %s to the container %.12s: %w", signal, id, err)
	}
	return nil
}

func ended(err error) error {
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// await returns nil when the container is in the condition or gone, and otherwise why it stopped waiting.
func (d *Driver) await(ctx context.Context, id string, condition container.WaitCondition) error {
	stream, begun, cancel := d.beginning(ctx)
	defer cancel()
	results, errs := d.engine.ContainerWait(stream, id, condition)
	begun()
	select {
	case r := <-results:
		if r.Error != nil {
			return fmt.Errorf("wait for the container %.12s: %s", id, r.Error.Message)
		}
		return nil
	case err := <-errs:
		if gone(err) {
			return nil
		}
		if stream.Err() != nil {
			err = context.Cause(stream)
		}
		return fmt.Errorf("wait for the container %.12s: %w", id, err)
	case <-ctx.Done():
		cancel()
		select { // one of the two comes, and must be taken for the client's goroutine to end
		case <-results:
		case <-errs:
		}
		return fmt.Errorf("wait for the container %.12s: %w", id, ctx.Err())
	}
}

// Remove keeps the tail of the container's output and removes it; see driver.Driver.
func (d *Driver) Remove(ctx context.Context, h driver.Handle) error {
	leave, err := d.lanes.Enter(ctx, h.Key)
	if err != nil {
		return err
	}
	defer leave()
	if err := d.meet(ctx); err != nil {
		return err
	}
	if err := d.keep(ctx, h); err != nil && !gone(err) {
		// Output that cannot be read must not keep a container for ever.
		d.log.Warn("the last output of a container is lost", "container", d.name(h.Key), "error", err)
	}
	return d.clear(ctx, h.Data, false)
}

// How long before and after a container's end the kernel's word may come that it had no memory left. What came long before was of a
// program that the main one survived.
const (
	oomEarly = time.Second
	oomLate  = 200 * time.Millisecond
)

// hearOOM has a state say that its container was killed for want of memory, if the engine has heard of that. It hears of the want and of
// the end side by side, and its own state tells of the want only if that came first.
func (d *Driver) hearOOM(ctx context.Context, id string, s *container.State) {
	if !hasEnded(s) || s.OOMKilled || s.ExitCode != 128+int(syscall.SIGKILL) {
		return
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	messages, errs := d.engine.Events(ctx, events.ListOptions{
		Since:   instant(s.FinishedAt).Add(-oomEarly).Format(time.RFC3339Nano),
		Until:   time.Now().Add(oomLate).Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("container", id), filters.Arg("event", string(events.ActionOOM))),
	})
	select {
	case <-messages:
		s.OOMKilled = true
	case <-errs: // there was none, or nobody knows
	}
}

// exitOf is how the container ended. Docker tells a death by signal as a shell does, by 128 and the signal's number: a
// program that ends with such a code by itself cannot be told from one that a signal ended. One killed for want of memory
// while its start was still under way counts as killed only: the engine does not learn more.
func exitOf(s *container.State) driver.Exit {
	x := driver.Exit{Code: s.ExitCode, OOM: s.OOMKilled, Message: s.Error, FinishedAt: instant(s.FinishedAt)}
	if n := s.ExitCode - 128; n > 0 && n < 65 {
		x.Signal = n
	}
	if x.OOM && x.Signal == 0 && x.Code == 0 {
		x.Signal = int(syscall.SIGKILL)
	}
	return x
}
