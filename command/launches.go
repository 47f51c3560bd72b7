package command

import (
	"fmt"
	"strings"
	"time"

	"cube/api"
)

// firstLaunch says when a periodic job is launched first, as the end of a sentence.
func firstLaunch(status *api.JobStatus, now time.Time) string {
	l := status.Launches
	if l == nil || len(l.Next) == 0 {
		return "it is never launched"
	}
	return fmt.Sprintf("it is launched first at %s, in %s", status.Job.Periodic.Local(l.Next[0]), duration(l.Next[0].Sub(now)))
}

// printLaunches prints a periodic job: when it is launched, what became of the latest time, and what it launched.
func printLaunches(s *session, f moments, b *block, status *api.JobStatus) {
	j, l := status.Job, status.Launches
	zone := j.Periodic.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	b.add("Launched", "%s (%s)", strings.Join(j.Periodic.Crons, "; "), zone)
	if at := j.Launched; at != nil && (at.Note != "" || l != nil && len(l.Children) > 0) {
		note := ""
		if at.Note != "" {
			note = ": nothing was launched, " + at.Note
		}
		b.add("Latest time", "%s%s", j.Periodic.Local(at.Time), note)
	}
	s.print(b.render(s.style))
	if l == nil {
		return
	}
	if len(l.Next) > 0 {
		s.section("Next launches")
		for _, t := range l.Next {
			s.print(fmt.Sprintf("%s, in %s\n", j.Periodic.Local(t), duration(t.Sub(s.Now()))))
		}
	}
	if len(l.Children) > 0 {
		s.section("Launched")
		jobs := make([]*api.JobSummary, len(l.Children))
		for i := range l.Children {
			jobs[i] = &l.Children[i]
		}
		printJobs(s, f, jobs)
	}
}
