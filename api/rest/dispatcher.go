package rest

import (
	"context"
	"fmt"

	"cube/api"
)

// CallFunc does one call between agents: a session does, and MachineCalls answers.
type CallFunc = func(ctx context.Context, method string, body []byte) ([]byte, error)

// MachineCalls answers what agents ask of a server over their sessions. sender tells from a call's context whom it comes
// from; a node may speak for itself only, and what servers ask of each other is for servers.
func MachineCalls(d api.Dispatcher, p api.Peer, sender func(context.Context) (api.Role, string)) CallFunc {
	methods := make(map[string]CallFunc)
	serve(methods, registerMethod(), asNode(sender, func(in *api.Registration) string {
		if in.Node == nil {
			return ""
		}
		return in.Node.ID
	}, d.Register))
	serve(methods, pollMethod(), asNode(sender, func(in *api.PollRequest) string { return in.Node }, d.Poll))
	serve(methods, reportMethod(), asNode(sender, func(in *api.Report) string { return in.Node }, d.Report))
	serve(methods, sessionsMethod(), asServer(sender, p.Sessions))
	serve(methods, enrollMethod(), asServer(sender, p.Enroll))
	serve(methods, deliverMethod(), asServer(sender, p.Deliver))
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		f, ok := methods[method]
		if !ok {
			return nil, api.Errorf(api.CodeNotFound, "servers answer no %.40q; is this server older than the one that asks?", method)
		}
		return f(ctx, method, body)
	}
}

// method is a call's name, and how its argument and its answer are laid out. The name stays what it is: older nodes call it.
type method[In, Out any] struct {
	name string
	in   coder[In]
	out  coder[Out]
}

// coder turns a value into bytes and back.
type coder[T any] struct {
	encode func(*T) ([]byte, error)
	decode func([]byte) (*T, error)
}

// packed is msgpack, for what is asked seldom.
func packed[T any]() coder[T] {
	return coder[T]{
		func(v *T) ([]byte, error) { return encode(v) },
		func(b []byte) (*T, error) { v := new(T); return v, decode(b, v) },
	}
}

// laid is a layout of wire.go, for what is exchanged all the time.
func laid[T any](encode func(*T) []byte, decode func([]byte) (*T, error)) coder[T] {
	return coder[T]{func(v *T) ([]byte, error) { return encode(v), nil }, decode}
}

func registerMethod() method[api.Registration, api.RegistrationAnswer] {
	return method[api.Registration, api.RegistrationAnswer]{"register", packed[api.Registration](), packed[api.RegistrationAnswer]()}
}

func enrollMethod() method[api.Registration, api.RegistrationAnswer] {
	return method[api.Registration, api.RegistrationAnswer]{"enroll", packed[api.Registration](), packed[api.RegistrationAnswer]()}
}

func sessionsMethod() method[api.SessionReport, api.SessionAnswer] {
	return method[api.SessionReport, api.SessionAnswer]{"sessions", packed[api.SessionReport](), packed[api.SessionAnswer]()}
}

func pollMethod() method[api.PollRequest, api.PollAnswer] {
	return method[api.PollRequest, api.PollAnswer]{"poll", laid(encodePollRequest, decodePollRequest), laid(encodePollAnswer, decodePollAnswer)}
}

func reportMethod() method[api.Report, api.ReportAnswer] {
	return method[api.Report, api.ReportAnswer]{"report", laid(encodeReport, decodeReport), laid(encodeReportAnswer, decodeReportAnswer)}
}

func deliverMethod() method[api.ReportBatch, api.ReportBatchAnswer] {
	return method[api.ReportBatch, api.ReportBatchAnswer]{"deliver", laid(encodeReportBatch, decodeReportBatch), laid(encodeReportBatchAnswer, decodeReportBatchAnswer)}
}

// serve adds the answering side of a method.
func serve[In, Out any](methods map[string]CallFunc, m method[In, Out], f func(context.Context, *In) (*Out, error)) {
	methods[m.name] = func(ctx context.Context, _ string, body []byte) ([]byte, error) {
		in, err := m.in.decode(body)
		if err != nil {
			if api.CodeOf(err) != api.CodeIncompatible {
				err = api.Errorf(api.CodeInvalid, "what %s was asked with cannot be read: %w", m.name, err)
			}
			return nil, err
		}
		out, err := f(ctx, in)
		if err != nil {
			return nil, err
		}
		return m.out.encode(out)
	}
}

// ask is the asking side of a method.
func (m method[In, Out]) ask(ctx context.Context, call CallFunc, in *In) (*Out, error) {
	body, err := m.in.encode(in)
	if err != nil {
		return nil, fmt.Errorf("encode what %s is asked with: %w", m.name, err)
	}
	if body, err = call(ctx, m.name, body); err != nil {
		return nil, err
	}
	out, err := m.out.decode(body)
	if err != nil {
		return nil, fmt.Errorf("decode what %s answered: %w", m.name, err)
	}
	return out, nil
}

