package api

import "context"

// Peer is what servers ask of each other, beside Raft and forwarded requests.
type Peer interface {
	// Sessions tells the leader which nodes hold sessions with the sender. CodeNotLeader from anyone else.
	Sessions(ctx context.Context, r *SessionReport) (*SessionAnswer, error)
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
}
