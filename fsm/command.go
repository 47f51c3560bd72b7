package fsm

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/deployment"
	"cube/fsm/launch"
)

// Kind numbers what a command does. Numbers are written to the Raft log for ever: new ones are appended, and what one
// means never changes.
type Kind uint8

const (
	kindInitCluster    Kind = 1
	kindRegisterJobs   Kind = 2
	kindStopJob        Kind = 3
	kindStopAllocation Kind = 4
	kindRegisterNode   Kind = 5
	kindNodeReady      Kind = 6
	kindNodesDown      Kind = 7
	kindSetEligibility Kind = 8
	kindCommitPlan     Kind = 9
	kindUpdateStatuses Kind = 10
	kindReap           Kind = 11
	kindRaiseRules     Kind = 12
	kindRaiseEpoch     Kind = 13
	kindTagVersion     Kind = 14
	kindRevertJob      Kind = 15
	kindScaleJob       Kind = 16
	kindSteer          Kind = 17
	kindJudge          Kind = 18
	kindDrainNode      Kind = 19
	kindRestartJob     Kind = 20
	kindLaunchJob      Kind = 21
	kindRebalance      Kind = 22
)

var kindNames = [...]string{"", "init-cluster", "register-jobs", "stop-job", "stop-allocation", "register-node", "node-ready",
	"nodes-down", "set-eligibility", "commit-plan", "update-statuses", "reap", "raise-rules", "raise-epoch", "tag-version", "revert-job", "scale-job", "steer-deployment",
	"judge-deployments", "drain-node", "restart-job", "launch-job", "rebalance"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && k > 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// RulesVersion is the newest version of Apply's checks that this binary has. A leader raises the cluster's version
// (RaiseRules) only when every voter supports it.
const RulesVersion = rulesBlame

// The versions, and what came with each.
const (
	firstRules uint16 = 1 // of a state without a RaiseRules, and so of all logs from before there was a second version
	rulesTell  uint16 = 2 // the state tells what has happened and who asked for it: timelines of jobs, who is behind an evaluation and a stop
	rulesOffer uint16 = 3 // room that a rejected placement would have taken wakes who waits for room; that instances give way is told, too
	rulesWord  uint16 = 4 // a node says who made it eligible or not, and why; what follows from the turn of a roll-out says which turn
	rulesStep  uint16 = 5 // what an update places is told as that, whatever had its job looked at; room that is kept no more, and a node less to be on, wake who waits
	rulesBlame uint16 = 6 // what takes the place of an instance that was cut off, or whose port was taken, says that, and not that it failed
)

// envelopeVersion is the newest layout of an encoded command that this binary reads. An entry has the lowest version that
// can say what it says:
//
//	1  everything but
//	2  plans that claim devices
//	3  registrations that say who asks, or depend on what is in force
//	4  statuses with another health than their phase implies
//	5  plans that place an instance beside the one that it succeeds
//	6  stops that forgo the shutdown delay
//	7  registrations of jobs that want an instance on every node
//	8  registrations whose versions are rolled out by deployments
//	9  plans that have others give way
//	10 plans that place again what failed, or wait for the time to do so
//	11 eligibility with its date
//	12 registrations of jobs that launch others
//	13 registrations of jobs that are dispatched, and dispatches
//	14 eligibility with its reason
const envelopeVersion = 14

// envelope is the version that an entry with the body needs.
func envelope(b Body) uint8 {
	switch b := b.(type) {
	case *CommitPlan:
		return layoutOf(b.Plan).envelope()
	case *RegisterJobs:
		return b.envelope()
	case *RevertJob:
		return firstOr(b.Deploy, 8)
	case *UpdateStatuses:
		return firstOr(tellsHealth(b.Reports), 4)
	case *StopJob:
		return firstOr(b.NoShutdownDelay, 6)
	case *StopAllocation:
		return firstOr(b.NoShutdownDelay, 6)
	case *SetEligibility:
		if b.Reason != "" {
			return 14
		}
		return firstOr(b.Dated, 11)
	case *LaunchJob:
		return firstOr(b.Asked != nil || b.Full, 13)
	}
	return 1
}

// firstOr is the later version of the envelope if it is needed, else the first.
func firstOr(needed bool, later uint8) uint8 {
	if needed {
		return later
	}
	return 1
}

// Why Decode refuses. Whatever the reason, a committed entry that cannot be decoded stops the server: skipping it would
// make this server's state differ from the others'.
var (
	ErrDamaged     = errors.New("damaged")
	ErrUnknownKind = errors.New("of a kind this version of Cube does not know")
	ErrNewer       = errors.New("written by a newer version of Cube")
)

// Command is one entry of the log: what is to change, who asked for it, when and why.
type Command struct {
	Kind      Kind   // follows from Body: Encode and Decode fill it in
	Rules     uint16 // version of the checks to apply; 0 means the state's own
	RequestID string // of a public mutation, for idempotence; "" otherwise
	At        int64  // Unix nanoseconds, the leader's clock
	Who       string // the person or the server's loop
	Why       string // the cause, for the record
	Body      Body
}

// Body is what a command asks for: one of the types of this package that have its name.
type Body interface{ kind() Kind }

// InitCluster gives the cluster its ID. It is the first entry of a cluster's life; a second one is refused.
type InitCluster struct{ ClusterID string }

// RegisterJobs takes over jobs, parsed and validated, all or none. A job whose specification is the one in force gets no
// new version, unless it is stopped: then it starts again.
type RegisterJobs struct {
	Jobs []*api.Job
	// CheckIndex, if set, must be the greatest modify index of the jobs of these names, 0 if there is none.
	CheckIndex *uint64 `json:",omitempty"`
	// Deploy gives each new version of a service a deployment. Entries of the time before there were any do not have it.
	Deploy bool `json:",omitempty"`
}

// envelope is the version that a registration needs, by what is in it that earlier servers do not know.
func (b *RegisterJobs) envelope() uint8 {
	has := func(is func(*api.Job) bool) bool {
		return slices.ContainsFunc(b.Jobs, func(j *api.Job) bool { return j != nil && is(j) })
	}
	switch {
	case has(func(j *api.Job) bool { return j.Parameterized != nil }):
		return 13
	case has((*api.Job).Launches):
		return 12
	case b.Deploy:
		return 8
	case has(func(j *api.Job) bool { return j.Type.EveryNode() }):
		return 7
	case b.CheckIndex != nil || has(func(j *api.Job) bool { return j.SubmittedBy != "" }):
		return 3
	}
	return 1
}

// LaunchJob launches what another job says, at its time or for who asks: see package launch.
type LaunchJob struct{ launch.Order }

// TagVersion names a version of a job, or takes the name away. Version is as in RevertJob.
type TagVersion struct {
	Name    string
	Version string `json:",omitempty"`
	Tag     string
	Remove  bool `json:",omitempty"`
}

// RevertJob puts the content of a kept version in force again, as a new version. To is a number, a tag, or one of
// api.VersionCurrent and api.VersionPrevious: it is looked up when the entry is applied, so that the entry can be sent
// again.
type RevertJob struct {
	Name       string
	To         string
	CheckIndex *uint64 `json:",omitempty"`
	Deploy     bool    `json:",omitempty"` // as in RegisterJobs
}

// ScaleJob changes how many instances there are of a task ("": of the only one), in the version in force.
type ScaleJob struct {
	Name       string
	Task       string `json:",omitempty"`
	Count      int
	CheckIndex *uint64 `json:",omitempty"`
}

// RestartJob has instances replaced by ones of the same content: a version that says what the one in force says is rolled out.
type RestartJob struct {
	Name string
	api.RestartRequest
	Deploy bool `json:",omitempty"` // as in RegisterJobs
}

// StopJob asks for every instance of a job to go. NoShutdownDelay has them go without their tasks' ShutdownDelay, those too
// that were stopped before and wait for it.
type StopJob struct {
	Name            string
	NoShutdownDelay bool `json:",omitempty"`
}

// StopAllocation asks for one allocation to be stopped, and replaced if its job still wants it. NoShutdownDelay is as in
// StopJob.
type StopAllocation struct {
	ID              api.ID
	NoShutdownDelay bool `json:",omitempty"`
}

// RegisterNode takes over what a node says of itself. Ready says that nothing on it is to be put right first. That was
// judged on the node's row as of JudgedOn, its ModifyIndex: if the row is another by now, Ready does not count, since what
// was to run there may have been lost meanwhile. 0 stands for a judgement that depends on nothing.
type RegisterNode struct {
	Node     *api.Node
	Ready    bool
	JudgedOn uint64 `json:",omitempty"`
}

// NodeReady says that a node's inventory is put right. It is refused for another incarnation than the registered one.
type NodeReady struct {
	Node        string
	Incarnation uint64
}

// NodesDown declares nodes gone, and with them their allocations lost.
type NodesDown struct {
	Nodes  []string
	Reason string
}

// CommitPlan commits what of a plan still holds.
type CommitPlan struct{ Plan *api.Plan }

// UpdateStatuses takes over what nodes report, many nodes in one entry.
type UpdateStatuses struct{ Reports []NodeReport }

// NodeReport is what one node says of its allocations.
type NodeReport struct {
	Node     string
	Statuses []api.AllocationStatus
}

// SteerDeployment is what a person asks of a deployment.
type SteerDeployment struct {
	ID api.ID
	api.DeploymentOrder
}

// JudgeDeployments is what the leader found of deployments. A move that does not count any more is passed over in silence. One
// that fails its deployment puts the last stable version in force, where its job asks for that.
type JudgeDeployments struct{ Moves []deployment.Move }

// RaiseRules raises the version of Apply's checks.
type RaiseRules struct{ Version uint16 }

// RaiseEpoch is committed after a snapshot restore: IDs that were given out after the snapshot was taken are not given
// out again, nodes see a new epoch, and every job is looked at anew. Above is the epoch before the restore: a snapshot
// that is restored a second time does not bring back the epoch of the first.
type RaiseEpoch struct {
	Above uint32 `json:",omitempty"`
}

func (*InitCluster) kind() Kind      { return kindInitCluster }
func (*RegisterJobs) kind() Kind     { return kindRegisterJobs }
func (*StopJob) kind() Kind          { return kindStopJob }
func (*StopAllocation) kind() Kind   { return kindStopAllocation }
func (*RegisterNode) kind() Kind     { return kindRegisterNode }
func (*NodeReady) kind() Kind        { return kindNodeReady }
func (*NodesDown) kind() Kind        { return kindNodesDown }
func (*CommitPlan) kind() Kind       { return kindCommitPlan }
func (*UpdateStatuses) kind() Kind   { return kindUpdateStatuses }
func (*Reap) kind() Kind             { return kindReap }
func (*RaiseRules) kind() Kind       { return kindRaiseRules }
func (*RaiseEpoch) kind() Kind       { return kindRaiseEpoch }
func (*TagVersion) kind() Kind       { return kindTagVersion }
func (*RevertJob) kind() Kind        { return kindRevertJob }
func (*ScaleJob) kind() Kind         { return kindScaleJob }
func (*RestartJob) kind() Kind       { return kindRestartJob }
func (*SteerDeployment) kind() Kind  { return kindSteer }
func (*JudgeDeployments) kind() Kind { return kindJudge }
func (*LaunchJob) kind() Kind        { return kindLaunchJob }

// newBody returns an empty body of the kind, nil for a kind this binary does not know.
func newBody(k Kind) Body {
	bodies := [...]func() Body{
		kindInitCluster:    func() Body { return &InitCluster{} },
		kindRegisterJobs:   func() Body { return &RegisterJobs{} },
		kindStopJob:        func() Body { return &StopJob{} },
		kindStopAllocation: func() Body { return &StopAllocation{} },
		kindRegisterNode:   func() Body { return &RegisterNode{} },
		kindNodeReady:      func() Body { return &NodeReady{} },
		kindNodesDown:      func() Body { return &NodesDown{} },
		kindSetEligibility: func() Body { return &SetEligibility{} },
		kindDrainNode:      func() Body { return &DrainNode{} },
		kindCommitPlan:     func() Body { return &CommitPlan{} },
		kindUpdateStatuses: func() Body { return &UpdateStatuses{} },
		kindReap:           func() Body { return &Reap{} },
		kindRaiseRules:     func() Body { return &RaiseRules{} },
		kindRaiseEpoch:     func() Body { return &RaiseEpoch{} },
		kindTagVersion:     func() Body { return &TagVersion{} },
		kindRevertJob:      func() Body { return &RevertJob{} },
		kindScaleJob:       func() Body { return &ScaleJob{} },
		kindSteer:          func() Body { return &SteerDeployment{} },
		kindJudge:          func() Body { return &JudgeDeployments{} },
		kindLaunchJob:      func() Body { return &LaunchJob{} },
		kindRestartJob:     func() Body { return &RestartJob{} },
		kindRebalance:      func() Body { return &Rebalance{} },
	}
	if int(k) >= len(bodies) || bodies[k] == nil {
		return nil
	}
	return bodies[k]()
}

// prefixSize is the fixed beginning of an encoded command: kind, envelope version, rules version, CRC. Its layout is the
// same in every envelope version, so that damage is told apart from novelty.
const prefixSize = 1 + 1 + 2 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the bytes for the log: kind, envelope version, rules version and a CRC32C of all the rest, then request
// ID, time, who, why and the body. Plans and statuses have a layout of their own (codec.go); the other bodies are JSON.
func (c *Command) Encode() ([]byte, error) {
	if c.Body == nil {
		return nil, api.Errorf(api.CodeInternal, "encode a command: it has no body")
	}
	c.Kind = c.Body.kind()
	body, err := encodeBody(c.Body)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "encode %s: %w", c.Kind, err)
	}
	w := writer{b: make([]byte, 0, prefixSize+64+len(c.RequestID)+len(c.Who)+len(c.Why)+len(body))}
	w.u8(uint8(c.Kind))
	w.u8(envelope(c.Body))
	w.u16(c.Rules)
	w.u32(0) // the CRC's place
	w.string(c.RequestID)
	w.varint(c.At)
	w.string(c.Who)
	w.string(c.Why)
	w.bytes(body)
	putU32(w.b[4:], envelopeCRC(w.b))
	return w.b, nil
}

func envelopeCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[prefixSize:])
}

// Decode reads what Encode wrote. The error wraps ErrDamaged, ErrUnknownKind or ErrNewer. The command shares no memory
// with b.
func Decode(b []byte) (*Command, error) {
	if len(b) < prefixSize {
		return nil, fmt.Errorf("a log entry of %d bytes is %w", len(b), ErrDamaged)
	}
	r := reader{b: b}
	kind, version, rules := Kind(r.u8()), r.u8(), r.u16()
	if r.u32() != envelopeCRC(b) {
		return nil, fmt.Errorf("a log entry of %s is %w: its checksum does not match", kind, ErrDamaged)
	}
	if version > envelopeVersion || rules > RulesVersion {
		return nil, fmt.Errorf("a log entry of %s is %w: envelope %d, rules %d; this binary reads envelopes up to %d and rules up to %d",
			kind, ErrNewer, version, rules, envelopeVersion, RulesVersion)
	}
	body := newBody(kind)
	if body == nil {
		return nil, fmt.Errorf("a log entry (%s) is %w", kind, ErrUnknownKind)
	}
	c := &Command{Kind: kind, Rules: rules, RequestID: r.string(), At: r.varint(), Who: r.string(), Why: r.string(), Body: body}
	raw := r.bytes()
	if r.err == nil && r.left() > 0 {
		r.fail("%d bytes too many", r.left())
	}
	if r.err == nil {
		r.err = decodeBody(raw, body, version)
	}
	if r.err != nil {
		return nil, fmt.Errorf("a log entry of %s is %w: %w", kind, ErrDamaged, r.err)
	}
	if raise, ok := body.(*RaiseRules); ok && raise.Version > RulesVersion {
		return nil, fmt.Errorf("a log entry raises the rules to version %d: it is %w", raise.Version, ErrNewer)
	}
	return c, nil
}

