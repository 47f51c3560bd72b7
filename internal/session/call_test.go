package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// calls connects the two; each answers the other's calls.
func (w *wire) calls(t *testing.T, onNode, onServer Handler) (dialled, taken *Session) {
	t.Helper()
	incoming := w.accept(t.Context(), nil)
	dialled, err := Dial(t.Context(), w.dial(t), node)
	if err != nil {
		t.Fatal(err)
	}
	taken = (<-incoming).in.Session
	var serving sync.WaitGroup
	serving.Go(func() { dialled.Serve(t.Context(), onNode) })
	serving.Go(func() { taken.Serve(t.Context(), onServer) })
	t.Cleanup(func() {
		dialled.Close()
		taken.Close()
		serving.Wait()
	})
	return dialled, taken
}

func TestBothSidesCall(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		says := func(name string) Handler {
			return Handler{Call: func(ctx context.Context, method string, body []byte) ([]byte, error) {
				h, _ := From(ctx)
				return fmt.Appendf(nil, "%s: %s(%s) by %s", name, method, body, h.Sender), nil
			}}
		}
		dialled, taken := newWire(t).calls(t, says("node"), says("server"))
		for asker, want := range map[*Session]string{dialled: "server: greet(hello) by n1", taken: "node: greet(hello) by s1"} {
			if got, err := asker.Call(t.Context(), "greet", []byte("hello")); err != nil || string(got) != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		}
		if n := dialled.answering.calls; len(n) != 0 || len(dialled.asked.waits) != 0 {
			t.Errorf("%d and %d calls are left over", len(n), len(dialled.asked.waits))
		}
	})
}

func TestFailuresTravel(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		dialled, taken := newWire(t).calls(t, Handler{}, Handler{Call: func(ctx context.Context, method string, body []byte) ([]byte, error) {
			switch method {
			case "panic":
				panic("a fault of ours")
			case "large":
				return make([]byte, maxFrame+1), nil
			case "late":
				return nil, context.DeadlineExceeded
			}
			return nil, fmt.Errorf("at work: %w", api.Errorf(api.CodeConflict, "two\nlines"))
		}})
		for method, want := range map[string]struct {
			code api.Code
			says string
		}{
			"work": {api.CodeConflict, "at work: two lines"}, "panic": {api.CodeInternal, "panic failed: a fault of ours"},
			"large": {api.CodeTooLarge, "at most"}, "late": {api.CodeUnavailable, "deadline"},
		} {
			if _, err := dialled.Call(t.Context(), method, nil); api.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.says) {
				t.Errorf("%s: %v, want %s and %q", method, err, want.code, want.says)
			}
		}
		if _, err := taken.Call(t.Context(), "any", nil); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("who answers no calls says %v", err)
		}
		if _, err := dialled.Call(t.Context(), strings.Repeat("x", 256), nil); api.CodeOf(err) != api.CodeTooLarge {
			t.Errorf("a long name: %v", err)
		}
		if err := errors.Join(dialled.Err(), taken.Err()); err != nil {
			t.Errorf("the session did not outlive its failures: %v", err)
		}
	})
}

func TestACallEndsWithItsContext(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		dialled, _ := newWire(t).calls(t, Handler{}, Handler{Call: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := dialled.Call(ctx, "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller got %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who answers saw %v", err)
		}
	})
}

func TestCallsEndWithTheSession(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		wait := Handler{Call: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		dialled, taken := w.calls(t, wait, wait)
		var asked sync.WaitGroup
		for range 20 {
			for _, s := range []*Session{dialled, taken} {
				asked.Go(func() {
					if _, err := s.Call(t.Context(), "wait", nil); api.CodeOf(err) != api.CodeUnavailable {
						t.Errorf("a call under way got %v", err)
					}
				})
			}
		}
		synctest.Wait()
		w.net.Crash(serverIP, memnet.Reset)
		asked.Wait()
		if _, err := dialled.Call(t.Context(), "wait", nil); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("a later call got %v", err)
		}
	})
}

// TestCallsAndStreamsShareTheConnection: calls are answered while a stream of HTTP is full, and large ones come whole.
func TestCallsAndStreamsShareTheConnection(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		echo := Handler{HTTP: named("x"), Call: func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil }}
		dialled, taken := newWire(t).calls(t, echo, echo)
		var asked sync.WaitGroup
		for i := range 40 {
			s := []*Session{dialled, taken}[i%2]
			asked.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, i*i*i*20)
				if got, err := s.Call(t.Context(), "echo", body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("sent %d bytes, got %d, %v", len(body), len(got), err)
				}
			})
			asked.Go(func() {
				if got, err := get(t.Context(), s, "/"); err != nil || !strings.HasPrefix(got, "x to") {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		asked.Wait()
	})
}

func TestASessionWithoutHTTPHasNoStreams(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		dialled, taken := newWire(t).calls(t, Handler{}, Handler{HTTP: named("server")})
		if _, err := dialled.Call(t.Context(), "x", nil); api.CodeOf(err) != api.CodeNotFound {
			t.Error(err)
		}
		if dialled.streams.mux != nil || taken.streams.mux != nil {
			t.Error("there is a yamux that nobody needs")
		}
		if got, err := get(t.Context(), dialled, "/"); err != nil || got != "server to client n1" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestForeignFrames: what is no frame ends the session, and takes no memory that it only claims.
func TestForeignFrames(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"an unknown kind":   frame(99, 0),
		"too large":         binary.BigEndian.AppendUint32([]byte{frameCall, 0, 0, 0, 1}, maxFrame+1),
		"cut short":         binary.BigEndian.AppendUint32([]byte{frameCall, 0, 0, 0, 1}, maxFrame),
		"a call of nothing": frame(frameCall, 1),
		"a name cut short":  frame(frameCall, 1, []byte{5, 'a'}),
		"a number twice":    append(frame(frameCall, 1, []byte{0}), frame(frameCall, 1, []byte{0})...),
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				incoming := w.accept(t.Context(), nil)
				conn := w.dial(t)
				if err := greet(t.Context(), conn, Hello{Protocol: RPC, Role: api.RoleClient, Sender: "n1"}); err != nil {
					t.Fatal(err)
				}
				taken := (<-incoming).in.Session
				ended := make(chan error, 1)
				go func() {
					ended <- taken.Serve(t.Context(), Handler{Call: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
						<-ctx.Done()
						return nil, ctx.Err()
					}})
				}()
				if _, err := conn.Write(bytes); err != nil {
					t.Fatal(err)
				}
				if name == "cut short" {
					conn.Close()
				}
				if err := <-ended; api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "broke") {
					t.Errorf("the session ended with %v", err)
				}
				conn.Close()
			})
		})
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame(frameCall, 7, []byte("\x01xbody")))
	f.Add(frame(framePing, 0, []byte{0, 0, 1, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newFrameReader(bytes.NewReader(b))
		for {
			kind, call, body, err := in.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				return
			}
			again := frame(kind, call, body)
			if !bytes.HasPrefix(b, again) {
				t.Fatalf("%x was read as %x", b, again)
			}
			b = b[len(again):]
		}
	})
}
