// Package fsm is what the cluster has agreed: the state that every server builds from the same log.
//
// A Machine takes commands one by one and never looks at a clock, a random number, a file or the network: the same log
// gives the same state everywhere, byte for byte. It knows nothing of Raft. Readers take a Snapshot, which costs next to
// nothing, never changes and never blocks the writer. DESIGN.md says why it is built this way, and what speaks against it.
//
// One file per noun holds its table, commands, reads and part of a snapshot: job, node, allocation, evaluation, port,
// device, request.
package fsm

import (
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

// Machine is the replicated state. Its methods are safe for concurrent use, but Apply and Restore are called by one
// caller at a time, in the order of the log.
type Machine struct {
	mu       sync.Mutex // guards state and snapshot
	state    *state
	snapshot *Snapshot // of the state as it is, once somebody has asked for it; nil after each change
	watches  watches
	observer Observer // nil: nobody
}

// Observer is told what happens. Its methods are called by Apply and Restore, in the order of the log, and must not block
// nor call the Machine.
type Observer interface {
	// Applied tells the events of one entry, in the order in which they happened. The array is used again after the call.
	Applied(index uint64, events []api.Event)
	// Restored tells that the state is another one now. What led to it is not known.
	Restored(index uint64)
}

// Observe has an observer told of all that happens from now on. It is called before the first Apply, if at all.
func (m *Machine) Observe(o Observer) { m.observer = o }

// New returns the state of a cluster before its first entry.
func New() *Machine {
	return &Machine{state: newState(), watches: watches{waiting: map[WatchKey]chan struct{}{}}}
}

// Result is what a command did.
type Result struct {
	Index      uint64
	Err        error           // *api.Error: refused, and nothing changed
	Registered []RegisteredJob // RegisterJobs; TagVersion, RevertJob, ScaleJob, RestartJob: of the one job
	Evaluation api.ID          // StopJob, StopAllocation: the job's open one, 0 for none
	Rejections []api.Rejection // CommitPlan
	Accepted   int             // CommitPlan: placements
	Unknown    []api.ID        // UpdateStatuses: not the reporting node's
	Replayed   bool            // the request ID was seen before: this is the first result, and nothing changed
}

// Apply takes over one entry. Index is its place in the log, greater than that of any entry before. A command that
// cannot be done is refused in Result.Err and changes nothing but the state's index and time.
//
// The command should be what Decode returned, even where it was made in the same process: JSON knows fewer kinds of
// numbers than Go, and the state must not depend on which server it was made on. Apply keeps parts of the command; the
// caller does not change it afterwards.
func (m *Machine) Apply(index uint64, c *Command) Result {
	m.mu.Lock()
	m.snapshot = nil
	result := m.state.apply(index, c)
	changed, events := m.state.changes, m.state.events
	m.state.changes, m.state.events = changed[:0], events[:0]
	if m.observer != nil {
		m.observer.Applied(index, events)
	}
	m.watches.wake(changed) // under the lock: the next Apply writes into the same arrays
	m.mu.Unlock()
	return result
}

// Snapshot returns the state as it is after the latest Apply: immutable, consistent, and made in constant time.
func (m *Machine) Snapshot() *Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.snapshot == nil {
		m.snapshot = &Snapshot{tables: m.state.tables.copy()}
	}
	return m.snapshot
}

