package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"cube/agent/server/balancer"
	"cube/agent/server/contact"
	"cube/agent/server/deployer"
	"cube/agent/server/drain"
	"cube/agent/server/launch"
	"cube/agent/server/members"
	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
	"cube/internal/session"
	"cube/scheduler"
)

// leadRetry is the pause before a server that leads and whose loops failed begins anew.
const leadRetry = 250 * time.Millisecond

// leaderView is who leads as this server knows it.
type leaderView struct {
	changed signal.Broadcast

	mu    sync.Mutex
	id    string
	addr  string
	since time.Time // of the present answer
}

func (v *leaderView) set(id, addr string) {
	v.mu.Lock()
	same := v.id == id && v.addr == addr && !v.since.IsZero()
	if !same {
		v.id, v.addr, v.since = id, addr, time.Now()
	}
	v.mu.Unlock()
	if !same {
		v.changed.Notify()
	}
}

func (v *leaderView) get() (id, addr string, since time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id, v.addr, v.since
}

// LeaderInfo returns the leader as this server knows it. self is true only when this server leads and is ready to answer;
// known is false while there is no leader, or this server has just been elected and is catching up.
func (s *Server) LeaderInfo() (leader api.Leader, self, known bool) {
	if s.tenure.Load() != nil {
		return api.Leader{ID: s.cfg.ID, Name: s.cfg.Name, Address: s.cfg.Advertise}, true, true
	}
	id, addr, _ := s.leader.get()
	if id == "" || id == s.cfg.ID {
		return api.Leader{}, false, false
	}
	return api.Leader{ID: id, Name: s.serverName(id), Address: addr}, false, true
}

// LeaderChanged returns a channel that is closed when LeaderInfo's answer may have changed. Take it before asking.
func (s *Server) LeaderChanged() <-chan struct{} { return s.leader.changed.Wait() }

// watchLeader keeps the view until ctx ends. Raft wakes it.
func (s *Server) watchLeader(ctx context.Context) error {
	// One observation in the buffer is enough: each makes us ask Raft for the present state.
	seen := make(chan raft.Observation, 1)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	s.node.RegisterObserver(observer)
	defer s.node.DeregisterObserver(observer)
	for {
		addr, id := s.node.LeaderWithID()
		s.leader.set(string(id), string(addr))
		if id == "" && s.removed() {
			s.logger.Error("this server was removed from the cluster: stop it; to join again, remove its data directory and start it with -join")
		}
		select {
		case <-seen:
		case <-ctx.Done():
			return nil
		}
	}
}

// removed reports whether the latest configuration that this server has is without it. A removed server gets the entry
// that removes it but no word that it is committed, so it only says so and goes on: an election may yet undo the entry.
func (s *Server) removed() bool {
	return len(s.node.Servers()) > 0 && !s.inConfiguration(s.cfg.ID)
}

// tenure is one leadership, from the moment at which this server has caught up.
type tenure struct {
	ctx       context.Context // ends with it
	renew     func()          // ends it while Raft goes on: the next one begins at once
	directory *contact.Directory
	reports   *gatherer[[]fsm.NodeReport, committed]
}

// leading returns the present tenure; the error has CodeNotLeader.
func (s *Server) leading() (*tenure, error) {
	if t := s.tenure.Load(); t != nil {
		return t, nil
	}
	return nil, notLeader()
}

// serveLeadership leads whenever Raft says so, until ctx ends. A leadership is a context: its loss cancels it, and the
// next one begins when everything of the last has ended.
func (s *Server) serveLeadership(ctx context.Context) error {
	leads := false
	for {
		for !leads {
			select {
			case leads = <-s.node.Leadership():
			case <-ctx.Done():
				return nil
			}
		}
		term, lose := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- s.leadOn(term) }()
		select {
		case leads = <-s.node.Leadership():
		case <-ctx.Done():
		}
		lose()
		if err := <-done; err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// leadOn leads until ctx ends, and begins anew when a loop fails while Raft still says that this server leads.
func (s *Server) leadOn(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.lead(ctx)
		if err != nil && ctx.Err() == nil {
			if lostLeadership(err) {
				s.logger.Debug("leadership is slipping", "error", err)
			} else {
				s.logger.Error("leading failed: beginning anew", "error", err, "after", leadRetry)
			}
			signal.Pause(ctx, leadRetry)
		}
	}
	return nil
}

