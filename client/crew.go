package client

import (
	"cmp"
	"slices"
	"time"

	"cube/api"
	"cube/client/driver"
)

// A part of a task (a sidecar, a prestart, a poststop) has the states, the events and the calls of an allocation, so it is kept
// as one, in the crew of the allocation whose part it is. Nothing of it is reported: the servers know the allocation alone.

// who names an allocation, or a part in its crew.
type who struct {
	ID   api.ID
	Part string // "": the allocation itself
	Of   uint32 // the run that the part belongs to
}

func (a *allocation) who() who { return who{a.ID, a.Part, a.Of} }

// ending is how an allocation is over, once its crew is.
type ending struct {
	Phase   api.Phase
	Message string
}

// evOf is an event of a part.
type evOf struct {
	Who   who
	Event any
}

// part is what step must know of a part of the task.
func (p *policy) part(name string) *policy {
	if p == nil {
		return nil
	}
	for i := range p.Parts {
		if part := &p.Parts[i]; part.Name == name && part.Kind == api.PartSidecar {
			return &policy{Restart: p.Restart, Batch: p.Batch, Memory: part.Resources.Memory}
		} else if part.Name == name {
			return &policy{Hook: true, Batch: true, Memory: part.Resources.Memory, MaxRun: part.Timeout}
		}
	}
	return &policy{Hook: true, Batch: true} // of a version before this one: it only has to go
}

// member returns the part of the crew with that name and run, nil if there is none.
func (a *allocation) member(part string, of uint32) *allocation {
	for i := range a.Crew {
		if m := &a.Crew[i]; m.Part == part && m.Of == of {
			return m
		}
	}
	return nil
}

// over reports whether nothing of a part runs any more, nor will.
func (a *allocation) over() bool { return a.Stage == stageDone }

// gone reports whether nothing is left of a part that is over.
func (a *allocation) gone() bool { return a.over() && len(a.Old) == 0 && a.busy == opNone }

// allGone reports whether nothing is left to be done for an allocation that is over.
func (a *allocation) allGone() bool {
	return len(a.Old) == 0 && a.busy == opNone && a.heir != heirFetching && !slices.ContainsFunc(a.Crew, func(m allocation) bool { return !m.gone() })
}

// forget makes of what an earlier life has left what is known of it now: what is not over may run or not.
func (a *allocation) forget() {
	if a.Stage != stageDone && a.Stage != stageTidy {
		a.Stage = stageLook
	}
	for i := range a.Crew {
		a.Crew[i].forget()
	}
}

// unseen reports whether the driver has still to say what exists of the allocation.
func (a *allocation) unseen() bool {
	return a.Stage == stageLook || slices.ContainsFunc(a.Crew, func(m allocation) bool { return m.Stage == stageLook })
}

// workOf is what a part of the allocation is an instance of.
func (a *allocation) workOf(part string, of uint32, kind api.PartKind) work {
	return work{Job: a.Job, Task: a.Task, Slot: a.Slot, Version: a.Version, Driver: a.Driver, Part: part, Of: of, Kind: kind}
}

// present reports whether a part is of the present run.
func (a *allocation) present(m *allocation) bool { return m.Of == a.Status.Restarts }

// pass has the whole crew take an event.
func (a *allocation) pass(event any, p *policy, now time.Time) {
	a.Crew = slices.Clone(a.Crew)
	for i := range a.Crew {
		a.Crew[i] = step(a.Crew[i], event, p.part(a.Crew[i].Part), now)
	}
}

// of has one part take an event.
func (a *allocation) of(e evOf, p *policy, now time.Time) {
	a.Crew = slices.Clone(a.Crew)
	if m := a.member(e.Who.Part, e.Who.Of); m != nil {
		*m = step(*m, e.Event, p.part(m.Part), now)
	}
}

// conduct makes crew and main instance follow from each other: which parts are to run, which are to go, and what becomes of the
// allocation when one of them fails. Like step it is a pure function; it belongs after whatever has changed the allocation.
// hooks tells whether a poststop may still be started.
func (a *allocation) conduct(p *policy, now time.Time, hooks bool) {
	if a.Part != "" || len(a.Crew) == 0 && !a.Parted && !p.parted() {
		return
	}
	a.Crew, a.Parted = slices.Clone(a.Crew), a.Parted || p.parted()
	for i := range a.Crew {
		m := &a.Crew[i]
		m.work = a.workOf(m.Part, m.Of, cmp.Or(m.Kind, p.kind(m.Part)))
	}
	a.heed(p, now)
	for i := range a.Crew {
		if m := &a.Crew[i]; !m.over() && m.Why == "" && !a.wants(m, hooks) {
			*m = step(*m, evStop{Why: "stopped with its instance"}, nil, now)
		}
	}
	a.enlist(p, hooks)
	a.Crew = slices.DeleteFunc(a.Crew, func(m allocation) bool { return !a.present(&m) && m.gone() })
	if a.Stage == stageTidy && !slices.ContainsFunc(a.Crew, func(m allocation) bool { return !m.over() }) {
		a.close()
	}
	a.awaits = a.Stage == stageWait && !a.prepared(p)
	for i := range a.Crew { // what was done before a start is not forgotten before that start
		m := &a.Crew[i]
		m.stays = m.Kind == api.PartPrestart && a.present(m) && (a.Stage == stageWait || a.Stage == stageStart)
	}
	a.explain()
}

