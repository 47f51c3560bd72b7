package contact

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/signal"
	"cube/api"
)

const (
	// reportEvery is how often a server reports when only loads changed, or nothing: the report is its sign of life too.
	reportEvery = 2 * time.Second
	// reportTimeout is how long the leader may take to answer: a report costs it microseconds.
	reportTimeout = 3 * time.Second
	// reportRetry is the pause after a report that failed.
	reportRetry = 250 * time.Millisecond
)

// Reporter tells the leader of one server's sessions: all of them to each new leader, then each change at once.
type Reporter struct {
	Server   string
	Boot     uint64 // differs each time the server starts
	Registry *Registry
	// Leader names the leader, "" if none is known; LeaderChanged wakes when the answer may differ.
	Leader        func() string
	LeaderChanged func() <-chan struct{}
	Send          func(ctx context.Context, leader string, r *api.SessionReport) (*api.SessionAnswer, error)
	Logger        hclog.Logger
}

// Run reports until ctx ends. It is woken by sessions, by a new leader, and every reportEvery.
func (r *Reporter) Run(ctx context.Context) error {
	var (
		last string // the leader of the last report that was taken; "" when the next one must be full
		seq  uint64
	)
	for ctx.Err() == nil {
		elected, changed := r.LeaderChanged(), r.Registry.changed.Wait()
		leader := r.Leader()
		if leader == "" {
			last = ""
			select {
			case <-elected:
			case <-ctx.Done():
			}
			continue
		}
		seq++
		report := &api.SessionReport{Server: r.Server, Boot: r.Boot, Seq: seq, Full: leader != last}
		report.Up, report.Down = r.Registry.take(report.Full)
		answer, err := r.send(ctx, leader, report)
		switch {
		case err != nil:
			last = ""
			r.Logger.Debug("the leader did not take the report of this server's sessions", "leader", leader, "error", err)
			signal.Pause(ctx, reportRetry)
			continue
		case answer.Full:
			last = ""
			if report.Full {
				signal.Pause(ctx, reportRetry) // it should have been content
			}
			continue
		}
		last = leader
		r.Registry.setShare(answer.Share, answer.None)
		timer := time.NewTimer(reportEvery)
		select {
		case <-elected:
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

func (r *Reporter) send(ctx context.Context, leader string, report *api.SessionReport) (*api.SessionAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return r.Send(ctx, leader, report)
}
