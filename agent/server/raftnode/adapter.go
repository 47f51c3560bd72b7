package raftnode

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"cube/api"
	"cube/fsm"
)

// How much log makes a snapshot worth its while: as much as the last snapshot was large, within these bounds. Entries differ
// a thousandfold in size, so their number says nothing. A small state is written in no time, and a server that starts
// again has little log to replay; while it replays, it casts no vote.
const (
	minSnapshotBytes = 16 << 20
	maxSnapshotBytes = 64 << 20
	// restEvery is how long a snapshot is written at a time: then it rests for as long. Nobody waits for it, and a state of a million
	// allocations takes a core for seconds.
	restEvery = 5 * time.Millisecond
	restMost  = 10 * restEvery // one write may have waited for its disk, or the process stood still: that is no reason to rest
)

// adapter hands committed entries to the state machine. An entry that cannot be decoded stops the server: the adapter
// freezes, so that nothing after the entry is applied or put into a snapshot, and calls fail.
type adapter struct {
	machine *fsm.Machine
	fail    func(error)         // called once
	audit   func(*fsm.Snapshot) // nil: nobody looks
	applied func(*raft.Log)     // called with the last entry of each batch
	grown   chan struct{}       // signalled when a snapshot is due

	// Guarded by raft: Apply, Snapshot and Restore come from one goroutine.
	frozen error
	bytes  int64 // applied since the last snapshot

	stagger  func(limit int64) int64
	limit    atomic.Int64  // of bytes, when a snapshot is due
	restored atomic.Uint64 // the index of the state that Restore took over last
}

var _ raft.BatchingFSM = (*adapter)(nil)

func newAdapter(m *fsm.Machine, fail func(error), audit func(*fsm.Snapshot)) *adapter {
	a := &adapter{machine: m, fail: fail, audit: audit, applied: func(*raft.Log) {}, grown: make(chan struct{}, 1), stagger: stagger}
	a.sized(0)
	return a
}

// sized takes note of how large the last snapshot was.
func (a *adapter) sized(bytes int64) {
	limit := min(max(bytes, minSnapshotBytes), maxSnapshotBytes)
	a.limit.Store(limit + a.stagger(limit))
}

// stagger keeps servers, which all apply the same entries, from all writing their snapshots in the same second: most of them are to
// be free to acknowledge.
func stagger(limit int64) int64 { return rand.Int64N(limit / 2) }

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

// count signals growth when a snapshot is due, and again each time as much was added.
func (a *adapter) count(n int) {
	limit := a.limit.Load()
	due := a.bytes / limit
	a.bytes += int64(n)
	if a.bytes/limit > due {
		a.signal()
	}
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
	a.bytes = 0
	return &persister{a.machine.Snapshot(), a.sized}, nil
}

// Restore implements raft.FSM.
func (a *adapter) Restore(r io.ReadCloser) error {
	defer r.Close()
	if a.frozen != nil {
		return a.frozen
	}
	counted := &counter{r: r}
	if err := a.machine.Restore(counted); err != nil {
		return fmt.Errorf("restoring a snapshot: %w", err)
	}
	a.bytes = 0
	a.sized(counted.bytes)
	a.restored.Store(a.machine.Snapshot().Index())
	return nil
}

// persister writes one snapshot.
type persister struct {
	snapshot *fsm.Snapshot
	sized    func(int64) // told how large it became
}

// Persist implements raft.FSMSnapshot.
func (p *persister) Persist(sink raft.SnapshotSink) error {
	counted := &counter{w: &paced{w: sink, began: time.Now()}}
	if err := p.snapshot.Persist(counted); err != nil {
		sink.Cancel()
		return fmt.Errorf("writing snapshot %s: %w", sink.ID(), err)
	}
	if err := sink.Close(); err != nil {
		return err
	}
	p.sized(counted.bytes)
	return nil
}

// Release implements raft.FSMSnapshot.
func (p *persister) Release() {}

// counter counts the bytes of a snapshot that pass it one way or the other.
type counter struct {
	r     io.Reader
	w     io.Writer
	bytes int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bytes += int64(n)
	return n, err
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.bytes += int64(n)
	return n, err
}

// paced rests as long as it writes, so that what is applied and sent meanwhile finds a processor.
type paced struct {
	w     io.Writer
	began time.Time
}

func (p *paced) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if spent := time.Since(p.began); spent >= restEvery && err == nil {
		time.Sleep(min(spent, restMost))
		p.began = time.Now()
	}
	return n, err
}
