package server

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"cube/agent/server/contact"
	"cube/agent/server/estate"
	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

const (
	// pollWait is about how long a poll waits when nothing changes; each adds up to a tenth, so that they do not all end
	// together.
	pollWait = time.Minute
	// catchUpWait is how long a poll waits for a server that is behind the node's own knowledge.
	catchUpWait = 5 * time.Second
	// unknownWait is how long a follower waits for the registration of a node that it does not know: the node may have
	// registered with the leader a moment ago.
	unknownWait = time.Second
	// leaderlessPoll is how long a poll waits for a leader before it tells the node that there is none.
	leaderlessPoll = 3 * time.Second
	// spareWait is the time over which a server that has come to lead a large cluster sends its nodes elsewhere, beginning
	// when what came with its election is over.
	spareWait = 10 * time.Second
	// spareKnown is how much later at the latest it knows that it is to: servers tell of their sessions every 2 s.
	spareKnown = 3 * time.Second
	// pingWait is how long the other holder of a node's identity may take to prove that it lives.
	pingWait = 3 * time.Second

	maxInventory = 100_000 // instances on one node
	nodeIDLength = 32
)

// Register implements api.Dispatcher. The leader answers, through this server if need be.
func (s *Server) Register(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	answer, err := toLeader(ctx, s, unwritten,
		func() (*api.RegistrationAnswer, error) { return s.Enroll(ctx, r) },
		func(leader string) (*api.RegistrationAnswer, error) { return s.peer(leader).Enroll(ctx, r) })
	if err == nil {
		answer.Elsewhere = s.elsewhere()
	}
	return answer, err
}

// Enroll implements api.Peer.
func (s *Server) Enroll(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	t, err := s.leading()
	if err != nil {
		return nil, err
	}
	if err := checkRegistration(r); err != nil {
		return nil, err
	}
	snapshot := s.machine.Snapshot()
	if r.ClusterID != "" && r.ClusterID != snapshot.ClusterID() {
		return nil, api.Errorf(api.CodeConflict,
			"node %s belongs to cluster %s and this is cluster %s: join the former, or start the client with -new-identity", r.Node.ID, r.ClusterID, snapshot.ClusterID())
	}
	if r.Epoch == snapshot.Epoch() { // else its index is of another history
		if err := s.catchUp(ctx, r.Index); err != nil {
			return nil, err
		}
	}
	if err := s.claim(ctx, t, s.machine.Snapshot().Node(r.Node.ID), r.Node); err != nil {
		return nil, err
	}
	snapshot, verdicts, err := s.admitNode(ctx, t, r)
	if err != nil {
		return nil, err
	}
	answer := &api.RegistrationAnswer{
		ClusterID: snapshot.ClusterID(), Epoch: snapshot.Epoch(), Index: snapshot.Index(), Verdicts: verdicts, Servers: s.serverAddresses(),
	}
	if n := snapshot.Node(r.Node.ID); n != nil {
		answer.Ready, answer.Anew = n.Status == api.NodeReady, n.Away()
	}
	return answer, nil
}

// admitNode writes what is new about a node and judges its inventory by a state that is certainly no older than anything
// acknowledged: a leader that does not know yet that it was replaced would have instances stopped that it has never heard of.
func (s *Server) admitNode(ctx context.Context, t *tenure, r *api.Registration) (*fsm.Snapshot, []api.Verdict, error) {
	snapshot := s.machine.Snapshot()
	known := snapshot.Node(r.Node.ID)
	verdicts, clean := judgeInventory(snapshot, r)
	if known != nil && known.Status != api.NodeDown && sameNode(known, r.Node) {
		if err := s.reads.wait(ctx); err != nil {
			return nil, nil, err
		}
		if s.tenure.Load() != t {
			return nil, nil, notLeader()
		}
		return snapshot, verdicts, nil
	}
	c := &fsm.RegisterNode{Node: r.Node, Ready: clean}
	if known != nil {
		c.JudgedOn = known.ModifyIndex
		// Who has forgotten its cluster cannot tell yet what of it exists on the machine.
		c.Ready = clean && r.ClusterID != ""
	}
	if _, err := s.door.apply(c, origin{Who: "node/" + r.Node.ID, Why: "registration"}); err != nil {
		return nil, nil, err
	}
	// Anew: it may have been declared down in between, and what was lost with it does not run on.
	snapshot = s.machine.Snapshot()
	verdicts, _ = judgeInventory(snapshot, r)
	return snapshot, verdicts, nil
}

