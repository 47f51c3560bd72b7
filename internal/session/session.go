package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cube/api"
)

// Session is an RPC connection between two agents, on which both may ask: see Call, Transport and Serve. All methods are
// safe for concurrent use.
type Session struct {
	peer  Hello
	conn  net.Conn
	out   *frameWriter
	began time.Time
	done  chan struct{} // closed when the session has ended

	// Since began, in nanoseconds.
	heard, sent atomic.Int64

	asked     asked
	answering answering
	calls     sync.WaitGroup // of the other side, being answered
	pulse     pulse
	streams   streams

	mu     sync.Mutex        // guards what follows
	http   http.RoundTripper // nil until it is asked for
	timer  *time.Timer       // of the next look at the pulse; nil before Serve
	reason error             // why the session ended
	closed bool              // by us
}

// Incoming is an accepted connection: Conn is set for Raft, Session for RPC.
type Incoming struct {
	Hello   Hello
	Conn    net.Conn
	Session *Session
}

// Handler answers the other side of a session. Any field may be left out.
type Handler struct {
	Call CallFunc
	HTTP http.Handler
	// Quiet says, on the accepting side, how long a session may be silent before it is made sure that the other side
	// lives: from one second, which is the default, to fifteen. It is asked anew for each ping.
	Quiet func() time.Duration
}

// Dial greets the other side of a fresh connection and makes it a Session. It closes conn when it fails; a refusal is an
// *api.Error with the other side's code and sentence. ctx bounds the greeting only. Then Serve must be called: nothing is
// read before.
func Dial(ctx context.Context, conn net.Conn, h Hello) (*Session, error) {
	h.Protocol = RPC
	if err := greet(ctx, conn, h); err != nil {
		return nil, err
	}
	return open(conn, Hello{Protocol: RPC, ClusterID: h.ClusterID, Role: api.RoleServer, Sender: h.Target, Target: h.Sender}, true), nil
}

// DialRaw greets the other side and returns the bare connection, for Raft. Errors are as Dial's.
func DialRaw(ctx context.Context, conn net.Conn, h Hello) (net.Conn, error) {
	h.Protocol = Raft
	if err := greet(ctx, conn, h); err != nil {
		return nil, err
	}
	return conn, nil
}

// Accept reads the preamble of a fresh connection, asks check (nil: everything is welcome) and answers. The error of
// check is sent to the dialler, code and sentence, and returned. Accept takes at most five seconds, closes conn when it
// fails, and does so at once when what comes is not this protocol. Call it in a goroutine of its own, and then Serve.
func Accept(ctx context.Context, conn net.Conn, check func(Hello) error) (*Incoming, error) {
	h, err := admit(ctx, conn, check)
	if err != nil {
		return nil, err
	}
	if h.Protocol == Raft {
		return &Incoming{Hello: h, Conn: conn}, nil
	}
	return &Incoming{Hello: h, Session: open(conn, h, false)}, nil
}

func open(conn net.Conn, peer Hello, dialled bool) *Session {
	s := &Session{peer: peer, conn: conn, began: time.Now(), done: make(chan struct{})}
	s.pulse.accepts, s.pulse.quiet = !dialled, minQuiet
	if dialled {
		s.pulse.quiet = maxQuiet // until the other side has said what it is
	}
	s.out = newFrameWriter(conn, func() { s.sent.Store(int64(s.now())) })
	s.streams.session, s.streams.dialled = s, dialled
	return s
}

func (s *Session) now() time.Duration { return time.Since(s.began) }

// Serve reads what comes, answers what the other side asks, and watches over its silence, until the session ends; it
// returns why it did. When ctx ends, Serve closes the session. The contexts of calls and requests carry the peer (see
// From) and end with the session; Serve returns after the last of them. Call it once, soon after the session was opened.
func (s *Session) Serve(ctx context.Context, h Handler) error {
	base, cancel := context.WithCancel(context.WithValue(ctx, peerKey{}, s.peer))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if h.Call == nil {
		h.Call = noCalls
	}
	if h.HTTP == nil {
		h.HTTP = http.NotFoundHandler()
	}
	if h.Quiet == nil {
		h.Quiet = func() time.Duration { return minQuiet }
	}
	s.streams.serve(base, h.HTTP)
	s.watch(h.Quiet)
	s.end(s.read(base, h))
	cancel()
	s.calls.Wait()
	s.streams.wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.Err()
}

