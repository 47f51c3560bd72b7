package ci

import (
	"strings"
	"testing"

	"cube/internal/bench/result"
)

// TestBounds: each says what was measured and why, and leaves room for wavering but not for more.
func TestBounds(t *testing.T) {
	bounds, err := Bounds()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range bounds {
		if b.Figure == "" || len(b.Reason) < 20 || seen[b.Figure] {
			t.Errorf("%+v: no name, no reason, or twice", b)
		}
		seen[b.Figure] = true
		if b.Measured <= 0 || b.AtMost < 1.5*b.Measured || b.AtMost > 2.5*b.Measured {
			t.Errorf("%s: it was %g and may be %g, want about twice", b.Figure, b.Measured, b.AtMost)
		}
	}
	if len(bounds) == 0 {
		t.Error("nothing is expected")
	}
}

// TestMissed: a ratio that has fallen is an error that says which, by how much, and why it matters.
func TestMissed(t *testing.T) {
	bounds, err := Bounds()
	if err != nil {
		t.Fatal(err)
	}
	r := result.New("ci")
	for _, b := range bounds {
		r.AtMost(b.Figure, b.AtMost, b.Unit, b.AtMost)
	}
	if err := Missed(r); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
	r = result.New("ci")
	for i, b := range bounds {
		v := b.Measured
		if i == 1 {
			v = 10 * b.AtMost
		}
		r.AtMost(b.Figure, v, b.Unit, b.AtMost)
	}
	err = Missed(r)
	if err == nil || !strings.Contains(err.Error(), "1 ratios") || !strings.Contains(err.Error(), bounds[1].Figure) || !strings.Contains(err.Error(), bounds[1].Reason) {
		t.Errorf("got %v", err)
	}
}

func TestMetric(t *testing.T) {
	const text = "goos: linux\nBenchmarkA-2   \t 3\t 100 ns/op\t 47.92 B/placement\t 12 allocs/op\nBenchmarkAB \t 3\t 5 allocs/op\n"
	for _, c := range []struct {
		benchmark, unit string
		want            float64
	}{{"BenchmarkA", "allocs/op", 12}, {"BenchmarkA", "B/placement", 47.92}, {"BenchmarkAB", "allocs/op", 5}} {
		if got, err := metric(text, c.benchmark, c.unit); err != nil || got != c.want {
			t.Errorf("%s of %s: %g, %v", c.unit, c.benchmark, got, err)
		}
	}
	if _, err := metric(text, "BenchmarkC", "allocs/op"); err == nil {
		t.Error("what is not there was found")
	}
}

// TestTheReferenceTakesTime: it is work, and the processor's time is counted in steps fine enough for it.
func TestTheReferenceTakesTime(t *testing.T) {
	d, err := reference()
	if err != nil || d <= 0 {
		t.Errorf("%s, %v", d, err)
	}
	t.Logf("the reference takes %s", d)
}
