package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/api/rest"
	"cube/fsm"
	"cube/internal/memnet"
	"cube/internal/session"
)

// The harness runs servers in one process over the network in memory, inside a bubble: raft, sessions and HTTP are the
// real ones, gossip is a board that everybody reads.

// board is gossip without a network: what a member says of itself, everybody knows.
type board struct {
	mu      sync.Mutex
	members map[string]api.Member
	seats   map[string]*seat
}

func newBoard() *board {
	return &board{members: make(map[string]api.Member), seats: make(map[string]*seat)}
}

// seat is one server's view of the board.
type seat struct {
	board  *board
	id     string
	events chan api.MemberEvent
}

// eventBuffer is more than any test makes: a server that has stopped reading must not hold up the others.
const eventBuffer = 10_000

func (b *board) sit(m api.Member) *seat {
	s := &seat{board: b, id: m.ID, events: make(chan api.MemberEvent, eventBuffer)}
	b.mu.Lock()
	b.seats[m.ID] = s
	b.mu.Unlock()
	b.say(m)
	return s
}

func (b *board) say(m api.Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[m.ID] = m
	for _, s := range b.seats {
		s.events <- api.MemberEvent{Member: m}
	}
}

func (b *board) setStatus(id string, status api.MemberStatus) {
	b.mu.Lock()
	m := b.members[id]
	b.mu.Unlock()
	m.Status = status
	b.say(m)
}

func (s *seat) Members() []api.Member {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	var out []api.Member
	for _, m := range s.board.members {
		out = append(out, m)
	}
	return out
}

func (s *seat) Events() <-chan api.MemberEvent { return s.events }

func (s *seat) Update(change func(*api.Member)) {
	s.board.mu.Lock()
	m := s.board.members[s.id]
	s.board.mu.Unlock()
	change(&m)
	s.board.say(m)
}

type cluster struct {
	t     *testing.T
	net   *memnet.Network
	board *board
	log   hclog.Logger
}

// member is one running server.
type member struct {
	*Server
	cluster *cluster
	ip, dir string
	stop    context.CancelFunc
	ended   chan error
	held    atomic.Pointer[chan struct{}] // closed when entries may be applied again; nil while they may
}

// hold lets the server apply one more entry and keeps it from being done with it, as if applying took long, until release is
// called.
func (m *member) hold() (release func()) {
	c := make(chan struct{})
	m.held.Store(&c)
	return func() {
		m.held.Store(nil)
		close(c)
	}
}

func (m *member) pass(*fsm.Snapshot) {
	if c := m.held.Load(); c != nil {
		<-*c
	}
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, net: memnet.New(1), board: newBoard(), log: hclog.NewNullLogger()}
	if testing.Verbose() {
		c.log = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: os.Stderr})
	}
	t.Cleanup(c.net.Close)
	return c
}

func ip(n int) string { return fmt.Sprintf("10.0.0.%d", n) }

// open makes the n-th server on its data directory, without running it.
func (c *cluster) open(n int, id, dir string, change func(*Config)) (*Server, error) {
	host := c.net.Host(ip(n))
	listener, err := host.Listen(net.JoinHostPort(ip(n), "5556"))
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := Config{
		ID: id, Name: fmt.Sprintf("server-%d", n), Version: "test", DataDir: dir,
		Listener: listener, Dial: host.Dial, Advertise: listener.Addr().String(),
		Wire: Wire{NewWorker: rest.NewWorker, NewPeer: rest.NewPeer, EncodeJob: rest.EncodeJob, NewEstates: func(rt http.RoundTripper) api.Estates { return rest.NewTransportClient(rt) },
			NewCluster: func(rt http.RoundTripper) api.Cluster { return rest.NewTransportClient(rt) }},
		Logger: c.log.Named(id),
	}
	if change != nil {
		change(&cfg)
	}
	m := api.Member{ID: id, Name: cfg.Name, Role: api.RoleServer, Status: api.MemberAlive, RPCAddr: cfg.Advertise, Expect: cfg.BootstrapExpect}
	cfg.Membership = c.board.sit(m)
	s, err := New(cfg)
	if err != nil {
		listener.Close()
	}
	return s, err
}

