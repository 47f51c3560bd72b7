package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"cube/agent/server/members"
	"cube/agent/server/overview"
	"cube/agent/server/raftnode"
	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

const (
	// maxSnapshot bounds what RestoreSnapshot takes: ten times the largest cluster Cube is made for.
	maxSnapshot = 4 << 30
	// restoreTimeout bounds the wait for Raft to take a snapshot up.
	restoreTimeout = time.Minute
	// leaveTimeout bounds leaving: a transfer of leadership and a change of the configuration.
	leaveTimeout = 15 * time.Second
	// statusTimeout bounds the wait for other servers to say how they are: a person waits for the answer, and who cannot say in
	// this time is not well.
	statusTimeout = time.Second
)

// Health implements api.Operator. Any server answers for itself; one that knows no leader is not well.
func (s *Server) Health(context.Context) (*api.Health, error) {
	leader, self, known := s.LeaderInfo()
	if !known {
		return nil, api.Errorf(api.CodeNoLeader, "this server knows no leader")
	}
	snapshot := s.machine.Snapshot()
	return &api.Health{
		Role: api.RoleServer, Leader: leader.Name, Leading: self, Index: snapshot.Index(), Version: s.cfg.Version, Cluster: snapshot.ClusterID(),
	}, nil
}

// Leader implements api.Operator. Any server answers.
func (s *Server) Leader(context.Context) (*api.Leader, error) {
	leader, _, known := s.LeaderInfo()
	if !known {
		return nil, api.Errorf(api.CodeNoLeader, "this server knows no leader")
	}
	return &leader, nil
}

// Members implements api.Operator. Any server answers with what it knows.
func (s *Server) Members(context.Context) ([]api.Member, error) {
	leader, _, _ := s.LeaderInfo()
	voters := make(map[string]bool)
	for _, peer := range s.node.Servers() {
		voters[string(peer.ID)] = peer.Suffrage == raft.Voter
	}
	out := s.cfg.Membership.Members()
	for i := range out {
		if m := &out[i]; m.Role == api.RoleServer {
			m.Leader, m.Voter = m.ID == leader.ID, voters[m.ID]
		}
	}
	return out, nil
}

// RaftPeers implements api.Operator. Any server answers with the configuration it knows.
func (s *Server) RaftPeers(context.Context) ([]api.RaftPeer, error) {
	leader, _, _ := s.LeaderInfo()
	out := []api.RaftPeer{}
	for _, peer := range s.node.Servers() {
		id := string(peer.ID)
		p := api.RaftPeer{ID: id, Name: s.serverName(id), Address: string(peer.Address), Leader: id == leader.ID, Voter: peer.Suffrage == raft.Voter}
		if m, ok := s.roster.Server(id); ok && m.Status == api.MemberAlive {
			p.LastSeen = "now"
		} else if ok {
			p.LastSeen = fmt.Sprintf("%s ago (%s)", time.Since(m.Since).Truncate(time.Second), m.Status)
		} else if id == s.cfg.ID {
			p.LastSeen = "now"
		}
		out = append(out, p)
	}
	return out, nil
}

// ClusterStatus implements api.Operator. Who the voters are and how they do is asked of each of them.
func (s *Server) ClusterStatus(ctx context.Context, q api.Query) (*api.ClusterStatus, api.ReadMeta, error) {
	var connected func(string) bool
	if t := s.tenure.Load(); t != nil {
		connected = func(node string) bool { return t.directory.Contact(node, time.Now()).Connected }
	}
	answer := func(snapshot *fsm.Snapshot, o scheduler.Options) (*api.ClusterStatus, error) {
		return overview.Of(snapshot, connected, o), nil
	}
	var out *api.ClusterStatus
	var err error
	if q.Stale {
		out, err = supposed(ctx, s, nil, answer)
	} else {
		out, err = foresee(ctx, s, answer)
	}
	if err != nil {
		return nil, api.ReadMeta{}, err
	}
	leader, _, _ := s.LeaderInfo()
	out.Leader = leader.Name
	out.Servers = s.serverStatuses(ctx, leader.ID)
	for i := range out.Servers {
		of := &out.Servers[i]
		if of.Index < out.Index && of.Index > 0 {
			of.Behind = out.Index - of.Index
		}
		if of.Voter {
			out.Voters++
			if of.Healthy {
				out.Healthy++
			}
		}
	}
	out.Spare = max(0, out.Healthy-out.Voters/2-1)
	return out, api.ReadMeta{Index: max(1, out.Index), Stale: q.Stale}, nil
}

