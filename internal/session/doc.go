// Package session is the wire between agents on port 5556.
//
// A connection begins with a preamble in which the dialling side says which protocol it wants (Raft or RPC), which
// cluster it belongs to, who it is and whom it means to reach. The accepting side answers yes, or no with a code and one
// sentence. After a yes a Raft connection is the bare connection; an RPC connection becomes a Session: yamux, with HTTP/1.1
// on its streams in both directions. The node dials, and the server asks it for logs over the same connection: no node
// listens.
//
// A session ends when either side closes it or when nothing has been heard of the other side for three seconds.
//
// Long-lived goroutines of a session: yamux's receiver and sender (woken by the connection), on the accepting side its
// keepalive (woken every second), and Serve in the caller's goroutine (woken by a new stream). All end with the session.
package session
