package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"

	"cube/api"
)

// stateFormat is the format of state.db that this version writes. A greater one is refused, never guessed at.
const stateFormat = 1

// remembered is what the client knows of its cluster.
type remembered struct {
	Cluster string
	Epoch   uint32
	Index   uint64 // the latest one seen
	Servers []string
	Cut     time.Time `json:",omitzero"` // since when no server was heard of; zero: one was, when this was written
}

// specKey names a version of a job.
type specKey struct {
	Job     string
	Version uint64
}

// saved is everything in state.db.
type saved struct {
	Node        string
	Cluster     remembered
	Allocations []allocation
	Specs       map[specKey][]byte // as the servers encoded them
}

// batch is a set of changes: a nil value deletes.
type batch struct {
	Cluster     []byte // nil: unchanged
	Allocations map[api.ID][]byte
	Specs       map[specKey][]byte
}

func (b *batch) empty() bool {
	return b.Cluster == nil && len(b.Allocations) == 0 && len(b.Specs) == 0
}

func (b *batch) allocation(id api.ID, v []byte) {
	if b.Allocations == nil {
		b.Allocations = map[api.ID][]byte{}
	}
	b.Allocations[id] = v
}

func (b *batch) spec(key specKey, v []byte) {
	if b.Specs == nil {
		b.Specs = map[specKey][]byte{}
	}
	b.Specs[key] = v
}

// store keeps the client's state. A batch is saved as a whole or not at all.
type store interface {
	Save(b *batch) error
	Close() error
}

// errDamaged marks a state file whose contents can not be trusted.
var errDamaged = errors.New("state.db is damaged")

var (
	bucketMeta        = []byte("meta")
	bucketAllocations = []byte("allocations")
	bucketSpecs       = []byte("specs")
	keyFormat         = []byte("format")
	keyNode           = []byte("node")
	keyCluster        = []byte("cluster")
)

// boltStore is a store in a bbolt file. Every value carries a checksum: bbolt checks its two head pages only.
type boltStore struct{ db *bbolt.DB }

// openState opens the file, or makes it, and reads all of it. errDamaged (wrapped): what is in it can not be read; any
// other error means that it must be left as it is.
func openState(path string) (s *boltStore, out *saved, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a file cut short faults where it is mapped
	var file *os.File
	defer func() {
		if p := recover(); p != nil {
			if file != nil {
				_ = file.Close() // bbolt did not get to it
			}
			s, out, err = nil, nil, fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	})
	if err != nil {
		if isSystem(err) {
			return nil, nil, fmt.Errorf("open %s: %w", path, err)
		}
		return nil, nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	out, err = load(db, file)
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return &boltStore{db: db}, out, nil
}

// isSystem tells the operating system's refusals from those of the file's contents.
func isSystem(err error) bool {
	var path *os.PathError
	var call *os.SyscallError
	return errors.As(err, &path) || errors.As(err, &call) || errors.Is(err, bbolt.ErrTimeout)
}

func load(db *bbolt.DB, file *os.File) (*saved, error) {
	out := &saved{Specs: map[specKey][]byte{}}
	err := db.View(func(tx *bbolt.Tx) error {
		if info, err := file.Stat(); err != nil {
			return err
		} else if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d of %d bytes", errDamaged, info.Size(), tx.Size())
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return nil // new
		}
		if err := loadMeta(meta, out); err != nil {
			return err
		}
		return loadRows(tx, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func loadMeta(meta *bbolt.Bucket, out *saved) error {
	format, err := unseal(meta.Get(keyFormat))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(format))
	if err != nil {
		return fmt.Errorf("%w: its format is %q", errDamaged, format)
	}
	if n > stateFormat {
		return api.Errorf(api.CodeIncompatible,
			"the client's state.db has format %d and this version of cube reads up to %d: run the newer version again", n, stateFormat)
	}
	node, err := unseal(meta.Get(keyNode))
	if err != nil {
		return err
	}
	out.Node = string(node)
	if v := meta.Get(keyCluster); v != nil {
		return decode(v, &out.Cluster)
	}
	return nil
}

func loadRows(tx *bbolt.Tx, out *saved) error {
	if b := tx.Bucket(bucketAllocations); b != nil {
		err := b.ForEach(func(k, v []byte) error {
			var a allocation
			if err := decode(v, &a); err != nil {
				return err
			}
			out.Allocations = append(out.Allocations, a)
			return nil
		})
		if err != nil {
			return err
		}
	}
	b := tx.Bucket(bucketSpecs)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		body, err := unseal(v)
		if err != nil {
			return err
		}
		if len(k) < 8 {
			return fmt.Errorf("%w: a key of %d bytes", errDamaged, len(k))
		}
		key := specKey{Version: binary.BigEndian.Uint64(k), Job: string(k[8:])}
		out.Specs[key] = append([]byte(nil), body...)
		return nil
	})
}

// claim writes whose file it is into a new one.
func (s *boltStore) claim(node string) error {
	return s.update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		if err := meta.Put(keyFormat, seal(strconv.AppendInt(nil, stateFormat, 10))); err != nil {
			return err
		}
		if err := meta.Put(keyNode, seal([]byte(node))); err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(bucketAllocations); err != nil {
			return err
		}
		_, err = tx.CreateBucketIfNotExists(bucketSpecs)
		return err
	})
}

