package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"cube/api"
)

const (
	// logCacheSize is how many recent entries followers are served from memory; raft's own benchmark value.
	logCacheSize = 512
	// retainSnapshots keeps one to fall back on when the newest is damaged.
	retainSnapshots = 2
	// writeLimit is how long one write to raft.db may take. A disk that hangs longer makes a leader that keeps its
	// lease but commits nothing (hashicorp/raft #503, #612, #614): the process is better gone.
	writeLimit = 5 * time.Second
)

// serverKey holds the server's ID inside raft.db, so that a file copied from another server is told.
var serverKey = []byte("cube.server")

// store is an open data directory.
type store struct {
	dir    string
	lock   *os.File
	bolt   *raftboltdb.BoltStore
	snaps  *raft.FileSnapshotStore
	marker marker
	used   bool // it held Raft state when it was opened
}

// openStore locks and opens the data directory of the server id and refuses one whose state was lost or is another
// server's. id may be "" to take whoever the directory belongs to; then it must have state. volatile is Config.Volatile.
func openStore(dir, id string, volatile bool, logger hclog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, lock: lock}
	if err := s.open(id, volatile, logger); err != nil {
		s.close() // the reason is err
		return nil, err
	}
	return s, nil
}

func (s *store) open(id string, volatile bool, logger hclog.Logger) error {
	m, err := readMarker(s.dir)
	if err != nil {
		return err
	}
	if id == "" {
		if m == nil {
			return api.Errorf(api.CodeNotFound, "%s is not the data directory of a server: it has no %s", s.dir, markerFile)
		}
		id = m.ServerID
	}
	if m != nil && m.ServerID != id {
		return api.Errorf(api.CodeConflict, "%s belongs to server %s, not to this one (%s): use that server's identity, or another -data-dir", s.dir, m.ServerID, id)
	}
	path := filepath.Join(s.dir, raftFile)
	if err := checkRaftFile(path, m); err != nil {
		return err
	}
	if s.bolt, err = openBolt(path, volatile); err != nil {
		return err
	}
	if s.snaps, err = raft.NewFileSnapshotStoreWithLogger(s.dir, retainSnapshots, logger); err != nil {
		return fmt.Errorf("opening the snapshots in %s: %w", s.dir, err)
	}
	if s.used, err = raft.HasExistingState(s.bolt, s.bolt, s.snaps); err != nil {
		return damaged(path, err)
	}
	return s.identify(id, m)
}

// identify checks that what was opened is what the marker speaks of, or makes a new directory this server's own.
func (s *store) identify(id string, m *marker) error {
	path := filepath.Join(s.dir, raftFile)
	owner, err := s.bolt.Get(serverKey)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return damaged(path, err)
	}
	switch {
	case len(owner) > 0 && string(owner) != id:
		return api.Errorf(api.CodeConflict, "%s is the log of server %s, not of this one (%s): put the right file back, or remove %s whole and join again",
			path, owner, id, s.dir)
	case m == nil && s.used:
		return api.Errorf(api.CodeConflict, "%s holds state but %s is missing beside it: put it back, or remove %s whole and join again", path, markerFile, s.dir)
	case m == nil:
		if err := s.bolt.Set(serverKey, []byte(id)); err != nil {
			return fmt.Errorf("writing the server's ID to %s: %w", path, err)
		}
		s.marker = marker{Format: formatVersion, ServerID: id}
		return s.marker.write(s.dir)
	case len(owner) == 0:
		return lost(path, "it was emptied or replaced", s.dir)
	}
	reach, err := s.lastIndex()
	if err != nil {
		return damaged(path, err)
	}
	if reach < m.Index {
		return lost(path, fmt.Sprintf("it ends at index %d but this server had applied %d", reach, m.Index), s.dir)
	}
	s.marker = *m
	return nil
}

// lastIndex is how far the log and the snapshots together reach.
func (s *store) lastIndex() (uint64, error) {
	last, err := s.bolt.LastIndex()
	if err != nil {
		return 0, err
	}
	snaps, err := s.snaps.List()
	if err != nil {
		return 0, err
	}
	if len(snaps) > 0 {
		last = max(last, snaps[0].Index)
	}
	return last, nil
}

// mark raises the marker to an applied index.
func (s *store) mark(clusterID string, index uint64, recovered bool) error {
	if s.marker.ClusterID == clusterID && s.marker.Index == index && s.marker.Recovered == recovered {
		return nil
	}
	next := s.marker
	next.ClusterID, next.Index, next.Recovered = clusterID, index, recovered
	if err := next.write(s.dir); err != nil {
		return err
	}
	s.marker = next
	return nil
}

// close releases everything that is open; the lock last.
func (s *store) close() error {
	var err error
	if s.bolt != nil {
		err = s.bolt.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// checkRaftFile tells a raft.db that was emptied or cut short before bbolt maps it: touching a page beyond the end of
// the file would kill the process, and an empty file would become a new server that has forgotten its votes.
func checkRaftFile(path string, m *marker) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return lost(path, "it is missing", filepath.Dir(path))
	case err != nil:
		return fmt.Errorf("looking at the Raft log: %w", err)
	case info.Size() == 0 && m == nil:
		return nil
	case info.Size() == 0:
		return lost(path, "it is empty", filepath.Dir(path))
	}
	want, err := checkBolt(path, info.Size())
	if err != nil {
		return damaged(path, err)
	}
	if info.Size() < want {
		return lost(path, fmt.Sprintf("it has %d of %d bytes", info.Size(), want), filepath.Dir(path))
	}
	return nil
}