// Restore replaces the whole state by one that Persist wrote, and wakes every watcher. On an error nothing has changed.
// The state's index becomes that of the snapshot; the log must go on from there or later (see Inspect).
func (m *Machine) Restore(r io.Reader) error {
	restored, err := restore(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.state, m.snapshot = restored, nil
	if m.observer != nil {
		m.observer.Restored(restored.index)
	}
	m.mu.Unlock()
	m.watches.wakeAll()
	return nil
}

// state is the writer's side: the tables, and what only the writer needs.
type state struct {
	tables
	handles map[string]uint32     // the names' numbers: the other direction of tables.names
	replies map[string]*request   // the remembered requests by ID
	changes []WatchKey            // what the entry being applied has changed
	nodely  *btree.BTreeG[string] // the jobs that want an instance on every node, stopped ones left out
	events  []api.Event           // what it has made happen
	by      string                // the person who asks for it, "" where it is one of ours
}

func newState() *state {
	return &state{tables: newTables(), handles: map[string]uint32{}, replies: map[string]*request{},
		nodely: newTree(func(a, b string) bool { return a < b })}
}

// apply brings the time up to date, then does what the command asks for.
func (s *state) apply(index uint64, c *Command) Result {
	if index <= s.index {
		return refused(index, api.Errorf(api.CodeConflict, "log entry %d is applied already: the state is at %d", index, s.index))
	}
	s.index = index
	s.now = max(s.now, c.At)
	s.changed[TableAny] = index
	s.by = ""
	if s.rules >= rulesTell {
		s.by = personOf(c.Who)
	}
	s.expireQuarantines()
	replay, hash, err := s.recall(c)
	if err != nil {
		return refused(index, err)
	}
	if replay != nil {
		return *replay
	}
	result := s.dispatch(c)
	if result.Err == nil {
		s.remember(c, hash, result)
	}
	s.timeline.Note(s.events)
	return result
}

// personOf is who asks for a change, if that is no loop of a server and no node: those name themselves with a stroke.
func personOf(who string) string {
	if strings.HasPrefix(who, "leader/") || strings.HasPrefix(who, "node/") {
		return ""
	}
	return who
}

func (s *state) dispatch(c *Command) Result {
	switch b := c.Body.(type) {
	case *InitCluster:
		return s.initCluster(b)
	case *RegisterJobs:
		return s.registerJobs(b, c.Who)
	case *StopJob:
		return s.stopJob(b, c.Who)
	case *StopAllocation:
		return s.stopAllocation(b)
	case *RegisterNode:
		return s.registerNode(b)
	case *NodeReady:
		return s.nodeReady(b)
	case *NodesDown:
		return s.nodesDown(b)
	case *SetEligibility:
		return s.setEligibility(b)
	case *DrainNode:
		return s.drainNode(b, c.Who)
	case *Rebalance:
		return s.rebalance(b, c.Who)
	case *CommitPlan:
		return s.commitPlan(b)
	case *UpdateStatuses:
		return s.updateStatuses(b)
	case *Reap:
		return s.reap(b)
	case *RaiseRules:
		return s.raiseRules(b)
	case *RaiseEpoch:
		return s.raiseEpoch(b)
	case *TagVersion:
		return s.tagVersion(b)
	case *RevertJob:
		return s.revertJob(b, c.Who)
	case *LaunchJob:
		return s.launchJob(b, c.Who)
	case *ScaleJob:
		return s.scaleJob(b, c.Who)
	case *RestartJob:
		return s.restartJob(b, c.Who)
	case *SteerDeployment:
		return s.steerDeployment(b, c.Who)
	case *JudgeDeployments:
		return s.judgeDeployments(b, c.Who)
	}
	return refused(s.index, api.Errorf(api.CodeInternal, "apply: a command without a body"))
}

func (s *state) initCluster(b *InitCluster) Result {
	if s.clusterID != "" {
		return refused(s.index, api.Errorf(api.CodeConflict, "the cluster has an ID already: %s", s.clusterID))
	}
	if b.ClusterID == "" {
		return refused(s.index, api.Errorf(api.CodeInvalid, "a cluster's ID must not be empty"))
	}
	s.clusterID, s.text = b.ClusterID, api.NewIDText(b.ClusterID)
	return s.done()
}

func (s *state) raiseRules(b *RaiseRules) Result {
	if b.Version < s.rules {
		return refused(s.index, api.Errorf(api.CodeInvalid, "the rules are at version %d and do not go back to %d", s.rules, b.Version))
	}
	if b.Version > RulesVersion { // Decode stops a server before this; in process there is a caller to tell
		return refused(s.index, api.Errorf(api.CodeIncompatible, "rules version %d is newer than this binary's %d", b.Version, RulesVersion))
	}
	s.rules = b.Version
	return s.done()
}

// raiseEpoch makes IDs differ from all that the cluster gave out after the restored snapshot was taken. The counter goes
// on, so that the eight digits that people see first stay unique among what the state knows.
func (s *state) raiseEpoch(b *RaiseEpoch) Result {
	s.epoch = max(s.epoch, b.Above) + 1
	for _, j := range s.jobs.all() {
		current := j.current()
		if current == nil || current.Stopped && s.tally(j.handle).live == 0 {
			continue
		}
		s.look(j, api.CauseRestore, "", nil)
	}
	return s.done()
}

// mint returns the next ID. An epoch holds four billion; the next one begins when they are used up.
func (s *state) mint() api.ID {
	if s.counter == ^uint32(0) {
		s.epoch++
		s.counter = 0
	}
	s.counter++
	return api.MakeID(s.epoch, s.counter)
}

// intern returns the handle of a name. Handles number names in the order in which this process met them, so they differ
// between servers: nothing that is replicated may depend on their values or their order.
func (s *state) intern(name string) uint32 {
	if h, ok := s.handles[name]; ok {
		return h
	}
	h := uint32(len(s.names))
	s.names = append(s.names, name) // snapshots hold the same array and look at its beginning only
	s.handles[name] = h
	return h
}

// persistNames writes every name that a row uses, sorted: handles differ between servers, places in a sorted list do not.
func (t *tables) persistNames(k *sink) {
	used := make([]bool, len(t.names))
	t.jobs.rows.Scan(func(j *job) bool {
		used[j.handle] = true
		for _, v := range j.versions {
			for _, h := range v.handles {
				used[h] = true
			}
		}
		return true
	})
	t.nodes.rows.Scan(func(n nodeRow) bool {
		used[n.handle] = true
		for _, d := range n.devices {
			used[d.id] = true
		}
		return true
	})
	t.allocations.rows.Scan(func(a allocation) bool { used[a.task] = true; return true })
	t.ports.bindings.Scan(func(b binding) bool { used[b.label] = true; return true })
	t.claims.Scan(func(c claim) bool { used[c.kind], used[c.device] = true, true; return true })
	var handles []uint32
	for h, is := range used {
		if is {
			handles = append(handles, uint32(h))
		}
	}
	slices.SortFunc(handles, func(a, b uint32) int { return strings.Compare(t.names[a], t.names[b]) })
	k.places = make([]uint32, len(t.names))
	for place, h := range handles {
		k.places[h] = uint32(place)
		k.string(t.names[h])
		k.row()
	}
}

func (s *state) restoreName(r *reader) {
	name := r.string()
	if _, twice := s.handles[name]; twice {
		r.fail("name %q is there twice", name)
		return
	}
	s.intern(name)
}

// handle reads a name's place; interning the sorted names in order has made the handle the next number.
func (s *state) handle(r *reader) uint32 {
	place := r.uvarint()
	if place+1 >= uint64(len(s.names)) {
		r.fail("it names what is not in its names")
		return 0
	}
	return uint32(place) + 1
}

// touch records that a row and its table have changed with the entry being applied.
func (s *state) touch(k WatchKey) {
	s.changed[k.Table] = s.index
	s.changes = append(s.changes, k)
}

// time is the state's time as rows have it.
func (s *state) time() time.Time { return time.Unix(0, s.now).UTC() }

func (s *state) done() Result { return Result{Index: s.index} }

func refused(index uint64, err error) Result { return Result{Index: index, Err: err} }

// Table names what a WatchKey is about.
type Table uint8

const (
	TableAny             Table = iota // anything at all, every entry
	TableJobs                         // Key: job name
	TableNodes                        // Key: node ID
	TableAllocations                  // ID: allocation
	TableEvaluations                  // ID: evaluation
	TableNodeAllocations              // Key: node ID; a change of any allocation on it
	TableJobAllocations               // Key: job name; a change of any allocation of it
	TableJobEvaluations               // Key: job name; a change of any evaluation of it
	TableRunnable                     // no key: there may be something for the scheduler
	TableDeployments                  // Key: job name; a change of any deployment of it
	TableRebalance                    // no key: the rebalance there is
	tableCount
)

// WatchKey names what to watch: a whole table (Key "" and ID 0) or one row of it.
type WatchKey struct {
	Table Table
	Key   string
	ID    api.ID
}

// Watch returns a channel that is closed at the next change of what k names, deletion included, and now and then without
// one. To miss nothing, take the channel first and look at a Snapshot then. Watching what does not exist (yet) is allowed.
// Restore wakes everybody.
func (m *Machine) Watch(k WatchKey) <-chan struct{} { return m.watches.channel(k) }

// maxWatches bounds what those leave behind who watched something that never changes and went away: when so many channels
// are waiting, all are closed, and whoever still cares comes again.
const maxWatches = 1 << 16

// watches are the channels that somebody may wait on. A channel is made when it is first asked for and forgotten when it
// is closed, so that what nobody waits for costs one failed look-up a change.
type watches struct {
	mu      sync.Mutex
	waiting map[WatchKey]chan struct{}
}

func (w *watches) channel(k WatchKey) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.waiting[k]
	if !ok {
		if len(w.waiting) >= maxWatches {
			w.closeAll()
		}
		c = make(chan struct{})
		w.waiting[k] = c
	}
	return c
}

