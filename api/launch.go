package api

import (
	"fmt"
	"strings"
	"time"

	"cube/api/cron"
)

// What becomes of times that passed while nobody could launch: there was no leader.
const (
	MissedSkip = "skip" // nothing: the next time is the next
	MissedRun  = "run"  // the latest of them is launched late, once
)

// Periodic says when a job is launched: for each time that comes due, a job of its own does what this one says. The job itself
// has no instances.
type Periodic struct {
	Crons           []string // see package cron; the job is launched once for a time that several name
	TimeZone        string   `json:",omitempty"` // IANA name; "": UTC
	ProhibitOverlap bool     `json:",omitempty"` // a time that comes while the launch before still runs is passed over
	OnMissed        string
}

const maxCrons = 32

// LaunchName is what a job launched for a time is called: that of its parent with the time, in UTC and to the minute.
func LaunchName(parent string, due time.Time) string {
	return parent + due.UTC().Format("-20060102-1504")
}

// longestLauncher leaves room in a name for the time.
const longestLauncher = MaxNameLength - len("-20060102-1504")

// Launches reports whether the job has no instances itself but launches jobs that have.
func (j *Job) Launches() bool { return j.Periodic != nil || j.Parameterized != nil }

// ToBeLaunched says in a sentence when a job that launches others does so first after a time.
func (j *Job) ToBeLaunched(now time.Time) string {
	if j.Periodic == nil {
		return "Nothing of it runs by itself: 'cube task dispatch " + j.Name + "' launches it."
	}
	next, err := j.Periodic.Next(now)
	if err != nil || next.IsZero() {
		return "It is never launched."
	}
	return "Nothing of it runs now: it is launched first at " + j.Periodic.Local(next) + "."
}

// Launched is the latest time of a periodic job that was dealt with.
type Launched struct {
	Time time.Time
	Note string `json:",omitempty"` // why nothing was launched; "" where it was
}

// LaunchStatus is what there is to say of a job that launches others.
type LaunchStatus struct {
	Next     []time.Time    `json:",omitempty"` // a few of the times to come
	Children []JobSummary   `json:",omitempty"` // launched by it and still known, newest first, and no more than MaxShownChildren
	Counts   map[string]int `json:",omitempty"` // how many are still known, by their status; none where that is 0
}

// MaxShownChildren bounds the jobs that the status of the one that launched them lists.
const MaxShownChildren = 100

// Known is how many jobs were launched and are still known.
func (s *LaunchStatus) Known() (n int) {
	for _, of := range s.Counts {
		n += of
	}
	return n
}

// zone is that of the times.
func (p *Periodic) zone() (*time.Location, error) {
	if p.TimeZone == "Local" { // the machine's, which differs between servers
		return nil, fmt.Errorf("time_zone Local is none: give a name such as Europe/Berlin")
	}
	z, err := time.LoadLocation(p.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("time_zone %.80q is not known: give a name such as Europe/Berlin", p.TimeZone)
	}
	return z, nil
}

// Next returns the first time after the given one at which the job is to be launched, in its zone. The error is that of a job
// that was never validated, or of a zone that this machine does not know.
func (p *Periodic) Next(after time.Time) (next time.Time, err error) {
	z, err := p.zone()
	if err != nil {
		return next, err
	}
	for _, line := range p.Crons {
		s, err := cron.Parse(line)
		if err != nil {
			return time.Time{}, err
		}
		if t := s.Next(after, z); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next, nil
}

// Local writes a time as the clocks of the job's zone show it, in UTC if the zone is not known here.
func (p *Periodic) Local(t time.Time) string {
	z, err := p.zone()
	if err != nil {
		z = time.UTC
	}
	return t.In(z).Format("2006-01-02 15:04 MST")
}

func (p *Periodic) canonicalize() {
	if p.TimeZone == "UTC" {
		p.TimeZone = ""
	}
	if p.OnMissed == "" {
		p.OnMissed = MissedSkip
	}
	for i, line := range p.Crons {
		p.Crons[i] = strings.Join(strings.Fields(line), " ")
	}
}

// validateLaunches checks what a job says of when it is launched.
func (j *Job) validateLaunches() error {
	p := j.Periodic
	if p == nil {
		return nil
	}
	switch {
	case !j.Type.Completes():
		return in("periodic", faultf("", "periodic is for batch and sysbatch jobs: a %s job runs until it is stopped", j.Type))
	case len(j.Name) > longestLauncher:
		return in("periodic", faultf("", "the name of a periodic job has at most %d characters: the jobs it launches have the time at the end of theirs", longestLauncher))
	case len(p.Crons) == 0:
		return in("periodic", faultf("crons", `crons is missing: give times such as ["30 2 * * *"]`))
	case len(p.Crons) > maxCrons:
		return in("periodic", faultf("crons", "%d crons are more than %d", len(p.Crons), maxCrons))
	case p.OnMissed != MissedSkip && p.OnMissed != MissedRun:
		return in("periodic", faultf("on_missed", "on_missed %.40q is neither skip nor run", p.OnMissed))
	}
	if _, err := p.zone(); err != nil {
		return in("periodic", faultf("time_zone", "%w", err))
	}
	for _, line := range p.Crons {
		if _, err := cron.Parse(line); err != nil {
			return in("periodic", faultf("crons", "crons: %w", err))
		}
	}
	return nil
}