func checkRegistration(r *api.Registration) error {
	switch {
	case r.Node == nil || len(r.Node.ID) != nodeIDLength:
		return api.Errorf(api.CodeInvalid, "a registration must name its node by %d hexadecimal digits", nodeIDLength)
	case r.Node.Resources.CPU < 0 || r.Node.Resources.Memory < 0 || r.Node.Resources.Disk < 0:
		return api.Errorf(api.CodeInvalid, "node %s says that it has less than nothing: %+v", r.Node.ID, r.Node.Resources)
	case len(r.Inventory) > maxInventory:
		return api.Errorf(api.CodeTooLarge, "node %s has an inventory of %d instances; %d are allowed", r.Node.ID, len(r.Inventory), maxInventory)
	}
	return nil
}

// claim refuses a node whose identity another live agent holds: most likely its data directory was copied.
func (s *Server) claim(ctx context.Context, t *tenure, known, claimed *api.Node) error {
	if known == nil || known.Incarnation == claimed.Incarnation {
		return nil
	}
	if err := s.awaitReports(ctx, t); err != nil {
		return err
	}
	if t.directory.Holder(known.ID, known.Incarnation, time.Now()) == "" {
		return nil
	}
	worker, err := s.workerOf(known.ID)
	if err != nil {
		return nil // it went away while we looked
	}
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	if err := worker.Ping(ctx); err != nil {
		return nil
	}
	return api.Errorf(api.CodeConflict,
		"node %s is connected already, from %s: was its data directory copied? start one of the two with -new-identity", known.ID, known.Address)
}

// awaitReports waits until this leader knows of all sessions, or of all that it will be told of soon.
func (s *Server) awaitReports(ctx context.Context, t *tenure) error {
	var servers []string
	for _, peer := range s.node.Servers() {
		servers = append(servers, string(peer.ID))
	}
	deadline := time.Now().Add(contact.FirstReports)
	for {
		changed := t.directory.Changed.Wait()
		if t.directory.Settled(servers, time.Now()) {
			return nil
		}
		if !waitFor(ctx, changed, deadline) {
			return ctx.Err()
		}
	}
}

// judgeInventory says what to do with each instance that exists on a node, and whether all of it is to run.
func judgeInventory(snapshot *fsm.Snapshot, r *api.Registration) (verdicts []api.Verdict, clean bool) {
	verdicts, clean = make([]api.Verdict, len(r.Inventory)), true
	for i, item := range r.Inventory {
		row, ok := snapshot.Row(item.ID)
		switch {
		case !ok:
			verdicts[i] = api.VerdictUnknown
		case row.Node != r.Node.ID || row.Phase.Terminal() || row.Hurry && row.Desired == api.DesiredStop:
			verdicts[i] = api.VerdictStop
		case row.Desired == api.DesiredStop:
			verdicts[i] = api.VerdictLeave // which may take long, and nothing has to wait for it
			continue
		default:
			verdicts[i] = api.VerdictRun
			continue
		}
		if !item.Phase.Terminal() {
			clean = false
		}
	}
	return verdicts, clean
}

