package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/transcript"
)

// keepLines bounds how far back a container's output is read before its removal: the engine counts lines, not bytes.
const keepLines = 10000

// Logs streams an allocation's output; see driver.Driver. Following ends with the container that is the newest when it
// begins.
func (d *Driver) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	if err := d.meet(ctx); err != nil {
		return nil, err
	}
	containers, err := d.runs(ctx, allocation)
	if err != nil {
		return nil, err
	}
	if _, ok := d.archive.Dir(allocation); !ok && len(containers) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "allocation %s has no output here", d.text.Format(allocation))
	}
	ctx, cancel := context.WithCancel(ctx)
	read, write := io.Pipe()
	l := &logs{PipeReader: read, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		write.CloseWithError(d.writeLogs(ctx, write, allocation, containers, r))
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

// runs returns the allocation's containers, in the order of their restarts.
func (d *Driver) runs(ctx context.Context, allocation api.ID) ([]container.Summary, error) {
	all, err := d.list(ctx, filters.Arg("label", labelAlloc+"="+d.text.Format(allocation)))
	if err != nil {
		return nil, err
	}
	restarts := func(s container.Summary) int64 {
		n, err := strconv.ParseInt(s.Labels[labelRestarts], 10, 64)
		if err != nil {
			return math.MaxInt64
		}
		return n
	}
	slices.SortFunc(all, func(a, b container.Summary) int { return int(restarts(a) - restarts(b)) })
	return all, nil
}

func (d *Driver) writeLogs(ctx context.Context, w io.Writer, allocation api.ID, containers []container.Summary, r api.LogRequest) error {
	tail, add := transcript.Lines(r)
	if err := d.archive.EachKept(allocation, add); err != nil {
		return err
	}
	var last time.Time // of the newest container's latest line
	for _, s := range containers {
		var err error
		if last, err = d.history(ctx, s.ID, r, add); err != nil && !gone(err) {
			return fmt.Errorf("read the output of the container %.12s: %w", s.ID, err)
		}
	}
	for _, record := range tail.Records() {
		if _, err := w.Write(record.Text); err != nil {
			return err
		}
	}
	if !r.Follow || len(containers) == 0 {
		return nil
	}
	newest := containers[len(containers)-1].ID
	err := d.read(ctx, newest, container.LogsOptions{Follow: true, Tail: "all", Since: since(last)}, func(at time.Time, record transcript.Record) error {
		if !at.After(last) || !transcript.Wanted(r, record.Stream) {
			return nil
		}
		_, err := w.Write(record.Text)
		return err
	})
	if gone(err) {
		return nil
	}
	return err
}

// since is a point in time as the engine takes it; "" before the first line.
func since(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond())
}

// history reads what a container has printed until now, at least as many of its last lines as are asked for. The engine
// counts the lines of both streams; when those of one are wanted, it is asked for more until it suffices.
func (d *Driver) history(ctx context.Context, id string, r api.LogRequest, each func(transcript.Record) error) (last time.Time, err error) {
	type line struct {
		at     time.Time
		record transcript.Record
	}
	for ask := 2*r.Tail + 1; ; ask *= 8 {
		tail := "all"
		if r.Tail >= 0 && ask < keepLines {
			tail = strconv.Itoa(ask)
		}
		var lines []line
		wanted := 0
		err := d.read(ctx, id, container.LogsOptions{Tail: tail}, func(at time.Time, record transcript.Record) error {
			if transcript.Wanted(r, record.Stream) {
				wanted++
			}
			record.Text = slices.Clone(record.Text)
			lines = append(lines, line{at, record})
			return nil
		})
		if err != nil {
			return time.Time{}, err
		}
		if tail != "all" && wanted < r.Tail && len(lines) >= ask {
			continue
		}
		for _, l := range lines {
			if err := each(l.record); err != nil {
				return time.Time{}, err
			}
			if l.at.After(last) {
				last = l.at
			}
		}
		return last, nil
	}
}

// keep writes the tail of a container's output where Logs finds it after the removal.
func (d *Driver) keep(ctx context.Context, h driver.Handle) error {
	ctx, cancel := d.within(ctx)
	defer cancel()
	tail := transcript.LastBytes(transcript.KeepBytes)
	err := d.read(ctx, h.Data, container.LogsOptions{Tail: strconv.Itoa(keepLines)}, func(_ time.Time, record transcript.Record) error {
		tail.Add(record)
		return nil
	})
	if err != nil {
		return err
	}
	return d.archive.Keep(h.Key, tail)
}

// read calls each with a container's output, line by line with the time of each.
func (d *Driver) read(ctx context.Context, id string, o container.LogsOptions, each func(time.Time, transcript.Record) error) error {
	o.ShowStdout, o.ShowStderr, o.Timestamps = true, true, true
	stream, begun, cancel := d.beginning(ctx)
	defer cancel()
	body, err := d.engine.ContainerLogs(stream, id, o)
	begun()
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = stdcopy.StdCopy(
		frames{transcript.Stdout, each}, frames{transcript.Stderr, each}, body,
	)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // the container was removed meanwhile
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// frames takes one stream's lines apart: each Write is a time, a space, and a line or a piece of one.
type frames struct {
	stream transcript.Stream
	each   func(time.Time, transcript.Record) error
}

func (f frames) Write(p []byte) (int, error) {
	stamp, text, _ := strings.Cut(string(p), " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		at, text = time.Time{}, string(p)
	}
	err = transcript.Split(f.stream, []byte(text), func(r transcript.Record) error { return f.each(at, r) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
