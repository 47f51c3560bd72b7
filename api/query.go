package api

import (
	"strings"
	"time"
)

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
	// Since leaves out lines that were begun before it, by the clock of the node. Those whose time nobody noted, an agent
	// from before there was this, are not left out. Zero: nothing is.
	Since time.Time
	// Timestamps puts before each line when it was begun (see CutLogTime). Lines then come whole, at the latest when their
	// instance ends, and one of more than 64 KiB comes in pieces.
	Timestamps bool
	// Part is the part of its task (a sidecar, a prestart, a poststop) whose output is asked for; "": the main container's.
	Part string
}

// logTime has a fixed width, so that hardly anything that an instance writes by itself passes for it.
const logTime = "2006-01-02T15:04:05.000000000Z"

// noLogTime stands before a line of which nobody knows when it was written.
const noLogTime = "- "

// AppendLogTime appends a time, and the space after it, as LogRequest.Timestamps has them; "- " for the zero time.
func AppendLogTime(b []byte, at time.Time) []byte {
	if at.IsZero() {
		return append(b, noLogTime...)
	}
	return append(at.UTC().AppendFormat(b, logTime), ' ')
}

// CutLogTime takes apart a line that was asked for with LogRequest.Timestamps. The time is zero where nobody knows it, and
// where the line comes from an agent that does not know such requests; then the line is as it was.
func CutLogTime(line string) (at time.Time, text string) {
	if text, ok := strings.CutPrefix(line, noLogTime); ok {
		return time.Time{}, text
	}
	if len(line) <= len(logTime) || line[len(logTime)] != ' ' {
		return time.Time{}, line
	}
	at, err := time.Parse(logTime, line[:len(logTime)])
	if err != nil {
		return time.Time{}, line
	}
	return at, line[len(logTime)+1:]
}
