package agent

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/api/rest"
)

// servers is a leadership whose leader a test moves about. A request to a server is what its handler does.
type servers struct {
	mu       sync.Mutex
	leader   string // "" for none, "self" for this one
	changed  chan struct{}
	handlers map[string]http.RoundTripper
}

func newServers(leader string) *servers {
	return &servers{leader: leader, changed: make(chan struct{}), handlers: map[string]http.RoundTripper{}}
}

func (s *servers) lead(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = id
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *servers) LeaderInfo() (api.Leader, bool, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return api.Leader{ID: s.leader}, s.leader == "self", s.leader != ""
}

func (s *servers) LeaderChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *servers) Transport(id string) http.RoundTripper { return s.handlers[id] }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answering(h http.HandlerFunc) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h(w, r)
		return w.Result(), nil
	}
}

func forwarding(s *servers) *forwarder {
	return &forwarder{leadership: s, local: rest.Local, next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write([]byte("here " + string(b)))
	})}
}

func ask(h http.Handler, method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestForwardBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers("b")
		s.handlers["b"] = answering(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set(rest.HeaderIndex, "7")
			w.Write([]byte("there " + string(b) + " hops " + r.Header.Get(headerHops)))
		})
		h := forwarding(s)
		if code, body := ask(h, "POST", "/v1/jobs", "x"); code != 200 || body != "there x hops 1" {
			t.Errorf("a write on a follower: %d %s", code, body)
		}
		if code, body := ask(h, "GET", "/v1/jobs?stale", ""); code != 200 || body != "here " {
			t.Errorf("a stale read: %d %s", code, body)
		}
		for _, path := range []string{"/v1/health", "/v1/members"} {
			if code, body := ask(h, "GET", path, ""); code != 200 || body != "here " {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		s.lead("self")
		if code, body := ask(h, "POST", "/v1/jobs", "x"); code != 200 || body != "here x" {
			t.Errorf("a write on the leader: %d %s", code, body)
		}
	})
}

func TestForwardWaitsForALeaderBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers("")
		h := forwarding(s)
		start := time.Now()
		if code, body := ask(h, "GET", "/v1/jobs", ""); code != 503 || !strings.Contains(body, "no_leader") {
			t.Errorf("without a leader: %d %s", code, body)
		}
		if waited := time.Since(start); waited != leaderWait {
			t.Errorf("waited %s, want %s", waited, leaderWait)
		}
		start = time.Now()
		if code, body := ask(h, "GET", "/v1/operator/raft/peers", ""); code != 200 || body != "here " || time.Since(start) != electionWait {
			t.Errorf("who the servers are, without a leader: %d %s after %s", code, body, time.Since(start))
		}
		go func() {
			time.Sleep(time.Second)
			s.lead("self")
		}()
		start = time.Now()
		if code, _ := ask(h, "GET", "/v1/jobs", ""); code != 200 || time.Since(start) != time.Second {
			t.Errorf("a leader after one second: %d after %s", code, time.Since(start))
		}
	})
}

// TestForwardSendsAgainOnlyWhatWasNotWritten: a server that denies leadership has written nothing, one that vanished in
// the middle may have.
func TestForwardSendsAgainOnlyWhatWasNotWrittenBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers("b")
		var bodies []string
		s.handlers["b"] = answering(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			bodies = append(bodies, string(b))
			if len(bodies) < 3 {
				rest.WriteError(w, api.Errorf(api.CodeNotLeader, "not me"))
				return
			}
			w.Write([]byte("done"))
		})
		h := forwarding(s)
		if code, body := ask(h, "POST", "/v1/jobs", "x"); code != 200 || body != "done" || strings.Join(bodies, "") != "xxx" {
			t.Errorf("%d %s after %q", code, body, bodies)
		}
		calls := 0
		s.handlers["b"] = roundTrip(func(*http.Request) (*http.Response, error) {
			calls++
			return nil, errors.New("the connection broke")
		})
		if code, body := ask(h, "POST", "/v1/jobs", "x"); code != 503 || !strings.Contains(body, `"unknown"`) || calls != 1 {
			t.Errorf("a write whose answer was lost: %d %s after %d calls", code, body, calls)
		}
		calls = 0
		if code, _ := ask(h, "GET", "/v1/jobs", ""); code != 503 || calls < 10 {
			t.Errorf("a read is tried again until the wait is over: %d after %d calls", code, calls)
		}
	})
}

