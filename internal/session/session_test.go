package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cube/api"
	"cube/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nodeIP   = "10.0.0.1"
	serverIP = "10.0.0.2"
	rpcAddr  = serverIP + ":5556"
)

var node = Hello{ClusterID: "c1", Role: api.RoleClient, Sender: "n1", Incarnation: 7, Target: "s1"}

// wire is two hosts, of which one listens on the RPC port.
type wire struct {
	net *memnet.Network
	lis net.Listener
}

func newWire(t *testing.T) *wire {
	t.Helper()
	n := memnet.New(1)
	l, err := n.Host(serverIP).Listen(":5556")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &wire{n, l}
}

func (w *wire) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := w.net.Host(nodeIP).Dial(t.Context(), rpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type accepted struct {
	in  *Incoming
	err error
}

// accept takes the next connection.
func (w *wire) accept(ctx context.Context, check func(Hello) error) <-chan accepted {
	out := make(chan accepted, 1)
	go func() {
		conn, err := w.lis.Accept()
		if err != nil {
			out <- accepted{nil, err}
			return
		}
		in, err := Accept(ctx, conn, check)
		out <- accepted{in, err}
	}()
	return out
}

// sessions connects the two and serves on both sides.
func (w *wire) sessions(t *testing.T, onNode, onServer http.Handler) (dialled, taken *Session) {
	t.Helper()
	incoming := w.accept(t.Context(), func(h Hello) error { return h.Admit("c1", "s1") })
	dialled, err := Dial(t.Context(), w.dial(t), node)
	if err != nil {
		t.Fatal(err)
	}
	in := <-incoming
	if in.err != nil {
		t.Fatal(in.err)
	}
	taken = in.in.Session
	var serving sync.WaitGroup
	serving.Go(func() { dialled.Serve(t.Context(), Handler{HTTP: onNode}) })
	serving.Go(func() { taken.Serve(t.Context(), Handler{HTTP: onServer}) })
	t.Cleanup(func() {
		dialled.Close()
		taken.Close()
		serving.Wait()
	})
	return dialled, taken
}

// get asks over a session and returns the answer's body.
func get(ctx context.Context, s *Session, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://peer"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := s.Transport().RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// named answers with its name and who asks.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, _ := From(r.Context())
		fmt.Fprintf(w, "%s to %s %s", name, h.Role, h.Sender)
	})
}

func TestBothSidesAsk(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		dialled, taken := newWire(t).sessions(t, named("node"), named("server"))
		if got, err := get(t.Context(), dialled, "/"); err != nil || got != "server to client n1" {
			t.Errorf("the node got %q, %v", got, err)
		}
		if got, err := get(t.Context(), taken, "/"); err != nil || got != "node to server s1" {
			t.Errorf("the server got %q, %v", got, err)
		}
		want := node
		want.Protocol = RPC
		if taken.Peer() != want {
			t.Errorf("the peer is %+v, want %+v", taken.Peer(), want)
		}
		if err := dialled.Err(); err != nil {
			t.Errorf("a living session has the error %v", err)
		}
	})
}

// count is how many streams a session has.
func count(t *testing.T, s *Session) int {
	t.Helper()
	mux, err := s.streams.open()
	if err != nil {
		t.Fatal(err)
	}
	return mux.NumStreams()
}

func TestStreamsAreReusedAndLetGo(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-release
			}
		})
		dialled, taken := newWire(t).sessions(t, h, h)
		for range 50 {
			if _, err := get(t.Context(), dialled, "/"); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(t, taken); n != 1 {
			t.Errorf("50 requests in a row left %d streams", n)
		}
		var asked sync.WaitGroup
		for range 40 {
			asked.Go(func() {
				if _, err := get(t.Context(), dialled, "/wait"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := count(t, taken); n != 40 {
			t.Errorf("40 requests at once have %d streams", n)
		}
		close(release)
		asked.Wait()
		synctest.Wait()
		if n := count(t, taken); n > idleStreams {
			t.Errorf("%d streams are kept", n)
		}
		time.Sleep(idleTimeout + time.Second)
		if n := count(t, taken) + count(t, dialled); n != 0 {
			t.Errorf("%d streams are left after the idle time", n)
		}
		if err := dialled.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestALongPollLasts(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		dialled, _ := newWire(t).sessions(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Minute)
			io.WriteString(w, "at last")
		}))
		if got, err := get(t.Context(), dialled, "/"); err != nil || got != "at last" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestCancellationReachesTheHandler(t *testing.T) {
	for name, handle := range map[string]func(w http.ResponseWriter, r *http.Request){
		"that waits": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"that is stuck writing": func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"that streams": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "line\n")
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				ended := make(chan time.Time, 1)
				_, taken := newWire(t).sessions(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					handle(w, r)
					ended <- time.Now()
				}), nil)
				ctx, cancel := context.WithCancel(t.Context())
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://peer/", nil)
				var gave time.Time
				time.AfterFunc(10*time.Second, func() { gave = time.Now(); cancel() })
				resp, err := taken.Transport().RoundTrip(req)
				if err == nil {
					time.Sleep(10 * time.Second)
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the asking side got %v", err)
				}
				if late := (<-ended).Sub(gave); late > 2*time.Second {
					t.Errorf("the handler went on for %s", late)
				}
			})
		})
	}
}

