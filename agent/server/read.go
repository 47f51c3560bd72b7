package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cube/api"
	"cube/fsm"
)

// lookup answers a read from one snapshot.
type lookup[T any] struct {
	// keys names what the answer is made of, at most four. It may fail because what was asked for does not exist.
	keys func(*fsm.Snapshot) ([]fsm.WatchKey, error)
	// get makes the answer.
	get func(*fsm.Snapshot) (T, error)
}

// read answers a query: by default linearizably, which means that the answer is at least as new as anything that was
// acknowledged before the query came. The leader reads first and makes sure then that it still leads: the other way round
// a new leader could have acknowledged something in between.
func read[T any](ctx context.Context, s *Server, q api.Query, l lookup[T]) (answer T, meta api.ReadMeta, err error) {
	var t *tenure
	lost := (<-chan struct{})(nil)
	if !q.Stale {
		if t, err = s.leading(); err != nil {
			return answer, meta, err
		}
		lost = t.ctx.Done()
	}
	meta.Stale = q.Stale
	if meta.Index, err = s.awaitIndex(ctx, q, lost, l.keys); err != nil {
		return answer, meta, err
	}
	if q.Awake != nil {
		q.Awake()
	}
	s.metrics.reads.Add(1)
	// What is answered may be newer than the index: then the next wait ends at once, and nothing is missed.
	if answer, err = l.get(s.machine.Snapshot()); err != nil {
		return answer, meta, err
	}
	if !q.Stale {
		if err := s.reads.wait(ctx); err != nil {
			return answer, meta, err
		}
		if s.tenure.Load() != t {
			return answer, meta, notLeader()
		}
	}
	return answer, meta, nil
}

// awaitIndex waits until what the keys name has changed after q.Index, or the wait is over, and returns its index.
func (s *Server) awaitIndex(ctx context.Context, q api.Query, lost <-chan struct{}, keys func(*fsm.Snapshot) ([]fsm.WatchKey, error)) (uint64, error) {
	wait := q.Wait
	if wait <= 0 {
		wait = api.DefaultWait
	}
	timer := time.NewTimer(min(wait, api.MaxWait))
	defer timer.Stop()
	for {
		named, err := keys(s.machine.Snapshot())
		if err != nil {
			return 0, err
		}
		var changed [4]<-chan struct{}
		if len(named) > len(changed) {
			return 0, api.Errorf(api.CodeInternal, "a read depends on %d keys, at most %d can be watched", len(named), len(changed))
		}
		for i, k := range named {
			changed[i] = s.machine.Watch(k)
		}
		snapshot, index := s.machine.Snapshot(), max(1, s.node.RestoredAt())
		for _, k := range named {
			index = max(index, snapshot.TableIndex(k))
		}
		if q.Index == 0 || index > q.Index {
			return index, nil
		}
		select {
		case <-changed[0]:
		case <-changed[1]:
		case <-changed[2]:
		case <-changed[3]:
		case <-timer.C:
			return index, nil
		case <-lost:
			return 0, notLeader()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// always is the keys of a read that depends on fixed ones.
func always(keys ...fsm.WatchKey) func(*fsm.Snapshot) ([]fsm.WatchKey, error) {
	return func(*fsm.Snapshot) ([]fsm.WatchKey, error) { return keys, nil }
}

// verifier makes sure that this server leads, for all readers at once: one round of heartbeats serves everyone who came
// before it began.
type verifier struct {
	verify func() error

	mu      sync.Mutex
	current *round // running, or the last one
	next    *round // not begun: readers may still join it
}

type round struct {
	done chan struct{}
	err  error
}

func newVerifier(verify func() error) *verifier { return &verifier{verify: verify} }

// wait returns when a round that began after the call has ended. The reader that opens a round runs it for all.
func (v *verifier) wait(ctx context.Context) error {
	v.mu.Lock()
	if r := v.next; r != nil {
		v.mu.Unlock()
		select {
		case <-r.done:
			return r.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r := &round{done: make(chan struct{})}
	v.next = r
	before := v.current
	v.mu.Unlock()

	if before != nil {
		<-before.done // at most a lease: a leader that reaches nobody steps down
	}
	v.mu.Lock()
	v.current, v.next = r, nil
	v.mu.Unlock()
	if err := v.verify(); err != nil {
		r.err = api.Errorf(api.CodeNotLeader, "this server could not make sure that it still leads (%w): nothing was written", err)
	}
	close(r.done)
	return r.err
}

// resolve finds the one thing that an ID or a unique prefix of it names.
func resolve[T any](what, prefix string, found []T, text func(T) string) (T, error) {
	const shown = 5
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		var none T
		return none, api.Errorf(api.CodeNotFound, "no %s has an ID that begins with %.40q", what, prefix)
	}
	names := ""
	for i, f := range found {
		if text(f) == prefix {
			return f, nil
		}
		switch {
		case i == shown:
			names += fmt.Sprintf(" and %d more", len(found)-shown)
		case i < shown && i > 0:
			names += ", " + text(f)
		case i == 0:
			names = text(f)
		}
	}
	return found[0], api.Errorf(api.CodeAmbiguous, "%.40q is the beginning of the IDs of %d %ss: %s", prefix, len(found), what, names)
}