func encodeBody(b Body) ([]byte, error) {
	switch b := b.(type) {
	case *CommitPlan:
		return encodePlan(b.Plan)
	case *UpdateStatuses:
		return encodeReports(b.Reports), nil
	}
	return json.Marshal(b)
}

func decodeBody(raw []byte, b Body, version uint8) (err error) {
	switch b := b.(type) {
	case *CommitPlan:
		b.Plan, err = decodePlan(raw, planLayout{devices: version >= 2, beside: version >= 5, preempt: version >= 9, timed: version >= 10})
		return err
	case *UpdateStatuses:
		b.Reports, err = decodeReports(raw, version >= 4)
		return err
	}
	return decodeJSON(raw, b)
}

// request is a public mutation that was done, so that the same request coming again has no second effect.
type request struct {
	index      uint64 // its order, since an entry is at most one request
	id         string
	body       [sha256.Size]byte
	registered []RegisteredJob
	evaluation api.ID
}

// rememberedRequests is how many are kept: more than come in within the time in which somebody still tries again.
const rememberedRequests = 1 << 16

// maxRequestID bounds a request's ID in bytes.
const maxRequestID = 64

type requestTable struct{ rows *btree.BTreeG[*request] }

func newRequestTable() requestTable {
	return requestTable{newTree(func(a, b *request) bool { return a.index < b.index })}
}

