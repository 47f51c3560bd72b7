package contact

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"cube/agent/server/signal"
	"cube/api"
)

// Link is a node's session as the registry needs it.
type Link interface {
	Transport() http.RoundTripper
	// Probe ends the session soon unless the node answers. It does not block.
	Probe()
	Close() error
}

// Registry is one server's nodes: who holds a session with it. It is safe for concurrent use.
type Registry struct {
	changed signal.Broadcast // a session came or went

	mu       sync.Mutex
	links    map[nodeLife]*entry
	lives    map[string][]nodeLife // of each node in links
	sessions map[nodeLife]bool     // changed since the last report: true came, false went
	loads    map[nodeLife]bool     // of these a newer load is here than was reported
	share    float64               // what the leader said last: see api.SessionAnswer
	none     bool                  // likewise
}

// nodeLife is one life of a node: two lives may overlap for a moment, or when a data directory was copied.
type nodeLife struct {
	node        string
	incarnation uint64
}

type entry struct {
	link Link
	load *api.NodeLoad
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{links: make(map[nodeLife]*entry), lives: make(map[string][]nodeLife), sessions: make(map[nodeLife]bool), loads: make(map[nodeLife]bool)}
}

// Add takes in a node's session; a former one of the same life is closed. The returned function takes it out again.
func (r *Registry) Add(node string, incarnation uint64, link Link) (remove func()) {
	life := nodeLife{node, incarnation}
	e := &entry{link: link}
	r.mu.Lock()
	former := r.links[life]
	if r.links[life] = e; former == nil {
		r.lives[node] = append(r.lives[node], life)
	}
	r.sessions[life] = true
	r.mu.Unlock()
	r.changed.Notify()
	if former != nil {
		former.link.Close()
	}
	return func() {
		r.mu.Lock()
		mine := r.links[life] == e
		if mine {
			delete(r.links, life)
			delete(r.loads, life)
			r.lives[node] = slices.DeleteFunc(r.lives[node], func(l nodeLife) bool { return l == life })
			if len(r.lives[node]) == 0 {
				delete(r.lives, node)
			}
			r.sessions[life] = false
		}
		r.mu.Unlock()
		if mine {
			r.changed.Notify()
		}
	}
}

// Transport reaches one life of a node through its session here. It takes no other life's for it: whoever asks wants to
// know whether that one lives.
func (r *Registry) Transport(node string, incarnation uint64) (http.RoundTripper, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.links[nodeLife{node, incarnation}]; e != nil {
		return e.link.Transport(), true
	}
	return nil, false
}

// SetLoad notes what a node measured of itself.
func (r *Registry) SetLoad(node string, incarnation uint64, load *api.NodeLoad) {
	if load == nil {
		return
	}
	life := nodeLife{node, incarnation}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.links[life]; e != nil {
		e.load = load
		r.loads[life] = true
	}
}

// tolerance is how many more sessions than its share a server may have: nodes choose at random, and each move is work.
const tolerance = 1.25

// Excess is the part of the sessions here that would be better off with other servers; 0 while it is not worth a move.
func (r *Registry) Excess() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := float64(len(r.links))
	if r.share == 0 || n <= r.share*tolerance || n < r.share+1 {
		return 0
	}
	return (n - r.share) / n
}

// Elsewhere reports whether nodes are to go to other servers, all of them: this one leads.
func (r *Registry) Elsewhere() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.none
}

func (r *Registry) setShare(share float64, none bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.share, r.none = share, none
}

// Probe makes sure of each life of a node that has a session here.
func (r *Registry) Probe(node string) {
	var links []Link
	r.mu.Lock()
	for _, life := range r.lives[node] {
		links = append(links, r.links[life].link)
	}
	r.mu.Unlock()
	for _, l := range links {
		l.Probe()
	}
}

// pingsPerSecond is how many pings a server sends at most to all its nodes together where their sessions are quiet, up
// to the session's own bound: a few thousandths of a core. A node that gossip calls failed is pinged at once.
const pingsPerSecond = 200

// Quiet is how long a session may be silent before it is pinged: the more there are, the longer.
func (r *Registry) Quiet() time.Duration {
	return time.Duration(r.Len()) * time.Second / pingsPerSecond
}

// loadsPerSecond is how many reports of nothing but a load one server takes. Loads only rank nodes, and the screen of a
// person who looks at a few.
const loadsPerSecond = 100

// LoadEvery is how far apart each node here is to report its load: the more there are, the longer.
func (r *Registry) LoadEvery() time.Duration {
	return time.Duration(r.Len()) * time.Second / loadsPerSecond
}

// Len is how many sessions there are.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.links)
}

// take returns what changed since the last call, or everything.
func (r *Registry) take(full bool) (up, down []api.NodeSession) {
	r.mu.Lock()
	defer r.mu.Unlock()
	session := func(l nodeLife) api.NodeSession {
		s := api.NodeSession{Node: l.node, Incarnation: l.incarnation}
		if e := r.links[l]; e != nil {
			s.Load = e.load
		}
		return s
	}
	if full {
		for l := range r.links {
			up = append(up, session(l))
		}
	} else {
		for l, came := range r.sessions {
			if came {
				up = append(up, session(l))
				delete(r.loads, l)
			} else {
				down = append(down, session(l))
			}
		}
		for l := range r.loads {
			up = append(up, session(l))
		}
	}
	clear(r.sessions)
	clear(r.loads)
	return up, down
}
