package contact

import (
	"sync"
	"time"

	"cube/agent/server/signal"
	"cube/api"
)

// serverSilence is how long a server may miss its reports before the sessions it spoke of are unknown: a failover of the
// leader's connection and two tries.
const serverSilence = 10 * time.Second

// FirstReports is how long a new leader waits for servers to tell of their sessions, where it needs to know: those that are
// there tell within a round trip.
const FirstReports = 3 * time.Second

const (
	// spareFrom is how many sessions there must be before the leader has others carry them all: below that they cost it
	// next to nothing, and a node and the leader may be one machine.
	spareFrom = 300
	// SpareAfter is how long a leader leads before that: what comes with its election is to be over.
	SpareAfter = 5 * time.Second
)

// Directory is the leader's knowledge of who holds which node's session, put together from the servers' reports. It lives
// as long as one leadership.
type Directory struct {
	Changed signal.Broadcast // a session came or went, or a server was heard for the first time
	leader  string           // the ID of this server
	began   time.Time        // nothing before this was observed

	mu       sync.Mutex
	servers  map[string]*reporting
	nodes    map[string]*nodeContact
	sessions int                     // of all nodes
	loads    map[string]api.NodeLoad // the latest copy, as of loadsAt
	loadsAt  time.Time
}

// reporting is one server's stream of reports.
type reporting struct {
	boot, seq uint64
	heard     time.Time
}

type nodeContact struct {
	sessions []heldSession // one, except for moments, or when two machines claim one identity
	load     *api.NodeLoad
	lostAt   time.Time // of the latest end of a session; zero: none was seen
	observed bool      // the end was reported by a server that lives
}

type heldSession struct {
	server      string
	incarnation uint64
}

// Contact is whether and how a node is reached.
type Contact struct {
	Connected bool
	Since     time.Time // of the silence; not connected only
	Observed  bool      // this leader was told of the silence's beginning by a living server
	Heard     time.Time // the last sign of life; zero: none since this leader took over
	Server    string    // that holds the session
}

// NewDirectory returns the directory of this server's leadership, which begins now.
func NewDirectory(leader string, now time.Time) *Directory {
	return &Directory{leader: leader, began: now, servers: make(map[string]*reporting), nodes: make(map[string]*nodeContact)}
}

// Report takes in one server's report.
func (d *Directory) Report(r *api.SessionReport, now time.Time) *api.SessionAnswer {
	d.mu.Lock()
	s := d.servers[r.Server]
	known := s != nil && s.boot == r.Boot
	if !r.Full && (!known || r.Seq != s.seq+1) {
		d.mu.Unlock()
		return &api.SessionAnswer{Full: true}
	}
	changed := s == nil || len(r.Down) > 0
	if s == nil {
		s = new(reporting)
		d.servers[r.Server] = s
	}
	if r.Full {
		// A server that was started anew did not see how its sessions ended: they are unknown rather than lost.
		changed = d.replace(r, known, now) || changed
	}
	*s = reporting{boot: r.Boot, seq: r.Seq, heard: now}
	for _, n := range r.Up {
		changed = d.up(r.Server, n) || changed
	}
	for _, n := range r.Down {
		d.down(r.Server, n.Node, n.Incarnation, true, now)
	}
	share, spare := d.share(now)
	answer := &api.SessionAnswer{Share: share, None: spare && r.Server == d.leader}
	d.mu.Unlock()
	if changed {
		d.Changed.Notify()
	}
	return answer
}

// share is how many sessions each server that lives would have if all had as many, or all but the leader where it is to
// be spared. The caller holds d.mu.
func (d *Directory) share(now time.Time) (share float64, spareLeader bool) {
	live, others := 0, 0
	for id, s := range d.servers {
		if now.Sub(s.heard) >= serverSilence {
			continue
		}
		if live++; id != d.leader {
			others++
		}
	}
	if others > 0 && d.sessions >= spareFrom && now.Sub(d.began) >= SpareAfter {
		return float64(d.sessions) / float64(others), true
	}
	return float64(d.sessions) / float64(max(1, live)), false
}

// Settled reports whether all these servers have told of their sessions, or have had the time to: before that a session
// that is not known here may still exist.
func (d *Directory) Settled(servers []string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range servers {
		if d.servers[id] == nil && now.Sub(d.began) < FirstReports {
			return false
		}
	}
	return true
}

