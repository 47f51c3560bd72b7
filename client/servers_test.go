package client

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"cube/api"
)

// servers are a small cluster that works, in memory: what the client's tests talk to. It keeps allocations, answers
// polls with what changed, judges inventories and takes statuses by the rules of api.AllocationStatus.
type servers struct {
	mu       sync.Mutex
	cluster  string
	epoch    uint32
	index    uint64
	jobs     map[specKey]*api.Job
	rows     map[api.ID]*row
	nodes    map[string]*api.Node
	down     map[string]bool // addresses that do not answer
	silent   map[string]bool // addresses that take connections and never answer again
	leading  map[string]bool // addresses that know no leader say false
	failing  error           // what every call answers
	spacing  time.Duration
	excess   map[string]float64 // of addresses that have too many nodes
	busy     map[string]bool    // addresses that send their nodes elsewhere
	conns    map[*memConn]bool
	changed  chan struct{}
	seen     []api.AllocationStatus // every status that was taken, in order
	ready    int                    // reports that said Ready
	enrolled []api.Registration
	reports  int
	anew     bool // the next registration is that of a node which was away
	untold   int  // instances of which nothing was told anew when a report said Ready
	estates  func(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error)
}

// row is an allocation as the servers have it.
type row struct {
	api.Assignment
	node   string
	index  uint64
	status api.AllocationStatus
}

func newServers() *servers {
	return &servers{cluster: "c0ffee", epoch: 1, index: 1, jobs: map[specKey]*api.Job{}, rows: map[api.ID]*row{}, nodes: map[string]*api.Node{},
		down: map[string]bool{}, silent: map[string]bool{}, leading: map[string]bool{}, conns: map[*memConn]bool{}, changed: make(chan struct{})}
}

func decodeJob(b []byte) (*api.Job, error) {
	var j api.Job
	return &j, json.Unmarshal(b, &j)
}

// change does f and wakes the polls. f gets the new index.
func (s *servers) change(f func(index uint64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	f(s.index)
	close(s.changed)
	s.changed = make(chan struct{})
}

// place puts an instance of the job's only task on the node.
func (s *servers) place(node string, job *api.Job, slot uint32, ports ...api.PortBinding) api.ID {
	return s.placeWith(node, job, slot, nil, ports...)
}

// placeWith puts one there that holds devices.
func (s *servers) placeWith(node string, job *api.Job, slot uint32, devices []api.DeviceClaim, ports ...api.PortBinding) api.ID {
	return s.placeAs(node, job, api.Assignment{Slot: slot, Ports: ports, Devices: devices})
}

// placeAs puts one there as an assignment says it.
func (s *servers) placeAs(node string, job *api.Job, a api.Assignment) api.ID {
	s.change(func(index uint64) {
		s.jobs[specKey{job.Name, job.Version}] = job
		a.ID, a.Job, a.Version, a.Task = api.MakeID(s.epoch, uint32(index)), job.Name, job.Version, job.Tasks[0].Name
		s.rows[a.ID] = &row{node: node, index: index, Assignment: a}
	})
	return a.ID
}

func (s *servers) stop(id api.ID) {
	s.change(func(index uint64) { s.rows[id].Desired, s.rows[id].index = api.DesiredStop, index })
}

func (s *servers) stopNow(id api.ID) {
	s.change(func(index uint64) {
		w := s.rows[id]
		w.Desired, w.Hurry, w.index = api.DesiredStop, true, index
	})
}

func (s *servers) status(id api.ID) api.AllocationStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rows[id]; r != nil {
		return r.status
	}
	return api.AllocationStatus{}
}

// history is what was said of an allocation.
func (s *servers) history(id api.ID) (out []api.AllocationStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.seen {
		if st.ID == id {
			out = append(out, st)
		}
	}
	return out
}

func (s *servers) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// of reads something of the servers.
func of[T any](s *servers, read func(s *servers) T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read(s)
}

func (s *servers) readies() int { return of(s, func(s *servers) int { return s.ready }) }
func (s *servers) told() int    { return of(s, func(s *servers) int { return s.reports }) }

// registrations are copies, in order.
func (s *servers) registrations() []api.Registration {
	return of(s, func(s *servers) []api.Registration { return slices.Clone(s.enrolled) })
}

// node is what the node said of itself last.
func (s *servers) node(id string) *api.Node {
	return of(s, func(s *servers) *api.Node { return s.nodes[id] })
}

// shut ends all sessions with an address, and lets no new one begin until open.
func (s *servers) shut(addr string) {
	s.mu.Lock()
	s.down[addr] = true
	var ended []*memConn
	for c := range s.conns {
		if c.addr == addr {
			ended = append(ended, c)
		}
	}
	s.mu.Unlock()
	for _, c := range ended {
		_ = c.Close()
	}
}

func (s *servers) open(addr string) { s.set(func() { delete(s.down, addr) }) }

func (s *servers) connect(ctx context.Context, addr string, h Hello) (Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down[addr] {
		return nil, api.Errorf(api.CodeUnavailable, "%s does not answer", addr)
	}
	if h.ClusterID != "" && h.ClusterID != s.cluster {
		return nil, api.Errorf(api.CodeConflict, "%s is of another cluster", addr)
	}
	c := &memConn{s: s, addr: addr, done: make(chan struct{})}
	s.conns[c] = true
	return c, nil
}

