package attach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

// attached is a command and a person with a connection between them.
type attached struct {
	*testing.T
	person, node net.Conn
	served       chan struct{}
}

// serve begins a command. The connection passes each byte on at once and holds none, as the worst one would.
func serve(t *testing.T, ctx context.Context, run func(context.Context, *Command) (int, error)) *attached {
	a := &attached{T: t, served: make(chan struct{})}
	a.person, a.node = net.Pipe()
	go func() {
		defer close(a.served)
		Serve(ctx, a.node, run)
	}()
	return a
}

func TestInputOutputAndCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make([]byte, 3<<20+17)
		for i := range sent {
			sent[i] = byte(rand.Uint32())
		}
		a := serve(t, t.Context(), func(_ context.Context, c *Command) (int, error) {
			n, err := io.Copy(c.Stdout, c.Stdin)
			if err != nil || n != int64(len(sent)) {
				t.Errorf("the command read %d bytes, %v", n, err)
			}
			_, err = io.WriteString(c.Stderr, "all read\n")
			return 7, err
		})
		var out, errs bytes.Buffer
		p := &Person{Stdin: bytes.NewReader(sent), Stdout: &out, Stderr: &errs}
		if code, err := p.Run(t.Context(), a.person); code != 7 || err != nil {
			t.Errorf("it ended with %d, %v", code, err)
		}
		if !bytes.Equal(out.Bytes(), sent) || errs.String() != "all read\n" {
			t.Errorf("of %d bytes %d came back, and %q beside them", len(sent), out.Len(), &errs)
		}
		<-a.served
	})
}

func TestSignalsAndSizesPassInputThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := serve(t, t.Context(), func(_ context.Context, c *Command) (int, error) {
			if size := <-c.Resize; size != (api.WindowSize{Rows: 50, Columns: 120}) {
				t.Errorf("the size is %+v", size)
			}
			return 128 + int(<-c.Signals), nil
		})
		sizes, signals := make(chan api.WindowSize), make(chan syscall.Signal)
		endless := &counter{}
		type result struct {
			code int
			err  error
		}
		done := make(chan result)
		go func() {
			p := &Person{Stdin: endless, Stdout: io.Discard, Stderr: io.Discard, Resize: sizes, Signals: signals}
			code, err := p.Run(t.Context(), a.person)
			done <- result{code, err}
		}()
		synctest.Wait()
		if endless.n != window {
			t.Errorf("%d bytes are on their way to a command that reads nothing, want %d", endless.n, window)
		}
		sizes <- api.WindowSize{Rows: 50, Columns: 120}
		signals <- syscall.SIGTERM
		if r := <-done; r.code != 143 || r.err != nil {
			t.Errorf("it ended with %d, %v", r.code, r.err)
		}
		<-a.served
	})
}

// counter is input without an end.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

func TestOutputWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		a := serve(t, t.Context(), func(ctx context.Context, c *Command) (int, error) {
			for {
				n, err := c.Stdout.Write(make([]byte, 1000))
				written += n
				if err != nil {
					return -1, ctx.Err()
				}
			}
		})
		stuck := make(chan struct{})
		p := &Person{Stdout: writer(func(b []byte) (int, error) { <-stuck; return 0, errors.New("the screen is gone") }), Stderr: io.Discard}
		done := make(chan error)
		go func() {
			_, err := p.Run(t.Context(), a.person)
			done <- err
		}()
		time.Sleep(10 * time.Minute) // both say all the while that they are there
		if written > 3000 {
			t.Errorf("%d bytes were written that nobody has read", written)
		}
		close(stuck)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "the screen is gone") {
			t.Errorf("it gives %v", err)
		}
		<-a.served
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestACommandEndsWithItsPerson(t *testing.T) {
	for name, leave := range map[string]func(cancel context.CancelFunc, conn net.Conn){
		"who stops":                  func(cancel context.CancelFunc, _ net.Conn) { cancel() },
		"whose connection is cut":    func(_ context.CancelFunc, conn net.Conn) { conn.Close() },
		"who says what is no answer": func(_ context.CancelFunc, conn net.Conn) { _, _ = conn.Write(frame('?', nil)) },
		"who falls silent":           func(context.CancelFunc, net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var lasted time.Duration
				a := serve(t, t.Context(), func(ctx context.Context, c *Command) (int, error) {
					_, err := c.Stdin.Read(make([]byte, 1))
					<-ctx.Done()
					lasted = time.Since(began)
					if err == nil {
						t.Error("the command read something")
					}
					return -1, ctx.Err()
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if name == "who stops" {
					done := make(chan error)
					go func() {
						_, err := (&Person{Stdout: io.Discard, Stderr: io.Discard}).Run(ctx, a.person)
						done <- err
					}()
					time.Sleep(5 * time.Minute)
					began = time.Now()
					leave(cancel, a.person)
					if err := <-done; !errors.Is(err, context.Canceled) {
						t.Errorf("it gives %v", err)
					}
				} else {
					go func() { _, _ = io.Copy(io.Discard, a.person) }()
					leave(cancel, a.person)
				}
				<-a.served
				a.person.Close()
				if lasted > silence+2*aliveEvery {
					t.Errorf("the command went on for %v", lasted)
				}
			})
		})
	}
}

func TestAPersonHearsThatTheNodeIsGone(t *testing.T) {
	for name, node := range map[string]func(conn net.Conn){
		"cut off":     func(conn net.Conn) { conn.Close() },
		"silent":      func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"in a part":   func(conn net.Conn) { _, _ = conn.Write([]byte{byte(kindOutput), 0, 0}); conn.Close() },
		"too large":   func(conn net.Conn) { _, _ = conn.Write([]byte{byte(kindOutput), 1, 0, 0, 0}); conn.Close() },
		"no frame":    func(conn net.Conn) { _, _ = conn.Write(frame('?', nil)); conn.Close() },
		"no last one": func(conn net.Conn) { _, _ = conn.Write(frame(kindExit, []byte("{"))); conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				person, end := net.Pipe()
				go node(end)
				code, err := (&Person{Stdout: io.Discard, Stderr: io.Discard}).Run(t.Context(), person)
				if code != -1 || !errors.Is(err, ErrGone) && !errors.Is(err, errForeign) {
					t.Errorf("it gives %d, %v", code, err)
				}
			})
		})
	}
}

func TestWhyThereIsNoCode(t *testing.T) {
	for _, c := range []struct {
		code int
		err  error
		want api.Code
	}{
		{127, api.Errorf(api.CodeInvalid, "there is no command sh"), api.CodeInvalid},
		{-1, errors.New("the engine fell"), api.CodeInternal},
		{-1, context.Canceled, api.CodeUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := serve(t, t.Context(), func(context.Context, *Command) (int, error) { return c.code, c.err })
			code, err := (&Person{Stdout: io.Discard, Stderr: io.Discard}).Run(t.Context(), a.person)
			if code != c.code || api.CodeOf(err) != c.want {
				t.Errorf("%v comes as %d, %v (%s)", c.err, code, err, api.CodeOf(err))
			}
			<-a.served
		})
	}
}

func TestMoreInputThanThereIsRoomForIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := serve(t, t.Context(), func(ctx context.Context, _ *Command) (int, error) {
			<-ctx.Done()
			if why := context.Cause(ctx); !errors.Is(why, errForeign) {
				t.Errorf("it ended for %v", why)
			}
			return -1, ctx.Err()
		})
		go func() { _, _ = io.Copy(io.Discard, a.person) }()
		for range window/maxPayload + 1 {
			if _, err := a.person.Write(frame(kindInput, make([]byte, maxPayload))); err != nil {
				break
			}
		}
		<-a.served
		a.person.Close()
	})
}
