package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/deployment"
	"cube/fsm/timeline"
)

// Snapshot is the state at one index. It never changes and may be used by any number of goroutines; what it returns is
// shared, so a reader that wants to change something copies it first. It keeps its part of memory alive: let go of it
// when the answer is written.
type Snapshot struct{ tables }

// tables are all that is agreed, and the indexes over it. A copy takes constant time: the trees share their nodes, and
// whoever writes next copies the nodes that it changes.
type tables struct {
	index     uint64
	now       int64 // Unix nanoseconds: the greatest time that any command carried
	clusterID string
	text      api.IDText
	rules     uint16
	epoch     uint32
	counter   uint32             // the latest ID of the epoch
	changed   [tableCount]uint64 // by table: the index of the latest change
	deleted   [tableCount]uint64 // by table: the index of the latest deletion, in place of the rows that are gone
	freed     uint64             // the index at which room was last freed somewhere: blocked evaluations may go on
	names     []string           // by handle; 0 is no name

	jobs        jobTables
	nodes       nodeTables
	allocations allocationTables
	ports       portTables
	claims      *btree.BTreeG[claim] // of devices
	evaluations evaluationTables
	requests    requestTable
	deployments deployment.Table
	timeline    timeline.Table
}

func newTables() tables {
	return tables{
		rules: firstRules, names: make([]string, 1),
		jobs: newJobTables(), nodes: newNodeTables(), allocations: newAllocationTables(), ports: newPortTables(), claims: newClaims(),
		evaluations: newEvaluationTables(), requests: newRequestTable(), deployments: deployment.New(),
		timeline: timeline.New(),
	}
}

// copy returns tables that later writes to t do not change. Only the writer may call it: copying marks t's tree nodes as
// shared.
func (t *tables) copy() tables {
	c := *t
	c.jobs, c.nodes, c.allocations = t.jobs.copy(), t.nodes.copy(), t.allocations.copy()
	c.ports, c.claims = t.ports.copy(), t.claims.Copy()
	c.evaluations, c.requests, c.deployments, c.timeline = t.evaluations.copy(), t.requests.copy(), t.deployments.Copy(), t.timeline.Copy()
	return c
}

// newTree makes a table or an index. Our own lock stands around all writes, and readers have a copy. Degree 32 was
// measured best for rows of about a hundred bytes: half the inserts' cost at degree 8, and no more copying than 64.
func newTree[T any](less func(a, b T) bool) *btree.BTreeG[T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: 32})
}

// Index is the place in the log of the latest entry that the snapshot has seen.
func (s *Snapshot) Index() uint64 { return s.index }

// ClusterID is "" before the first entry.
func (s *Snapshot) ClusterID() string { return s.clusterID }

// Epoch is the high half of the IDs being given out. It grows when a snapshot was restored.
func (s *Snapshot) Epoch() uint32 { return s.epoch }

// Rules is the version of the checks in force.
func (s *Snapshot) Rules() uint16 { return s.rules }

// Text converts IDs to what people see.
func (s *Snapshot) Text() api.IDText { return s.text }

// Now is the state's time in Unix nanoseconds: the greatest that any command carried. It stands still while nothing is
// committed.
func (s *Snapshot) Now() int64 { return s.now }

// Due is the time, in Unix nanoseconds, at which something in the state expires that somebody may wait for; 0 for
// nothing. Since only entries move the state's time, the leader commits one (an empty Reap) when Due has come.
func (s *Snapshot) Due() int64 {
	first, _ := s.ports.expiry.Min()
	return first.until
}

// Header is what a persisted snapshot says of itself.
type Header struct {
	Format    uint16
	Index     uint64 // of the latest entry it has seen
	ClusterID string
	Epoch     uint32
}