// Save writes a batch in one transaction.
func (s *boltStore) Save(b *batch) error {
	return s.update(func(tx *bbolt.Tx) error {
		if b.Cluster != nil {
			if err := tx.Bucket(bucketMeta).Put(keyCluster, seal(b.Cluster)); err != nil {
				return err
			}
		}
		rows := tx.Bucket(bucketAllocations)
		for id, v := range b.Allocations {
			if err := put(rows, binary.BigEndian.AppendUint64(nil, uint64(id)), v); err != nil {
				return err
			}
		}
		specs := tx.Bucket(bucketSpecs)
		for key, v := range b.Specs {
			if err := put(specs, append(binary.BigEndian.AppendUint64(nil, key.Version), key.Job...), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// update runs a transaction. A panic of bbolt, which means that a page is not what it should be, is errDamaged.
func (s *boltStore) update(f func(tx *bbolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return s.db.Update(f)
}

// Close closes the file.
func (s *boltStore) Close() error { return s.db.Close() }

func put(b *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		return b.Delete(key)
	}
	return b.Put(key, seal(value))
}

func seal(v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, len(v)+4), checksum(v)), v...)
}

func unseal(v []byte) ([]byte, error) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != checksum(v[4:]) {
		return nil, fmt.Errorf("%w: a value of %d bytes does not match its checksum", errDamaged, len(v))
	}
	return v[4:], nil
}

func checksum(v []byte) uint32 { return crc32.Checksum(v, crc32.MakeTable(crc32.Castagnoli)) }

func decode(v []byte, into any) error {
	body, err := unseal(v)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %v", errDamaged, err)
	}
	return nil
}

// encode writes what decode reads, before it is sealed.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return b, nil
}

// saver writes the client's state behind the runner's back: the runner hands it changes and goes on. What the file lacks
// after a crash is found again by the drivers' labels, so nothing waits for the disk, and a full disk only means that the
// file is behind until there is room again.
type saver struct {
	log     hclog.Logger
	st      store
	reopen  func(damaged bool) (store, error) // a store anew, when there is none or it is damaged
	rewrite func()                            // asks for everything to be put again, after reopen

	mu      sync.Mutex // guards what follows
	pending batch
	trouble error // why the latest write failed; nil when it did not

	wake chan struct{} // holds one: there is something pending
}

func newSaver(log hclog.Logger, st store) *saver {
	return &saver{log: log, st: st, wake: make(chan struct{}, 1)}
}

// put adds changes to what is pending.
func (s *saver) put(b *batch) {
	if b.empty() {
		return
	}
	s.mu.Lock()
	s.pending.merge(b)
	s.mu.Unlock()
	s.nudge()
}

func (s *saver) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// merge puts the newer changes n over b.
func (b *batch) merge(n *batch) {
	if n.Cluster != nil {
		b.Cluster = n.Cluster
	}
	for id, v := range n.Allocations {
		b.allocation(id, v)
	}
	for key, v := range n.Specs {
		b.spec(key, v)
	}
}

// The wait after a write that failed, doubling: a full disk is seldom emptied within a second.
const (
	saveDelay    = time.Second
	saveMaxDelay = 30 * time.Second
)

// run writes until ctx is done, then once more, and closes the store. It is woken by put.
func (s *saver) run(ctx context.Context) error {
	fails := 0
	for {
		var retry <-chan time.Time
		if err := s.write(); err != nil {
			retry = time.After(backoff(saveDelay, saveMaxDelay, fails))
			fails++
		} else {
			fails = 0
		}
		select {
		case <-s.wakeUnless(retry != nil):
		case <-retry:
		case <-ctx.Done():
			err := s.write()
			if s.st != nil {
				err = errors.Join(err, s.st.Close())
			}
			return err
		}
	}
}

// wakeUnless is s.wake, or nothing to wait on while a failed write waits for its retry.
func (s *saver) wakeUnless(waiting bool) <-chan struct{} {
	if waiting {
		return nil
	}
	return s.wake
}

// write saves what is pending. What could not be saved is pending again, under what came since.
func (s *saver) write() error {
	s.mu.Lock()
	b := s.pending
	s.pending = batch{}
	s.mu.Unlock()
	if b.empty() {
		return nil
	}
	err := s.save(&b)
	s.mu.Lock()
	if err != nil {
		newer := s.pending
		s.pending = b
		s.pending.merge(&newer)
	}
	was := s.trouble
	s.trouble = err
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		s.log.Error("the client's state is not saved; instances run on, and it is tried again", "error", err)
	case err == nil && was != nil:
		s.log.Info("the client's state is saved again")
	}
	return err
}

func (s *saver) save(b *batch) error {
	if s.st == nil {
		st, err := s.reopen(false)
		if err != nil {
			return err
		}
		s.st = st
	}
	err := s.st.Save(b)
	if !errors.Is(err, errDamaged) {
		return err
	}
	s.log.Error("state.db is damaged: it is set aside and written anew", "error", err)
	s.st = nil // not closed: bbolt may still hold its own lock
	st, openErr := s.reopen(true)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	s.st = st
	s.rewrite()
	return s.st.Save(b)
}

// failing says why the latest write failed, nil when it did not.
func (s *saver) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}
