package rest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

// fill gives every field of v a value of its own, so that one that a layout forgets is missed.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), r)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(4), 4))
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.String:
		v.SetString([]string{"", "web", fmt.Sprint(r.Uint32())}[r.IntN(3)])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int32(r.Uint32())))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + r.Uint64N(1<<(v.Type().Bits()-1)))
	default:
		panic(v.Kind())
	}
}

// checkCoder takes values there and back, and makes sure that no prefix and no spoilt byte does worse than fail.
func checkCoder[T any](t *testing.T, name string, c coder[T]) {
	t.Helper()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		in := new(T)
		if seed > 0 {
			fill(reflect.ValueOf(in).Elem(), r)
		}
		b, err := c.encode(in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.decode(b)
		if err != nil {
			t.Fatalf("%s, seed %d: %v", name, seed, err)
		}
		if d := cmp.Diff(in, out, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
			t.Fatalf("%s, seed %d: %s", name, seed, d)
		}
		if out, err := c.decode(append(b, 1, 2, 3)); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%s, seed %d: with a later addition: %v", name, seed, err)
		}
		for n := range b {
			if older, err := c.decode(b[:n]); err == nil && !cmp.Equal(in, older, cmp.Exporter(func(reflect.Type) bool { return true }), whatWasAddedLater()) {
				t.Errorf("%s, seed %d: %d of %d bytes are taken for all", name, seed, n, len(b))
			}
			spoilt := append([]byte(nil), b...)
			spoilt[n] ^= byte(1 + r.IntN(255))
			c.decode(spoilt) // must not panic, nor make room for what is not there; it may mean something
		}
		b[0]++
		if _, err := c.decode(b); api.CodeOf(err) != api.CodeIncompatible {
			t.Errorf("%s: another layout: %v", name, err)
		}
	}
}

// whatWasAddedLater are the fields that an earlier version does not send: a message that ends before them is whole.
func whatWasAddedLater() cmp.Option {
	later := []string{".Health", ".Hurry", ".Moved", ".Former"}
	return cmp.FilterPath(func(p cmp.Path) bool { return slices.Contains(later, p.Last().String()) }, cmp.Ignore())
}

// TestReportsOfBeforeThereWereChecks: what a client runs that says nothing of health is well, and what it says nothing else.
func TestReportsOfBeforeThereWereChecks(t *testing.T) {
	report := &api.Report{Node: "n1", Statuses: []api.AllocationStatus{
		{ID: 1, Seq: 1, Phase: api.PhaseRunning, Health: api.HealthHealthy}, {ID: 2, Seq: 1, Phase: api.PhasePreparing},
	}}
	now := encodeReport(report)
	then := now[:len(now)-1] // without the word that no health differs
	old, err := decodeReport(then)
	if err != nil || !cmp.Equal(old, report) {
		t.Errorf("%v, %v", old, err)
	}
	report.Statuses[0].Health = api.HealthUnhealthy
	if b := encodeReport(report); len(b) != len(now)+2 {
		t.Errorf("health takes %d bytes more", len(b)-len(now))
	}
}

func TestLayouts(t *testing.T) {
	checkCoder(t, "poll request", pollMethod().in)
	checkCoder(t, "poll answer", pollMethod().out)
	checkCoder(t, "report", reportMethod().in)
	checkCoder(t, "report answer", reportMethod().out)
	checkCoder(t, "batch", deliverMethod().in)
	checkCoder(t, "batch answer", deliverMethod().out)
}

// machines answers with what it was asked.
type machines struct{ failing error }

func (m machines) Register(_ context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return &api.RegistrationAnswer{ClusterID: "of " + r.Node.Name, Verdicts: []api.Verdict{api.VerdictStop}, Index: r.Index}, m.failing
}
func (m machines) Poll(_ context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	return &api.PollAnswer{Epoch: r.Epoch, Index: r.Index + 1}, m.failing
}
func (m machines) Report(_ context.Context, r *api.Report) (*api.ReportAnswer, error) {
	return &api.ReportAnswer{Index: r.Statuses[0].Seq}, m.failing
}
func (m machines) Sessions(_ context.Context, r *api.SessionReport) (*api.SessionAnswer, error) {
	return &api.SessionAnswer{Share: float64(len(r.Up)) / 2}, m.failing
}
func (m machines) Enroll(ctx context.Context, r *api.Registration) (*api.RegistrationAnswer, error) {
	return m.Register(ctx, r)
}
func (m machines) Deliver(_ context.Context, b *api.ReportBatch) (*api.ReportBatchAnswer, error) {
	out := &api.ReportBatchAnswer{}
	for _, r := range b.Reports {
		out.Answers = append(out.Answers, api.ReportOutcome{ReportAnswer: api.ReportAnswer{Index: r.Incarnation}, Refused: &api.Error{Code: api.CodeConflict, Message: r.Node}})
	}
	return out, m.failing
}

