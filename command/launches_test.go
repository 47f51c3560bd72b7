package command

import (
	"testing"
	"time"

	"cube/api"
)

// TestAPeriodicJob: run says when it is launched first, status what it launched and when it is launched next.
func TestAPeriodicJob(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		j := webJob(1)
		j.Type, j.Periodic = api.JobBatch, &api.Periodic{Crons: []string{"30 2 * * *"}, OnMissed: api.MissedSkip}
		c.launches = func(*api.Job) *api.LaunchStatus {
			return &api.LaunchStatus{Next: []time.Time{time.Now().Add(150 * time.Minute).UTC()}}
		}
		p.cube(0, "run", jobFile(t, j))
		p.shows(`Job "web" version 1 is registered; it is launched first at 2000-01-01 02:30 UTC, in 2h30m`)

		c.jobs["web"].Launched = &api.Launched{Time: time.Now().UTC(), Note: "missed: there was no leader"}
		c.launches = func(*api.Job) *api.LaunchStatus {
			return &api.LaunchStatus{Next: []time.Time{time.Now().Add(150 * time.Minute).UTC()},
				Children: []api.JobSummary{{Name: "web-19991231-0230", Type: api.JobBatch, Status: api.JobComplete, Desired: 1, Counts: api.PhaseCounts{Complete: 1}}}}
		}
		p.cube(0, "task", "status", "web")
		p.shows("30 2 * * * (UTC)", "nothing was launched, missed: there was no leader", "Next launches", "2000-01-01 02:30 UTC, in 2h30m", "web-19991231-0230", "complete")
	})
}
