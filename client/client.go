// Package client runs on every machine that runs tasks. It keeps one session with a server, learns from it what is to run
// here, makes it so through drivers, and reports what became of it. See DESIGN.md beside this file.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/client/check"
	"cube/client/datadir"
	"cube/client/driver"
)

// Client is one node. New opens its data directory, Run does its work. It implements api.Worker.
type Client struct {
	cfg         Config
	log         hclog.Logger
	id          string
	incarnation uint64
	dir         *datadir.Dir // nil: Ephemeral
	left        *saved       // by an earlier life
	save        *saver       // nil: Ephemeral
	runner      *runner
	link        *link
	probe       func(context.Context, *api.Check, check.Target) (fault string) // see check.Prober

	attributes map[string]string // of the machine
	total      api.Resources
	node       atomic.Pointer[api.Node] // what the node says of itself now; a new one with each change

	visits visits

	mu      sync.Mutex // guards what follows
	owned   driver.Owner
	drivers []driver.Driver
	made    int // times that drivers were made
	infos   map[string]api.DriverInfo
	offers  offers
}

var _ api.Worker = (*Client)(nil)

// New opens the data directory and takes its lock. It refuses, with a line that says why, a directory that another agent
// uses, that belongs to another node or that a newer version wrote; a damaged state.db is set aside and rebuilt from what
// the drivers find. The caller then calls Run, once, which releases everything.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Tuning = cfg.Tuning.withDefaults()
	if cfg.Machine == nil {
		cfg.Machine = &procMachine{root: "/"}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Client{cfg: cfg, log: cfg.Logger, incarnation: rand.Uint64(), left: &saved{}, probe: check.New().Probe}
	c.visits.places, c.visits.sends = make(chan struct{}, maxExecs), make(chan struct{}, fetchesAtOnce)
	if err := c.open(); err != nil {
		return nil, err
	}
	out := newOutbox()
	c.runner = newRunner(c, out, c.save)
	c.link = newLink(c, c.runner, out, c.save, c.left.Cluster)
	c.owned = driver.Owner{ClusterID: c.left.Cluster.Cluster, NodeID: c.id}
	if c.save != nil {
		c.save.rewrite = func() { c.runner.post(c.runner.rewrite) }
	}
	return c, nil
}

