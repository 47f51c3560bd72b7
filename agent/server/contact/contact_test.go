package contact

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"cube/agent/server/signal"
	"cube/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func at(seconds int) time.Time { return time.Unix(int64(seconds), 0) }

func session(node string) []api.NodeSession {
	return []api.NodeSession{{Node: node, Incarnation: 1, Load: &api.NodeLoad{CPU: 7}}}
}

// TestDirectory tells stories of reports and asks how one node is reached after each.
func TestDirectory(t *testing.T) {
	report := func(server string, boot, seq uint64, full bool, up, down []api.NodeSession) *api.SessionReport {
		return &api.SessionReport{Server: server, Boot: boot, Seq: seq, Full: full, Up: up, Down: down}
	}
	type step struct {
		at     int
		report *api.SessionReport // nil: only time passes
		full   bool               // the directory asks for the full set
		want   Contact
	}
	never := Contact{Since: at(0)}
	up := func(server string, heard int) Contact {
		return Contact{Connected: true, Server: server, Heard: at(heard)}
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"a new leader has heard nothing", []step{{1, nil, false, never}}},
		{"up and down", []step{
			{1, report("a", 1, 1, true, nil, nil), false, never},
			{2, report("a", 1, 2, false, session("n"), nil), false, up("a", 2)},
			{4, report("a", 1, 3, false, nil, session("n")), false, Contact{Since: at(4), Observed: true, Heard: at(4)}},
		}},
		{"a gap asks for everything", []step{
			{1, report("a", 1, 1, true, session("n"), nil), false, up("a", 1)},
			{2, report("a", 1, 3, false, nil, session("n")), true, up("a", 1)},
			{3, report("a", 1, 4, true, nil, nil), false, Contact{Since: at(3), Observed: true, Heard: at(3)}},
		}},
		{"an unknown server must begin with everything", []step{{1, report("a", 1, 7, false, session("n"), nil), true, never}}},
		{"its server was started anew: nobody saw how it ended", []step{
			{1, report("a", 1, 1, true, session("n"), nil), false, up("a", 1)},
			{5, report("a", 2, 1, true, nil, nil), false, Contact{Since: at(5), Heard: at(5)}},
		}},
		{"its server falls silent", []step{
			{1, report("a", 1, 1, true, session("n"), nil), false, up("a", 1)},
			{10, nil, false, up("a", 1)},
			{11, nil, false, Contact{Since: at(1), Heard: at(1)}},
		}},
		{"it moves before the old server notices", []step{
			{1, report("a", 1, 1, true, session("n"), nil), false, up("a", 1)},
			{2, report("b", 1, 1, true, session("n"), nil), false, up("b", 2)},
			{3, report("a", 1, 2, false, nil, session("n")), false, up("b", 3)},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := NewDirectory("leader", at(0))
			for i, s := range test.steps {
				if s.report != nil {
					if got := d.Report(s.report, at(s.at)); got.Full != s.full {
						t.Errorf("step %d: asks for everything: %v, want %v", i, got.Full, s.full)
					}
				}
				if got := d.Contact("n", at(s.at)); got != s.want {
					t.Errorf("step %d: %+v, want %+v", i, got, s.want)
				}
			}
		})
	}
}

func TestExcess(t *testing.T) {
	for _, test := range []struct {
		sessions int
		share    float64
		want     float64
	}{
		{4, 0, 0}, {0, 2, 0}, {2, 2, 0}, {5, 4, 0}, {6, 4, 2.0 / 6}, {1, 0.5, 0}, {2, 0.67, 1.33 / 2}, {8, 2.67, 5.33 / 8}, {3, 2.67, 0},
	} {
		r := NewRegistry()
		for i := range test.sessions {
			r.Add(string(rune('a'+i)), 1, &link{})
		}
		r.setShare(test.share, false)
		if got := r.Excess(); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("with %d sessions of %g the excess is %g, want %g", test.sessions, test.share, got, test.want)
		}
	}
	d := NewDirectory("leader", at(0))
	d.Report(&api.SessionReport{Server: "a", Boot: 1, Seq: 1, Full: true, Up: session("n")}, at(1))
	if got := d.Report(&api.SessionReport{Server: "b", Boot: 1, Seq: 1, Full: true, Up: session("m")}, at(2)).Share; got != 1 {
		t.Errorf("each of two servers has a share of %g in two sessions", got)
	}
	if got := d.Report(&api.SessionReport{Server: "b", Boot: 1, Seq: 2}, at(12)).Share; got != 2 {
		t.Errorf("the server that is left has a share of %g in two sessions", got)
	}
}

