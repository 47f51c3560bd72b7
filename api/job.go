package api

import "time"

// JobType says how a job's tasks end.
type JobType string

const (
	JobService  JobType = "service"  // runs until stopped; an exit, even with 0, is a failure
	JobBatch    JobType = "batch"    // runs to completion; exit 0 completes a slot for good
	JobSystem   JobType = "system"   // one instance on every node that meets what the task asks for
	JobSysbatch JobType = "sysbatch" // once to completion on every such node
)

// Completes reports whether instances run to completion: exit 0 is what is hoped for, and ends their slot for good.
func (t JobType) Completes() bool { return t == JobBatch || t == JobSysbatch }

// EveryNode reports whether each task has one instance on every node that meets what it asks for, those that join later
// included, rather than as many as somebody wrote. A slot then belongs to a node for as long as the node is known.
func (t JobType) EveryNode() bool { return t == JobSystem || t == JobSysbatch }

// Scheduling algorithms: what a job's Scheduler field and a server's configuration may name.
const (
	AlgorithmBinpack    = "binpack"
	AlgorithmSpread     = "spread"
	AlgorithmEPVM       = "epvm"
	AlgorithmGreedy     = "greedy"
	AlgorithmRoundRobin = "roundrobin"
)

// Algorithms lists the scheduling algorithms, the default first.
func Algorithms() []string {
	return []string{AlgorithmBinpack, AlgorithmSpread, AlgorithmEPVM, AlgorithmGreedy, AlgorithmRoundRobin}
}

// Limits on a job (DESIGN section 5): enough for every real one, small enough that none can hurt a server.
const (
	MaxSourceBytes     = 1 << 20 // HCL text or JSON body of one submission
	MaxTaskInstances   = 100_000 // count of one task
	MaxJobTasks        = 256     // tasks in one job
	MaxNameLength      = 63      // job, task and port names: a DNS label
	MinPriority        = 1
	MaxPriority        = 100
	DefaultPriority    = 50
	DefaultDatacenter  = "dc1"
	MinDynamicPort     = 20000 // dynamic host ports, inclusive
	MaxDynamicPort     = 32000 // inclusive
	MaxExplanationSize = 4 << 10
	MinMemory          = 6 // MiB: the least that Docker takes
)

// Job is what was asked for: one or more tasks submitted together. The first group of fields is the user's; the rest is
// written by the state when the job is accepted. One Job value is one version and never changes after that.
type Job struct {
	Name        string
	Type        JobType
	Datacenters []string // empty: any
	Priority    int
	Meta        map[string]string `json:",omitempty"`
	Scheduler   string            `json:",omitempty"` // algorithm; empty: the servers' default
	Periodic    *Periodic         `json:",omitempty"` // launched at certain times; nil: it runs once it is registered
	Tasks       []*Task           // sorted by name

	Parameterized *Parameterized `json:",omitempty"` // launched when somebody asks for it; nil: as with Periodic

	Version     uint64      // grows by one a change, never restarts, not even after a purge
	Stopped     bool        // asked to stop: every instance is to go
	Hurry       bool        `json:",omitempty"` // they are to go without their tasks' ShutdownDelay
	SubmittedAt time.Time   // the leader's clock
	SubmittedBy string      `json:",omitempty"` // who asked for the version; "" if it is not known
	Origin      string      `json:",omitempty"` // what made it, if that was no submission: "reverted to version 2"
	StoppedBy   string      `json:",omitempty"` // who asked it to stop; "" if it is not known
	Parent      string      `json:",omitempty"` // the job that launched it
	Dispatched  *Dispatched `json:",omitempty"` // what somebody had it launched with; nil: nobody has
	Launched    *Launched   `json:",omitempty"` // of a periodic job, within the version
	Scaled      *Scaling    `json:",omitempty"` // the latest change of a count within the version
	Restarted   *Restarted  `json:",omitempty"` // instances that are to be replaced though nothing about them has changed
	Stable      bool        `json:",omitempty"` // its deployment was successful: an automatic revert may come back to it
	Tags        []string    `json:",omitempty"` // names people gave the version, sorted; it is kept as long as it has one
	Source      *Source     `json:",omitempty"` // what it was parsed from; nil when it came as JSON
	CreateIndex uint64
	ModifyIndex uint64 // of the job row: raised by a new version, a count change and a stop, by nothing else
}

