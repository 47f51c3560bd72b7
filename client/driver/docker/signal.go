package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startPause is the wait before an engine is asked again for the process of a command that it is just starting: it reports
// a start before there is one, and has no event for it.
const startPause = 10 * time.Millisecond

// signal sends a signal to the command and what it has started. To a command that has ended it does nothing.
func (x *execution) signal(n syscall.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), execKillTimeout)
	defer cancel()
	for {
		i, err := x.inspect(ctx)
		switch {
		case gone(err):
			return nil
		case err != nil:
			return fmt.Errorf("the command may go on in the container %.12s: %s", x.container, x.d.reason(err))
		case !i.Running:
			return nil
		case i.Pid > 0:
			if err := signalGroup(i.Pid, x.container, n); err != nil {
				return fmt.Errorf("the command may go on in the container %.12s: %w", x.container, err)
			}
			return nil
		}
		select {
		case <-time.After(startPause):
		case <-ctx.Done():
			return fmt.Errorf("the command may go on in the container %.12s: %w", x.container, ctx.Err())
		}
	}
}

// signalGroup sends a signal to the process group of a container's process, as this machine sees it.
func signalGroup(pid int, container string, n syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return errors.New("its process is not on this machine, or cannot be seen from here")
	}
	if err != nil {
		return fmt.Errorf("open its process: %w", err)
	}
	defer unix.Close(fd)
	// After the process was opened: the group is looked up for that very one, or for none.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(text), container) {
		return errors.New("its process is not on this machine, or cannot be seen from here")
	}
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil { // it is still that one
		return ifNotGone(err)
	}
	if err := unix.Kill(-pid, n); err == nil {
		return nil
	}
	return ifNotGone(unix.PidfdSendSignal(fd, n, nil, 0)) // it leads no group
}

func ifNotGone(err error) error {
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return fmt.Errorf("send its process a signal: %w", err)
}
