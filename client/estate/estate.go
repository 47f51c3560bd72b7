// Package estate is what an instance leaves to the next one of its slot: the directory of its own, if its task's ephemeral disk is
// sticky. On the same node it is renamed; from another one it is fetched.
package estate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"cube/api"
)

const (
	// maxBytes is more than fits well through servers, and less than fills a disk without anybody noticing. Who has more has a database
	// that knows better how to move.
	maxBytes = 16 << 30
	// maxEntries bounds what is remembered while a directory comes.
	maxEntries = 1_000_000
	// maxTime is how long a fetch may take in all.
	maxTime = time.Hour
	// patience is how long a node that has the data may be out of reach: longer than it or a server takes to start anew.
	patience = time.Minute
	// silence is how long a stream may bring nothing.
	silence = 30 * time.Second
	// pause is between attempts.
	pause = 2 * time.Second
)

// Before is an allocation that had the slot before.
type Before struct {
	Dir    string     // the allocation's directory, if it is on this node
	Former api.Former // likewise, if it is on another
}

// Taking is the taking over of a slot's directory by an allocation.
type Taking struct {
	Dir    string   // the allocation's directory, which is there
	Before []Before // the latest first
	Inside string   // where the directory is for the program that uses it; "": nowhere else
	Must   bool     // what could not be fetched is an error
	// Fetch is api.Estates.Fetch.
	Fetch func(ctx context.Context, former api.ID, taken bool) (io.ReadCloser, error)
	// Progress is told in words how far it is, as often as it likes to be.
	Progress func(text string)
}

// Take makes the allocation's own directory, unless it is there: the first that there is of those before it, or else an empty one.
// It returns what is to be said of that, "" for nothing. A crash leaves the directory, or none. After an error there is none.
func (t *Taking) Take(ctx context.Context) (note string, err error) {
	own := Own(t.Dir)
	if _, err := os.Stat(own); err == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	lost := ""
	for _, b := range t.Before {
		if b.Former.Allocation == 0 {
			err := os.Rename(Own(b.Dir), own)
			if err == nil && lost != "" {
				lost += "; it begins with what it left here earlier"
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return lost, err
			}
			continue
		}
		began := time.Now()
		got, err := t.fetch(ctx, b.Former)
		switch {
		case err == nil:
			note = fmt.Sprintf("%s%s: %s in %s", api.DataFetched, b.Former.NodeName, size(got.Bytes), brief(time.Since(began)))
			if got.Left > 0 {
				note += fmt.Sprintf("; %d links that lead out of it were left out", got.Left)
			}
			return note, nil
		case api.CodeOf(err) == api.CodeNotFound:
			continue
		}
		text := fmt.Sprintf("%s%s: %v", api.DataNotFetched, b.Former.NodeName, err)
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return "", err
		case t.Must:
			return "", errors.New(text)
		case lost == "":
			lost = text
		}
	}
	if lost != "" {
		lost += "; it begins with an empty directory"
	}
	return lost, Inherit(t.Dir, nil)
}

// fetch brings a directory from another node. What may be over in a while is tried again.
func (t *Taking) fetch(ctx context.Context, f api.Former) (got Unpacked, err error) {
	part := Own(t.Dir) + ".part"
	defer os.RemoveAll(part) // what a crash leaves goes before the next attempt
	since := time.Now()
	for {
		if err := os.RemoveAll(part); err != nil {
			return got, err
		}
		var passing bool
		got, passing, err = t.stream(ctx, f, part)
		if err == nil {
			break
		}
		if got.Bytes > 0 {
			since = time.Now()
		}
		if !passing || ctx.Err() != nil || time.Since(since) >= patience {
			return got, err
		}
		t.Progress(fmt.Sprintf("waits for its data on node %s: %v", f.NodeName, err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return got, err
		}
	}
	if err := os.Rename(part, Own(t.Dir)); err != nil {
		return got, err
	}
	// If this is lost, the other node keeps it for a while, and nobody asks for it.
	_, _ = t.Fetch(ctx, f.Allocation, true)
	return got, nil
}

// stream makes one attempt. passing tells that another one may do better.
func (t *Taking) stream(ctx context.Context, f api.Former, part string) (got Unpacked, passing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing came for %s", silence)) })
	defer quiet.Stop()
	in, err := t.Fetch(ctx, f.Allocation, false)
	if err != nil {
		switch api.CodeOf(err) {
		case api.CodeBusy, api.CodeUnavailable, api.CodeNoLeader, api.CodeNotLeader, api.CodeUnknown:
			passing = true
		}
		return got, passing, because(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { in.Close() }) // a Read that waits ends
	defer stop()
	defer in.Close()
	source := &watched{in: in, quiet: quiet}
	got, err = Unpack(source, part, t.Inside, Limits{Bytes: maxBytes, Entries: maxEntries}, func(done, all int64) {
		t.Progress(fmt.Sprintf("fetches %s of data from node %s: %d %%", size(all), f.NodeName, 100*done/max(all, 1)))
	})
	return got, source.broke.Load() || errors.Is(err, io.ErrUnexpectedEOF), because(ctx, err)
}

// because names what ended ctx, if something here did.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, ctx.Err()) {
		return cause
	}
	return err
}

// watched is a stream that must not be silent for long.
type watched struct {
	in    io.Reader
	quiet *time.Timer
	broke atomic.Bool // it ended with an error of its own
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if n > 0 {
		w.quiet.Reset(silence)
	}
	if err != nil && err != io.EOF {
		w.broke.Store(true)
	}
	return n, err
}

// size writes bytes as people read them.
func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	if n < 10<<20 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return api.FormatMiB(n >> 20)
}

// brief writes a duration to the tenth of a second.
func brief(d time.Duration) string { return api.Brief(d.Round(100 * time.Millisecond)) }
