// Package journal keeps the latest events of this server's state, for those who want to know what goes on. They are in
// memory and bounded; what has happened to a job for good is in the state itself (fsm/timeline).
package journal

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

// Limits bound what is kept and who reads it. Zero values mean the defaults.
type Limits struct {
	Events  int // 32,768: some 5 MiB, an hour of a busy cluster, and a second of one that places a million instances
	Bytes   int // 8 MiB, texts included
	Readers int // 64: each is woken by every entry of the log
}

const (
	// eventSize is what an event takes in memory without its texts. Names are the state's own.
	eventSize = 168
	// batchSize is after how many events a batch ends, with the entry that it is in.
	batchSize = 256
	// scanned is how many events are looked at before the writer may go on.
	scanned = 1024
)

// Journal is the ring of the latest events. It is the state machine's fsm.Observer; its methods are safe for concurrent use.
type Journal struct {
	limits   Limits
	snapshot func() *fsm.Snapshot
	grown    signal.Broadcast

	mu      sync.Mutex
	ring    []api.Event
	first   int    // the place of the oldest
	n       int    // how many there are
	bytes   int    // that they take
	gone    uint64 // every event after this index is here
	latest  uint64 // the index of the state
	readers int
}

// New returns an empty journal of a state's first entries. snapshot returns the state, for names.
func New(limits Limits, snapshot func() *fsm.Snapshot) *Journal {
	if limits.Events == 0 {
		limits.Events = 32 << 10
	}
	if limits.Bytes == 0 {
		limits.Bytes = 8 << 20
	}
	if limits.Readers == 0 {
		limits.Readers = 64
	}
	return &Journal{limits: limits, snapshot: snapshot}
}

// Applied implements fsm.Observer.
func (j *Journal) Applied(index uint64, events []api.Event) {
	j.mu.Lock()
	j.latest = index
	for i := range events {
		j.push(&events[i])
	}
	j.mu.Unlock()
	j.grown.Notify()
}

// Restored implements fsm.Observer.
func (j *Journal) Restored(index uint64) {
	j.mu.Lock()
	clear(j.ring)
	j.first, j.n, j.bytes, j.gone, j.latest = 0, 0, 0, index, index
	j.mu.Unlock()
	j.grown.Notify()
}

func (j *Journal) push(e *api.Event) {
	for j.n > 0 && (j.n == j.limits.Events || j.bytes+size(e) > j.limits.Bytes) {
		oldest := j.at(0)
		j.gone = oldest.Index
		j.bytes -= size(oldest)
		*oldest = api.Event{}
		j.first = (j.first + 1) % len(j.ring)
		j.n--
	}
	if j.n == len(j.ring) {
		const least = 64
		bigger := make([]api.Event, min(max(least, 2*j.n), j.limits.Events))
		for i := range j.n {
			bigger[i] = *j.at(i)
		}
		j.ring, j.first = bigger, 0
	}
	*j.at(j.n) = *e
	j.n++
	j.bytes += size(e)
}

func size(e *api.Event) int { return eventSize + len(e.Detail) + len(e.By) }

// at returns the i-th oldest event's place.
func (j *Journal) at(i int) *api.Event { return &j.ring[(j.first+i)%len(j.ring)] }

// read returns events of whole entries after an index, and the index up to which it has looked.
func (j *Journal) read(after uint64, keep func(*api.Event) bool) (out []api.Event, upTo uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if after < j.gone {
		return nil, 0, api.Errorf(api.CodeTooOld, "events up to index %d are not kept any more: go on after that, or look at how things are", j.gone)
	}
	begin := sort.Search(j.n, func(i int) bool { return j.at(i).Index > after })
	for i := begin; i < j.n; i++ {
		e := j.at(i)
		if e.Index != upTo && (len(out) >= batchSize || i-begin >= scanned) {
			return out, upTo, nil
		}
		upTo = e.Index
		if keep(e) {
			out = append(out, *e)
		}
	}
	return out, max(after, j.latest), nil
}

// before returns the index after which there are n events, or as many as are kept. An entry is not divided.
func (j *Journal) before(n int, keep func(*api.Event) bool) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case n < 0:
		return j.gone
	case n == 0:
		return j.latest
	}
	for i := j.n - 1; i >= 0; i-- {
		if keep(j.at(i)) {
			if n--; n == 0 {
				return max(j.gone, j.at(i).Index-1)
			}
		}
	}
	return j.gone
}

// filter says which events a request asks for.
func (j *Journal) filter(r *api.EventRequest) (func(*api.Event) bool, error) {
	for _, t := range r.Topics {
		if !slices.Contains(api.Topics(), t) {
			return nil, api.Errorf(api.CodeInvalid, "there is no topic %.40q; there are %v", t, api.Topics())
		}
	}
	return func(e *api.Event) bool {
		return (r.Job == "" || e.Job == r.Job) && (r.Node == "" || e.Node == r.Node) &&
			(len(r.Topics) == 0 || slices.Contains(r.Topics, e.Type.Topic()))
	}, nil
}

func (j *Journal) enter() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.readers >= j.limits.Readers {
		return api.Errorf(api.CodeBusy, "%d read this server's events already, as many as may: ask another one", j.readers)
	}
	j.readers++
	return nil
}

func (j *Journal) leave() {
	j.mu.Lock()
	j.readers--
	j.mu.Unlock()
}

// Events is that of api.Events, but for the node, which is asked for by its whole ID.
func (j *Journal) Events(ctx context.Context, r api.EventRequest, take func(api.EventBatch) error) error {
	keep, err := j.filter(&r)
	if err != nil {
		return err
	}
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	after := uint64(0)
	if r.After != nil {
		after = *r.After
	} else {
		after = j.before(r.Tail, keep)
	}
	silent := time.NewTimer(api.Beat)
	defer silent.Stop()
	for begun, beat := false, true; ; begun = true {
		grown := j.grown.Wait()
		events, upTo, err := j.read(after, keep)
		switch {
		case err != nil && begun:
			return api.Errorf(api.CodeTooOld, "this reader is too slow, and is cut off: what it was not told after index %d is not all kept any more", after)
		case err != nil:
			return err
		}
		more := upTo > after && !j.seen(upTo)
		after = upTo
		if beat || len(events) > 0 {
			if err := take(api.EventBatch{Index: upTo, Events: j.views(events)}); err != nil {
				return err
			}
			beat = false
			silent.Reset(api.Beat)
		}
		if more {
			continue
		}
		if !r.Follow {
			return nil
		}
		select {
		case <-grown:
		case <-silent.C:
			beat = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seen reports whether there is nothing after the index.
func (j *Journal) seen(index uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return index >= j.latest
}

func (j *Journal) views(events []api.Event) []*api.EventView {
	s := j.snapshot()
	out := make([]*api.EventView, len(events))
	for i := range events {
		m := events[i].Moment()
		out[i] = m.View(s.Text(), s.NodeName)
	}
	return out
}
