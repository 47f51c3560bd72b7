package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// packetQueue is how many packets wait for memberlist; more are lost, as in a socket's buffer.
const packetQueue = 1024

// Transport is a host's gossip endpoint: packets and streams on one port.
type Transport struct {
	host    *Host
	addr    netip.AddrPort
	streams *listener
	packets chan *memberlist.Packet
	ctx     context.Context // ends with Shutdown: dials end with it
	cancel  context.CancelFunc
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Transport opens a gossip endpoint on "ip:port", as Listen does.
func (h *Host) Transport(addr string) (*Transport, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l, err := h.listen(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		host:    h,
		addr:    l.addr.AddrPort(),
		streams: l,
		packets: make(chan *memberlist.Packet, packetQueue),
		ctx:     ctx,
		cancel:  cancel,
	}
	h.packets[l.addr.Port] = t
	return t, nil
}

// take queues a packet. The network calls it under its lock.
func (t *Transport) take(b []byte, from net.Addr) {
	if len(b) == 0 {
		return
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: time.Now()}:
	default:
	}
}

// FinalAdvertiseAddr is the given address, or else the endpoint's own.
func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		return net.ParseIP(t.host.ip), int(t.addr.Port()), nil
	}
	a := net.ParseIP(ip)
	if a == nil {
		return nil, 0, fmt.Errorf("%q is not an IP address", ip)
	}
	if port == 0 {
		port = int(t.addr.Port())
	}
	return a, port, nil
}

// WriteTo sends a packet; whether it arrives is not told.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %s: %w", addr, err)
	}
	if t.ctx.Err() != nil {
		return time.Time{}, net.ErrClosed
	}
	t.host.net.send(t, to, b)
	return time.Now(), nil
}

// WriteToAddress is WriteTo.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh is where packets arrive.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is where connections arrive.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams.queue }

// DialTimeout connects to another endpoint.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	return t.host.Dial(ctx, addr)
}

// DialAddressTimeout is DialTimeout.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown closes the endpoint.
func (t *Transport) Shutdown() error {
	t.cancel()
	t.host.net.mu.Lock()
	if t.host.packets[int(t.addr.Port())] == t {
		delete(t.host.packets, int(t.addr.Port()))
	}
	t.host.net.mu.Unlock()
	return t.streams.Close()
}
