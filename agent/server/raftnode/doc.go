// Package raftnode is a server's Raft: its data directory, the log and snapshots in it, the transport, and the adapter
// that hands committed entries to the state machine. It knows nothing of jobs, nodes or leadership duties.
//
// A data directory belongs to one server for life. A marker file beside raft.db says whose it is and how far it had come,
// so that a raft.db that was emptied, cut short or swapped is told from a new server's: a server that forgot what it
// voted for or acknowledged must not take part, because it could undo what a majority has agreed (see marker.go).
package raftnode
