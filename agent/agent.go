package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"cube/agent/gossip"
	"cube/agent/server"
	"cube/api"
	"cube/api/rest"
	"cube/client"
	"cube/client/device"
	"cube/client/volume"
	"cube/internal/version"
)

// Agent is one process: a server, a client or both.
type Agent struct {
	cfg    Config
	logger hclog.Logger

	http   net.Listener
	rpc    net.Listener // nil without a server
	gossip string       // host:port that others join

	pool   *gossip.Pool
	server *server.Server // nil without a server
	client *client.Client // nil without a client
	served errgroup.Group // what serves the client's sessions
	notes  []string       // what a person should know at the start
	news   news           // that gossip has something new, for the client
	known  acquaintances  // servers met before, to find again after a restart
}

// serverSide is what the HTTP layer needs of a server.
type serverSide interface {
	api.Cluster
	api.Dispatcher
	api.Peer
	api.Estates
	leadership
	NodeTransport(nodeID string) (http.RoundTripper, bool)
}

// New opens everything that can fail early: the configuration, the listeners, the data directories. Logs go to w. After
// an error nothing is left open. The caller calls Run, once.
func New(cfg Config, w io.Writer) (_ *Agent, err error) {
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && cfg.Dev {
			err = errors.Join(err, os.RemoveAll(cfg.DataDir)) // it is a temporary one, and nobody else knows of it
		}
	}()
	level := hclog.LevelFromString(cfg.LogLevel)
	if level == hclog.NoLevel {
		return nil, fmt.Errorf("log level %q is none of trace, debug, info, warn, error", cfg.LogLevel)
	}
	a := &Agent{cfg: cfg, logger: hclog.New(&hclog.LoggerOptions{Name: "cube", Level: level, JSONFormat: cfg.LogJSON, Output: w})}
	if err := a.open(); err != nil {
		a.closeListeners()
		return nil, err
	}
	return a, nil
}

func (a *Agent) open() error {
	if err := a.listen(); err != nil {
		return err
	}
	self := api.Member{Name: a.cfg.Name, Datacenter: a.cfg.Datacenter, Version: version.Number, HTTPAddr: a.http.Addr().String(), Role: api.RoleClient}
	if a.cfg.Client.Enabled {
		if err := a.newClient(); err != nil {
			return err
		}
		self.ID, self.NodeID = a.client.NodeID(), a.client.NodeID()
	}
	serverDir := filepath.Join(a.cfg.DataDir, "server")
	a.known = acquaintances{filepath.Join(a.cfg.DataDir, string(api.RoleClient), acquaintancesFile), a.logger}
	if a.cfg.Server.Enabled {
		id, err := serverID(serverDir)
		if err != nil {
			return err
		}
		self.Role, self.ID, self.Expect = api.RoleServer, id, a.cfg.Server.BootstrapExpect
		self.RPCAddr = a.advertised(a.rpc)
		a.known.path = filepath.Join(serverDir, acquaintancesFile)
	}
	transport, err := a.cfg.Network.Gossip(a.gossipBind())
	if err != nil {
		return fmt.Errorf("open gossip on %s: %w", a.gossipBind(), err)
	}
	a.pool, err = gossip.New(gossip.Config{
		Self: self, Bind: a.gossipBind(), Advertise: a.gossip, Transport: transport, Remember: a.known.save,
		Quiet: a.cfg.Dev, Logger: a.logger.Named("gossip"),
	})
	if err != nil {
		return err
	}
	if !a.cfg.Server.Enabled {
		return nil
	}
	a.server, err = server.New(server.Config{
		ID: self.ID, Name: a.cfg.Name, Version: version.Number, DataDir: serverDir,
		Listener: a.rpc, Dial: a.cfg.Network.Dial, Advertise: self.RPCAddr,
		Joining: len(a.cfg.Join) > 0, BootstrapExpect: a.cfg.Server.BootstrapExpect, Dev: a.cfg.Dev,
		Membership: a.pool, Wire: server.Wire{NewWorker: rest.NewWorker, NewPeer: rest.NewPeer,
			NewCluster: func(rt http.RoundTripper) api.Cluster { return rest.NewTransportClient(rt) },
			NewEstates: func(rt http.RoundTripper) api.Estates { return rest.NewTransportClient(rt) }, EncodeJob: rest.EncodeJob},
		Policy: server.Policy{Algorithm: a.cfg.Server.Scheduler, Preempt: a.cfg.Server.Preempt, Rebalance: a.cfg.Server.Rebalance}, RaftMultiplier: a.cfg.Server.RaftMultiplier,
		Graces: a.cfg.Server.Graces, Audit: a.cfg.Server.Audit, Logger: a.logger.Named("server"),
	})
	return err
}

