package client

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is one node's surroundings: servers, an engine, and a data directory, which all outlive the node's agents.
type world struct {
	*testing.T
	s      *servers
	engine *fake.Engine
	dir    string
	addrs  []string
	gossip sync.Mutex    // guards addrs and news while an agent runs
	news   chan struct{} // closed when addrs changes
	tune   func(*Config)
	alter  func(*Client) // between New and Run
	c      *Client       // the agent that runs
	cancel context.CancelFunc
	ended  chan error
}

// inWorld runs a story in a bubble, where time passes when everybody waits.
func inWorld(t *testing.T, story func(t *testing.T, w *world)) {
	dir := t.TempDir() // outside: its removal is none of the bubble's business
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, s: newServers(), engine: fake.NewEngine(), dir: dir, addrs: []string{"s1", "s2"}, news: make(chan struct{})}
		story(t, w)
		w.down()
	})
}

type fixedMachine struct{}

func (fixedMachine) Facts(string) (map[string]string, api.Resources, error) {
	return map[string]string{"kernel.name": "linux", "cpu.arch": "amd64"}, api.Resources{CPU: 4000, Memory: 8192, Disk: 10240}, nil
}
func (fixedMachine) Load(string) (*api.NodeLoad, error) { return &api.NodeLoad{CPUTotal: 4000}, nil }

func (w *world) config() Config {
	log := hclog.NewNullLogger()
	if os.Getenv("CUBE_TEST_LOG") != "" {
		log = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: w.Output()})
	}
	cfg := Config{
		Name: "node-a", Datacenter: "dc1", Address: "10.0.0.1", DataDir: filepath.Join(w.dir, "client"), Meta: map[string]string{"rack": "r7"},
		Reserved:   api.Resources{CPU: 500, Memory: 192},
		NewDrivers: func(o driver.Owner) ([]driver.Driver, error) { return []driver.Driver{w.engine.Driver(o)}, nil },
		Connect:    w.s.connect, Servers: w.servers, ServersChanged: w.changed, DecodeJob: decodeJob, Machine: fixedMachine{}, Logger: log,
	}
	if w.tune != nil {
		w.tune(&cfg)
	}
	return cfg
}

// up starts an agent.
func (w *world) up() {
	w.Helper()
	c, err := New(w.config())
	if err != nil {
		w.Fatalf("new client: %v", err)
	}
	if w.alter != nil {
		w.alter(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.c, w.cancel, w.ended = c, cancel, make(chan error, 1)
	go func() { w.ended <- c.Run(ctx) }()
	synctest.Wait()
}

// down ends the agent, if one runs.
func (w *world) down() {
	w.Helper()
	if w.cancel == nil {
		return
	}
	w.cancel()
	if err := <-w.ended; err != nil {
		w.Errorf("run: %v", err)
	}
	w.cancel = nil
}

// gossips has gossip name these servers from now on.
func (w *world) gossips(addrs []string) {
	w.gossip.Lock()
	defer w.gossip.Unlock()
	w.addrs = addrs
	close(w.news)
	w.news = make(chan struct{})
}

func (w *world) servers() []string {
	w.gossip.Lock()
	defer w.gossip.Unlock()
	return w.addrs
}

func (w *world) changed() <-chan struct{} {
	w.gossip.Lock()
	defer w.gossip.Unlock()
	return w.news
}

// mine tells the server that the session is with.
func (w *world) mine(addr string) bool {
	conn, ok := w.c.Current()
	return ok && conn.(*memConn).addr == addr
}

// after lets time pass.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) owner() driver.Owner {
	return driver.Owner{ClusterID: w.s.cluster, NodeID: w.c.NodeID()}
}

func (w *world) instances() []driver.Instance { return w.engine.Instances(w.owner()) }

// only is the one instance there is.
func (w *world) only() driver.Instance {
	w.Helper()
	l := w.instances()
	if len(l) != 1 {
		w.Fatalf("there are %d instances, want one: %+v", len(l), l)
	}
	return l[0]
}

func (w *world) wantPhase(id api.ID, restarts uint32, phase api.Phase) api.AllocationStatus {
	w.Helper()
	st := w.s.status(id)
	if st.Phase != phase || st.Restarts != restarts {
		w.Errorf("the servers have it as %v with %d restarts (%q), want %v with %d", st.Phase, st.Restarts, st.Message, phase, restarts)
	}
	return st
}

func (w *world) wantCount(n int) {
	w.Helper()
	if l := w.instances(); len(l) != n {
		w.Errorf("there are %d instances, want %d: %+v", len(l), n, l)
	}
}

// job is a job of one task, which the script runs.
func job(script map[string]any, change ...func(*api.Job)) *api.Job {
	t := api.DefaultTask("web")
	t.Driver, t.Config = fake.Name, script
	j := &api.Job{Name: "web", Type: api.JobService, Tasks: []*api.Task{t}, Version: 1}
	for _, c := range change {
		c(j)
	}
	return j
}

func named(name string) func(*api.Job) { return func(j *api.Job) { j.Name = name } }

func healthyAfter(d time.Duration) func(*api.Job) {
	return func(j *api.Job) { j.Tasks[0].Update.MinHealthyTime = d }
}

func batchJob(j *api.Job) { j.Type = api.JobBatch }

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}