func TestSilenceEndsASession(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		hang := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		dialled, taken := w.sessions(t, hang, hang)
		time.Sleep(time.Minute)
		asked := make(chan error, 1)
		go func() {
			_, err := get(t.Context(), dialled, "/")
			asked <- err
		}()
		synctest.Wait()
		w.net.Partition([]string{nodeIP})
		cut := time.Now()
		for name, s := range map[string]*Session{"node": dialled, "server": taken} {
			<-s.Done()
			if took := time.Since(cut); took < silence-minQuiet || took > silence+secondLook+minQuiet {
				t.Errorf("the %s noticed after %s", name, took)
			}
			if err := s.Err(); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "nothing heard") {
				t.Errorf("the %s says %v", name, err)
			}
		}
		if err := <-asked; api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("the request under way got %v", err)
		}
		begin := time.Now()
		if _, err := get(t.Context(), dialled, "/"); api.CodeOf(err) != api.CodeUnavailable || time.Since(begin) != 0 {
			t.Errorf("a later request got %v after %s", err, time.Since(begin))
		}
	})
}

func TestAShortStallIsSurvived(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		dialled, taken := w.sessions(t, named("node"), named("server"))
		for range 20 {
			time.Sleep(3 * time.Second)
			w.net.Partition([]string{nodeIP})
			time.Sleep(1500 * time.Millisecond)
			w.net.Heal()
		}
		if err := errors.Join(dialled.Err(), taken.Err()); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t.Context(), taken, "/"); err != nil {
			t.Error(err)
		}
	})
}

func TestTheEndOfASession(t *testing.T) {
	for name, c := range map[string]struct {
		end          func(w *wire, dialled, taken *Session)
		node, server string // what each says
	}{
		"the node closes": {func(_ *wire, dialled, _ *Session) { dialled.Close() },
			"was closed", "closed the session"},
		"the server closes": {func(_ *wire, _, taken *Session) { taken.Close() },
			"closed the session", "was closed"},
		"the server's process dies": {func(w *wire, _, _ *Session) { w.net.Crash(serverIP, memnet.Reset) },
			"connection reset", "broke"},
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				var handlers sync.WaitGroup
				hang := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					handlers.Add(1)
					defer handlers.Done()
					<-r.Context().Done()
				})
				dialled, taken := w.sessions(t, hang, hang)
				asked := make(chan error, 2)
				for _, s := range []*Session{dialled, taken} {
					go func() {
						_, err := get(t.Context(), s, "/")
						asked <- err
					}()
				}
				synctest.Wait()
				begin := time.Now()
				c.end(w, dialled, taken)
				for range 2 {
					if err := <-asked; api.CodeOf(err) != api.CodeUnavailable {
						t.Errorf("a request under way got %v", err)
					}
				}
				handlers.Wait()
				<-dialled.Done()
				<-taken.Done()
				if took := time.Since(begin); took != 0 {
					t.Errorf("it took %s", took)
				}
				if err := dialled.Err(); err == nil || !strings.Contains(err.Error(), c.node) {
					t.Errorf("the node says %v", err)
				}
				if err := taken.Err(); err == nil || !strings.Contains(err.Error(), c.server) {
					t.Errorf("the server says %v", err)
				}
			})
		})
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		incoming := w.accept(t.Context(), nil)
		dialled, err := Dial(t.Context(), w.dial(t), node)
		if err != nil {
			t.Fatal(err)
		}
		taken := (<-incoming).in.Session
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the agent stops")
		ended := make(chan error, 1)
		go func() { ended <- taken.Serve(ctx, Handler{HTTP: named("server")}) }()
		go dialled.Serve(t.Context(), Handler{})
		if _, err := get(t.Context(), dialled, "/"); err != nil {
			t.Fatal(err)
		}
		cancel(why)
		if err := <-ended; err != why {
			t.Errorf("Serve returned %v", err)
		}
		<-dialled.Done()
		dialled.Close()
	})
}

// TestOverTCP is the suite that the race detector sees: real time, real sockets, many at once.
func TestOverTCP(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{lis: lis}
	incoming := w.accept(t.Context(), nil)
	conn, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialled, err := Dial(t.Context(), conn, node)
	if err != nil {
		t.Fatal(err)
	}
	taken := (<-incoming).in.Session
	lis.Close()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body) // an answer begun ends the reading
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	})
	var serving sync.WaitGroup
	serving.Go(func() { dialled.Serve(t.Context(), Handler{HTTP: echo}) })
	serving.Go(func() { taken.Serve(t.Context(), Handler{HTTP: echo}) })

	var asked sync.WaitGroup
	for i := range 64 {
		s := []*Session{dialled, taken}[i%2]
		asked.Go(func() {
			for j := range 20 {
				want := strings.Repeat(fmt.Sprint(i, j), 1+i*j*5)
				req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://peer/", strings.NewReader(want))
				resp, err := s.Transport().RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("sent %d bytes, got %d back, %v", len(want), len(got), err)
					return
				}
			}
		})
	}
	asked.Wait()
	dialled.Close()
	serving.Wait()
	taken.Close()
}