// TestMachinesCall takes every method from one side to the other.
func TestMachinesCall(t *testing.T) {
	ctx := t.Context()
	calls := func(m machines, role api.Role, id string) CallFunc {
		return MachineCalls(m, m, func(context.Context) (api.Role, string) { return role, id })
	}
	asNode, asServer := calls(machines{}, api.RoleClient, "n1"), calls(machines{}, api.RoleServer, "s1")
	d, p := NewDispatcher(asNode), NewPeer(asServer)
	registration := &api.Registration{Node: &api.Node{ID: "n1", Name: "rack"}, Index: 7}
	if a, err := d.Register(ctx, registration); err != nil || a.ClusterID != "of rack" || a.Index != 7 || a.Verdicts[0] != api.VerdictStop {
		t.Errorf("register: %+v, %v", a, err)
	}
	if a, err := d.Poll(ctx, &api.PollRequest{Node: "n1", Epoch: 3, Index: 4}); err != nil || a.Epoch != 3 || a.Index != 5 {
		t.Errorf("poll: %+v, %v", a, err)
	}
	if a, err := d.Report(ctx, &api.Report{Node: "n1", Statuses: []api.AllocationStatus{{Seq: 9}}}); err != nil || a.Index != 9 {
		t.Errorf("report: %+v, %v", a, err)
	}
	if a, err := p.Sessions(ctx, &api.SessionReport{Up: make([]api.NodeSession, 3)}); err != nil || a.Share != 1.5 {
		t.Errorf("sessions: %+v, %v", a, err)
	}
	if a, err := p.Enroll(ctx, registration); err != nil || a.ClusterID != "of rack" {
		t.Errorf("enroll: %+v, %v", a, err)
	}
	if a, err := p.Deliver(ctx, &api.ReportBatch{Reports: []api.Report{{Node: "a", Incarnation: 1}, {Node: "b", Incarnation: 2}}}); err != nil ||
		len(a.Answers) != 2 || a.Answers[1].Index != 2 || a.Answers[1].Refused.Message != "b" {
		t.Errorf("deliver: %+v, %v", a, err)
	}

	for what, err := range map[string]error{
		"for another node":   func() error { _, err := d.Poll(ctx, &api.PollRequest{Node: "n2"}); return err }(),
		"a node as a server": func() error { _, err := NewPeer(asNode).Deliver(ctx, &api.ReportBatch{}); return err }(),
		"a server as a node": func() error { _, err := NewDispatcher(asServer).Poll(ctx, &api.PollRequest{Node: "s1"}); return err }(),
		"nobody": func() error {
			_, err := NewDispatcher(calls(machines{}, "", "")).Poll(ctx, &api.PollRequest{})
			return err
		}(),
		"a registration of none": func() error { _, err := d.Register(ctx, &api.Registration{}); return err }(),
	} {
		if api.CodeOf(err) != api.CodeForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := asNode(ctx, "exec", nil); api.CodeOf(err) != api.CodeNotFound || !strings.Contains(err.Error(), "exec") {
		t.Errorf("an unknown method: %v", err)
	}
	if _, err := asNode(ctx, "report", []byte{layout, 200}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a spoilt argument: %v", err)
	}
	failing := NewDispatcher(calls(machines{failing: api.Errorf(api.CodeBusy, "no")}, api.RoleClient, "n1"))
	if _, err := failing.Poll(ctx, &api.PollRequest{Node: "n1"}); api.CodeOf(err) != api.CodeBusy {
		t.Errorf("a failure: %v", err)
	}
}
