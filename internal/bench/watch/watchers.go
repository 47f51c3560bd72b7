package watch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialAtOnce  = 128     // connections being opened: more than that overflow the server's queue
	maxResponse = 1 << 20 // far above any job's status here
)

// round is one change as the watchers saw it, a line of JSON on their process's standard output. The times are the machine's
// wall clock in Unix nanoseconds, which processes share.
type round struct {
	Index     uint64 // that the answers bore
	Different int    // answers with another index than the first
	Length    uint64 // of the longest body
	At        []int64
}

// Watchers opens n connections to the HTTP API at address, has each ask the question (a path, and ? or ?x& after it) when
// its answer changes after index, and asks again after each answer. It writes "ready" once all have asked, and a line of JSON whenever all have been answered, until
// ctx ends or in does: the process that measures holds the other end.
func Watchers(ctx context.Context, address, question string, index uint64, n int, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with the process, whose input it reads
		io.Copy(io.Discard, in)
		stop()
	}()
	s := &crowd{address: address, question: question, n: n, answers: make(chan seen, n)}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.close()
	return s.watch(ctx, index, out)
}

type seen struct {
	index, length uint64
	at            int64
	err           error
}

// crowd is many connections that ask the same.
type crowd struct {
	address, question string
	n                 int
	conns             []net.Conn
	answers           chan seen
}

func (s *crowd) open(ctx context.Context) error {
	s.conns = make([]net.Conn, s.n)
	var next atomic.Int64
	errs := make([]error, dialAtOnce)
	var all sync.WaitGroup
	for w := range dialAtOnce {
		all.Go(func() {
			var d net.Dialer
			for i := next.Add(1) - 1; i < int64(s.n) && errs[w] == nil; i = next.Add(1) - 1 {
				s.conns[i], errs[w] = d.DialContext(ctx, "tcp", s.address)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		s.close()
		return fmt.Errorf("open %d connections to %s: %w", s.n, s.address, err)
	}
	return nil
}

func (s *crowd) close() {
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
}

// watch runs rounds until ctx ends. All ask with the same index, as those do who have followed the same changes.
func (s *crowd) watch(ctx context.Context, index uint64, out io.Writer) error {
	defer context.AfterFunc(ctx, s.close)()
	for first := true; ; first = false {
		var round round
		var all sync.WaitGroup
		request := fmt.Appendf(nil, "GET %sindex=%d&wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n", s.question, index)
		for _, c := range s.conns {
			if _, err := c.Write(request); err != nil {
				return ended(ctx, fmt.Errorf("ask: %w", err))
			}
		}
		for _, c := range s.conns {
			all.Go(func() { s.answers <- receive(c) })
		}
		if first {
			fmt.Fprintln(out, "ready")
		} else {
			fmt.Fprintln(out, "again")
		}
		all.Wait()
		for range s.n {
			a := <-s.answers
			if a.err != nil {
				return ended(ctx, a.err)
			}
			round.At = append(round.At, a.at)
			if round.Index == 0 {
				round.Index = a.index
			}
			if a.index != round.Index {
				round.Different++
			}
			index, round.Length = max(index, a.index), max(round.Length, a.length)
		}
		if err := json.NewEncoder(out).Encode(round); err != nil {
			return fmt.Errorf("report a round: %w", err)
		}
	}
}

// ended hides the errors that follow from the end of ctx.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// receive reads one answer to its end.
func receive(c net.Conn) seen {
	// A buffer only once there is something to read, or ten thousand of them would lie about.
	var one [1]byte
	if _, err := io.ReadFull(c, one[:]); err != nil {
		return seen{err: fmt.Errorf("wait for an answer: %w", err)}
	}
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(one[:]), c))
	var index, length uint64
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return seen{err: fmt.Errorf("read an answer: %w", err)}
		}
		line = bytes.TrimRight(line, "\r\n")
		if n == 0 && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return seen{err: fmt.Errorf("the server answered %q", line)}
		}
		if len(line) == 0 {
			break
		}
		key, value, _ := bytes.Cut(line, []byte(": "))
		switch string(key) {
		case "X-Cube-Index":
			index, err = strconv.ParseUint(string(value), 10, 64)
		case "Content-Length":
			length, err = strconv.ParseUint(string(value), 10, 64)
		}
		if err != nil {
			return seen{err: fmt.Errorf("read an answer: %q: %w", line, err)}
		}
	}
	if index == 0 || length == 0 || length > maxResponse {
		return seen{err: fmt.Errorf("an answer of index %d and length %d", index, length)}
	}
	if _, err := r.Discard(int(length)); err != nil {
		return seen{err: fmt.Errorf("read an answer: %w", err)}
	}
	return seen{index: index, length: length, at: time.Now().UnixNano()}
}
