package raftnode

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// transportPool is how many idle connections to one server are kept: one each for entries, heartbeats, announcements
	// and votes.
	transportPool = 4
	// transportTimeout is the I/O deadline of one RPC: as long as a disk may hang before its server gives up.
	transportTimeout = writeLimit
)

// guardedTransport is raft's network transport with four changes.
//
// It has a server whose disk is full not stand for election (see room).
//
// It has followers told of commits (see announcer).
//
// It notices when a follower is back (see returns).
//
// And raft handles heartbeats on the goroutine of the connection so that they are not held up by disk writes, but a
// heartbeat of a newer term then changes the term under the feet of the main loop, which may be leading: two servers can
// commit different entries at one index (hashicorp/raft #695). Here only a heartbeat of the current term, which changes
// nothing, is handled at once; any other waits its turn in the main loop like every RPC.
type guardedTransport struct {
	*raft.NetworkTransport
	rpcs   chan raft.RPC
	term   atomic.Pointer[func() uint64] // set once raft runs; before that nothing takes the fast path
	full   atomic.Pointer[func() bool]   // the disk is; nil: not known
	news   announcer
	back   returns
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup // the forwarder
}

// newTransport returns a transport over stream. It owns one goroutine until Close.
func newTransport(stream raft.StreamLayer, logger hclog.Logger) *guardedTransport {
	t := &guardedTransport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:  stream,
			MaxPool: transportPool,
			// No pipelining: our entries are few and large, and a stuck pipeline is one thing less (#612).
			MaxRPCsInFlight:         1,
			Timeout:                 transportTimeout,
			Logger:                  logger,
			MsgpackUseNewTimeFormat: true,
		}),
		rpcs:   make(chan raft.RPC),
		closed: make(chan struct{}),
	}
	t.news.send = t.NetworkTransport.AppendEntries
	t.done.Go(t.forward)
	return t
}

// AppendEntries implements raft.Transport.
func (t *guardedTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(args) {
		err := t.NetworkTransport.AppendEntries(id, target, args, resp)
		if err == nil {
			t.back.reached(id)
		}
		return err
	}
	reached := t.back.next(id) // asked before, so that a heartbeat counts that arrives while this does not
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	switch {
	case err != nil:
		t.back.wait(reached)
	case resp.Success:
		t.news.acknowledged(id, target, args)
	}
	return err
}

// isHeartbeat is raft's own test.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}

// forward moves RPCs from the network transport to the channel that raft reads, which heartbeats share.
func (t *guardedTransport) forward() {
	in := t.NetworkTransport.Consumer()
	for {
		select {
		case rpc := <-in:
			t.enqueue(rpc)
		case <-t.closed:
			return
		}
	}
}

func (t *guardedTransport) enqueue(rpc raft.RPC) {
	select {
	case t.rpcs <- rpc:
	case <-t.closed:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	}
}

// Consumer implements raft.Transport.
func (t *guardedTransport) Consumer() <-chan raft.RPC { return t.rpcs }

// SetHeartbeatHandler implements raft.Transport.
func (t *guardedTransport) SetHeartbeatHandler(fast func(raft.RPC)) {
	if fast == nil {
		t.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if t.sameTerm(rpc) {
			fast(rpc)
			return
		}
		t.enqueue(rpc)
	})
}

func (t *guardedTransport) sameTerm(rpc raft.RPC) bool {
	term := t.term.Load()
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	return ok && term != nil && req.Term == (*term)()
}

// campaign has raft begin an election now, by the message with which a leader hands over.
func (t *guardedTransport) campaign(header raft.RPCHeader) {
	t.enqueue(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header}, RespChan: make(chan raft.RPCResponse, 1)})
}

// setTerm lets heartbeats of the term that current returns take the fast path.
func (t *guardedTransport) setTerm(current func() uint64) { t.term.Store(&current) }

// Close implements raft.WithClose. It returns after the forwarder and the announcements have ended.
func (t *guardedTransport) Close() error {
	t.once.Do(func() { close(t.closed) })
	t.back.close()
	t.news.close()
	err := t.NetworkTransport.Close() // with its connections, so that nothing is under way for long
	t.news.sending.Wait()
	t.done.Wait()
	return err
}

// Timing is how fast Raft reacts.
type Timing struct {
	Heartbeat, Election, Lease, Commit time.Duration
}

// LANTiming is for servers in one data centre: a leader that dies is replaced in about 0.9 s. The lease is shorter than
// the election timeout so that a leader that is cut off stops before another is elected. multiplier stretches it for
// slower networks and machines; less than 1 counts as 1. Commit only stands behind the announcer.
func LANTiming(multiplier int) Timing {
	m := time.Duration(max(1, multiplier))
	return Timing{Heartbeat: 400 * time.Millisecond * m, Election: 400 * time.Millisecond * m, Lease: 300 * time.Millisecond * m, Commit: 200 * time.Millisecond}
}

// DevTiming is for a server that is alone for good. It elects itself at once (see Node.campaign) and has nobody whose
// silence it must notice, so its timers only cost wake-ups.
func DevTiming() Timing {
	return Timing{Heartbeat: time.Second, Election: time.Second, Lease: time.Second, Commit: time.Second}
}
