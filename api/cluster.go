package api

import (
	"context"
	"io"
)

// Cluster is what people ask. It is implemented by the server in process and by rest.Client over HTTP, with the same
// errors (*Error) from both. Names of jobs are exact; IDs of nodes, allocations and evaluations may be any unique prefix
// (CodeAmbiguous otherwise). All methods are safe for concurrent use.
type Cluster interface {
	Jobs
	History
	Foresight
	Dispatches
	Nodes
	Drains
	Volumes
	Rebalances
	Allocations
	Evaluations
	Measures
	Events
	Deployments
	Operator
}

// Submission is what `task run` sends: HCL source with its variables, or jobs as they are. Exactly one is set.
type Submission struct {
	Source    string            `json:",omitempty"`
	FileName  string            `json:",omitempty"`
	Variables map[string]string `json:",omitempty"` // given with -var, -var-file or CUBE_VAR_x; as written
	Job       *Job              `json:",omitempty"`
	// CheckIndex, if set, must be the greatest modify index of the jobs that the submission names, 0 if there is none of
	// them: CodeConflict otherwise, and nothing is written.
	CheckIndex *uint64 `json:",omitempty"`
}

// Registered is the answer to a submission: a file is registered as one entry, all or nothing.
type Registered struct {
	Jobs  []RegisteredJob // in the order of the file
	Index uint64
}

// RegisteredJob is what became of one job of a submission.
type RegisteredJob struct {
	Name       string
	Version    uint64
	Changed    bool   // false: the version in force already says this
	Evaluation string // ID; "" when nothing changed and nothing is open
}

// StopRequest says how instances are to go.
type StopRequest struct {
	// NoShutdownDelay has them asked to end at once, without their tasks' ShutdownDelay, those too that wait for it already.
	NoShutdownDelay bool `json:",omitempty"`
}

// Validation is the answer to /v1/validate. Nothing is written.
type Validation struct {
	Jobs []*Job
}

// Jobs are the reads and writes of jobs.
type Jobs interface {
	RegisterJobs(ctx context.Context, s Submission, w WriteMeta) (*Registered, error)
	ValidateJobs(ctx context.Context, s Submission) (*Validation, error)
	StopJob(ctx context.Context, name string, r StopRequest, w WriteMeta) (*EvaluationView, error)
	// PurgeJob forgets a stopped job with its versions, allocations and evaluations. CodeConflict when it is not stopped, or
	// something of it may still run.
	PurgeJob(ctx context.Context, name string, w WriteMeta) error
	ListJobs(ctx context.Context, q Query) ([]*JobSummary, ReadMeta, error)
	Job(ctx context.Context, name string, q Query) (*JobStatus, ReadMeta, error)
	JobVersions(ctx context.Context, name string, q Query) ([]*Job, ReadMeta, error) // newest first
	JobAllocations(ctx context.Context, name string, q Query) ([]*Allocation, ReadMeta, error)
	JobEvaluations(ctx context.Context, name string, q Query) ([]*EvaluationView, ReadMeta, error) // newest first
}

// Nodes are the reads and writes of nodes.
type Nodes interface {
	ListNodes(ctx context.Context, q Query) ([]*NodeView, ReadMeta, error)
	Node(ctx context.Context, id string, q Query) (*NodeView, ReadMeta, error)
	NodeAllocations(ctx context.Context, id string, q Query) ([]*Allocation, ReadMeta, error)
	SetNodeEligibility(ctx context.Context, id string, r EligibilityRequest, w WriteMeta) (*NodeView, error)
}

// Allocations are the reads and writes of allocations.
type Allocations interface {
	ListAllocations(ctx context.Context, q Query) ([]*Allocation, ReadMeta, error)
	Allocation(ctx context.Context, id string, q Query) (*Allocation, ReadMeta, error)
	StopAllocation(ctx context.Context, id string, r StopRequest, w WriteMeta) (*EvaluationView, error)
	// Logs streams an allocation's output as plain bytes, lines unbroken. The caller closes it.
	Logs(ctx context.Context, id string, r LogRequest) (io.ReadCloser, error)
	// Exec runs a command beside a running instance and returns the connection to it, which package attach speaks. An
	// instance that does not run is CodeConflict. The command ends when the connection is closed, which the caller does,
	// or ctx ends.
	Exec(ctx context.Context, id string, r ExecRequest) (io.ReadWriteCloser, error)
}

// Evaluations are the reads of evaluations.
type Evaluations interface {
	ListEvaluations(ctx context.Context, q Query) ([]*EvaluationView, ReadMeta, error) // newest first
	Evaluation(ctx context.Context, id string, q Query) (*EvaluationView, ReadMeta, error)
}

// Operator is for those who run the cluster.
type Operator interface {
	Health(ctx context.Context) (*Health, error)
	Leader(ctx context.Context) (*Leader, error)
	Members(ctx context.Context) ([]Member, error)
	RaftPeers(ctx context.Context) ([]RaftPeer, error)
	// ClusterStatus says how the cluster is doing. Of the query only Stale counts: then any server answers from what it knows.
	ClusterStatus(ctx context.Context, q Query) (*ClusterStatus, ReadMeta, error)
	RemovePeer(ctx context.Context, id string, w WriteMeta) error
	// Leave makes the server it is asked of hand over leadership, leave the Raft configuration and shut down.
	Leave(ctx context.Context) error
	// SaveSnapshot streams a consistent snapshot with its digest; RestoreSnapshot replaces the whole state by one and
	// raises the epoch. A snapshot that is damaged or of a newer format is refused and nothing is changed.
	SaveSnapshot(ctx context.Context) (io.ReadCloser, error)
	RestoreSnapshot(ctx context.Context, r io.Reader, w WriteMeta) error
}
