package client

import (
	"slices"
	"time"

	"cube/api"
	"cube/client/driver"
)

// verb is what a difference between what the servers say and what is known here asks for.
type verb uint8

const (
	verbBegin  verb = iota // new here: make it and run it
	verbRefuse             // to be stopped, and never was here: say that it is gone
	verbStop
	verbUpdate // it goes on, by another version of its job
	verbAnew   // the servers have seen a later run than this one: end it and go on after theirs
	verbRepeat // the servers do not have its latest status: report it again
)

// change is one difference.
type change struct {
	Do         verb
	Assignment *api.Assignment
	Why        string // with verbStop: what the allocation's last status is to say
}

// diff compares assignments with what is known and says what is to be done. What is not among the assignments is not
// touched: absence never stops anything.
func diff(assigned []api.Assignment, known func(api.ID) *allocation) []change {
	var out []change
	for i := range assigned {
		w := &assigned[i]
		a := known(w.ID)
		switch {
		case a == nil && w.Phase.Terminal():
		case a == nil && w.Desired == api.DesiredStop:
			out = append(out, change{Do: verbRefuse, Assignment: w})
		case a == nil:
			out = append(out, change{Do: verbBegin, Assignment: w})
		case a.Stage == stageDone && !w.Phase.Terminal():
			out = append(out, change{Do: verbRepeat, Assignment: w})
		case a.Stage == stageDone:
		case w.Phase.Terminal():
			out = append(out, change{Do: verbStop, Assignment: w, Why: "stopped: the servers have it as " + w.Phase.String()})
		case w.Desired == api.DesiredStop:
			if differs(w, a) { // first, so that its end is numbered after what the servers have
				out = append(out, change{Do: verbRepeat, Assignment: w})
			}
			out = append(out, change{Do: verbStop, Assignment: w, Why: "stopped"})
		case w.Restarts > a.Status.Restarts && a.Stage != stageLook && a.Stage != stageTidy:
			out = append(out, change{Do: verbAnew, Assignment: w})
		default:
			if w.Version != a.Version || a.Driver == "" {
				out = append(out, change{Do: verbUpdate, Assignment: w})
			}
			if differs(w, a) {
				out = append(out, change{Do: verbRepeat, Assignment: w})
			}
		}
	}
	return out
}

// differs reports whether the servers have another latest status than the one that they were last told here: they forgot,
// or an earlier life reported what it had no time to write down, under numbers that were then given out again.
func differs(w *api.Assignment, a *allocation) bool {
	if w.Seq == a.Status.Seq {
		return w.Restarts != a.Status.Restarts || w.Phase != a.Status.Phase
	}
	return w.Seq > a.Status.Seq || w.Seq < a.Acked
}

// begin makes the allocation of an assignment that is new here, with the progress that the servers know. Whether an
// instance of it exists is for its driver to say: adopt.
func begin(w *api.Assignment) allocation {
	return allocation{
		ID: w.ID, Stage: stageLook,
		work:   work{Job: w.Job, Task: w.Task, Slot: w.Slot, Version: w.Version, Ports: w.Ports, Devices: w.Devices, Moved: w.Moved, Former: w.Former},
		Status: api.AllocationStatus{ID: w.ID, Seq: w.Seq, Restarts: w.Restarts, Phase: w.Phase},
	}
}

// anew leaves the present run for one after those that the servers have seen.
func anew(a allocation, w *api.Assignment) allocation {
	a.retire()
	a.Stage, a.Exit, a.Due = stageWait, nil, time.Time{}
	a.Status.Seq = max(a.Status.Seq, w.Seq)
	a.tell(func(s *api.AllocationStatus) {
		s.Restarts, s.Phase = w.Restarts+1, api.PhasePending
		s.Message = "started again: the servers have seen a later instance than the node's"
	})
	return a
}

// update takes what may change in an allocation that goes on.
func update(a allocation, w *api.Assignment) allocation {
	a.Job, a.Task, a.Slot, a.Version = w.Job, w.Task, w.Slot, w.Version
	a.Ports, a.Devices = w.Ports, w.Devices
	return a
}

