// Package gossip knows which agents there are: membership over memberlist, servers and clients in one pool.
//
// Gossip is a hint. It finds servers, and it notices within seconds that an agent does not answer; nothing is stopped or
// removed on its word alone.
//
// Members are named "role:ID", so that a server and a client on one machine do not collide. What an agent says of itself
// travels in 512 bytes of metadata (see encodeMeta). Members of another cluster are neither merged nor shown; while an
// agent does not know its cluster it takes whom it meets.
//
// Long-lived goroutines: memberlist's own (woken by the network and its tickers; ended by Run, or Close), and three of
// Run's: one hands events over (woken by the table of members), one announces changes (woken by Update), one joins
// (woken by its timer).
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"cube/api"
)

// DefaultPort is where gossip listens, TCP and UDP.
const DefaultPort = 5557

// Timings of the pool, for a local network and a few to a few thousand members.
const (
	// probeInterval finds a dead member within seconds in small pools: each member probes one other per interval, and
	// suspicion lasts at least 4 intervals.
	probeInterval = 500 * time.Millisecond
	probeTimeout  = 250 * time.Millisecond
	// suspicionMaxMult bounds at four times the minimum, 8 s, how long one member alone takes to call others failed.
	suspicionMaxMult = 4
	// streamTimeout bounds a dial and a state exchange. With resolveTimeout it stays under the 5 s after which a join to
	// nothing must have said so.
	streamTimeout  = 3 * time.Second
	resolveTimeout = 1500 * time.Millisecond
	// exchangeInterval is how often a member exchanges its whole state with another, less often in pools of more than 32:
	// whoever was missed by a broadcast learns of it then.
	exchangeInterval = 15 * time.Second
	// quietInterval spaces the probes and the gossip of an agent that expects nobody.
	quietInterval = 5 * time.Second
	// reclaim is when the name of a failed member may come back from another address.
	reclaim = 30 * time.Second
	// announce bounds the wait for a changed self, or a farewell, to be sent.
	announce = time.Second
)

// Config is what a Pool is made from.
type Config struct {
	Self      api.Member // Role and ID must be set; Status and GossipAddr are filled in
	Bind      string     // host:port to listen on, TCP and UDP; port 0 takes a free one
	Advertise string     // host:port that others use; "": what is bound; port 0: the bound port
	// Transport replaces the real network in tests; Bind is not used then.
	Transport memberlist.NodeAwareTransport
	// Remember, if set, is called from Run's goroutine with the gossip addresses of the other servers that are alive,
	// sorted, each time they have changed and there are any: they are where to begin after a restart.
	Remember func(servers []string)
	// Quiet is for an agent that expects nobody: it looks for others' state and news seldom.
	Quiet  bool
	Logger hclog.Logger // nil: silence
}

// Pool is an agent's membership. All methods are safe for concurrent use.
type Pool struct {
	log       hclog.Logger
	list      *memberlist.Memberlist
	addr      string
	role      api.Role
	life      uint64 // Unix microseconds of New: tells two lives of this agent apart
	table     *table
	farewells *memberlist.TransmitLimitedQueue
	events    chan api.MemberEvent

	remember func([]string) // nil: nobody wants to know

	mu      sync.Mutex // memberlist calls back with its lock held and takes mu: never call it under mu
	self    api.Member
	leaving bool
	changed chan struct{} // has room for one: self is to be announced

	leave  sync.Once
	joins  sync.WaitGroup // contacts under way
	strife limiter        // warnings of foreign clusters and of names claimed twice
}

