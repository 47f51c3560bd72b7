package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// saver writes the client's state behind the runner's back: the runner hands it changes and goes on. What the file lacks
// after a crash is found again by the drivers' labels, so nothing waits for the disk, and a full disk only means that the
// file is behind until there is room again.
type saver struct {
	log     hclog.Logger
	st      store
	reopen  func(damaged bool) (store, error) // a store anew, when there is none or it is damaged
	rewrite func()                            // asks for everything to be put again, after reopen

	mu      sync.Mutex // guards what follows
	pending batch
	trouble error // why the latest write failed; nil when it did not

	wake chan struct{} // holds one: there is something pending
}

func newSaver(log hclog.Logger, st store) *saver {
	return &saver{log: log, st: st, wake: make(chan struct{}, 1)}
}

// put adds changes to what is pending.
func (s *saver) put(b *batch) {
	if b.empty() {
		return
	}
	s.mu.Lock()
	s.pending.merge(b)
	s.mu.Unlock()
	s.nudge()
}

func (s *saver) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// merge puts the newer changes n over b.
func (b *batch) merge(n *batch) {
	if n.Cluster != nil {
		b.Cluster = n.Cluster
	}
	for id, v := range n.Allocations {
		b.allocation(id, v)
	}
	for key, v := range n.Specs {
		b.spec(key, v)
	}
}

// The wait after a write that failed, doubling: a full disk is seldom emptied within a second.
const (
	saveDelay    = time.Second
	saveMaxDelay = 30 * time.Second
)

// run writes until ctx is done, then once more, and closes the store. It is woken by put.
func (s *saver) run(ctx context.Context) error {
	fails := 0
	for {
		var retry <-chan time.Time
		if err := s.write(); err != nil {
			retry = time.After(backoff(saveDelay, saveMaxDelay, fails))
			fails++
		} else {
			fails = 0
		}
		select {
		case <-s.wakeUnless(retry != nil):
		case <-retry:
		case <-ctx.Done():
			err := s.write()
			if s.st != nil {
				err = errors.Join(err, s.st.Close())
			}
			return err
		}
	}
}

// wakeUnless is s.wake, or nothing to wait on while a failed write waits for its retry.
func (s *saver) wakeUnless(waiting bool) <-chan struct{} {
	if waiting {
		return nil
	}
	return s.wake
}

// write saves what is pending. What could not be saved is pending again, under what came since.
func (s *saver) write() error {
	s.mu.Lock()
	b := s.pending
	s.pending = batch{}
	s.mu.Unlock()
	if b.empty() {
		return nil
	}
	err := s.save(&b)
	s.mu.Lock()
	if err != nil {
		newer := s.pending
		s.pending = b
		s.pending.merge(&newer)
	}
	was := s.trouble
	s.trouble = err
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		s.log.Error("the client's state is not saved; instances run on, and it is tried again", "error", err)
	case err == nil && was != nil:
		s.log.Info("the client's state is saved again")
	}
	return err
}

func (s *saver) save(b *batch) error {
	if s.st == nil {
		st, err := s.reopen(false)
		if err != nil {
			return err
		}
		s.st = st
	}
	err := s.st.Save(b)
	if !errors.Is(err, errDamaged) {
		return err
	}
	s.log.Error("state.db is damaged: it is set aside and written anew", "error", err)
	s.st = nil // not closed: bbolt may still hold its own lock
	st, openErr := s.reopen(true)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	s.st = st
	s.rewrite()
	return s.st.Save(b)
}

// failing says why the latest write failed, nil when it did not.
func (s *saver) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}