// start runs the n-th server. It is stopped at the end of the test at the latest, its state checked then.
func (c *cluster) start(n int, id, dir string, change func(*Config)) *member {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	m := &member{cluster: c, ip: ip(n), dir: dir, stop: stop, ended: make(chan error, 1)}
	s, err := c.open(n, id, dir, func(cfg *Config) {
		cfg.Audit = m.pass
		if change != nil {
			change(cfg)
		}
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Server = s
	go func() { m.ended <- s.Run(ctx, handler(s)) }()
	c.t.Cleanup(func() {
		if err := m.halt(); err != nil {
			c.t.Errorf("server %s ended with: %v", id, err)
		}
		for _, err := range fsm.Check(s.machine.Snapshot()) {
			c.t.Errorf("the state of server %s is broken: %v", id, err)
		}
	})
	return m
}

// halt stops the server in an orderly way.
func (m *member) halt() error {
	m.stop()
	err := <-m.ended
	m.ended <- nil // for a second halt
	return err
}

// kill takes the server's network away and then stops it: the others see a process that was killed.
func (m *member) kill() {
	m.cluster.net.Crash(m.ip, memnet.Reset)
	m.cluster.board.setStatus(m.cfg.ID, api.MemberFailed)
	m.halt() // without a network, with whatever error
}

// three starts three servers that found a cluster together.
func (c *cluster) three() []*member {
	var out []*member
	for n := 1; n <= 3; n++ {
		out = append(out, c.start(n, fmt.Sprintf("s%d", n), c.t.TempDir(), func(cfg *Config) { cfg.BootstrapExpect, cfg.Joining = 3, n > 1 }))
	}
	return out
}

// leaderOf waits until one of the servers is ready to lead.
func leaderOf(members ...*member) *member {
	for {
		changed := make([]<-chan struct{}, 3)
		for i, m := range members {
			changed[i] = m.LeaderChanged()
		}
		for _, m := range members {
			if _, self, _ := m.LeaderInfo(); self {
				return m
			}
		}
		select {
		case <-changed[0]:
		case <-changed[1]:
		case <-changed[2]:
		}
	}
}

// renew has the leader m begin another tenure.
func (m *member) renew() {
	first := m.tenure.Load()
	first.renew()
	m.leadsAfter(first)
}

// leadsAfter waits until the leader m is in another tenure than that.
func (m *member) leadsAfter(first *tenure) {
	for {
		changed := m.LeaderChanged()
		if t := m.tenure.Load(); t != nil && t != first {
			return
		}
		<-changed
	}
}

// until waits until the state of m satisfies ok, for at most a virtual minute.
func (m *member) until(what string, ok func(*fsm.Snapshot) bool) {
	m.cluster.t.Helper()
	deadline := time.After(time.Minute)
	for {
		changed := m.machine.Watch(fsm.WatchKey{Table: fsm.TableAny})
		if ok(m.machine.Snapshot()) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.cluster.t.Fatalf("a minute later: not %s", what)
		}
	}
}

// handler serves what the agent serves on sessions, without forwarding.
func handler(s *Server) session.Handler {
	r := chi.NewRouter()
	r.HandleFunc("/v1/relay/{node}/*", func(w http.ResponseWriter, req *http.Request) {
		rt, ok := s.NodeTransport(chi.URLParam(req, "node"))
		if !ok {
			rest.WriteError(w, api.Errorf(api.CodeUnavailable, "not here"))
			return
		}
		out := req.Clone(req.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host, out.URL.Path = "", "http", "node", "/"+chi.URLParam(req, "*")
		resp, err := rt.RoundTrip(out)
		if err != nil {
			rest.WriteError(w, err)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	})
	r.Mount("/", rest.NewHandler(s, hclog.NewNullLogger()))
	return session.Handler{HTTP: r, Call: rest.MachineCalls(s, s, func(ctx context.Context) (api.Role, string) {
		h, _ := session.From(ctx)
		return h.Role, h.Sender
	})}
}

// node is a machine that runs what it is told to in no time at all.
type node struct {
	t       *testing.T
	cluster *cluster
	row     api.Node
	session *session.Session
	server  *member
	serving chan error
	worker  api.Worker
	epoch   uint32
	index   uint64
}

func (c *cluster) node(n int) *node {
	id := strings.Repeat(fmt.Sprintf("%x", n%16), nodeIDLength)
	row := api.Node{
		ID: id, Name: fmt.Sprintf("node-%d", n), Datacenter: api.DefaultDatacenter, Address: ip(100 + n), Incarnation: 1,
		Attributes: map[string]string{"kernel.name": "linux"}, Resources: api.Resources{CPU: 4000, Memory: 4096, Disk: 10_000},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}},
	}
	c.board.say(api.Member{ID: id, NodeID: id, Name: row.Name, Role: api.RoleClient, Status: api.MemberAlive})
	return &node{t: c.t, cluster: c, row: row, worker: worker{}}
}

// connect opens the node's session with a server.
func (n *node) connect(m *member) {
	n.t.Helper()
	ctx := context.Background()
	conn, err := n.cluster.net.Host(n.row.Address).Dial(ctx, m.cfg.Advertise)
	if err != nil {
		n.t.Fatal(err)
	}
	n.session, err = session.Dial(ctx, conn, session.Hello{Role: api.RoleClient, Sender: n.row.ID, Incarnation: n.row.Incarnation})
	if err != nil {
		n.t.Fatal(err)
	}
	n.server, n.serving = m, make(chan error, 1)
	s, serving := n.session, n.serving
	go func() { serving <- s.Serve(ctx, session.Handler{HTTP: rest.NewWorkerHandler(n.worker)}) }()
	n.t.Cleanup(func() { s.Close(); <-serving; serving <- nil })
}

// disconnect ends the session and waits until the node's side of it is over.
func (n *node) disconnect() {
	n.session.Close()
	err := <-n.serving
	n.serving <- err
}

func (n *node) dispatcher() api.Dispatcher { return rest.NewDispatcher(n.session.Call) }

// register announces the node to the leader.
func (n *node) register(leader *member, inventory ...api.InventoryItem) *api.RegistrationAnswer {
	n.t.Helper()
	row := n.row
	answer, err := leader.Register(context.Background(), &api.Registration{Node: &row, Index: n.index, Epoch: n.epoch, Inventory: inventory})
	if err != nil {
		n.t.Fatal(err)
	}
	n.epoch = answer.Epoch
	return answer
}

// poll asks the server that holds the session what changed.
func (n *node) poll() *api.PollAnswer {
	n.t.Helper()
	answer, err := n.dispatcher().Poll(context.Background(), &api.PollRequest{Node: n.row.ID, Incarnation: n.row.Incarnation, Epoch: n.epoch, Index: n.index})
	if err != nil {
		n.t.Fatal(err)
	}
	n.index = answer.Index
	return answer
}

// run reports every assignment as running.
func (n *node) run(leader *member, assignments []api.Assignment) *api.ReportAnswer {
	n.t.Helper()
	r := &api.Report{Node: n.row.ID, Incarnation: n.row.Incarnation}
	for _, a := range assignments {
		r.Statuses = append(r.Statuses, api.AllocationStatus{ID: a.ID, Seq: a.Seq + 1, Phase: api.PhaseRunning, StartedAt: 1})
	}
	answer, err := leader.Report(context.Background(), r)
	if err != nil {
		n.t.Fatal(err)
	}
	return answer
}

// worker answers what servers ask of a node.
type worker struct{}

func (worker) Ping(context.Context) error                   { return nil }
func (worker) Stats(context.Context) (*api.NodeLoad, error) { return &api.NodeLoad{CPU: 1}, nil }
func (worker) Usage(_ context.Context, ids []api.ID) (all []api.AllocationUsage, err error) {
	for _, id := range ids {
		all = append(all, api.AllocationUsage{ID: id, Usage: api.Usage{CPU: 10, Memory: 20}})
	}
	return all, nil
}
func (worker) Logs(_ context.Context, id api.ID, _ api.LogRequest) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("log of %d\n", id))), nil
}

