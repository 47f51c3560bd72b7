package fsm

import (
	"io"
	"iter"

	"cube/api"
)

type Machine struct{}

func New() *Machine                                      { return &Machine{} }
func (m *Machine) Apply(index uint64, c *Command) Result { panic("being written") }
func (m *Machine) Snapshot() *Snapshot                   { panic("being written") }
func (m *Machine) Restore(r io.Reader) error             { panic("being written") }
func (m *Machine) Watch(k WatchKey) <-chan struct{}      { panic("being written") }

// Table names what a WatchKey is about.
type Table uint8

const (
	TableAny             Table = iota // anything at all
	TableJobs                         // Key: job name
	TableNodes                        // Key: node ID
	TableAllocations                  // ID: allocation
	TableEvaluations                  // ID: evaluation
	TableNodeAllocations              // Key: node ID; a change of any allocation on it
	TableJobAllocations               // Key: job name; a change of any allocation of it
	TableJobEvaluations               // Key: job name; a change of any evaluation of it
	TableRunnable                     // no key: there may be something for the scheduler
)

// WatchKey names what to watch: a whole table (Key "" and ID 0) or one row of it.
type WatchKey struct {
	Table Table
	Key   string
	ID    api.ID
}

// RegisteredJob is what became of one job of a RegisterJobs, in its order.
type RegisteredJob struct {
	Name       string
	Version    uint64
	Changed    bool
	Evaluation api.ID // the job's open one; 0 when nothing changed and nothing is open
}

// Result is what a command did.
type Result struct {
	Index      uint64
	Err        error           // *api.Error: refused, and nothing changed
	Registered []RegisteredJob // RegisterJobs
	Evaluation api.ID          // StopJob, StopAllocation
	Rejections []api.Rejection // CommitPlan
	Accepted   int             // CommitPlan: placements
	Unknown    []api.ID        // UpdateStatuses: not the reporting node's
	Replayed   bool            // the request ID was seen before: this is the first result
}

type Snapshot struct{}

// Header is what a persisted snapshot says of itself.
type Header struct {
	Format    uint16
	Index     uint64
	ClusterID string
	Epoch     uint32
}

func Verify(r io.Reader) error            { panic("being written") }
func Inspect(r io.Reader) (Header, error) { panic("being written") }
func Check(s *Snapshot) []error           { panic("being written") }

func (s *Snapshot) Index() uint64                                   { panic("being written") }
func (s *Snapshot) ClusterID() string                               { panic("being written") }
func (s *Snapshot) Epoch() uint32                                   { panic("being written") }
func (s *Snapshot) Rules() uint16                                   { panic("being written") }
func (s *Snapshot) Text() api.IDText                                { panic("being written") }
func (s *Snapshot) Now() int64                                      { panic("being written") }
func (s *Snapshot) Due() int64                                      { panic("being written") }
func (s *Snapshot) TableIndex(k WatchKey) uint64                    { panic("being written") }
func (s *Snapshot) Job(name string) *api.Job                        { panic("being written") }
func (s *Snapshot) JobVersion(name string, version uint64) *api.Job { panic("being written") }
func (s *Snapshot) Jobs() iter.Seq[*api.Job]                        { panic("being written") }
func (s *Snapshot) Versions(job string) []*api.Job                  { panic("being written") }
func (s *Snapshot) Summary(job string) api.JobSummary               { panic("being written") }
func (s *Snapshot) Completed(job, task string, version uint64, slot uint32) bool {
	panic("being written")
}
func (s *Snapshot) Nodes() iter.Seq2[*api.Node, api.Resources] { panic("being written") }
func (s *Snapshot) Node(id string) *api.Node                   { panic("being written") }
func (s *Snapshot) NodeHeld(id string) (held api.Resources, live, running int) {
	panic("being written")
}
func (s *Snapshot) FindNodes(prefix string) []*api.Node                       { panic("being written") }
func (s *Snapshot) PortHeld(node int, port int) bool                          { panic("being written") }
func (s *Snapshot) Quarantined(node int, port int) bool                       { panic("being written") }
func (s *Snapshot) Row(id api.ID) (api.AllocationRow, bool)                   { panic("being written") }
func (s *Snapshot) Allocation(id api.ID) (*api.Allocation, bool)              { panic("being written") }
func (s *Snapshot) AllocationStatusOf(id api.ID) (api.AllocationStatus, bool) { panic("being written") }
func (s *Snapshot) Ports(id api.ID) []api.PortBinding                         { panic("being written") }
func (s *Snapshot) Rows() iter.Seq[api.AllocationRow]                         { panic("being written") }
func (s *Snapshot) NodeRows(node string, since uint64) iter.Seq[api.AllocationRow] {
	panic("being written")
}
func (s *Snapshot) JobRows(job string) iter.Seq[api.AllocationRow]    { panic("being written") }
func (s *Snapshot) JobAllRows(job string) iter.Seq[api.AllocationRow] { panic("being written") }
func (s *Snapshot) FindAllocations(prefix string) []api.ID            { panic("being written") }
func (s *Snapshot) Evaluation(id api.ID) *api.Evaluation              { panic("being written") }
func (s *Snapshot) Evaluations() iter.Seq[*api.Evaluation]            { panic("being written") }
func (s *Snapshot) JobEvaluations(job string) []*api.Evaluation       { panic("being written") }
func (s *Snapshot) FindEvaluations(prefix string) []api.ID            { panic("being written") }
func (s *Snapshot) Runnable(limit int) []*api.Evaluation              { panic("being written") }
func (s *Snapshot) Open(job string) *api.Evaluation                   { panic("being written") }
func (s *Snapshot) Garbage(limit int) *Reap                           { panic("being written") }
func (s *Snapshot) Persist(w io.Writer) error                         { panic("being written") }
func (s *Snapshot) Fingerprint() [32]byte                             { panic("being written") }
