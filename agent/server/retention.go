package server

import (
	"context"
	"fmt"
	"time"

	"cube/agent/server/signal"
	"cube/fsm"
)

const (
	reapAtOnce = 1000             // rows an entry: like every other bulk change
	reapEvery  = 10 * time.Second // nothing depends on garbage being gone: it is collected in bulk
)

// retention is the leader's loop that forgets what need not be kept, and that moves the state's time on when something in
// it expires.
type retention struct {
	machine *fsm.Machine
	now     func() int64 // Unix nanoseconds, the clock of entries
	reap    func(*fsm.Reap) error
}

// run ends when ctx does or an entry cannot be written. Every change of an allocation or evaluation wakes it, at most
// once every reapEvery.
func (r *retention) run(ctx context.Context) error {
	for {
		allocations := r.machine.Watch(fsm.WatchKey{Table: fsm.TableAllocations})
		evaluations := r.machine.Watch(fsm.WatchKey{Table: fsm.TableEvaluations})
		wait, err := r.sweep(ctx)
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-allocations:
		case <-evaluations:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
		if !signal.Pause(ctx, reapEvery) {
			return nil
		}
	}
}

// sweep collects all there is and returns when to look again, since something expires then; 0 for nothing.
func (r *retention) sweep(ctx context.Context) (wait time.Duration, err error) {
	for ctx.Err() == nil {
		snapshot := r.machine.Snapshot()
		garbage := snapshot.Garbage(reapAtOnce)
		at, now := snapshot.Due(), r.now()
		if empty(garbage) && (at == 0 || at > now) {
			if at == 0 {
				return 0, nil
			}
			return time.Duration(at - now), nil
		}
		if garbage == nil {
			garbage = new(fsm.Reap)
		}
		if err := r.reap(garbage); err != nil {
			return 0, fmt.Errorf("forgetting old rows: %w", err)
		}
	}
	return 0, nil
}

func empty(r *fsm.Reap) bool {
	return r == nil || len(r.Allocations)+len(r.Evaluations)+len(r.Jobs)+len(r.Nodes) == 0
}
