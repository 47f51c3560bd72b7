package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Foresight is what would happen, and why things are as they are. Nothing is written: the real scheduler is asked, on the
// real state with what is supposed drawn over it.
type Foresight interface {
	// PlanJobs says what registering the submission would change.
	PlanJobs(ctx context.Context, s Submission) (*Forecast, error)
	// ExplainJob says where the instances of a job are and why, and of every node whether it could take one more.
	ExplainJob(ctx context.Context, name string) (*JobDiagnosis, error)
	// Simulate says what would become of the cluster if something were so. Of the query only Stale counts.
	Simulate(ctx context.Context, r SimulationRequest, q Query) (*Simulation, ReadMeta, error)
}

// MaxExplained is how many instances of a task a diagnosis lists at most, those that do not run first.
const MaxExplained = 100

// JobDiagnosis is why a job's instances are where they are, or nowhere. What it says of nodes holds for now: what they were
// like when an instance was placed is not kept.
type JobDiagnosis struct {
	Job        string
	Summary    JobSummary
	MadeAt     time.Time       // the version in force
	MadeBy     string          `json:",omitempty"`
	MadeFrom   string          `json:",omitempty"` // a file, or what was put in force again and why
	Deployment *DeploymentView `json:",omitempty"` // of the version in force; nil if it has none
	Evaluation *EvaluationView `json:",omitempty"` // the newest one
	Tasks      []TaskDiagnosis `json:",omitempty"` // by name; none if the job is stopped
	Index      uint64
}

// TaskDiagnosis is that of one task.
type TaskDiagnosis struct {
	Task      string
	Wanted    int
	Algorithm string           // "" where every node is to have one, so that nothing is chosen
	Filters   []string         // what each node is asked, in order
	Nodes     []NodeDiagnosis  // by ID
	Nearest   int              // the place in Nodes of the one that has least against it; -1 if one fits, or there are none
	Instances []InstanceReason `json:",omitempty"`
	More      int              `json:",omitempty"` // instances that are not listed
}

// Pins says which nodes the task is bound to for the data in their volumes, whatever else speaks for or against them: "Pinned to
// n2 by volume data". It is empty if it asks for no volume, or all nodes have it.
func (d *TaskDiagnosis) Pins() string {
	var volumes, left []string
	for _, filter := range d.Filters {
		if kind, what, _ := strings.Cut(filter, " "); kind == "volume" && !strings.HasSuffix(what, " free") {
			volumes = append(volumes, what)
		}
	}
	for i := range d.Nodes {
		if !slices.ContainsFunc(d.Nodes[i].Failures, func(f FilterFailure) bool {
			return slices.ContainsFunc(volumes, func(v string) bool { return f.Filter == "volume "+v })
		}) {
			left = append(left, d.Nodes[i].Name)
		}
	}
	if len(volumes) == 0 || len(left) == len(d.Nodes) {
		return ""
	}
	const named = 5
	word := "volume "
	if len(volumes) > 1 {
		word = "volumes "
	}
	by := " by " + word + strings.Join(volumes, " and ")
	slices.Sort(left)
	switch {
	case len(left) == 0:
		return "Pinned to no node there is" + by
	case len(left) > named:
		return fmt.Sprintf("Pinned to %d of %d nodes%s", len(left), len(d.Nodes), by)
	}
	return "Pinned to " + strings.Join(left, ", ") + by
}

// NodeDiagnosis is whether a node could take one more instance of a task.
type NodeDiagnosis struct {
	ID, Name  string
	Instances int             // of the task, that it has
	Failures  []FilterFailure `json:",omitempty"` // all that speaks against it
	Score     *Score          `json:",omitempty"` // nil if anything does
}

// FilterFailure is one filter that a node does not pass.
type FilterFailure struct {
	Filter  string // as in FilterCount
	Wanted  string
	Seen    string
	Missing string `json:",omitempty"` // of an amount: how much there is too little
	// Since is when a node that is not ready ceased to be.
	Since time.Time `json:",omitzero"`
}

// Score is how well an instance would do on a node; more is better. Scores of different algorithms do not compare.
type Score struct {
	Total     float64
	Algorithm float64 // the algorithm's own part
	Affinity  float64 `json:",omitempty"`
	Spread    float64 `json:",omitempty"` // 0 or less: what the task's spreads have against it
}

// InstanceReason is why an instance is where it is: the reason the scheduler had to look at its job when it placed it. One that failed
// for good and that no other has replaced is there, too.
type InstanceReason struct {
	Name       string
	Allocation string
	Node       string // name
	JobVersion uint64
	Desired    Desired
	Phase      Phase
	At         time.Time // placed
	Evaluation string
	Cause      string `json:",omitempty"` // of the evaluation; "" if that is no longer kept
	CauseNode  string `json:",omitempty"` // name of the node that gave it
	CauseText  string `json:",omitempty"` // the cause in words, where more is known of it than its name
	Replaces   string `json:",omitempty"` // the allocation it succeeds
	Message    string `json:",omitempty"` // what it says of itself, where it does not run
}

// Remedy says what would let the node take an instance, as the end of a sentence that begins with its name, such as
//
//	would take it with 256 MiB less memory and without the constraint attr.class = edge
//
// "" if nothing speaks against it.
func (d *NodeDiagnosis) Remedy() string {
	var with, without, should []string
	for _, f := range d.Failures {
		kind, what, _ := strings.Cut(f.Filter, " ")
		switch {
		case kind == "ready":
			should = append(should, "it were ready")
		case kind == "driver":
			should = append(should, "its "+what+" driver worked")
		case kind == "datacenter":
			should = append(should, "datacenter "+f.Seen+" were allowed")
		case f.Missing != "" && kind == "cpu":
			with = append(with, f.Missing+" less CPU")
		case f.Missing != "" && kind == "dynamic":
			with = append(with, f.Missing+" fewer "+f.Filter)
		case f.Missing != "":
			with = append(with, f.Missing+" less "+f.Filter)
		case kind == "constraint":
			without = append(without, "the constraint "+what)
		case kind == "port":
			without = append(without, "static port "+what)
		case kind == "device":
			without = append(without, "its "+strings.TrimSuffix(what, " free"))
		case kind == "volume" && strings.HasSuffix(what, " free"):
			should = append(should, "volume "+strings.TrimSuffix(what, " free")+" were free")
		case kind == "volume" && f.Seen == "no volume "+what:
			should = append(should, "it had a volume "+what)
		case kind == "volume":
			should = append(should, "its volume "+what+" allowed what is asked of it")
		default:
			without = append(without, f.Filter)
		}
	}
	var parts []string
	for _, p := range []struct {
		word string
		list []string
	}{{"with ", with}, {"without ", without}, {"if ", should}} {
		if len(p.list) > 0 {
			parts = append(parts, p.word+strings.Join(p.list, " and "))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "would take it " + strings.Join(parts, ", ")
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
// they get there, one after the other or all at once, RollOut says.
type TaskForecast struct {
	Task        string
	Effect      string
	Wanted      int
	Keep        int          // instances that stay as they are
	InPlace     int          // instances that take the new version without being touched
	Place       int          // new instances
	Replace     int          // instances that are stopped and placed anew
	Stop        int          // instances that are stopped for good
	RollOut     string       `json:",omitempty"` // in words: how those that are replaced are
	Nodes       []NodeCount  `json:",omitempty"` // where new and replaced instances would go, as things are now
	Explanation *Explanation `json:",omitempty"` // of what would not fit
}

// NodeCount is how many instances a node would get.
type NodeCount struct {
	Node  string // name
	Count int
}
