package rawexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver/transcript"
)

// Logs streams an allocation's output; see driver.Driver. Following ends with the run that is the newest when it begins.
func (d *Driver) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	home, ok := d.archive.Dir(allocation)
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "allocation %s has no output here", d.text.Format(allocation))
	}
	runs, err := d.runs(allocation)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	read, write := io.Pipe()
	l := &logs{PipeReader: read, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		write.CloseWithError(d.writeLogs(ctx, write, allocation, home, runs, r))
	}()
	return l, nil
}

// logs is the reading end. Its goroutine ends with it.
type logs struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

func (l *logs) Close() error {
	l.cancel()
	err := l.PipeReader.Close()
	<-l.done
	return err
}

func (d *Driver) writeLogs(ctx context.Context, w io.Writer, allocation api.ID, home string, runs []uint32, r api.LogRequest) error {
	if r.Part != "" {
		return api.Errorf(api.CodeNotFound, "allocation %s has no part %.80s: the raw_exec driver knows none", d.text.Format(allocation), r.Part)
	}
	answer := transcript.NewAnswer(w, r)
	if err := d.archive.AnswerKept(allocation, "", answer); err != nil {
		return err
	}
	for i, n := range runs {
		dir := runDir(home, n)
		output := transcript.OpenOutput(dir)
		defer output.Close()
		if err := output.Each(answer.Add); err != nil {
			return err
		}
		if i == len(runs)-1 && r.Follow {
			if err := answer.EndPast(); err != nil {
				return err
			}
			if err := d.follow(ctx, dir, output, answer.Add); err != nil {
				return err
			}
		}
		if err := answer.EndRun(); err != nil {
			return err
		}
	}
	return answer.EndPast()
}

// follow passes on what comes until the run has ended.
func (d *Driver) follow(ctx context.Context, dir string, output *transcript.Output, each func(transcript.Record) error) error {
	changes, err := watchDir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil // removed
	}
	if err != nil {
		return err
	}
	defer changes.Close()
	for {
		// In this order nothing is missed: what is printed comes before the end that is written.
		ended := true
		if s, err := readState(dir); err == nil && s != nil {
			x, err := d.ending(dir, s)
			if err != nil {
				return err
			}
			ended = x != nil
		}
		if err := output.Each(each); err != nil || ended {
			return err
		}
		if err := awaitReadable(ctx, changes, func(fd int) bool { return drainEvents(fd) }); err != nil {
			return err
		}
	}
}

// watchDir makes an inotify instance that is readable when something in the directory has changed.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch output: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		return nil, errors.Join(fmt.Errorf("watch output in %s: %w", dir, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// drainEvents takes all pending events and reports whether there were any.
func drainEvents(fd int) bool {
	any := false
	for buffer := make([]byte, 4096); ; any = true {
		if n, err := unix.Read(fd, buffer); n <= 0 || err != nil {
			return any
		}
	}
}
