package api

import "context"

// Peer is what servers ask of each other, beside Raft and forwarded requests.
type Peer interface {
	// Sessions tells the leader which nodes hold sessions with the sender. CodeNotLeader from anyone else.
	Sessions(ctx context.Context, r *SessionReport) (*SessionAnswer, error)
	// Enroll passes on the registration of a node that has its session with the sender. CodeNotLeader from anyone else
	// than the leader, and then nothing was written.
	Enroll(ctx context.Context, r *Registration) (*RegistrationAnswer, error)
	// Deliver passes on what nodes report, gathered. It answers once all that can be is committed, in the order of the
	// batch. CodeNotLeader from anyone else than the leader. A batch may be delivered twice.
	Deliver(ctx context.Context, r *ReportBatch) (*ReportBatchAnswer, error)
}

// ReportBatch is what several nodes report at about the same time.
type ReportBatch struct{ Reports []Report }

// ReportBatchAnswer answers each report of a batch.
type ReportBatchAnswer struct{ Answers []ReportOutcome }

// ReportOutcome is what became of one report of a batch: its answer, or why it was refused.
type ReportOutcome struct {
	ReportAnswer
	Refused *Error // nil: it was taken
}

// SessionReport is one server's word on its nodes' sessions: the full set first, then changes in order of Seq.
type SessionReport struct {
	Server string // Raft ID
	Boot   uint64 // differs each time the server starts
	Seq    uint64 // grows by one a report within a Boot
	Full   bool   // Up is the whole set
	Up     []NodeSession
	Down   []NodeSession
}

// NodeSession is a node's session with a server.
type NodeSession struct {
	Node        string
	Incarnation uint64
	Load        *NodeLoad
}

// SessionAnswer answers a SessionReport.
type SessionAnswer struct {
	Full bool // the leader missed something: send the full set next
	// Share is how many sessions each server would have if all had as many; 0 when the leader does not know yet.
	Share float64
	// None says that the sender leads, and is to have no sessions: others carry them, and leading is work enough.
	None bool
}
