package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"cube/api"
)

// lazyFor is how long a status may wait that only says that a start is in flight: most starts are over by then, and the
// servers then commit one status instead of two.
const lazyFor = 250 * time.Millisecond

// reportMax bounds the statuses of one report.
const reportMax = 500

// outbox holds the latest status of each allocation until the servers have it. It outlives sessions. The runner puts, the
// report loop of the present session takes.
type outbox struct {
	wake chan struct{} // holds one: due has news

	mu      sync.Mutex // guards what follows
	pending map[api.ID]api.AllocationStatus
	urgent  bool      // something that is pending is to go at once
	lazyAt  time.Time // when what is pending and not urgent is to go
	ready   bool      // the stops of the inventory are done, and the servers do not know yet
	turn    uint64    // counts registrations: what was ready for one is not for the next
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), pending: map[api.ID]api.AllocationStatus{}}
}

// put replaces what is pending of the allocation.
func (o *outbox) put(s api.AllocationStatus, now time.Time) {
	o.mu.Lock()
	o.pending[s.ID] = s
	if s.Phase != api.PhasePreparing || s.Message != "" {
		o.urgent = true
	} else if o.lazyAt.IsZero() {
		o.lazyAt = now.Add(lazyFor)
	}
	o.mu.Unlock()
	o.nudge()
}

// setReady says whether the servers are still to hear that the node is ready. A registration begins with false.
func (o *outbox) setReady(ready bool) {
	o.mu.Lock()
	o.ready = ready
	if !ready {
		o.turn++
	}
	o.mu.Unlock()
	if ready {
		o.nudge()
	}
}

func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// due says when there is something to send: zero for nothing, a time not after now for at once.
func (o *outbox) due(now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.urgent || o.ready:
		return now
	case len(o.pending) > 0:
		return o.lazyAt
	}
	return time.Time{}
}

// parcel is what one report carries.
type parcel struct {
	statuses []api.AllocationStatus
	ready    bool
	turn     uint64
}

// take removes up to reportMax statuses, the oldest allocations first.
func (o *outbox) take() parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	var statuses []api.AllocationStatus
	for _, s := range o.pending {
		statuses = append(statuses, s)
	}
	slices.SortFunc(statuses, func(a, b api.AllocationStatus) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	o.urgent, o.lazyAt = false, time.Time{}
	if len(statuses) > reportMax {
		statuses = statuses[:reportMax:reportMax]
		o.urgent = true // the rest
	}
	for i := range statuses {
		delete(o.pending, statuses[i].ID)
	}
	p := parcel{statuses, o.ready && len(o.pending) == 0, o.turn} // that it is ready comes with the last of them
	o.ready = o.ready && !p.ready
	return p
}

// back returns what could not be sent, unless something newer is pending or the node has registered anew.
func (o *outbox) back(p parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range p.statuses {
		if newer, ok := o.pending[s.ID]; !ok || newer.Seq < s.Seq {
			o.pending[s.ID] = s
		}
	}
	o.urgent = o.urgent || len(p.statuses) > 0
	o.ready = o.ready || p.ready && p.turn == o.turn
}

// drop forgets what is pending of an allocation.
func (o *outbox) drop(id api.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pending, id)
}

// report delivers statuses as they come, spaced as the server dictates, and the node's load when there are none.
func (s *session) report(ctx context.Context) error {
	var p patience
	var spaced time.Time // not before
	last, every := time.Now(), s.c.cfg.Tuning.LoadEvery
	for {
		now := time.Now()
		at := s.out.due(now)
		switch {
		case !at.IsZero():
			if at.Before(spaced) {
				at = spaced
			}
		case every > 0:
			at = last.Add(every)
		default:
			at = now.Add(time.Hour)
		}
		if at.After(now) {
			t := time.NewTimer(at.Sub(now))
			select {
			case <-t.C:
			case <-s.out.wake:
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		last = now
		answer, err := s.reportOnce(ctx)
		if err != nil {
			if err := p.wait(ctx, s, err); err != nil {
				return err
			}
			continue
		}
		p = patience{}
		spaced = now.Add(answer.Spacing)
		if every > 0 {
			every = max(s.c.cfg.Tuning.LoadEvery, answer.LoadEvery)
		}
	}
}

func (s *session) reportOnce(ctx context.Context) (*api.ReportAnswer, error) {
	p := s.out.take()
	call, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	defer s.soon()()
	answer, err := s.conn.Report(call, &api.Report{
		Node: s.c.id, Incarnation: s.c.incarnation, Ready: p.ready, Statuses: p.statuses, Load: s.c.load()})
	if err != nil {
		s.out.back(p)
		return nil, err
	}
	if len(p.statuses) > 0 || p.ready { // a leader took them
		s.inTouch()
		s.runner.post(func() { s.runner.acknowledged(p.statuses, answer.Unknown) })
	}
	return answer, nil
}

// passing reports whether an error may go away by itself, on the same server.
func passing(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNoLeader, api.CodeNotLeader, api.CodeUnavailable, api.CodeBusy, api.CodeUnknown:
		return true
	}
	return false
}

// patience counts failures that may pass, and says when another server is to be tried.
type patience struct {
	since time.Time
	fails int
}

// wait waits before the next attempt, or returns err when it is no use or has lasted too long.
func (p *patience) wait(ctx context.Context, s *session, err error) error {
	if ctx.Err() != nil || !passing(err) {
		return err
	}
	now := time.Now()
	if api.CodeOf(err) == api.CodeNoLeader {
		s.cutOff(now)
	}
	if p.since.IsZero() {
		p.since = now
	}
	if now.Sub(p.since) >= moveAfter {
		if !s.alone(s.addr) {
			return err
		}
		if api.CodeOf(err) == api.CodeUnavailable {
			p.since = now
			s.registerAgain() // it may be behind for good: its state was restored, and this node has seen a later one
		}
	}
	t := time.NewTimer(jitter(p.fails))
	defer t.Stop()
	p.fails++
	select {
	case <-t.C:
		return nil
	case <-s.conn.Done():
		return errSessionEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cutOff notes since when no server is heard of that knows a leader, unless that is known. It is kept over a restart.
func (l *link) cutOff(since time.Time) {
	l.mu.Lock()
	news := l.cut.IsZero()
	if news {
		l.cut = since
	}
	l.mu.Unlock()
	if news {
		l.remember(func(k *remembered) { k.Cut = since.Round(0) })
		l.runner.post(func() { l.runner.cutOff(since) })
	}
}

// inTouch notes that a server is heard of that knows a leader.
func (l *link) inTouch() {
	l.mu.Lock()
	news := !l.cut.IsZero()
	l.cut = time.Time{}
	l.mu.Unlock()
	if news {
		l.remember(func(k *remembered) { k.Cut = time.Time{} })
		l.runner.post(l.runner.inTouch)
	}
}

// begin notes since when the node is without a server as its life begins: since the former life was, or else since now. What the
// node did not see of the time between counts only in the first case, since then it was alone at both ends.
func (l *link) begin(now time.Time) {
	since := l.memory().Cut
	if since.IsZero() || since.After(now) {
		since = now
	}
	l.cutOff(since)
}
