package api

import "time"

// EvaluationStatus is where an evaluation stands.
type EvaluationStatus string

const (
	EvalPending    EvaluationStatus = "pending"    // to be looked at
	EvalBlocked    EvaluationStatus = "blocked"    // looked at, not everything fits; wakes when capacity is freed
	EvalWaiting    EvaluationStatus = "waiting"    // looked at, and looked at again at a time: when an instance that failed is placed again
	EvalComplete   EvaluationStatus = "complete"   // everything it asked for is placed
	EvalSuperseded EvaluationStatus = "superseded" // a newer evaluation of the job took its place
	EvalFailed     EvaluationStatus = "failed"     // the scheduler failed on it; Message says how
)

// Open reports whether the evaluation still waits for something. A job has at most one open evaluation.
func (s EvaluationStatus) Open() bool {
	return s == EvalPending || s == EvalBlocked || s == EvalWaiting
}

// Causes of evaluations: why a job is looked at.
const (
	CauseRegister   = "job-register"
	CauseStop       = "job-stop"
	CauseAllocStop  = "alloc-stop"
	CauseNodeDown   = "node-down"
	CauseNodeUp     = "node-up"
	CauseReturn     = "node-return"  // a node is back of which instances were kept
	CauseDrain      = "node-drain"   // a node is to be emptied, or not any more
	CauseRebalance  = "rebalance"    // an instance is to move to a better node, or not any more
	CauseAllocEnded = "alloc-ended"  // an instance ended or was lost
	CauseUpdate     = "update"       // the next slot of a rolling change
	CauseRevert     = "job-revert"   // an older version was asked for again
	CauseScale      = "job-scale"    // a count was changed
	CauseRestart    = "job-restart"  // instances are to be replaced by ones of the same content
	CauseDeployment = "deployment"   // its deployment was moved: promoted, paused, resumed, failed
	CausePreempted  = "preempted"    // instances gave way to a more important job
	CauseLaunch     = "launch"       // its time came
	CauseRestore    = "restore"      // after a snapshot restore
	CauseQuarantine = "port-expired" // reserved
)

// CauseWords says a cause in words, as a sentence of its own: "a node went down". What it does not know, of a newer server, it
// returns as it is.
func CauseWords(cause string) string {
	switch cause {
	case CauseRegister:
		return "a version was submitted"
	case CauseStop:
		return "the job was stopped"
	case CauseAllocStop:
		return "an instance was asked to be replaced"
	case CauseNodeDown:
		return "a node went down"
	case CauseNodeUp:
		return "a node joined, or is back"
	case CauseReturn:
		return "a node of which instances were kept is back"
	case CauseDrain:
		return "a node is drained, or no longer"
	case CauseRebalance:
		return "an instance moves to a better node, or no longer"
	case CauseAllocEnded:
		return "an instance ended"
	case CauseUpdate:
		return "a roll-out went on"
	case CauseLaunch:
		return "its time came"
	case CauseRevert:
		return "an older version was put in force again"
	case CauseScale:
		return "a count was changed"
	case CauseRestart:
		return "a restart was asked for"
	case CauseDeployment:
		return "its roll-out was moved on, or came to an end"
	case CausePreempted:
		return "it gave way to a more important job"
	case CauseRestore:
		return "a snapshot was restored"
	case CauseQuarantine:
		return "a port is free again"
	}
	return cause
}

// Evaluation is a reason to look at a job again. It is a row, not a message.
type Evaluation struct {
	ID           ID
	Job          string
	Type         JobType
	Priority     int
	Cause        string
	Node         string `json:",omitempty"` // that caused it
	By           string `json:",omitempty"` // the person who asked for what caused it
	Stop         []ID   `json:",omitempty"` // allocations a person asked to stop and replace
	Status       EvaluationStatus
	Message      string        `json:",omitempty"`
	JobVersion   uint64        // the job's version when it was last looked at
	Placed       int           // placements committed for it
	Stopped      int           // stops committed for it
	Explanations []Explanation `json:",omitempty"` // one for each task that is not wholly placed
	Promises     []Promise     `json:",omitempty"` // room that others gave way for; only of a blocked one
	SeenIndex    uint64        // the base index of the plan that last looked at it
	Rejections   int           // plans in a row of which the commit kept nothing
	WakeAt       time.Time     `json:",omitzero"` // when it is looked at again without anything having happened
	// RejectedIndex is the index at which a commit last rejected a part of a plan for it: a plan made before that cannot close it.
	RejectedIndex uint64    `json:",omitempty"`
	At            time.Time // created, the leader's clock
	ModifiedAt    time.Time
	CreateIndex   uint64
	ModifyIndex   uint64
}