// New listens and is alone. A taken port is an error that wraps syscall.EADDRINUSE. The caller must Run the pool, or
// Close it.
func New(c Config) (*Pool, error) {
	if c.Self.ID == "" || c.Self.Role != api.RoleServer && c.Self.Role != api.RoleClient {
		return nil, api.Errorf(api.CodeInvalid, "gossip needs a role and an ID")
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	p := &Pool{
		log:    c.Logger,
		life:   uint64(time.Now().UnixMicro()),
		table:  newTable(),
		events: make(chan api.MemberEvent),
		self:   c.Self,

		remember: c.Remember,

		changed: make(chan struct{}, 1),
		strife:  limiter{every: time.Minute},
	}
	if _, err := encodeMeta(p.self, p.life); err != nil {
		return nil, err
	}
	cfg := p.settings()
	if c.Quiet {
		cfg.ProbeInterval, cfg.GossipInterval = quietInterval, quietInterval
	}
	p.farewells = &memberlist.TransmitLimitedQueue{NumNodes: p.table.present, RetransmitMult: cfg.RetransmitMult}
	if err := advertise(cfg, c.Advertise); err != nil {
		return nil, err
	}
	under := c.Transport
	if under == nil {
		t, err := listen(c.Bind, cfg.Logger)
		if err != nil {
			return nil, err
		}
		under = t
		if cfg.AdvertisePort == 0 {
			cfg.AdvertisePort = t.GetAutoBindPort()
		}
	}
	guard := newGuard(under)
	cfg.Transport = guard
	list, err := memberlist.Create(cfg)
	if err != nil {
		guard.Shutdown()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	p.list = list
	p.addr = list.LocalNode().Address()
	return p, nil
}

// settings is memberlist's configuration, all but the transport.
func (p *Pool) settings() *memberlist.Config {
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = memberName(p.self)
	cfg.BindPort = DefaultPort
	cfg.AdvertisePort = 0
	cfg.ProbeInterval = probeInterval
	cfg.ProbeTimeout = probeTimeout
	cfg.SuspicionMaxTimeoutMult = suspicionMaxMult
	cfg.TCPTimeout = streamTimeout
	cfg.PushPullInterval = exchangeInterval
	cfg.DeadNodeReclaimTime = reclaim
	cfg.EnableCompression = false // a third of gossip's CPU, for bytes that a local network has
	cfg.Logger = p.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug})
	d := &delegate{p}
	cfg.Delegate, cfg.Events, cfg.Alive, cfg.Merge, cfg.Conflict = d, d, d, d, d
	return cfg
}

func advertise(cfg *memberlist.Config, addr string) error {
	if addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "advertise address %q: %w", addr, err)
	}
	if net.ParseIP(host) == nil {
		return api.Errorf(api.CodeInvalid, "advertise address %q must be an IP address with a port", addr)
	}
	cfg.AdvertiseAddr = host
	if cfg.AdvertisePort, err = strconv.Atoi(port); err != nil {
		return api.Errorf(api.CodeInvalid, "advertise address %q: %w", addr, err)
	}
	return nil
}

// Addr is the host:port that others use.
func (p *Pool) Addr() string { return p.addr }

// Members returns all that are known, the failed and those who left included, servers first, then by name and ID.
// Members who failed are forgotten after a day, those who left after ten minutes.
func (p *Pool) Members() []api.Member { return p.table.members(p.cluster()) }

// Events tells of every member that joins, changes, fails or leaves, oneself included. A slow reader loses nothing but
// states that were overtaken by a later one of the same member. The channel is closed when Run returns.
func (p *Pool) Events() <-chan api.MemberEvent { return p.events }

// Update changes what this agent says of itself and has Run announce it; it does not wait. f must not change ID or Role,
// nor call the pool. A change whose metadata would be too long is dropped, and logged.
func (p *Pool) Update(f func(self *api.Member)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.self
	f(&next)
	next.ID, next.Role = p.self.ID, p.self.Role
	if _, err := encodeMeta(next, p.life); err != nil {
		p.log.Error("what this agent would say of itself is too long for gossip", "error", err)
		return
	}
	if next == p.self {
		return
	}
	p.self = next
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *Pool) isLeaving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaving
}

func (p *Pool) cluster() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self.ClusterID
}

