package e2e

import (
	"bytes"
	"compress/lzw"
	bits "encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// hello is the first thing an agent says on the servers' port; see package session for its form.
func hello(protocol byte, role, sender string) string {
	body := make([]byte, 8) // the incarnation
	for _, s := range []string{"", role, sender, ""} {
		body = append(append(body, byte(len(s))), s...)
	}
	return "CUBE\x01" + string(protocol) + string(bits.BigEndian.AppendUint16(nil, uint16(len(body)))) + string(body)
}

// packets sends to the servers' and the gossip port what is none of theirs.
func (v *victim) packets(t *testing.T) {
	const seed = 9
	noise := rand.NewChaCha8([32]byte{seed})
	random := func(n int) string {
		b := make([]byte, n)
		noise.Read(b) // never fails
		return string(b)
	}
	before := peak(t, v.server)
	client := strings.Repeat("c", 32)
	for what, text := range map[string]string{
		"noise": random(4096), "more noise": random(1 << 20), "HTTP": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "TLS": "\x16\x03\x01\x00\xff\x01",
		"a preamble too long": "CUBE\x01\x02\xff\xff" + random(1<<16), "a newer version": "CUBE\x63\x02\x00\x00", "an unknown protocol": "CUBE\x01\x09\x00\x00",
		"a hello cut short": "CUBE\x01\x02\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\xff", "an unknown role": hello(2, "god", client),
		"a client that votes": hello(1, "client", client), "noise on a session": hello(2, "client", client) + random(1<<16),
		"noise to Raft": hello(1, "server", client) + random(1<<16), "a node with a path for an ID": hello(2, "client", "../../\x1b[2J\n"),
	} {
		t.Run(what, func(t *testing.T) {
			put(t, net.JoinHostPort(v.server.bind, "5556"), text)
			v.unharmed(t, what+" on the servers' port")
		})
	}
	for what, text := range map[string]string{
		"noise": random(4096), "HTTP": "GET / HTTP/1.1\r\n\r\n", "two billion members": pack(t, 6, map[string]any{"Nodes": 1 << 31, "UserStateLen": 0}),
		"a user message of 2 GB": pack(t, 8, map[string]any{"UserMsgLen": 1 << 31}), "members without versions": pack(t, 6, map[string]any{"Nodes": 1, "UserStateLen": 0}) + pack(t, -1, alive(nil)),
		"compressed": compressed(t, 1<<26),
	} {
		t.Run("a stream of "+what, func(t *testing.T) {
			put(t, net.JoinHostPort(v.server.bind, "5557"), text)
			v.unharmed(t, what+" as a stream of gossip")
		})
	}
	udp, err := net.Dial("udp", net.JoinHostPort(v.server.bind, "5557"))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	bomb := compressed(t, 1<<26)
	packets := []string{bomb, "\x07\x01" + string(bits.BigEndian.AppendUint16(nil, uint16(len(bomb)))) + bomb, random(65507), "\x08"}
	for _, versions := range [][]byte{nil, {1}, {0, 0, 0, 0, 0, 0}, {255, 255, 255, 255, 255, 255}} {
		packets = append(packets, pack(t, 4, alive(versions)))
	}
	for kind := range 256 {
		for _, rest := range []string{"", "\x80", "\xdf\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", random(60), random(1400)} {
			packets = append(packets, string([]byte{byte(kind)})+rest)
		}
	}
	for i, p := range packets {
		if _, err := udp.Write([]byte(p)); err != nil {
			t.Fatalf("send %d bytes: %v", len(p), err)
		}
		if i%16 == 0 { // else the kernel would drop them
			pong(t, udp)
		}
	}
	pong(t, udp)
	v.unharmed(t, "packets of noise")
	if grown := peak(t, v.server) - before; grown > 64<<20 {
		t.Errorf("noise (seed %d) took the server %d MiB more than it had ever had", seed, grown>>20)
	}
	if err := v.nodesReady(2); err != nil {
		t.Errorf("after the noise: %v", err)
	}
}

// pong asks the gossip port for a sign of life, and so waits until it has been through all that was sent before.
func pong(t *testing.T, udp net.Conn) {
	t.Helper()
	ping := []byte(pack(t, 0, map[string]any{"SeqNo": 1}))
	answer := make([]byte, 1<<16)
	for begun := time.Now(); time.Since(begun) < patience; {
		if _, err := udp.Write(ping); err != nil {
			t.Fatal(err)
		}
		if err := udp.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := udp.Read(answer); err == nil {
			return
		}
	}
	t.Fatalf("gossip has not answered a ping for %s", patience)
}

// put sends text and waits until the other side closes.
func put(t *testing.T, address, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	// Either side may fail: the other closes when it has heard enough. Only silence on both would be wrong.
	_, _ = io.WriteString(conn, text)
	_ = conn.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
		t.Errorf("the connection is still open after %s", patience)
	}
}

// pack is a gossip message of a kind; -1 for a further part of one.
func pack(t *testing.T, kind int, body any) string {
	t.Helper()
	var b bytes.Buffer
	if kind >= 0 {
		b.WriteByte(byte(kind))
	}
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func alive(versions []byte) map[string]any {
	return map[string]any{"Incarnation": 1, "Node": "server:x", "Name": "server:x", "Addr": []byte{127, 0, 0, 1}, "Port": 1, "Meta": []byte("m"), "State": 0, "Vsn": versions}
}

// compressed is a gossip message of so many zeros, as much as fits a packet.
func compressed(t *testing.T, zeros int) string {
	t.Helper()
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	if _, err := w.Write(make([]byte, zeros)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := pack(t, 9, map[string]any{"Algo": 0, "Buf": b.Bytes()})
	return m[:min(len(m), 65500)]
}
