// Package session is the wire between agents on port 5556.
//
// A connection begins with a preamble in which the dialling side says which protocol it wants (Raft or RPC), which
// cluster it belongs to, who it is and whom it means to reach. The accepting side answers yes, or no with a code and one
// sentence. After a yes a Raft connection is the bare connection; an RPC connection becomes a Session, on which both sides
// may ask: the node dials, and the server asks it for logs over the same connection, so no node listens.
//
// There are two ways to ask. A call is one frame out and one frame back: what nodes and servers exchange all the time.
// HTTP is for everything else, people's requests and logs above all: HTTP/1.1 on streams of yamux, whose bytes travel
// in frames of the session. A session that was never used for HTTP has no yamux. DESIGN.md has the reasons and figures.
//
// A session ends when either side closes it, or when the other side is found silent for three seconds.
//
// Long-lived goroutines of a session: Serve, in its caller's goroutine (woken by the connection), and one for each call
// that is being answered. With HTTP also yamux's receiver and sender, and an HTTP server. All end before Serve returns.
package session