// A persisted snapshot is the magic word and the format's number, then sections: a tag, then blocks of whole rows, each
// led by its length, until one of length zero. The last section's tag stands alone and the SHA-256 of all before follows.
//
// A state is written in the lowest format that can hold it: 2 has the section of claims, and is used where there are any; 3
// has versions of jobs that say more of themselves than what they ask for; 4 has the section of health, and is used where
// something runs and is not healthy; 5 has the section of what is to stop without delay; 6 has jobs that want an instance on every
// node, which a server that knows format 5 would take for jobs of one instance; 7 has deployments; 8 has the timelines of jobs; 9 has the section of what was
// placed again after a failure, or an evaluation that waits for a time; 10 has nodes that are
// drained, or dates of their eligibility; 11 has versions that know of restarts; 12 has jobs that launch others, or were launched; 13 has the section of the
// latest rebalance; 14 has jobs that are dispatched, which a server that knows format 13 would run at once; 15 has nodes
// that are away while instances of them are kept, or were; 16 has nodes that say who made them eligible or not, and why. So a cluster without devices can
// be joined by a server that knows format 1 only, and
// equal states have one fingerprint.
const (
	snapshotMagic  = "CUBESNAP"
	snapshotFormat = 16
	blockSize      = 64 << 10 // a block is closed by the row that makes it this long
	maxBlock       = 1 << 30  // what no row reaches
)

// The sections, in their order in the file.
const (
	sectionEnd uint8 = iota
	sectionState
	sectionNames
	sectionRequests
	sectionNodes
	sectionJobs
	sectionCompleted
	sectionAllocations
	sectionQuarantines
	sectionEvaluations
	sectionClaims      // from format 2 on
	sectionHealth      // from format 4 on
	sectionHurry       // from format 5 on
	sectionDeployments // from format 7 on
	sectionTimeline    // from format 8 on
	sectionTrials      // from format 9 on
	sectionRebalance   // from format 13 on
)

// sink writes a snapshot and adds up its digest. The first error sticks.
type sink struct {
	writer           // the block being filled
	to     io.Writer // where blocks go
	sum    hash.Hash // of all that went
	places []uint32  // by handle: the name's place in the names section
	err    error
}

func (k *sink) raw(p []byte) {
	if k.err == nil {
		k.sum.Write(p)
		_, k.err = k.to.Write(p)
	}
}

// section writes rows until fill returns; fill calls row after each.
func (k *sink) section(tag uint8, fill func()) {
	k.raw([]byte{tag})
	fill()
	k.flush()
	k.raw([]byte{0})
}

func (k *sink) row() bool {
	if len(k.b) >= blockSize {
		k.flush()
	}
	return k.err == nil
}

func (k *sink) flush() {
	if len(k.b) > 0 {
		k.raw(binary.AppendUvarint(nil, uint64(len(k.b))))
		k.raw(k.b)
		k.b = k.b[:0]
	}
}

func (k *sink) name(handle uint32) { k.uvarint(uint64(k.places[handle])) }

func (k *sink) json(v any) {
	b, err := json.Marshal(v)
	if err != nil && k.err == nil {
		k.err = err
	}
	k.bytes(b)
}

// Persist writes the state: streaming, the same bytes for equal states on every server, with a digest at the end.
func (s *Snapshot) Persist(w io.Writer) error {
	_, err := s.persist(w)
	if err != nil {
		return fmt.Errorf("write a snapshot of index %d: %w", s.index, err)
	}
	return nil
}

// Fingerprint is the digest of what Persist writes: equal for equal states, whatever way they came about.
func (s *Snapshot) Fingerprint() [32]byte {
	sum, err := s.persist(io.Discard)
	if err != nil {
		panic(fmt.Sprintf("fsm: fingerprint of index %d: %v", s.index, err)) // nothing that was decoded fails to encode
	}
	return sum
}

// annotated reports whether a version says what format 2 of a snapshot does not know.
func annotated(j *api.Job) bool {
	return j.SubmittedBy != "" || j.Origin != "" || j.Scaled != nil || len(j.Tags) > 0 || j.Stable
}

