package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
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
	containers, err := d.runs(ctx, allocation, r.Part)
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

// runs returns the allocation's main containers, or those of a part, in the order of their runs.
func (d *Driver) runs(ctx context.Context, allocation api.ID, part string) ([]container.Summary, error) {
	all, err := d.list(ctx, filters.Arg("label", labelAlloc+"="+d.text.Format(allocation)))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s container.Summary) bool { return s.Labels[labelPart] != part })
	number := func(s container.Summary, label string) int64 {
		n, err := strconv.ParseInt(s.Labels[label], 10, 64)
		if err != nil && s.Labels[label] != "" {
			return math.MaxInt64
		}
		return n
	}
	slices.SortFunc(all, func(a, b container.Summary) int {
		return cmp.Or(cmp.Compare(number(a, labelRun), number(b, labelRun)), cmp.Compare(number(a, labelRestarts), number(b, labelRestarts)))
	})
	return all, nil
}

func (d *Driver) writeLogs(ctx context.Context, w io.Writer, allocation api.ID, containers []container.Summary, r api.LogRequest) error {
	answer := transcript.NewAnswer(w, r)
	there := make([]driver.Key, len(containers))
	for i, s := range containers {
		h, _ := d.handle(s.ID, s.Labels)
		there[i] = h.Key
	}
	if err := d.archive.AnswerKept(allocation, r.Part, answer, there...); err != nil {
		return err
	}
	for i, s := range containers {
		last, err := d.history(ctx, s.ID, r, answer.Add)
		if gone(err) || errdefs.IsConflict(err) { // it is being removed: its output is kept by now
			err = d.archive.AnswerRun(there[i], answer)
		}
		if err != nil {
			return fmt.Errorf("read the output of the container %.12s: %w", s.ID, err)
		}
		if i == len(containers)-1 && r.Follow {
			if err := answer.EndPast(); err != nil {
				return err
			}
			if err := d.follow(ctx, s.ID, last, answer.Add); err != nil && !gone(err) {
				return err
			}
		}
		if err := answer.EndRun(); err != nil {
			return err
		}
	}
	return answer.EndPast()
}

// follow passes on what a container prints after a moment until it ends.
func (d *Driver) follow(ctx context.Context, id string, last time.Time, each func(transcript.Record) error) error {
	return d.read(ctx, id, container.LogsOptions{Follow: true, Tail: "all", Since: since(last)}, func(r transcript.Record) error {
		if !r.At.After(last) {
			return nil
		}
		return each(r)
	})
}

// since is a point in time as the engine takes it; "" before the first line.
func since(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond())
}

// history reads what a container has printed until now and is asked for, at least as many of its last lines. It returns a
// moment after which there was nothing yet.
func (d *Driver) history(ctx context.Context, id string, r api.LogRequest, each func(transcript.Record) error) (last time.Time, err error) {
	if !r.Since.IsZero() {
		last = r.Since.Add(-1) // the engine's since takes in the moment itself
	}
	if r.Tail < 0 {
		err = d.read(ctx, id, container.LogsOptions{Tail: "all", Since: since(last)}, func(record transcript.Record) error {
			last = later(last, record.At)
			return each(record)
		})
		return last, err
	}
	// The engine counts the lines of both streams; when those of one are wanted, it is asked for more until it suffices.
	for ask := 2*r.Tail + 1; ; ask *= 8 {
		o := container.LogsOptions{Tail: strconv.Itoa(ask), Since: since(last)}
		if ask >= keepLines {
			o.Tail = "all"
		}
		lines, both, wanted, end := transcript.LastLines(ask), 0, 0, last
		err := d.read(ctx, id, o, func(record transcript.Record) error {
			both, end = both+1, later(end, record.At)
			if transcript.Wanted(r, record.Stream) {
				wanted++
				lines.Add(record)
			}
			return nil
		})
		if err != nil {
			return last, err
		}
		if o.Tail != "all" && wanted < r.Tail && both >= ask {
			continue
		}
		for _, record := range lines.Records() {
			if err := each(record); err != nil {
				return end, err
			}
		}
		return end, nil
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// keep writes the tail of a container's output where Logs finds it after the removal.
func (d *Driver) keep(ctx context.Context, h driver.Handle) error {
	ctx, cancel := d.within(ctx)
	defer cancel()
	tail := transcript.LastBytes(transcript.KeepBytes)
	err := d.read(ctx, h.Data, container.LogsOptions{Tail: strconv.Itoa(keepLines)}, func(record transcript.Record) error {
		tail.Add(record)
		return nil
	})
	if err != nil {
		return err
	}
	return d.archive.Keep(h.Key, tail)
}

// read calls each with a container's output, line by line. The texts are valid during the call.
func (d *Driver) read(ctx context.Context, id string, o container.LogsOptions, each func(transcript.Record) error) error {
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
	each   func(transcript.Record) error
}

func (f frames) Write(p []byte) (int, error) {
	stamp, text, _ := strings.Cut(string(p), " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		at, text = time.Time{}, string(p)
	}
	if err := transcript.Split(f.stream, at, []byte(text), f.each); err != nil {
		return 0, err
	}
	return len(p), nil
}
