// Package rollout decides how the new version of a task takes the place of the old one, and judges how that goes. It is pure:
// Decide says which step comes next, from what has become of each slot; Judge says where a deployment stands, from its rows and
// the time. The scheduler takes the steps, a loop of the leader passes the judgements, and neither knows the other.
package rollout

import "cube/api"

// Stage is what has become of the holder of a slot, or of the successor that runs beside it.
type Stage uint8

const (
	None     Stage = iota // nobody is there; of a holder: somebody was, and should be again
	New                   // the slot was never held
	Starting              // of the version in force, and not healthy
	Well                  // of the version in force, and healthy
	Outdated              // of an older version, healthy, and to be replaced
	Ill                   // of an older version, not healthy, and to be replaced
	Leaving               // of an older version, told to stop
	Stopping              // told to stop otherwise, or a matter of the version before
	Failed                // failed for good
	Done                  // has completed
)

func (s Stage) old() bool { return s == Outdated || s == Ill }

// Slot is a slot as a roll-out sees it.
type Slot struct{ Holder, Successor Stage }

// Standing is what holds a task's roll-out back.
type Standing struct {
	Paused   bool
	Failed   bool
	Canaries int // to be tried before anything else; 0 when there are none, or they were promoted
}

// StandingOf reads it from the deployment of the version in force; nil is none, which holds nothing back.
func StandingOf(d *api.Deployment, task string) Standing {
	if d == nil {
		return Standing{}
	}
	s := Standing{Paused: d.Status == api.DeploymentPaused, Failed: d.Status == api.DeploymentFailed || d.Status == api.DeploymentReverted}
	if d.Unpromoted(task) {
		s.Canaries = d.Task(task).Canaries
	}
	return s
}

// Held reports whether the roll-out is held back. What is missing is then placed in the version before, as far as there is one:
// the new one is not trusted yet, or no more.
func (s Standing) Held() bool { return s.Paused || s.Failed || s.Canaries > 0 }

// Step is what to do next. All but Wait are places of slots, in their order.
type Step struct {
	Stop   []int // the holder makes room for its successor
	Start  []int // a successor is to be placed beside the holder
	Retire []int // the successor is healthy: the holder may go
	Drop   []int // the successor is not to go on
	Wait   Wait
	For    int // with WaitSlot: the place of the slot
}

// Wait is what the roll-out waits for.
type Wait uint8

const (
	WaitNothing   Wait = iota // nothing is being rolled out, or nothing is left to do
	WaitSlot                  // a slot is between two instances
	WaitPromotion             // all canaries are healthy
	WaitResume                // it is paused
	WaitChange                // it has failed: another version has to come
)

// Decide returns the next step of a task's roll-out. At most u.MaxParallel slots are between two instances at a time: one
// whose new instance is not healthy counts, also where it was and fell ill, and so does one that stands empty or whose instance
// failed. A slot that was never held does not: nothing is lost by going on, and the roll-out may free the room.
//
// What is ill goes before what is well, so that the replacing costs as few healthy instances as can be.
func Decide(u api.Update, s Standing, slots []Slot) Step {
	step := Step{For: -1}
	var well, ill []int // old holders that have no successor
	underWay, busy, fresh, unready := false, 0, 0, false
	for i, slot := range slots {
		old := slot.Holder.old()
		underWay = underWay || old || slot.Holder == Leaving
		between := false
		switch {
		case slot.Successor == Well && (!old || !s.Held()):
			step.Retire = append(step.Retire, i)
			fresh++
		case old && slot.Successor == Stopping:
			between = true
		case old && slot.Successor != None && s.Failed:
			step.Drop = append(step.Drop, i)
		case old && slot.Successor != None:
			fresh++
			between = slot.Successor != Well
			unready = unready || between
		case slot.Holder == Outdated:
			well = append(well, i)
		case slot.Holder == Ill:
			ill = append(ill, i)
		case slot.Holder == Starting || slot.Holder == Failed:
			fresh, between, unready = fresh+1, true, true
		case slot.Holder == Well:
			fresh++
		case slot.Holder == None || slot.Holder == Leaving || slot.Holder == Stopping:
			between = true
		}
		if between {
			busy++
			if step.For < 0 {
				step.For = i
			}
		}
	}
	switch {
	case !underWay:
		step.For = -1
	case s.Failed:
		step.Wait = WaitChange
	case s.Paused:
		step.Wait = WaitResume
	case s.Canaries > 0:
		step.canaries(min(s.Canaries, len(slots))-fresh, append(well, ill...), unready)
	default:
		step.replace(u, append(ill, well...), busy)
	}
	return step
}

// canaries puts so many more canaries beside old instances.
func (s *Step) canaries(more int, old []int, unready bool) {
	if more = min(more, len(old)); more > 0 {
		s.Start = old[:more]
	}
	switch {
	case len(s.Start) > 0 && s.For < 0:
		s.Wait, s.For = WaitSlot, s.Start[0]
	case unready:
		s.Wait = WaitSlot
	default:
		s.Wait, s.For = WaitPromotion, -1
	}
}

// replace begins to replace as many old instances as may be between two at a time, beside those that are.
func (s *Step) replace(u api.Update, old []int, busy int) {
	next := old[:max(0, min(len(old), u.MaxParallel-busy))]
	if u.Order == api.OrderStartFirst {
		s.Start = next
	} else {
		s.Stop = next
	}
	if s.For < 0 && len(next) > 0 {
		s.For = next[0]
	}
	if s.For >= 0 {
		s.Wait = WaitSlot
	}
}