// serverStatuses asks each server of the configuration how it is, all at once.
func (s *Server) serverStatuses(ctx context.Context, leader string) []api.ServerStatus {
	peers := s.node.Servers()
	out := make([]api.ServerStatus, len(peers))
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var all sync.WaitGroup
	for i, peer := range peers {
		id := string(peer.ID)
		of := &out[i]
		*of = api.ServerStatus{ID: id, Name: s.serverName(id), Address: string(peer.Address), Voter: peer.Suffrage == raft.Voter, Leader: id == leader}
		all.Go(func() {
			ask := s.Health
			if id != s.cfg.ID {
				ask = s.cfg.NewCluster(s.Transport(id)).Health
			}
			h, err := ask(ctx)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				of.Trouble = "no answer within " + statusTimeout.String()
			case err != nil:
				of.Trouble = err.Error()
			default:
				of.Healthy, of.Index, of.Version = h.Leader != "", h.Index, h.Version
			}
		})
	}
	all.Wait()
	slices.SortFunc(out, func(a, b api.ServerStatus) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

// RemovePeer implements api.Operator. id is an ID, a unique prefix of one, or an address.
func (s *Server) RemovePeer(_ context.Context, id string, _ api.WriteMeta) error {
	if _, err := s.leading(); err != nil {
		return err
	}
	var found []raft.Server
	for _, peer := range s.node.Servers() {
		if string(peer.Address) == id || id != "" && strings.HasPrefix(string(peer.ID), id) {
			found = append(found, peer)
		}
	}
	peer, err := resolve("server", id, found, func(p raft.Server) string { return string(p.ID) })
	if err != nil {
		return err
	}
	if string(peer.ID) == s.cfg.ID {
		return api.Errorf(api.CodeInvalid, "server %s leads: run `cube server leave` on it instead", peer.ID)
	}
	if err := s.majorityWithout(string(peer.ID)); err != nil {
		return err
	}
	if err := s.node.RemoveServer(peer.ID, 0, members.ChangeTimeout).Error(); err != nil {
		return fmt.Errorf("removing server %s: %w", peer.ID, raftError(err))
	}
	s.logger.Info("a server was removed on request", "server", peer.ID, "address", peer.Address)
	return nil
}

// Leave implements api.Operator: leadership is handed over, the new leader removes this server, and Run ends.
func (s *Server) Leave(ctx context.Context) error {
	if s.otherVoters() == 0 {
		return api.Errorf(api.CodeForbidden, "this is the only voter, the cluster would be gone: stop the agent instead")
	}
	if err := s.majorityWithout(s.cfg.ID); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := s.leave(ctx); err != nil {
		return err
	}
	s.logger.Info("this server has left the cluster")
	s.leaveOnce.Do(func() { close(s.leaving) })
	return nil
}

// majorityWithout refuses to take a voter away when those that remain could not even agree on it: too many of them are
// known not to be there. To take away one of those is always possible where anything is.
func (s *Server) majorityWithout(id string) error {
	voters, alive := 0, 0
	for _, peer := range s.node.Servers() {
		if peer.Suffrage != raft.Voter || string(peer.ID) == id {
			continue
		}
		voters++
		if m, known := s.roster.Server(string(peer.ID)); !known || m.Status == api.MemberAlive {
			alive++
		}
	}
	if alive <= voters/2 {
		return api.Errorf(api.CodeForbidden, "of the %d servers that would remain %d answer, which is no majority: start the others, or remove those that will not return with `cube operator raft remove-peer`", voters, alive)
	}
	return nil
}

func (s *Server) leave(ctx context.Context) error {
	s.handOver()
	for {
		changed := s.LeaderChanged()
		leader, self, known := s.LeaderInfo()
		if known && !self {
			err := s.cfg.NewCluster(s.Transport(leader.ID)).RemovePeer(ctx, s.cfg.ID, api.WriteMeta{Who: "server/" + s.cfg.ID})
			if err == nil {
				return nil
			}
			if api.CodeOf(err) != api.CodeNotLeader {
				return fmt.Errorf("asking leader %s to remove this server: %w", leader.Name, err)
			}
		}
		if !waitFor(ctx, changed, time.Now().Add(leadRetry)) {
			return api.Errorf(api.CodeNoLeader, "no other server took over within %s: this one stays", leaveTimeout)
		}
	}
}

// SaveSnapshot implements api.Operator.
func (s *Server) SaveSnapshot(ctx context.Context) (io.ReadCloser, error) {
	t, err := s.leading()
	if err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	if err := s.reads.wait(ctx); err != nil {
		return nil, err
	}
	if s.tenure.Load() != t {
		return nil, notLeader()
	}
	// By way of a file: a reader that is slow, or leaves, then holds up nothing but itself.
	f, err := s.spool("save")
	if err != nil {
		return nil, err
	}
	if err := snapshot.Persist(f); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the snapshot: %w", err), f.Close())
	}
	if err := rewind(f); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the snapshot back: %w", err), f.Close())
	}
	return f, nil
}

