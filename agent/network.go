package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network is what an agent knows of the network: the machine's own, or an in-memory one in tests.
type Network interface {
	Listen(addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// Gossip returns the transport for gossip on that address, nil for memberlist's own.
	Gossip(addr string) (memberlist.NodeAwareTransport, error)
	// GossipFree reports whether gossip can stand on that address: TCP and UDP.
	GossipFree(addr string) error
	// Own returns the address to advertise (the default route's own, or the first that is neither loopback nor public,
	// or 127.0.0.1) and whether the machine has a public address too.
	Own() (advertise string, public bool)
}

// hostNetwork is the machine's own network.
type hostNetwork struct{}

func (hostNetwork) Listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

func (hostNetwork) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

func (hostNetwork) Gossip(string) (memberlist.NodeAwareTransport, error) { return nil, nil }

func (hostNetwork) GossipFree(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return p.Close()
}

func (hostNetwork) Own() (advertise string, public bool) {
	advertise = "127.0.0.1"
	all, err := net.InterfaceAddrs()
	if err != nil {
		return advertise, false // a machine that cannot list its addresses has loopback
	}
	route := defaultRoute()
	var first net.IP
	routed := false
	for _, x := range all {
		n, ok := x.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.IsLinkLocalUnicast() {
			continue
		}
		if isPublic(n.IP) {
			public = true
			continue
		}
		if first == nil && n.IP.To4() != nil {
			first = n.IP
		}
		if route != nil && n.IP.Equal(route) {
			routed = true
			advertise = n.IP.String()
		}
	}
	if first != nil && !routed {
		advertise = first.String()
	}
	return advertise, public
}

// defaultRoute returns the address this machine would send from. Connecting a UDP socket sends nothing.
func defaultRoute() net.IP {
	c, err := net.Dial("udp4", "192.0.2.1:9") // documentation range: never somebody's
	if err != nil {
		return nil
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.IP
	}
	return nil
}

// reserved are ranges that are global by their bits but reach nobody: shared address space and documentation.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"),   // RFC 6598
		netip.MustParsePrefix("192.0.2.0/24"),    // RFC 5737
		netip.MustParsePrefix("198.51.100.0/24"), // RFC 5737
		netip.MustParsePrefix("203.0.113.0/24"),  // RFC 5737
		netip.MustParsePrefix("198.18.0.0/15"),   // RFC 2544
		netip.MustParsePrefix("2001:db8::/32"),   // RFC 3849
	}
}

func isPublic(ip net.IP) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	for _, p := range reserved() {
		if p.Contains(a.Unmap()) {
			return false
		}
	}
	return true
}

// listen opens host:port. When mayMove and the port is taken it takes a free one; moved tells so.
func listen(n Network, host string, port int, mayMove bool) (l net.Listener, moved bool, err error) {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err = n.Listen(addr)
	if err == nil {
		return l, false, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, false, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if !mayMove {
		return nil, false, fmt.Errorf("port %d on %s is taken, perhaps by another agent; stop it, or choose another address with -bind", port, host)
	}
	l, err = n.Listen(net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, false, fmt.Errorf("listen on a free port of %s: %w", host, err)
	}
	return l, true, nil
}

// gossipPort finds the port gossip stands on: the default one, or with mayMove one near it that is free for TCP and UDP.
func gossipPort(n Network, host string, mayMove bool) (port int, moved bool, err error) {
	port = DefaultGossipPort
	err = n.GossipFree(net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		return port, false, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) || !mayMove {
		return 0, false, fmt.Errorf("gossip on %s port %d: %w", host, port, err)
	}
	for range 1000 { // far more clients than one machine is given
		port += 10 // steps over the ports of a neighbour that moved too
		if err = n.GossipFree(net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			return port, true, nil
		}
	}
	return 0, false, fmt.Errorf("find a free port for gossip on %s: %w", host, err)
}
