package gossip

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// guard stands between the network and memberlist 0.6, which trusts what comes more than it should: on a stream, a state
// exchange with a short version list makes it panic, and a user message of absurd length makes it allocate that much; as
// a packet, 64 KB of compressed nothing take it 80 MB. The guard looks at packets, and at what opens a stream, before
// memberlist does and lets through only what this pool sends. It also ends dials when the pool is closed.
type guard struct {
	memberlist.NodeAwareTransport
	streams chan net.Conn
	packets chan *memberlist.Packet
	ctx     context.Context // ends when Shutdown begins: dials end with it
	cancel  context.CancelFunc
	once    sync.Once
	closed  chan struct{} // the network is closed
	done    sync.WaitGroup
}

// Message types of memberlist's wire protocol that this pool uses. Ping, ack, the state exchange and errors open a stream
// or an answer on it; all but the exchange and errors come in packets. Compressed, encrypted and labelled ones it sends
// none of.
const (
	msgPing         = 0
	msgIndirectPing = 1
	msgAck          = 2
	msgSuspect      = 3
	msgAlive        = 4
	msgDead         = 5
	msgPushPull     = 6
	msgCompound     = 7
	msgUser         = 8
	msgNack         = 11
	msgHasCRC       = 12
	msgError        = 13
)

const (
	maxStates     = 100_000  // members in a state exchange
	maxStateBytes = 64 << 20 // of a state exchange: 100,000 members with full metadata
	versionFields = 6        // of a member's version list
)

func newGuard(under memberlist.NodeAwareTransport) *guard {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guard{NodeAwareTransport: under, ctx: ctx, cancel: cancel, closed: make(chan struct{})}
	g.streams, g.packets = make(chan net.Conn), make(chan *memberlist.Packet)
	g.done.Add(2)
	go g.forward()
	go g.forwardPackets()
	return g
}

// forward is the goroutine that wraps arriving streams. It takes them until the network is closed, since the network
// waits for that.
func (g *guard) forward() {
	defer g.done.Done()
	for {
		select {
		case conn := <-g.NodeAwareTransport.StreamCh():
			select {
			case g.streams <- &vetted{Conn: conn}:
			case <-g.ctx.Done():
				conn.Close()
			}
		case <-g.closed:
			return
		}
	}
}

// forwardPackets is the goroutine that drops packets which are not this pool's. It takes them until the network is
// closed, as forward does.
func (g *guard) forwardPackets() {
	defer g.done.Done()
	for {
		select {
		case p := <-g.NodeAwareTransport.PacketCh():
			if !harmless(p.Buf) {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.ctx.Done():
			}
		case <-g.closed:
			return
		}
	}
}

// PacketCh is where packets arrive.
func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }

// harmless reports whether a packet is one message that this pool sends, or several of them one after the other.
func harmless(packet []byte) bool {
	const crcHeader = 5
	if len(packet) > crcHeader && packet[0] == msgHasCRC {
		packet = packet[crcHeader:]
	}
	if len(packet) < 2 || packet[0] != msgCompound {
		return inPackets(packet)
	}
	n := int(packet[1])
	lengths := packet[2:]
	if len(lengths) < 2*n {
		return false
	}
	parts := lengths[2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size > len(parts) || !inPackets(parts[:size]) {
			return false
		}
		parts = parts[size:]
	}
	return true
}

// inPackets reports whether a message is of a type that comes in packets.
func inPackets(message []byte) bool {
	if len(message) == 0 {
		return false
	}
	switch message[0] {
	case msgPing, msgIndirectPing, msgAck, msgSuspect, msgAlive, msgDead, msgUser, msgNack:
		return true
	}
	return false
}

// StreamCh is where streams arrive.
func (g *guard) StreamCh() <-chan net.Conn { return g.streams }

// DialTimeout is DialAddressTimeout.
func (g *guard) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects; the answer that comes back is vetted too.
func (g *guard) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := g.dial(a, timeout)
	if err != nil {
		return nil, err
	}
	return &vetted{Conn: conn}, nil
}

func (g *guard) dial(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if _, real := g.NodeAwareTransport.(*memberlist.NetTransport); real {
		d := net.Dialer{Timeout: timeout}
		return d.DialContext(g.ctx, "tcp", a.Addr)
	}
	return g.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

// Shutdown ends dials and closes the network.
func (g *guard) Shutdown() (err error) {
	g.once.Do(func() {
		g.cancel()
		err = g.NodeAwareTransport.Shutdown()
		close(g.closed)
		g.done.Wait()
	})
	return err
}

// vetted is a stream whose first message has been looked at before a byte of it is given out.
type vetted struct {
	net.Conn
	once sync.Once
	r    io.Reader
	err  error
}

func (v *vetted) Read(b []byte) (int, error) {
	v.once.Do(func() { v.r, v.err = vet(v.Conn) })
	if v.err != nil {
		return 0, v.err
	}
	return v.r.Read(b)
}

// vet reads the first message as far as it can be dangerous, and returns a reader of everything.
func vet(conn io.Reader) (io.Reader, error) {
	r := bufio.NewReader(conn)
	kind, err := r.Peek(1)
	if err != nil {
		return nil, err
	}
	switch kind[0] {
	case msgPing, msgAck, msgError:
		return r, nil
	case msgPushPull:
		var seen bytes.Buffer
		if err := vetStates(io.TeeReader(io.LimitReader(r, maxStateBytes), &seen)); err != nil {
			return nil, fmt.Errorf("gossip state exchange: %w", err)
		}
		return io.MultiReader(&seen, r), nil
	}
	return nil, fmt.Errorf("gossip message of type %d on a stream", kind[0])
}

func vetStates(r io.Reader) (err error) {
	defer func() {
		if x := recover(); x != nil { // the decoder's answer to some garbage
			err = fmt.Errorf("damaged: %v", x)
		}
	}()
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return err
	}
	dec := codec.NewDecoder(r, &codec.MsgpackHandle{})
	var header struct {
		Nodes        int
		UserStateLen int
	}
	if err := dec.Decode(&header); err != nil {
		return err
	}
	if header.Nodes < 0 || header.Nodes > maxStates || header.UserStateLen != 0 {
		return fmt.Errorf("%d members and %d bytes of other state", header.Nodes, header.UserStateLen)
	}
	for range header.Nodes {
		var state struct{ Vsn []uint8 }
		if err := dec.Decode(&state); err != nil {
			return err
		}
		if len(state.Vsn) < versionFields {
			return errors.New("a member without versions")
		}
	}
	return nil
}