func (t *requestTable) copy() requestTable { return requestTable{t.rows.Copy()} }

// recall returns the first result of a request that was done before, nil for a new one, and the hash of its body.
func (s *state) recall(c *Command) (*Result, [sha256.Size]byte, error) {
	var hash [sha256.Size]byte
	if c.RequestID == "" || c.Body == nil {
		return nil, hash, nil
	}
	if len(c.RequestID) > maxRequestID {
		return nil, hash, api.Errorf(api.CodeInvalid, "the request ID has %d bytes: give at most %d", len(c.RequestID), maxRequestID)
	}
	body, err := encodeBody(c.Body)
	if err != nil {
		return nil, hash, api.Errorf(api.CodeInvalid, "request %q: %w", c.RequestID, err)
	}
	hash = sha256.Sum256(append([]byte{byte(c.Body.kind())}, body...))
	first, ok := s.replies[c.RequestID]
	switch {
	case !ok:
		return nil, hash, nil
	case first.body != hash:
		return nil, hash, api.Errorf(api.CodeConflict, "request ID %q was used before for something else", c.RequestID)
	}
	return &Result{Index: first.index, Registered: first.registered, Evaluation: first.evaluation, Replayed: true}, hash, nil
}

// remember keeps the result of a request that was done. A refusal changed nothing and is not kept: trying again, when
// what stood in the way is gone, is what the request ID is for.
func (s *state) remember(c *Command, body [sha256.Size]byte, r Result) {
	if c.RequestID == "" {
		return
	}
	s.keepRequest(&request{index: s.index, id: c.RequestID, body: body, registered: r.Registered, evaluation: r.Evaluation})
	if s.requests.rows.Len() > rememberedRequests {
		oldest, _ := s.requests.rows.PopMin()
		delete(s.replies, oldest.id)
	}
}

func (s *state) keepRequest(q *request) {
	s.requests.rows.Set(q)
	s.replies[q.id] = q
}