func (p *policy) parted() bool { return p != nil && len(p.Parts) > 0 }

// kind is that of the named part, "" if it is not known.
func (p *policy) kind(name string) api.PartKind {
	if p != nil {
		for i := range p.Parts {
			if p.Parts[i].Name == name {
				return p.Parts[i].Kind
			}
		}
	}
	return ""
}

// wants reports whether the part is to run, or to be left alone for the time being.
func (a *allocation) wants(m *allocation, hooks bool) bool {
	switch {
	case a.Stage == stageLook || a.Stage == stageEnded || m.Stage == stageLook:
		return true // nothing is decided
	case m.Kind == api.PartPoststop:
		return a.Stage == stageTidy && hooks
	case m.Kind == "":
		return a.Stage != stageTidy && a.Stage != stageDone
	case m.Kind == api.PartPrestart:
		return a.present(m) && a.Stage == stageWait
	}
	return a.exists() || a.Ousted && len(a.Old) > 0 // it ends after its main instance
}

// heed draws the consequences of parts that have failed for good.
func (a *allocation) heed(p *policy, now time.Time) {
	if p == nil {
		return
	}
	for i := range a.Crew {
		m := &a.Crew[i]
		if !a.present(m) || !m.over() || m.Why != "" || m.Status.Phase != api.PhaseFailed {
			continue
		}
		text := m.says(m.Status.Message)
		switch {
		case m.Kind == api.PartPrestart && a.Stage == stageWait:
			a.blame(m)
			a.retry(p, 0, false, text, now)
			return
		case m.Kind == api.PartSidecar && a.Stage == stageRun:
			a.blame(m)
			a.doom(text)
			return
		}
	}
}

// blame makes the end of a part the latest that is told of the instance.
func (a *allocation) blame(m *allocation) {
	a.tell(func(s *api.AllocationStatus) {
		s.Failure, s.ExitCode, s.Signal, s.FinishedAt = cmp.Or(m.Status.Failure, api.FailureExit), m.Status.ExitCode, m.Status.Signal, m.Status.FinishedAt
	})
}

// says puts a part's message into one of its instance.
func (a *allocation) says(message string) string { return api.PartText(a.Kind, a.Part, message) }

// enlist takes into the crew what is to run now: the next prestart, the sidecars, the next poststop.
func (a *allocation) enlist(p *policy, hooks bool) {
	if p == nil || a.Stage == stageWait && !a.alone() || a.Stage == stageTidy && (!hooks || a.Status.StartedAt == 0) {
		return
	}
	want := map[stage]api.PartKind{stageWait: api.PartPrestart, stageRun: api.PartSidecar, stageTidy: api.PartPoststop}[a.Stage]
	if a.Stage == stageTidy && slices.ContainsFunc(a.Crew, func(m allocation) bool { return m.Kind != want && !m.over() }) {
		return
	}
	for i := range p.Parts {
		part := &p.Parts[i]
		if part.Kind != want {
			continue
		}
		m := a.member(part.Name, a.Status.Restarts)
		if m == nil {
			recruit := allocation{ID: a.ID, Stage: stageWait, work: a.workOf(part.Name, a.Status.Restarts, part.Kind), Status: api.AllocationStatus{ID: a.ID}}
			if want == api.PartPrestart {
				recruit.Due = a.Due
			}
			a.Crew = append(a.Crew, recruit)
			m = &a.Crew[len(a.Crew)-1]
		}
		if want != api.PartSidecar && !(m.over() && (want == api.PartPoststop || m.Status.Phase == api.PhaseComplete)) {
			return // one after the other
		}
	}
}

// alone reports whether what belongs to former runs has ended, so that the next one may begin.
func (a *allocation) alone() bool {
	return !(a.Ousted && len(a.Old) > 0) &&
		!slices.ContainsFunc(a.Crew, func(m allocation) bool { return !a.present(&m) && !m.over() })
}

// prepared reports whether the main instance may be started, as far as its parts go.
func (a *allocation) prepared(p *policy) bool {
	if p == nil || !a.alone() {
		return false
	}
	for i := range p.Parts {
		if p.Parts[i].Kind != api.PartPrestart {
			continue
		}
		if m := a.member(p.Parts[i].Name, a.Status.Restarts); m == nil || !m.over() || m.Status.Phase != api.PhaseComplete {
			return false
		}
	}
	return true
}

// close makes the allocation terminal, after its crew.
func (a *allocation) close() {
	message := a.Ending.Message
	for i := range a.Crew {
		if m := &a.Crew[i]; m.Kind == api.PartPoststop && m.Status.Phase == api.PhaseFailed {
			message += "; " + m.says(m.Status.Message)
		}
	}
	phase := a.Ending.Phase
	a.Stage, a.Ending = stageDone, nil
	a.tell(func(s *api.AllocationStatus) { s.Phase, s.Message = phase, message })
}

