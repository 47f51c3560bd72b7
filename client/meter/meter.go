// Package meter measures what instances use, when somebody asks. Drivers count; use of the CPU is the difference of two
// counts, and the meter remembers the last one of each instance for as long as it may serve as the first of the next two.
// It has no goroutine, and costs nothing while nobody asks.
package meter

import (
	"context"
	"maps"
	"sync"
	"time"

	"cube/api"
	"cube/client/driver"
)

const (
	// shortest is the least time between two counts: over less, the kernel's own grain shows. It is what the first who
	// asks waits for.
	shortest = 200 * time.Millisecond
	// longest is the most: what an instance did before is no answer to what it does now.
	longest = 10 * time.Second
	// counters bounds the questions under way at once: drivers' engines have other work.
	counters = 8
)

// Target is an instance to measure.
type Target struct {
	Driver driver.Driver
	Handle driver.Handle
}

// Meter measures instances. The zero value is ready; its methods are safe for concurrent use.
type Meter struct {
	mu   sync.Mutex // guards last
	last map[driver.Key]count
}

// count is what a driver counted, and what was made of it.
type count struct {
	driver.Usage
	told *api.Usage // nil: it was the first of two
}

// Measure tells what the instances use; those that no driver can measure are left out. An instance that was not measured
// in the last ten seconds takes 0.2 s.
func (m *Meter) Measure(ctx context.Context, targets []Target) []api.AllocationUsage {
	fresh := m.first(ctx, targets)
	if len(fresh) > 0 && pause(ctx, shortest) == nil {
		m.count(ctx, fresh)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.last, func(_ driver.Key, c count) bool { return time.Since(c.At) > longest })
	var all []api.AllocationUsage
	for _, t := range targets {
		if c := m.last[t.Handle.Key]; c.told != nil {
			all = append(all, api.AllocationUsage{ID: t.Handle.Key.Allocation, Usage: *c.told})
		}
	}
	return all
}

// first counts what was not counted just now, and returns what has to be counted a second time.
func (m *Meter) first(ctx context.Context, targets []Target) (again []Target) {
	var due []Target
	m.mu.Lock()
	for _, t := range targets {
		c, ok := m.last[t.Handle.Key]
		if age := time.Since(c.At); !ok || c.told == nil || age >= shortest {
			due = append(due, t)
		}
	}
	m.mu.Unlock()
	m.count(ctx, due)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range due {
		if c, ok := m.last[t.Handle.Key]; ok && c.told == nil {
			again = append(again, t)
		}
	}
	return again
}

// count asks the drivers and takes in what they say.
func (m *Meter) count(ctx context.Context, targets []Target) {
	var group sync.WaitGroup
	places := make(chan struct{}, counters)
	for _, t := range targets {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if u, err := t.Driver.Usage(ctx, t.Handle); err == nil {
				m.take(t.Handle.Key, u)
			}
		})
	}
	group.Wait()
}

func (m *Meter) take(k driver.Key, now driver.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = map[driver.Key]count{}
	}
	before, ok := m.last[k]
	c := count{Usage: now}
	span := now.At.Sub(before.At)
	switch {
	case !ok || span > longest:
	case span < shortest/2: // somebody else asked meanwhile: what was told then is as good
		return
	default:
		c.told = &api.Usage{
			CPU:    max(0, int64((now.CPU-before.CPU)*1000/span)),
			Memory: (now.Memory + 1<<20 - 1) >> 20,
			At:     now.At,
		}
	}
	m.last[k] = c
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
