// Package fsm is what the cluster has agreed: the state that every server builds from the same log.
//
// A Machine takes commands one by one and never looks at a clock, a random number, a file or the network: the same log
// gives the same state everywhere, byte for byte. It knows nothing of Raft. Readers take a Snapshot, which costs next to
// nothing, never changes and never blocks the writer. DESIGN.md says why it is built this way, and what speaks against it.
//
// One file per noun holds its table, commands, reads and part of a snapshot: job, node, allocation, evaluation, port,
// request.
package fsm
