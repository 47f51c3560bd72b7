package api

import (
	"context"
	"time"
)

// Dispatcher is what nodes ask of servers. It is implemented by the server in process and by rest over a node's session.
// Bodies between machines are binary (msgpack). All methods are safe for concurrent use.
type Dispatcher interface {
	// Register makes the node known and answers its inventory. The node is initializing until it reports Ready, unless
	// there is nothing to put right. CodeConflict: another live incarnation of this node is connected.
	Register(ctx context.Context, r *Registration) (*RegistrationAnswer, error)
	// Poll waits until something is to change on the node after r.Index, or until the server's wait (about a minute) is
	// over. A server that is behind r.Index or r.Seen waits, or answers CodeUnavailable so that the node tries another.
	Poll(ctx context.Context, r *PollRequest) (*PollAnswer, error)
	// Report delivers statuses; it returns after they are committed. Statuses of allocations that are not this node's are
	// ignored and named in the answer. What carries nothing but a load is not committed, and answered at once.
	Report(ctx context.Context, r *Report) (*ReportAnswer, error)
}

// Registration is a node's announcement: at each agent start, after each new connection, when what it says of itself
// changed, and when a server asked for it.
type Registration struct {
	Node      *Node
	ClusterID string // "" on the first contact ever
	Epoch     uint32 // of the state the node last followed
	Index     uint64 // the latest index the node has seen; the server answers from a state no older
	Inventory []InventoryItem
}

// InventoryItem is an instance that exists on the node.
type InventoryItem struct {
	ID       ID
	Version  uint64
	Restarts uint32
	Phase    Phase
}

// Verdict says what to do with an instance of the inventory.
type Verdict uint8

const (
	VerdictRun     Verdict = iota // keep it: it is to run here
	VerdictStop                   // the state knows it and wants it gone
	VerdictUnknown                // the state has never heard of it, or no longer knows it
	VerdictLeave                  // the state keeps its room, and wants it gone in the way its task asks for
)

// RegistrationAnswer answers a Registration.
type RegistrationAnswer struct {
	ClusterID string
	Epoch     uint32
	Index     uint64
	Verdicts  []Verdict // in the order of the inventory
	Ready     bool      // the node is ready already; otherwise it reports Ready once the stops are done
	Anew      bool      // the node was away: it reports the latest status of all that runs again, before Ready
	Servers   []string  // RPC addresses of the servers, for the node to keep
	Elsewhere bool      // as in a PollAnswer
}

// PollRequest asks what changed.
type PollRequest struct {
	Node        string
	Incarnation uint64
	Epoch       uint32
	Index       uint64 // 0: everything that is this node's and not terminal
	Seen        uint64 // the latest index the node has seen, where that is more than Index
	Load        *NodeLoad
}

// PollAnswer carries what changed on the node since the index asked. A node that sees another Epoch than its own, or
// Register set, registers anew before anything else; absence from an answer never stops anything.
type PollAnswer struct {
	Epoch       uint32
	Index       uint64
	Register    bool // the server does not know this incarnation
	Assignments []Assignment
	Specs       []JobSpec // of the jobs that Assignments to run name
	Servers     []string  // RPC addresses
	NoLeader    bool      // this server knows no leader: the node may try another
	Excess      float64   // the part of this server's sessions, 0 to 1, that would be better off with others
	Elsewhere   bool      // the node is asked to move to another server now, if it knows one
}

// Assignment is an allocation as its node needs it.
type Assignment struct {
	ID       ID
	Job      string
	Version  uint64
	Task     string
	Slot     uint32
	Desired  Desired
	Hurry    bool     // with DesiredStop: without the task's ShutdownDelay
	Moved    bool     // it takes the place of an instance of its own version that leaves another node: see Task.Move
	Former   []Former // of a sticky task: those before it in its slot that have ended, some on other nodes, the latest first
	Ports    []PortBinding
	Devices  []DeviceClaim
	Restarts uint32 // the progress the state knows; the node goes on from there
	Phase    Phase
	Seq      uint64
}

// JobSpec is a job version, encoded once (EncodeJob of api/rest's codec) and shared by every answer that carries it.
type JobSpec struct {
	Job     string
	Version uint64
	Body    []byte
}

// Report is what a node says of its allocations.
type Report struct {
	Node        string
	Incarnation uint64
	Ready       bool // the stops of the inventory are done
	Statuses    []AllocationStatus
	Load        *NodeLoad
}

// ReportAnswer acknowledges a Report: every status in it is committed, or outdated.
type ReportAnswer struct {
	Index   uint64
	Unknown []ID          // not allocations of this node
	Spacing time.Duration // how long to collect before the next report; the first change after a quiet time goes at once
	// LoadEvery is how far apart reports that carry nothing but the load are to be at the least.
	LoadEvery time.Duration
}