func (t *tables) persist(w io.Writer) (digest [sha256.Size]byte, err error) {
	k := &sink{to: w, sum: sha256.New()}
	format := t.format()
	k.raw(binary.LittleEndian.AppendUint16([]byte(snapshotMagic), format))
	k.section(sectionState, func() { t.persistState(k) })
	k.section(sectionNames, func() { t.persistNames(k) })
	k.section(sectionRequests, func() { t.requests.persist(k) })
	k.section(sectionNodes, func() { t.nodes.persist(k) })
	k.section(sectionJobs, func() { t.persistJobs(k) })
	k.section(sectionCompleted, func() { t.jobs.persistCompleted(k) })
	k.section(sectionAllocations, func() { t.persistAllocations(k) })
	k.section(sectionQuarantines, func() { t.ports.persistQuarantines(k) })
	k.section(sectionEvaluations, func() { t.evaluations.persist(k) })
	if format >= 2 {
		k.section(sectionClaims, func() { t.persistClaims(k) })
	}
	if format >= 4 {
		k.section(sectionHealth, func() { t.allocations.persistHealth(k) })
	}
	if format >= 5 {
		k.section(sectionHurry, func() { t.allocations.persistHurry(k) })
	}
	if format >= 7 {
		k.section(sectionDeployments, func() { t.persistDeployments(k) })
	}
	if format >= 8 {
		k.section(sectionTimeline, func() { t.persistTimeline(k) })
	}
	if format >= 9 {
		k.section(sectionTrials, func() { t.allocations.persistTrials(k) })
	}
	if format >= 13 {
		k.section(sectionRebalance, func() { t.nodes.persistRebalance(k) })
	}
	k.raw([]byte{sectionEnd})
	k.sum.Sum(digest[:0])
	if k.err == nil {
		_, k.err = w.Write(digest[:])
	}
	return digest, k.err
}

func (t *tables) persistState(k *sink) {
	k.uvarint(t.index)
	k.string(t.clusterID)
	k.uvarint(uint64(t.epoch))
	k.uvarint(uint64(t.counter))
	k.uvarint(uint64(t.rules))
	k.varint(t.now)
	k.uvarint(t.freed)
	k.uvarint(uint64(tableCount))
	for i := range tableCount {
		k.uvarint(t.changed[i])
		k.uvarint(t.deleted[i])
	}
}

func (s *state) restoreState(r *reader) {
	s.index = r.uvarint()
	s.clusterID = r.string()
	s.epoch, s.counter, s.rules = uint32(r.atMost(1<<32-1)), uint32(r.atMost(1<<32-1)), uint16(r.atMost(1<<16-1))
	s.now, s.freed = r.varint(), r.uvarint()
	for i := range r.count(2) {
		changed, deleted := r.uvarint(), r.uvarint()
		if i < int(tableCount) {
			s.changed[i], s.deleted[i] = changed, deleted
		}
	}
	if s.clusterID != "" {
		s.text = api.NewIDText(s.clusterID)
	}
}

// source reads a snapshot, adding up the digest.
type source struct {
	from   *bufio.Reader
	sum    hash.Hash
	format uint16
}

var (
	errEndsEarly = errors.New("it ends early")
	errReading   = errors.New("reading it failed")
)

// unread tells a snapshot that is too short from a reader that fails.
func unread(err error) error {
	if err == io.EOF {
		return errEndsEarly
	}
	return fmt.Errorf("%w: %w", errReading, err)
}

func openSnapshot(r io.Reader) (*source, error) {
	src := &source{from: bufio.NewReaderSize(r, blockSize), sum: sha256.New()}
	head, err := src.take(uint64(len(snapshotMagic) + 2))
	if err != nil {
		return nil, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errors.New("it is not a snapshot of Cube")
	}
	if src.format = binary.LittleEndian.Uint16(head[len(snapshotMagic):]); src.format > snapshotFormat {
		return nil, fmt.Errorf("its format is %d, this binary reads up to %d: it is %w", src.format, snapshotFormat, ErrNewer)
	}
	return src, nil
}

// last is the last section of the snapshot's format.
func (src *source) last() uint8 {
	switch {
	case src.format < 2:
		return sectionEvaluations
	case src.format < 4:
		return sectionClaims
	case src.format < 5:
		return sectionHealth
	case src.format < 7:
		return sectionHurry
	case src.format < 8:
		return sectionDeployments
	case src.format < 9:
		return sectionTimeline
	case src.format < 13:
		return sectionTrials
	}
	return sectionRebalance
}