// open settles the node's identity and opens what an earlier life has left.
func (c *Client) open() error {
	if c.cfg.Ephemeral {
		c.id = datadir.MintNodeID()
		return nil
	}
	dir, err := datadir.Open(c.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := c.openState(dir); err != nil {
		_ = dir.Close()
		return err
	}
	c.dir = dir
	return nil
}

func (c *Client) openState(dir *datadir.Dir) error {
	id, err := dir.Identity(c.cfg.NewIdentity)
	if err != nil {
		return err
	}
	st, left, err := openState(dir.State())
	if errors.Is(err, errDamaged) {
		c.log.Error("state.db is set aside as state.db.damaged; what runs is found again by its labels", "error", err)
		if err := dir.SetAside("damaged"); err != nil {
			return err
		}
		st, left, err = openState(dir.State())
	}
	if err != nil && !isFull(err) {
		return err
	}
	if left == nil {
		left = &saved{}
	}
	fresh := err == nil && left.Node == ""
	switch {
	case id == "" && left.Node != "":
		id = left.Node // the file is lost, and the directory is the same
		err = dir.SetNodeID(id)
	case id == "":
		id = datadir.MintNodeID()
		err = dir.SetNodeID(id)
	case left.Node != "" && left.Node != id:
		err = api.Errorf(api.CodeConflict, "state.db in %s belongs to node %s and node-id says %s: put the right one back, or start with -new-identity",
			dir.Path(), left.Node, id)
	default:
		err = nil // a full disk is no reason not to start
	}
	if err == nil && fresh {
		if err = st.claim(id); isFull(err) {
			err = st.Close()
			st = nil // the saver opens it anew, when there is room
		}
	}
	if err != nil {
		if st != nil {
			err = errors.Join(err, st.Close())
		}
		return err
	}
	c.id, c.left = id, left
	c.save = newSaver(c.log, nil)
	if st != nil {
		st.db.NoSync = c.cfg.Dev // the file ends with the process: it need not reach the disk
		c.save.st = st
	}
	c.save.reopen = func(damaged bool) (store, error) { return c.reopen(dir, damaged) }
	return nil
}

// isFull tells a full disk from other trouble.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// reopen makes a new state file, in place of a damaged one if need be.
func (c *Client) reopen(dir *datadir.Dir, damaged bool) (store, error) {
	if damaged {
		if err := dir.SetAside("damaged"); err != nil {
			return nil, err
		}
	}
	st, _, err := openState(dir.State())
	if err != nil {
		return nil, err
	}
	if err := st.claim(c.id); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// adoptWait bounds how long the first registration waits for the drivers to say what runs. A driver that is slower is
// registered with what state.db says, and the node registers anew when it has answered.
const adoptWait = 5 * time.Second

// Run works until ctx is done, then returns nil when everything is closed. Instances go on running, unless Config.Dev is
// set. It fails if the machine can not be measured or the drivers can not be made.
func (c *Client) Run(ctx context.Context) (err error) {
	var saving, running sync.WaitGroup
	endSave, endRun := func() {}, func() {}
	defer func() {
		// The order matters: first nothing new comes in, then what runs is left in order, then the drivers are let go,
		// and only then is the state written for the last time and the lock given back.
		endRun()
		running.Wait()
		c.visits.running.Wait() // their sessions have ended
		err = errors.Join(err, c.closeDrivers())
		endSave()
		saving.Wait()
		if c.dir != nil {
			err = errors.Join(err, c.dir.Close())
		}
	}()
	base := context.WithoutCancel(ctx)
	if c.save != nil {
		save, cancel := context.WithCancel(base)
		endSave = cancel
		saving.Go(func() {
			if err := c.save.run(save); err != nil {
				c.log.Error("the client's state was not saved at the end; what runs is found again by its labels", "error", err)
			}
		})
	}
	if err := c.fingerprintMachine(); err != nil {
		return err
	}
	if err := c.makeDrivers(); err != nil {
		return err
	}
	c.fingerprintDevices(true)
	c.fingerprintVolumes()
	c.fingerprintDrivers(ctx, func(api.DriverInfo) bool { return true })
	c.runner.restore(c.left, c.cfg.DecodeJob)
	c.left = nil
	run, cancel := context.WithCancel(base)
	endRun = cancel
	running.Go(func() { c.runner.run(run) })
	if c.owner().ClusterID != "" {
		c.await(ctx, c.useDrivers())
	}
	var working sync.WaitGroup
	working.Go(func() { c.watchDrivers(ctx) })
	c.link.run(ctx)
	working.Wait()
	return nil
}

// useDrivers hands the drivers to the runner. The channel is closed when each has said what runs, or failed to once.
func (c *Client) useDrivers() <-chan struct{} {
	c.mu.Lock()
	list, cluster := c.drivers, c.owned.ClusterID
	c.mu.Unlock()
	looked := make(chan struct{})
	left := int64(len(list))
	if left == 0 {
		close(looked)
	}
	c.runner.post(func() {
		c.runner.use(list, cluster, func() {
			if atomic.AddInt64(&left, -1) == 0 {
				close(looked)
			}
		})
	})
	return looked
}

func (c *Client) await(ctx context.Context, looked <-chan struct{}) {
	t := time.NewTimer(adoptWait)
	defer t.Stop()
	select {
	case <-looked:
	case <-t.C:
	case <-ctx.Done():
	}
}

// meet makes the drivers anew for the cluster that the node has just met. The channel is useDrivers's.
func (c *Client) meet(clusterID string) (<-chan struct{}, error) {
	if err := c.closeDrivers(); err != nil {
		c.log.Warn("close the drivers that were only asked for their fingerprint", "error", err)
	}
	c.mu.Lock()
	c.owned.ClusterID = clusterID
	c.mu.Unlock()
	if err := c.makeDrivers(); err != nil {
		return nil, err
	}
	return c.useDrivers(), nil
}

func (c *Client) makeDrivers() error {
	owner := c.owner()
	list, err := c.cfg.NewDrivers(owner)
	if err != nil {
		return fmt.Errorf("make the drivers: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drivers = list
	c.made++
	return nil
}

func (c *Client) closeDrivers() error {
	c.mu.Lock()
	list := c.drivers
	c.drivers = nil
	c.mu.Unlock()
	var err error
	for _, d := range list {
		err = errors.Join(err, d.Close())
	}
	return err
}

func (c *Client) owner() driver.Owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owned
}

// NodeID returns the node's ID: 32 hexadecimal digits, the same over restarts.
func (c *Client) NodeID() string { return c.id }

// Incarnation tells this life of the node from its others.
func (c *Client) Incarnation() uint64 { return c.incarnation }

// Current returns the session that the client works with; ok is false while it has none. Others may make calls over it.
func (c *Client) Current() (Conn, bool) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.conn, c.link.conn != nil
}

// CurrentChanged returns a channel that is closed when Current answers differently than at the time of the call.
func (c *Client) CurrentChanged() <-chan struct{} {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.changed
}

// Finders find what a node has for tasks besides its resources. One that is nil finds nothing. They are asked at the start and
// as often as drivers are, see Tuning.Fingerprint, by one goroutine at a time. An error says in one line what is not offered,
// beside what is.
type Finders struct {
	Devices func() ([]api.DeviceGroup, error) // in the order of api.SortDevices
	Volumes Volumes
}

// Volumes are the node's volumes; package volume has them. Its methods are safe for concurrent use.
type Volumes interface {
	Find() ([]api.NodeVolume, error) // by name
	// Change takes one step of making or removing a volume; see api.VolumeStep.
	Change(api.VolumeChange) (*api.VolumeDone, error)
}

// Config is what a Client is made of. What the outside world is to it comes in as functions, so that a test or a
// simulation can be that world.
type Config struct {
	Name       string
	Datacenter string
	Address    string // where instances' ports are reached; published ports are bound on it
	HTTPAddr   string // the agent's HTTP API, for people who look at the node
	Version    string // of Cube

	// DataDir is this client's own: state.db, node-id, lock and alloc/<id>/, one directory an allocation. Its file system's
	// free space is the disk that the node offers.
	DataDir string

	Meta     map[string]string
	Reserved api.Resources // held back from what the machine has
	Finders

	// NewIdentity makes the node a new one: the way out when a data directory was copied from a machine that still runs.
	NewIdentity bool
	// Dev stops and removes every instance when Run ends. Otherwise they go on running and the next Run adopts them.
	Dev bool
	// Ephemeral keeps no file at all: no DataDir, no lock, no state. For simulations of many nodes in one process.
	Ephemeral bool

	// NewDrivers makes the drivers of one owner. A node that has never met its cluster does not know its owner: then it is
	// called with an empty ClusterID first, those drivers are only asked for their Fingerprint and closed, and called
	// again with the ID that the first registration brought.
	NewDrivers func(driver.Owner) ([]driver.Driver, error)
	// Connect opens a session with the server at addr. It honours ctx, which ends when the opening takes too long.
	Connect func(ctx context.Context, addr string, h Hello) (Conn, error)
	// Servers gives the RPC addresses that gossip knows now. It may be empty: then the list kept from former answers is used.
	Servers func() []string
	// ServersChanged, if set, gives a channel that is closed when Servers has news; it saves a client that knows no server
	// the wait for its next attempt.
	ServersChanged func() <-chan struct{}
	// DecodeJob reads api.JobSpec.Body.
	DecodeJob func([]byte) (*api.Job, error)

	// Machine is what the client runs on. Default: this machine, through /proc.
	Machine Machine
	Tuning  Tuning
	Logger  hclog.Logger
}

// Tuning holds the client's times and bounds. Zero fields take the defaults.
type Tuning struct {
	// OrphanAfter is how long an instance that the servers do not know runs on after their epoch changed. Default 10 min:
	// time for a person to see that a restore brought back too old a state, and to restore another.
	OrphanAfter time.Duration
	// LoadEvery is how often the node's load is reported while nothing else is. Default 10 s: it only ranks nodes. Below 0:
	// never by itself.
	LoadEvery time.Duration
	// Starts bounds how many instances are being started at once. Default 64: more only make each other slower.
	Starts int
	// Fingerprint is how often healthy drivers are asked for their fingerprint; an unhealthy one is asked six times as
	// often. Default 30 s.
	Fingerprint time.Duration
}

func (t Tuning) withDefaults() Tuning {
	if t.OrphanAfter == 0 {
		t.OrphanAfter = 10 * time.Minute
	}
	if t.LoadEvery == 0 {
		t.LoadEvery = 10 * time.Second
	}
	if t.Starts <= 0 {
		t.Starts = 64
	}
	if t.Fingerprint <= 0 {
		t.Fingerprint = 30 * time.Second
	}
	return t
}

// Hello is what a client says when it opens a session, before anything else.
type Hello struct {
	NodeID      string
	Incarnation uint64
	ClusterID   string // "" on the first contact ever: the client joins whatever cluster answers
}

// Conn is a session with one server. Its methods are safe for concurrent use, and every call in flight ends when it closes.
type Conn interface {
	api.Dispatcher
	api.Estates
	// Done is closed when the session has ended, whoever ended it.
	Done() <-chan struct{}
	// Heard is when something was last heard from the server.
	Heard() time.Time
	// Probe ends the session soon unless the server answers: for those who have a reason to doubt that it lives. It does
	// not block.
	Probe()
	Close() error
}

// Machine is the machine under a client. Its methods are safe for concurrent use.
type Machine interface {
	// Facts are the attributes of the machine, without a prefix (kernel.name, cpu.arch), and what it has in all. They
	// are asked once in a client's life.
	Facts(diskPath string) (attributes map[string]string, total api.Resources, err error)
	// Load measures now.
	Load(diskPath string) (*api.NodeLoad, error)
}

func (c *Config) check() error {
	switch {
	case c.NewDrivers == nil || c.Connect == nil || c.Servers == nil || c.DecodeJob == nil:
		return api.Errorf(api.CodeInternal, "client: NewDrivers, Connect, Servers and DecodeJob are needed")
	case c.DataDir == "" && !c.Ephemeral:
		return api.Errorf(api.CodeInvalid, "the client needs a data directory")
	}
	return nil
}
