package session

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"cube/api"
)

const (
	// silence closes a session: nothing at all was heard of the other side for so long.
	silence = 3 * time.Second
	// pingInterval is how often the accepting side pings. The answer is what each side hears of the other in a quiet
	// session, so one side's pings serve both; three may be late before the session closes.
	pingInterval = time.Second
	// secondLook is how long a read goes on after silence: a process that was itself stopped for a while finds what came
	// meanwhile in the kernel's buffer, and must not take its own sleep for the other's.
	secondLook = 250 * time.Millisecond
	// writeTimeout fails a stream's write that the connection does not take. It is far above silence: a side that hears
	// the other but cannot get rid of a frame is on a slow line.
	writeTimeout = 10 * time.Second
	// backlog is how many streams may be opened before the other side has taken them.
	backlog = 64
)

// Session is an RPC connection between two agents: HTTP requests in both directions over one connection. All methods are
// safe for concurrent use.
type Session struct {
	peer   Hello
	conn   *heard
	mux    *yamux.Session
	http   http.RoundTripper
	closed atomic.Bool // by us
}

// Incoming is an accepted connection: Conn is set for Raft, Session for RPC.
type Incoming struct {
	Hello   Hello
	Conn    net.Conn
	Session *Session
}

// Dial greets the other side of a fresh connection and makes it a Session. It closes conn when it fails; a refusal is an
// *api.Error with the other side's code and sentence. ctx bounds the greeting only.
func Dial(ctx context.Context, conn net.Conn, h Hello) (*Session, error) {
	h.Protocol = RPC
	if err := greet(ctx, conn, h); err != nil {
		return nil, err
	}
	return open(conn, Hello{Protocol: RPC, ClusterID: h.ClusterID, Role: api.RoleServer, Sender: h.Target, Target: h.Sender}, true)
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
// fails, and does so at once when what comes is not this protocol. Call it in a goroutine of its own.
func Accept(ctx context.Context, conn net.Conn, check func(Hello) error) (*Incoming, error) {
	h, err := admit(ctx, conn, check)
	if err != nil {
		return nil, err
	}
	if h.Protocol == Raft {
		return &Incoming{Hello: h, Conn: conn}, nil
	}
	s, err := open(conn, h, false)
	if err != nil {
		return nil, err
	}
	return &Incoming{Hello: h, Session: s}, nil
}

func open(conn net.Conn, peer Hello, dialled bool) (*Session, error) {
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = backlog
	cfg.EnableKeepAlive = !dialled
	cfg.KeepAliveInterval = pingInterval
	cfg.ConnectionWriteTimeout = writeTimeout
	cfg.StreamOpenTimeout = 30 * time.Second  // a side that serves takes a stream within milliseconds
	cfg.StreamCloseTimeout = 30 * time.Second // then a half-closed stream is reset
	cfg.LogOutput = io.Discard                // what matters is in Err
	s := &Session{peer: peer, conn: &heard{Conn: conn}}
	var err error
	if dialled {
		s.mux, err = yamux.Client(s.conn, cfg)
	} else {
		s.mux, err = yamux.Server(s.conn, cfg)
	}
	if err != nil {
		conn.Close()
		return nil, api.Errorf(api.CodeInternal, "open a session with %s: %w", conn.RemoteAddr(), err)
	}
	s.http = newTransport(s)
	return s, nil
}

// Peer is the other side: its own Hello on the accepting side; on the dialling side what the dialler knew, with the
// target as Sender.
func (s *Session) Peer() Hello { return s.peer }

// RemoteAddr is the other side's address.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Err says why the session ended, as an *api.Error with CodeUnavailable; nil while it lasts.
func (s *Session) Err() error {
	if !s.mux.IsClosed() {
		return nil
	}
	why := s.conn.reason()
	switch {
	case s.closed.Load():
		return api.Errorf(api.CodeUnavailable, "the session with %s was closed", s.conn.RemoteAddr())
	case errors.Is(why, io.EOF):
		return api.Errorf(api.CodeUnavailable, "%s closed the session", s.conn.RemoteAddr())
	case errors.Is(why, os.ErrDeadlineExceeded):
		return api.Errorf(api.CodeUnavailable, "nothing heard from %s for %s", s.conn.RemoteAddr(), silence)
	case why != nil && !errors.Is(why, net.ErrClosed):
		return api.Errorf(api.CodeUnavailable, "the session with %s broke: %w", s.conn.RemoteAddr(), why)
	}
	return api.Errorf(api.CodeUnavailable, "the session with %s broke", s.conn.RemoteAddr())
}

// Close ends the session: requests in flight fail on both sides. It may be called more than once.
func (s *Session) Close() error {
	if !s.mux.IsClosed() {
		s.closed.Store(true)
	}
	return s.mux.Close()
}

// heard is a connection whose reads fail after silence. Only yamux's receiver reads it.
type heard struct {
	net.Conn
	mu  sync.Mutex
	err error // the first that Read met
}

func (c *heard) Read(b []byte) (int, error) {
	n, err := c.readWithin(b, silence)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = c.readWithin(b, secondLook)
	}
	if err != nil {
		c.mu.Lock()
		if c.err == nil {
			c.err = err
		}
		c.mu.Unlock()
	}
	return n, err
}

func (c *heard) readWithin(b []byte, d time.Duration) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *heard) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
