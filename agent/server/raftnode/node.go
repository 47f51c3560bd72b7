package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

const (
	// trailingLogs entries stay behind a snapshot, so that a follower that was away for a moment is not sent the whole
	// state. Raft's default, kept on purpose: with a handful, a snapshot's installation can chase its own tail (#697).
	trailingLogs = 10240
	// never is a threshold raft's own snapshot loop does not reach: ours goes by bytes.
	never = 1 << 62
	// markEvery bounds how far the marker lags behind. It is a check on gross loss, not a second log.
	markEvery = 30 * time.Second
	// snapshotRetry is the pause after a snapshot that failed: most likely the disk is full, or a change of the
	// configuration is not committed yet.
	snapshotRetry = time.Minute
	// leadershipChanges are buffered, since raft stops while nobody reads them.
	leadershipChanges = 64
)

// Config is what a Node is made of; every field but Volatile and Audit must be set.
type Config struct {
	Dir     string
	ID      string
	Machine *fsm.Machine // empty; the Node is its only writer
	Stream  *Stream
	Timing  Timing
	// Volatile says that Dir ends with the process: what is written need not reach the disk.
	Volatile bool
	Audit    func(*fsm.Snapshot) // sees the state after every entry
	Logger   hclog.Logger
}

// Node is a running member of a Raft cluster, or one that waits to become one.
type Node struct {
	*raft.Raft
	// HadState says that the data directory held Raft state when it was opened.
	HadState bool

	machine   *fsm.Machine
	adapter   *adapter
	store     *store
	transport *guardedTransport
	room      *room
	stream    *Stream
	logs      raft.LogStore
	stable    raft.StableStore
	config    *raft.Config
	lead      chan bool
	fatal     chan error
	logger    hclog.Logger
	recovered atomic.Bool
}

// Open opens the data directory and starts Raft. The caller must call Run, and Close after it.
func Open(c Config) (*Node, error) {
	n := &Node{machine: c.Machine, stream: c.Stream, logger: c.Logger, lead: make(chan bool, leadershipChanges), fatal: make(chan error, 1)}
	var err error
	if n.store, err = openStore(c.Dir, c.ID, c.Volatile, quiet(c.Logger)); err != nil {
		return nil, err
	}
	n.HadState = n.store.used
	n.recovered.Store(n.store.marker.Recovered)
	n.room = newRoom(c.Dir, c.Logger)
	watched := &watchedStore{BoltStore: n.store.bolt, limit: writeLimit, hung: n.fail, room: n.room, alone: n.alone}
	n.stable = watched
	if n.logs, err = raft.NewLogCache(logCacheSize, watched); err != nil {
		return nil, errors.Join(fmt.Errorf("making the log cache: %w", err), n.store.close())
	}
	n.adapter = newAdapter(c.Machine, n.fail, c.Audit)
	n.transport = newTransport(c.Stream, quiet(c.Logger))
	lacking := n.room.lacking
	n.transport.full.Store(&lacking)
	n.adapter.applied = n.transport.news.applied
	n.config = raftConfig(c, n.lead)
	if n.Raft, err = n.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting raft in %s: %w", c.Dir, err), n.transport.Close(), n.store.close())
	}
	n.transport.setTerm(n.Raft.CurrentTerm)
	servers := n.Servers
	c.Stream.servers.Store(&servers)
	n.campaign()
	return n, nil
}

// campaign has the only voter elect itself at once: waiting for a leader's heartbeats, as raft does first, would be in
// vain. It cannot miss a leader that others have elected without it: they would need its own vote to become voters.
func (n *Node) campaign() {
	if n.alone() {
		n.stand()
	}
}

// alone reports whether this server is the only voter.
func (n *Node) alone() (yes bool) {
	for _, s := range n.Servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		if s.ID != n.config.LocalID {
			return false
		}
		yes = true
	}
	return yes
}

// stand has raft begin an election now.
func (n *Node) stand() {
	id := n.config.LocalID
	n.transport.campaign(raft.RPCHeader{ProtocolVersion: n.config.ProtocolVersion, ID: []byte(id), Addr: n.transport.EncodePeer(id, n.transport.LocalAddr())})
}

// start keeps raft's panics on damaged logs to itself.
func (n *Node) start() (r *raft.Raft, err error) {
	defer recoverFault(&err)
	defer guardFaults()()
	return raft.NewRaft(n.config, n.adapter, n.logs, n.stable, n.store.snaps, n.transport)
}

func raftConfig(c Config, lead chan<- bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.HeartbeatTimeout = c.Timing.Heartbeat
	rc.ElectionTimeout = c.Timing.Election
	rc.LeaderLeaseTimeout = c.Timing.Lease
	rc.CommitTimeout = c.Timing.Commit
	rc.BatchApplyCh = true
	rc.ShutdownOnRemove = false // raft, shut down by itself, would leave calls to Apply unanswered
	rc.TrailingLogs = trailingLogs
	rc.SnapshotThreshold = never
	rc.SnapshotInterval = 24 * time.Hour
	rc.NotifyCh = lead
	rc.NoLegacyTelemetry = true
	rc.Logger = quiet(c.Logger)
	return rc
}

// RestoredAt is the index at which the whole state was last replaced by a snapshot, 0 for never. What was read before that
// may have changed with it, though no row says so.
func (n *Node) RestoredAt() uint64 { return n.adapter.restored.Load() }

// Recovered reports whether this server was made the only voter and leads for the first time since. What the lost servers
// had acknowledged may be lost, IDs among it, so the state needs a new epoch. Renewed says that it has one.
func (n *Node) Recovered() bool { return n.recovered.Load() }

// Renewed is Recovered's end. Should the server die before that is written down, another epoch begins for nothing.
func (n *Node) Renewed() { n.recovered.Store(false) }

