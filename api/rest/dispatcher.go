package rest

import (
	"context"

	"cube/api"
)

// Methods of machines. A name stays what it is: older nodes call it.
const (
	methodRegister = "register"
	methodPoll     = "poll"
	methodReport   = "report"
	methodSessions = "sessions"
	methodEnroll   = "enroll"
	methodDeliver  = "deliver"
)

// CallFunc does one call between agents: a session does, and MachineCalls answers.
type CallFunc = func(ctx context.Context, method string, body []byte) ([]byte, error)

// MachineCalls answers what agents ask of a server over their sessions. sender tells from a call's context whom it comes
// from; a node may speak for itself only, and what servers ask of each other is for servers.
func MachineCalls(d api.Dispatcher, p api.Peer, sender func(context.Context) (api.Role, string)) CallFunc {
	methods := map[string]func(context.Context, []byte) ([]byte, error){
		methodRegister: asNode(sender, func(in *api.Registration) string {
			if in.Node == nil {
				return ""
			}
			return in.Node.ID
		}, d.Register),
		methodPoll:     asNode(sender, func(in *api.PollRequest) string { return in.Node }, d.Poll),
		methodReport:   asNode(sender, func(in *api.Report) string { return in.Node }, d.Report),
		methodSessions: asServer(sender, p.Sessions),
		methodEnroll:   asServer(sender, p.Enroll),
		methodDeliver:  asServer(sender, p.Deliver),
	}
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		f, ok := methods[method]
		if !ok {
			return nil, api.Errorf(api.CodeNotFound, "servers answer no %.40q; is this server older than the one that asks?", method)
		}
		return f(ctx, body)
	}
}

// asNode answers a method whose argument names the node that it speaks for.
func asNode[In, Out any](sender func(context.Context) (api.Role, string), node func(*In) string, f func(context.Context, *In) (*Out, error)) func(context.Context, []byte) ([]byte, error) {
	return answering(func(ctx context.Context, in *In) (*Out, error) {
		if role, id := sender(ctx); role != api.RoleClient || node(in) != id {
			return nil, api.Errorf(api.CodeForbidden, "%s %.32s speaks for node %.32s; a node may speak for itself only", role, id, node(in))
		}
		return f(ctx, in)
	})
}

// asServer answers a method of servers.
func asServer[In, Out any](sender func(context.Context) (api.Role, string), f func(context.Context, *In) (*Out, error)) func(context.Context, []byte) ([]byte, error) {
	return answering(func(ctx context.Context, in *In) (*Out, error) {
		if role, id := sender(ctx); role != api.RoleServer {
			return nil, api.Errorf(api.CodeForbidden, "%s %.32s asks what only servers ask each other", role, id)
		}
		return f(ctx, in)
	})
}

// dispatcher is api.Dispatcher over a session.
type dispatcher struct{ call CallFunc }

// NewDispatcher returns the dispatcher behind a session's calls.
func NewDispatcher(call CallFunc) api.Dispatcher { return dispatcher{call} }

func (d dispatcher) Register(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return asking[api.Registration, api.RegistrationAnswer](ctx, d.call, methodRegister, r)
}

func (d dispatcher) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	return asking[api.PollRequest, api.PollAnswer](ctx, d.call, methodPoll, r)
}

func (d dispatcher) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	return asking[api.Report, api.ReportAnswer](ctx, d.call, methodReport, r)
}

// peer is api.Peer over a session.
type peer struct{ call CallFunc }

// NewPeer returns the server behind a session's calls.
func NewPeer(call CallFunc) api.Peer { return peer{call} }

func (p peer) Sessions(ctx context.Context, r *api.SessionReport) (*api.SessionAnswer, error) {
	return asking[api.SessionReport, api.SessionAnswer](ctx, p.call, methodSessions, r)
}

func (p peer) Enroll(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return asking[api.Registration, api.RegistrationAnswer](ctx, p.call, methodEnroll, r)
}

func (p peer) Deliver(ctx context.Context, r *api.ReportBatch) (*api.ReportBatchAnswer, error) {
	return asking[api.ReportBatch, api.ReportBatchAnswer](ctx, p.call, methodDeliver, r)
}
