package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"cube/api"
)

// formatVersion is the layout of the data directory that this binary writes. It reads this one and older ones.
const formatVersion = 1

const (
	markerFile = "marker.json"
	lockFile   = "lock"
	raftFile   = "raft.db"
)

// marker says whose data directory this is and how far it had come. It is written after raft.db exists, so a marker
// without a usable raft.db means that state was lost.
type marker struct {
	Format    int
	ServerID  string
	ClusterID string // "" until the first entry of the cluster was applied
	Index     uint64 // an applied index: raft.db and the snapshots together must reach at least to it
	Recovered bool   `json:",omitempty"` // see Node.Recovered
}

// readMarker returns nil and no error when there is no marker.
func readMarker(dir string) (*marker, error) {
	path := filepath.Join(dir, markerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the marker of the data directory: %w", err)
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%s is damaged (%w): restore the data directory from a copy, or remove it whole and join again", path, err)
	}
	if m.Format > formatVersion {
		return nil, api.Errorf(api.CodeIncompatible, "%s is of a newer version of cube (format %d, this binary knows %d): start it with that version",
			dir, m.Format, formatVersion)
	}
	return &m, nil
}

// write replaces the marker in dir atomically and durably.
func (m *marker) write(dir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the marker: %w", err)
	}
	path := filepath.Join(dir, markerFile)
	if err := writeDurably(path+".new", append(b, '\n')); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replacing the marker: %w", err)
	}
	return syncDir(dir)
}

func writeDurably(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes a rename in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening %s to sync it: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockDir takes the directory's lock. The kernel releases it when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, api.Errorf(api.CodeConflict, "%s is in use by another cube server: stop that one, or give this one another -data-dir", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}