// fail keeps the first reason why the server must stop.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// Leadership tells each time this server gains (true) or loses (false) leadership, in order.
func (n *Node) Leadership() <-chan bool { return n.lead }

// Bootstrap makes servers the voters of a new cluster. It fails when there is state already.
func (n *Node) Bootstrap(servers []raft.Server) error {
	if err := n.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return fmt.Errorf("bootstrapping the cluster: %w", err)
	}
	n.campaign()
	return nil
}

// Servers returns the latest configuration.
func (n *Node) Servers() []raft.Server { return n.Raft.GetConfiguration().Configuration().Servers }

// Run keeps the marker, and takes snapshots as the log grows; snapshot is told how long each took. It returns nil when
// ctx ends, and an error when this server must stop: its disk hangs, or its log holds what it cannot apply. After a disk
// error Close may not return: the process has to end.
func (n *Node) Run(ctx context.Context, snapshot func(time.Duration)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case err := <-n.fatal:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return n.keepMarker(ctx) })
	g.Go(func() error { return n.takeSnapshots(ctx, snapshot) })
	g.Go(func() error { return n.succession(ctx) })
	return g.Wait()
}

func (n *Node) keepMarker(ctx context.Context) error {
	ticker := time.NewTicker(markEvery)
	defer ticker.Stop()
	for {
		var changed <-chan struct{}
		if n.store.marker.ClusterID == "" {
			changed = n.machine.Watch(fsm.WatchKey{Table: fsm.TableAny})
		}
		if err := n.mark(); isFull(err) {
			n.room.wrote(err) // it is a check on gross loss, and may lag
		} else if err != nil {
			return err
		}
		if n.store.marker.ClusterID != "" {
			changed = nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// mark is called by keepMarker, and by Close after it.
func (n *Node) mark() error {
	s := n.machine.Snapshot()
	if s.ClusterID() == "" {
		return nil // nothing was agreed yet
	}
	return n.store.mark(s.ClusterID(), max(n.store.marker.Index, s.Index()), n.recovered.Load())
}

func (n *Node) takeSnapshots(ctx context.Context, took func(time.Duration)) error {
	for {
		select {
		case <-n.adapter.grown:
		case <-ctx.Done():
			return nil
		}
		began := time.Now()
		err := n.Raft.Snapshot().Error()
		switch {
		case err == nil:
			took(time.Since(began))
		case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
		default:
			n.logger.Error("taking a snapshot failed: the log grows until one succeeds", "error", err, "again_after", snapshotRetry)
			if !signal.Pause(ctx, snapshotRetry) {
				return nil
			}
			n.adapter.signal()
		}
	}
}

// Close stops Raft, writes the marker and releases the data directory.
func (n *Node) Close() error {
	n.transport.back.close() // raft waits for what waits there
	close(n.room.closing)
	err := n.Raft.Shutdown().Error()
	return errors.Join(err, n.transport.Close(), n.mark(), n.store.close())
}

// quietLogger passes raft's news of itself on as debug output: for people, what matters is who leads, which the server
// says itself. Warnings and errors stay.
type quietLogger struct{ hclog.Logger }

func quiet(l hclog.Logger) hclog.Logger { return quietLogger{l.Named("raft")} }

func (q quietLogger) Info(msg string, args ...any)  { q.Logger.Debug(msg, args...) }
func (q quietLogger) Debug(msg string, args ...any) { q.Logger.Trace(msg, args...) }

func (q quietLogger) With(args ...any) hclog.Logger { return quietLogger{q.Logger.With(args...)} }

// Recover makes the server of dir, which must not be running, the only voter of its cluster, with all that its log holds:
// the way out when a majority is gone for good. It returns the server. What other servers had acknowledged and this one
// never got is lost.
func Recover(dir string, logger hclog.Logger) (api.RaftPeer, error) {
	s, err := openStore(dir, "", false, quiet(logger))
	if err != nil {
		return api.RaftPeer{}, err
	}
	peer, err := s.recover(logger)
	return peer, errors.Join(err, s.close())
}

func (s *store) recover(logger hclog.Logger) (api.RaftPeer, error) {
	if !s.used {
		return api.RaftPeer{}, api.Errorf(api.CodeConflict, "%s has no Raft state to recover: start the server with -join instead", s.dir)
	}
	_, transport := raft.NewInmemTransport("")
	config := func() *raft.Config {
		return raftConfig(Config{ID: s.marker.ServerID, Timing: LANTiming(1), Logger: logger}, nil)
	}
	discard := func(error) {} // the adapter freezes, and both calls below fail with the reason
	old, err := raft.GetConfiguration(config(), newAdapter(fsm.New(), discard, nil), s.bolt, s.bolt, s.snaps, transport)
	if err != nil {
		return api.RaftPeer{}, fmt.Errorf("reading the servers from %s: %w", s.dir, err)
	}
	for _, server := range old.Servers {
		if string(server.ID) != s.marker.ServerID {
			continue
		}
		server.Suffrage = raft.Voter
		alone := raft.Configuration{Servers: []raft.Server{server}}
		s.marker.Recovered = true
		if err := s.marker.write(s.dir); err != nil {
			return api.RaftPeer{}, err
		}
		if err := raft.RecoverCluster(config(), newAdapter(fsm.New(), discard, nil), s.bolt, s.bolt, s.snaps, transport, alone); err != nil {
			return api.RaftPeer{}, fmt.Errorf("recovering %s: %w", s.dir, err)
		}
		return api.RaftPeer{ID: string(server.ID), Address: string(server.Address), Voter: true}, nil
	}
	return api.RaftPeer{}, api.Errorf(api.CodeConflict, "server %s is not in the configuration its log holds: it was removed; recover another one", s.marker.ServerID)
}