// checkBolt returns how long the database says it is, and if all of it is there goes through its pages: to rebuild the list
// of free pages, as openBolt has it done, bbolt goes through them too, but in a goroutine of its own, where a damaged one
// would be the end of the process.
func checkBolt(path string, have int64) (size int64, err error) {
	defer recoverFault(&err)
	defer guardFaults()()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		if size = tx.Size(); size > have {
			return nil
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			var last []byte
			return b.ForEach(func(key, _ []byte) error {
				if last != nil && bytes.Compare(last, key) >= 0 { // or a page that leads back to itself would have no end
					return fmt.Errorf("the keys of %q are out of order", name)
				}
				last = key
				return nil
			})
		})
	})
	return size, err
}

// openBolt opens raft.db. NoFreelistSync keeps a commit from rewriting the list of free pages, which grows with the log;
// it is rebuilt at the start by a scan of the file. A volatile file is not synced.
func openBolt(path string, volatile bool) (b *raftboltdb.BoltStore, err error) {
	defer func() {
		if err != nil {
			err = damaged(path, err)
		}
	}()
	defer recoverFault(&err)
	defer guardFaults()()
	return raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		MsgpackUseNewTimeFormat: true,
		NoSync:                  volatile,
		BoltOptions: &bbolt.Options{
			NoGrowSync:     volatile,
			Timeout:        time.Second,
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
}

// recoverFault turns bbolt's panics on damaged pages, and faults in its memory map, into an error of the caller.
func recoverFault(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%v", p)
	}
}

// guardFaults makes a fault in a memory map a panic, which recoverFault catches, instead of the end of the process. The
// returned function puts the setting of this goroutine back.
func guardFaults() (restore func()) {
	old := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(old) }
}

func lost(path, what, dir string) error {
	return api.Errorf(api.CodeConflict, "%s has lost state: %s; a server that forgets must not vote: restore %s from a copy, or remove it whole and start with -join",
		path, what, dir)
}

func damaged(path string, err error) error {
	if isFull(err) {
		return api.Errorf(api.CodeUnavailable, "the disk of %s is full (%w): make room, and start again", path, err)
	}
	return api.Errorf(api.CodeConflict, "%s is damaged (%w): restore the data directory from a copy, or remove it whole and start with -join", path, err)
}

// watchedStore is raft.db with a watchdog: a write that takes longer than limit calls hung, while the write goes on
// hanging. It also tells room what became of writes.
type watchedStore struct {
	*raftboltdb.BoltStore
	limit time.Duration
	hung  func(error)
	room  *room
	alone func() bool // this server is the only voter
}

// looks is how often the watchdog looks before it calls a write hanging. One that looked once would take the time for the disk's in
// which the whole process stood still, as with its machine.
const looks = 5

func (w *watchedStore) watch(what string) (stop func()) {
	var mu sync.Mutex // guards what follows
	left, over := looks, false
	var t *time.Timer
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(w.limit/looks, func() {
		mu.Lock()
		defer mu.Unlock()
		switch left--; {
		case over:
		case left > 0:
			t.Reset(w.limit / looks)
		default:
			w.hung(api.Errorf(api.CodeUnavailable, "the disk hangs: %s has not returned for %s; this server stops so that another can lead", what, w.limit))
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		t.Stop()
	}
}

func (w *watchedStore) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

func (w *watchedStore) StoreLogs(logs []*raft.Log) error {
	defer w.watch("a write to the Raft log")()
	err := w.BoltStore.StoreLogs(logs)
	w.room.wrote(err)
	return err
}

// deleteAtOnce is how many entries are deleted in one transaction, which appends wait for: some milliseconds' worth.
const deleteAtOnce = 1000

// DeleteRange deletes what is compacted in steps, from the first entry on, between which entries are appended. What is cut from the
// log's end goes in one step: half of it would leave a hole.
func (w *watchedStore) DeleteRange(first, last uint64) error {
	end, err := w.LastIndex()
	if err != nil {
		return err
	}
	for last < end && first+deleteAtOnce <= last {
		if err := w.delete(first, first+deleteAtOnce-1); err != nil {
			return err
		}
		first += deleteAtOnce
	}
	return w.delete(first, last)
}

func (w *watchedStore) delete(first, last uint64) error {
	// Up to 64 MiB of entries may be cut from the end and may well take seconds; appends wait for it, so it counts too, but with patience.
	defer (&watchedStore{limit: 6 * w.limit, hung: w.hung}).watch("a deletion from the Raft log")()
	return w.BoltStore.DeleteRange(first, last)
}

func (w *watchedStore) Set(key, value []byte) error {
	defer w.watch("a write to the Raft store")()
	return w.must(w.BoltStore.Set(key, value))
}

// SetUint64 implements raft.StableStore. The only voter would elect itself, fail and elect itself again as long as its disk is full;
// it waits for room before the next term.
func (w *watchedStore) SetUint64(key []byte, value uint64) error {
	if w.room.full.Load() && w.alone() {
		w.room.await()
	}
	defer w.watch("a write to the Raft store")()
	return w.must(w.BoltStore.SetUint64(key, value))
}
