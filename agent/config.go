package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"cube/agent/server"
	"cube/api"
	"cube/client/device"
	"cube/client/volume"
)

// Default ports. People's API first, then what machines use.
const (
	DefaultHTTPPort   = 5555 // HTTP API, on loopback
	DefaultRPCPort    = 5556 // sessions and Raft
	DefaultGossipPort = 5557 // TCP and UDP
)

// Config is everything that can be said of an agent. The zero value of a field means its default; Complete fills them in.
type Config struct {
	Name       string // what people see; default: the host name
	Datacenter string
	DataDir    string // server/ and client/ stand in it, each with a lock
	Server     ServerConfig
	Client     ClientConfig
	Dev        bool // server and client in one, on loopback, in a temporary directory, nothing kept

	Bind         string   // the address for everything; default: all addresses, HTTP on loopback
	Advertise    string   // the address others reach this agent at; default: Bind, or the default route's
	HTTP         string   // host:port of the HTTP API; default: see Complete
	InsecureBind bool     // a public address may be bound although nothing is encrypted yet
	Join         []string // host[:port] of any members

	LogLevel string
	LogJSON  bool
	Debug    bool // serve the Go runtime's profiles on the HTTP API

	Network Network // nil: the machine's own
}

// ServerConfig is the server's part.
type ServerConfig struct {
	Enabled         bool
	BootstrapExpect int                  // servers that found a cluster together; 0: not given
	Scheduler       string               // default algorithm of jobs that name none
	Preempt         []api.JobType        // types of jobs for which less important instances give way
	Rebalance       *api.RebalanceBudget // what the leader moves by itself to better nodes; nil: nothing
	RaftMultiplier  int                  // scales Raft's timeouts; 1 suits a LAN
	Graces          server.Graces        // how long a node may be silent
	Audit           server.Audit         // for tests: sees the state after every entry
}

// ClientConfig is the client's part.
type ClientConfig struct {
	Enabled     bool
	Meta        map[string]string
	Reserved    api.Resources  // of the machine, kept from instances
	Devices     []device.Block // that the machine does not tell of by itself
	Volumes     []volume.Block // directories that tasks may be given
	NewIdentity bool           // become a new node: the way out when a data directory was copied
	RawExec     bool           // allow the raw_exec driver: instances without isolation
	Drivers     DriverFactory  // nil: docker, and raw_exec where allowed
}

// DevConfig is `cube agent -dev`.
func DevConfig() Config {
	return Config{
		Dev:    true,
		Bind:   "127.0.0.1",
		Server: ServerConfig{Enabled: true},
		Client: ClientConfig{Enabled: true, RawExec: true},
	}
}

// Complete fills in what was not said and refuses what cannot work. It creates nothing but, with Dev, a temporary
// directory.
func (c *Config) Complete() error {
	if !c.Server.Enabled && !c.Client.Enabled {
		return fmt.Errorf("an agent is a server, a client or both; give -server, -client or -dev")
	}
	if c.Dev && len(c.Join) > 0 {
		return fmt.Errorf("-dev is a cluster of its own; it does not take -join")
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host name (give -name): %w", err)
		}
		c.Name = host
	}
	if len(c.Name) > 128 || c.Name != printable(c.Name) {
		return fmt.Errorf("name %.160q is longer than 128 bytes or holds characters that cannot be printed", c.Name)
	}
	if c.Datacenter == "" {
		c.Datacenter = api.DefaultDatacenter
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if c.Server.BootstrapExpect < 0 || c.Server.BootstrapExpect > 9 {
		return fmt.Errorf("bootstrap-expect %d is not a number of servers from 1 to 9", c.Server.BootstrapExpect)
	}
	if c.Server.BootstrapExpect > 0 && !c.Server.Enabled {
		return fmt.Errorf("-bootstrap-expect is for servers; add -server")
	}
	if err := c.completeScheduler(); err != nil {
		return err
	}
	if err := c.completeAddresses(); err != nil {
		return err
	}
	return c.completeDataDir()
}

