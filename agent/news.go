package agent

import (
	"context"
	"sync"

	"cube/api"
)

// news tells those who wait that gossip has something new. The zero value is ready.
type news struct {
	mu   sync.Mutex
	next chan struct{} // closed at the next event; nil until somebody waits
}

// changed returns a channel that is closed at the next event.
func (n *news) changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

// follow passes events on until ctx is done. The channel may be closed before that: its pool has ended.
func (n *news) follow(ctx context.Context, events <-chan api.MemberEvent) error {
	for {
		select {
		case _, ok := <-events:
			if !ok {
				<-ctx.Done()
				return nil
			}
		case <-ctx.Done():
			return nil
		}
		n.mu.Lock()
		if n.next != nil {
			close(n.next)
			n.next = nil
		}
		n.mu.Unlock()
	}
}
