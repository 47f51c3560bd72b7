package client

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/client/driver"
)

// runner owns all allocations of the node. One goroutine, run, holds every field below the line; the rest of the client
// talks to it by post and ask. It calls no driver itself: each call has a goroutine of its own for as long as it lasts
// (see ops.go), so that one that hangs holds up its own allocation and nothing else.
type runner struct {
	c    *Client
	log  hclog.Logger
	out  *outbox
	save *saver // nil: nothing is kept
	mail mailbox
	done chan struct{} // closed when run has returned
	ops  sync.WaitGroup

	// run's own
	allocs  map[api.ID]*allocation
	specs   map[specKey]*spec
	drivers map[string]*managed
	text    api.IDText
	agenda
	calls    context.Context            // of driver calls and watches
	cancels  map[who]context.CancelFunc // of starts in flight
	answered bool                       // a server has answered in this life: instances may be started
	closing  bool                       // nothing is started any more
	verdict  verdict
	ended    []api.ID                 // terminal, reported and cleaned: kept for their logs, oldest first
	changed  batch                    // since it was last handed to save
	watched  map[api.ID]chan struct{} // closed when the allocation has moved
}

// agenda is what the runner does by itself when its time has come.
type agenda struct {
	timers    timerHeap // when an allocation is looked at again
	fetches   gate      // directories that are taken over from other nodes
	probing   int       // probes in flight
	inquiries []inquiry // probes that are due and wait for a place, oldest first
}

// verdict is what is left to do of the servers' answer to the inventory.
type verdict struct {
	stops   map[api.ID]struct{} // what must have ended before the node is ready
	unready bool                // the servers wait to hear that it is
}

// managed is a driver in the runner's hands.
type managed struct {
	driver.Driver
	listed bool // its instances have been adopted
	starts gate
	ends   gate
}

// gate bounds how many calls of one kind a driver has in flight.
type gate struct {
	limit  int
	inside int
	queue  []api.ID
}

func newRunner(c *Client, out *outbox, save *saver) *runner {
	return &runner{
		c: c, log: c.log, out: out, save: save, mail: mailbox{wake: make(chan struct{}, 1)}, done: make(chan struct{}),
		allocs: map[api.ID]*allocation{}, specs: map[specKey]*spec{}, drivers: map[string]*managed{},
		agenda: agenda{fetches: gate{limit: fetchesAtOnce}}, cancels: map[who]context.CancelFunc{}, verdict: verdict{stops: map[api.ID]struct{}{}}, watched: map[api.ID]chan struct{}{},
	}
}

// mailbox is an unbounded queue of things for the runner to do: who posts never waits.
type mailbox struct {
	wake chan struct{} // holds one: the queue is not empty

	mu    sync.Mutex // guards what follows
	queue []func()
}

func (m *mailbox) put(f func()) {
	m.mu.Lock()
	m.queue = append(m.queue, f)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue = nil
	return q
}

// post has f done by run, in the order of posts. It never blocks.
func (r *runner) post(f func()) { r.mail.put(f) }

// ask has f done by run and waits for it.
func (r *runner) ask(ctx context.Context, f func()) error {
	did := make(chan struct{})
	r.post(func() { f(); close(did) })
	select {
	case <-did:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return api.Errorf(api.CodeUnavailable, "the client has ended")
	}
}

// run does what is posted and what falls due, until ctx is done; with Config.Dev it then ends all instances. It returns
// when no call to a driver is in flight any more.
func (r *runner) run(ctx context.Context) {
	defer close(r.done)
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.calls = calls
	defer r.ops.Wait()
	defer cancel()
	var finish <-chan time.Time
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		r.flush()
		if r.closing && (!r.c.cfg.Dev || r.idle()) {
			return
		}
		timer.Reset(r.timers.wait(time.Now()))
		select {
		case <-r.mail.wake:
			for _, f := range r.mail.take() {
				f()
			}
		case <-timer.C:
			r.fire()
		case <-stop:
			stop = nil
			finish = time.After(r.close())
		case <-finish:
			r.log.Error("instances are left behind: their drivers did not end them in time")
			return
		}
	}
}

// close begins the end, and says how long it may take.
func (r *runner) close() time.Duration {
	r.closing = true
	if !r.c.cfg.Dev {
		return 0
	}
	const margin = 15 * time.Second // for the drivers to kill and to remove, on a busy machine
	longest := time.Duration(0)
	for _, a := range r.allocs {
		_, timeout := r.kill(a)
		if len(a.Crew) > 0 {
			timeout *= 2 // sidecars end after their main instance
		}
		longest = max(longest, timeout)
		r.event(a, evStop{Why: "stopped: the agent ends, and -dev leaves nothing behind"})
	}
	return longest + margin
}

