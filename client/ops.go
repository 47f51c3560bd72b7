package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/client/estate"
	"cube/client/payload"
)

// endsAtOnce bounds the stops and removals that one driver has in flight: enough that slow ones do not hold up the rest.
const endsAtOnce = 64

// progressEvery is how often at most a start's progress becomes a status: each one is committed by the servers.
const progressEvery = time.Second

// advance makes the calls that the allocation and its parts need now, or sees to it that they are looked at again in time.
func (r *runner) advance(a *allocation) {
	now, p := time.Now(), r.policy(a)
	probe, look := a.examine(p, now)
	for _, i := range probe {
		r.probe(a, i)
	}
	r.wakeAt(a, look)
	r.wakeAt(a, a.overdue(p))
	r.wakeAt(a, a.stranded(p))
	r.advanceOne(a, a, now)
	for i := 0; i < len(a.Crew); i++ { // a call may change the crew, and has then looked at all of it again
		m := &a.Crew[i]
		r.wakeAt(a, m.overdue(p.part(m.Part)))
		r.advanceOne(a, m, now)
	}
}

// advanceOne makes the call that the allocation itself or a part of it needs now.
func (r *runner) advanceOne(a, m *allocation, now time.Time) {
	do, wake := m.next(now, r.mayStart(a))
	if do == opNone {
		r.wakeAt(a, wake)
		return
	}
	if do == opStart && !r.succeeds(a) {
		return
	}
	d := r.drivers[a.Driver]
	if d == nil {
		r.driverless(m, do)
		return
	}
	if !d.gate(do).enter(m) {
		return // it is queued, and advanced when a call ends
	}
	switch do {
	case opStart:
		r.start(m, d)
	case opStop:
		r.stop(m, d)
	case opClean:
		r.clean(m, d)
	}
}

// mayStart reports whether an instance of the allocation may be started: a server has answered in this life, so that it
// is known to be wanted still, and its driver has said what exists, so that none is started twice.
func (r *runner) mayStart(a *allocation) bool {
	if !r.answered || r.closing || r.spec(a) == nil {
		return false
	}
	d := r.drivers[a.Driver]
	return d == nil || d.listed
}

// driverless does what there is to do for an allocation whose driver this node does not have.
func (r *runner) driverless(a *allocation, do op) {
	err := fmt.Errorf("the driver %q is not enabled on this node", a.Driver)
	w := a.who()
	switch do {
	case opStart:
		r.tell(w, evBegun{})
		r.tell(w, evRefused{Err: &driver.StartError{Failure: api.FailureStart, Permanent: true, Err: err}})
	case opStop:
		r.tell(w, evStopped{Err: err})
	case opClean:
		r.tell(w, evCleaned{Handle: a.Old[0], Err: err})
	}
}

func (d *managed) gate(do op) *gate {
	if do == opStart {
		return &d.starts
	}
	return &d.ends
}

// enter takes a place, or queues the allocation for one.
func (g *gate) enter(a *allocation) bool {
	if g.inside < g.limit {
		g.inside++
		return true
	}
	if !a.queued {
		a.queued = true
		g.queue = append(g.queue, a.ID)
	}
	return false
}

// leave gives a place back, and lets those who have waited longest have another look at what they need.
func (r *runner) leave(g *gate) {
	g.inside--
	for g.inside < g.limit && len(g.queue) > 0 {
		a := r.allocs[g.queue[0]]
		g.queue = g.queue[1:]
		if a != nil {
			a.queued = false
			for i := range a.Crew {
				a.Crew[i].queued = false
			}
			r.advance(a)
		}
	}
}

// call runs f, which calls a driver, beside the runner, and posts what came of it as an event.
func (r *runner) call(w who, d *managed, do op, f func() any) {
	r.find(w).busy = do
	r.ops.Go(func() {
		ev := f()
		r.post(func() {
			delete(r.cancels, w)
			if a := r.find(w); a != nil {
				a.busy = opNone
			}
			r.tell(w, ev)
			r.leave(d.gate(do))
		})
	})
}

// start has the next instance of the allocation, or of a part of one, started.
func (r *runner) start(a *allocation, d *managed) {
	w := a.who()
	a.busy = opStart // so that the event below asks for no other call
	r.tell(w, evBegun{})
	ctx, cancel := context.WithCancel(r.calls)
	r.cancels[w] = cancel
	whole := r.allocs[w.ID]
	snapshot, sp, text, before := *whole, r.spec(whole), r.text.Format(w.ID), r.predecessors(whole)
	part := &snapshot
	if w.Part != "" {
		m := *r.find(w)
		part = &m
	}
	progress := r.progress(w)
	r.call(w, d, opStart, func() any {
		defer cancel()
		c, err := r.c.configure(&snapshot, part, sp, d.Driver, text, before)
		if err != nil {
			return evRefused{Err: err}
		}
		h, at, err := d.Start(ctx, c, progress)
		if err != nil {
			return evRefused{Err: err}
		}
		return evStarted{Handle: h, At: at}
	})
}