// take reads n bytes. The buffer grows with what really comes, whatever n claims.
func (src *source) take(n uint64) ([]byte, error) {
	if n > maxBlock {
		return nil, fmt.Errorf("it announces a block of %d bytes", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, src.from, int64(n)); err != nil {
		return nil, unread(err)
	}
	src.sum.Write(b.Bytes())
	return b.Bytes(), nil
}

func (src *source) ReadByte() (byte, error) {
	c, err := src.from.ReadByte()
	if err != nil {
		return 0, unread(err)
	}
	src.sum.Write([]byte{c})
	return c, nil
}

// section reads the section with the tag, and calls row until each of its blocks is used up. Without row it only reads.
func (src *source) section(tag uint8, row func(*reader)) error {
	if found, err := src.ReadByte(); err != nil {
		return err
	} else if found != tag {
		return fmt.Errorf("section %d stands where section %d belongs", found, tag)
	}
	for {
		n, err := binary.ReadUvarint(src)
		if err != nil || n == 0 {
			return err
		}
		block, err := src.take(n)
		if err != nil {
			return err
		}
		for r := (reader{b: block}); row != nil && (r.left() > 0 || r.err != nil); {
			if row(&r); r.err != nil {
				return fmt.Errorf("section %d: %w", tag, r.err)
			}
		}
	}
}

// end reads the digest and compares it; nothing may follow.
func (src *source) end() error {
	if tag, err := src.ReadByte(); err != nil {
		return err
	} else if tag != sectionEnd {
		return fmt.Errorf("section %d stands where the end belongs", tag)
	}
	want := src.sum.Sum(nil)
	got, err := src.take(sha256.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("its digest does not match")
	}
	switch _, err := src.from.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("something follows its end")
	default:
		return unread(err)
	}
}

// Inspect verifies a persisted snapshot and returns what it says of itself. The error, an *api.Error, wraps ErrNewer for
// a format that this binary does not read yet, the reader's own error where that fails, and ErrDamaged otherwise.
func Inspect(r io.Reader) (Header, error) {
	var h Header
	s := newState()
	src, err := openSnapshot(r)
	if err == nil {
		h.Format = src.format
		err = src.section(sectionState, s.restoreState)
	}
	for tag := sectionNames; err == nil && tag <= src.last(); tag++ {
		err = src.section(tag, nil)
	}
	if err == nil {
		err = src.end()
	}
	h.Index, h.ClusterID, h.Epoch = s.index, s.clusterID, s.epoch
	return h, snapshotError(err)
}

func snapshotError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNewer):
		return api.Errorf(api.CodeIncompatible, "read a snapshot: %w", err)
	case errors.Is(err, errReading):
		return api.Errorf(api.CodeInternal, "read a snapshot: %w", err)
	}
	return api.Errorf(api.CodeInvalid, "read a snapshot: %w", fmt.Errorf("it is %w: %w", ErrDamaged, err))
}

// restore builds a state from what Persist wrote.
func restore(r io.Reader) (*state, error) {
	s := newState()
	src, err := openSnapshot(r)
	if err != nil {
		return nil, snapshotError(err)
	}
	l := loading{state: s}
	for _, section := range []struct {
		tag uint8
		row func(*reader)
	}{
		{sectionState, s.restoreState}, {sectionNames, s.restoreName}, {sectionRequests, s.restoreRequest},
		{sectionNodes, s.restoreNode}, {sectionJobs, s.restoreJob}, {sectionCompleted, s.restoreCompleted},
		{sectionAllocations, l.restoreAllocation}, {sectionQuarantines, s.restoreQuarantine},
		{sectionEvaluations, s.restoreEvaluation}, {sectionClaims, s.restoreClaims}, {sectionHealth, s.restoreHealth},
		{sectionHurry, s.restoreHurry}, {sectionDeployments, s.restoreDeployment},
		{sectionTimeline, s.restoreTimeline}, {sectionTrials, s.restoreTrial}, {sectionRebalance, s.restoreRebalance},
	} {
		if section.tag > src.last() {
			break
		}
		if err := src.section(section.tag, section.row); err != nil {
			return nil, snapshotError(err)
		}
	}
	if err := src.end(); err != nil {
		return nil, snapshotError(err)
	}
	l.end()
	s.recountAll()
	return s, nil
}
