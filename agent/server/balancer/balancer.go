// Package balancer keeps rebalances going while this server leads, begins them where the servers' configuration asks for that,
// and says what one would do and how one gets on.
package balancer

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
	"cube/fsm/balance"
	"cube/scheduler"
)

const (
	// lookEvery bounds how often changes of allocations have the moves under way looked at.
	lookEvery = 100 * time.Millisecond
	// afterFailure is how long servers that rebalance by themselves wait at least when a move has failed: what fails is most
	// likely to fail again, and somebody should have the time to see why.
	afterFailure = time.Hour
)

// Keeper is the leader's loop that has moves begin and end. All that it goes by is in the row, by the clock of entries, so a
// new leader's Keeper goes on where the last one ended.
type Keeper struct {
	Machine *fsm.Machine
	Now     func() int64               // Unix nanoseconds: the clock of entries, which does not go back while a server leads
	Apply   func(*fsm.Rebalance) error // writes an entry
	Auto    *api.RebalanceBudget       // of rebalances that nobody asks for; nil: there are none
	Options func() scheduler.Options
	Logger  hclog.Logger

	looked int64 // when it was last looked whether to begin one
}

// Run ends when ctx does or an entry cannot be written. Changes of the row wake it, its next time does, and while a rebalance is
// under way changes of allocations and evaluations do. While there is none it sleeps until the next one may begin.
func (k *Keeper) Run(ctx context.Context) error {
	k.looked = k.Now() // who leads since a moment ago has not heard of all nodes yet
	for {
		row := k.Machine.Watch(fsm.WatchKey{Table: fsm.TableRebalance})
		allocations := k.Machine.Watch(fsm.WatchKey{Table: fsm.TableAllocations})
		evaluations := k.Machine.Watch(fsm.WatchKey{Table: fsm.TableEvaluations})
		s, now := k.Machine.Snapshot(), k.Now()
		entry, next := k.next(s, now)
		if entry != nil {
			// A conflict is with a person who has begun one, or ended it, meanwhile: that one is there to go on with.
			if err := k.Apply(entry); err != nil && api.CodeOf(err) != api.CodeConflict {
				return fmt.Errorf("rebalancing: %w", err)
			}
			continue
		}
		if s.Rebalancing() == nil {
			allocations, evaluations = nil, nil
		}
		if !wait(ctx, row, allocations, evaluations, next-now, next != 0) {
			return nil
		}
	}
}

// wait returns when there may be something to do, at the latest after some nanoseconds if it ends at all. It reports false when
// ctx has ended.
func wait(ctx context.Context, row, allocations, evaluations <-chan struct{}, after int64, ends bool) bool {
	var timer <-chan time.Time
	if ends {
		t := time.NewTimer(max(time.Duration(after), lookEvery))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-row:
	case <-allocations:
		return signal.Pause(ctx, lookEvery)
	case <-evaluations:
		return signal.Pause(ctx, lookEvery)
	case <-timer:
	case <-ctx.Done():
		return false
	}
	return true
}

// next returns what to write now, or else when to look again; 0: when something changes.
func (k *Keeper) next(s *fsm.Snapshot, now int64) (*fsm.Rebalance, int64) {
	if s.Rebalancing() != nil {
		due, next := s.RebalanceDue(now)
		if due {
			return &fsm.Rebalance{}, 0
		}
		return nil, next
	}
	if k.Auto == nil {
		return nil, 0
	}
	if from := k.from(s.LatestRebalance()); now < from {
		return nil, from
	}
	k.looked = now
	_, moves, _ := find(s, *k.Auto, k.Auto.MaxMoves, k.Options())
	if len(moves) == 0 {
		return nil, k.from(nil)
	}
	k.Logger.Info("rebalancing, as the configuration says", "moves", len(moves))
	return &fsm.Rebalance{Begin: &balance.Order{Budget: *k.Auto, Automatic: true, Moves: moves}}, 0
}

// from is when a rebalance that nobody asked for may begin, given the latest there was.
func (k *Keeper) from(last *api.Rebalance) int64 {
	at := k.looked + int64(k.Auto.Per)
	if last == nil {
		return at
	}
	pause := k.Auto.Per
	for i := range last.Moves {
		if m := &last.Moves[i]; m.Stage == api.MoveDropped && !m.BegunAt.IsZero() {
			pause = max(pause, afterFailure)
		}
	}
	return max(at, last.StartedAt.Add(pause).UnixNano())
}