// listen opens the agent's addresses. A client may stand on any port: where a default one is taken it takes another and
// says so. A server's address is what others know it by, so it does not move.
func (a *Agent) listen() (err error) {
	mayMove := !a.cfg.Server.Enabled || a.cfg.Dev
	host, portText, err := net.SplitHostPort(a.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("http address %q is not host:port: %w", a.cfg.HTTP, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return fmt.Errorf("http address %q has no port from 0 to 65535", a.cfg.HTTP)
	}
	var moved bool
	if a.http, moved, err = listen(a.cfg.Network, host, port, mayMove); err != nil {
		return err
	}
	if moved {
		a.notes = append(a.notes, fmt.Sprintf("Port %d is taken: the HTTP API of this agent is at %s (use -address or CUBE_ADDR)", port, a.http.Addr()))
	}
	if a.cfg.Server.Enabled {
		if a.rpc, moved, err = listen(a.cfg.Network, a.cfg.Bind, DefaultRPCPort, mayMove); err != nil {
			return err
		}
		if moved {
			a.notes = append(a.notes, fmt.Sprintf("Port %d is taken: servers and nodes reach this agent at %s", DefaultRPCPort, a.rpc.Addr()))
		}
	}
	gossipPort, moved, err := gossipPort(a.cfg.Network, a.cfg.Bind, mayMove)
	if err != nil {
		return err
	}
	if moved {
		a.notes = append(a.notes, fmt.Sprintf("Port %d is taken: gossip uses port %d", DefaultGossipPort, gossipPort))
	}
	a.gossip = net.JoinHostPort(a.cfg.Advertise, strconv.Itoa(gossipPort))
	return nil
}

func (a *Agent) closeListeners() {
	for _, l := range []net.Listener{a.http, a.rpc} {
		if l != nil {
			l.Close() // nothing was accepted
		}
	}
}

// advertised is how others reach a listener.
func (a *Agent) advertised(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String() // an in-memory address is what it is
	}
	return net.JoinHostPort(a.cfg.Advertise, port)
}

func (a *Agent) gossipBind() string {
	_, port, err := net.SplitHostPort(a.gossip)
	if err != nil {
		return a.gossip
	}
	return net.JoinHostPort(a.cfg.Bind, port)
}

func (a *Agent) newClient() error {
	dir := filepath.Join(a.cfg.DataDir, "client")
	drivers := a.cfg.Client.Drivers
	if drivers == nil {
		drivers = hostDrivers(dir, a.cfg.Client.RawExec, a.logger)
	}
	static, err := device.Static(a.cfg.Client.Devices)
	if err != nil {
		return err
	}
	volumes, err := volume.Static(a.cfg.Client.Volumes)
	if err != nil {
		return err
	}
	a.client, err = client.New(client.Config{
		Name: a.cfg.Name, Datacenter: a.cfg.Datacenter, Address: a.cfg.Advertise, HTTPAddr: a.http.Addr().String(),
		Version: version.Number, DataDir: dir, Meta: a.cfg.Client.Meta, Reserved: a.cfg.Client.Reserved,
		Finders: client.Finders{
			Devices: (&device.Finder{Root: "/", Static: static}).Find,
			Volumes: volume.New(filepath.Join(dir, "volumes"), volumes),
		},
		NewIdentity: a.cfg.Client.NewIdentity, Dev: a.cfg.Dev, NewDrivers: drivers,
		Connect: Connector(a.cfg.Network, &a.served, func() http.Handler { return rest.NewWorkerHandler(a.client) }),
		Servers: a.servers, ServersChanged: a.news.changed, DecodeJob: rest.DecodeJob, Logger: a.logger.Named("client"),
	})
	return err
}