// read takes frames until the connection ends or carries what is no frame, and returns why.
func (s *Session) read(base context.Context, h Handler) error {
	in := newFrameReader(hearing{s})
	for {
		kind, number, body, err := in.next()
		if err != nil {
			return err
		}
		switch kind {
		case frameCall:
			err = s.answer(base, h.Call, number, body)
		case frameAnswer, frameFail:
			s.answered(kind, number, body)
		case frameCancel:
			s.answering.cancel(number)
		case framePing:
			if len(body) >= 4 {
				s.pulse.setQuiet(time.Duration(binary.BigEndian.Uint32(body)) * time.Millisecond)
			}
			s.calls.Go(func() { _ = s.write(frame(framePong, 0)) }) // two sides that only write would wait for each other
		case framePong:
		case frameMux:
			err = s.streams.deliver(body)
		default:
			err = fmt.Errorf("%w: a frame of kind %d", errForeign, kind)
		}
		if err != nil {
			return err
		}
	}
}

// hearing is the connection's reading side; it notes when something came.
type hearing struct{ *Session }

func (c hearing) Read(b []byte) (int, error) {
	n, err := c.conn.Read(b)
	if n > 0 {
		c.heard.Store(int64(c.now()))
	}
	return n, err
}

// write sends a frame. It fails with what ended the session.
func (s *Session) write(f []byte) error {
	if err := s.out.write(f); err != nil {
		s.end(err)
		return err
	}
	return nil
}

// watch looks at the pulse until the session ends. The accepting side's first ping tells the other how quiet it may be.
func (s *Session) watch(quiet func() time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return
	}
	if !s.pulse.accepts {
		s.timer = time.AfterFunc(maxQuiet+silence, func() { s.look(nil) })
		return
	}
	s.timer = time.AfterFunc(s.pulse.setQuiet(quiet()), func() { s.look(quiet) })
	s.calls.Go(func() { _ = s.write(s.pulse.ping()) }) // where it fails the session is over
}

// look is the timer's.
func (s *Session) look(quiet func() time.Duration) {
	verdict, next := s.pulse.look(s.now(), time.Duration(s.heard.Load()), time.Duration(s.sent.Load()))
	if verdict == isSilent {
		s.end(errSilent)
		return
	}
	s.lookAt(next)
	if verdict == needsPing {
		s.pulse.setQuiet(quiet())
		_ = s.write(s.pulse.ping())
	}
}

func (s *Session) lookAt(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil && s.reason == nil {
		s.timer.Reset(max(0, at-s.now()))
	}
}

// Probe makes sure that the other side lives: unless something is heard of it within three seconds the session ends. It
// is for those who have a reason to doubt, so that quiet sessions need few pings.
func (s *Session) Probe() {
	if at, ok := s.pulse.ask(s.now(), time.Duration(s.heard.Load())); ok && !s.ended() {
		s.lookAt(at)
		_ = s.write(s.pulse.ping())
	}
}

// Heard is when something last came from the other side; of a session that has just begun, when it did.
func (s *Session) Heard() time.Time { return s.began.Add(time.Duration(s.heard.Load())) }

// Peer is the other side: its own Hello on the accepting side; on the dialling side what the dialler knew, with the
// target as Sender.
func (s *Session) Peer() Hello { return s.peer }

// RemoteAddr is the other side's address.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// errSilent ends a session whose other side does not answer.
var errSilent = errors.New("silence")

// Err says why the session ended, as an *api.Error with CodeUnavailable; nil while it lasts.
func (s *Session) Err() error {
	if !s.ended() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	peer, why := s.conn.RemoteAddr(), s.reason
	switch {
	case s.closed:
		return api.Errorf(api.CodeUnavailable, "the session with %s was closed", peer)
	case errors.Is(why, io.EOF):
		return api.Errorf(api.CodeUnavailable, "%s closed the session", peer)
	case errors.Is(why, errSilent):
		return api.Errorf(api.CodeUnavailable, "nothing heard from %s for %s", peer, silence)
	case !errors.Is(why, net.ErrClosed):
		return api.Errorf(api.CodeUnavailable, "the session with %s broke: %w", peer, why)
	}
	return api.Errorf(api.CodeUnavailable, "the session with %s broke", peer)
}

// end ends the session for a reason, once.
func (s *Session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(why, false)
}

func (s *Session) finish(why error, closed bool) {
	if s.reason != nil {
		return
	}
	s.reason, s.closed = why, closed
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.done)
	s.conn.Close() // it says only that it was closed already
}

// Close ends the session: what is under way fails on both sides. It may be called more than once.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(net.ErrClosed, true)
	return nil
}