// sameNode reports whether a registration says what is known: then there is nothing to write.
func sameNode(known, claimed *api.Node) bool {
	return known.Incarnation == claimed.Incarnation && known.Name == claimed.Name && known.Datacenter == claimed.Datacenter &&
		known.Address == claimed.Address && known.HTTPAddr == claimed.HTTPAddr && known.Version == claimed.Version &&
		known.Resources == claimed.Resources && sameMap(known.Attributes, claimed.Attributes) && sameMap(known.Meta, claimed.Meta) &&
		sameDrivers(known.Drivers, claimed.Drivers) && slices.EqualFunc(known.Devices, claimed.Devices, sameDevices) && slices.EqualFunc(known.Volumes, claimed.Volumes, api.NodeVolume.Same)
}

func sameDevices(a, b api.DeviceGroup) bool {
	return a.Type == b.Type && a.Model == b.Model && slices.Equal(a.IDs, b.IDs) && sameMap(a.Attributes, b.Attributes)
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func sameDrivers(a, b map[string]api.DriverInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		w, ok := b[k]
		if !ok || v.Detected != w.Detected || v.Healthy != w.Healthy || v.Reason != w.Reason || !sameMap(v.Attributes, w.Attributes) {
			return false
		}
	}
	return true
}

// Poll implements api.Dispatcher. Every server answers from its own state.
func (s *Server) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	s.registry.SetLoad(r.Node, r.Incarnation, r.Load)
	if r.Epoch >= s.machine.Snapshot().Epoch() { // else its index is of another history
		if err := s.catchUp(ctx, max(r.Index, r.Seen)); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	end := began.Add(pollWait + rand.N(pollWait/10))
	var leave time.Time // when a node of the leader is told to go elsewhere, if it is to
	node := s.told.Take(r)
	defer s.told.Put(r, node)
	for {
		rows := s.machine.Watch(fsm.WatchKey{Table: fsm.TableNodeAllocations, Key: r.Node})
		row := s.machine.Watch(fsm.WatchKey{Table: fsm.TableNodes, Key: r.Node})
		elected := s.leader.changed.Wait()
		now, snapshot := time.Now(), s.machine.Snapshot()
		answer := &api.PollAnswer{Epoch: snapshot.Epoch(), Index: snapshot.Index(), Register: stranger(snapshot, r)}
		news := !answer.Register && node.News(snapshot, r)
		wake := end
		if _, _, known := s.LeaderInfo(); !known {
			_, _, since := s.leader.get()
			answer.NoLeader = now.Sub(since) >= leaderlessPoll && now.Sub(began) >= leaderlessPoll
			wake = signal.Earliest(wake, now.Add(leaderlessPoll))
		}
		if answer.Register && s.tenure.Load() == nil {
			wake = signal.Earliest(wake, began.Add(unknownWait))
		}
		if news && node.Next.Before(wake) {
			wake = node.Next
		}
		switch {
		case s.tenure.Load() == nil:
		case leave.IsZero():
			leave = now.Add(contact.SpareAfter + spareKnown + rand.N(spareWait))
			fallthrough
		case now.Before(leave):
			if leave.Before(wake) {
				wake = leave
			}
		case s.elsewhere():
			wake = now
		}
		if answer.NoLeader || !now.Before(wake) || answer.Register && s.tenure.Load() != nil {
			if news {
				s.polls.Count(now)
				node.Next = now.Add(s.polls.Spacing(s.registry.Len(), now))
			}
			return s.answerPoll(snapshot, r, node, answer)
		}
		if news {
			rows = nil // more of it may come until it is the node's turn
		}
		if err := s.awaitPoll(ctx, wake, rows, row, elected); err != nil {
			return nil, err
		}
	}
}

// elsewhere reports whether this server leads, and its nodes are to go to others.
func (s *Server) elsewhere() bool { return s.tenure.Load() != nil && s.registry.Elsewhere() }