// asNode answers a method whose argument names the node that it speaks for.
func asNode[In, Out any](sender func(context.Context) (api.Role, string), node func(*In) string, f func(context.Context, *In) (*Out, error)) func(context.Context, *In) (*Out, error) {
	return func(ctx context.Context, in *In) (*Out, error) {
		if role, id := sender(ctx); role != api.RoleClient || node(in) != id {
			return nil, api.Errorf(api.CodeForbidden, "%s %.32s speaks for node %.32s; a node may speak for itself only", role, id, node(in))
		}
		return f(ctx, in)
	}
}

// asServer answers a method of servers.
func asServer[In, Out any](sender func(context.Context) (api.Role, string), f func(context.Context, *In) (*Out, error)) func(context.Context, *In) (*Out, error) {
	return func(ctx context.Context, in *In) (*Out, error) {
		if role, id := sender(ctx); role != api.RoleServer {
			return nil, api.Errorf(api.CodeForbidden, "%s %.32s asks what only servers ask each other", role, id)
		}
		return f(ctx, in)
	}
}

// dispatcher is api.Dispatcher over a session.
type dispatcher struct{ call CallFunc }

// NewDispatcher returns the dispatcher behind a session's calls.
func NewDispatcher(call CallFunc) api.Dispatcher { return dispatcher{call} }

func (d dispatcher) Register(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return registerMethod().ask(ctx, d.call, r)
}

func (d dispatcher) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	return pollMethod().ask(ctx, d.call, r)
}

func (d dispatcher) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	return reportMethod().ask(ctx, d.call, r)
}

// peer is api.Peer over a session.
type peer struct{ call CallFunc }

// NewPeer returns the server behind a session's calls.
func NewPeer(call CallFunc) api.Peer { return peer{call} }

func (p peer) Sessions(ctx context.Context, r *api.SessionReport) (*api.SessionAnswer, error) {
	return sessionsMethod().ask(ctx, p.call, r)
}

func (p peer) Enroll(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return enrollMethod().ask(ctx, p.call, r)
}

func (p peer) Deliver(ctx context.Context, r *api.ReportBatch) (*api.ReportBatchAnswer, error) {
	return deliverMethod().ask(ctx, p.call, r)
}

func encodeReportBatchAnswer(p *api.ReportBatchAnswer) []byte {
	w := newWireWriter(16 + 16*len(p.Answers))
	w.uint(uint64(len(p.Answers)))
	for i := range p.Answers {
		a := &p.Answers[i]
		w.reportAnswer(&a.ReportAnswer)
		w.bool(a.Refused != nil)
		if a.Refused != nil {
			w.string(string(a.Refused.Code))
			w.string(a.Refused.Message)
		}
	}
	return w.b
}

func decodeReportBatchAnswer(b []byte) (*api.ReportBatchAnswer, error) {
	r, p := newWireReader(b), new(api.ReportBatchAnswer)
	if n := r.count(4); n > 0 {
		p.Answers = make([]api.ReportOutcome, n)
	}
	for i := range p.Answers {
		a := &p.Answers[i]
		r.reportAnswer(&a.ReportAnswer)
		if r.bool() {
			a.Refused = &api.Error{Code: api.Code(r.string()), Message: r.string()}
		}
	}
	return p, r.done()
}

// marked ends a poll's answer: the places of the assignments of which something is so, for each thing that there is to be so. It
// stands at the end, in the order in which these things came up, where clients and servers of before neither write nor read it.
func (w *wireWriter) marked(list []api.Assignment, mark func(*api.Assignment) *bool) {
	var places []int
	for i := range list {
		if *mark(&list[i]) {
			places = append(places, i)
		}
	}
	w.uint(uint64(len(places)))
	for _, i := range places {
		w.uint(uint64(i))
	}
}

func (r *wireReader) marked(list []api.Assignment, mark func(*api.Assignment) *bool) {
	if r.err != nil || len(r.b) == 0 {
		return
	}
	for range r.count(1) {
		if i := r.uint(); i < uint64(len(list)) {
			*mark(&list[i]) = true
		}
	}
}

// former follows: those before it of each assignment that has any.
func (w *wireWriter) former(list []api.Assignment) {
	with := 0
	for i := range list {
		if len(list[i].Former) > 0 {
			with++
		}
	}
	w.uint(uint64(with))
	var node, name string
	for i := range list {
		if len(list[i].Former) == 0 {
			continue
		}
		w.uint(uint64(i))
		w.uint(uint64(len(list[i].Former)))
		for _, f := range list[i].Former {
			w.uint(uint64(f.Allocation))
			w.name(&node, f.Node)
			w.name(&name, f.NodeName)
		}
	}
}

func (r *wireReader) former(list []api.Assignment) {
	if r.err != nil || len(r.b) == 0 {
		return
	}
	var node, name string
	for range r.count(5) {
		i := r.uint()
		former := make([]api.Former, r.count(3))
		for k := range former {
			former[k] = api.Former{Allocation: api.ID(r.uint()), Node: r.name(&node), NodeName: r.name(&name)}
		}
		if i < uint64(len(list)) && len(former) > 0 {
			list[i].Former = former
		}
	}
}
