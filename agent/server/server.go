// Package server is a voter: it agrees with the other servers through Raft on what should run, and when it leads it
// decides where, judges which nodes are gone and keeps the state small.
//
// A Server answers three interfaces of package api: Cluster (what people ask), Dispatcher (what nodes ask) and Peer (what
// servers ask of each other). Over HTTP they are somebody else's: Run serves the sessions' requests with the handler it is
// given, and a method that needs the leader answers CodeNotLeader elsewhere, so that the handler can forward.
//
// DESIGN.md beside this file says why it is built so, and names each long-lived goroutine, its owner and what wakes it.
package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"cube/agent/server/contact"
	"cube/agent/server/journal"
	"cube/agent/server/members"
	"cube/agent/server/raftnode"
	"cube/api"
	"cube/fsm"
	"cube/internal/session"
)

const (
	// shutdownPatience bounds the wait for what is under way when this server must stop because of its disk or its log:
	// what hangs on the disk never returns.
	shutdownPatience = 5 * time.Second
	// handOverPatience bounds the leadership transfer at a shutdown; without it the others elect by themselves.
	handOverPatience = 2 * time.Second
)

// Server is one voter. It implements api.Cluster, api.Dispatcher and api.Peer; all methods are safe for concurrent use.
type Server struct {
	cfg    Config
	logger hclog.Logger

	machine  *fsm.Machine
	node     *raftnode.Node
	door     *door
	stream   *raftnode.Stream
	roster   *members.Roster
	registry *contact.Registry // nodes with a session here
	journal  *journal.Journal
	peers    *peers // sessions with other servers
	exchanges

	leader  *leaderView
	tenure  atomic.Pointer[tenure] // nil unless this server leads and has caught up
	reads   *verifier
	parses  *gate
	specs   *specCache
	metrics *counters

	leaving   chan struct{} // closed when Leave has succeeded
	leaveOnce sync.Once
}

// exchanges are what goes on with the nodes that have sessions here.
type exchanges struct {
	passing  *gatherer[*api.Report, api.ReportOutcome] // what they report, on its way to the leader
	told     *contact.Told
	reported contact.Pace // reports
	polls    contact.Pace // polls that brought news
}

var (
	_ api.Cluster    = (*Server)(nil)
	_ api.Dispatcher = (*Server)(nil)
	_ api.Peer       = (*Server)(nil)
	_ api.Estates    = (*Server)(nil)
)

// New opens the data directory, refusing one that lost state or is another server's, and starts Raft. The caller calls
// Run once, also to give everything back.
func New(cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:       cfg,
		logger:    cfg.Logger,
		machine:   fsm.New(),
		registry:  contact.NewRegistry(),
		exchanges: exchanges{passing: newPassing(), told: contact.NewTold()},
		leader:    new(leaderView),
		parses:    newGate(),
		metrics:   new(counters),
		leaving:   make(chan struct{}),
	}
	s.journal = journal.New(journal.Limits{}, s.machine.Snapshot)
	s.machine.Observe(s.journal)
	s.roster = members.NewRoster(cfg.Membership.Members(), s.registry.Probe)
	s.specs = newSpecCache(cfg.EncodeJob)
	s.stream = raftnode.NewStream(cfg.Advertise, s.dialRaft)
	s.peers = newPeers(s.dialServer)
	var err error
	s.node, err = raftnode.Open(raftnode.Config{
		Dir: cfg.DataDir, ID: cfg.ID, Machine: s.machine, Stream: s.stream, Timing: cfg.timing(), Volatile: cfg.Dev,
		Audit: cfg.Audit, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.door = &door{raft: s.node.Raft}
	s.reads = newVerifier(func() error { return s.node.VerifyLeader().Error() })
	return s, nil
}

// Run serves until ctx ends, Leave has succeeded, or the server must stop: its disk hangs, or its log holds what it cannot
// apply. What is asked on sessions is answered by handler.
//
// It shuts down in this order: leadership is handed over, so that the others need not miss it first; then the loops and
// sessions end, so that nobody waits for Raft any more; then Raft, which writes; the data directory's lock goes last.
// After an error the process should end: parts that hang on the disk may be left behind.
func (s *Server) Run(ctx context.Context, handler session.Handler) error {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return s.node.Run(run, s.metrics.snapshotTook) })
	g.Go(func() error { return s.roster.Run(run, s.cfg.Membership.Events()) })
	g.Go(func() error { return s.found(run) })
	g.Go(func() error { return s.announce(run) })
	g.Go(func() error { return s.watchLeader(run) })
	g.Go(func() error { return s.serveLeadership(run) })
	g.Go(func() error { return s.reporter().Run(run) })
	g.Go(func() error { return s.passing.run(run, s.passOn) })
	g.Go(func() error { return s.accept(run, handler) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-s.leaving:
		case <-run.Done():
			return nil
		}
		s.handOver()
		stop()
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	<-run.Done()
	var err error
	select {
	case err = <-ended:
	case <-time.After(shutdownPatience):
		err = api.Errorf(api.CodeInternal, "the server's parts did not end within %s: %w", shutdownPatience, context.Cause(run))
		return err
	}
	s.peers.close()
	return errors.Join(err, s.close(err != nil))
}