// explain tells of the hook that the instance waits for.
func (a *allocation) explain() {
	for i := range a.Crew {
		m := &a.Crew[i]
		text := m.Status.Message
		switch {
		case m.Stage == stageRun:
			text = "running"
		case m.Stage != stageStart || text == "":
			continue
		}
		switch {
		case m.Kind == api.PartPrestart && a.Stage == stageWait:
			a.tell(func(s *api.AllocationStatus) { s.Phase, s.Message = api.PhasePreparing, m.says(text) })
		case m.Kind == api.PartPoststop && a.Stage == stageTidy:
			a.tell(func(s *api.AllocationStatus) { s.Message = a.Ending.Message + "; " + m.says(text) })
		}
	}
}

// sidecarsSince says since when all sidecars of the present run have run; ok is false when one does not. One of a batch
// instance may have done its work.
func (a *allocation) sidecarsSince(p *policy) (since time.Time, ok bool) {
	for i := range p.Parts {
		if p.Parts[i].Kind != api.PartSidecar {
			continue
		}
		m := a.member(p.Parts[i].Name, a.Status.Restarts)
		if m == nil || m.Stage != stageRun && !(m.over() && m.Status.Phase == api.PhaseComplete) {
			return time.Time{}, false
		}
		if at := time.UnixMilli(m.Status.StartedAt); at.After(since) {
			since = at
		}
	}
	return since, true
}

// sidecarFault is what is wrong with a sidecar that has run, or should have, and does not; "" for nothing.
func (a *allocation) sidecarFault() string {
	for i := range a.Crew {
		m := &a.Crew[i]
		if m.Kind == api.PartSidecar && a.present(m) && m.Stage != stageRun && m.Status.Restarts > 0 && m.Status.Phase != api.PhaseComplete {
			return m.says(m.Status.Message)
		}
	}
	return ""
}

// adoptCrew settles what is known of an allocation's crew with the instances that its driver found. The main instance is
// settled already.
func (a *allocation) adoptCrew(found []driver.Instance, p *policy, now time.Time) {
	groups := map[who][]driver.Instance{}
	for _, in := range found {
		k := in.Handle.Key
		w := who{k.Allocation, k.Part, k.Of}
		groups[w] = append(groups[w], in)
	}
	a.Crew = slices.Clone(a.Crew)
	for i := range a.Crew {
		m := &a.Crew[i]
		*m = adopt(m, m.ID, groups[m.who()], p.part(m.Part), now)
		delete(groups, m.who())
	}
	for w, in := range groups {
		m := allocation{ID: w.ID, Stage: stageLook, Made: in[0].Version, Status: api.AllocationStatus{ID: w.ID},
			work: work{Job: in[0].Job, Task: in[0].Task, Version: in[0].Version, Part: w.Part, Of: w.Of, Kind: p.kind(w.Part)}}
		a.Crew = append(a.Crew, adopt(&m, w.ID, in, p.part(w.Part), now))
	}
	slices.SortFunc(a.Crew, func(x, y allocation) int { return cmp.Or(cmp.Compare(x.Of, y.Of), cmp.Compare(x.Part, y.Part)) })
}

// apart tells the main instances of a list from those of parts.
func apart(found []driver.Instance) (mains, parts []driver.Instance) {
	for _, in := range found {
		if in.Handle.Key.Part == "" {
			mains = append(mains, in)
		} else {
			parts = append(parts, in)
		}
	}
	return mains, parts
}

// sameCrew reports whether nothing has happened to a crew that is worth writing down.
func sameCrew(a, b []allocation) bool {
	return slices.EqualFunc(a, b, func(x, y allocation) bool { return x.Stage == y.Stage && x.Status == y.Status && x.Why == y.Why })
}

// partStatuses says how the parts of the present run stand, for people, in the order of the task.
func (a *allocation) partStatuses(p *policy) []api.PartStatus {
	if p == nil {
		return nil
	}
	var out []api.PartStatus
	for i := range p.Parts {
		s := api.PartStatus{Name: p.Parts[i].Name, Kind: p.Parts[i].Kind}
		if m := a.member(s.Name, a.Status.Restarts); m != nil {
			s.Phase, s.Restarts, s.Message = m.Status.Phase, int(m.Status.Restarts), m.Status.Message
			if m.Status.StartedAt > 0 {
				s.StartedAt = time.UnixMilli(m.Status.StartedAt).UTC()
			}
			if m.Status.FinishedAt > 0 {
				code := int(m.Status.ExitCode)
				s.FinishedAt, s.ExitCode, s.Signal, s.OOM = time.UnixMilli(m.Status.FinishedAt).UTC(), &code, int(m.Status.Signal), m.Status.Failure == api.FailureOOM
			}
		}
		out = append(out, s)
	}
	return out
}
