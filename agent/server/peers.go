package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"cube/api"
	"cube/internal/session"
)

// dialTimeout bounds the opening of a session with another server: a leader that cannot be reached in this time is as good
// as none.
const dialTimeout = 3 * time.Second

// ErrNotSent is wrapped by what Transport returns when a request certainly did not reach the other server: it may be sent
// again as is.
var ErrNotSent = errors.New("not sent")

// peers keeps one session with each server that is asked something.
type peers struct {
	dial func(ctx context.Context, id string) (*session.Session, error)

	mu     sync.Mutex
	peers  map[string]*peer
	closed bool
}

// peer is the session with one server; its lock is held while dialling, so that requests share one attempt.
type peer struct {
	mu      sync.Mutex
	session *session.Session
}

func newPeers(dial func(context.Context, string) (*session.Session, error)) *peers {
	return &peers{dial: dial, peers: make(map[string]*peer)}
}

func (p *peers) get(ctx context.Context, id string) (*session.Session, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, api.Errorf(api.CodeUnavailable, "this server is shutting down: %w", ErrNotSent)
	}
	one := p.peers[id]
	if one == nil {
		one = new(peer)
		p.peers[id] = one
	}
	p.mu.Unlock()

	one.mu.Lock()
	defer one.mu.Unlock()
	if one.session != nil && one.session.Err() == nil {
		return one.session, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s, err := p.dial(ctx, id)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "server %s cannot be reached (%w): %w", id, ErrNotSent, err)
	}
	one.session = s
	return s, nil
}

// close ends all sessions. Requests fail from now on.
func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	all := p.peers
	p.mu.Unlock()
	for _, one := range all {
		one.mu.Lock()
		if one.session != nil {
			one.session.Close() // it says only that it was closed already
		}
		one.mu.Unlock()
	}
}

// transport sends HTTP requests to one server.
type transport struct {
	peers *peers
	id    string
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := t.peers.get(r.Context(), t.id)
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as RoundTripper demands, also on errors
		}
		return nil, err
	}
	return s.Transport().RoundTrip(r)
}

// Transport sends HTTP requests to another server, over a session that is kept and opened again when it broke. When a
// request was certainly not sent the error wraps ErrNotSent.
func (s *Server) Transport(serverID string) http.RoundTripper { return transport{s.peers, serverID} }

// relay sends requests to a node through the server that holds its session.
type relay struct {
	via  http.RoundTripper
	node string
}

func (t relay) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath = "/v1/relay/"+t.node+r.URL.Path, ""
	return t.via.RoundTrip(out)
}

// dialServer opens a session with another server.
func (s *Server) dialServer(ctx context.Context, id string) (*session.Session, error) {
	address := s.address(id)
	if address == "" {
		return nil, api.Errorf(api.CodeNotFound, "no server %s is known", id)
	}
	conn, err := s.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return session.Dial(ctx, conn, s.hello(id))
}

// dialRaft opens a Raft connection. The target is named, so that a new server at a dead one's address is not taken for it.
func (s *Server) dialRaft(ctx context.Context, address, id string) (net.Conn, error) {
	conn, err := s.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return session.DialRaw(ctx, conn, s.hello(id))
}

func (s *Server) hello(target string) session.Hello {
	return session.Hello{ClusterID: s.machine.Snapshot().ClusterID(), Role: api.RoleServer, Sender: s.cfg.ID, Target: target}
}

// address is where a server's sessions are: what Raft knows, else what gossip says.
func (s *Server) address(id string) string {
	for _, peer := range s.node.Servers() {
		if string(peer.ID) == id {
			return string(peer.Address)
		}
	}
	m, _ := s.roster.Server(id)
	return m.RPCAddr
}

// serverName is what people call a server.
func (s *Server) serverName(id string) string {
	if id == s.cfg.ID {
		return s.cfg.Name
	}
	if m, ok := s.roster.Server(id); ok && m.Name != "" {
		return m.Name
	}
	return id
}

// serverAddresses lists the servers' RPC addresses, for nodes to keep.
func (s *Server) serverAddresses() []string {
	var out []string
	for _, peer := range s.node.Servers() {
		out = append(out, string(peer.Address))
	}
	return out
}
