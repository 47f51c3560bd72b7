// Package launch is the leader's loop that launches periodic jobs when their time comes. What is launched when is in the state,
// so a new leader goes on where the last one stopped; which times there are is worked out anew each time.
package launch

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
	order "cube/fsm/launch"
)

// grace is how late a launch may be without being missed: an election and a restart fit into it, and no two times are closer.
const grace = time.Minute

// Loop launches jobs while a server leads. It is owned by that leadership.
type Loop struct {
	Machine *fsm.Machine
	Now     func() int64 // Unix nanoseconds, the clock of entries
	Launch  func(*fsm.LaunchJob) error
	Logger  hclog.Logger
}

// Run ends when ctx does or an entry cannot be written. A change of any periodic job wakes it, and the next time to come.
func (l *Loop) Run(ctx context.Context) error {
	for {
		changed := l.Machine.Watch(fsm.LaunchesKey())
		soonest, err := l.round()
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if !soonest.IsZero() {
			timer = time.After(soonest.Sub(l.now()))
		}
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (l *Loop) now() time.Time { return time.Unix(0, l.Now()) }

// round launches all that is due, and returns when the next launch is; the zero time for never.
func (l *Loop) round() (soonest time.Time, err error) {
	snapshot := l.Machine.Snapshot()
	for _, name := range snapshot.Launches().Periodic() {
		j := snapshot.Job(name)
		entry, next, err := Due(j, l.now())
		if err != nil {
			l.Logger.Error("a periodic job cannot be launched", "job", j.Name, "error", err)
			continue
		}
		if entry != nil {
			entry.Full = full(snapshot, name)
			if err := l.Launch(entry); refusal(err) {
				l.Logger.Warn("a launch was refused", "job", j.Name, "error", err)
			} else if err != nil {
				return soonest, fmt.Errorf("launching %q: %w", j.Name, err)
			}
		}
		soonest = signal.Earliest(soonest, next)
	}
	return soonest, nil
}

// full reports whether as much that a job has launched has not finished as there may be. A dispatch is refused then by the state;
// of a time the leader decides, once when it comes due, since what the state makes of a time was fixed before there was this limit.
func full(snapshot *fsm.Snapshot, parent string) bool {
	left := api.MaxUnfinished
	snapshot.Launches().Each(parent, func(name string) bool {
		switch snapshot.Summary(name).Status {
		case api.JobComplete, api.JobFailed, api.JobDead:
		default:
			left--
		}
		return left > 0
	})
	return left == 0
}

// refusal reports whether the state has refused an entry: the job has changed meanwhile.
func refusal(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNotFound, api.CodeConflict, api.CodeInvalid:
		return err != nil
	}
	return false
}

// Due says what there is to do for a periodic job: the entry for the latest time that has come since the one that was last
// dealt with, nil if none has, and when the next one comes. Of several times that have come only the latest is launched: the
// others are as good as missed.
func Due(j *api.Job, now time.Time) (entry *fsm.LaunchJob, next time.Time, err error) {
	since := now
	if j.Launched != nil {
		since = j.Launched.Time
	}
	var latest time.Time
	// Minutes of a year without a leader need not be counted one by one: the latest time is looked for among the last ones first.
	for _, span := range []time.Duration{time.Hour, 32 * 24 * time.Hour, 0} {
		from := since
		if at := now.Add(-span); span > 0 && at.After(since) {
			from = at
		}
		for next = from; !next.After(now); {
			if next, err = j.Periodic.Next(next); err != nil || next.IsZero() {
				return nil, time.Time{}, err
			}
			if !next.After(now) {
				latest = next
			}
		}
		if !latest.IsZero() || from.Equal(since) {
			break
		}
	}
	if latest.IsZero() {
		return nil, next, nil
	}
	entry = &fsm.LaunchJob{Order: order.Order{Name: j.Name, Time: latest.Unix()}}
	entry.Missed = now.Sub(latest) > grace && j.Periodic.OnMissed != api.MissedRun
	return entry, next, nil
}

// Status says when a job is launched after now, if at times, and what it has launched; nil for one that launches none.
func Status(snapshot *fsm.Snapshot, job *api.Job, now time.Time) *api.LaunchStatus {
	if !job.Launches() {
		return nil
	}
	out := &api.LaunchStatus{}
	const shown = 3
	for len(out.Next) < shown && !job.Stopped && job.Periodic != nil {
		next, err := job.Periodic.Next(now)
		if err != nil || next.IsZero() {
			break
		}
		out.Next = append(out.Next, next)
		now = next
	}
	snapshot.Launches().Each(job.Name, func(name string) bool {
		child := snapshot.Summary(name)
		if len(out.Children) < api.MaxShownChildren {
			out.Children = append(out.Children, child)
		}
		if out.Counts == nil {
			out.Counts = map[string]int{}
		}
		out.Counts[child.Status]++
		return true
	})
	return out
}
