package agent

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
	"cube/api/rest"
	"cube/client"
	"cube/internal/session"
)

// clientConn is a client's session with a server: the dispatcher and what is on other nodes through it, the worker behind it, and a
// transport for people's requests.
type clientConn struct {
	api.Dispatcher
	api.Estates
	session *session.Session
}

func (c *clientConn) Done() <-chan struct{} { return c.session.Done() }
func (c *clientConn) Close() error          { return c.session.Close() }
func (c *clientConn) Probe()                { c.session.Probe() }
func (c *clientConn) Heard() time.Time      { return c.session.Heard() }

// Connector returns what opens a client's sessions over n; nil is the machine's own network. What servers ask over a
// session is served by worker. The goroutines that serve belong to group, and end with their sessions.
func Connector(n Network, group *errgroup.Group, worker func() http.Handler) func(context.Context, string, client.Hello) (client.Conn, error) {
	if n == nil {
		n = hostNetwork{}
	}
	return func(ctx context.Context, addr string, h client.Hello) (client.Conn, error) {
		conn, err := n.Dial(ctx, addr)
		if err != nil {
			return nil, api.Errorf(api.CodeUnavailable, "dial server %s: %w", addr, err)
		}
		s, err := session.Dial(ctx, conn, session.Hello{
			Protocol: session.RPC, ClusterID: h.ClusterID, Role: api.RoleClient, Sender: h.NodeID, Incarnation: h.Incarnation,
		})
		if err != nil {
			return nil, err
		}
		group.Go(func() error {
			// A session that ends is the client's business, which sees Done; it is no failure of the agent.
			_ = s.Serve(context.WithoutCancel(ctx), session.Handler{HTTP: worker()})
			return nil
		})
		return &clientConn{Dispatcher: rest.NewDispatcher(s.Call), Estates: rest.NewTransportClient(s.Transport()), session: s}, nil
	}
}
