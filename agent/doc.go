// Package agent is the long-running process: it reads the configuration, opens the listeners and composes a server, a
// client or both with gossip and the HTTP API. It decides nothing about jobs; it only wires those who do.
//
// Run recites the building plan in order. Everything it starts is a blocking function in one errgroup: the first that
// fails, or the end of the context, stops the others, and Run returns when all have.
package agent
