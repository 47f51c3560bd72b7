package fleet

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"cube/agent"
	"cube/api"
	"cube/api/rest"
	"cube/client"
	"cube/client/driver"
	"cube/client/driver/fake"
	"cube/internal/version"
)

// machine is what a simulated node runs on. It has what it was told that it has, and nothing loads it.
type machine struct{ node api.Resources }

var _ client.Machine = machine{}

func (m machine) Facts(string) (map[string]string, api.Resources, error) {
	return map[string]string{"kernel.name": "linux", "kernel.version": "6.12.0", "cpu.arch": "amd64", "cpu.cores": fmt.Sprint(m.node.CPU / 1000)}, m.node, nil
}

func (m machine) Load(string) (*api.NodeLoad, error) {
	return &api.NodeLoad{CPUTotal: m.node.CPU, MemoryTotal: m.node.Memory, DiskTotal: m.node.Disk}, nil
}

// nodes are all simulated nodes of this process. Each is a whole client with its own session and its own engine.
type nodes struct {
	cfg     Config
	specs   specs
	engines []*fake.Engine
	running errgroup.Group // each node's client
	served  errgroup.Group // what serves the clients' sessions
	left    atomic.Int64   // clients that have ended
}

// start starts all nodes; they work until ctx is done, and wait returns when they have ended.
func (n *nodes) start(ctx context.Context) error {
	for i := range n.cfg.Nodes {
		c, engine, err := n.node(n.cfg.First + i)
		if err != nil {
			return fmt.Errorf("make node %d: %w", n.cfg.First+i, err)
		}
		n.engines = append(n.engines, engine)
		n.running.Go(func() error {
			defer n.left.Add(1)
			return c.Run(ctx)
		})
	}
	return nil
}

func (n *nodes) wait() error {
	err := n.running.Wait()
	_ = n.served.Wait() // what serves a session has no error of its own
	return err
}

// node makes node number i.
func (n *nodes) node(i int) (*client.Client, *fake.Engine, error) {
	engine := fake.NewEngine()
	logger := hclog.NewNullLogger()
	if i == n.cfg.First {
		logger = hclog.Default().Named(name(i)) // one of them speaks for all, else a trouble fills the disk
	}
	var c *client.Client
	c, err := client.New(client.Config{
		Name: name(i), Datacenter: api.DefaultDatacenter, Address: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&0xff, i&0xff), Version: version.Number,
		Meta: map[string]string{"class": Class(i, n.cfg.Classes)}, Ephemeral: true, Machine: machine{n.cfg.Node},
		NewDrivers: func(o driver.Owner) ([]driver.Driver, error) { return []driver.Driver{engine.Driver(o)}, nil },
		Connect:    agent.Connector(nil, &n.served, func() http.Handler { return rest.NewWorkerHandler(c) }),
		Servers:    func() []string { return n.cfg.Servers },
		DecodeJob:  n.specs.decode, Logger: logger,
	})
	return c, engine, err
}

func name(i int) string { return fmt.Sprintf("node-%05d", i) }

// Class is the meta attribute "class" of node i where there are so many classes.
func Class(i, classes int) string { return fmt.Sprintf("class_%d", i%max(1, classes)) }

// count returns how many instances there are and how many of them run.
func (n *nodes) count() (all, running int) {
	for _, e := range n.engines {
		a, r := e.Count()
		all, running = all+a, running+r
	}
	return all, running
}

// specs decodes each version of a job once for all nodes of this process, as long as one of them has it. Real nodes have one process
// each and decode for themselves; here thousands of equal copies would be the simulation's weight, not theirs.
type specs struct {
	mu      sync.Mutex // guards what follows
	decoded map[[sha256.Size]byte]weak.Pointer[api.Job]
}

func (s *specs) decode(body []byte) (*api.Job, error) {
	key := sha256.Sum256(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.decoded[key].Value(); j != nil {
		return j, nil
	}
	j, err := rest.DecodeJob(body)
	if err != nil {
		return nil, err
	}
	if s.decoded == nil {
		s.decoded = map[[sha256.Size]byte]weak.Pointer[api.Job]{}
	}
	s.decoded[key] = weak.Make(j)
	runtime.AddCleanup(j, s.forget, key)
	return j, nil
}

// forget is told that no node has a version any more; it may have been decoded again since.
func (s *specs) forget(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decoded[key].Value() == nil {
		delete(s.decoded, key)
	}
}
