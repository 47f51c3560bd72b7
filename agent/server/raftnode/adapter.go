package raftnode

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"cube/api"
	"cube/fsm"
)

// snapshotBytes is how much log makes a snapshot worth its while: entries differ a thousandfold in size, so their number
// says nothing.
const snapshotBytes = 64 << 20

// adapter hands committed entries to the state machine. An entry that cannot be decoded stops the server: the adapter
// freezes, so that nothing after the entry is applied or put into a snapshot, and calls fail.
type adapter struct {
	machine *fsm.Machine
	fail    func(error)         // called once
	audit   func(*fsm.Snapshot) // nil: nobody looks
	applied func(*raft.Log)     // called with the last entry of each batch
	grown   chan struct{}       // signalled when snapshotBytes of log were applied since the last snapshot

	frozen   error         // guarded by raft: Apply, Snapshot and Restore come from one goroutine
	bytes    atomic.Int64  // applied since the last snapshot
	restored atomic.Uint64 // the index of the state that Restore took over last
}

var _ raft.BatchingFSM = (*adapter)(nil)

func newAdapter(m *fsm.Machine, fail func(error), audit func(*fsm.Snapshot)) *adapter {
	return &adapter{machine: m, fail: fail, audit: audit, applied: func(*raft.Log) {}, grown: make(chan struct{}, 1)}
}

// Apply implements raft.FSM; the response is an fsm.Result.
func (a *adapter) Apply(l *raft.Log) any {
	if l.Type != raft.LogCommand {
		return nil // configurations come along in batches; raft keeps them itself
	}
	if a.frozen == nil {
		c, err := fsm.Decode(l.Data)
		if err == nil {
			a.count(len(l.Data))
			result := a.machine.Apply(l.Index, c)
			if a.audit != nil {
				a.audit(a.machine.Snapshot())
			}
			return result
		}
		a.frozen = api.Errorf(api.CodeIncompatible,
			"entry %d of the Raft log cannot be applied: %w; run the version of cube that wrote it, or remove the data directory whole and join again", l.Index, err)
		a.fail(a.frozen)
	}
	return fsm.Result{Err: a.frozen}
}

// ApplyBatch implements raft.BatchingFSM.
func (a *adapter) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		out[i] = a.Apply(l)
	}
	if len(logs) > 0 {
		a.applied(logs[len(logs)-1])
	}
	return out
}

// count signals growth each time another snapshotBytes are full.
func (a *adapter) count(n int) {
	after := a.bytes.Add(int64(n))
	if after/snapshotBytes == (after-int64(n))/snapshotBytes {
		return
	}
	a.signal()
}

func (a *adapter) signal() {
	select {
	case a.grown <- struct{}{}:
	default: // a snapshot is due already
	}
}

// Snapshot implements raft.FSM. It costs next to nothing: the state is copied on write.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	if a.frozen != nil {
		return nil, a.frozen
	}
	return &persister{a.machine.Snapshot()}, nil
}

// Restore implements raft.FSM.
func (a *adapter) Restore(r io.ReadCloser) error {
	defer r.Close()
	if a.frozen != nil {
		return a.frozen
	}
	if err := a.machine.Restore(r); err != nil {
		return fmt.Errorf("restoring a snapshot: %w", err)
	}
	a.restored.Store(a.machine.Snapshot().Index())
	return nil
}

// persister writes one snapshot.
type persister struct{ snapshot *fsm.Snapshot }

// Persist implements raft.FSMSnapshot.
func (p *persister) Persist(sink raft.SnapshotSink) error {
	if err := p.snapshot.Persist(sink); err != nil {
		sink.Cancel()
		return fmt.Errorf("writing snapshot %s: %w", sink.ID(), err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (p *persister) Release() {}
