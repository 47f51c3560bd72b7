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

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
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

// TestWhoIsBehindComesLast: a server that has no entry of the leader's term cannot win against one that has.
func TestWhoIsBehindComesLast(t *testing.T) {
	dir := t.TempDir()
	open := func() *Node {
		t.Helper()
		n, err := Open(config(dir, "s1"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := open()
	var servers []raft.Server
	for _, id := range []raft.ServerID{"s1", "s2", "s3"} {
		servers = append(servers, raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: raft.Voter})
	}
	if err := n.Bootstrap(servers); err != nil {
		t.Fatal(err)
	}
	if turn := n.turn("s2"); turn != 0 {
		t.Errorf("the first of two heirs comes as number %d", turn)
	}
	if turn := n.turn("s1"); turn != -1 {
		t.Errorf("the leader succeeds itself as number %d", turn)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// What a server knows that was away while another was elected, and has got a heartbeat only.
	s, err := openStore(dir, "s1", false, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.bolt.SetUint64([]byte("CurrentTerm"), 100); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	n = open()
	if turn := n.turn("s2"); turn != 2 {
		t.Errorf("the first of two heirs, which lacks the leader's entries, comes as number %d", turn)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
