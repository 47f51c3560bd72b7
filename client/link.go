package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"cube/api"
)

// Times of the link to the servers.
const (
	connectTimeout  = 5 * time.Second        // to open a session: a server that takes longer is no help
	registerTimeout = 15 * time.Second       // an election and a commit fit in
	reportTimeout   = 30 * time.Second       // a commit on a busy cluster
	pollTimeout     = 3 * time.Minute        // the server's own wait is about a minute
	retryBase       = 100 * time.Millisecond // waits between attempts: full jitter up to this, doubling
	retryCeiling    = 5 * time.Second
	moveAfter       = 3 * time.Second // a server without a leader for so long is left, if there is another
	repickAfter     = 5 * time.Minute // to twice that, at random: how long a session with a crowded server is kept at the least
	doubtAfter      = time.Second     // without an answer that should take milliseconds, a server is asked whether it lives
	lookAfter       = time.Second     // gossip that has news is looked at once, for all that comes in this time
	settledAfter    = 5 * time.Second // a session that lasted so long was a good one: the next backoff begins anew
)

// link keeps the client connected to some server. Its goroutines are run, which owns the session, and for as long as a
// session lasts poll and report.
type link struct {
	c      *Client
	log    hclog.Logger
	runner *runner
	out    *outbox
	save   *saver // nil: nothing is kept

	again chan struct{} // holds one: register anew

	registering sync.Mutex // one registration at a time

	mu      sync.Mutex // guards what follows
	known   remembered
	from    uint64            // the index to poll from
	greeted bool              // registered in this life
	moved   time.Time         // when the node last did as it was asked, and left a server for another
	told    *api.Node         // what the latest registration said
	repoll  func()            // ends the poll that is out, so that the next one asks from the new index; nil: none is out
	conn    Conn              // nil: none
	cut     time.Time         // since when no server that knows a leader is heard of; zero: one is
	changed chan struct{}     // closed when conn changes
	said    map[string]string // by server, the trouble that is logged already
}

func newLink(c *Client, r *runner, out *outbox, save *saver, known remembered) *link {
	return &link{c: c, log: c.log, runner: r, out: out, save: save, known: known,
		again: make(chan struct{}, 1), changed: make(chan struct{}), said: map[string]string{}}
}

// resync has the node register anew and ask for everything that is its own.
func (l *link) resync() {
	l.mu.Lock()
	l.from = 0
	if l.repoll != nil {
		l.repoll()
	}
	l.mu.Unlock()
	l.registerAgain()
}

func (l *link) registerAgain() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// rewrite has what is remembered of the cluster written again, and everything asked for.
func (l *link) rewrite() {
	l.remember(func(*remembered) {})
	l.resync()
}

// remember changes what is known of the cluster, and has it written.
func (l *link) remember(change func(*remembered)) {
	l.mu.Lock()
	change(&l.known)
	v, err := encode(l.known)
	l.mu.Unlock()
	if err == nil && l.save != nil {
		l.save.put(&batch{Cluster: v})
	}
}