// TestALongPollOutlivesItsLeader: the patience for a new leader begins when the old one is lost, whether that was this
// server or another, and however long the request had waited for news before.
func TestALongPollOutlivesItsLeaderBubble(t *testing.T) {
	for _, first := range []string{"self", "b"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServers(first)
			poll := func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Content-Type-Options", "nosniff")
				time.Sleep(time.Minute) // nothing new; then leadership is lost
				s.lead("")
				time.AfterFunc(3*time.Second, func() { s.lead("c") })
				rest.WriteError(w, api.Errorf(api.CodeNotLeader, "not any more"))
			}
			s.handlers["b"] = answering(poll)
			s.handlers["c"] = answering(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Write([]byte("c " + string(b)))
			})
			h := &forwarder{leadership: s, local: rest.Local, next: http.HandlerFunc(poll)}
			start := time.Now()
			for method, body := range map[string]string{"GET": "", "POST": "x"} {
				s.lead(first)
				code, got := ask(h, method, "/v1/jobs", body)
				if took := time.Since(start); code != 200 || got != "c "+body || took != time.Minute+3*time.Second {
					t.Errorf("%s, first to %s: %d %s after %s", method, first, code, got, took)
				}
				start = time.Now()
			}
		})
	}
}

func TestForwardEndsAfterTwoHops(t *testing.T) {
	h := forwarding(newServers("b"))
	r := httptest.NewRequest("GET", "/v1/jobs", nil)
	r.Header.Set(headerHops, "2")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 503 || w.Header().Get(rest.HeaderCode) != string(api.CodeNotLeader) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestSnapshotBodiesAreStreamed sends a body larger than what is held for sending again.
func TestSnapshotBodiesAreStreamed(t *testing.T) {
	s := newServers("b")
	var got int64
	s.handlers["b"] = answering(func(w http.ResponseWriter, r *http.Request) { got, _ = io.Copy(io.Discard, r.Body) })
	w := httptest.NewRecorder()
	forwarding(s).ServeHTTP(w, httptest.NewRequest("PUT", "/v1/operator/snapshot", bytes.NewReader(make([]byte, maxForwardBody+5))))
	if got != maxForwardBody+5 || w.Code != 200 {
		t.Errorf("%d bytes arrived, status %d", got, w.Code)
	}
}

func TestProxySaysThatThereIsNoServerBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		p := &proxy{
			current: func() (http.RoundTripper, bool) { return nil, false },
			changed: func() <-chan struct{} { return never },
			servers: func() []string { return []string{"10.0.0.1:5556"} },
		}
		if code, body := ask(p, "GET", "/v1/jobs", ""); code != 503 || !strings.Contains(body, "10.0.0.1:5556") {
			t.Errorf("%d %s", code, body)
		}
		began := time.Now()
		if code, _ := ask(p, "GET", "/v1/health", ""); code != 503 || time.Since(began) > 0 {
			t.Errorf("health: %d after %s", code, time.Since(began))
		}
	})
}

// A read that lost its server is asked of the next one; a write may have happened.
func TestProxyAsksTheNextServerBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers("a")
		s.handlers["a"] = roundTrip(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Minute) // a long poll
			s.lead("")
			time.AfterFunc(3*time.Second, func() { s.lead("b") })
			return nil, errors.New("the session was closed")
		})
		s.handlers["b"] = answering(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("b")) })
		p := &proxy{
			current: func() (http.RoundTripper, bool) {
				l, _, known := s.LeaderInfo()
				return s.handlers[l.ID], known
			},
			changed: s.LeaderChanged,
			servers: func() []string { return nil },
		}
		if code, body := ask(p, "GET", "/v1/jobs", ""); code != 200 || body != "b" {
			t.Errorf("a read: %d %s", code, body)
		}
		s.lead("a")
		if code, body := ask(p, "POST", "/v1/jobs", "x"); code != 503 || !strings.Contains(body, `"unknown"`) {
			t.Errorf("a write: %d %s", code, body)
		}
		time.Sleep(5 * time.Second) // the last change of leader
	})
}

func TestNamesServedOnLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:5555": true, "localhost:5555": true, "[::1]:5555": true, "n1": true, "N1:5555": true,
		"evil.test": false, "evil.test:5555": false, "localhost.evil.test": false,
	} {
		if got := localName(host, "n1"); got != want {
			t.Errorf("localName(%q) = %v", host, got)
		}
	}
}
