package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

const (
	// gatherBytes and gatherStatuses bound one entry of statuses, and what a server passes on to the leader at a time.
	gatherBytes    = 256 << 10
	gatherStatuses = 4000
	statusSize     = 64 // about what one takes in the log, besides its message
	// deliverTimeout is how long the leader may take for what is passed on to it: a commit on a busy cluster.
	deliverTimeout = 10 * time.Second
)

// Report implements api.Dispatcher. The leader answers after the statuses are committed, through this server if need be.
// A node's load alone stays here: the leader is told of it with that of others.
func (s *Server) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	now := time.Now()
	s.registry.SetLoad(r.Node, r.Incarnation, r.Load)
	s.reported.Count(now)
	space, loads := s.reported.Spacing(s.registry.Len(), now), s.registry.LoadEvery()
	if len(r.Statuses) == 0 && !r.Ready {
		return &api.ReportAnswer{Index: s.machine.Snapshot().Index(), Spacing: space, LoadEvery: loads}, nil
	}
	outcome, err := toLeader(ctx, s, retold,
		func() (api.ReportOutcome, error) { return s.deliverOne(ctx, r) },
		func(string) (api.ReportOutcome, error) {
			passed := *r
			passed.Load = nil
			return s.passing.submit(ctx, &passed)
		})
	switch {
	case err != nil:
		return nil, err
	case outcome.Refused != nil:
		return nil, outcome.Refused
	}
	outcome.Spacing, outcome.LoadEvery = space, loads
	return &outcome.ReportAnswer, nil
}

// retold reports whether a report may be sent again: always when it may have been lost, since the state takes each
// status once.
func retold(err error) bool {
	return unwritten(err) || api.CodeOf(err) == api.CodeUnavailable || api.CodeOf(err) == api.CodeUnknown
}

func (s *Server) deliverOne(ctx context.Context, r *api.Report) (api.ReportOutcome, error) {
	answer, err := s.Deliver(ctx, &api.ReportBatch{Reports: []api.Report{*r}})
	if err != nil {
		return api.ReportOutcome{}, err
	}
	return answer.Answers[0], nil
}

// passOn sends the leader what the nodes here have reported.
func (s *Server) passOn(ctx context.Context, reports []*api.Report) ([]api.ReportOutcome, error) {
	leader, self, known := s.LeaderInfo()
	if self || !known {
		return nil, notLeader()
	}
	call, cancel := context.WithTimeout(ctx, deliverTimeout)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { s.whileLeads(call, leader.ID, cancel) })
	batch := &api.ReportBatch{Reports: make([]api.Report, len(reports))}
	for i, r := range reports {
		batch.Reports[i] = *r
	}
	answer, err := s.peer(leader.ID).Deliver(call, batch)
	switch {
	case err != nil && call.Err() != nil && ctx.Err() == nil:
		return nil, api.Errorf(api.CodeUnavailable, "the leader did not take the reports: %w", err)
	case err != nil:
		return nil, err
	}
	if len(answer.Answers) != len(reports) {
		return nil, api.Errorf(api.CodeInternal, "the leader answered %d of %d reports", len(answer.Answers), len(reports))
	}
	return answer.Answers, nil
}

