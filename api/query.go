package api

import "time"

// Query shapes a read.
type Query struct {
	// Index makes the read wait until what it reads has changed after this index, or Wait is over. 0 answers at once.
	Index uint64
	Wait  time.Duration // at most MaxWait; 0 with an Index means DefaultWait
	// Stale lets any server answer from its own state, leader or not.
	Stale  bool
	Prefix string // lists: only IDs or names that begin so
	// Awake, if set, is called when the wait is over, before anything that is answered is read: who has come until then may
	// share the answer. It does not leave the process.
	Awake func()
}

const (
	DefaultWait = 5 * time.Minute
	MaxWait     = 10 * time.Minute
)

// ReadMeta comes with every read.
type ReadMeta struct {
	Index uint64 // give it back in Query.Index to wait for the next change; never 0
	Stale bool   // not verified with a leader
}

// WriteMeta goes with every write that a person asks for.
type WriteMeta struct {
	// RequestID makes a write idempotent: sent again with the same body it has no second effect and gives the first
	// result; with another body it is a conflict. Empty: no such promise. At most 64 bytes.
	RequestID string
	Who       string // for the record
}

// LogRequest asks for an allocation's output.
type LogRequest struct {
	Stream string // "stdout", "stderr", or "" for both as they came
	Tail   int    // last lines to begin with; -1: from the beginning of what is kept
	Follow bool   // go on until the allocation is terminal or the context ends
}
