package rest

import (
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"cube/api"
)

// answer is what a read has found, as it is sent.
type answer struct {
	body []byte // shared by all who are sent it
	meta api.ReadMeta
}

// send writes the answer. The peer may be gone; there is nobody left to tell.
func (a answer) send(w http.ResponseWriter) {
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

// ask reads the cluster and encodes what it says.
type ask func(context.Context, api.Query) (answer, error)

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

// flight is one read on behalf of many. Its goroutine ends before the last of them leaves.
type flight struct {
	cancel context.CancelFunc
	after  <-chan struct{} // the flight before it has landed; nil for none
	landed chan struct{}   // closed when answer and err are set
	answer answer
	err    error

	boarding bool // guarded by flights.mu, as is aboard
	aboard   int  // at 0 the read is called off
}

// take answers a query: at once, or when what it reads has changed, or when its wait is over.
func (s *flights) take(ctx context.Context, path string, q api.Query, read ask) (answer, error) {
	f := s.board(question{path, q.Prefix, q.Index, q.Stale}, q, read)
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
	case <-f.landed:
		return f.answer, f.err
	case <-over:
		s.leave(f)
		q.Index = 0 // what is there now is the answer
		return s.take(ctx, path, q, read)
	case <-ctx.Done():
		s.leave(f)
		return answer{}, ctx.Err()
	}
}

// board joins the flight that answers k, or opens one.
func (s *flights) board(k question, q api.Query, read ask) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.latest[k]
	if before != nil && before.boarding && before.aboard > 0 {
		before.aboard++
		return before
	}
	// The read may outlive the request that opened it, so it does not hang on that one's context.
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{aboard: 1, boarding: true, cancel: cancel, landed: make(chan struct{})}
	if before != nil && k.index == 0 {
		f.after = before.landed
	}
	if s.latest == nil {
		s.latest = make(map[question]*flight)
	}
	s.latest[k] = f
	q.Wait, q.Awake = api.MaxWait, func() { s.close(f) }
	go func() {
		f.fly(ctx, q, read)
		s.land(k, f)
	}()
	return f
}

// fly does the read. A panic becomes a fault.
func (f *flight) fly(ctx context.Context, q api.Query, read ask) {
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
	f.answer, f.err = read(ctx, q)
}

// close ends the boarding.
func (s *flights) close(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.boarding = false
}

// land hands out the answer.
func (s *flights) land(k question, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.boarding = false
	if s.latest[k] == f {
		delete(s.latest, k)
	}
	close(f.landed)
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
