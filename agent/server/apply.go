package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"cube/agent/server/raftnode"
	"cube/api"
	"cube/fsm"
)

// enqueueTimeout is how long an entry may wait to be taken up: Raft's queue is short, and a leader whose queue does not
// move for so long is overloaded.
const enqueueTimeout = 5 * time.Second

// origin says who asks for a change, and why.
type origin struct {
	RequestID string // of a public mutation
	Who       string
	Why       string
}

func person(w api.WriteMeta, why string) origin { return origin{w.RequestID, w.Who, why} }
func leaderLoop(name, why string) origin        { return origin{Who: "leader/" + name, Why: why} }

// door is the only way to Raft. It stamps entries with the leader's clock.
type door struct {
	raft  *raft.Raft
	clock clock
}

// clock is what entries are stamped with: this machine's, but never behind what was stamped before. The state's time does
// not go back, so behind it time would stand still, for as long as an earlier leader's clock was ahead. It goes on from
// there instead, second by second, until the machine's has caught up.
type clock struct {
	mu    sync.Mutex
	floor int64     // Unix nanoseconds, at since
	since time.Time // with a monotonic reading
}

// begin says how far time has come.
func (c *clock) begin(at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor, c.since = at, time.Now()
}

// now is the time, in Unix nanoseconds.
func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now()
	at := t.UnixNano()
	if !c.since.IsZero() {
		at = max(at, c.floor+int64(t.Sub(c.since)))
	}
	c.floor, c.since = at, t
	return at
}

// pending is an entry on its way.
type pending struct {
	future raft.ApplyFuture
	err    error
}

// apply commits one entry and returns what it did. The error is the state's refusal (Result.Err), or says that nothing
// was written (CodeNotLeader, CodeBusy) or that nobody knows (CodeUnknown).
func (d *door) apply(body fsm.Body, o origin) (fsm.Result, error) { return d.begin(body, o).wait() }

// begin enqueues an entry. Entries are committed in the order of their begin.
func (d *door) begin(body fsm.Body, o origin) pending {
	c := fsm.Command{At: d.clock.now(), RequestID: o.RequestID, Who: o.Who, Why: o.Why, Body: body}
	b, err := c.Encode()
	if err != nil {
		return pending{err: err}
	}
	return pending{future: d.raft.Apply(b, enqueueTimeout)}
}

// wait returns when the entry is applied here, or it is known that it will not be.
func (p pending) wait() (fsm.Result, error) {
	if p.err != nil {
		return fsm.Result{}, p.err
	}
	if err := p.future.Error(); err != nil {
		return fsm.Result{}, raftError(err)
	}
	result, ok := p.future.Response().(fsm.Result)
	if !ok {
		return fsm.Result{}, api.Errorf(api.CodeInternal, "the state machine answered %T", p.future.Response())
	}
	return result, result.Err
}

// raftError says what became of a write.
func raftError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return notLeader()
	case raftnode.DiskFull(err):
		return api.Errorf(api.CodeNotLeader, "the disk of the server that led is full (%w): nothing was written", err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return api.Errorf(api.CodeBusy, "the leader's log is behind by more than %s: nothing was written, try again", enqueueTimeout)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrAbortedByRestore):
		return api.Errorf(api.CodeUnknown, "leadership was lost while writing (%w): the write may or may not have happened", err)
	}
	return fmt.Errorf("writing to the Raft log: %w", err)
}

func notLeader() error {
	return api.Errorf(api.CodeNotLeader, "this server does not lead: nothing was written")
}

// lostLeadership reports whether a loop's error only says that the leadership is over.
func lostLeadership(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNotLeader, api.CodeUnknown:
		return true
	}
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrRaftShutdown) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress)
}
