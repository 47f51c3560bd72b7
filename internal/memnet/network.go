// Package memnet is a network in memory, for tests: hosts that listen and dial, memberlist transports, and faults.
//
// It uses nothing but package time to wait, so that inside a testing/synctest bubble its time is virtual (see Bubble).
// A Network is created, used and dropped inside one bubble, or outside of all.
//
// Connections behave as TCP does where programs can tell: they are buffered, they have deadlines, and a cut link stalls
// them. What was written across a cut arrives after it is healed, as if it had been sent again. Cuts and the registration
// of new connections happen under one lock, so no connection slips through a cut that is being made.
package memnet

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Network joins hosts. All methods are safe for concurrent use.
type Network struct {
	mu      sync.Mutex
	hosts   map[string]*Host
	groups  map[string]int // of Partition; hosts not in it form group 0
	cuts    map[link]bool
	streams map[*stream]struct{} // that have an open end
	changed chan struct{}        // closed, and made anew, when what a waiting dial looked at has changed
	random  *rand.Rand
	latency time.Duration
	jitter  time.Duration
	loss    float64
}

type link struct{ from, to string }

// New makes a network without hosts or faults. The seed decides which packets are lost and how late others are; print
// it when a test fails.
func New(seed uint64) *Network {
	return &Network{
		hosts:   map[string]*Host{},
		groups:  map[string]int{},
		cuts:    map[link]bool{},
		streams: map[*stream]struct{}{},
		changed: make(chan struct{}),
		random:  rand.New(rand.NewPCG(seed, seed)),
	}
}

// Host returns the host with that address, and adds it on the first call. It panics if ip is not an IP address: tests
// write it as a constant.
func (n *Network) Host(ip string) *Host {
	ip = netip.MustParseAddr(ip).String()
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.hosts[ip]
	if !ok {
		h = &Host{
			net:       n,
			ip:        ip,
			listeners: map[int]*listener{},
			packets:   map[int]*Transport{},
			nextPort:  firstEphemeral,
		}
		n.hosts[ip] = h
	}
	return h
}

// SetLatency makes everything sent from now on arrive between base and base+jitter later. Bytes of one connection stay
// in order; packets do not.
func (n *Network) SetLatency(base, jitter time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency, n.jitter = base, jitter
}

// SetLoss makes a share of all packets, from 0 to 1, disappear. Connections lose nothing.
func (n *Network) SetLoss(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

// Partition puts hosts into groups that cannot reach each other, in place of an earlier partition. Hosts that are in no
// group, present and future, form one more: Partition([]string{"10.0.0.1"}) cuts one host off.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.groups)
	for i, g := range groups {
		for _, ip := range g {
			n.groups[ip] = i + 1
		}
	}
	n.settle()
}

// Cut stops what goes from one host to another; the other direction goes on. Connections need both to be made.
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link{from, to}] = true
	n.settle()
}

// Heal undoes all partitions and cuts. Crashed hosts stay crashed.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.groups)
	clear(n.cuts)
	n.settle()
}

// Death is how a host goes.
type Death int

const (
	// Reset is the death of a process: its peers' connections are reset and dials to it are refused.
	Reset Death = iota + 1
	// Blackhole is the death of a machine: its peers hear nothing, and dials to it wait for their time to be over.
	Blackhole
)

// Crash takes everything from a host: its listeners, transports and connections fail at once on its own side, and it can
// neither listen nor dial until Restart. The code that ran there is the caller's to stop.
func (n *Network) Crash(ip string, how Death) {
	h := n.Host(ip)
	n.mu.Lock()
	defer n.mu.Unlock()
	h.down = how
	for _, l := range h.listeners {
		l.shut()
	}
	clear(h.listeners)
	clear(h.packets)
	for s := range n.streams {
		for _, c := range s.ends {
			if c.host == h && !c.gone {
				c.gone, c.crashed = true, true
				c.fail(errHostDown)
			}
		}
	}
	n.settle()
}

// Restart brings a crashed host back, without anything that ran on it. Connections that its peers still hold are reset.
func (n *Network) Restart(ip string) {
	h := n.Host(ip)
	n.mu.Lock()
	defer n.mu.Unlock()
	h.down = 0
	n.settle()
}

// Close crashes every host with Reset: whoever still waits for the network is told that it is over. Libraries leave
// connections open when they shut down (raft's NetworkTransport does), and a bubble ends only when all its goroutines do.
func (n *Network) Close() {
	n.mu.Lock()
	var ips []string
	for ip := range n.hosts {
		ips = append(ips, ip)
	}
	n.mu.Unlock()
	for _, ip := range ips {
		n.Crash(ip, Reset)
	}
}

// blocked reports whether what from sends does not arrive at to. The caller holds n.mu.
func (n *Network) blocked(from, to *Host) bool {
	return from.down == Blackhole || to.down == Blackhole ||
		n.groups[from.ip] != n.groups[to.ip] || n.cuts[link{from.ip, to.ip}]
}

// settle makes every connection what the facts say it is, and wakes the dials that wait. The caller holds n.mu.
func (n *Network) settle() {
	for s := range n.streams {
		for i, c := range s.ends {
			other := s.ends[1-i]
			held := n.blocked(other.host, c.host)
			if other.crashed && !held && !c.gone {
				c.gone = true // the dead host, or the one that took its place, answers with a reset
				c.fail(errReset)
			}
			c.in.hold(held)
		}
		if s.ends[0].gone && s.ends[1].gone {
			delete(n.streams, s)
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// delay draws how late something sent now arrives.
func (n *Network) delay() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.jitter == 0 {
		return n.latency
	}
	return n.latency + time.Duration(n.random.Int64N(int64(n.jitter)))
}

// send delivers a packet, or loses it.
func (n *Network) send(from *Transport, to netip.AddrPort, b []byte) {
	late := n.delay()
	n.mu.Lock()
	lost := n.loss > 0 && n.random.Float64() < n.loss
	n.mu.Unlock()
	if lost {
		return
	}
	p := append([]byte(nil), b...)
	if late == 0 {
		n.deliver(from, to, p)
		return
	}
	time.AfterFunc(late, func() { n.deliver(from, to, p) })
}

func (n *Network) deliver(from *Transport, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[to.Addr().String()]
	if h == nil || n.blocked(from.host, h) || h.down != 0 || from.host.down != 0 {
		return
	}
	if t := h.packets[int(to.Port())]; t != nil {
		t.take(b, net.UDPAddrFromAddrPort(from.addr))
	}
}
