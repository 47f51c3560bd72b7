package driver

import (
	"context"
	"fmt"
	"sync"
)

// Lanes keeps the work on one instance in single file without making it wait for any other. The zero value is ready.
// It serves drivers: a call that hangs holds up its own lane only.
type Lanes struct {
	mu    sync.Mutex
	lanes map[Key]*lane
}

// lane is taken by whoever holds its one token. users counts holders and waiters, guarded by Lanes.mu.
type lane struct {
	token chan struct{}
	users int
}

// Enter waits until the key's lane is free, or ctx is done. Whoever entered calls leave, once.
func (l *Lanes) Enter(ctx context.Context, k Key) (leave func(), err error) {
	l.mu.Lock()
	if l.lanes == nil {
		l.lanes = map[Key]*lane{}
	}
	one := l.lanes[k]
	if one == nil {
		one = &lane{token: make(chan struct{}, 1)}
		l.lanes[k] = one
	}
	one.users++
	l.mu.Unlock()

	select {
	case one.token <- struct{}{}:
		return func() { <-one.token; l.quit(k, one) }, nil
	case <-ctx.Done():
		l.quit(k, one)
		return nil, fmt.Errorf("wait for earlier work on the instance: %w", ctx.Err())
	}
}

func (l *Lanes) quit(k Key, one *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(l.lanes, k)
	}
}