// replace ends the sessions of a server that its full report does not name.
func (d *Directory) replace(r *api.SessionReport, observed bool, now time.Time) (changed bool) {
	type session struct {
		node        string
		incarnation uint64
	}
	named := make(map[session]bool, len(r.Up))
	for _, n := range r.Up {
		named[session{n.Node, n.Incarnation}] = true
	}
	var gone []session
	for id, c := range d.nodes {
		for _, h := range c.sessions {
			if h.server == r.Server && !named[session{id, h.incarnation}] {
				gone = append(gone, session{id, h.incarnation})
			}
		}
	}
	for _, g := range gone {
		d.down(r.Server, g.node, g.incarnation, observed, now)
	}
	return len(gone) > 0
}

func (d *Directory) up(server string, n api.NodeSession) (changed bool) {
	c := d.nodes[n.Node]
	if c == nil {
		c = new(nodeContact)
		d.nodes[n.Node] = c
	}
	if n.Load != nil {
		c.load = n.Load
	}
	held := heldSession{server, n.Incarnation}
	for _, h := range c.sessions {
		if h == held {
			return false
		}
	}
	c.sessions = append(c.sessions, held)
	d.sessions++
	return true
}

func (d *Directory) down(server, node string, incarnation uint64, observed bool, now time.Time) {
	c := d.nodes[node]
	if c == nil {
		return
	}
	for i, h := range c.sessions {
		if h == (heldSession{server, incarnation}) {
			c.sessions = append(c.sessions[:i], c.sessions[i+1:]...)
			d.sessions--
			c.lostAt, c.observed = now, observed
			return
		}
	}
}

// Contact tells how a node is reached now.
func (d *Directory) Contact(node string, now time.Time) Contact {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.nodes[node]
	if c == nil {
		return Contact{Since: d.began}
	}
	out := Contact{Since: c.lostAt, Observed: c.observed, Heard: c.lostAt}
	for _, h := range c.sessions {
		heard := d.servers[h.server].heard
		if heard.After(out.Heard) {
			out.Heard = heard
		}
		switch {
		case now.Sub(heard) < serverSilence:
			out.Connected, out.Server = true, h.server
		case heard.After(out.Since):
			// The server fell silent: since then nobody knows.
			out.Since, out.Observed = heard, false
		}
	}
	if out.Connected {
		out.Since, out.Observed = time.Time{}, false
	}
	return out
}

// Holder returns the server that holds the session of this incarnation of a node, "" if none does.
func (d *Directory) Holder(node string, incarnation uint64, now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.nodes[node]
	if c == nil {
		return ""
	}
	for _, h := range c.sessions {
		if h.incarnation == incarnation && now.Sub(d.servers[h.server].heard) < serverSilence {
			return h.server
		}
	}
	return ""
}

// SetLoad notes what a node measured of itself.
func (d *Directory) SetLoad(node string, load *api.NodeLoad) {
	if load == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.nodes[node]; c != nil {
		c.load = load
	}
}

// Load returns a node's latest load, nil if none is known.
func (d *Directory) Load(node string) *api.NodeLoad {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.nodes[node]; c != nil {
		return c.load
	}
	return nil
}

// loadsFor is how long one copy of the loads serves: they only rank nodes, and a busy leader asks for them at every plan.
const loadsFor = time.Second

// Loads returns every node's load, as it was at most loadsFor ago. The caller does not change it.
func (d *Directory) Loads(now time.Time) map[string]api.NodeLoad {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.loads != nil && now.Sub(d.loadsAt) < loadsFor {
		return d.loads
	}
	d.loads, d.loadsAt = make(map[string]api.NodeLoad, len(d.nodes)), now
	for id, c := range d.nodes {
		if c.load != nil {
			d.loads[id] = *c.load
		}
	}
	return d.loads
}

// Sessions is how many sessions all servers hold.
func (d *Directory) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions
}

// NextSilence is the earliest time at which a server that reports now would have fallen silent; zero if none reports.
func (d *Directory) NextSilence(now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	var next time.Time
	for _, s := range d.servers {
		if at := s.heard.Add(serverSilence); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
