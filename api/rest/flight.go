package rest

import (
	"context"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"cube/api"
)

// finding is what a read has found, as it is sent.
type finding struct {
	body []byte // shared by all who are sent it
	meta api.ReadMeta
}

// send writes it as the answer. The peer may be gone; there is nobody left to tell.
func (a finding) send(w http.ResponseWriter) {
	h := w.Header()
	h.Set(HeaderIndex, strconv.FormatUint(a.meta.Index, 10))
	if a.meta.Stale {
		h.Set(HeaderStale, "true")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(http.StatusOK)
	w.Write(a.body)
}

// reading reads the cluster and encodes what it says.
type reading func(context.Context, api.Query) (finding, error)

// question tells the reads apart that cannot share an answer. How long they wait is not part of it.
type question struct {
	path, prefix string
	index        uint64
	stale        bool
}

// flights let everyone who asks the same at the same time share one read of the cluster: ten thousand who wait for a
// change are woken, answered from the state, made sure of and encoded once. A flight may be boarded until its read is
// awake (see api.Query): whoever has boarded came before anything was read, so the answer is as new as one of his own
// would be. Reads that do not wait board the next flight while one to the same answer is under way. The zero value is
// ready.
type flights struct {
	mu     sync.Mutex
	latest map[question]*flight // that have not landed
}

// seatsInRow is how many are woken together. Ten thousand at once would stand in the scheduler's queue before everything
// else that the process does: for a leader that is long enough to miss its own heartbeats and lose its leadership.
const seatsInRow = 64

// flight is one read on behalf of many. Its goroutine ends when the last of them has left.
type flight struct {
	cancel context.CancelFunc
	after  <-chan struct{} // the flight before it has landed; nil for none
	landed chan struct{}   // closed when found and err are set
	found  finding
	err    error

	// guarded by flights.mu
	boarding bool
	aboard   int             // at 0 the read is called off
	seated   int             // aboard or gone
	rows     []chan struct{} // each closed when its turn to leave has come, after landed
}

// seat returns the row of the next who boards. The caller holds flights.mu.
func (f *flight) seat() <-chan struct{} {
	if f.seated%seatsInRow == 0 {
		f.rows = append(f.rows, make(chan struct{}))
	}
	f.seated++
	f.aboard++
	return f.rows[len(f.rows)-1]
}

// take answers a query: at once, or when what it reads has changed, or when its wait is over.
func (s *flights) take(ctx context.Context, path string, q api.Query, read reading) (finding, error) {
	f, row := s.board(question{path, q.Prefix, q.Index, q.Stale}, q, read)
	var over <-chan time.Time
	if q.Index > 0 {
		wait := q.Wait
		if wait <= 0 {
			wait = api.DefaultWait
		}
		timer := time.NewTimer(min(wait, api.MaxWait))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-row:
		return f.found, f.err
	case <-over:
		s.leave(f)
		q.Index = 0 // what is there now is the answer
		return s.take(ctx, path, q, read)
	case <-ctx.Done():
		s.leave(f)
		return finding{}, ctx.Err()
	}
}

// board joins the flight that answers k, or opens one. The channel is closed when it has landed.
func (s *flights) board(k question, q api.Query, read reading) (*flight, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.latest[k]
	if before != nil && before.boarding && before.aboard > 0 {
		return before, before.seat()
	}
	// The read may outlive the request that opened it, so it does not hang on that one's context.
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{boarding: true, cancel: cancel, landed: make(chan struct{})}
	if before != nil && k.index == 0 {
		f.after = before.landed
	}
	if s.latest == nil {
		s.latest = make(map[question]*flight)
	}
	s.latest[k] = f
	q.Wait, q.Awake = api.MaxWait, func() { s.close(f) }
	row := f.seat()
	go func() {
		f.fly(ctx, q, read)
		for _, row := range s.land(k, f) {
			close(row)
			runtime.Gosched() // to those of the row, and to whatever else waits for its turn
		}
	}()
	return f, row
}

// fly does the read. A panic becomes a fault.
func (f *flight) fly(ctx context.Context, q api.Query, read reading) {
	defer f.cancel()
	defer func() {
		if v := recover(); v != nil {
			f.err = &fault{value: v, stack: debug.Stack()}
		}
	}()
	if f.after != nil {
		select {
		case <-f.after:
		case <-ctx.Done():
		}
	}
	f.found, f.err = read(ctx, q)
}

// close ends the boarding.
func (s *flights) close(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.boarding = false
}

// land ends the flight. Nobody boards it any more, and the returned rows are to be let out.
func (s *flights) land(k question, f *flight) []chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.boarding = false
	if s.latest[k] == f {
		delete(s.latest, k)
	}
	close(f.landed)
	return f.rows
}

// leave is called by those who do not wait any longer. The last of them calls the read off and waits for its end.
func (s *flights) leave(f *flight) {
	s.mu.Lock()
	f.aboard--
	last := f.aboard == 0
	s.mu.Unlock()
	if last {
		f.cancel()
		<-f.landed
	}
}

// fault is a panic on its way to the requests that it belongs to.
type fault struct {
	value any
	stack []byte
}

func (*fault) Error() string { return "the request panicked" }