// predecessors are those that had the allocation's slot before it, here and on other nodes, the latest first, if it inherits from them.
func (r *runner) predecessors(a *allocation) []estate.Before {
	if t := r.spec(a).task(a.Task); t == nil || !t.Sticky() || r.c.dir == nil {
		return nil
	}
	before := map[api.ID]estate.Before{}
	for id, o := range r.allocs {
		if o.Stage == stageDone && id < a.ID && o.Job == a.Job && o.Task == a.Task && o.Slot == a.Slot {
			before[id] = estate.Before{Dir: r.c.dir.Allocation(r.text.Format(id))}
		}
	}
	for _, f := range a.Former {
		if f.Node != r.c.id {
			before[f.Allocation] = estate.Before{Former: f}
		}
	}
	var out []estate.Before
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(before))) {
		out = append(out, before[id])
	}
	return out
}

// fetchesAtOnce bounds the directories that a node takes over from others, and those that it gives away, at a time: a few fill
// what its network can do.
const fetchesAtOnce = 4

// succeeds reports whether the allocation has all that it has from those before it, so that it or a part of it may be started. If it
// has to be fetched from another node that begins now, or when there is a place for it.
func (r *runner) succeeds(a *allocation) bool {
	switch {
	case a.heir == heirSettled || len(a.Former) == 0:
		return true
	case a.heir == heirUnknown && r.fetches.enter(a):
		r.takeOver(a)
	}
	return a.heir == heirSettled
}

// takeOver fetches an allocation's directory beside the runner. What comes of it is an event.
func (r *runner) takeOver(a *allocation) {
	w, t, text := a.who(), r.spec(a).task(a.Task), r.text.Format(a.ID)
	before := r.predecessors(a)
	if len(before) == 0 || t == nil {
		a.heir = heirSettled
		r.leave(&r.fetches)
		return
	}
	a.heir = heirFetching
	ctx, cancel := context.WithCancel(r.calls)
	r.cancels[w] = cancel
	dir := r.c.dir.Allocation(text)
	taking := &estate.Taking{
		Dir: dir, Before: before, Inside: t.EphemeralDisk.Destination, Must: t.EphemeralDisk.Move == api.MoveMust,
		Fetch: func(ctx context.Context, former api.ID, taken bool) (io.ReadCloser, error) {
			return r.c.link.fetch(ctx, api.FetchRequest{Allocation: w.ID, Former: former, Taken: taken})
		},
		Progress: r.progress(w),
	}
	r.c.visits.streams.Add(1)
	r.ops.Go(func() {
		defer cancel()
		err := os.MkdirAll(dir, 0o700)
		note := ""
		if err == nil {
			note, err = taking.Take(ctx)
		}
		r.c.visits.streams.Add(-1)
		r.post(func() {
			delete(r.cancels, w)
			if a := r.allocs[w.ID]; a != nil {
				a.heir = heirUnknown
				if err == nil {
					a.heir = heirSettled
				}
				r.event(a, evTaken{Note: note, Err: err})
			}
			r.leave(&r.fetches)
		})
	})
}

// configure makes what the driver needs to start the allocation a, or m, which is a part of it; and the allocation's directory,
// with what it inherits from the directories of those before it.
func (c *Client) configure(a, m *allocation, sp *spec, d driver.Driver, text string, before []estate.Before) (*driver.Config, error) {
	permanent := func(err error) error {
		return &driver.StartError{Failure: api.FailureStart, Permanent: true, Err: err}
	}
	t := sp.task(a.Task)
	var part *api.Part
	if t != nil && m.Part != "" {
		part = t.Part(m.Part)
	}
	switch {
	case t == nil && sp.err != nil:
		return nil, permanent(fmt.Errorf("read version %d of job %s: %w", a.Version, a.Job, sp.err))
	case t == nil:
		return nil, permanent(fmt.Errorf("version %d of job %s has no task %s", a.Version, a.Job, a.Task))
	case m.Part != "" && part == nil:
		return nil, permanent(fmt.Errorf("task %s of version %d of job %s has no part %s", a.Task, a.Version, a.Job, m.Part))
	}
	dir := ""
	if c.dir != nil {
		dir = c.dir.Allocation(text)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the allocation's directory: %w", err)
		}
		if t.EphemeralDisk != nil {
			if err := estate.Inherit(dir, before); err != nil {
				return nil, fmt.Errorf("make the instance's ephemeral disk: %w", err)
			}
		}
		if err := payload.Put(dir, sp.job, t); err != nil {
			return nil, err
		}
	}
	cfg, err := (*driver.Config)(nil), error(nil)
	if part != nil {
		cfg, err = configurePart(sp.job, a, m, t, part, c.describe(), c.owner(), text, dir)
	} else {
		cfg, err = configure(sp.job, a, t, c.describe(), c.owner(), text, dir)
	}
	if err != nil {
		return nil, permanent(err)
	}
	if err := d.CheckOptions(cfg.Options); err != nil {
		return nil, permanent(err)
	}
	return cfg, nil
}

