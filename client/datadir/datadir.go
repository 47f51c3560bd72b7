// Package datadir is the client's own directory: who the node is, its lock, and the directories of its allocations.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cube/api"
)

// Dir is the client's own directory, locked.
//
//	lock       held by the agent that runs
//	node-id    32 hexadecimal digits and a line break
//	state.db   what the client remembers (see package client)
//	alloc/ID/  an allocation's own directory
type Dir struct {
	path string
	lock *os.File
}

// Open makes the directory if need be and locks it against a second agent.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(filepath.Join(path, "alloc"), 0o700); err != nil {
		return nil, fmt.Errorf("make the client's data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the client's data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, api.Errorf(api.CodeConflict, "another agent uses %s: stop it, or give this one a -data-dir of its own", path)
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close releases the lock.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is where it is.
func (d *Dir) Path() string { return d.path }

// State is the path of state.db.
func (d *Dir) State() string { return filepath.Join(d.path, "state.db") }

// nodeID returns the node's ID as the node-id file says; "" if there is none.
func (d *Dir) nodeID() (string, error) {
	name := filepath.Join(d.path, "node-id")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the node's ID: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if _, err := hex.DecodeString(id); err != nil || len(id) != 32 {
		return "", api.Errorf(api.CodeInvalid,
			"%s holds %.40q, not 32 hexadecimal digits: put the ID back, or start with -new-identity", name, id)
	}
	return id, nil
}

// SetNodeID writes the node's ID so that after a crash the file holds all of it, or is not there.
func (d *Dir) SetNodeID(id string) error {
	name := filepath.Join(d.path, "node-id")
	f, err := os.CreateTemp(d.path, "node-id-")
	if err != nil {
		return fmt.Errorf("write the node's ID: %w", err)
	}
	_, err = f.WriteString(id + "\n")
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write the node's ID: %w", err)
	}
	return syncDir(d.path)
}

// Identity settles who this node is: what the file says, what the state says if the file is gone, or a new ID. forget
// drops the old identity with all that was remembered under it.
func (d *Dir) Identity(forget bool) (string, error) {
	if forget {
		if err := d.SetAside("replaced"); err != nil {
			return "", err
		}
		id := MintNodeID()
		return id, d.SetNodeID(id)
	}
	return d.nodeID()
}

// MintNodeID makes a new ID.
func MintNodeID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// SetAside renames state.db so that a person can still look into it. One with the same reason from before is replaced.
func (d *Dir) SetAside(reason string) error {
	err := os.Rename(d.State(), d.State()+"."+reason)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set state.db aside: %w", err)
	}
	return nil
}

// Allocation is an allocation's own directory.
func (d *Dir) Allocation(text string) string { return filepath.Join(d.path, "alloc", text) }

// Sweep removes the directories of allocations that are not kept, and says how many. It leaves young ones alone: one may
// be of an allocation that has begun while it looked.
func (d *Dir) Sweep(kept map[string]bool, now time.Time) (removed int, err error) {
	entries, err := os.ReadDir(filepath.Join(d.path, "alloc"))
	if err != nil {
		return 0, fmt.Errorf("look for directories of former allocations: %w", err)
	}
	for _, e := range entries {
		info, statErr := e.Info()
		if kept[e.Name()] || statErr != nil || now.Sub(info.ModTime()) < time.Minute {
			continue
		}
		if e := os.RemoveAll(d.Allocation(e.Name())); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed++
	}
	return removed, err
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
