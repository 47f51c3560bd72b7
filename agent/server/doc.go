// Package server is a voter: it agrees with the other servers through Raft on what should run, and when it leads it
// decides where, judges which nodes are gone and keeps the state small.
//
// A Server answers three interfaces of package api: Cluster (what people ask), Dispatcher (what nodes ask) and Peer (what
// servers ask of each other). Over HTTP they are somebody else's: Run serves the sessions' requests with the handler it is
// given, and a method that needs the leader answers CodeNotLeader elsewhere, so that the handler can forward.
//
// DESIGN.md beside this file says why it is built so, and names each long-lived goroutine, its owner and what wakes it.
package server
