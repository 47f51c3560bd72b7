package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

func TestRaftGetsTheBareConnection(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		incoming := w.accept(t.Context(), nil)
		conn, err := DialRaw(t.Context(), w.dial(t), Hello{Role: api.RoleServer, Sender: "s2"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		in := <-incoming
		if in.err != nil || in.in.Session != nil || in.in.Hello.Protocol != Raft || in.in.Hello.Sender != "s2" {
			t.Fatalf("accepted %+v, %v", in.in, in.err)
		}
		defer in.in.Conn.Close()
		time.Sleep(time.Minute) // the handshake's deadline is gone
		synctest.Wait()
		if _, err := conn.Write([]byte("vote")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(in.in.Conn, b); err != nil || string(b) != "vote" {
			t.Errorf("read %q, %v", b, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	admit := func(h Hello) error { return h.Admit("c1", "s1") }
	for name, c := range map[string]struct {
		hello Hello
		check func(Hello) error
		code  api.Code // "": accepted
		says  string
	}{
		"the right one":       {Hello{ClusterID: "c1", Target: "s1"}, admit, "", ""},
		"knows nothing yet":   {Hello{}, admit, "", ""},
		"nothing known here":  {Hello{ClusterID: "c2", Target: "s2"}, func(h Hello) error { return h.Admit("", "") }, "", ""},
		"another cluster":     {Hello{ClusterID: "c2"}, admit, api.CodeForbidden, "belongs to cluster c1"},
		"another target":      {Hello{ClusterID: "c1", Target: "s2"}, admit, api.CodeConflict, "this is server s1, not s2"},
		"the server's reason": {Hello{}, func(Hello) error { return api.Errorf(api.CodeBusy, "too many sessions\nhere") }, api.CodeBusy, "too many sessions here"},
		"a plain error":       {Hello{}, func(Hello) error { return errors.New("no") }, api.CodeInternal, "no"},
		"a very long reason":  {Hello{}, func(Hello) error { return errors.New(strings.Repeat("é", 2000)) }, api.CodeInternal, "éé"},
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				h := c.hello
				h.Role, h.Sender = api.RoleClient, "n1"
				incoming := w.accept(t.Context(), c.check)
				s, err := Dial(t.Context(), w.dial(t), h)
				in := <-incoming
				if c.code == "" {
					if err != nil || in.err != nil {
						t.Fatalf("refused: %v; %v", err, in.err)
					}
					s.Close()
					in.in.Session.Close()
					return
				}
				var refusal *api.Error
				if !errors.As(err, &refusal) || refusal.Code != c.code || !strings.Contains(refusal.Message, c.says) {
					t.Errorf("the dialler got %v (%s)", err, api.CodeOf(err))
				}
				if strings.ContainsAny(err.Error(), "\n\r") {
					t.Errorf("%q is more than a line", err)
				}
				if in.err == nil || api.CodeOf(in.err) != c.code {
					t.Errorf("the accepting side got %v", in.err)
				}
			})
		})
	}
}

func TestAnotherVersionIsRefusedWithASentence(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t)
		incoming := w.accept(t.Context(), nil)
		conn := w.dial(t)
		conn.Write([]byte("CUBE\x63\x02\x00\x03???"))
		answer, _ := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("CUBE\x01\x02")) || !bytes.Contains(answer, []byte("incompatible\nthis agent speaks version 1 of the protocol, not 99")) {
			t.Errorf("answered %q", answer)
		}
		if in := <-incoming; api.CodeOf(in.err) != api.CodeIncompatible {
			t.Errorf("accepted with %v", in.err)
		}
		conn.Close()
	})
}

func TestStrangersAreSentAwayAtOnce(t *testing.T) {
	huge := binary.BigEndian.AppendUint16([]byte("CUBE\x01\x02"), 65535)
	for name, sent := range map[string]string{
		"HTTP":        "GET / HTTP/1.1\r\nHost: 10.0.0.2:5556\r\n\r\n",
		"TLS":         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"one byte":    "x",
		"a near miss": "CUBA",
		"zeroes":      strings.Repeat("\x00", 4096),
		"a huge body": string(huge),
		"short hello": "CUBE\x01\x02\x00\x02hi",
		"no protocol": "CUBE\x01\x09\x00\x00",
		"no role":     "CUBE\x01\x02\x00\x0c12345678\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				incoming := w.accept(t.Context(), nil)
				conn := w.dial(t)
				begin := time.Now()
				conn.Write([]byte(sent))
				if _, err := io.ReadAll(conn); err != nil {
					t.Errorf("read: %v", err)
				}
				in := <-incoming
				if in.err == nil || time.Since(begin) != 0 {
					t.Errorf("got %v after %s", in.err, time.Since(begin))
				}
				conn.Close()
			})
		})
	}
}

func TestAHandshakeDoesNotLast(t *testing.T) {
	for name, sent := range map[string]string{"nothing": "", "a beginning": "CU", "half a hello": "CUBE\x01\x02\x00\x20abc"} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				incoming := w.accept(t.Context(), nil)
				begin := time.Now()
				conn := w.dial(t)
				conn.Write([]byte(sent))
				if in := <-incoming; in.err == nil || time.Since(begin) != handshakeTimeout {
					t.Errorf("got %v after %s", in.err, time.Since(begin))
				}
				conn.Close()
			})
		})
	}
}

func TestADiallerDoesNotWaitForEver(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		w := newWire(t) // nobody accepts
		begin := time.Now()
		_, err := Dial(t.Context(), w.dial(t), node)
		if api.CodeOf(err) != api.CodeUnavailable || time.Since(begin) != handshakeTimeout {
			t.Errorf("got %v after %s", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin = time.Now()
		_, err = Dial(ctx, w.dial(t), node)
		if !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(begin))
		}
	})
}

func TestADiallerMeetsAStranger(t *testing.T) {
	for name, answer := range map[string]string{
		"HTTP":            "HTTP/1.1 400 Bad Request\r\n\r\n",
		"a later version": "CUBE\x02\x01\x00\x00",
		"nonsense":        "CUBE\x01\x07\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				go func() {
					conn, err := w.lis.Accept()
					if err == nil {
						io.WriteString(conn, answer)
						io.Copy(io.Discard, conn)
						conn.Close()
					}
				}()
				if _, err := Dial(t.Context(), w.dial(t), node); api.CodeOf(err) != api.CodeIncompatible {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestTooLongIsNotSent(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	_, err := Dial(t.Context(), a, Hello{Role: api.RoleClient, Sender: strings.Repeat("n", 256)})
	if api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("got %v", err)
	}
}

func FuzzPreamble(f *testing.F) {
	h := node
	h.Protocol = RPC
	body, err := h.encode()
	if err != nil {
		f.Fatal(err)
	}
	var frame bytes.Buffer
	writeFrame(&frame, byte(h.Protocol), body)
	f.Add(frame.Bytes())
	f.Add([]byte("GET / HTTP/1.1"))
	f.Add([]byte("CUBE\x01\x01\x00\x0c12345678\xff\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, kind, body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		h, err := decodeHello(kind, body)
		if err != nil {
			return
		}
		again, err := h.encode()
		if err != nil || !bytes.HasPrefix(body, again) {
			t.Errorf("%x became %+v and then %x, %v", body, h, again, err)
		}
	})
}