// idle reports whether nothing is left that runs or is to be removed.
func (r *runner) idle() bool {
	for _, a := range r.allocs {
		if a.Stage != stageDone || !a.allGone() {
			return false
		}
	}
	return true
}

// event advances an allocation and does what follows.
func (r *runner) event(a *allocation, ev any) {
	seq := a.Status.Seq
	*a = step(*a, ev, r.policy(a), time.Now())
	r.settle(a, seq)
}

// tell has an allocation, or a part of one, take an event. What is gone meanwhile takes none.
func (r *runner) tell(w who, ev any) {
	a := r.allocs[w.ID]
	switch {
	case a == nil:
	case w.Part == "":
		r.event(a, ev)
	default:
		r.event(a, evOf{Who: w, Event: ev})
	}
}

// find returns an allocation, or a part of one, as it is now; nil if it is gone. What it points to is a part's only until the
// next event.
func (r *runner) find(w who) *allocation {
	a := r.allocs[w.ID]
	if a == nil || w.Part == "" {
		return a
	}
	return a.member(w.Part, w.Of)
}

// settle does what follows from an allocation's new state. seq is that of its latest status before.
func (r *runner) settle(a *allocation, seq uint64) {
	a.conduct(r.policy(a), time.Now(), !r.closing)
	if a.Status.Seq != seq {
		r.out.put(a.Status, time.Now())
	}
	r.cancelled(a)
	for i := range a.Crew {
		r.cancelled(&a.Crew[i])
	}
	r.moved(a.ID)
	if a.Stage == stageDone {
		delete(r.verdict.stops, a.ID)
		r.tellReady()
	}
	r.keep(a)
	r.advance(a)
	r.retain(a)
}

// cancelled ends a start in flight that nobody wants any more, and what is fetched for one.
func (r *runner) cancelled(a *allocation) {
	if cancel := r.cancels[a.who()]; cancel != nil && (a.Stage == stageStop && a.busy == opStart || a.Stage != stageWait && a.heir == heirFetching) {
		cancel()
	}
}

// moved lets those look again who watch the allocation.
func (r *runner) moved(id api.ID) {
	if w := r.watched[id]; w != nil {
		close(w)
		delete(r.watched, id)
	}
}

// tellReady has the servers told that the node is ready, once all that they wanted gone is.
func (r *runner) tellReady() {
	if r.verdict.unready && len(r.verdict.stops) == 0 {
		r.verdict.unready = false
		r.out.setReady(true)
	}
}

// spec returns the version of the job that the allocation is of, nil if it has not arrived.
func (r *runner) spec(a *allocation) *spec { return r.specs[specKey{a.Job, a.Version}] }

func (r *runner) policy(a *allocation) *policy { return r.spec(a).policy(a.Task, a.Moved) }

// keep has the allocation's new state written.
func (r *runner) keep(a *allocation) {
	if r.save == nil {
		return
	}
	v, err := encode(a)
	if err != nil {
		r.log.Error("an allocation's state is not saved", "allocation", r.text.Format(a.ID), "error", err)
		return
	}
	r.changed.allocation(a.ID, v)
}

// flush hands what has changed to the saver, many changes at a time.
func (r *runner) flush() {
	if r.save != nil && !r.changed.empty() {
		r.save.put(&r.changed)
		r.changed = batch{}
	}
}

// alarm is when an allocation is to be looked at again.
type alarm struct {
	at time.Time
	id api.ID
}

// timerHeap orders alarms by time. One that is no longer right is harmless: looking again finds nothing to do.
type timerHeap []alarm

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(alarm)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// wait is how long to sleep: until the first alarm.
func (h timerHeap) wait(now time.Time) time.Duration {
	if len(h) == 0 {
		return time.Hour
	}
	return max(0, h[0].at.Sub(now))
}

// fire looks at the allocations whose time has come.
func (r *runner) fire() {
	now := time.Now()
	for len(r.timers) > 0 && !r.timers[0].at.After(now) {
		id := heap.Pop(&r.timers).(alarm).id
		if a := r.allocs[id]; a != nil && !a.wake.After(now) {
			a.wake = time.Time{}
			r.quietly(a, evTick{})
		}
	}
}

// wakeAt sets the allocation's alarm, unless it is set for no later already.
func (r *runner) wakeAt(a *allocation, at time.Time) {
	if at.IsZero() || !a.wake.IsZero() && !at.Before(a.wake) {
		return
	}
	a.wake = at
	heap.Push(&r.timers, alarm{at, a.ID})
}
