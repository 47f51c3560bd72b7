package api

import (
	"fmt"
	"time"
)

// Desired is what is to become of an allocation. Only plans write it.
type Desired uint8

const (
	DesiredRun Desired = iota
	DesiredStop
)

// Phase is how far an allocation has come. Only its client writes it, PhaseLost excepted. With the number of restarts it
// is the allocation's progress, which only grows (see Progress).
type Phase uint8

const (
	PhasePending   Phase = iota // placed; its client has not begun
	PhasePreparing              // its client pulls, creates, starts
	PhaseRunning
	PhaseComplete // ended as it should: exit 0 of a batch instance, or stopped on request
	PhaseFailed   // ended otherwise, and its restart policy is used up
	PhaseLost     // its node is gone
)

var desiredNames = [...]string{"run", "stop"}
var phaseNames = [...]string{"pending", "preparing", "running", "complete", "failed", "lost"}

func (d Desired) String() string { return enumString(d, desiredNames[:]) }
func (p Phase) String() string   { return enumString(p, phaseNames[:]) }

// Terminal reports whether the phase is an end: nothing follows it.
func (p Phase) Terminal() bool { return p >= PhaseComplete }

// MarshalText writes the names people see.
func (d Desired) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText writes the names people see.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Desired) UnmarshalText(b []byte) error {
	return enumParse(d, b, desiredNames[:], "desired state")
}

// UnmarshalText reads what MarshalText wrote.
func (p *Phase) UnmarshalText(b []byte) error { return enumParse(p, b, phaseNames[:], "phase") }

func enumString[E ~uint8](v E, names []string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", uint8(v))
}

func enumParse[E ~uint8](v *E, b []byte, names []string, what string) error {
	for i, n := range names {
		if n == string(b) {
			*v = E(i)
			return nil
		}
	}
	return Errorf(CodeInvalid, "unknown %s %q", what, b)
}

// Failure says what kind of end or trouble a status tells of, where more than the exit code matters.
type Failure uint8

const (
	FailureNone      Failure = iota
	FailureExit              // the instance ended by itself
	FailureStart             // it could not be started: image, command, engine
	FailureOOM               // killed for want of memory
	FailurePortTaken         // something outside Cube holds a port it was given: place it again with others
	FailureCheck             // a check with restart_after had it restarted
	FailureTime              // it ran for longer than its MaxRunDuration
	FailureCut               // its client stopped it, since it was without any server for longer than its StopOnClientAfter
)

// Blameless reports whether an instance that failed so did nothing wrong: another is placed at once, and not as one more attempt.
func (f Failure) Blameless() bool { return f == FailurePortTaken || f == FailureCut }

// AllocationStatus is what a client says of an allocation. Seq grows with each status of one allocation and orders them;
// the state takes a status only if its Seq is greater than the last and its progress no smaller.
type AllocationStatus struct {
	ID         ID
	Seq        uint64
	Restarts   uint32
	Phase      Phase
	Health     HealthStatus // unknown unless it runs
	Failure    Failure
	ExitCode   int32
	Signal     uint8  // the signal that ended it, 0 for none
	Port       uint16 // with FailurePortTaken: the host port to quarantine
	Message    string // one line for people: what it waits for, or why it ended; at most 512 bytes
	StartedAt  int64  // Unix milliseconds, the node's clock; of the latest start
	FinishedAt int64  // of the latest end
}

// MaxStatusMessage bounds AllocationStatus.Message in bytes.
const MaxStatusMessage = 512

// ProgressLess reports whether progress (r1, p1) comes strictly before (r2, p2): restarts first, then phase. Nothing
// comes after a terminal phase.
func ProgressLess(r1 uint32, p1 Phase, r2 uint32, p2 Phase) bool {
	if p1.Terminal() {
		return false
	}
	if p2.Terminal() {
		return true
	}
	return r1 < r2 || r1 == r2 && p1 < p2
}

// AllocationRow is an allocation as the machine reads it: what the scheduler plans on and polls are made of. The state
// assembles it from its compact record without allocating; the strings are the state's own.
type AllocationRow struct {
	ID          ID
	Job         string
	Task        string
	Slot        uint32
	Version     uint64 // of the job it was placed for; in-place changes raise it
	Node        string // node ID
	NodeOrdinal int    // the node's place in State.Nodes of the same snapshot; -1 if the node is gone
	Replaces    ID     // the allocation it succeeds, 0 for none
	Evaluation  ID     // that placed it
	Desired     Desired
	Hurry       bool // it is to stop without the task's ShutdownDelay
	Away        bool // its node is: the row says what was so when it was last heard of
	Phase       Phase
	Health      HealthStatus
	Failure     Failure
	Restarts    uint32
	Seq         uint64
	Held        Resources // what it holds on its node until it is terminal
	CreatedAt   int64     // Unix nanoseconds, the leader's clock
	CreateIndex uint64
	ModifyIndex uint64
}

// Live reports whether the allocation still holds its room: its client has not said that it is gone.
func (r *AllocationRow) Live() bool { return !r.Phase.Terminal() }

// Allocation is an allocation as people read it.
type Allocation struct {
	ID            string
	Name          string // web[0], or job/task[0]
	Job           string
	Task          string
	Slot          int
	JobVersion    uint64
	NodeID        string
	NodeName      string
	NodeAddress   string
	Desired       Desired
	DesiredReason string `json:",omitempty"`
	Phase         Phase
	Health        HealthStatus // unknown unless it runs
	Restarts      int
	ExitCode      *int            `json:",omitempty"` // of the latest end
	Signal        int             `json:",omitempty"`
	OOM           bool            `json:",omitempty"`
	Message       string          `json:",omitempty"`
	Away          *AwayInstance   `json:",omitempty"` // nothing is heard of it; the rest is what was so before
	Ports         []PortBinding   `json:",omitempty"`
	Devices       []DeviceClaim   `json:",omitempty"`
	Volumes       []VolumeRequest `json:",omitempty"`
	Resources     Resources
	Evaluation    string
	Replaces      string `json:",omitempty"`
	ReplacedBy    string `json:",omitempty"`
	CreatedAt     time.Time
	ModifiedAt    time.Time
	StartedAt     time.Time // zero: never
	FinishedAt    time.Time // zero: not yet
	CreateIndex   uint64
	ModifyIndex   uint64
}

// InstanceName is how people call slot n of a task: web[0] for a bare task, shop/web[0] otherwise.
func InstanceName(job, task string, slot uint32) string {
	if job == task {
		return fmt.Sprintf("%s[%d]", task, slot)
	}
	return fmt.Sprintf("%s/%s[%d]", job, task, slot)
}