// lead is what a leader does, until ctx ends or one of its loops fails. It begins by applying all that earlier leaders
// committed: before that, what this server reads may be older than what they acknowledged.
func (s *Server) lead(ctx context.Context) error {
	if err := s.catchUpAndRenew(); err != nil {
		return err
	}
	ctx, renew := context.WithCancel(ctx)
	defer renew()
	g, ctx := errgroup.WithContext(ctx)
	t := &tenure{ctx: ctx, renew: renew, directory: contact.NewDirectory(s.cfg.ID, time.Now()), reports: newCommitting()}
	g.Go(func() error { return s.scheduling(t).run(ctx) })
	g.Go(func() error { return s.liveness(t).Run(ctx) })
	if !s.cfg.Dev { // which lets nobody in
		g.Go(func() error { return s.keeper().Run(ctx) })
	}
	g.Go(func() error { return s.retention().run(ctx) })
	g.Go(func() error { return s.raiseRules(ctx) })
	g.Go(func() error { return s.deployer().Run(ctx) })
	g.Go(func() error { return s.drains().Run(ctx) })
	g.Go(func() error { return s.launches().Run(ctx) })
	g.Go(func() error { return s.balancer(t).Run(ctx) })
	g.Go(func() error { return t.reports.run(ctx, s.commitReports) })
	s.tenure.Store(t)
	s.leader.changed.Notify()
	s.logger.Info("this server leads", "cluster", s.machine.Snapshot().ClusterID(), "index", s.machine.Snapshot().Index())
	<-ctx.Done()
	s.tenure.Store(nil)
	s.leader.changed.Notify()
	s.logger.Info("this server leads no longer")
	return g.Wait()
}

// raiseRules has the state go by the newest rules as soon as every server knows them: a server of another version may not.
// Gossip wakes it; it ends when there is nothing left to raise.
func (s *Server) raiseRules(ctx context.Context) error {
	for {
		gossip := s.roster.Changed.Wait()
		if s.machine.Snapshot().Rules() >= fsm.RulesVersion {
			return nil
		}
		if s.oneVersion() {
			_, err := s.door.apply(&fsm.RaiseRules{Version: fsm.RulesVersion}, leaderLoop("lead", "every server knows these rules"))
			return err
		}
		select {
		case <-gossip:
		case <-ctx.Done():
			return nil
		}
	}
}

// oneVersion reports whether all servers are known to be of this one's version.
func (s *Server) oneVersion() bool {
	for _, peer := range s.node.Servers() {
		if id := string(peer.ID); id != s.cfg.ID {
			if seen, ok := s.roster.Server(id); !ok || seen.Version != s.cfg.Version {
				return false
			}
		}
	}
	return true
}

// catchUpAndRenew applies all that was committed, and writes what a state must have before anybody builds on it: an ID, and
// a new epoch when this server was recovered.
func (s *Server) catchUpAndRenew() error {
	if err := s.node.Barrier(0).Error(); err != nil {
		return fmt.Errorf("catching up with the log: %w", err)
	}
	s.door.clock.begin(s.machine.Snapshot().Now())
	if s.machine.Snapshot().ClusterID() == "" {
		if _, err := s.door.apply(&fsm.InitCluster{ClusterID: mintClusterID()}, leaderLoop("lead", "the cluster begins")); err != nil {
			return fmt.Errorf("giving the cluster its ID: %w", err)
		}
	}
	if s.oneVersion() { // mostly, and then nothing happens by other rules first
		if err := s.raiseRules(context.Background()); err != nil {
			return fmt.Errorf("raising the rules: %w", err)
		}
	}
	if s.node.Recovered() {
		if _, err := s.door.apply(&fsm.RaiseEpoch{}, leaderLoop("lead", "recovered")); err != nil {
			return fmt.Errorf("beginning a new epoch after the recovery: %w", err)
		}
		s.node.Renewed()
	}
	return nil
}

