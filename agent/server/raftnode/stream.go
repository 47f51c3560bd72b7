package raftnode

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Stream is raft's view of a port that it shares with other protocols: whoever owns the port delivers the connections
// that are for raft.
type Stream struct {
	address string
	dial    Dial
	servers atomic.Pointer[func() []raft.Server] // the configuration; nil until raft runs
	conns   chan net.Conn
	lost    chan struct{} // signalled when a connection ended that another server had opened
	closed  chan struct{}

	mu   sync.Mutex
	open map[*streamConn]struct{} // nil when closed: raft's transport leaves its connections open when it shuts down
}

// streamConn is a connection that Close closes too.
type streamConn struct {
	net.Conn
	stream   *Stream
	accepted bool
}

func (c *streamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.accepted {
		select {
		case c.stream.lost <- struct{}{}:
		default: // whoever is told looks at what is there then
		}
	}
	return n, err
}

func (c *streamConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.open, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// track takes a connection into what Close closes; it closes it at once when that has happened.
func (s *Stream) track(conn net.Conn, accepted bool) (net.Conn, error) {
	c := &streamConn{conn, s, accepted}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		conn.Close() // nobody will use it
		return nil, net.ErrClosed
	}
	s.open[c] = struct{}{}
	return c, nil
}

var _ raft.StreamLayer = (*Stream)(nil)

// Dial opens a connection that the other side delivers to its own Stream. id is the server that is meant, "" when the
// configuration has none at that address.
type Dial func(ctx context.Context, address, id string) (net.Conn, error)

// NewStream returns the stream of the server that others reach at address.
func NewStream(address string, dial Dial) *Stream {
	return &Stream{address: address, dial: dial, conns: make(chan net.Conn), lost: make(chan struct{}, 1), closed: make(chan struct{}), open: make(map[*streamConn]struct{})}
}

// Deliver hands over an accepted connection; it closes it when raft has shut down.
func (s *Stream) Deliver(c net.Conn) {
	select {
	case s.conns <- c:
	case <-s.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (s *Stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return s.track(c, true)
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It closes all connections as well.
func (s *Stream) Close() error {
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	if open == nil {
		return nil // closed before
	}
	close(s.closed)
	for c := range open {
		c.Conn.Close() // whoever uses it sees the error
	}
	return nil
}

// Addr implements net.Listener: the address others know.
func (s *Stream) Addr() net.Addr { return streamAddr(s.address) }

// Dial implements raft.StreamLayer.
func (s *Stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	id := ""
	if servers := s.servers.Load(); servers != nil {
		for _, server := range (*servers)() {
			if server.Address == address {
				id = string(server.ID)
			}
		}
	}
	conn, err := s.dial(ctx, string(address), id)
	if err != nil {
		return nil, err
	}
	return s.track(conn, false)
}

type streamAddr string

func (streamAddr) Network() string  { return "cube" }
func (a streamAddr) String() string { return string(a) }
