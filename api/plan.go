package api

// Plan is the scheduler's answer to a batch of evaluations. It names what it was made from, so that the commit can
// re-check the facts and reject one by one what no longer holds.
type Plan struct {
	BaseIndex uint64 // index of the snapshot it was made from
	Jobs      []JobPlan
}

// Empty reports whether committing the plan would change nothing but evaluation rows.
func (p *Plan) Empty() bool {
	for i := range p.Jobs {
		if len(p.Jobs[i].Placements) > 0 || len(p.Jobs[i].Stops) > 0 || len(p.Jobs[i].InPlace) > 0 || len(p.Jobs[i].Preemptions) > 0 {
			return false
		}
	}
	return true
}

// JobPlan is the answer to one evaluation.
type JobPlan struct {
	Evaluation     ID
	Job            string
	JobModifyIndex uint64           // of the job row planned on; a placement falls with it. 0: the job is gone
	Status         EvaluationStatus // what the evaluation becomes if everything is accepted
	Message        string
	Explanations   []Explanation
	Placements     []Placement
	Stops          []Stop
	WakeAt         int64 // Unix nanoseconds: when the evaluation, if it stays open, is to be looked at again; 0: when something happens
	InPlace        []ID  // allocations that take the job's current version as they are
	Preemptions    []Preemption
	Promises       []Promise // kept for the job until it is looked at again
}

// Promise is room on a node that is kept from less important jobs: there is not enough of it yet.
type Promise struct {
	Node string // ID
	Room Resources
}

// Preemption has an instance of a less important job end, so that one of this job finds room when it is gone. The commit
// drops it if that job has become as important.
type Preemption struct {
	Allocation ID
	Job        string // the allocation's
	Reason     string
}

// Placement puts one instance on a node.
type Placement struct {
	Task     string
	Slot     uint32
	Version  uint64
	Node     string // node ID
	Replaces ID     // the allocation it succeeds; 0 for none. If that allocation is live, its Stop is in the same JobPlan and both stand or fall together
	Beside   bool   // what it succeeds runs on beside it, and is told to stop by a later plan
	Trial    Trial  // how often its slot was placed again because its instance failed
	Held     Resources
	Ports    []PortBinding
	Devices  []DeviceClaim // what it holds of the node's devices, in the order of the task's requests
}

// Stop asks for an allocation to end. Its room is freed when its client says that it is gone.
type Stop struct {
	Allocation ID
	Reason     string
}

// Rejection says why the commit did not accept a placement.
type Rejection struct {
	Job    string
	Task   string
	Slot   uint32
	Node   string
	Reason string
}
