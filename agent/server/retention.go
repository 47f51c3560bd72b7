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
	reap    func(*fsm.Reap) error
}

// run ends when ctx does or an entry cannot be written. Every change of an allocation or evaluation wakes it, at most
// once every reapEvery.
func (r *retention) run(ctx context.Context) error {
	for {
		allocations := r.machine.Watch(fsm.WatchKey{Table: fsm.TableAllocations})
		evaluations := r.machine.Watch(fsm.WatchKey{Table: fsm.TableEvaluations})
		due, err := r.sweep(ctx, time.Now())
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if !due.IsZero() {
			timer = time.After(time.Until(due))
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

// sweep collects all there is and returns when something expires next.
func (r *retention) sweep(ctx context.Context, now time.Time) (due time.Time, err error) {
	for ctx.Err() == nil {
		snapshot := r.machine.Snapshot()
		garbage := snapshot.Garbage(reapAtOnce)
		at := snapshot.Due()
		expired := at != 0 && at <= now.UnixNano()
		if !empty(garbage) || expired {
			if garbage == nil {
				garbage = new(fsm.Reap)
			}
			if err := r.reap(garbage); err != nil {
				return time.Time{}, fmt.Errorf("forgetting old rows: %w", err)
			}
			continue
		}
		if at == 0 {
			return time.Time{}, nil
		}
		return time.Unix(0, at), nil
	}
	return time.Time{}, nil
}

func empty(r *fsm.Reap) bool {
	return r == nil || len(r.Allocations)+len(r.Evaluations)+len(r.Jobs)+len(r.Nodes) == 0
}