func (l *link) memory() remembered {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

func (l *link) setConn(conn Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	close(l.changed)
	l.changed = make(chan struct{})
}

// candidates are the servers to try, in a random order so that nodes spread over them: those that gossip knows, then those
// remembered. avoid comes last.
func (l *link) candidates(avoid string) []string {
	out := slices.Clone(l.c.cfg.Servers())
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	rest := slices.Clone(l.memory().Servers)
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for _, s := range rest {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if i := slices.Index(out, avoid); i >= 0 {
		out = append(slices.Delete(out, i, i+1), avoid)
	}
	return out
}

// jitter is the wait before attempt n (from 0) is followed by another: random, up to a bound that doubles.
func jitter(n int) time.Duration {
	return time.Duration(rand.Int64N(int64(backoff(retryBase, retryCeiling, n)))) + time.Millisecond
}

// run keeps a session until ctx is done. It is woken by the end of its session, by ServersChanged and by its backoff.
func (l *link) run(ctx context.Context) {
	avoid := ""
	l.begin(time.Now())
	for fails := 0; ctx.Err() == nil; fails++ {
		var news <-chan struct{}
		if f := l.c.cfg.ServersChanged; f != nil {
			news = f()
		}
		servers := l.candidates(avoid)
		if len(servers) == 0 {
			l.trouble("", errors.New("no server is known yet"))
		}
		for _, addr := range servers {
			began := time.Now()
			err := l.serve(ctx, addr)
			if ctx.Err() != nil {
				return
			}
			avoid = addr
			l.trouble(addr, err)
			if time.Since(began) >= settledAfter {
				fails = 0
				break // the order is drawn anew
			}
		}
		wait := time.NewTimer(jitter(fails))
		select {
		case <-wait.C:
		case <-news:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// trouble logs why there is no session: once for each reason, not once for each attempt.
func (l *link) trouble(addr string, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, errCrowded) || errors.Is(err, errSpared) {
		l.log.Info("moving to another server", "from", addr, "because", err)
		return
	}
	l.mu.Lock()
	news := l.said[addr] != err.Error()
	l.said[addr] = err.Error()
	l.mu.Unlock()
	if news {
		l.log.Warn("not connected to the servers; instances run on, and it is tried again", "server", addr, "error", err)
	} else {
		l.log.Debug("not connected to the servers", "server", addr, "error", err)
	}
}

// serve opens a session with one server and works with it until it ends, and says why it ended.
func (l *link) serve(ctx context.Context, addr string) error {
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, err := l.c.cfg.Connect(dial, addr, Hello{NodeID: l.c.id, Incarnation: l.c.incarnation, ClusterID: l.memory().Cluster})
	cancel()
	if err != nil {
		return err
	}
	s := &session{link: l, conn: conn, addr: addr, repick: nextPick()}
	l.setConn(conn)
	err = s.run(ctx)
	l.setConn(nil)
	if ctx.Err() == nil { // else the agent ends, and its next life begins by asking the servers
		l.cutOff(conn.Heard())
	}
	if e := conn.Close(); err == nil {
		err = e
	}
	return err
}

func nextPick() time.Time { return time.Now().Add(repickAfter + rand.N(repickAfter)) }

// crowded decides whether to leave a server of whose nodes the part excess would be better off elsewhere: as many leave,
// roughly, as are too many.
func (s *session) crowded(excess float64) bool {
	if excess == 0 || s.c.visits.any() || time.Now().Before(s.repick) {
		return false
	}
	s.repick = nextPick()
	return rand.Float64() < excess && !s.alone(s.addr)
}

// spared decides whether to move because a server asks for it: if another is known, and if the node did not do so a while
// ago, since then the others may be out of its reach.
func (s *session) spared(asked bool) bool {
	if !asked || s.c.visits.any() || s.alone(s.addr) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.moved.IsZero() || now.Sub(s.moved) >= repickAfter {
		s.moved = now
		return true
	}
	return false
}

// alone reports whether no other server than addr is known.
func (l *link) alone(addr string) bool {
	for _, s := range l.candidates("") {
		if s != addr {
			return false
		}
	}
	return true
}

// session is the work with one server, from the opening of the connection to its end.
type session struct {
	*link
	conn   Conn
	addr   string
	repick time.Time // not before, another server is chosen because this one has too many nodes; poll's own
}

var (
	errSessionEnded = errors.New("the session ended")
	errCrowded      = errors.New("the server has more nodes than the others")
	errSpared       = errors.New("the server leads, and leaves its nodes to others")
)

// run registers, then polls and reports until the session ends or another server is to be tried.
func (s *session) run(ctx context.Context) error {
	if err := s.registerUntil(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.said)
	s.mu.Unlock()
	s.log.Info("connected", "server", s.addr)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.poll(ctx) })
	g.Go(func() error { return s.report(ctx) })
	g.Go(func() error { return s.keep(ctx) })
	return g.Wait()
}

// keep registers anew when that is wished for, and doubts the server when gossip no longer counts it among the living.
func (s *session) keep(ctx context.Context) error {
	gossip := func() <-chan struct{} { return nil }
	if f := s.c.cfg.ServersChanged; f != nil {
		gossip = f
	}
	news, look := gossip(), (<-chan time.Time)(nil)
	for {
		select {
		case <-s.conn.Done():
			return errSessionEnded
		case <-ctx.Done():
			return ctx.Err()
		case <-s.again:
			if err := s.registerUntil(ctx); err != nil {
				return err
			}
		case <-news:
			news, look = nil, time.After(lookAfter)
		case <-look:
			news, look = gossip(), nil
			if !slices.Contains(s.c.cfg.Servers(), s.addr) {
				s.conn.Probe()
			}
		}
	}
}

// soon has the server asked whether it lives if what is being asked takes longer than it should; the caller ends that.
func (s *session) soon() (answered func() bool) {
	return time.AfterFunc(doubtAfter, s.conn.Probe).Stop
}

// registerUntil registers, with patience.
func (s *session) registerUntil(ctx context.Context) error {
	var p patience
	for {
		err := s.register(ctx)
		if err == nil {
			return nil
		}
		if err := p.wait(ctx, s, err); err != nil {
			return err
		}
	}
}

// register makes the node known, with its inventory, and applies the servers' verdicts.
func (s *session) register(ctx context.Context) error {
	s.registering.Lock()
	defer s.registering.Unlock()
	var items []api.InventoryItem
	if err := s.runner.ask(ctx, func() { items = s.runner.inventory() }); err != nil {
		return err
	}
	known, node := s.memory(), s.c.describe()
	s.out.setReady(false)
	call, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	defer s.soon()()
	answer, err := s.conn.Register(call, &api.Registration{
		Node: node, ClusterID: known.Cluster, Epoch: known.Epoch, Index: known.Index, Inventory: items})
	if err != nil {
		return err
	}
	if answer.ClusterID == "" {
		return api.Errorf(api.CodeUnavailable, "%s belongs to no cluster yet", s.addr)
	}
	if known.Cluster != "" && answer.ClusterID != known.Cluster {
		return api.Errorf(api.CodeConflict, "%s is of cluster %s, and this node's data directory of cluster %s: correct -join, or remove the data directory",
			s.addr, answer.ClusterID, known.Cluster)
	}
	if len(answer.Verdicts) != len(items) {
		return api.Errorf(api.CodeInternal, "%s judged %d of %d instances", s.addr, len(answer.Verdicts), len(items))
	}
	strange := known.Cluster != "" && answer.Epoch != known.Epoch
	s.remember(func(k *remembered) {
		k.Cluster, k.Epoch, k.Index = answer.ClusterID, answer.Epoch, answer.Index
		if len(answer.Servers) > 0 {
			k.Servers = answer.Servers
		}
	})
	s.mu.Lock()
	if strange {
		s.log.Warn("the servers' state was restored: what they do not know of runs on for a while", "epoch", answer.Epoch, "for", s.c.cfg.Tuning.OrphanAfter)
		s.from = 0
	}
	s.greeted, s.told = true, node
	s.mu.Unlock()
	s.inTouch()
	if s.c.owner().ClusterID == "" {
		if items, err = s.meet(ctx, answer.ClusterID); err != nil {
			return err
		}
		if len(items) > 0 {
			s.registerAgain() // its state was lost and its instances are not: they are to be judged
			return nil
		}
	}
	if err := s.runner.ask(ctx, func() {
		if answer.Anew {
			s.runner.retell()
		}
		s.runner.judged(items, answer.Verdicts, strange, answer.Ready)
	}); err != nil {
		return err
	}
	if s.spared(answer.Elsewhere) {
		return errSpared
	}
	return nil
}

// meet makes the drivers for the cluster that the node has just met, and returns what they found.
func (s *session) meet(ctx context.Context, clusterID string) (items []api.InventoryItem, err error) {
	looked, err := s.c.meet(clusterID)
	if err != nil {
		return nil, err
	}
	s.c.await(ctx, looked)
	err = s.runner.ask(ctx, func() { items = s.runner.inventory() })
	return items, err
}

// outOfDate has the node registered anew if what it says of itself has changed since it last did.
func (l *link) outOfDate(node *api.Node) {
	l.mu.Lock()
	stale := l.greeted && !reflect.DeepEqual(l.told, node)
	l.mu.Unlock()
	if stale {
		l.registerAgain()
	}
}

// poll asks the server what is to change, again and again.
func (s *session) poll(ctx context.Context) error {
	var p patience
	for {
		began := time.Now()
		news, err := s.pollOnce(ctx)
		switch {
		case err != nil:
		case news:
			p = patience{}
			continue
		case time.Since(began) >= time.Second:
			p = patience{}
			continue
		default:
			// An answer at once that brings nothing to do: it must not be asked for again at once.
			err = api.Errorf(api.CodeUnavailable, "%s answers polls with nothing", s.addr)
			p.since = time.Time{} // which is no reason to leave it
		}
		if err := p.wait(ctx, s, err); err != nil {
			return err
		}
	}
}

// pollOnce polls and applies the answer; news tells that it brought something.
func (s *session) pollOnce(ctx context.Context) (news bool, err error) {
	call, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	s.mu.Lock()
	from, epoch, seen := s.from, s.known.Epoch, s.known.Index
	resynced := false
	s.repoll = func() { resynced = true; cancel() }
	s.mu.Unlock()
	answer, err := s.conn.Poll(call, &api.PollRequest{
		Node: s.c.id, Incarnation: s.c.incarnation, Epoch: epoch, Index: from, Seen: seen, Load: s.c.load()})
	s.mu.Lock()
	s.repoll = nil
	s.mu.Unlock()
	if resynced { // whatever came, more is to be asked for
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if answer.NoLeader {
		return false, api.Errorf(api.CodeNoLeader, "%s knows no leader", s.addr)
	}
	if answer.Register || answer.Epoch != epoch {
		if err := s.register(ctx); err != nil {
			return false, err
		}
		s.mu.Lock()
		s.from = 0
		s.mu.Unlock()
		return false, nil
	}
	s.inTouch()
	s.mu.Lock()
	if s.from == from { // else a registration has just set it back
		s.from = answer.Index
	}
	servers := s.known.Servers
	s.mu.Unlock()
	if len(answer.Assignments) > 0 || len(answer.Specs) > 0 {
		s.runner.post(func() { s.runner.assigned(answer.Assignments, answer.Specs) })
	}
	if len(answer.Assignments) > 0 || len(answer.Servers) > 0 && !reflect.DeepEqual(answer.Servers, servers) {
		s.remember(func(k *remembered) {
			k.Index = max(k.Index, answer.Index)
			if len(answer.Servers) > 0 {
				k.Servers = answer.Servers
			}
		})
	}
	if s.spared(answer.Elsewhere) {
		return false, errSpared
	}
	if s.crowded(answer.Excess) {
		return false, errCrowded
	}
	return len(answer.Assignments) > 0 || answer.Index > from, nil
}
