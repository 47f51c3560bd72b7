package command

import (
	"fmt"
	"strings"
	"time"

	"cube/api"
)

// firstLaunch says when a job that launches others does so first, as the end of a sentence.
func firstLaunch(status *api.JobStatus, now time.Time) string {
	l := status.Launches
	if status.Job.Parameterized != nil {
		return fmt.Sprintf("nothing of it runs until 'cube task dispatch %s%s' launches it", status.Job.Name, wantedFlags(status.Job.Parameterized))
	}
	if l == nil || len(l.Next) == 0 {
		return "it is never launched"
	}
	return fmt.Sprintf("it is launched first at %s, in %s", status.Job.Periodic.Local(l.Next[0]), duration(l.Next[0].Sub(now)))
}

// wantedFlags are what a dispatch of a job cannot do without.
func wantedFlags(p *api.Parameterized) string {
	out := ""
	for _, key := range p.MetaRequired {
		out += " -meta " + key + "=..."
	}
	if p.Payload == api.PayloadRequired {
		out += " -payload FILE"
	}
	return out
}

// shownLaunches is how many of the jobs that one has launched its status shows, the latest: more than a screen nobody reads.
const shownLaunches = 20

// printLaunches prints a job that launches others: when, or with what, what became of the latest time, and what it launched.
func printLaunches(s *session, f moments, b *block, status *api.JobStatus) {
	l := status.Launches
	if status.Job.Parameterized != nil {
		addTakes(b, status.Job.Parameterized)
	} else {
		addTimes(b, status)
	}
	s.print(b.render(s.style))
	if l == nil {
		return
	}
	if len(l.Next) > 0 {
		s.section("Next launches")
		for _, t := range l.Next {
			s.print(fmt.Sprintf("%s, in %s\n", status.Job.Periodic.Local(t), duration(t.Sub(s.Now()))))
		}
	}
	if len(l.Children) == 0 {
		return
	}
	s.section("Launched" + countsOf(l))
	shown := l.Children
	if !f.verbose {
		shown = shown[:min(len(shown), shownLaunches)]
	}
	jobs := make([]*api.JobSummary, len(shown))
	for i := range shown {
		jobs[i] = &shown[i]
	}
	printJobs(s, f, jobs)
	if more := l.Known() - len(shown); more > 0 {
		s.print("\n" + s.style.paint(faint, fmt.Sprintf("%d older not shown; see -verbose, which shows %d", more, api.MaxShownChildren)) + "\n")
	}
}

// countsOf says how many of the jobs that one has launched there are of each status.
func countsOf(l *api.LaunchStatus) string {
	var parts []string
	for _, status := range sortedKeys(l.Counts) {
		parts = append(parts, fmt.Sprintf("%d %s", l.Counts[status], status))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// addTakes says what a dispatch of a job takes.
func addTakes(b *block, p *api.Parameterized) {
	b.add("Payload", "%s", p.Payload)
	if len(p.MetaRequired) > 0 {
		b.add("Meta required", "%s", strings.Join(p.MetaRequired, ", "))
	}
	if len(p.MetaOptional) > 0 {
		b.add("Meta optional", "%s", strings.Join(p.MetaOptional, ", "))
	}
}

// addDispatched says what a job was told that somebody has launched.
func addDispatched(b *block, d *api.Dispatched) {
	var parts []string
	if d.ID != "" {
		parts = append(parts, "as "+d.ID)
	}
	for _, key := range sortedKeys(d.Meta) {
		parts = append(parts, key+"="+d.Meta[key])
	}
	if len(d.Payload) > 0 {
		parts = append(parts, "a payload of "+countOf(len(d.Payload), "byte"))
	}
	if len(parts) > 0 {
		b.add("Dispatched", "%s", strings.Join(parts, ", "))
	}
}

// addTimes says when a periodic job is launched, and what became of the latest time.
func addTimes(b *block, status *api.JobStatus) {
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
}
