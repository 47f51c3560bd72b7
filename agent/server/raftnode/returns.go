package raftnode

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// returnWait bounds the wait for a server's return: a replication that waits does not notice that its leader leads no more.
const returnWait = time.Minute

// returns tells when a server can be reached again. Raft itself sends entries to one that it could not reach after pauses
// that double, up to 10 s: about as long as a server was away it gets nothing when it is back, and meanwhile it cannot
// lead. Heartbeats are tried much more often. So entries that did not arrive wait here for the next heartbeat that does,
// and raft counts one failure.
type returns struct {
	mu     sync.Mutex
	nexts  map[raft.ServerID]chan struct{} // closed by the next heartbeat that arrives
	closed bool
}

// next returns what is closed when a heartbeat to a server arrives, or when waiting is no use any more.
func (r *returns) next(id raft.ServerID) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.nexts[id]
	if c == nil {
		c = make(chan struct{})
		if r.closed {
			close(c)
			return c
		}
		if r.nexts == nil {
			r.nexts = make(map[raft.ServerID]chan struct{})
		}
		r.nexts[id] = c
	}
	return c
}

// reached ends the waits for a server.
func (r *returns) reached(id raft.ServerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.nexts[id]; c != nil {
		close(c)
		delete(r.nexts, id)
	}
}

// close ends all waits.
func (r *returns) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, c := range r.nexts {
		close(c)
	}
	r.nexts = nil
}

func (r *returns) wait(next <-chan struct{}) {
	t := time.NewTimer(returnWait)
	defer t.Stop()
	select {
	case <-next:
	case <-t.C:
	}
}
