package server

import (
	"context"
	"sync"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

// reportBytes and reportStatuses bound one entry of statuses.
const (
	reportBytes    = 256 << 10
	reportStatuses = 2000
	statusSize     = 64 // about what one takes in the log, besides its message
)

// reportQueue gathers what nodes report while the entry before is being written, so that a thousand nodes cost a handful
// of entries.
type reportQueue struct {
	arrived signal.Broadcast

	mu      sync.Mutex
	waiting []*submission
}

// submission is one node's report on its way.
type submission struct {
	report fsm.NodeReport
	done   chan submitted // buffered: the queue never waits for its customer
}

type submitted struct {
	index   uint64
	unknown []api.ID
	err     error
}

func newReportQueue() *reportQueue { return new(reportQueue) }

// submit returns when the report is committed. term is the leadership's context: when it ends nobody knows.
func (q *reportQueue) submit(ctx, term context.Context, r fsm.NodeReport) (submitted, error) {
	s := &submission{report: r, done: make(chan submitted, 1)}
	q.mu.Lock()
	q.waiting = append(q.waiting, s)
	q.mu.Unlock()
	q.arrived.Notify()
	select {
	case result := <-s.done:
		return result, result.err
	case <-term.Done():
		return submitted{}, api.Errorf(api.CodeUnknown, "leadership was lost while writing a report: it may or may not have been taken; send it again")
	case <-ctx.Done():
		return submitted{}, ctx.Err()
	}
}

// run commits what gathers, one entry at a time, until ctx ends. A report that arrives wakes it.
func (q *reportQueue) run(ctx context.Context, commit func([]fsm.NodeReport) (fsm.Result, error)) error {
	for {
		arrived := q.arrived.Wait()
		batch := q.take()
		if len(batch) == 0 {
			select {
			case <-arrived:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		reports := make([]fsm.NodeReport, len(batch))
		for i, s := range batch {
			reports[i] = s.report
		}
		result, err := commit(reports)
		unknown := make(map[api.ID]bool, len(result.Unknown))
		for _, id := range result.Unknown {
			unknown[id] = true
		}
		for _, s := range batch {
			answer := submitted{index: result.Index, err: err}
			for _, status := range s.report.Statuses {
				if unknown[status.ID] {
					answer.unknown = append(answer.unknown, status.ID)
				}
			}
			s.done <- answer
		}
		if err != nil && lostLeadership(err) {
			return err
		}
	}
}

// take returns what fits one entry, oldest first; at least one report if there is any.
func (q *reportQueue) take() []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	statuses, bytes, n := 0, 0, 0
	for _, s := range q.waiting {
		statuses += len(s.report.Statuses)
		for i := range s.report.Statuses {
			bytes += statusSize + len(s.report.Statuses[i].Message)
		}
		if n > 0 && (statuses > reportStatuses || bytes > reportBytes) {
			break
		}
		n++
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	return batch
}

// commitReports writes one entry of statuses.
func (s *Server) commitReports(reports []fsm.NodeReport) (fsm.Result, error) {
	s.metrics.reportEntries.Add(1)
	return s.door.apply(&fsm.UpdateStatuses{Reports: reports}, leaderLoop("reports", "what nodes say"))
}
