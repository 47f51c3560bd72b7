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
	life context.Context // of dials; ends with close
	end  context.CancelFunc

	serving sync.WaitGroup // of sessions

	mu       sync.Mutex
	sessions map[string]*session.Session // the latest of each server, which may have ended
	attempts map[string]*attempt         // to open one; under way
}

// attempt is the opening of a session. Whoever needs the session meanwhile shares its outcome, also a bad one: tries one
// after the other would make the last in the queue wait for all of them.
type attempt struct {
	done    chan struct{} // closed when the rest is set
	session *session.Session
	err     error
}

func newPeers(dial func(context.Context, string) (*session.Session, error)) *peers {
	p := &peers{dial: dial, sessions: make(map[string]*session.Session), attempts: make(map[string]*attempt)}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

func (p *peers) get(ctx context.Context, id string) (*session.Session, error) {
	p.mu.Lock()
	if s := p.sessions[id]; s != nil && s.Err() == nil {
		p.mu.Unlock()
		return s, nil
	}
	a := p.attempts[id]
	if a != nil {
		p.mu.Unlock()
		select {
		case <-a.done:
			return a.session, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	a = &attempt{done: make(chan struct{})}
	p.attempts[id] = a
	p.mu.Unlock()

	// The first one opens it for all: others may need it longer than that one does.
	dial, cancel := context.WithTimeout(p.life, dialTimeout)
	defer cancel()
	s, err := p.dial(dial, id)
	if err != nil {
		err = api.Errorf(api.CodeUnavailable, "server %s cannot be reached (%w): %w", id, ErrNotSent, err)
	}
	p.mu.Lock()
	if err == nil && p.life.Err() != nil {
		s.Close() // it says only that it was closed already
		s, err = nil, api.Errorf(api.CodeUnavailable, "this server is shutting down: %w", ErrNotSent)
	}
	if err == nil {
		p.sessions[id] = s
		p.serving.Go(func() { _ = s.Serve(p.life, session.Handler{}) }) // its end shows in whatever is asked next
	}
	delete(p.attempts, id)
	p.mu.Unlock()
	a.session, a.err = s, err
	close(a.done)
	return s, err
}

// close ends all sessions. Requests fail from now on.
func (p *peers) close() {
	p.mu.Lock()
	p.end() // under the lock: no session is served from now on that is not waited for
	p.mu.Unlock()
	p.serving.Wait()
}

// peer is another server, asked over a session that is kept and opened again when it broke. When something was certainly
// not asked the error wraps ErrNotSent.
func (s *Server) peer(id string) api.Peer {
	return s.cfg.NewPeer(func(ctx context.Context, method string, body []byte) ([]byte, error) {
		link, err := s.peers.get(ctx, id)
		if err != nil {
			return nil, err
		}
		return link.Call(ctx, method, body)
	})
}

const (
	// leaderWait is how long what only the leader can answer waits for one: longer than an election takes.
	leaderWait = 5 * time.Second
	// askPause is the wait when a server denies the leadership that it is said to have.
	askPause = 50 * time.Millisecond
)

// unwritten reports whether a request certainly changed nothing, and may be sent again whatever it is.
func unwritten(err error) bool {
	return api.CodeOf(err) == api.CodeNotLeader || errors.Is(err, ErrNotSent)
}

// toLeader asks the leader: here while this server leads, else there. What comes to nothing is tried again if again
// allows it, until there has been no leader that answers for leaderWait.
func toLeader[T any](ctx context.Context, s *Server, again func(error) bool, here func() (T, error), there func(leader string) (T, error)) (out T, err error) {
	giveUp := time.Now().Add(leaderWait)
	for {
		changed := s.LeaderChanged()
		leader, self, known := s.LeaderInfo()
		wait := giveUp
		if self || known {
			if self {
				out, err = here()
			} else {
				out, err = there(leader.ID)
			}
			if err == nil || !again(err) {
				return out, err
			}
			if at := time.Now().Add(askPause); at.Before(wait) {
				wait = at
			}
		}
		if !waitFor(ctx, changed, wait) {
			return out, ctx.Err()
		}
		if !time.Now().Before(giveUp) {
			return out, api.Errorf(api.CodeNoLeader, "the servers have no leader; nothing was done, try again")
		}
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
