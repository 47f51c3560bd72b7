package raftnode

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestOnlyHeartbeatsOfTheCurrentTermAreFast is hashicorp/raft #695: a heartbeat of another term must go through the main
// loop, which alone may change the term.
func TestOnlyHeartbeatsOfTheCurrentTermAreFast(t *testing.T) {
	var server *Stream
	dial := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go server.Deliver(far)
		return near, nil
	}
	server = NewStream("server", dial)
	client := NewStream("client", dial)
	s, c := newTransport(server, hclog.NewNullLogger()), newTransport(client, hclog.NewNullLogger())
	defer s.Close()
	defer c.Close()

	const current = 7
	s.setTerm(func() uint64 { return current })
	var fast atomic.Int32
	s.SetHeartbeatHandler(func(rpc raft.RPC) {
		fast.Add(1)
		rpc.Respond(&raft.AppendEntriesResponse{Term: current, Success: true}, nil)
	})
	slow := make(chan uint64, 1)
	ctx, cancel := context.WithCancel(context.Background())
	loop := make(chan struct{})
	go func() { // raft's main loop
		defer close(loop)
		for {
			select {
			case rpc := <-s.Consumer():
				slow <- rpc.Command.(*raft.AppendEntriesRequest).Term
				rpc.Respond(&raft.AppendEntriesResponse{Term: current}, nil)
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { cancel(); <-loop }()

	beat := func(term uint64) {
		t.Helper()
		req := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("c"), Addr: []byte("client")}, Term: term}
		if err := c.AppendEntries("s", "server", req, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	beat(current)
	if fast.Load() != 1 || len(slow) != 0 {
		t.Errorf("a heartbeat of the current term went through the main loop")
	}
	for _, term := range []uint64{current - 1, current + 1} {
		beat(term)
		if fast.Load() != 1 || len(slow) != 1 || <-slow != term {
			t.Errorf("a heartbeat of term %d in term %d did not wait for the main loop", term, current)
		}
	}
}