// mintClusterID is the one place where chance enters the state.
func mintClusterID() string {
	b := make([]byte, 16)
	rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

func (s *Server) scheduling(t *tenure) *scheduling {
	return &scheduling{
		machine: s.machine,
		commit: func(p *api.Plan) pending {
			return s.door.begin(&fsm.CommitPlan{Plan: p}, leaderLoop("schedule", "plan"))
		},
		now:      s.door.clock.now,
		loads:    func() map[string]api.NodeLoad { return t.directory.Loads(time.Now()) },
		policy:   s.cfg.Policy,
		measured: s.metrics.planned,
		logger:   s.logger.Named("schedule"),
	}
}

func (s *Server) deployer() *deployer.Deployer {
	return &deployer.Deployer{
		Machine: s.machine, Now: s.door.clock.now, Logger: s.logger.Named("deployer"),
		Commit: func(b *fsm.JudgeDeployments) error {
			_, err := s.door.apply(b, leaderLoop("deployer", "judged"))
			return err
		},
	}
}

func (s *Server) liveness(t *tenure) *contact.Liveness {
	return &contact.Liveness{
		Machine: s.machine, Directory: t.directory, Roster: s.roster,
		Graces: s.cfg.Graces,
		Declare: func(nodes []string, reason string) error {
			_, err := s.door.apply(&fsm.NodesDown{Nodes: nodes, Reason: reason}, leaderLoop("liveness", reason))
			return err
		},
		Logger: s.logger.Named("liveness"),
	}
}

func (s *Server) drains() *drain.Keeper {
	return &drain.Keeper{Machine: s.machine, Now: s.door.clock.now, Settle: func(node string) error {
		_, err := s.door.apply(&fsm.DrainNode{Node: node}, leaderLoop("drain", "the next step of a drain"))
		return err
	}}
}

func (s *Server) balancer(t *tenure) *balancer.Keeper {
	return &balancer.Keeper{
		Machine: s.machine, Now: s.door.clock.now, Auto: s.cfg.Policy.Rebalance, Logger: s.logger.Named("balancer"),
		Options: func() scheduler.Options {
			return options(s.cfg.Policy, t.directory.Loads(time.Now()), s.door.clock.now())
		},
		Apply: func(b *fsm.Rebalance) error {
			_, err := s.door.apply(b, leaderLoop("balancer", "the next step of a rebalance"))
			return err
		},
	}
}

func (s *Server) retention() *retention {
	return &retention{machine: s.machine, now: s.door.clock.now, reap: func(r *fsm.Reap) error {
		_, err := s.door.apply(r, leaderLoop("retention", "kept long enough"))
		return err
	}}
}

func (s *Server) launches() *launch.Loop {
	return &launch.Loop{Machine: s.machine, Now: s.door.clock.now, Logger: s.logger.Named("launch"),
		Launch: func(b *fsm.LaunchJob) error {
			_, err := s.door.apply(b, leaderLoop("launch", "its time came"))
			return err
		}}
}

func (s *Server) keeper() *members.Keeper {
	return &members.Keeper{
		Node: s.node, Roster: s.roster, Self: s.cfg.ID, ClusterID: s.machine.Snapshot().ClusterID(), Logger: s.logger.Named("members"),
	}
}

// reporter tells the leader of the sessions here; when this server leads, itself.
func (s *Server) reporter() *contact.Reporter {
	return &contact.Reporter{
		Server: s.cfg.ID, Boot: uint64(time.Now().UnixNano()), Registry: s.registry,
		Leader: func() string {
			leader, _, _ := s.LeaderInfo()
			return leader.ID
		},
		LeaderChanged: s.LeaderChanged,
		Send: func(ctx context.Context, leader string, r *api.SessionReport) (*api.SessionAnswer, error) {
			if leader == s.cfg.ID {
				return s.Sessions(ctx, r)
			}
			return s.peer(leader).Sessions(ctx, r)
		},
		Logger: s.logger.Named("sessions"),
	}
}

// Sessions implements api.Peer.
func (s *Server) Sessions(ctx context.Context, r *api.SessionReport) (*api.SessionAnswer, error) {
	t, err := s.leading()
	if err != nil {
		return nil, err
	}
	if from, ok := session.From(ctx); r.Server == "" || ok && (from.Role != api.RoleServer || from.Sender != r.Server) {
		return nil, api.Errorf(api.CodeForbidden, "%s %.40q reports the sessions of server %.40q; each server reports its own", from.Role, from.Sender, r.Server)
	}
	return t.directory.Report(r, time.Now()), nil
}

// found lets the server found a cluster when it may, until it has state or ctx ends. Gossip wakes it.
func (s *Server) found(ctx context.Context) error {
	said := ""
	for !s.node.HadState && s.node.LastIndex() == 0 {
		gossip := s.roster.Changed.Wait()
		self := api.Member{ID: s.cfg.ID, Name: s.cfg.Name, RPCAddr: s.cfg.Advertise, Expect: s.cfg.BootstrapExpect}
		founders, why := members.Founders(self, s.cfg.Joining, s.roster.Servers())
		if len(founders) > 0 {
			return s.bootstrap(founders)
		}
		if why != said {
			s.logger.Info(why)
			said = why
		}
		select {
		case <-gossip:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (s *Server) bootstrap(founders []api.Member) error {
	var servers []raft.Server
	for _, m := range founders {
		if m.RPCAddr == "" {
			return api.Errorf(api.CodeInternal, "server %s says no address", m.Name)
		}
		servers = append(servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.RPCAddr), Suffrage: raft.Voter})
	}
	err := s.node.Bootstrap(servers)
	if errors.Is(err, raft.ErrCantBootstrap) {
		return nil // a founder or a leader was faster
	}
	if err == nil {
		s.logger.Info("founded a new cluster", "servers", len(servers))
	}
	return err
}

// announce keeps what gossip says of this server true, until ctx ends. The state wakes it.
func (s *Server) announce(ctx context.Context) error {
	said := "nothing yet"
	for {
		entries, jobs := s.machine.Watch(fsm.WatchKey{Table: fsm.TableAny}), s.machine.Watch(fsm.WatchKey{Table: fsm.TableJobs})
		id := s.machine.Snapshot().ClusterID()
		if (id != "" || s.node.HadState) && id != said {
			s.cfg.Membership.Update(func(self *api.Member) { self.ClusterID, self.HasState = id, true })
			said = id
		}
		changed := entries
		if id != "" {
			changed = jobs // now only a restored snapshot changes the ID, and that wakes every watcher
		}
		if !waitFor(ctx, changed, time.Time{}) {
			return nil
		}
	}
}
