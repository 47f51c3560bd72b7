package raftnode

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// TestEntriesWaitForTheFollowersReturn: what did not arrive is tried again as soon as a heartbeat arrives, not after a pause
// as long as the follower was away.
func TestEntriesWaitForTheFollowersReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		var server *Stream
		dial := func(context.Context, string, string) (net.Conn, error) {
			if away {
				return nil, errors.New("connection refused")
			}
			near, far := net.Pipe()
			go server.Deliver(far)
			return near, nil
		}
		server = NewStream("server", dial)
		s, c := newTransport(server, hclog.NewNullLogger()), newTransport(NewStream("client", dial), hclog.NewNullLogger())
		defer s.Close()
		defer c.Close()
		s.setTerm(func() uint64 { return 1 })
		s.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil) })

		header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("c"), Addr: []byte("client")}
		beat := func() error {
			return c.AppendEntries("s", "server", &raft.AppendEntriesRequest{RPCHeader: header, Term: 1}, new(raft.AppendEntriesResponse))
		}
		answered := make(chan error, 1)
		send := func() {
			go func() {
				answered <- c.AppendEntries("s", "server", &raft.AppendEntriesRequest{RPCHeader: header, Term: 1, PrevLogEntry: 1, PrevLogTerm: 1}, new(raft.AppendEntriesResponse))
			}()
		}
		pending := func() bool {
			synctest.Wait()
			return len(answered) == 0
		}

		send()
		if err := beat(); err == nil || !pending() {
			t.Fatalf("nobody is there, and yet the entries are done with, or a heartbeat arrived: %v", err)
		}
		time.Sleep(returnWait / 2)
		away = false
		if err := beat(); err != nil || pending() {
			t.Fatalf("a heartbeat arrived (%v), and the entries still wait", err)
		}
		if err := <-answered; err == nil {
			t.Error("entries arrived where nobody was")
		}

		away = true
		c.NetworkTransport.CloseStreams()
		send()
		if !pending() {
			t.Fatal("the entries do not wait a second time")
		}
		time.Sleep(returnWait)
		if pending() {
			t.Fatal("a follower that does not return is waited for without end")
		}
		<-answered
		send()
		if !pending() {
			t.Fatal("the entries do not wait a third time")
		}
		c.back.close()
		if pending() {
			t.Fatal("raft could not shut down")
		}
		<-answered
		send()
		if pending() {
			t.Fatal("entries wait in a transport that is closing")
		}
		<-answered
	})
}
