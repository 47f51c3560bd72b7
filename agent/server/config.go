package server

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"

	"cube/agent/server/contact"
	"cube/agent/server/raftnode"
	"cube/api"
	"cube/fsm"
	"cube/internal/session"
)

// Config is what a server is made of. The fields without "optional" must be set.
type Config struct {
	ID      string // Raft ID, for the life of the data directory
	Name    string // what people see
	Version string // of Cube
	DataDir string // its own: raft.db, snapshots, marker, lock

	Listener  net.Listener                                             // sessions and Raft; Run closes it
	Dial      func(ctx context.Context, addr string) (net.Conn, error) // to other servers
	Advertise string                                                   // host:port at which others reach Listener

	Joining         bool // -join was given: never bootstraps by itself, unless with others by BootstrapExpect
	BootstrapExpect int  // optional: how many new servers bootstrap together
	Dev             bool // alone for good, and DataDir ends with the process: slow Raft timers, no wait for the disk, refuses joins

	Membership Membership
	Wire

	Policy         Policy // optional
	RaftMultiplier int    // optional: stretches Raft's timing, 1
	Graces         Graces // optional
	// Audit, if set, sees the state after every entry that is applied, before anything else does: for tests.
	Audit  Audit
	Logger hclog.Logger
}

// Wire is what others are over a connection, and how jobs travel.
type Wire struct {
	// NewWorker returns the node behind a session's transport, NewCluster and NewEstates the server behind one, and NewPeer the
	// server behind a session's calls.
	NewWorker  func(http.RoundTripper) api.Worker
	NewPeer    func(session.CallFunc) api.Peer
	NewCluster func(http.RoundTripper) api.Cluster
	NewEstates func(http.RoundTripper) api.Estates
	EncodeJob  func(*api.Job) ([]byte, error) // for JobSpec.Body
}

// Policy is how jobs are placed that do not say it themselves.
type Policy struct {
	Algorithm string        // binpack unless it is set
	Preempt   []api.JobType // types of jobs for which instances of less important jobs give way
	// Rebalance is how much the leader moves by itself to better nodes; nil: nothing.
	Rebalance *api.RebalanceBudget
}

// Graces says how long a node may be silent; zero fields take the defaults.
type Graces = contact.Graces

// Audit looks at a state. It must not keep applying waiting for long.
type Audit = func(*fsm.Snapshot)

// Membership is what a server needs of gossip.
type Membership interface {
	// Members returns everyone known, the server itself included.
	Members() []api.Member
	// Events tells that something changed. The server is its only reader; it must not be closed before Run returns.
	Events() <-chan api.MemberEvent
	// Update changes what the server says of itself.
	Update(func(self *api.Member))
}

const (
	// DefaultNodeGrace is how long a node whose session ended and whom gossip calls failed may take to come back: an
	// agent that is restarted does so in less.
	DefaultNodeGrace = 5 * time.Second
	// DefaultDisconnectAfter is how long a node may be silent while gossip still sees it, or while nobody observed it.
	DefaultDisconnectAfter = 30 * time.Second
)

// complete fills in defaults and says what is missing.
func (c *Config) complete() error {
	switch {
	case c.ID == "" || c.DataDir == "" || c.Advertise == "":
		return api.Errorf(api.CodeInvalid, "a server needs an ID, a data directory and an address to advertise")
	case c.Listener == nil || c.Dial == nil || c.Membership == nil:
		return api.Errorf(api.CodeInvalid, "a server needs a listener, a dialler and gossip")
	case c.NewWorker == nil || c.NewPeer == nil || c.NewCluster == nil || c.NewEstates == nil || c.EncodeJob == nil:
		return api.Errorf(api.CodeInvalid, "a server needs the means to talk to nodes and other servers")
	case c.Dev && (c.Joining || c.BootstrapExpect > 1):
		return api.Errorf(api.CodeInvalid, "a -dev server is alone: leave out -join and -bootstrap-expect, or leave out -dev")
	case c.BootstrapExpect < 0:
		return api.Errorf(api.CodeInvalid, "-bootstrap-expect %d is not a number of servers", c.BootstrapExpect)
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	c.Policy.Algorithm = cmp.Or(c.Policy.Algorithm, api.AlgorithmBinpack)
	c.Graces.Node = cmp.Or(c.Graces.Node, DefaultNodeGrace)
	c.Graces.Disconnect = cmp.Or(c.Graces.Disconnect, DefaultDisconnectAfter)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return nil
}

func (c *Config) timing() raftnode.Timing {
	if c.Dev {
		return raftnode.DevTiming()
	}
	return raftnode.LANTiming(c.RaftMultiplier)
}