// awaitPoll waits for a time or a change of what a poll depends on.
func (s *Server) awaitPoll(ctx context.Context, wake time.Time, rows, row, elected <-chan struct{}) error {
	timer := time.NewTimer(time.Until(wake))
	defer timer.Stop()
	select {
	case <-rows:
	case <-row:
	case <-elected:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// stranger reports whether a node must register before anything can be said to it.
func stranger(snapshot *fsm.Snapshot, r *api.PollRequest) bool {
	node := snapshot.Node(r.Node)
	return node == nil || node.Incarnation != r.Incarnation || node.Status == api.NodeDown || r.Epoch != snapshot.Epoch()
}

// catchUp waits until this server's state is no older than index.
func (s *Server) catchUp(ctx context.Context, index uint64) error {
	deadline := time.Now().Add(catchUpWait)
	for {
		changed := s.machine.Watch(fsm.WatchKey{Table: fsm.TableAny})
		if s.machine.Snapshot().Index() >= index {
			return nil
		}
		if !time.Now().Before(deadline) {
			return api.Errorf(api.CodeUnavailable, "this server is behind: it is at index %d and the node at %d; try another", s.machine.Snapshot().Index(), index)
		}
		if !waitFor(ctx, changed, deadline) {
			return ctx.Err()
		}
	}
}

// answerPoll completes an answer with what every answer carries, and with what is news to the node.
func (s *Server) answerPoll(snapshot *fsm.Snapshot, r *api.PollRequest, node *contact.ToldNode, answer *api.PollAnswer) (*api.PollAnswer, error) {
	answer.Servers, answer.Excess, answer.Elsewhere = s.serverAddresses(), s.registry.Excess(), s.elsewhere()
	if answer.Register {
		return answer, nil
	}
	type version struct {
		job     string
		version uint64
	}
	specs := make(map[version]bool)
	for row := range node.Tell(snapshot, r) {
		assignment := api.Assignment{
			ID: row.ID, Job: row.Job, Version: row.Version, Task: row.Task, Slot: row.Slot, Desired: row.Desired, Hurry: row.Hurry,
			Ports: snapshot.Ports(row.ID), Devices: snapshot.Claims(row.ID), Restarts: row.Restarts, Phase: row.Phase, Seq: row.Seq,
		}
		estate.Tell(snapshot, row, &assignment)
		answer.Assignments = append(answer.Assignments, assignment)
		if v := (version{row.Job, row.Version}); row.Desired == api.DesiredRun && !specs[v] {
			specs[v] = true
			spec, err := s.specs.get(snapshot, row.Job, row.Version)
			if err != nil {
				return nil, err
			}
			answer.Specs = append(answer.Specs, spec)
		}
	}
	return answer, nil
}

// specCache keeps encoded job versions: every node that runs one is sent the same bytes.
type specCache struct {
	encode func(*api.Job) ([]byte, error)

	mu    sync.Mutex
	specs map[specKey]api.JobSpec
	bytes int
}

type specKey struct {
	job     string
	version uint64
	created uint64 // index: a restored state may have another job under the same name and version
}

// specBytes bounds the cache. When it is full it begins anew: what is in use comes back at once.
const specBytes = 64 << 20

func newSpecCache(encode func(*api.Job) ([]byte, error)) *specCache {
	return &specCache{encode: encode, specs: make(map[specKey]api.JobSpec)}
}

func (c *specCache) get(snapshot *fsm.Snapshot, name string, version uint64) (api.JobSpec, error) {
	job := snapshot.JobVersion(name, version)
	if job == nil {
		return api.JobSpec{}, api.Errorf(api.CodeInternal, "version %d of job %s is in use and not kept", version, name)
	}
	key := specKey{name, version, job.CreateIndex}
	c.mu.Lock()
	defer c.mu.Unlock()
	if spec, ok := c.specs[key]; ok {
		return spec, nil
	}
	plain := *job
	plain.Source = nil // the node has no use for the text, which may be large
	body, err := c.encode(&plain)
	if err != nil {
		return api.JobSpec{}, err
	}
	if c.bytes += len(body); c.bytes > specBytes {
		clear(c.specs)
		c.bytes = len(body)
	}
	spec := api.JobSpec{Job: name, Version: version, Body: body}
	c.specs[key] = spec
	return spec, nil
}