// Task returns the task with that name, nil if there is none.
func (j *Job) Task(name string) *Task {
	for _, t := range j.Tasks {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Slots is the number of slots that a task of the job may have: its count, or what is enough for any cluster where each
// node has one.
func (j *Job) Slots(t *Task) int {
	if j.Type.EveryNode() {
		return MaxTaskInstances
	}
	return t.Count
}

// Bare reports whether the job is a bare task: one task that carries the job's own name.
func (j *Job) Bare() bool { return len(j.Tasks) == 1 && j.Tasks[0].Name == j.Name }

// MadeFrom says what made the version: the name of a file, or what was done with an older one; "" if it came as JSON.
func (j *Job) MadeFrom() string {
	if j.Origin == "" && j.Source != nil {
		return j.Source.FileName
	}
	return j.Origin
}

// Source is the text a job came from, kept with its version. Variables that were declared sensitive are left out.
type Source struct {
	FileName  string
	HCL       string
	Variables map[string]string `json:",omitempty"`
}

// JobSummary is a row of a job list.
type JobSummary struct {
	Name        string
	Type        JobType
	Priority    int
	Version     uint64
	Status      string // see JobStatus
	Stopped     bool
	Desired     int // instances asked for, over all tasks
	Counts      PhaseCounts
	Healthy     int // of those that run
	SubmittedAt time.Time
	CreateIndex uint64
	ModifyIndex uint64
}

// Job statuses, derived: never stored.
const (
	JobPending  = "pending"  // something is still to be placed or started
	JobRunning  = "running"  // every instance asked for runs, or has completed
	JobDegraded = "degraded" // some instances failed
	JobFailed   = "failed"   // it was to run to completion, some instances failed for good, and nothing is under way
	JobComplete = "complete" // a batch job whose slots have all completed
	JobWaiting  = "waiting"  // it launches others when their time comes, or somebody asks for them
	JobDead     = "stopped"  // stopped by a person and nothing is left
)

// Judge returns the status of a row of which all else is known, with how many of the job's allocations are not terminal, and whether
// the scheduler still has to do with it.
func (s *JobSummary) Judge(j *Job, live int, open bool) string {
	c := &s.Counts
	switch {
	case j.Stopped && live == 0:
		return JobDead
	case j.Stopped:
		return JobRunning // until the last instance is gone
	case j.Launches():
		return JobWaiting
	case j.Type.Completes() && c.Complete == s.Desired && (s.Desired > 0 || live == 0 && !open): // of no instances none is missing
		return JobComplete
	case c.Failed > 0 && j.Type.Completes() && live == 0 && !open: // open: what failed may be placed again
		return JobFailed
	case c.Failed > 0:
		return JobDegraded
	case c.Queued+c.Pending+c.Preparing+c.Lost > 0:
		return JobPending
	}
	return JobRunning
}

// PhaseCounts counts a job's current instances by phase. Queued counts slots that hold no allocation.
type PhaseCounts struct {
	Queued, Pending, Preparing, Running, Complete, Failed, Lost int
}

// JobStatus is everything `task status NAME` needs, in one answer.
type JobStatus struct {
	Job         *Job
	Summary     JobSummary
	Allocations []*Allocation   // by task, slot, then newest first
	Evaluation  *Evaluation     // the newest one
	Deployment  *DeploymentView `json:",omitempty"` // that of the version in force
	Launches    *LaunchStatus   `json:",omitempty"` // of a job that launches others
}
