package raftnode

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"cube/api"
)

const (
	// roomNeeded is what must be free before a disk that was full counts as one with room: a few dozen of the largest entries, so
	// that a server at the brink does not lead and fall by turns.
	roomNeeded = 16 << 20
	// roomShare is as good, on a disk that is small as a whole.
	roomShare = 0.05
	// roomPause is between two looks whether there is room again: nobody tells.
	roomPause = time.Second
)

// room knows whether the disk of raft.db is full. A server without room cannot take entries, so it must not lead; it is as good a
// voter as ever, as long as its votes can be written. Its methods are safe for concurrent use.
type room struct {
	free    func() (free, total uint64, err error)
	logger  hclog.Logger
	full    atomic.Bool
	closing chan struct{} // closed when nobody waits any longer
}

func newRoom(dir string, logger hclog.Logger) *room {
	return &room{logger: logger, closing: make(chan struct{}), free: func() (uint64, uint64, error) {
		var s syscall.Statfs_t
		err := syscall.Statfs(dir, &s)
		return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), err
	}}
}

// await returns when there is room, or the server ends.
func (r *room) await() {
	for r.lacking() {
		select {
		case <-time.After(roomPause):
		case <-r.closing:
			return
		}
	}
}

// isFull reports whether a write failed for want of room. bbolt does not always wrap what the file said.
func isFull(err error) bool {
	return err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), syscall.ENOSPC.Error()))
}

// wrote takes note of what became of a write.
func (r *room) wrote(err error) {
	switch {
	case isFull(err) && !r.full.Swap(true):
		r.logger.Error("the disk is full: this server takes no entries and does not lead until there is room; what was acknowledged is safe", "error", err)
	case err == nil:
		r.lacking() // to say that there is room again
	}
}

// lacking reports whether the latest that is known is that the disk is full. That there is room again is found here.
func (r *room) lacking() bool {
	if !r.full.Load() {
		return false
	}
	free, total, err := r.free()
	if err != nil || free < roomNeeded && float64(free) < roomShare*float64(total) {
		return true
	}
	if r.full.Swap(false) {
		r.logger.Info("there is room on the disk again", "free_mib", free>>20)
	}
	return false
}

// DiskFull reports whether an error of raft says that an entry was not written for want of room. Then it is nowhere: a leader writes
// before it tells the others.
func DiskFull(err error) bool { return isFull(err) }

// must is for what raft cannot go on without: it panics when a vote or a term is not written. So the server stops, in good order, and
// this does not return.
func (w *watchedStore) must(err error) error {
	if !isFull(err) {
		return err
	}
	w.hung(api.Errorf(api.CodeUnavailable, "the disk is full (%w): not even a vote can be written; this server stops: make room, and start it again", err))
	select {}
}

// RequestPreVote implements raft.WithPreVote. A server without room asks nobody, so that it does not stand for election: it would
// win, fail to write its first entry, and win again (hashicorp/raft #614).
func (t *guardedTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if full := t.full.Load(); full != nil && (*full)() {
		return api.Errorf(api.CodeUnavailable, "the disk is full: this server does not stand for election")
	}
	return t.NetworkTransport.RequestPreVote(id, target, args, resp)
}

// Error passes on what raft complains of, but for a full disk: that is said once, by room.
func (q quietLogger) Error(msg string, args ...any) {
	for _, arg := range args {
		if err, ok := arg.(error); ok && isFull(err) {
			q.Logger.Debug(msg, args...)
			return
		}
	}
	q.Logger.Error(msg, args...)
}
