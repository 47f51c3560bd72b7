package launch

import (
	"fmt"

	"cube/api"
)

// Dispatch is what becomes of an order that somebody gave: a job to be registered, or the one that the same request launched
// before.
type Dispatch struct {
	Child *api.Job
	Known *api.Job
}

// Dispatch decides on an order that somebody gave, on behalf of who. mint makes eight digits that differ each time; it is called
// for what is launched only.
//
// A request that names itself is launched once: as long as its job is known, the same request finds that one, whatever has become
// of its parent since. So nothing is launched twice by a caller who tries again, and one that was forgotten is asked for anew.
func (t *Table) Dispatch(parent *api.Job, r *api.DispatchRequest, jobs Jobs, who string, mint func() string) (d Dispatch, err error) {
	if d.Known, err = t.known(parent.Name, r, jobs); err != nil || d.Known != nil {
		return d, err
	}
	if err := parent.Dispatchable(r); err != nil {
		return d, err
	}
	if p := parent.Periodic; p != nil && p.ProhibitOverlap {
		if other := t.unfinished(parent.Name, 1, jobs); len(other) > 0 {
			return d, api.Errorf(api.CodeConflict, "job %.80q is not launched: %s still runs, and it prohibits an overlap", parent.Name, other[0])
		}
	}
	if len(t.unfinished(parent.Name, api.MaxUnfinished, jobs)) == api.MaxUnfinished {
		return d, api.Errorf(api.CodeConflict, "job %.80q is not launched: %d that it has launched have not finished, as many as there may be; wait, or stop some",
			parent.Name, api.MaxUnfinished)
	}
	name := parent.Name + "-" + mint()
	for jobs.Known(name) { // a person called a job so
		name = parent.Name + "-" + mint()
	}
	origin := "dispatched"
	if r.ID != "" {
		origin = fmt.Sprintf("dispatched as %q", r.ID)
	}
	d.Child = childOf(parent, name, origin)
	d.Child.SubmittedBy, d.Child.Dispatched = who, parent.Dispatch(r)
	return d, nil
}

// known returns the job that a request with this ID has launched, nil if there is none. The ID of another request is refused.
func (t *Table) known(parent string, r *api.DispatchRequest, jobs Jobs) (*api.Job, error) {
	if r.ID == "" {
		return nil, nil
	}
	found, ok := t.requests.Get(request{parent: parent, id: r.ID})
	if !ok {
		return nil, nil
	}
	child := jobs.Job(found.name)
	if !child.Dispatched.Same(r) {
		return nil, api.Errorf(api.CodeConflict, "id %.80q was used before for something else: job %s was launched with it", r.ID, child.Name)
	}
	return child, nil
}

// unfinished returns the latest jobs that one has launched and that have not finished, at most so many.
func (t *Table) unfinished(parent string, most int, jobs Jobs) (names []string) {
	t.Each(parent, func(name string) bool {
		if !jobs.Finished(name) {
			names = append(names, name)
		}
		return len(names) < most
	})
	return names
}
