package client

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/client/driver"
)

// Config is what a Client is made of. What the outside world is to it comes in as functions, so that a test or a
// simulation can be that world.
type Config struct {
	Name       string
	Datacenter string
	Address    string // where instances' ports are reached; published ports are bound on it
	HTTPAddr   string // the agent's HTTP API, for people who look at the node
	Version    string // of Cube

	// DataDir is this client's own: state.db, node-id, lock and alloc/<id>/, one directory an allocation.
	DataDir string
	// DiskPath is where instances' disk comes from: its file system's free space is what the node offers. Default: DataDir.
	DiskPath string

	Meta     map[string]string
	Reserved api.Resources // held back from what the machine has

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
	// Done is closed when the session has ended, whoever ended it.
	Done() <-chan struct{}
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
