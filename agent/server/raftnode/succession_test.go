package raftnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestWhoIsGone: only an address that refuses connections is one without a process. A process that is dying may take one
// more and break it; one that is slow, or cut off, is not gone.
func TestWhoIsGone(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	reset := fmt.Errorf("dial: %w", syscall.ECONNRESET)
	for _, c := range []struct {
		name    string
		answers []error // of dials, one after the other; the last of them again and again
		gone    bool
		dials   int
	}{
		{"refuses", []error{refused}, true, 1},
		{"takes a connection", []error{nil}, false, 1},
		{"is dying", []error{reset, io.EOF, refused}, true, 3},
		{"is starting again", []error{reset, nil}, false, 2},
		{"answers with nonsense", []error{errors.New("not cube")}, false, probes},
		{"does not answer", []error{context.DeadlineExceeded}, false, probes},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dials := 0
				n := &Node{stream: NewStream("self", func(_ context.Context, address, id string) (net.Conn, error) {
					if address != "leader:1" || id != "l" {
						t.Errorf("dialled %s %s", address, id)
					}
					err := c.answers[min(dials, len(c.answers)-1)]
					dials++
					if err != nil {
						return nil, err
					}
					near, far := net.Pipe()
					far.Close()
					return near, nil
				})}
				if gone := n.gone(t.Context(), "leader:1", "l"); gone != c.gone || dials != c.dials {
					t.Errorf("gone: %v after %d dials, want %v after %d", gone, dials, c.gone, c.dials)
				}
			})
		})
	}
}

// TestOnlyTheOthersConnectionsAreMissed: one that this server opened itself ends for many reasons of its own.
func TestOnlyTheOthersConnectionsAreMissed(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		s := NewStream("self", nil)
		near, far := net.Pipe()
		conn, err := s.track(near, accepted)
		if err != nil {
			t.Fatal(err)
		}
		far.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatal("read from a connection that has ended")
		}
		if missed := len(s.lost) == 1; missed != accepted {
			t.Errorf("accepted %v: missed %v", accepted, missed)
		}
		s.Close()
	}
}