// spool makes a file without a name in the data directory; it is gone when it is closed.
func (s *Server) spool(what string) (*os.File, error) {
	f, err := os.CreateTemp(s.cfg.DataDir, what+"-*")
	if err != nil {
		return nil, fmt.Errorf("making room for a snapshot: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("making room for a snapshot: %w", err), f.Close())
	}
	return f, nil
}

// RestoreSnapshot implements api.Operator.
func (s *Server) RestoreSnapshot(_ context.Context, r io.Reader, w api.WriteMeta) error {
	t, err := s.leading()
	if err != nil {
		return err
	}
	if err := checkWrite(w); err != nil {
		return err
	}
	f, err := s.spool("restore")
	if err != nil {
		return err
	}
	defer f.Close()
	header, err := receive(f, r)
	if err != nil {
		return err
	}
	meta, err := s.raiseEpoch(f, w.Who)
	if err != nil {
		return fmt.Errorf("the snapshot cannot be restored, nothing was changed: %w", err)
	}
	if err := s.node.Restore(meta, f, restoreTimeout); err != nil {
		return fmt.Errorf("restoring the snapshot: %w", raftError(err))
	}
	t.renew() // what the loops remember is of the old state
	s.logger.Warn("the state was replaced by a snapshot", "cluster", header.ClusterID, "snapshot_index", header.Index, "who", w.Who)
	return nil
}

// raiseEpoch writes the state that f holds back to it in a new epoch, ready for Raft. State and epoch are one thing to
// Raft: a leader that dies in between cannot leave a state that gives out IDs for a second time. That the state was built
// here also means that it can be built elsewhere: Raft panics on a snapshot that does not restore.
func (s *Server) raiseEpoch(f *os.File, who string) (*raft.SnapshotMeta, error) {
	m := fsm.New()
	if err := m.Restore(f); err != nil {
		return nil, err
	}
	now := s.machine.Snapshot()
	index := max(m.Snapshot().Index(), now.Index()) + 1
	c := &fsm.Command{At: s.door.clock.now(), Who: who, Why: "snapshot restore", Body: &fsm.RaiseEpoch{Above: now.Epoch()}}
	if err := m.Apply(index, c).Err; err != nil {
		return nil, err
	}
	if err := errors.Join(rewind(f), f.Truncate(0), m.Snapshot().Persist(f)); err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	return &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Size: size}, errors.Join(err, rewind(f))
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// receive writes a snapshot to f as it comes, verifies it to its end and leaves f at its beginning. It takes nothing
// beyond what is first found wrong, so that what is no snapshot costs neither time nor disk.
func receive(f *os.File, r io.Reader) (fsm.Header, error) {
	in := &intake{from: r, to: f}
	header, err := fsm.Inspect(in)
	switch {
	case in.size > maxSnapshot:
		return header, api.Errorf(api.CodeTooLarge, "the snapshot has more than %d bytes: nothing was changed", int64(maxSnapshot))
	case in.fault != nil:
		return header, api.Errorf(api.CodeUnavailable, "receiving the snapshot: %w: nothing was changed", in.fault)
	case err != nil:
		return header, fmt.Errorf("the snapshot cannot be restored, nothing was changed: %w", err)
	}
	if err := rewind(f); err != nil {
		return header, fmt.Errorf("reading the snapshot back: %w", err)
	}
	return header, nil
}

// intake passes on what it reads, and keeps a copy.
type intake struct {
	from  io.Reader
	to    io.Writer
	size  int64
	fault error // of either side
}

func (in *intake) Read(p []byte) (int, error) {
	n, err := in.from.Read(p)
	if in.size += int64(n); in.size > maxSnapshot {
		err = errors.New("too large")
	} else if _, e := in.to.Write(p[:n]); e != nil {
		err = e
	}
	if err != nil && !errors.Is(err, io.EOF) {
		in.fault = err
	}
	return n, err
}

// Recover makes the server whose data directory this is, and which must not be running, the only voter of its cluster:
// the way out when a majority of the servers is gone for good. It returns that server. Entries that only the lost servers
// had are lost; the others must join anew with empty data directories.
func Recover(dataDir string, logger hclog.Logger) (api.RaftPeer, error) {
	return raftnode.Recover(dataDir, logger)
}

// Metrics is what a server counts. Totals are since its start.
type Metrics struct {
	AppliedIndex, CommitIndex, LastIndex, Term uint64

	Leading     bool
	LeaderKnown bool
	Servers     int // in the Raft configuration
	Sessions    int // of nodes, with this server

	Plans      uint64
	PlanTime   time.Duration // in all: planning and committing
	Placements uint64
	Rejections uint64

	Reads uint64 // of the state, for people: whatever number of them each answers

	Reports       uint64
	ReportEntries uint64 // log entries that carried them

	Snapshots    uint64
	SnapshotTime time.Duration // in all
}

// counters are the parts of Metrics that are counted as they happen.
type counters struct {
	plans, planTime, placements, rejections, reads, reports, reportEntries, snapshots, snapshotTime atomic.Uint64
}

func (c *counters) planned(took time.Duration, placed, rejected int) {
	c.plans.Add(1)
	c.planTime.Add(uint64(took))
	c.placements.Add(uint64(placed))
	c.rejections.Add(uint64(rejected))
}

func (c *counters) snapshotTook(d time.Duration) {
	c.snapshots.Add(1)
	c.snapshotTime.Add(uint64(d))
}

// Metrics returns what the server counts.
func (s *Server) Metrics() Metrics {
	_, self, known := s.LeaderInfo()
	c := s.metrics
	return Metrics{
		AppliedIndex: s.node.AppliedIndex(), CommitIndex: s.node.CommitIndex(), LastIndex: s.node.LastIndex(), Term: s.node.CurrentTerm(),
		Leading: self, LeaderKnown: known, Servers: len(s.node.Servers()), Sessions: s.registry.Len(),
		Plans: c.plans.Load(), PlanTime: time.Duration(c.planTime.Load()), Placements: c.placements.Load(), Rejections: c.rejections.Load(),
		Reads: c.reads.Load(), Reports: c.reports.Load(), ReportEntries: c.reportEntries.Load(),
		Snapshots: c.snapshots.Load(), SnapshotTime: time.Duration(c.snapshotTime.Load()),
	}
}
