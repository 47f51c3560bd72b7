// Package api is the vocabulary of Cube: the nouns that people, servers and clients share, one noun a file.
//
// It is the ground floor. It imports none of Cube's other packages, does no I/O, reads no clock and draws no random
// number. The same structs are what a task file parses to, what the Raft log and snapshots carry, what travels over
// HTTP and what the scheduler reasons about; there is no second set of types to convert to.
//
// Values handed out by the state are shared: a reader that wants to change one copies it first.
//
// Units, everywhere: CPU in thousandths of a core, memory and disk in MiB, durations as time.Duration (nanoseconds in
// JSON), instants as time.Time (RFC 3339 in JSON).
package api