// close ends Raft. Where the server must stop, Raft may wait for its disk for ever: then the end of the process has to do.
func (s *Server) close(must bool) error {
	var enough <-chan time.Time
	if must {
		enough = time.After(shutdownPatience)
	}
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(s.node.Close(), s.stream.Close()) }()
	select {
	case err := <-closed:
		return err
	case <-enough:
		return nil // what is wrong has been said
	}
}

// handOver gives leadership to another voter, if there is one.
func (s *Server) handOver() {
	if s.node.State() != raft.Leader || s.otherVoters() == 0 {
		return
	}
	done := make(chan error, 1)
	transfer := s.node.LeadershipTransfer()
	go func() { done <- transfer.Error() }()
	select {
	case err := <-done:
		if err != nil {
			s.logger.Warn("handing over leadership failed: the others will elect a leader", "error", err)
		}
	case <-time.After(handOverPatience):
		s.logger.Warn("handing over leadership takes too long: the others will elect a leader")
	}
}

func (s *Server) inConfiguration(id string) bool {
	return slices.ContainsFunc(s.node.Servers(), func(p raft.Server) bool { return string(p.ID) == id })
}

func (s *Server) otherVoters() int {
	n := 0
	for _, peer := range s.node.Servers() {
		if peer.Suffrage == raft.Voter && string(peer.ID) != s.cfg.ID {
			n++
		}
	}
	return n
}

// accept takes connections until ctx ends, and returns when all they carried has ended.
func (s *Server) accept(ctx context.Context, handler session.Handler) error {
	stop := context.AfterFunc(ctx, func() { s.cfg.Listener.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := s.cfg.Listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return api.Errorf(api.CodeUnavailable, "the listener on %s was closed: %w", s.cfg.Advertise, err)
			}
			// Most likely out of file descriptors: what is open goes on, and some of it will end.
			s.logger.Error("accepting a connection failed", "error", err)
			waitFor(ctx, nil, time.Now().Add(100*time.Millisecond))
			continue
		}
		conns.Go(func() { s.serve(ctx, conn, handler) })
	}
}

// serve carries one connection to its end.
func (s *Server) serve(ctx context.Context, conn net.Conn, handler session.Handler) {
	in, err := session.Accept(ctx, conn, s.admit)
	if err != nil {
		s.logger.Debug("a connection was refused", "from", conn.RemoteAddr(), "error", err)
		return
	}
	if in.Conn != nil {
		s.stream.Deliver(in.Conn)
		return
	}
	if in.Hello.Role == api.RoleClient {
		remove := s.registry.Add(in.Hello.Sender, in.Hello.Incarnation, in.Session)
		defer remove()
		defer s.told.Forget(in.Hello.Sender, in.Hello.Incarnation)
		handler.Quiet = s.registry.Quiet
	}
	err = in.Session.Serve(ctx, handler)
	s.logger.Debug("a session ended", "role", in.Hello.Role, "from", in.Hello.Sender, "reason", err)
}

// admit says who may open a connection.
func (s *Server) admit(h session.Hello) error {
	if h.Role == api.RoleServer && s.inConfiguration(h.Sender) {
		h.ClusterID = "" // a snapshot of another cluster, restored, gives servers its name one after the other
	}
	if err := h.Admit(s.machine.Snapshot().ClusterID(), s.cfg.ID); err != nil {
		return err
	}
	switch h.Role {
	case api.RoleServer:
		if s.cfg.Dev {
			return api.Errorf(api.CodeForbidden, "this is a -dev server: it has no use for other servers; start it with -server instead")
		}
	case api.RoleClient:
		if h.Protocol == session.Raft {
			return api.Errorf(api.CodeForbidden, "clients do not take part in Raft")
		}
	default:
		return api.Errorf(api.CodeForbidden, "unknown role %.20q", h.Role)
	}
	return nil
}
