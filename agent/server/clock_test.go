package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/internal/memnet"
)

func TestClockNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		start := time.Now()
		if got := c.now(); got != start.UnixNano() {
			t.Errorf("at first it is %s", time.Unix(0, got))
		}
		c.begin(start.Add(-time.Hour).UnixNano())
		if got := c.now(); got != start.UnixNano() {
			t.Errorf("a state from before holds it back: %s", time.Unix(0, got))
		}
		c.begin(start.Add(time.Hour).UnixNano())
		time.Sleep(time.Minute)
		if got := c.now(); got != start.Add(time.Hour+time.Minute).UnixNano() {
			t.Errorf("a minute after a state that is an hour ahead: %s", time.Unix(0, got))
		}
	})
}

// TestTimeGoesOnAfterAClockThatWasAhead: the clock of an earlier leader was a year ahead. What is to expire in ten minutes
// does so all the same.
func TestTimeGoesOnAfterAClockThatWasAhead(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		m := c.start(1, "s1", t.TempDir(), nil)
		leaderOf(m)
		ahead, err := (&fsm.Command{At: time.Now().AddDate(1, 0, 0).UnixNano(), Body: &fsm.Reap{}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.node.Apply(ahead, 0).Error(); err != nil {
			t.Fatal(err)
		}
		m.renew()

		n := c.node(1)
		n.connect(m)
		n.register(m)
		m.register(job("web", 1))
		a := n.poll().Assignments[0]
		taken := api.AllocationStatus{ID: a.ID, Seq: a.Seq + 1, Phase: api.PhaseFailed, Failure: api.FailurePortTaken, Port: 8080}
		if _, err := m.Report(context.Background(), &api.Report{Node: n.row.ID, Incarnation: n.row.Incarnation, Statuses: []api.AllocationStatus{taken}}); err != nil {
			t.Fatal(err)
		}
		if m.machine.Snapshot().Due() == 0 {
			t.Fatal("the port is not left alone")
		}
		time.Sleep(11 * time.Minute)
		if due := m.machine.Snapshot().Due(); due != 0 {
			t.Errorf("it is for another %s", time.Unix(0, due).Sub(time.Now()))
		}
	})
}
