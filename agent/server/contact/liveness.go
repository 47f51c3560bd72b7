package contact

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/members"
	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

const (
	// massWindow and massHoldFor: when over half of massNodes or more nodes would fall within the window, something they
	// share has most likely failed, the leader's own network first of all. Nothing is declared for massHoldFor, so that a
	// switch can come back before everything is started anew elsewhere, where it may not even fit.
	massWindow  = 30 * time.Second
	massHoldFor = 2 * time.Minute
	massNodes   = 4
	// sweepEvery bounds how often the nodes are looked at while sessions come and go.
	sweepEvery = 250 * time.Millisecond
)

// Graces are how long a node may be silent.
type Graces struct {
	Node       time.Duration // session gone and gossip says failed
	Disconnect time.Duration // session gone, or nobody knows
}

// deadline judges one node: the time at which it counts as down, and why. ok is false while it is connected: gossip
// alone never brings a node down.
func (g Graces) deadline(c Contact, gossip api.MemberStatus) (at time.Time, reason string, ok bool) {
	// An agent that left in good order may be on its way back, and leaves its instances running: it has the longer grace.
	gone := gossip == api.MemberFailed
	switch {
	case c.Connected:
		return time.Time{}, "", false
	case c.Observed && gone:
		return c.Since.Add(g.Node), "its session ended and gossip says that it failed", true
	case c.Observed:
		return c.Since.Add(g.Disconnect), fmt.Sprintf("no session for %s", g.Disconnect), true
	default:
		return c.Since.Add(g.Disconnect), fmt.Sprintf("not heard of for %s", g.Disconnect), true
	}
}

// massHold decides whether the falling of nodes waits.
type massHold struct {
	until time.Time // zero: not holding
	falls []fall
}

type fall struct {
	at    time.Time
	nodes int
}

// check is told how many nodes are not down, how many are due now and how many would be within massWindow, these
// included. It returns the time to wait for, or zero to go ahead.
func (h *massHold) check(now time.Time, up, due, soon int) (wait time.Time) {
	recent := 0
	kept := h.falls[:0]
	for _, f := range h.falls {
		if now.Sub(f.at) < massWindow {
			kept = append(kept, f)
			recent += f.nodes
		}
	}
	h.falls = kept
	total := up + recent
	switch {
	case total < massNodes || 2*(soon+recent) <= total:
		h.until = time.Time{}
	case h.until.IsZero() && due > 0:
		h.until = now.Add(massHoldFor)
	}
	if now.Before(h.until) {
		return h.until
	}
	return time.Time{}
}

// fell notes that nodes were declared down.
func (h *massHold) fell(now time.Time, nodes int) { h.falls = append(h.falls, fall{now, nodes}) }

// Liveness is the leader's loop that declares nodes down.
type Liveness struct {
	Machine   *fsm.Machine
	Directory *Directory
	Roster    *members.Roster
	Graces    Graces
	Declare   func(nodes []string, reason string) error // writes it
	Logger    hclog.Logger

	hold massHold
}

// Run ends when ctx does or a declaration cannot be written. It is woken by sessions that come and go, by gossip, by
// nodes that register, and by the clock when the next deadline is due.
func (l *Liveness) Run(ctx context.Context) error {
	for {
		sessions, gossip, nodes := l.Directory.Changed.Wait(), l.Roster.Changed.Wait(), l.Machine.Watch(fsm.WatchKey{Table: fsm.TableNodes})
		next, err := l.sweep(ctx, time.Now())
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-sessions:
		case <-gossip:
		case <-nodes:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
		if !signal.Pause(ctx, sweepEvery) {
			return nil
		}
	}
}

// sweep declares what is due and returns when to look again at the latest; zero when only an event can change anything.
func (l *Liveness) sweep(ctx context.Context, now time.Time) (next time.Time, err error) {
	due := make(map[string][]string) // by reason
	up, dues, soon := 0, 0, 0
	for n := range l.Machine.Snapshot().Nodes() {
		if n.Status == api.NodeDown {
			continue
		}
		up++
		at, reason, ok := l.Graces.deadline(l.Directory.Contact(n.ID, now), l.Roster.Node(n.ID))
		if !ok {
			continue
		}
		if !at.After(now.Add(massWindow)) {
			soon++
		}
		if at.After(now) {
			next = signal.Earliest(next, at)
			continue
		}
		due[reason] = append(due[reason], n.ID)
		dues++
	}
	if at := l.Directory.NextSilence(now); !at.IsZero() && up > 0 {
		next = signal.Earliest(next, at)
	}
	holding := !l.hold.until.IsZero()
	if wait := l.hold.check(now, up, dues, soon); !wait.IsZero() {
		if !holding {
			l.Logger.Error("over half of the nodes would be declared down at once: holding, the fault may be on this side",
				"nodes", up, "silent", soon, "until", wait.Format(time.RFC3339))
		}
		return signal.Earliest(next, wait), nil
	}
	for reason, nodes := range due {
		l.Logger.Warn("nodes are down", "count", len(nodes), "reason", reason, "nodes", first(nodes, 5))
		if err := l.Declare(nodes, reason); err != nil {
			return next, err
		}
		l.hold.fell(now, len(nodes))
	}
	return next, nil
}

// first returns at most n of list, for a log line.
func first(list []string, n int) []string { return list[:min(n, len(list))] }