// Kept is for how many of its job's instances room is kept from less important jobs.
func (e *Evaluation) Kept() int {
	if e.Status != EvalBlocked {
		return 0
	}
	return len(e.Promises)
}

// Interrupts reports whether the evaluation has nothing to do with why an instance of a version takes the place of last: the update to
// that version does so, and some other node came or went in the middle of it.
func (e *Evaluation) Interrupts(last *AllocationRow, version uint64) bool {
	switch e.Cause {
	case CauseNodeDown, CauseNodeUp, CauseReturn, CauseDrain, CauseRebalance:
		return last.Version < version && last.Node != e.Node && !last.Away && last.Phase != PhaseLost && last.Phase != PhaseFailed
	}
	return false
}

// EvaluationView is an evaluation as people read it, with IDs as text.
type EvaluationView struct {
	ID           string
	Job          string
	Type         JobType
	Priority     int
	Cause        string
	Node         string `json:",omitempty"`
	By           string `json:",omitempty"` // the person who asked for what caused it
	Status       EvaluationStatus
	Message      string `json:",omitempty"`
	JobVersion   uint64
	Placed       int
	Stopped      int
	Explanations []Explanation `json:",omitempty"`
	WakeAt       time.Time     `json:",omitzero"` // when it is looked at again without anything having happened
	At           time.Time
	ModifiedAt   time.Time
	CreateIndex  uint64
	ModifyIndex  uint64
}

// View returns what people read of the evaluation.
func (e *Evaluation) View(text IDText) *EvaluationView {
	return &EvaluationView{
		ID: text.Format(e.ID), Job: e.Job, Type: e.Type, Priority: e.Priority, Cause: e.Cause, Node: e.Node, By: e.By, Status: e.Status,
		Message: e.Message, JobVersion: e.JobVersion, Placed: e.Placed, Stopped: e.Stopped, Explanations: e.Explanations, WakeAt: e.WakeAt,
		At: e.At, ModifiedAt: e.ModifiedAt, CreateIndex: e.CreateIndex, ModifyIndex: e.ModifyIndex,
	}
}

// Explanation says why instances of a task are not placed: how many nodes each filter turned away, what it wanted and
// what it saw. Each node is counted once, at the first filter it fails, so the counts add up to Nodes.
type Explanation struct {
	Task    string
	Wanted  int           // instances the task is to have, completed ones left out
	Placed  int           // of these, placed: by this plan or before
	Nodes   int           // nodes looked at
	Filters []FilterCount `json:",omitempty"` // most nodes first
	Nearest *NearestMiss  `json:",omitempty"`
	GaveUp  bool          `json:",omitempty"` // it waits for another task no more: it has for as long as it may, or would in vain
	Retry   *Retry        `json:",omitempty"` // instances that failed and are placed again later
	Note    string        `json:",omitempty"` // what is not a matter of nodes: "no client has joined the cluster", "web[2] failed and its restart policy is used up"
}

// Retry is an instance that failed for good and is placed again: the first to be, where there are several.
type Retry struct {
	Instance string // web[2]
	At       time.Time
	Attempt  int // from 1 up
	Attempts int `json:",omitempty"` // allowed within the policy's interval; 0: no limit
	More     int `json:",omitempty"` // instances that wait besides
}

// FilterCount is how many nodes one filter turned away.
type FilterCount struct {
	Filter string // "ready", "datacenter", "driver docker", "constraint attr.class = edge", "memory", "port 80" ...
	Nodes  int
	Wanted string // "256 MiB"
	Seen   string // "96 to 128 MiB free", or the commonest values
}

// NearestMiss is the node that came closest: it passed the most filters, and lacked the least in the one it failed.
type NearestMiss struct {
	Node   string // name
	Filter string
	Wanted string
	Seen   string
}