// TestALeaderOfManyIsSpared: once what came with its election is over, as long as another server lives, and by no more
// than what the others have to carry.
func TestALeaderOfManyIsSpared(t *testing.T) {
	many := func(prefix string, n int) (out []api.NodeSession) {
		for i := range n {
			out = append(out, api.NodeSession{Node: fmt.Sprint(prefix, i), Incarnation: 1})
		}
		return out
	}
	d := NewDirectory("a", at(0))
	report := func(server string, seq uint64, up []api.NodeSession, second int) *api.SessionAnswer {
		return d.Report(&api.SessionReport{Server: server, Boot: 1, Seq: seq, Full: seq == 1, Up: up}, at(second))
	}
	if got := report("a", 1, many("a", spareFrom), 6); got.None {
		t.Error("a server that is alone is spared")
	}
	report("b", 1, many("b", spareFrom), 6)
	report("c", 1, many("c", spareFrom), 6)
	if got := report("a", 2, nil, 7); !got.None || got.Share != 1.5*spareFrom {
		t.Errorf("the leader is answered %+v", got)
	}
	if got := report("b", 2, nil, 7); got.None || got.Share != 1.5*spareFrom {
		t.Errorf("a follower is answered %+v", got)
	}
	if got := report("a", 3, nil, 20); got.None { // the others have fallen silent
		t.Errorf("the last one is answered %+v", got)
	}
	d = NewDirectory("a", at(0))
	report("b", 1, many("b", spareFrom), 1)
	if got := report("a", 1, nil, 1); got.None {
		t.Error("a new leader is spared at once")
	}
	r := NewRegistry()
	r.Add("n", 1, &link{})
	r.setShare(10, true)
	if !r.Elsewhere() || r.Excess() != 0 {
		t.Errorf("elsewhere: %t, excess: %g", r.Elsewhere(), r.Excess())
	}
}

// TestLoadsAreCopiedOnceASecond, however often they are asked for.
func TestLoadsAreCopiedOnceASecond(t *testing.T) {
	d := NewDirectory("a", at(0))
	report := func(seq uint64, cpu int64) {
		d.Report(&api.SessionReport{Server: "b", Boot: 1, Seq: seq, Full: seq == 1,
			Up: []api.NodeSession{{Node: "n", Incarnation: 1, Load: &api.NodeLoad{CPU: cpu}}, {Node: "m", Incarnation: 1}}}, at(1))
	}
	report(1, 5)
	first := d.Loads(at(2))
	if len(first) != 1 || first["n"].CPU != 5 {
		t.Errorf("the loads are %+v", first)
	}
	report(2, 7)
	if got := d.Loads(at(2).Add(loadsFor - 1))["n"].CPU; got != 5 {
		t.Errorf("within a second the load is %d", got)
	}
	if got := d.Loads(at(2).Add(loadsFor))["n"].CPU; got != 7 || first["n"].CPU != 5 {
		t.Errorf("after a second the load is %d, and in the former copy %d", got, first["n"].CPU)
	}
}

// TestTheMoreTheSeldomer: pings and loads of all sessions together keep to a rate.
func TestTheMoreTheSeldomer(t *testing.T) {
	r := NewRegistry()
	for i := range 1000 {
		r.Add(fmt.Sprint(i), 1, &link{})
	}
	if r.Quiet() != 5*time.Second || r.LoadEvery() != 10*time.Second {
		t.Errorf("1000 sessions are pinged every %s and tell their load every %s", r.Quiet(), r.LoadEvery())
	}
}

func TestProbeReachesEachLife(t *testing.T) {
	r := NewRegistry()
	one, two, other := &link{}, &link{}, &link{}
	r.Add("n", 1, one)
	remove := r.Add("n", 2, two)
	r.Add("m", 1, other)
	r.Probe("n")
	remove()
	r.Probe("n")
	r.Probe("nobody")
	if one.probed != 2 || two.probed != 1 || other.probed != 0 {
		t.Errorf("probed %d, %d and %d times", one.probed, two.probed, other.probed)
	}
}