// repeat makes sure that the latest status counts for the servers, who have seen Seq seq.
func repeat(a allocation, seq uint64) allocation {
	if a.Status.Seq <= seq {
		a.Status.Seq = seq + 1
	}
	a.Acked = 0
	return a
}

// judge applies the servers' verdict on an instance. strange tells that they are of another epoch than the one that the
// node followed: then an unknown instance may only be one that a restored state has forgotten.
func judge(a allocation, v api.Verdict, p *policy, strange bool, now time.Time, orphanAfter time.Duration) allocation {
	switch {
	case a.Stage == stageDone:
	case v == api.VerdictRun:
		a.Orphan = time.Time{}
	case v == api.VerdictStop:
		a.withdraw("stopped", 0, true, now)
	case v == api.VerdictLeave:
		a.withdraw("stopped", p.delay(), false, now)
	case !a.Orphan.IsZero(): // its time runs already
	case strange:
		a.Orphan = now.Add(orphanAfter)
	default:
		a.wantGone("stopped: the servers do not know it")
	}
	return a
}

// adopt settles what is known of an allocation (nil: nothing) with the instances of it that its driver found, which may
// be none. The latest one is adopted if its labels agree; every other one is to go.
func adopt(known *allocation, id api.ID, found []driver.Instance, p *policy, now time.Time) allocation {
	a := allocation{ID: id, Stage: stageLook, Status: api.AllocationStatus{ID: id}}
	if known != nil {
		a = *known
	}
	var latest *driver.Instance
	for i := range found {
		in := &found[i]
		if a.agrees(in, known == nil) && (latest == nil || in.Handle.Key.Restarts > latest.Handle.Key.Restarts) {
			latest = in
		}
	}
	a.Run = driver.Handle{}
	for i := range found {
		if in := &found[i]; in != latest && !slices.Contains(a.Old, in.Handle) {
			a.Old = append(a.Old[:len(a.Old):len(a.Old)], in.Handle)
		}
	}
	if a.Stage != stageLook {
		return a
	}
	if latest != nil {
		a.take(latest, p, now)
	} else {
		a.missing(p, now)
	}
	if a.Why != "" {
		a.wantGone(a.Why)
	}
	return a
}

// agrees reports whether a found instance is the present run or a later one that the state file had no time to learn of.
func (a *allocation) agrees(in *driver.Instance, anything bool) bool {
	if anything {
		return true
	}
	if a.Stage != stageLook || in.Handle.Key.Restarts < a.Status.Restarts {
		return false
	}
	return in.Job == a.Job && in.Task == a.Task && (in.Version == a.Made || in.Version == a.Version)
}

// take adopts an instance.
func (a *allocation) take(in *driver.Instance, p *policy, now time.Time) {
	if a.Job == "" {
		a.Job, a.Task, a.Version = in.Job, in.Task, in.Version
	}
	a.Run, a.Made, a.Stage, a.Ousted, a.Doom, a.DoomedBy = in.Handle, in.Version, stageRun, false, "", 0
	a.tell(func(s *api.AllocationStatus) {
		if s.Phase != api.PhaseRunning || s.Restarts != in.Handle.Key.Restarts {
			s.Message, s.Health = "", api.HealthUnknown
		}
		s.Restarts, s.Phase = in.Handle.Key.Restarts, api.PhaseRunning
		if !in.StartedAt.IsZero() {
			s.StartedAt = in.StartedAt.UnixMilli()
		}
	})
	if in.Running {
		a.Exit = nil
		return
	}
	x := driver.Exit{Code: -1, Message: "it ended while nobody looked, and how is not known", FinishedAt: now}
	if in.Exit != nil {
		x = *in.Exit
		if x.FinishedAt.IsZero() {
			x.FinishedAt = now
		}
	}
	a.ended(x, p, now)
}

// missing settles an allocation of which the driver found nothing.
func (a *allocation) missing(p *policy, now time.Time) {
	if a.Status.Phase != api.PhaseRunning {
		a.Stage = stageWait
		return
	}
	x := driver.Exit{Code: -1, Message: "its instance is gone: something else than Cube removed it", FinishedAt: now}
	if a.Exit != nil {
		x = *a.Exit
	}
	a.ended(x, p, now)
}
