package session

import (
	"context"

	"cube/api"
)

// Protocol is what a connection carries after its preamble.
type Protocol byte

const (
	Raft Protocol = 1 // the bare connection, for Raft's own transport
	RPC  Protocol = 2 // a Session
)

// Hello is what the dialling side says of itself and of what it wants. Each string is at most 255 bytes.
type Hello struct {
	Protocol    Protocol
	ClusterID   string // "" while it is not known; matches any
	Role        api.Role
	Sender      string // ID of the sender's role: a server's Raft ID or a node ID
	Incarnation uint64 // tells two lives of one sender apart
	Target      string // ID the sender means to reach; "" for whoever answers
}

// Admit says whether a server of that cluster and with that ID is the one the sender means. The error is a refusal to
// send back: CodeForbidden for another cluster, CodeConflict for another target. Empty values match anything.
func (h Hello) Admit(clusterID, id string) error {
	if h.ClusterID != "" && clusterID != "" && h.ClusterID != clusterID {
		return api.Errorf(api.CodeForbidden, "this server belongs to cluster %s and %s %s to cluster %s",
			clusterID, h.Role, h.Sender, h.ClusterID)
	}
	if h.Target != "" && id != "" && h.Target != id {
		return api.Errorf(api.CodeConflict, "this is server %s, not %s: the address has a new owner", id, h.Target)
	}
	return nil
}

type peerKey struct{}

// From returns who sent the request with this context: set by Serve.
func From(ctx context.Context) (Hello, bool) {
	h, ok := ctx.Value(peerKey{}).(Hello)
	return h, ok
}
