package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	firstEphemeral = 40000
	acceptQueue    = 128
	// connectTimeout ends a dial whose context has no end, as an operating system does.
	connectTimeout = 2 * time.Minute
)

var (
	errHostDown = fmt.Errorf("this host is down: %w", net.ErrClosed)
	errReset    = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
)

// Host is a machine on a Network. All methods are safe for concurrent use.
type Host struct {
	net       *Network
	ip        string
	down      Death // the rest under net.mu
	listeners map[int]*listener
	packets   map[int]*Transport
	nextPort  int
}

// IP is the host's address.
func (h *Host) IP() string { return h.ip }

// Listen listens on "ip:port", where ip is the host's own, unspecified or empty; port 0 takes a free one.
func (h *Host) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.listen(addr)
}

func (h *Host) listen(addr string) (*listener, error) {
	ip, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if a, err := netip.ParseAddr(ip); ip != "" && (err != nil || !a.IsUnspecified() && a.String() != h.ip) {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: fmt.Errorf("%s is not an address of %s: %w", ip, h.ip, syscall.EADDRNOTAVAIL)}
	}
	p, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	if p == 0 {
		p = h.ephemeral()
	}
	at := &net.TCPAddr{IP: net.ParseIP(h.ip), Port: p}
	if h.down != 0 {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: errHostDown}
	}
	if h.listeners[p] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{host: h, addr: at, queue: make(chan net.Conn, acceptQueue), closed: make(chan struct{})}
	h.listeners[p] = l
	return l, nil
}

// ephemeral finds a port that nothing listens on. The caller holds net.mu.
func (h *Host) ephemeral() int {
	for {
		h.nextPort++
		if h.nextPort > 65535 {
			h.nextPort = firstEphemeral
		}
		if h.listeners[h.nextPort] == nil {
			return h.nextPort
		}
	}
}

// Dial connects to "ip:port". Across a cut, or to a machine that is dead, it waits until that is over or ctx is; where
// nothing listens it is refused.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if rtt := h.net.delay() + h.net.delay(); rtt > 0 {
		select {
		case <-time.After(rtt):
		case <-ctx.Done():
			return fail(timeoutOf(ctx))
		}
	}
	for {
		c, wait, err := h.connect(to)
		if err != nil {
			return fail(err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fail(timeoutOf(ctx))
		}
	}
}

func timeoutOf(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded // says "i/o timeout", as a real dial does
	}
	return ctx.Err()
}

// connect makes and registers a connection, or gives a channel that is closed when trying again makes sense.
func (h *Host) connect(to netip.AddrPort) (net.Conn, <-chan struct{}, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.hosts[to.Addr().String()]
	switch {
	case h.down != 0:
		return nil, nil, errHostDown
	case target == nil:
		return nil, nil, os.NewSyscallError("connect", syscall.EHOSTUNREACH)
	case n.blocked(h, target) || n.blocked(target, h):
		return nil, n.changed, nil
	}
	l := target.listeners[int(to.Port())]
	if l == nil || len(l.queue) == cap(l.queue) {
		return nil, nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	s := newStream(h, &net.TCPAddr{IP: net.ParseIP(h.ip), Port: h.ephemeral()}, target, l.addr)
	n.streams[s] = struct{}{}
	l.queue <- s.ends[1] // has room: only connect sends, under n.mu
	return s.ends[0], nil, nil
}

// listener queues connections until they are accepted.
type listener struct {
	host   *Host
	addr   *net.TCPAddr
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, l.err()
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, l.err()
	}
}

func (l *listener) err() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Close() error {
	l.host.net.mu.Lock()
	if l.host.listeners[l.addr.Port] == l {
		delete(l.host.listeners, l.addr.Port)
	}
	l.shut()
	l.host.net.mu.Unlock()
	for {
		select {
		case c := <-l.queue: // nobody will accept it
			c.Close()
		default:
			return nil
		}
	}
}

func (l *listener) shut() { l.once.Do(func() { close(l.closed) }) }