func (c *Config) completeScheduler() error {
	if c.Server.RaftMultiplier == 0 {
		c.Server.RaftMultiplier = 1
	}
	if c.Server.RaftMultiplier < 1 || c.Server.RaftMultiplier > 10 {
		return fmt.Errorf("raft_multiplier %d is not from 1 to 10", c.Server.RaftMultiplier)
	}
	if c.Server.Scheduler == "" {
		c.Server.Scheduler = api.AlgorithmBinpack
	}
	for _, t := range c.Server.Preempt {
		if types := []api.JobType{api.JobService, api.JobBatch, api.JobSystem, api.JobSysbatch}; !slices.Contains(types, t) {
			return fmt.Errorf("preempt: %q is none of %v", t, types)
		}
	}
	if b := c.Server.Rebalance; b != nil {
		if err := b.Check(); err != nil {
			return fmt.Errorf("rebalance: %w", err)
		}
		if b.Per == 0 {
			return fmt.Errorf("rebalance: per is the time for which max_moves is counted, and how often the servers look; it is above 0")
		}
	}
	for _, a := range api.Algorithms() {
		if a == c.Server.Scheduler {
			return nil
		}
	}
	return fmt.Errorf("scheduler %q is none of %v", c.Server.Scheduler, api.Algorithms())
}

// completeAddresses settles where to listen and what to tell others. A loopback Bind puts everything on that address;
// otherwise HTTP stays on loopback unless it is named.
func (c *Config) completeAddresses() error {
	if c.Bind != "" && net.ParseIP(c.Bind) == nil {
		return fmt.Errorf("bind address %q is not an IP address", c.Bind)
	}
	if c.Advertise != "" && net.ParseIP(c.Advertise) == nil {
		return fmt.Errorf("advertise address %q is not an IP address", c.Advertise)
	}
	if c.Network == nil {
		c.Network = hostNetwork{}
	}
	own, public := c.Network.Own()
	if c.Bind == "" {
		c.Bind = "0.0.0.0"
		if public && !c.InsecureBind {
			// All addresses would include a public one, where everybody could run tasks here.
			c.Bind = own
		}
	}
	bind := net.ParseIP(c.Bind)
	if isPublic(bind) && !c.InsecureBind {
		return fmt.Errorf("%s is a public address and nothing is encrypted yet: anybody could run tasks here; bind a private address, or add -insecure-bind if a firewall stands before it", c.Bind)
	}
	if c.Advertise == "" {
		c.Advertise = c.Bind
		if bind.IsUnspecified() {
			c.Advertise = own
		}
	}
	if c.HTTP == "" {
		host := "127.0.0.1"
		if bind.IsLoopback() {
			host = c.Bind
		}
		c.HTTP = net.JoinHostPort(host, strconv.Itoa(DefaultHTTPPort))
	}
	if _, _, err := net.SplitHostPort(c.HTTP); err != nil {
		return fmt.Errorf("http address %q is not host:port: %w", c.HTTP, err)
	}
	return nil
}

func (c *Config) completeDataDir() error {
	if c.Dev {
		dir, err := os.MkdirTemp("", "cube-dev-")
		if err != nil {
			return fmt.Errorf("make a temporary data directory: %w", err)
		}
		c.DataDir = dir
		return nil
	}
	if c.DataDir != "" {
		dir, err := filepath.Abs(c.DataDir)
		if err != nil {
			return fmt.Errorf("data directory %s: %w", c.DataDir, err)
		}
		c.DataDir = dir
		return nil
	}
	dir, err := DefaultDataDir()
	c.DataDir = dir
	return err
}

// DefaultDataDir is /var/lib/cube for root and .local/share/cube under the home directory for others.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/cube", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory (give -data-dir): %w", err)
	}
	return filepath.Join(home, ".local", "share", "cube"), nil
}

// printable returns s without the characters a terminal would act on.
func printable(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if strconv.IsPrint(r) {
			out = append(out, r)
		}
	}
	return string(out)
}
