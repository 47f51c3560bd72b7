package contact

import (
	"testing"
	"time"
)

// TestPace lets nodes that always have something to say, and some that seldom do, keep to the spacing they are given.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		nodes    int
		wish     float64 // exchanges a second of each node, if it may
		from, to float64 // of all, once it has settled
	}{
		"few that are busy":   {100, 1000, 1900, 2000}, // each every MinSpacing
		"many that are busy":  {2500, 1000, 2000, 3000},
		"more than that":      {10_000, 1000, 9000, 10_000}, // each every MaxSpacing
		"many that are quiet": {2500, 0.2, 480, 520},
	} {
		var p Pace
		now := time.Unix(0, 0)
		next := make([]time.Duration, c.nodes) // of each node
		for i := range next {
			next[i] = time.Duration(i) * time.Second / time.Duration(c.nodes)
		}
		made := 0
		const step, whole, settled = 10 * time.Millisecond, 20 * time.Second, 10 * time.Second
		for at := time.Duration(0); at < whole; at += step {
			for i := range next {
				if next[i] > at {
					continue
				}
				p.Count(now.Add(at))
				if at >= settled {
					made++
				}
				next[i] = at + max(p.Spacing(c.nodes, now.Add(at)), time.Duration(float64(time.Second)/c.wish))
			}
		}
		if rate := float64(made) / (whole - settled).Seconds(); rate < c.from || rate > c.to {
			t.Errorf("%s: %.0f a second, want %.0f to %.0f", name, rate, c.from, c.to)
		}
		if got := p.Spacing(c.nodes, now.Add(whole+time.Minute)); got != MinSpacing {
			t.Errorf("%s: %s after a quiet minute", name, got)
		}
	}
}
