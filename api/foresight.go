package api

import "context"

// Foresight is what would happen, and why things are as they are. Nothing is written: the real scheduler is asked, on the
// real state with what is supposed drawn over it.
type Foresight interface {
	// PlanJobs says what registering the submission would change.
	PlanJobs(ctx context.Context, s Submission) (*Forecast, error)
}

// Forecast is what a submission would do.
type Forecast struct {
	Jobs       []JobForecast // in the order of the file
	CheckIndex uint64        // give it back as Submission.CheckIndex, and the submission is refused if a job has changed since
	Index      uint64        // of the state it was made from
}

// Changes reports whether the submission would change anything.
func (f *Forecast) Changes() bool {
	for i := range f.Jobs {
		if f.Jobs[i].Changed {
			return true
		}
	}
	return false
}

// JobForecast is what would become of one job.
type JobForecast struct {
	Name        string
	Version     uint64 // that it would have
	ModifyIndex uint64 // of the job as it is; 0: there is none
	Changed     bool   // false: what is in force says this already, and nothing would happen
	Starts      bool   `json:",omitempty"` // it is stopped, and would run again
	Diff        *Diff
	Tasks       []TaskForecast `json:",omitempty"` // by name, the ones that go included
	Message     string         `json:",omitempty"` // what the scheduler says of the job besides
}

// What a change means to the running instances of a task.
const (
	EffectNone        = "none"        // they stay as they are
	EffectCreate      = "create"      // there are none yet
	EffectInPlace     = "in-place"    // they take it without being touched
	EffectDestructive = "destructive" // each of them is replaced
	EffectRemove      = "remove"      // they are stopped
)

// TaskForecast is what would become of one task's instances in the end, once all that is to be replaced has been. How
// they get there, one after the other or all at once, is the roll-out's affair.
type TaskForecast struct {
	Task        string
	Effect      string
	Wanted      int
	Keep        int          // instances that stay as they are
	InPlace     int          // instances that take the new version without being touched
	Place       int          // new instances
	Replace     int          // instances that are stopped and placed anew
	Stop        int          // instances that are stopped for good
	Nodes       []NodeCount  `json:",omitempty"` // where new and replaced instances would go, as things are now
	Explanation *Explanation `json:",omitempty"` // of what would not fit
}

// NodeCount is how many instances a node would get.
type NodeCount struct {
	Node  string // name
	Count int
}
