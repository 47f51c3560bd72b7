package client

import (
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"cube/api"
	"cube/client/driver"
)

// stage is where an allocation stands on this node.
type stage uint8

const (
	stageWait  stage = iota // no instance; one is to be started at Due
	stageStart              // a start is in flight
	stageRun                // an instance runs, as far as is known
	stageEnded              // the instance has ended (Exit), and what follows waits for the job's specification
	stageStop               // wanted gone, and its instance is not gone yet
	stageDone               // terminal: nothing follows but cleaning up
	stageLook               // known from an earlier life; its driver has not yet said whether the instance still exists
	stageTidy               // its instance has ended for good; its crew is to end, or a poststop to run, before it is terminal
)

// op is a call to a driver. An allocation has at most one in flight.
type op uint8

const (
	opNone  op = iota
	opStart    // start the instance with the key (ID, Status.Restarts)
	opStop     // stop the instance Run
	opClean    // make sure that Old[0] has ended, and remove it
)

// allocation is all that the client keeps of one allocation. It is a value: step takes one and returns the next. Only the
// runner's goroutine holds the current one.
type allocation struct {
	ID api.ID
	work

	Stage  stage
	Status api.AllocationStatus // the latest, reported or not
	Run    driver.Handle        // the instance that runs or may run; zero: none
	Made   uint64               // the job version that the present or latest instance was started from: its label
	Old    []driver.Handle      // former instances that are still to be removed
	Exit   *driver.Exit         // with stageStart: it ended before Start returned; with stageEnded: how
	Tries  tries
	Why    string // not empty: it is wanted gone, and this is what its last status is to say
	fate

	Due    time.Time // when Run is stopped or the next instance started, not before
	Leave  time.Time `json:",omitzero"` // wanted gone and out of rotation, it is asked to end then; zero: at once
	OldDue time.Time // when Old is tried again, not before
	Orphan time.Time // when an instance that the servers do not know is given up; zero: they know it
	Fails  int       // stops or removals that failed one after the other: the exponent of their backoff

	Acked uint64       // the latest Seq that the servers have acknowledged
	Crew  []allocation `json:",omitempty"` // its parts: those of the present run, and what is left of former ones'
	lane
}

// work is what an allocation is an instance of.
type work struct {
	Job     string
	Task    string
	Slot    uint32
	Version uint64 // of the job, as assigned last
	Driver  string // "": not known, since the job's specification has not arrived
	Ports   []api.PortBinding
	Devices []api.DeviceClaim `json:",omitempty"`
	Moved   bool              `json:",omitempty"` // it came in place of one that left another node
	Former  []api.Former      `json:",omitempty"` // those before it in its slot whose directories it may take over
	Note    string            `json:",omitempty"` // what its status says of what came of that
	Handed  bool              `json:",omitempty"` // its own directory was taken over by the next one, on another node

	Parted bool         `json:",omitempty"` // its task has parts, as far as is known
	Part   string       `json:",omitempty"` // the part of its task that it is; "": the allocation itself
	Of     uint32       `json:",omitempty"` // with Part: the run of the allocation that it belongs to
	Kind   api.PartKind `json:",omitempty"` // with Part: "" if it is not known
}

// fate is how an instance is to end that something is wrong with, and what follows.
type fate struct {
	Ousted bool   `json:",omitempty"` // the latest of Old was ended for its health: the next instance waits until it is gone
	Doom   string `json:",omitempty"` // with stageStop: why the allocation has failed once its instance has ended
	// DoomedBy is the failure that goes with Doom; 0, as agents wrote that knew only one: FailureCheck.
	DoomedBy api.Failure `json:",omitempty"`
	Ending   *ending     `json:",omitempty"` // with stageTidy: how the allocation is over then
}

// lane is the runner's own: what is in flight and awaited. It is not kept over a restart, when nothing is.
type lane struct {
	busy   op
	vigil  *vigil    // over the present run, if it has checks; what it points to never changes
	queued bool      // for a place at a gate
	awaits bool      // with stageWait: a part has to run, or to end, before the instance may be started
	stays  bool      // what is left of it is not removed yet: it tells what was done
	wake   time.Time // when the runner looks again
	apart  time.Time // since when the node is without any server; zero: it is not
	heir   heir      // whether it has what it takes over from those before it
}

// heir is how far an allocation is with what those before it have left.
type heir uint8

const (
	heirUnknown  heir = iota // nobody has looked
	heirFetching             // it comes from another node
	heirSettled
)

// next says which call the allocation needs now, if any, and otherwise when to ask again (zero: only after an event).
// start tells whether instances may be started: a server has answered in this life, and the job is known.
func (a *allocation) next(now time.Time, start bool) (do op, wake time.Time) {
	if a.busy != opNone || a.Stage == stageLook {
		return opNone, a.Orphan
	}
	later := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if !a.Orphan.IsZero() {
		later(a.Orphan)
	}
	if a.Stage == stageStop && a.exists() {
		if !now.Before(a.Due) {
			return opStop, time.Time{}
		}
		later(a.Due)
	}
	if len(a.Old) > 0 && !a.stays {
		if !now.Before(a.OldDue) {
			return opClean, time.Time{}
		}
		later(a.OldDue)
	}
	if a.Stage == stageWait && start && !a.awaits && !(a.Ousted && len(a.Old) > 0) {
		if !now.Before(a.Due) {
			return opStart, time.Time{}
		}
		later(a.Due)
	}
	return opNone, wake
}

// exists reports whether there is an instance that may run.
func (a *allocation) exists() bool { return a.Run.Key.Allocation != 0 }

// key names the present run.
func (a *allocation) key() driver.Key {
	return driver.Key{Allocation: a.ID, Restarts: a.Status.Restarts, Part: a.Part, Of: a.Of}
}

// retire moves the present instance, if any, to those that are to be removed.
func (a *allocation) retire() {
	if a.exists() {
		a.Old = append(slices.Clip(a.Old), a.Run)
		a.Run = driver.Handle{}
	}
	a.Fails = 0
}

// tell makes the next status: change edits a copy, and if that says anything new its Seq is raised.
func (a *allocation) tell(change func(*api.AllocationStatus)) {
	s := a.Status
	change(&s)
	s.Message, s.Health = clip(s.Message), api.HealthOf(s.Phase, s.Health)
	if s != a.Status {
		s.Seq++
		a.Status = s
	}
}

// describe puts an end into words: "exit code 139 (SIGSEGV)", "killed for want of memory (limit 64 MiB)". memory is the
// instance's limit in MiB, 0 if it is not known.
func describe(e driver.Exit, memory int64) string {
	if e.Code < 0 && e.Message != "" {
		return e.Message // nobody knows the code
	}
	text := api.ExitText(e.Code, e.Signal)
	if e.OOM {
		want := "killed for want of memory"
		if memory > 0 {
			want += " (limit " + api.FormatMiB(memory) + ")"
		}
		if e.Signal == int(syscall.SIGKILL) {
			text = want
		} else { // the program saw a part of itself die, and ended by itself
			text += ", a process of it was " + want
		}
	}
	if e.Message != "" {
		text += ", " + e.Message
	}
	return text
}

// clip makes a message one line of at most api.MaxStatusMessage bytes.
func clip(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	if len(s) <= api.MaxStatusMessage {
		return s
	}
	const dots = "..."
	cut := api.MaxStatusMessage - len(dots)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + dots
}
