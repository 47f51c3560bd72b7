package contact

import (
	"math"
	"sync"
	"time"
)

const (
	// budget is how many exchanges of one kind a server lets its nodes make a second when they would make more: at 20 us
	// of both sides' processors each, a twentieth of a core.
	budget = 2500
	// MinSpacing is what a batch is worth where there is time, and MaxSpacing bounds what a node waits where there is none.
	MinSpacing = 50 * time.Millisecond
	MaxSpacing = time.Second
	// paceWindow is the time over which exchanges are counted.
	paceWindow = 500 * time.Millisecond
)

// Pace spaces what the nodes of one server do of one kind, by how much they do: while together they stay under half of
// the budget, each may do it every MinSpacing; from the whole budget on, just so often that all of them at once would
// use it up. In between it is in between, so that it settles rather than swings. The zero value is ready; it is safe for
// concurrent use.
type Pace struct {
	mu    sync.Mutex
	rate  float64 // a second, smoothed
	count int     // since at
	at    time.Time
}

// Count notes one exchange.
func (p *Pace) Count(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roll(now)
	p.count++
}

// Spacing is how far apart each of so many nodes is to do it.
func (p *Pace) Spacing(nodes int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.roll(now)
	full := min(max(time.Duration(nodes)*time.Second/budget, MinSpacing), MaxSpacing)
	busy := min(max(2*p.rate/budget-1, 0), 1)
	return MinSpacing + time.Duration(busy*float64(full-MinSpacing))
}

// roll takes what was counted into the rate, at most every tenth of the window. The caller holds p.mu.
func (p *Pace) roll(now time.Time) {
	past := now.Sub(p.at)
	if p.at.IsZero() {
		p.at, past = now, 0
	}
	if past < paceWindow/10 {
		return
	}
	weight := 1 - math.Exp(-float64(past)/float64(paceWindow))
	p.rate += weight * (float64(p.count)/past.Seconds() - p.rate)
	p.count, p.at = 0, now
}
