package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

const (
	pathRegister = "/v1/dispatch/register"
	pathPoll     = "/v1/dispatch/poll"
	pathReport   = "/v1/dispatch/report"
	pathSessions = "/v1/peer/sessions"
)

// MachineRoutes mounts what agents ask of a server on r. It belongs on sessions only, never on the people's address.
// sender tells who a request comes from; a node may speak for itself only.
func MachineRoutes(r chi.Router, d api.Dispatcher, p api.Peer, sender func(*http.Request) (api.Role, string)) {
	r.Post(pathRegister, exchangeAs(sender, func(in *api.Registration) string {
		if in.Node == nil {
			return ""
		}
		return in.Node.ID
	}, d.Register))
	r.Post(pathPoll, exchangeAs(sender, func(in *api.PollRequest) string { return in.Node }, d.Poll))
	r.Post(pathReport, exchangeAs(sender, func(in *api.Report) string { return in.Node }, d.Report))
	r.Post(pathSessions, exchange(p.Sessions))
}

// exchangeAs is exchange for requests that name the node they speak for: only that node, or a server that forwards for
// it, may send them.
func exchangeAs[In, Out any](sender func(*http.Request) (api.Role, string), node func(*In) string, f func(context.Context, *In) (*Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		role, id := sender(r)
		exchange(func(ctx context.Context, in *In) (*Out, error) {
			if role == api.RoleClient && node(in) != id {
				return nil, api.Errorf(api.CodeForbidden, "node %.32s speaks for node %.32s; a node may speak for itself only", id, node(in))
			}
			return f(ctx, in)
		})(w, r)
	}
}

// NeedsLeader reports whether a machine's request must reach the leader; the others are answered by the server that
// holds the session.
func NeedsLeader(r *http.Request) bool {
	switch r.URL.Path {
	case pathRegister, pathReport, pathSessions:
		return true
	}
	return false
}

// dispatcher is api.Dispatcher over a session.
type dispatcher struct{ machine }

// NewDispatcher returns the dispatcher behind a session's transport.
func NewDispatcher(rt http.RoundTripper) api.Dispatcher {
	return dispatcher{machine{&http.Client{Transport: rt}}}
}

func (d dispatcher) Register(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return call[api.Registration, api.RegistrationAnswer](ctx, d.machine, pathRegister, r)
}

func (d dispatcher) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	return call[api.PollRequest, api.PollAnswer](ctx, d.machine, pathPoll, r)
}

func (d dispatcher) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	return call[api.Report, api.ReportAnswer](ctx, d.machine, pathReport, r)
}

// peer is api.Peer over a session.
type peer struct{ machine }

// NewPeer returns the server behind a session's transport.
func NewPeer(rt http.RoundTripper) api.Peer { return peer{machine{&http.Client{Transport: rt}}} }

func (p peer) Sessions(ctx context.Context, r *api.SessionReport) (*api.SessionAnswer, error) {
	return call[api.SessionReport, api.SessionAnswer](ctx, p.machine, pathSessions, r)
}
