package rawexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// identity names a process so that no other one is ever taken for it: PIDs are used again, a PID with the time its
// process started is not until the machine starts anew, and the boot ID tells that.
type identity struct {
	PID   int
	Start uint64 // in clock ticks since the machine started, field 22 of /proc/PID/stat
}

// bootID tells one start of the machine from another.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the machine's boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// look reads when a process started and whether it is a zombie: ended, but not waited for by its parent.
func look(pid int) (i identity, zombie, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, false, false
	}
	// The second field is the name in parentheses, which may hold anything; the third is the state.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return identity{}, false, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return identity{PID: pid, Start: start}, fields[0] == "Z" || fields[0] == "X", err == nil
}

// identify looks a live process up. ok is false for one that has ended.
func identify(pid int) (i identity, ok bool) {
	i, zombie, ok := look(pid)
	return i, ok && !zombie
}

// process is a live process that is certainly the one that was meant.
type process struct {
	fd *os.File // a pidfd: readable once the process has ended
}

// open opens the process, nil if it has ended.
func (i identity) open() (*process, error) {
	p, err := openProcess(i.PID)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// In this order the descriptor is the process that has this start time, or there is none.
	if now, ok := identify(i.PID); !ok || now != i {
		p.close()
		return nil, nil
	}
	return p, nil
}

// openProcess opens whatever process has the number now, also one that has ended and was not waited for.
func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err != nil { // so that waiting takes no thread
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &process{fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// signal sends it. To a process that has ended meanwhile it does nothing.
func (p *process) signal(s syscall.Signal) error {
	fd, err := number(p.fd)
	if err == nil {
		err = unix.PidfdSendSignal(fd, s, nil, 0)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v: %w", s, err)
	}
	return nil
}

// wait returns nil once the process has ended, or ctx's error, and lets it go if it is a child of ours.
func (p *process) wait(ctx context.Context) error {
	err := p.await(ctx)
	if err == nil {
		p.reap()
	}
	return err
}

// await returns nil once the process has ended, or ctx's error.
func (p *process) await(ctx context.Context) error {
	return awaitReadable(ctx, p.fd, func(fd int) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// reap lets an ended process go if it is a child of ours.
func (p *process) reap() {
	if fd, err := number(p.fd); err == nil {
		// It fails for a process that is not our child: its parent does it then.
		_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	}
}

// reapZombie lets the process go if it has ended and is a child of ours. To all others it does nothing.
func (i identity) reapZombie() {
	fd, err := unix.PidfdOpen(i.PID, 0)
	if err != nil {
		return
	}
	if now, zombie, ok := look(i.PID); ok && zombie && now == i {
		_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	}
	unix.Close(fd)
}

func (p *process) close() { p.fd.Close() }

// awaitReadable waits in the runtime's poller until ready says so or ctx is done.
func awaitReadable(ctx context.Context, f *os.File, ready func(fd int) bool) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { return ready(int(fd)) })
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return nil
}

// number is the file's descriptor. File.Fd would take the file away from the runtime's poller.
func number(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	err = conn.Control(func(fd uintptr) { n = int(fd) })
	return n, err
}