func (worker) Estate(_ context.Context, id api.ID, taken bool) (io.ReadCloser, error) {
	if taken {
		return nil, nil
	}
	return io.NopCloser(strings.NewReader(fmt.Sprintf("data of %d", id))), nil
}

func (worker) Volume(context.Context, api.VolumeChange) (*api.VolumeDone, error) {
	return nil, api.Errorf(api.CodeNotYet, "it has no disk")
}

func (worker) Exec(context.Context, api.ID, api.ExecRequest) (io.ReadWriteCloser, error) {
	return nil, api.Errorf(api.CodeConflict, "nothing runs here")
}

func job(name string, count int) *api.Job {
	task := api.DefaultTask(name)
	task.Count, task.Image = count, "hello"
	return &api.Job{Name: name, Type: api.JobService, Priority: api.DefaultPriority, Tasks: []*api.Task{task}}
}

func (m *member) register(j *api.Job) *api.Registered {
	m.cluster.t.Helper()
	r, err := m.RegisterJobs(context.Background(), api.Submission{Job: j}, api.WriteMeta{})
	if err != nil {
		m.cluster.t.Fatal(err)
	}
	return r
}

func wantCode(t *testing.T, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("want an error with code %q, got %q: %v", code, api.CodeOf(err), err)
	}
}
