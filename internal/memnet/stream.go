package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how much one side of a connection may have sent that the other has not read: what a socket's buffers hold.
const window = 256 << 10

// stream is a connection: two ends, each reading from a half of its own.
type stream struct{ ends [2]*conn }

func newStream(a *Host, aAddr net.Addr, b *Host, bAddr net.Addr) *stream {
	x, y := newHalf(), newHalf()
	s := &stream{}
	s.ends[0] = &conn{stream: s, host: a, local: aAddr, remote: bAddr, in: x, out: y}
	s.ends[1] = &conn{stream: s, host: b, local: bAddr, remote: aAddr, in: y, out: x}
	return s
}

// conn is one end.
type conn struct {
	stream        *stream
	host          *Host
	local, remote net.Addr
	in, out       *half
	gone          bool // closed, or failed by a fault; under the network's lock, as crashed
	crashed       bool // its host died while it was open: the other end is told when it can be
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(b []byte) (int, error) { return c.in.read(b) }

func (c *conn) Write(b []byte) (int, error) { return c.out.write(b, c.host.net.delay()) }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.readBy.set(t, c.in)
	c.out.writeBy.set(t, c.out)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.readBy.set(t, c.in)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.writeBy.set(t, c.out)
	return nil
}

// Close ends both directions: the other end reads what was sent before, then the end.
func (c *conn) Close() error {
	c.in.closeRead()
	c.out.closeWrite(c.host.net.delay())
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	c.gone = true
	if c.stream.ends[0].gone && c.stream.ends[1].gone {
		delete(n.streams, c.stream)
	}
	return nil
}

// fail makes everything at this end return err.
func (c *conn) fail(err error) {
	c.in.mu.Lock()
	c.in.readErr = err
	c.in.wake.Broadcast()
	c.in.mu.Unlock()
	c.out.mu.Lock()
	c.out.writeErr = err
	c.out.wake.Broadcast()
	c.out.mu.Unlock()
}

// half is one direction of a connection: what was written and has not been read.
type half struct {
	mu       sync.Mutex
	wake     sync.Cond // something below has changed, or a time has come
	queue    []segment
	size     int       // bytes in queue
	last     time.Time // nothing arrives before it, so that bytes stay in order
	held     bool      // the link is cut: nothing arrives
	ended    bool      // the writing end was closed, and the reader may know from endAt
	endAt    time.Time
	unread   bool // the reading end was closed
	readErr  error
	writeErr error
	readBy   deadline
	writeBy  deadline
}

// segment is what one write sent.
type segment struct {
	data []byte
	at   time.Time // when it arrives
}

func newHalf() *half {
	h := &half{}
	h.wake.L = &h.mu
	return h
}

func (h *half) broadcast() {
	h.mu.Lock()
	h.wake.Broadcast()
	h.mu.Unlock()
}

// later wakes the reader when something sent now arrives, and returns when that is. The caller holds h.mu.
func (h *half) later(delay time.Duration) time.Time {
	at := time.Now().Add(delay)
	if at.Before(h.last) {
		at = h.last
	}
	h.last = at
	if d := time.Until(at); d > 0 {
		time.AfterFunc(d, h.broadcast)
	} else {
		h.wake.Broadcast()
	}
	return at
}

func (h *half) hold(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held != held {
		h.held = held
		h.wake.Broadcast()
	}
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case h.unread:
			return 0, net.ErrClosed
		case h.readErr != nil:
			return 0, h.readErr
		case h.readBy.over(now):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case h.held:
		case len(h.queue) > 0:
			if !h.queue[0].at.After(now) {
				return h.take(b), nil
			}
		case h.ended && !h.endAt.After(now):
			return 0, io.EOF
		}
		h.wake.Wait()
	}
}

func (h *half) take(b []byte) int {
	first := &h.queue[0]
	n := copy(b, first.data)
	first.data = first.data[n:]
	h.size -= n
	if len(first.data) == 0 {
		h.queue[0] = segment{}
		h.queue = h.queue[1:]
	}
	h.wake.Broadcast() // a writer may have room
	return n
}

func (h *half) write(b []byte, delay time.Duration) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := 0
	for {
		switch {
		case h.ended:
			return done, net.ErrClosed
		case h.writeErr != nil:
			return done, h.writeErr
		case h.unread && !h.held:
			return done, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
		case h.writeBy.over(time.Now()):
			return done, os.ErrDeadlineExceeded
		case done == len(b):
			return done, nil
		}
		if room := min(window-h.size, len(b)-done); room > 0 {
			h.queue = append(h.queue, segment{append([]byte(nil), b[done:done+room]...), h.later(delay)})
			h.size += room
			done += room
			continue
		}
		h.wake.Wait()
	}
}

func (h *half) closeRead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unread = true
	h.queue, h.size = nil, 0
	h.readBy.stop()
	h.wake.Broadcast()
}

func (h *half) closeWrite(delay time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		h.ended = true
		h.endAt = h.later(delay)
		h.writeBy.stop()
		h.wake.Broadcast()
	}
}

// deadline is a point in time at which a half is woken.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(t time.Time, h *half) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.at = t
	switch left := time.Until(t); {
	case t.IsZero():
		d.stop()
	case left <= 0:
		d.stop()
		h.wake.Broadcast()
	case d.timer == nil:
		d.timer = time.AfterFunc(left, h.broadcast)
	default:
		d.timer.Reset(left)
	}
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) over(now time.Time) bool { return !d.at.IsZero() && !now.Before(d.at) }
