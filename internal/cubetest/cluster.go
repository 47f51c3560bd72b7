package cubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"cube/agent"
	"cube/api"
	"cube/api/rest"
	"cube/client/driver"
	"cube/client/driver/fake"
	"cube/internal/memnet"
)

// Cluster is servers at 10.0.0.1 and up and clients at 10.0.1.1 and up. Its methods are for the test's own goroutine.
type Cluster struct {
	Net     *memnet.Network
	Servers []*Agent
	Clients []*Agent

	t     *testing.T
	audit *audit
}

// Agent is one agent of a cluster, running or not.
type Agent struct {
	Name   string
	IP     string
	Engine *fake.Engine // what a client's instances run on; it outlives the agent, as Docker does

	t      *testing.T
	net    *memnet.Network
	cfg    agent.Config
	log    *log
	cancel context.CancelFunc // nil while the agent does not run
	ended  chan error
}

// New starts a cluster and ends it with the test. Call it in a bubble. It does not wait for a leader.
func New(t *testing.T, servers, clients int) *Cluster {
	t.Helper()
	c, dir := newCluster(t), t.TempDir()
	for i := 1; i <= servers; i++ {
		a := c.agent(dir, fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.0.%d", i))
		c.serve(a, servers)
		c.Servers = append(c.Servers, a)
	}
	for i := 1; i <= clients; i++ {
		a := c.agent(dir, fmt.Sprintf("n%d", i), fmt.Sprintf("10.0.1.%d", i))
		a.work()
		c.Clients = append(c.Clients, a)
	}
	c.start()
	return c
}

// NewBoth starts a cluster whose agents are server and client each, and more clients beside them. It is New otherwise.
func NewBoth(t *testing.T, both, clients int) *Cluster {
	t.Helper()
	c, dir := newCluster(t), t.TempDir()
	for i := 1; i <= both+clients; i++ {
		a := c.agent(dir, fmt.Sprintf("b%d", i), fmt.Sprintf("10.0.0.%d", i))
		if i <= both {
			c.serve(a, both)
			c.Servers = append(c.Servers, a)
		}
		a.work()
		c.Clients = append(c.Clients, a)
	}
	c.start()
	return c
}

func newCluster(t *testing.T) *Cluster {
	return &Cluster{Net: memnet.New(1), t: t, audit: &audit{states: map[uint64][32]byte{}}}
}

// agent makes one that is neither server nor client yet.
func (c *Cluster) agent(dir, name, ip string) *Agent {
	a := &Agent{Name: name, IP: ip, t: c.t, net: c.Net, log: &log{}}
	a.cfg = agent.Config{
		Join: []string{"10.0.0.1", "10.0.0.2"}, LogLevel: "debug", Name: name, Bind: ip, HTTP: ip + ":5555",
		DataDir: filepath.Join(dir, name), Network: host{c.Net.Host(ip)},
	}
	return a
}

func (c *Cluster) serve(a *Agent, expect int) {
	a.cfg.Server = agent.ServerConfig{Enabled: true, BootstrapExpect: expect, Audit: c.audit.by(a.Name)}
}

func (a *Agent) work() {
	a.Engine = fake.NewEngine()
	a.cfg.Client = agent.ClientConfig{Enabled: true, Drivers: a.drivers}
}

func (c *Cluster) start() {
	for _, a := range c.agents() {
		a.Start()
	}
	c.t.Cleanup(c.close)
}

// agents lists all, servers first, each once.
func (c *Cluster) agents() []*Agent {
	all := slices.Clone(c.Servers)
	for _, a := range c.Clients {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

func (c *Cluster) close() {
	all := c.agents()
	slices.Reverse(all) // clients first
	for _, a := range all {
		if err := a.Stop(); err != nil {
			c.t.Errorf("%s ended with %v", a.Name, err)
		}
		if c.t.Failed() {
			c.t.Logf("log of %s:\n%s", a.Name, a.log)
		}
	}
	faults, compared := c.audit.report()
	for _, f := range faults {
		c.t.Error(f)
	}
	if len(c.Servers) > 1 && compared == 0 {
		c.t.Error("no state of one server was compared with another's")
	}
	c.Net.Close()
}

func (a *Agent) drivers(owner driver.Owner) ([]driver.Driver, error) {
	return []driver.Driver{a.Engine.Driver(owner)}, nil
}

// Instances counts what runs on a client's machine, whether its agent runs or not.
func (a *Agent) Instances() int {
	_, running := a.Engine.Count()
	return running
}

// Start starts the agent over its data directory.
func (a *Agent) Start() {
	a.t.Helper()
	running, err := agent.New(a.cfg, a.log)
	if err != nil {
		a.t.Fatalf("start %s: %v", a.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.ended = cancel, make(chan error, 1)
	go func() { a.ended <- running.Run(ctx) }() // Stop waits for it
}

// Stop ends the agent in good order; nothing happens when it does not run.
func (a *Agent) Stop() error {
	if a.cancel == nil {
		return nil
	}
	a.cancel()
	a.cancel = nil
	return <-a.ended
}

// Crash takes the agent off the network in the middle of a word, then ends it: nobody hears a farewell.
func (a *Agent) Crash() {
	a.net.Crash(a.IP, memnet.Reset)
	// What it ends with is of no account: it could not reach anybody.
	_ = a.Stop()
}

// Return starts a crashed agent again.
func (a *Agent) Return() {
	a.t.Helper()
	a.net.Restart(a.IP)
	a.Start()
}

// Running reports whether the agent runs.
func (a *Agent) Running() bool { return a.cancel != nil }

// ServerID is the ID in a server's data directory.
func (a *Agent) ServerID() string {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join(a.cfg.DataDir, "server", "server-id"))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(bytes.TrimSpace(b))
}

// Wipe removes the data directory of an agent that does not run.
func (a *Agent) Wipe() {
	a.t.Helper()
	if err := os.RemoveAll(a.cfg.DataDir); err != nil {
		a.t.Fatal(err)
	}
}

// API is the cluster as the agent's HTTP address shows it. It is asked from the agent's own host.
func (a *Agent) API() *rest.Client {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return a.net.Host(a.IP).Dial(ctx, a.IP+":5555")
	}}
	return rest.NewTransportClient(transport)
}

// Up is the API of the first server that runs.
func (c *Cluster) Up() *rest.Client {
	c.t.Helper()
	for _, s := range c.Servers {
		if s.Running() {
			return s.API()
		}
	}
	c.t.Fatal("no server runs")
	return nil
}

// Leader waits for a server that all running servers outside cut call their leader, and returns it.
func (c *Cluster) Leader() *Agent {
	c.t.Helper()
	var found *Agent
	c.Eventually("a leader", 30*time.Second, func(ctx context.Context) error {
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			h, err := s.API().Health(ctx)
			if err == nil && h.Leading {
				found = s
				return nil
			}
		}
		return errors.New("none leads")
	})
	return found
}

// Submit registers HCL source and fails the test if it is refused.
func (c *Cluster) Submit(source string) *api.Registered {
	c.t.Helper()
	var r *api.Registered
	c.Eventually("the submission is accepted", 30*time.Second, func(ctx context.Context) (err error) {
		r, err = c.Up().RegisterJobs(ctx, api.Submission{Source: source, FileName: "test.hcl"}, api.WriteMeta{})
		if api.CodeOf(err) == api.CodeInvalid {
			c.t.Fatal(err)
		}
		return err
	})
	return r
}

// Runs waits until the servers say that the job runs want instances, and the engines agree.
func (c *Cluster) Runs(job string, want int, within time.Duration) []*api.Allocation {
	c.t.Helper()
	var running []*api.Allocation
	c.Eventually(fmt.Sprintf("%d instances of %s run", want, job), within, func(ctx context.Context) error {
		allocs, _, err := c.Up().JobAllocations(ctx, job, api.Query{})
		if err != nil {
			return err
		}
		running = nil
		for _, a := range allocs {
			if a.Phase == api.PhaseRunning && a.Desired == api.DesiredRun {
				running = append(running, a)
			}
		}
		engines := 0
		for _, n := range c.Clients {
			engines += n.Instances()
		}
		if len(running) != want || engines < want {
			return fmt.Errorf("the servers say %d, the engines %d", len(running), engines)
		}
		return nil
	})
	return running
}

// NodesReady waits until want nodes are ready and the leader knows of their sessions.
func (c *Cluster) NodesReady(want int, within time.Duration) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("%d nodes are ready", want), within, func(ctx context.Context) error {
		nodes, _, err := c.Up().ListNodes(ctx, api.Query{})
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range nodes {
			if n.Ready() && n.Connected {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d are", ready, len(nodes))
		}
		return nil
	})
}

// Eventually asks every 20 ms of virtual time until check is content, and returns how long it took.
func (c *Cluster) Eventually(what string, within time.Duration, check func(context.Context) error) time.Duration {
	c.t.Helper()
	start := time.Now()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := check(ctx)
		cancel()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > within {
			c.t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// host is an agent's network on a memnet host.
type host struct{ *memnet.Host }

func (h host) Own() (string, bool)     { return h.IP(), false }
func (h host) GossipFree(string) error { return nil }
func (h host) Gossip(addr string) (memberlist.NodeAwareTransport, error) {
	return h.Host.Transport(addr)
}

// log collects an agent's output.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