// Run hands events over, announces updates, and keeps the pool together: it tries the addresses in join until it has
// company, says through the logger whom it cannot reach, and later looks after servers that were lost, so that the two
// halves of a healed partition find each other. When ctx ends it leaves, closes the pool and returns nil.
func (p *Pool) Run(ctx context.Context, join []string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { p.deliver(gctx); return nil })
	g.Go(func() error { p.announceChanges(gctx); return nil })
	g.Go(func() error { p.stayJoined(gctx, join); return nil })
	g.Wait() // all return nil, and only when ctx has ended
	close(p.events)

	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*announce)
	defer cancel()
	if err := p.Leave(farewell); err != nil {
		p.log.Debug("left without a farewell", "error", err)
	}
	return p.Close()
}

// deliver is the goroutine that sends events.
func (p *Pool) deliver(ctx context.Context) {
	var remembered []string
	for {
		servers := false
		for m, ok := p.table.next(); ok; m, ok = p.table.next() {
			if foreign(p.cluster(), m.ClusterID) {
				continue
			}
			servers = servers || m.Role == api.RoleServer
			select {
			case p.events <- api.MemberEvent{Member: m}:
			case <-ctx.Done():
				return
			}
		}
		if servers && p.remember != nil {
			if now := p.otherServers(); len(now) > 0 && !slices.Equal(now, remembered) {
				p.remember(now)
				remembered = now
			}
		}
		select {
		case <-p.table.wake:
		case <-ctx.Done():
			return
		}
	}
}

// otherServers lists the gossip addresses of the other servers that are alive.
func (p *Pool) otherServers() []string {
	var out []string
	for _, m := range p.Members() {
		if m.Role == api.RoleServer && m.Status == api.MemberAlive && m.GossipAddr != p.addr {
			out = append(out, m.GossipAddr)
		}
	}
	slices.Sort(out)
	return out
}

// announceChanges is the goroutine that tells others of Updates.
func (p *Pool) announceChanges(ctx context.Context) {
	for {
		select {
		case <-p.changed:
			if p.isLeaving() {
				return
			}
			if err := p.list.UpdateNode(announce); err != nil {
				p.log.Debug("a change of this agent is not out yet; gossip goes on with it", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Leave tells the others that this agent goes on purpose and waits until some of them have been told, or ctx ends, for a
// second at most. After it the agent is in nobody's pool. Later calls do nothing.
func (p *Pool) Leave(ctx context.Context) (err error) {
	p.leave.Do(func() {
		p.mu.Lock()
		p.leaving = true
		p.mu.Unlock()
		alone := p.alone()
		bye := farewell{name: memberName(p.self), life: p.life, sent: make(chan struct{})}
		p.farewells.QueueBroadcast(bye)
		if e := p.list.Leave(timeLeft(ctx)); e != nil {
			err = fmt.Errorf("leave: %w", e)
		}
		if alone {
			return
		}
		select {
		case <-bye.sent:
		case <-time.After(timeLeft(ctx)):
			err = errors.Join(err, errors.New("say farewell: nobody to tell"))
		}
	})
	return err
}

// timeLeft is at most announce, and never 0, which would mean for ever.
func timeLeft(ctx context.Context) time.Duration {
	left := announce
	if d, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(d))
	}
	if ctx.Err() != nil {
		left = 0
	}
	return max(left, time.Millisecond)
}

// Close stops the pool without a word: to others this agent has failed, unless it has left. It waits for joins under way.
// Run calls it.
func (p *Pool) Close() error {
	err := p.list.Shutdown()
	p.joins.Wait()
	if err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// listen opens the real network.
func listen(bind string, logger *log.Logger) (*memberlist.NetTransport, error) {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "gossip address %q: %w", bind, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	n, err := strconv.Atoi(port)
	if err != nil || net.ParseIP(host) == nil {
		return nil, api.Errorf(api.CodeInvalid, "gossip address %q must be an IP address with a port", bind)
	}
	tries := 1
	if n == 0 {
		tries = 10 // the kernel's choice for TCP may be taken for UDP
	}
	var t *memberlist.NetTransport
	for range tries {
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: n, Logger: logger})
		if err == nil {
			return t, nil
		}
	}
	if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) { // memberlist does not wrap it
		return nil, fmt.Errorf("gossip on %s: %w", bind, syscall.EADDRINUSE)
	}
	return nil, fmt.Errorf("gossip on %s: %w", bind, err)
}