// whileLeads gives a call up when this server hears of another leader: the one that was called may be cut off, and its
// silence would be noticed later.
func (s *Server) whileLeads(ctx context.Context, id string, giveUp func()) {
	for {
		changed := s.LeaderChanged()
		if leader, _, known := s.LeaderInfo(); known && leader.ID != id {
			giveUp()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Deliver implements api.Peer.
func (s *Server) Deliver(ctx context.Context, b *api.ReportBatch) (*api.ReportBatchAnswer, error) {
	t, err := s.leading()
	if err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	s.metrics.reports.Add(uint64(len(b.Reports)))
	answers := make([]api.ReportOutcome, len(b.Reports))
	var statuses []fsm.NodeReport
	for i := range b.Reports {
		r := &b.Reports[i]
		t.directory.SetLoad(r.Node, r.Load)
		if node := snapshot.Node(r.Node); node == nil || node.Incarnation != r.Incarnation {
			answers[i].Refused = &api.Error{Code: api.CodeConflict, Message: "node " + r.Node[:min(32, len(r.Node))] + " is not registered in this life: register first"}
			continue
		}
		answers[i].Index = snapshot.Index()
		if len(r.Statuses) > 0 {
			statuses = append(statuses, fsm.NodeReport{Node: r.Node, Statuses: r.Statuses})
		}
	}
	if len(statuses) > 0 {
		result, err := t.reports.submit(ctx, statuses)
		if err != nil {
			return nil, err
		}
		s.acknowledge(snapshot, b.Reports, answers, result)
	}
	if err := s.takeReady(snapshot, b.Reports, answers); err != nil {
		return nil, err
	}
	return &api.ReportBatchAnswer{Answers: answers}, nil
}

// acknowledge says for each report that its statuses are committed, and which of them are not its node's.
func (s *Server) acknowledge(snapshot *fsm.Snapshot, reports []api.Report, answers []api.ReportOutcome, result committed) {
	for i := range reports {
		if answers[i].Refused != nil || len(reports[i].Statuses) == 0 {
			continue
		}
		answers[i].Index = result.index
		if len(result.unknown) == 0 {
			continue
		}
		for _, status := range reports[i].Statuses {
			if !slices.Contains(result.unknown, status.ID) {
				continue
			}
			// Another node of the same entry may have named an ID that is this one's.
			if row, ok := snapshot.Row(status.ID); !ok || row.Node != reports[i].Node {
				answers[i].Unknown = append(answers[i].Unknown, status.ID)
			}
		}
	}
}

// takeReady writes that nodes have done what their inventory asked for.
func (s *Server) takeReady(snapshot *fsm.Snapshot, reports []api.Report, answers []api.ReportOutcome) error {
	entries := make(map[int]pending)
	for i := range reports {
		r := &reports[i]
		if answers[i].Refused == nil && r.Ready && snapshot.Node(r.Node).Status == api.NodeInitializing {
			entries[i] = s.door.begin(&fsm.NodeReady{Node: r.Node, Incarnation: r.Incarnation}, origin{Who: "node/" + r.Node, Why: "its inventory is put right"})
		}
	}
	for i := range reports {
		entry, ok := entries[i]
		if !ok {
			continue
		}
		result, err := entry.wait()
		switch {
		case err != nil && lostLeadership(err):
			return err
		case err != nil:
			answers[i].Refused = &api.Error{Code: api.CodeOf(err), Message: err.Error()}
		default:
			answers[i].Index = max(answers[i].Index, result.Index)
		}
	}
	return nil
}

// committed is what became of statuses that were written.
type committed struct {
	index   uint64
	unknown []api.ID // of the whole entry
}

// commitReports writes one entry of statuses.
func (s *Server) commitReports(_ context.Context, lists [][]fsm.NodeReport) ([]committed, error) {
	s.metrics.reportEntries.Add(1)
	result, err := s.door.apply(&fsm.UpdateStatuses{Reports: slices.Concat(lists...)}, leaderLoop("reports", "what nodes say"))
	if err != nil {
		return nil, err
	}
	return slices.Repeat([]committed{{result.Index, result.Unknown}}, len(lists)), nil
}

// gatherer does together what is asked for while the batch before is under way: a thousand reports cost a handful of
// entries, or of calls.
type gatherer[In, Out any] struct {
	statuses func(In) (n, bytes int) // what counts against a batch's bounds
	fatal    func(error) bool        // ends run; nil: nothing does
	arrived  signal.Broadcast

	mu      sync.Mutex
	ended   bool // nobody serves; guarded by mu, as is what follows
	waiting []*gathered[In, Out]
}

// gathered is one customer's part.
type gathered[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{} // closed when out or err is set
}

func newGatherer[In, Out any](statuses func(In) (n, bytes int)) *gatherer[In, Out] {
	return &gatherer[In, Out]{statuses: statuses}
}

// submit returns when its batch was done, or is given up.
func (g *gatherer[In, Out]) submit(ctx context.Context, in In) (out Out, err error) {
	part := &gathered[In, Out]{in: in, done: make(chan struct{})}
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return out, errGathererEnded()
	}
	g.waiting = append(g.waiting, part)
	g.mu.Unlock()
	g.arrived.Notify()
	select {
	case <-part.done:
		return part.out, part.err
	case <-ctx.Done():
		return out, ctx.Err()
	}
}

func errGathererEnded() error {
	return api.Errorf(api.CodeUnknown, "leadership was lost while writing a report: it may or may not have been taken; send it again")
}

// run does one batch at a time until ctx ends or a batch fails for good. A part that arrives wakes it.
func (g *gatherer[In, Out]) run(ctx context.Context, do func(context.Context, []In) ([]Out, error)) error {
	defer g.end()
	for {
		arrived := g.arrived.Wait()
		batch := g.take()
		if len(batch) == 0 {
			select {
			case <-arrived:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		in := make([]In, len(batch))
		for i, part := range batch {
			in[i] = part.in
		}
		out, err := do(ctx, in)
		for i, part := range batch {
			if part.err = err; err == nil {
				part.out = out[i]
			}
			close(part.done)
		}
		if err != nil && g.fatal != nil && g.fatal(err) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// end turns away those who wait and those who will come.
func (g *gatherer[In, Out]) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for _, part := range g.waiting {
		part.err = errGathererEnded()
		close(part.done)
	}
	g.waiting = nil
}

// take returns what fits one batch, oldest first; at least one part if there is any.
func (g *gatherer[In, Out]) take() []*gathered[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	statuses, bytes, n := 0, 0, 0
	for _, part := range g.waiting {
		more, size := g.statuses(part.in)
		statuses, bytes = statuses+more, bytes+size
		if n > 0 && (statuses > gatherStatuses || bytes > gatherBytes) {
			break
		}
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	return batch
}

// statusesOf counts the statuses of reports against a batch's bounds.
func statusesOf(list []api.AllocationStatus) (n, bytes int) {
	for i := range list {
		bytes += statusSize + len(list[i].Message)
	}
	return len(list), bytes
}

// newPassing gathers what a server passes on to the leader, newCommitting what the leader writes.
func newPassing() *gatherer[*api.Report, api.ReportOutcome] {
	return newGatherer[*api.Report, api.ReportOutcome](func(r *api.Report) (int, int) { return statusesOf(r.Statuses) })
}

func newCommitting() *gatherer[[]fsm.NodeReport, committed] {
	g := newGatherer[[]fsm.NodeReport, committed](func(list []fsm.NodeReport) (n, bytes int) {
		for i := range list {
			more, size := statusesOf(list[i].Statuses)
			n, bytes = n+more, bytes+size
		}
		return n, bytes
	})
	g.fatal = lostLeadership
	return g
}
