package rest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
)

// counter is a cluster with one job, whose version is what its reads are about. A read takes its time, as on a leader
// that must make sure that it still leads.
type counter struct {
	echo
	took func() time.Duration

	mu      sync.Mutex
	version uint64
	changed chan struct{}
	reads   atomic.Int64 // that got as far as looking
	open    atomic.Int32
}

func newCounter() *counter {
	return &counter{version: 1, changed: make(chan struct{}), took: func() time.Duration { return time.Millisecond }}
}

func (c *counter) set(version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = version
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

func (c *counter) Job(ctx context.Context, name string, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
	c.open.Add(1)
	defer c.open.Add(-1)
	for {
		c.mu.Lock()
		version, changed := c.version, c.changed
		c.mu.Unlock()
		if q.Index == 0 || version > q.Index {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, api.ReadMeta{}, ctx.Err()
		}
	}
	q.Awake()
	time.Sleep(c.took())
	c.mu.Lock()
	c.reads.Add(1)
	version := c.version
	c.mu.Unlock()
	if name == "panic" {
		panic("a fault of ours")
	}
	time.Sleep(c.took())
	return &api.JobStatus{Job: &api.Job{Name: name, Version: version}}, api.ReadMeta{Index: version, Stale: q.Stale}, nil
}

// ask sends one request to the handler and returns its answer.
func askFor(ctx context.Context, h http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", url, nil))
	return w
}

// together sends n requests and returns their answers when all have come.
func together(ctx context.Context, h http.Handler, n int, url func(i int) string) func() []*httptest.ResponseRecorder {
	out := make([]*httptest.ResponseRecorder, n)
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() { out[i] = askFor(ctx, h, url(i)) })
	}
	return func() []*httptest.ResponseRecorder { all.Wait(); return out }
}

func always(url string) func(int) string { return func(int) string { return url } }

func TestAChangeIsReadOnceForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter()
		h := NewHandler(c, hclog.NewNullLogger())
		// How long each waits is his own affair; what he has seen already and how sure he wants to be is not.
		answers := together(t.Context(), h, 1000, func(i int) string { return fmt.Sprintf("/v1/jobs/web?index=1&wait=%dm", 1+i%9) })
		older := together(t.Context(), h, 10, always("/v1/jobs/web?index=2"))
		stale := together(t.Context(), h, 10, always("/v1/jobs/web?index=1&stale"))
		other := together(t.Context(), h, 10, always("/v1/jobs/api?index=1"))
		synctest.Wait()
		if n := c.open.Load(); n != 4 {
			t.Errorf("%d reads wait, want 4: one for each question", n)
		}
		c.set(2)
		var first *httptest.ResponseRecorder
		for i, a := range answers() {
			if first == nil {
				first = a
			}
			if a.Code != http.StatusOK || a.Body.String() != first.Body.String() || a.Header().Get(HeaderIndex) != "2" {
				t.Fatalf("answer %d: %d %s %s", i, a.Code, a.Header(), a.Body)
			}
		}
		stale()
		other()
		if c.reads.Load() != 3 {
			t.Errorf("the cluster was read %d times for three questions", c.reads.Load())
		}
		c.set(3)
		if older(); c.reads.Load() != 4 {
			t.Errorf("who waited for a later change caused %d reads, want one", c.reads.Load()-3)
		}
	})
}

func TestWhoLeavesTakesNobodyWithHim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter()
		h := NewHandler(c, hclog.NewNullLogger())
		first, leave := context.WithCancel(t.Context())
		gone := together(first, h, 1, always("/v1/jobs/web?index=1"))
		synctest.Wait()
		second, leaveToo := context.WithCancel(t.Context())
		stays := together(second, h, 1, always("/v1/jobs/web?index=1"))
		synctest.Wait()
		leave()
		if a := gone()[0]; a.Code == http.StatusOK {
			t.Errorf("who left was answered: %s", a.Body)
		}
		if c.open.Load() != 1 {
			t.Error("the read ended with the first of those who wait")
		}
		leaveToo()
		stays()
		if c.open.Load() != 0 {
			t.Error("the read goes on though nobody waits for it")
		}
		// The next one is not put on a flight that was called off.
		c.set(2)
		if a := askFor(t.Context(), h, "/v1/jobs/web?index=1"); a.Code != http.StatusOK {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
}

func TestTheWaitEndsForEachInHisTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter()
		h := NewHandler(c, hclog.NewNullLogger())
		begin := time.Now()
		minutes := together(t.Context(), h, 3, func(i int) string { return fmt.Sprintf("/v1/jobs/web?index=1&wait=%dm", i+1) })
		crowd := together(t.Context(), h, 500, always("/v1/jobs/web?index=1&wait=30s"))
		for _, a := range crowd() {
			if a.Code != http.StatusOK || a.Header().Get(HeaderIndex) != "1" {
				t.Fatalf("%d %s %s", a.Code, a.Header(), a.Body)
			}
		}
		if took := time.Since(begin); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("a wait of 30 s took %s", took)
		}
		if c.reads.Load() > 2 {
			t.Errorf("500 waits that ended together caused %d reads", c.reads.Load())
		}
		minutes()
		if took := time.Since(begin); took < 3*time.Minute || took > 3*time.Minute+time.Second {
			t.Errorf("a wait of 3 min took %s", took)
		}
	})
}

func TestAPanicReachesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter()
		answers := together(t.Context(), NewHandler(c, hclog.NewNullLogger()), 3, always("/v1/jobs/panic?index=1"))
		synctest.Wait()
		c.set(2)
		for _, a := range answers() {
			if a.Code != http.StatusInternalServerError || a.Header().Get(HeaderCode) != string(api.CodeInternal) {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		}
	})
}

// TestNobodyIsAnsweredWithThePast is what sharing must not cost: an answer is at least as new as what was there when the
// question came, and newer than the index that it waits on.
func TestNobodyIsAnsweredWithThePast(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 1))
		var guard sync.Mutex
		up := func(limit time.Duration) time.Duration {
			guard.Lock()
			defer guard.Unlock()
			return time.Duration(random.Int64N(int64(limit)))
		}
		c := newCounter()
		c.took = func() time.Duration { return up(5 * time.Millisecond) }
		h := NewHandler(c, hclog.NewNullLogger())
		ctx, stop := context.WithCancel(t.Context())
		var writer, readers sync.WaitGroup
		writer.Go(func() {
			for version := uint64(2); ctx.Err() == nil; version++ {
				time.Sleep(up(10 * time.Millisecond))
				c.set(version)
			}
		})
		asked := 0
		for range 50 {
			readers.Go(func() {
				index := uint64(0)
				for range 100 {
					time.Sleep(up(10 * time.Millisecond))
					before := c.now()
					mine, leave := context.WithTimeout(ctx, time.Millisecond+up(40*time.Millisecond))
					a := askFor(mine, h, fmt.Sprintf("/v1/jobs/web?index=%d&wait=%s", index, time.Millisecond+up(40*time.Millisecond)))
					leave()
					if a.Code != http.StatusOK {
						continue // it left
					}
					var got uint64
					if _, err := fmt.Sscan(a.Header().Get(HeaderIndex), &got); err != nil || got < before {
						t.Errorf("seed %d: answered with version %d (%v), %d was there when the question came", seed, got, err, before)
					}
					guard.Lock()
					asked++
					guard.Unlock()
					index = []uint64{got, got, 0}[up(3)]
				}
			})
		}
		readers.Wait()
		stop()
		writer.Wait()
		if c.reads.Load() >= int64(asked) {
			t.Errorf("%d answers took %d reads: nothing was shared", asked, c.reads.Load())
		}
	})
}

func TestCancelledReadsAreErrors(t *testing.T) {
	var s flights
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.take(ctx, "/v1/jobs", api.Query{}, func(ctx context.Context, _ api.Query) (finding, error) {
		<-ctx.Done()
		return finding{}, ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || len(s.latest) != 0 {
		t.Errorf("%v, %d flights left", err, len(s.latest))
	}
}