// progress gives what a driver tells how far a start has come to. Called too often, the last word may be lost.
func (r *runner) progress(w who) driver.Progress {
	var last atomic.Int64 // Unix nanoseconds
	return func(message string) {
		now, before := time.Now().UnixNano(), last.Load()
		if now-before < int64(progressEvery) || !last.CompareAndSwap(before, now) {
			return
		}
		r.post(func() {
			if a := r.find(w); a != nil && (a.busy == opStart || a.heir == heirFetching) {
				r.tell(w, evTold{Message: message})
			}
		})
	}
}

// kill returns how the task wants to be stopped.
func (r *runner) kill(a *allocation) (signal string, timeout time.Duration) {
	if t := r.spec(a).task(a.Task); t != nil {
		return t.KillSignal, t.KillTimeout
	}
	return api.DefaultKillSignal, api.DefaultKillTimeout
}

// stop has the allocation's instance stopped.
func (r *runner) stop(a *allocation, d *managed) {
	h, calls := a.Run, r.calls
	signal, timeout := r.kill(a)
	r.call(a.who(), d, opStop, func() any {
		return evStopped{Err: d.Stop(calls, h, signal, timeout)}
	})
}

// clean has a former instance removed, and stopped first should it still run.
func (r *runner) clean(a *allocation, d *managed) {
	h, calls := a.Old[0], r.calls
	signal, timeout := r.kill(a)
	name, text := api.InstanceName(a.Job, a.Task, a.Slot), r.text.Format(a.ID)
	r.call(a.who(), d, opClean, func() any {
		err := d.Stop(calls, h, signal, timeout)
		if err == nil {
			err = d.Remove(calls, h)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("a former instance is not removed yet", "instance", name, "allocation", text, "error", err)
		}
		return evCleaned{Handle: h, Err: err}
	})
}

// The wait before a driver is asked again for its list or its watch, doubling: it may be an engine that restarts.
const (
	driverDelay    = time.Second
	driverMaxDelay = 15 * time.Second
)

// attend adopts a driver's instances and then watches for their ends, until the runner's calls are cancelled. One
// goroutine a driver, owned by the runner. first is called when the driver has answered once, or failed to.
func (r *runner) attend(d *managed, first func()) {
	ctx, name := r.calls, d.Name()
	first = sync.OnceFunc(first)
	r.ops.Go(func() {
		defer first()
		for fails := 0; ctx.Err() == nil; fails++ {
			found, err := d.List(ctx)
			if err == nil {
				_ = r.ask(ctx, func() { r.listed(d, found) })
				break
			}
			first()
			if fails == 0 && ctx.Err() == nil {
				r.log.Warn("a driver does not say what runs; nothing of it is started until it does", "driver", name, "error", err)
			}
			pause(ctx, backoff(driverDelay, driverMaxDelay, fails))
		}
		first()
		for fails := 0; ctx.Err() == nil; fails++ {
			began := time.Now()
			err := d.Watch(ctx, func(h driver.Handle, x driver.Exit) {
				r.post(func() { r.exited(h, x) })
			})
			if time.Since(began) > driverMaxDelay {
				fails = 0
			}
			if ctx.Err() == nil {
				r.log.Warn("a driver stopped watching; it is asked again", "driver", name, "error", err)
				pause(ctx, backoff(driverDelay, driverMaxDelay, fails))
			}
		}
	})
}

// exited takes the end of an instance.
func (r *runner) exited(h driver.Handle, x driver.Exit) {
	r.tell(who{h.Key.Allocation, h.Key.Part, h.Key.Of}, evExited{Key: h.Key, Exit: x})
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
