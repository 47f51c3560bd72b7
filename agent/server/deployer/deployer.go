// Package deployer is the leader's loop that judges deployments: which have come forward, to an end, or past a deadline. It keeps
// nothing that a new leader would miss: what it judges by is in the rows, in the log's time.
package deployer

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
	"cube/fsm/deployment"
	"cube/scheduler/rollout"
)

const (
	// leastPause is the pause between two looks at the deployments, so that a burst of reports is looked at once; with many
	// deployments it is pauseEach of them, up to mostPause.
	leastPause = 50 * time.Millisecond
	pauseEach  = time.Millisecond
	mostPause  = time.Second
	// countEvery is how often a job's instances are counted for no other reason than that more of them are healthy: well within
	// what the default progress_deadline needs, and rare enough for a job of 100,000 that comes up.
	countEvery = 15 * time.Second
	// movesAtOnce bounds an entry.
	movesAtOnce = 256
)

// Deployer judges deployments as long as this server leads.
type Deployer struct {
	Machine *fsm.Machine
	Now     func() int64 // Unix nanoseconds, the clock of entries
	Commit  func(*fsm.JudgeDeployments) error
	Logger  hclog.Logger

	seen map[api.ID]look // of the active ones
}

// look is when and on what a deployment was last judged.
type look struct {
	row, job uint64 // modify indexes
	ended    uint64
	healthy  int
	passed   int // as many were healthy when it was last passed over
	at       time.Time
	next     time.Time
}

// Run ends when ctx does or an entry cannot be written. What changes about deployments, jobs and allocations wakes it, and the
// next deadline; without an active deployment it waits for one.
func (d *Deployer) Run(ctx context.Context) error {
	d.seen = map[api.ID]look{}
	for {
		deployments := d.Machine.Watch(fsm.WatchKey{Table: fsm.TableDeployments})
		allocations := d.Machine.Watch(fsm.WatchKey{Table: fsm.TableAllocations})
		jobs := d.Machine.Watch(fsm.WatchKey{Table: fsm.TableJobs})
		active, next, err := d.Sweep()
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(next.Sub(time.Unix(0, d.Now())))
		}
		if active == 0 {
			allocations, jobs = nil, nil
		}
		select {
		case <-deployments:
		case <-allocations:
		case <-jobs:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
		if !signal.Pause(ctx, min(mostPause, max(leastPause, time.Duration(active)*pauseEach))) {
			return nil
		}
	}
}

// Sweep judges once what there is to judge, and returns how many deployments are active and when to judge again. Run does so whenever
// something has happened; it is for who has no goroutines.
func (d *Deployer) Sweep() (active int, next time.Time, err error) {
	s, now := d.Machine.Snapshot(), time.Unix(0, d.Now())
	table := s.Deployments()
	var moves []deployment.Move
	seen := make(map[api.ID]look, table.Actives())
	table.Active(func(row *api.Deployment) bool {
		l := d.seen[row.ID]
		if d.due(s, row, l, now) {
			var m *deployment.Move
			if l, m = judge(s, row, now); m != nil && len(moves) < movesAtOnce {
				moves = append(moves, *m)
				d.say(row, m)
				l = look{} // its row is another soon
			}
		}
		_, l.passed, _ = s.Standing(row.Job)
		seen[row.ID] = l
		if !l.next.IsZero() {
			next = signal.Earliest(next, l.next)
		}
		return true
	})
	d.seen = seen
	if len(moves) > 0 {
		if err := d.Commit(&fsm.JudgeDeployments{Moves: moves}); err != nil {
			return 0, next, fmt.Errorf("judging deployments: %w", err)
		}
	}
	return table.Actives(), next, nil
}

// due reports whether something may have happened since the last look that a judgement depends on. It costs nothing that grows
// with the job, so that the instances of a large one are counted when it may matter.
func (d *Deployer) due(s *fsm.Snapshot, row *api.Deployment, l look, now time.Time) bool {
	job := s.Job(row.Job)
	placed, healthy, ended := s.Standing(row.Job)
	desired, unpromoted := 0, false
	for _, t := range job.Tasks {
		desired += t.Count
		unpromoted = unpromoted || row.Unpromoted(t.Name)
	}
	more := healthy > l.healthy
	switch {
	case l.row != row.ModifyIndex || l.job != job.ModifyIndex || l.ended != ended || !now.Before(l.next):
		return true
	case healthy < l.passed:
		return true // one fell ill, or is being replaced
	case healthy >= desired && placed >= desired:
		return true // it may be done
	}
	return more && (unpromoted || now.Sub(l.at) >= countEvery)
}

// judge judges one deployment; the move is nil when nothing is to be written down.
func judge(s *fsm.Snapshot, row *api.Deployment, now time.Time) (look, *deployment.Move) {
	job := s.Job(row.Job)
	_, healthy, ended := s.Standing(row.Job)
	v := rollout.Judge(row, job, Rows(s, row.Job), now)
	l := look{row: row.ModifyIndex, job: job.ModifyIndex, ended: ended, healthy: healthy, passed: healthy, at: now, next: v.Next}
	if v.Move == "" {
		if row.Status == api.DeploymentRunning { // what is placed after this look has its deadline no sooner
			l.next = signal.Earliest(l.next, now.Add(shortest(job)))
		}
		return l, nil
	}
	return l, &deployment.Move{ID: row.ID, Seen: row.ModifyIndex, To: v.Move, Reason: reason(s, &v), Healthy: v.Healthy, Tasks: v.Tasks}
}

// maxSaid is how much is repeated of what an instance says of itself, in bytes.
const maxSaid = 120

// reason is that of a verdict. Where an instance is to blame, what it says of itself is the better half of it.
func reason(s *fsm.Snapshot, v *rollout.Verdict) string {
	if v.Move == api.MoveFail && v.Culprit != 0 {
		if a, ok := s.Allocation(v.Culprit); ok && a.Message != "" {
			said := a.Message
			if len(said) > maxSaid {
				said = strings.ToValidUTF8(said[:maxSaid], "") + "..."
			}
			return v.Reason + ": " + said
		}
	}
	return v.Reason
}

// Rows are those of a job as a judgement of its deployment is to see them: an instance whose node was away counts as placed when that
// was back. Until then nobody could tell whether it was healthy, and then it may have to be started again.
func Rows(s *fsm.Snapshot, job string) iter.Seq[api.AllocationRow] {
	return func(yield func(api.AllocationRow) bool) {
		var last *api.Node // a job's rows have few nodes beside each other
		for row := range s.JobRows(job) {
			if last == nil || last.ID != row.Node {
				last = s.Node(row.Node)
			}
			if last != nil && last.Absence != nil && !last.Absence.Until.IsZero() && row.Live() {
				row.CreatedAt = max(row.CreatedAt, last.Absence.Until.UnixNano())
			}
			if !yield(row) {
				return
			}
		}
	}
}

// shortest is the least time that an instance of the job has to become healthy.
func shortest(job *api.Job) time.Duration {
	least := job.Tasks[0].Update.HealthyDeadline
	for _, t := range job.Tasks {
		least = min(least, t.Update.HealthyDeadline)
	}
	return least
}

func (d *Deployer) say(row *api.Deployment, m *deployment.Move) {
	switch m.To {
	case api.MoveFail:
		d.Logger.Warn("a deployment failed", "job", row.Job, "version", row.Version, "reason", m.Reason)
	case api.MoveSucceed, api.MovePromote:
		d.Logger.Info("a deployment came forward", "job", row.Job, "version", row.Version, "to", m.To)
	}
}