// wake closes the channels of the changed rows and of their tables.
func (w *watches) wake(changed []WatchKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeOne(WatchKey{Table: TableAny})
	var tables [tableCount]bool
	for _, k := range changed {
		if len(w.waiting) == 0 {
			return
		}
		if !tables[k.Table] {
			tables[k.Table] = true
			w.closeOne(WatchKey{Table: k.Table})
		}
		w.closeOne(k)
	}
}

func (w *watches) closeOne(k WatchKey) {
	if c, ok := w.waiting[k]; ok {
		close(c)
		delete(w.waiting, k)
	}
}

func (w *watches) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeAll()
}

func (w *watches) closeAll() {
	for k := range w.waiting { // the order does not matter: all are closed
		w.closeOne(k)
	}
}

// TableIndex returns the index at which what k names last changed, at least 1. Deletions count: for a row that does not
// exist, it is that of the latest deletion from its table.
func (s *Snapshot) TableIndex(k WatchKey) uint64 {
	if k.Table >= tableCount {
		return 1
	}
	if k.Key == "" && k.ID == 0 {
		return max(1, s.changed[k.Table])
	}
	index, ok := s.rowIndex(k)
	if !ok {
		index = s.deleted[k.Table]
	}
	return max(1, index)
}

func (s *Snapshot) rowIndex(k WatchKey) (uint64, bool) {
	switch k.Table {
	case TableJobs:
		if job := s.Job(k.Key); job != nil {
			return job.ModifyIndex, true
		}
	case TableNodes:
		if node := s.Node(k.Key); node != nil {
			return node.ModifyIndex, true
		}
	case TableAllocations:
		a, ok := s.allocations.get(k.ID)
		return a.modify, ok
	case TableEvaluations:
		if e := s.Evaluation(k.ID); e != nil {
			return e.ModifyIndex, true
		}
	case TableNodeAllocations:
		n, ok := s.nodes.get(k.Key)
		return n.touched, ok
	case TableJobAllocations:
		if j := s.jobs.get(k.Key); j != nil {
			return s.tally(j.handle).allocations, true
		}
	case TableDeployments:
		if d := s.deployments.Newest(k.Key); d != nil {
			return d.ModifyIndex, true
		}
	case TableJobEvaluations:
		if j := s.jobs.get(k.Key); j != nil {
			return s.tally(j.handle).evaluations, true
		}
	}
	return 0, false
}