func TestTwoLivesOfOneNode(t *testing.T) {
	d := NewDirectory("leader", at(0))
	d.Report(&api.SessionReport{Server: "a", Boot: 1, Seq: 1, Full: true, Up: []api.NodeSession{{Node: "n", Incarnation: 1}}}, at(1))
	d.Report(&api.SessionReport{Server: "b", Boot: 1, Seq: 1, Full: true, Up: []api.NodeSession{{Node: "n", Incarnation: 2}}}, at(1))
	for incarnation, want := range map[uint64]string{1: "a", 2: "b", 3: ""} {
		if got := d.Holder("n", incarnation, at(2)); got != want {
			t.Errorf("incarnation %d is held by %q, want %q", incarnation, got, want)
		}
	}
	if d.Sessions() != 2 {
		t.Errorf("%d sessions", d.Sessions())
	}
	d.Report(&api.SessionReport{Server: "a", Boot: 1, Seq: 2, Down: []api.NodeSession{{Node: "n", Incarnation: 1}, {Node: "n", Incarnation: 9}}}, at(2))
	if d.Sessions() != 1 {
		t.Errorf("%d sessions are left", d.Sessions())
	}
	d.Report(&api.SessionReport{Server: "b", Boot: 1, Seq: 2, Full: true}, at(2))
	if d.Sessions() != 0 {
		t.Errorf("%d sessions are left in the end", d.Sessions())
	}
}

type link struct {
	closed bool
	probed int
}

func (l *link) Transport() http.RoundTripper { return http.DefaultTransport }
func (l *link) Close() error                 { l.closed = true; return nil }
func (l *link) Probe()                       { l.probed++ }

func TestRegistryKeepsOneSessionOfALife(t *testing.T) {
	r := NewRegistry()
	first, second := &link{}, &link{}
	removeFirst := r.Add("n", 1, first)
	removeSecond := r.Add("n", 1, second)
	if !first.closed || second.closed || r.Len() != 1 {
		t.Errorf("first closed: %v, second closed: %v, sessions: %d", first.closed, second.closed, r.Len())
	}
	removeFirst() // late, and no longer its business
	if _, ok := r.Transport("n", 1); !ok {
		t.Error("the end of the former session took the new one with it")
	}
	if _, ok := r.Transport("n", 2); ok {
		t.Error("one life was taken for another")
	}
	removeSecond()
	if r.Len() != 0 {
		t.Errorf("%d sessions are left", r.Len())
	}
}

// TestReporter: everything to each new leader, changes at once, loads at leisure, and again everything when a report was
// lost.
func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			elected signal.Broadcast
			leader  = ""
			lose    = false
			reports = make(chan api.SessionReport, 100)
			reg     = NewRegistry()
		)
		r := &Reporter{
			Server: "a", Boot: 1, Registry: reg, Logger: hclog.NewNullLogger(),
			Leader: func() string { return leader }, LeaderChanged: elected.Wait,
			Send: func(_ context.Context, _ string, r *api.SessionReport) (*api.SessionAnswer, error) {
				if lose {
					lose = false
					return nil, api.Errorf(api.CodeUnavailable, "lost")
				}
				reports <- *r
				return &api.SessionAnswer{}, nil
			},
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		expect := func(what string, full bool, up, down int) {
			t.Helper()
			synctest.Wait()
			if len(reports) != 1 {
				t.Fatalf("%s: %d reports", what, len(reports))
			}
			if got := <-reports; got.Full != full || len(got.Up) != up || len(got.Down) != down {
				t.Errorf("%s: full %v, %d up, %d down; want %v, %d, %d", what, got.Full, len(got.Up), len(got.Down), full, up, down)
			}
		}
		remove := reg.Add("n1", 1, &link{})
		synctest.Wait()
		if len(reports) > 0 {
			t.Error("reported to nobody")
		}
		leader = "l1"
		elected.Notify()
		expect("a leader", true, 1, 0)
		reg.Add("n2", 1, &link{})
		expect("a session came", false, 1, 0)
		remove()
		expect("a session went", false, 0, 1)
		reg.SetLoad("n2", 1, &api.NodeLoad{CPU: 1})
		synctest.Wait()
		if len(reports) > 0 {
			t.Error("a load was reported at once")
		}
		time.Sleep(reportEvery)
		expect("a load", false, 1, 0)
		time.Sleep(reportEvery)
		expect("a sign of life", false, 0, 0)
		lose = true
		reg.Add("n3", 1, &link{})
		synctest.Wait()
		time.Sleep(reportRetry)
		expect("after a loss", true, 2, 0)
		leader = "l2"
		elected.Notify()
		expect("another leader", true, 2, 0)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