// memConn is a session.
type memConn struct {
	s    *servers
	addr string
	once sync.Once
	done chan struct{}
}

func (c *memConn) Done() <-chan struct{} { return c.done }

// Heard: servers say something all the time, until they are gone.
func (c *memConn) Heard() time.Time { return time.Now() }

// Probe ends the session with a server that says nothing, as a session does.
func (c *memConn) Probe() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.silent[c.addr] {
		time.AfterFunc(3*time.Second, func() { c.Close() })
	}
}

// hang waits for the end while the server says nothing.
func (c *memConn) hang(ctx context.Context) {
	c.s.mu.Lock()
	silent := c.s.silent[c.addr]
	c.s.mu.Unlock()
	if silent {
		select {
		case <-c.done:
		case <-ctx.Done():
		}
	}
}

func (c *memConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.s.set(func() { delete(c.s.conns, c) })
	})
	return nil
}

// Fetch answers what a test has the servers answer.
func (c *memConn) Fetch(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error) {
	fetch := of(c.s, func(s *servers) func(context.Context, string, api.FetchRequest) (io.ReadCloser, error) {
		return s.estates
	})
	if fetch == nil {
		return nil, api.Errorf(api.CodeNotFound, "nothing is there")
	}
	return fetch(ctx, node, r)
}

func (c *memConn) usable() error {
	select {
	case <-c.done:
		return errSessionEnded
	default:
	}
	return c.s.failing
}

func (c *memConn) Register(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	c.hang(ctx)
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := c.usable(); err != nil {
		return nil, err
	}
	if leads, told := s.leading[c.addr]; told && !leads {
		return nil, api.Errorf(api.CodeNoLeader, "%s knows no leader", c.addr)
	}
	s.enrolled = append(s.enrolled, *r)
	s.nodes[r.Node.ID] = r.Node
	a := &api.RegistrationAnswer{ClusterID: s.cluster, Epoch: s.epoch, Index: s.index, Ready: true, Elsewhere: s.busy[c.addr]}
	for _, item := range r.Inventory {
		v := api.VerdictUnknown
		if w := s.rows[item.ID]; w != nil && w.node == r.Node.ID {
			v = api.VerdictRun
			switch {
			case w.Hurry || w.status.Phase.Terminal():
				v = api.VerdictStop
			case w.Desired == api.DesiredStop:
				v = api.VerdictLeave
			}
		}
		if v != api.VerdictRun && v != api.VerdictLeave {
			a.Ready = false
		}
		a.Verdicts = append(a.Verdicts, v)
	}
	if s.anew {
		s.anew, a.Anew, a.Ready = false, true, false
		for _, w := range s.rows {
			w.status.Seq, w.status.Health = 0, api.HealthUnknown
		}
	}
	return a, nil
}

func (c *memConn) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	s := c.s
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		if err := c.usable(); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		a := s.news(r)
		if leads, told := s.leading[c.addr]; told && !leads {
			a.NoLeader = true
		}
		a.Excess, a.Elsewhere = s.excess[c.addr], s.busy[c.addr]
		changed := s.changed
		s.mu.Unlock()
		if len(a.Assignments) > 0 || a.NoLeader || a.Epoch != r.Epoch {
			return a, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return a, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.done:
			return nil, errSessionEnded
		}
	}
}

// news is what changed for the node since the index it has. The caller holds mu.
func (s *servers) news(r *api.PollRequest) *api.PollAnswer {
	a := &api.PollAnswer{Epoch: s.epoch, Index: s.index}
	sent := map[specKey]bool{}
	for _, w := range s.rows {
		if w.node != r.Node || w.index <= r.Index || r.Index == 0 && w.status.Phase.Terminal() {
			continue
		}
		x := w.Assignment
		x.Restarts, x.Phase, x.Seq = w.status.Restarts, w.status.Phase, w.status.Seq
		a.Assignments = append(a.Assignments, x)
		key := specKey{w.Job, w.Version}
		if x.Desired == api.DesiredRun && !sent[key] {
			sent[key] = true
			body, _ := json.Marshal(s.jobs[key])
			a.Specs = append(a.Specs, api.JobSpec{Job: key.Job, Version: key.Version, Body: body})
		}
	}
	slices.SortFunc(a.Assignments, func(x, y api.Assignment) int { return cmp.Compare(x.ID, y.ID) })
	return a
}

func (c *memConn) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	c.hang(ctx)
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := c.usable(); err != nil {
		return nil, err
	}
	s.reports++
	if r.Ready {
		s.ready++
	}
	a := &api.ReportAnswer{Index: s.index, Spacing: s.spacing}
	for _, st := range r.Statuses {
		w := s.rows[st.ID]
		switch {
		case w == nil || w.node != r.Node:
			a.Unknown = append(a.Unknown, st.ID)
		case st.Seq > w.status.Seq && (w.status.Phase == st.Phase && w.status.Restarts == st.Restarts && !st.Phase.Terminal() ||
			api.ProgressLess(w.status.Restarts, w.status.Phase, st.Restarts, st.Phase)):
			w.status = st
			s.seen = append(s.seen, st)
		}
	}
	for _, w := range s.rows {
		if r.Ready && w.node == r.Node && w.status.Seq == 0 {
			s.untold++
		}
	}
	return a, nil
}
