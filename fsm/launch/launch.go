package launch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cube/api"
)

// Order asks for a job to be launched that does what another says: a periodic one, for a time that came due, or either kind,
// because somebody asks for it.
type Order struct {
	Name   string
	Time   int64                // Unix seconds; 0 with Asked
	Missed bool                 `json:",omitempty"` // it is too late for it: it is noted, and that is all
	Full   bool                 `json:",omitempty"` // too much that was launched before has not finished: the same
	Asked  *api.DispatchRequest `json:",omitempty"`
}

// Jobs answers what a launch depends on besides the job that launches.
type Jobs struct {
	Known    func(name string) bool     // there is such a job
	Finished func(name string) bool     // nothing of it runs, and nothing is left to do for it
	Job      func(name string) *api.Job // its version in force
}

// Take decides on an order. It returns the parent with the time noted, and the job to be registered; nil where none is, and then
// the note says why. Each time is taken once, and only later ones after it: an order that comes twice, or from a leader that
// was behind, is refused and changes nothing.
func (t *Table) Take(o *Order, parent *api.Job, jobs Jobs, now time.Time) (noted, child *api.Job, err error) {
	due := time.Unix(o.Time, 0).UTC()
	switch {
	case parent.Periodic == nil || parent.Stopped:
		return nil, nil, api.Errorf(api.CodeConflict, "job %.80q is not periodic, or stopped: it is not launched", o.Name)
	case parent.Launched != nil && !due.After(parent.Launched.Time):
		return nil, nil, api.Errorf(api.CodeConflict, "the launch of job %.80q for %s is dealt with already", o.Name, due.Format(time.RFC3339))
	case due.After(now):
		return nil, nil, api.Errorf(api.CodeInvalid, "%s is not there yet", due.Format(time.RFC3339))
	}
	name := api.LaunchName(o.Name, due)
	note := t.obstacle(parent, name, jobs)
	switch {
	case o.Missed:
		note = "missed: there was no leader"
	case o.Full:
		note = fmt.Sprintf("%d that were launched before have not finished", api.MaxUnfinished)
	}
	after := *parent
	after.Launched = &api.Launched{Time: due, Note: note}
	if note != "" {
		return &after, nil, nil
	}
	return &after, childOf(parent, name, "launched for "+due.Format(time.RFC3339)), nil
}

// obstacle says why a job cannot be launched now under a name, "" if it can.
func (t *Table) obstacle(parent *api.Job, name string, jobs Jobs) string {
	if jobs.Known(name) {
		return "there is a job " + name + " already"
	}
	if parent.Periodic.ProhibitOverlap {
		if other := t.unfinished(parent.Name, 1, jobs); len(other) > 0 {
			return other[0] + " still runs"
		}
	}
	return ""
}

// childOf returns the job that does what its parent says.
func childOf(parent *api.Job, name, origin string) *api.Job {
	spec := *parent
	spec.Name, spec.Parent, spec.Origin = name, parent.Name, origin
	spec.Periodic, spec.Parameterized, spec.Launched, spec.Source = nil, nil, nil, nil
	return &spec
}

// Told is what a job tells of one that it launched, given the first version of that: what for, or on whose behalf and with which keys.
func Told(child *api.Job) api.Event {
	e := api.Event{Type: api.EventLaunched, Index: child.CreateIndex, At: child.SubmittedAt.UnixNano(), Job: child.Parent}
	why := strings.TrimPrefix(child.Origin, "launched ")
	if d := child.Dispatched; d != nil {
		e.By = child.SubmittedBy // else that is who submitted the job that launches
		if len(d.Meta) > 0 {
			why += ", meta " + strings.Join(slices.Sorted(maps.Keys(d.Meta)), ", ")
		}
	}
	e.Detail = child.Name + ": " + why
	return e
}

// Skipped is what a job tells of the latest of its times, if nothing was launched for that. It happened then or soon after.
func Skipped(parent *api.Job) (e api.Event, ok bool) {
	at := parent.Launched
	if at == nil || at.Note == "" {
		return e, false
	}
	return api.Event{Type: api.EventSkipped, At: at.Time.UnixNano(), Job: parent.Name, Detail: at.Time.UTC().Format(time.RFC3339) + ": " + at.Note}, true
}

// Since is the time from which a new version of a periodic job is launched: what came due before is another's affair.
func Since(before, accepted *api.Job, now time.Time) *api.Launched {
	switch {
	case accepted.Periodic == nil:
		return nil
	case before != nil && !before.Stopped && before.Launched != nil:
		return before.Launched
	}
	return &api.Launched{Time: now}
}
