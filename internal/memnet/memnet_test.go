package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	left  = "10.0.0.1"
	right = "10.0.0.2"
)

// pair connects left to right.
func pair(t *testing.T, n *Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Host(right).Listen(":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = n.Host(left).Dial(t.Context(), right+":5000"); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("write %q: %d, %v", s, n, err)
	}
}

// read expects exactly s within a second.
func read(t *testing.T, c net.Conn, s string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, len(s))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
		t.Fatalf("read %q, %v; want %q", b, err, s)
	}
}

// silent expects nothing to arrive for a second.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v; want a timeout", n, err)
	}
}

func TestConnConformance(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair(t, New(1))
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestAddresses(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		if got := b.LocalAddr().String(); got != "10.0.0.2:5000" {
			t.Errorf("accepted at %s", got)
		}
		if a.LocalAddr().String() != b.RemoteAddr().String() {
			t.Errorf("dialled from %s, accepted from %s", a.LocalAddr(), b.RemoteAddr())
		}
		h := n.Host(left)
		l, err := h.Listen("10.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		if _, err := h.Listen("10.0.0.2:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("listener on a foreign address: %v", err)
		}
		if _, err := h.Dial(t.Context(), "10.0.0.2:81"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial where nothing listens: %v", err)
		}
		if _, err := h.Dial(t.Context(), "10.0.0.9:80"); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("dial where no host is: %v", err)
		}
	})
}

func TestCloseDeliversWhatWasSent(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		a, b := pair(t, New(1))
		write(t, a, "last words")
		a.Close()
		got, err := io.ReadAll(b)
		if err != nil || string(got) != "last words" {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed end: %v", err)
		}
	})
}

func TestAFullWindowBlocksUntilRead(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		a, b := pair(t, New(1))
		a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(make([]byte, window+1))
		if n != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d, %v", n, err)
		}
		a.SetWriteDeadline(time.Time{})
		go io.ReadFull(b, make([]byte, window+1))
		write(t, a, "x")
	})
}

func TestPartitionStallsAndHealGoesOn(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.Partition([]string{left})
		write(t, a, "hello")
		silent(t, b)
		n.Heal()
		read(t, b, "hello")

		n.Partition([]string{left}, []string{right})
		write(t, a, "bye")
		a.Close()
		silent(t, b) // neither the bytes nor the end
		n.Heal()
		read(t, b, "bye")
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestCutIsOneWay(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.Cut(left, right)
		write(t, a, "to")
		write(t, b, "fro")
		read(t, a, "fro")
		silent(t, b)
		n.Heal()
		read(t, b, "to")
	})
}

func TestDialAcrossACutWaits(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		l, _ := n.Host(right).Listen(":1")
		defer l.Close()
		n.Partition([]string{left})

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := n.Host(left).Dial(ctx, right+":1")
		if took := time.Since(begin); !errors.Is(err, os.ErrDeadlineExceeded) || took != 3*time.Second {
			t.Fatalf("dial: %v after %s", err, took)
		}

		time.AfterFunc(5*time.Second, n.Heal)
		begin = time.Now()
		c, err := n.Host(left).Dial(t.Context(), right+":1")
		if took := time.Since(begin); err != nil || took != 5*time.Second {
			t.Fatalf("dial: %v after %s", err, took)
		}
		c.Close()
	})
}

func TestResetCrash(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		l, _ := n.Host(right).Listen(":1")
		a, b := pair(t, n)
		n.Crash(right, Reset)
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer reads: %v", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer writes: %v", err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead read: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead accept: %v", err)
		}
		if _, err := n.Host(right).Listen(":1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead listen: %v", err)
		}
		if _, err := n.Host(left).Dial(t.Context(), right+":1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial to the dead: %v", err)
		}
		n.Restart(right)
		a, b = pair(t, n)
		write(t, a, "again")
		read(t, b, "again")
		if len(n.streams) != 1 {
			t.Errorf("%d connections are registered", len(n.streams))
		}
	})
}

func TestBlackholeCrash(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		a, b := pair(t, n)
		n.Crash(right, Blackhole)
		write(t, a, "are you there")
		silent(t, a)
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the dead read: %v", err)
		}
		n.Restart(right)
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the restart: %v", err)
		}
	})
}

func TestAResetDoesNotCrossACut(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(1)
		a, _ := pair(t, n)
		n.Partition([]string{left})
		n.Crash(right, Reset)
		silent(t, a)
		n.Heal()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after healing: %v", err)
		}
	})
}

func TestLatencyKeepsOrder(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(7)
		a, b := pair(t, n)
		n.SetLatency(50*time.Millisecond, 40*time.Millisecond)
		begin := time.Now()
		var want []byte
		for i := range 100 {
			want = append(want, byte(i))
			write(t, a, string(rune(i)))
		}
		a.Close()
		got, err := io.ReadAll(b)
		took := time.Since(begin)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %v, %v", got, err)
		}
		if took < 50*time.Millisecond || took > 90*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if _, err := a.Read(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed end: %v", err)
		}
	})
}

func TestPackets(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(3)
		a, err := n.Host(left).Transport(":5557")
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Host(right).Transport(":5557")
		if err != nil {
			t.Fatal(err)
		}
		arrive := func(sent int) (got int) {
			for range sent {
				if _, err := a.WriteTo([]byte("x"), right+":5557"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			for {
				select {
				case p := <-b.PacketCh():
					if p.From.String() != "10.0.0.1:5557" {
						t.Errorf("from %s", p.From)
					}
					got++
				default:
					return got
				}
			}
		}
		if got := arrive(10); got != 10 {
			t.Errorf("%d of 10 arrived", got)
		}
		n.SetLoss(0.3)
		n.SetLatency(time.Millisecond, time.Millisecond)
		if got := arrive(1000); got < 600 || got > 800 {
			t.Errorf("%d of 1000 arrived with a loss of 0.3", got)
		}
		n.SetLoss(0)
		n.Cut(left, right)
		if got := arrive(10); got != 0 {
			t.Errorf("%d crossed the cut", got)
		}
		n.Heal()
		n.Crash(right, Blackhole)
		if got := arrive(10); got != 0 {
			t.Errorf("%d reached the dead", got)
		}
		a.Shutdown()
		if _, err := a.WriteTo([]byte("x"), right+":5557"); err == nil {
			t.Error("a closed transport sends")
		}
		b.Shutdown()
	})
}