// servers lists the RPC addresses of the servers gossip knows. It is empty before the pool stands.
func (a *Agent) servers() []string {
	if a.pool == nil {
		return nil
	}
	var addrs []string
	for _, m := range a.pool.Members() {
		if m.Role == api.RoleServer && m.Status == api.MemberAlive && m.RPCAddr != "" {
			addrs = append(addrs, m.RPCAddr)
		}
	}
	return addrs
}

// Run works until ctx is done or a part fails. It ends in this order: the people's API, so that nobody is promised
// anything more; the client, which with -dev stops its instances; the server, which hands over leadership; gossip last,
// since the others still need to know who is there.
func (a *Agent) Run(ctx context.Context) error {
	people := stage{func(ctx context.Context) error {
		return serveHTTP(ctx, a.http, a.peopleHandler(), a.logger.Named("http"))
	}}
	var clients, servers stage
	if a.client != nil {
		clients = stage{func(ctx context.Context) error {
			return errors.Join(a.client.Run(ctx), a.served.Wait())
		}}
	}
	if a.server != nil {
		_, sessions := serverHandlers(a.server, a.metrics(), a.logger.Named("http"))
		servers = stage{func(ctx context.Context) error { return a.server.Run(ctx, sessions) }}
	}
	joining := append(a.known.load(), a.cfg.Join...)
	members := stage{func(ctx context.Context) error { return a.pool.Run(ctx, joining) }}
	if a.server == nil {
		if len(joining) == 0 {
			a.logger.Warn("this client knows no member of a cluster: name any of them with -join HOST, or wait until one joins this agent")
		}
		// With a server it is the server that reads the events; its own address is known from the start.
		members = append(members, func(ctx context.Context) error { return a.news.follow(ctx, a.pool.Events()) })
	}
	err := runStages(ctx, people, clients, servers, members)
	if a.cfg.Dev {
		err = errors.Join(err, os.RemoveAll(a.cfg.DataDir))
	}
	return err
}

// peopleHandler is the HTTP API of this agent: the server's own, or the way to one.
func (a *Agent) peopleHandler() http.Handler {
	node := ""
	if a.client != nil {
		node = a.client.NodeID()
	}
	if a.server != nil {
		people, _ := serverHandlers(a.server, a.metrics(), a.logger.Named("http"))
		return public(withProfiles(a.cfg.Debug, withNode(node, people)), a.http.Addr(), a.cfg.Name)
	}
	p := &proxy{changed: a.client.CurrentChanged, servers: a.servers, current: func() (http.RoundTripper, bool) {
		conn, ok := a.client.Current()
		if !ok {
			return nil, false
		}
		c, ok := conn.(*clientConn)
		if !ok {
			return nil, false
		}
		return c.session.Transport(), true
	}}
	return public(withProfiles(a.cfg.Debug, withMetrics(a.metrics(), withNode(node, p))), a.http.Addr(), a.cfg.Name)
}

// Fact is one line of what an agent says of itself when it starts.
type Fact struct{ Key, Value string }

// Facts says where the agent stands.
func (a *Agent) Facts() []Fact {
	role := "client"
	switch {
	case a.server != nil && a.client != nil:
		role = "server and client"
	case a.server != nil:
		role = "server"
	}
	facts := []Fact{{"Version", version.Number}, {"Name", a.cfg.Name}, {"Role", role}, {"HTTP API", "http://" + a.http.Addr().String()}}
	if a.rpc != nil {
		facts = append(facts, Fact{"RPC", a.advertised(a.rpc)})
	}
	facts = append(facts, Fact{"Gossip", a.gossip}, Fact{"Data", a.cfg.DataDir})
	if a.client != nil {
		facts = append(facts, Fact{"Node ID", a.client.NodeID()})
	}
	return facts
}

// Notes are sentences a person should read at the start.
func (a *Agent) Notes() []string {
	notes := append([]string(nil), a.notes...)
	if !net.ParseIP(a.cfg.Bind).IsLoopback() {
		notes = append(notes, "Nothing is encrypted or authenticated yet: keep ports 5556 and 5557 inside a trusted network")
	}
	return notes
}
