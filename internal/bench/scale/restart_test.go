package scale

import (
	"testing"

	"cube/internal/bench/load"
	"cube/internal/bench/result"
)

// TestRestart: a server that is killed comes back with everything. (That it does from a snapshot, too, the scenario itself
// shows: so much log is too much for a test.)
func TestRestart(t *testing.T) {
	b := Restart{Burst: Burst{Name: "restart", Jobs: 4, Count: 25, CPU: 0.03, Memory: 100}, Times: 2}
	s, err := open(t.Context(), small(t, 3, 4), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.fill(t.Context(), b.jobs(2), load.NewTracker(b.jobs(2))); err != nil {
		t.Fatal(err)
	}
	r := result.New("restart")
	if err := b.phase(t.Context(), s, (s.leader+1)%3, r, "now"); err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]float64{"now: snapshots on disk": 0})
	positive(t, r, "now: a stale read has all jobs, p50", "now: log on disk", "now: peak RSS of the server")
}
