package watch

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"cube/internal/bench/cluster"
)

// TestMain is also the process that holds the other end of the queries.
func TestMain(m *testing.M) {
	if len(os.Args) != 6 || os.Args[1] != "watchers" {
		os.Exit(m.Run())
	}
	index, err := strconv.ParseUint(os.Args[4], 10, 64)
	n, err2 := strconv.Atoi(os.Args[5])
	if err != nil || err2 != nil {
		panic(fmt.Sprint(err, err2))
	}
	if err := Watchers(context.Background(), os.Args[2], os.Args[3], index, n, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestEveryQueryIsAnswered: all are open at once, every change reaches every one of them, and the figures say so.
func TestEveryQueryIsAnswered(t *testing.T) {
	r, err := Run(t.Context(), Config{Cluster: cluster.Config{Servers: 1}, Queries: 300, Changes: 3, Watch: []string{"watchers"}, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range map[string]func(float64) bool{
		"server connections":              func(v float64) bool { return v >= 300 && v < 320 },
		"a change reaches one, p50":       func(v float64) bool { return v > 0 },
		"an answer":                       func(v float64) bool { return v > 500 },
		"reads of the state for a change": func(v float64) bool { return v >= 1 && v < 10 },
	} {
		if f, ok := r.Figure(name); !ok || !is(f.Value) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestPercentile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for p, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 4, 1: 4} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%g of %v is %g, want %g", p, values, got, want)
		}
	}
	if percentile(nil, 0.5) != 0 {
		t.Error("of nothing there is something")
	}
}
