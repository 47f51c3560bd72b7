package failover

import (
	"testing"

	"cube/internal/bench/cluster"
)

// TestNothingIsLost: a leader is killed twice while jobs change, and what was acknowledged is found.
func TestNothingIsLost(t *testing.T) {
	r, err := Run(t.Context(), Config{Cluster: cluster.Config{Servers: 3}, Times: 2, Rate: 100, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range map[string]func(float64) bool{
		"acknowledged writes lost":     func(v float64) bool { return v == 0 },
		"acknowledged writes":          func(v float64) bool { return v > 50 },
		"next accepted write, slowest": func(v float64) bool { return v > 0 },
	} {
		if f, ok := r.Figure(name); !ok || !is(f.Value) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestALossIsSeen: a write that was acknowledged with another result than it has now is counted as lost, and so is a job
// that is older than its last acknowledged write.
func TestALossIsSeen(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Config{Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	w := newWriters(c, 100)
	if err := w.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.stop()
	one := w.writers[0]
	w.write(t.Context(), one, 0)
	if err := w.judgeJobs(t.Context()); err != nil || w.lost != 0 {
		t.Fatalf("%d lost, %v", w.lost, err)
	}
	one.pending = []write{{number: one.last, index: 1}} // it was another entry
	one.sent++
	one.last = one.sent // acknowledged, they say
	if err := w.judgeJobs(t.Context()); err != nil || w.lost != 2 {
		t.Errorf("%d lost, want 2; %v", w.lost, err)
	}
}
