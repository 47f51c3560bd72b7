package rawexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver"
)

// List returns the owner's instances; see driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Instance, error) {
	var list []driver.Instance
	err := d.eachRun(func(dir string, s *state) error {
		x, err := d.ending(dir, s)
		if err != nil {
			return err
		}
		list = append(list, driver.Instance{
			Handle: driver.Handle{Key: s.Marks.Key, Data: s.data()}, Job: s.Marks.Job, Task: s.Marks.Task, Version: s.Marks.Version,
			Running: x == nil, StartedAt: s.StartedAt, Exit: x,
		})
		return ctx.Err()
	})
	return list, err
}

// eachRun calls each with the runs of the owner's allocations.
func (d *Driver) eachRun(each func(dir string, s *state) error) error {
	ids, err := d.archive.Allocations()
	if err != nil {
		return err
	}
	for _, id := range ids {
		runs, err := d.runs(id)
		if err != nil {
			return err
		}
		for _, n := range runs {
			home, _ := d.archive.Dir(id)
			dir := runDir(home, n)
			s, err := readState(dir)
			if err != nil {
				// One damaged file must not hide all other instances.
				d.log.Warn("a run is left alone, its files are damaged", "dir", dir, "error", err)
				continue
			}
			if s == nil || s.Marks.Owner != d.owner {
				continue
			}
			if err := each(dir, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// runs returns which runs of an allocation there are, in the order of their restarts.
func (d *Driver) runs(id api.ID) ([]uint32, error) {
	home, ok := d.archive.Dir(id)
	if !ok {
		return nil, nil
	}
	entries, err := os.ReadDir(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for runs: %w", err)
	}
	var all []uint32
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), runPrefix)
		if n, err := strconv.ParseUint(number, 10, 32); ok && err == nil {
			all = append(all, uint32(n))
		}
	}
	slices.Sort(all)
	return all, nil
}

// watcher is one Watch: an epoll instance over the pidfds of supervisors. Only its own goroutine touches it, but for
// news and the deadline of poll, by which it is woken.
type watcher struct {
	d     *Driver
	ended func(driver.Handle, driver.Exit)
	poll  *os.File
	seen  map[driver.Handle]bool // watched, or reported
	alive map[int32]watched      // by the number of the pidfd

	mu   sync.Mutex
	news []driver.Handle // started since it last looked; guarded by mu
}

type watched struct {
	handle     driver.Handle
	dir        string
	supervisor *process
}

// Watch reports the ends of the owner's instances; see driver.Driver.
func (d *Driver) Watch(ctx context.Context, ended func(driver.Handle, driver.Exit)) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch instances: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime's poller waits for it
		return errors.Join(fmt.Errorf("watch instances: %w", err), unix.Close(fd))
	}
	w := &watcher{d: d, ended: ended, poll: os.NewFile(uintptr(fd), "epoll"), seen: map[driver.Handle]bool{}, alive: map[int32]watched{}}
	defer w.close()
	d.mu.Lock()
	d.watchers[w] = true // before it looks for what runs: nothing that starts meanwhile is missed
	d.mu.Unlock()
	err = d.eachRun(func(dir string, s *state) error {
		return w.add(driver.Handle{Key: s.Marks.Key, Data: s.data()}, dir, s)
	})
	for err == nil {
		err = w.step(ctx)
	}
	return err
}

func (w *watcher) close() {
	w.d.mu.Lock()
	delete(w.d.watchers, w)
	w.d.mu.Unlock()
	for _, one := range w.alive {
		one.supervisor.close()
	}
	w.poll.Close()
}

// announce tells who watches that an instance runs.
func (d *Driver) announce(h driver.Handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.watchers {
		w.mu.Lock()
		w.news = append(w.news, h)
		w.mu.Unlock()
		_ = w.poll.SetReadDeadline(time.Unix(1, 0)) // wakes it
	}
}

// step waits for something to happen and sees to it.
func (w *watcher) step(ctx context.Context) error {
	// Lifted before the news are taken: what comes after them sets it again.
	if err := w.poll.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("watch instances: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = w.poll.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w.mu.Lock()
	news := w.news
	w.news = nil
	w.mu.Unlock()
	for _, h := range news {
		if err := w.take(h); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	conn, err := w.poll.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch instances: %w", err)
	}
	events := make([]unix.EpollEvent, 64)
	n := 0
	err = conn.Read(func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), events, 0)
		return n > 0
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("watch instances: %w", err)
	}
	for _, e := range events[:max(n, 0)] {
		if err := w.done(e.Fd); err != nil {
			return err
		}
	}
	return nil
}

// take looks a started instance up.
func (w *watcher) take(h driver.Handle) error {
	home, ok := w.d.archive.Dir(h.Key.Allocation)
	if !ok {
		return nil
	}
	dir := runDir(home, h.Key.Restarts)
	s, err := readState(dir)
	if err != nil || s == nil || s.data() != h.Data {
		return nil // removed again already
	}
	return w.add(h, dir, s)
}

// add begins to watch an instance, and reports it if it has ended.
func (w *watcher) add(h driver.Handle, dir string, s *state) error {
	if w.seen[h] {
		return nil
	}
	w.seen[h] = true
	supervisor, err := w.d.supervisorOf(s)
	if err != nil {
		return err
	}
	if supervisor == nil {
		return w.report(h, dir, s)
	}
	fd, failed := number(supervisor.fd)
	poll, err := number(w.poll)
	if err = errors.Join(failed, err); err == nil {
		err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	if err != nil {
		supervisor.close()
		return fmt.Errorf("watch an instance: %w", err)
	}
	w.alive[int32(fd)] = watched{h, dir, supervisor}
	return nil
}

// done sees to an instance whose supervisor has ended.
func (w *watcher) done(fd int32) error {
	one, ok := w.alive[fd]
	if !ok {
		return nil
	}
	delete(w.alive, fd)
	one.supervisor.reap()
	one.supervisor.close() // which takes it out of the epoll instance
	s, err := readState(one.dir)
	if err != nil || s == nil {
		return nil // removed already
	}
	return w.report(one.handle, one.dir, s)
}

func (w *watcher) report(h driver.Handle, dir string, s *state) error {
	x, err := w.d.ending(dir, s)
	if err != nil {
		// What cannot be read of one must not end the watch over all. A new agent tries again.
		w.d.log.Warn("how an instance ended is not to be read", "dir", filepath.Base(dir), "error", err)
		x = &driver.Exit{Code: -1, Message: "how it ended is not to be read: " + err.Error(), FinishedAt: time.Now()}
	}
	if x != nil {
		w.ended(h, *x)
	}
	return nil
}
