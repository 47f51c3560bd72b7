package packing

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNobodyPacksBetter is what the default scoring is for: on a cluster of 69 nodes, on average over three traces, it
// places the largest share of the GPUs. All is drawn from fixed seeds, so this passes or fails alike everywhere.
func TestNobodyPacksBetter(t *testing.T) {
	const traces = 3
	for _, vary := range []string{"", "gpushare60", "multigpu30", "gpuspec25", "cpu200"} {
		t.Run(vary, func(t *testing.T) {
			var ours int64
			for _, k := range contenders() {
				placed := int64(0)
				for seed := range uint64(traces) {
					trace, err := Vary(synthetic(seed+1), vary, seed)
					if err != nil {
						t.Fatal(err)
					}
					c := newCluster(trace.Machines)
					o, err := replay(context.Background(), c, trace, k.build(c, trace, seed), arrivals(trace, pressure, seed))
					if err != nil {
						t.Fatal(err)
					}
					if o.missed > 0 {
						t.Errorf("%s refused %d tasks that had a place (trace %d)", k.name, o.missed, seed)
					}
					placed += o.placed.GPU
				}
				t.Logf("%s: %d", k.name, placed/traces)
				if k.name == Ours {
					ours = placed
				}
				if placed > ours {
					t.Errorf("%s places %d thousandths of a GPU on average, Cube %d", k.name, placed/traces, ours/traces)
				}
			}
		})
	}
}

// TestNobodyNeedsFewerNodes is the same for compaction.
func TestNobodyNeedsFewerNodes(t *testing.T) {
	trace, err := Vary(synthetic(1), "nodes60", 1)
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, k := range contenders() {
		sum := 0
		for seed := range uint64(3) {
			n, err := compact(context.Background(), trace, k.build, seed, enough(trace, seed))
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				n = largest*len(trace.Machines) + 1
			}
			sum += n
		}
		t.Logf("%s: %d", k.name, sum)
		if k.name == Ours {
			ours = sum
		}
		if sum < ours {
			t.Errorf("%s needs %d nodes over three orders, Cube %d", k.name, sum, ours)
		}
	}
}

// TestSameTraceSamePlaces: what Cube decides depends on nothing but the trace.
func TestSameTraceSamePlaces(t *testing.T) {
	places := func() (all []spot) {
		trace := synthetic(3)
		c := newCluster(trace.Machines)
		a := newCube(c, "")
		for n := range trace.Tasks {
			k := &trace.Tasks[n]
			if s, ok := a.place(n, k); ok {
				c.change(s, k, 1)
				all = append(all, s)
			}
		}
		return all
	}
	first, second := places(), places()
	if len(first) != len(second) {
		t.Fatalf("%d places, then %d", len(first), len(second))
	}
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("placement %d is %+v, then %+v", i, first[i], second[i])
		}
	}
}

func TestRun(t *testing.T) {
	nodes, tasks := synthetic(1).csv()
	dir := write(t, nodes, tasks)
	into := filepath.Join(dir, "result.json")
	var out bytes.Buffer
	args := []string{"-trace", dir, "-json", into, "-seeds", "2", "-replays", "1", "-algorithms", "cube,cube:spread,fgd", "-vary", "nodes50"}
	if err := Run(context.Background(), args, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"without departures", "with departures", "compaction", "cube:spread"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
	b, err := os.ReadFile(into)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Figures []struct {
			Name  string
			Value float64
		}
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range r.Figures {
		figures[f.Name] = f.Value
	}
	for _, name := range []string{"without: cube: GPU placed", "with: fgd: GPU of capacity", "compaction: cube:spread"} {
		if figures[name] <= 0 {
			t.Errorf("figure %q is %v", name, figures[name])
		}
	}
	for _, args := range [][]string{{}, {"-trace", dir, "-vary", "nonsense"}, {"-trace", dir, "-algorithms", "nonsense"},
		{"-trace", dir, "-parts", "nonsense"}, {"-trace", t.TempDir()}, {"-trace", dir, "-seeds", "0"}} {
		if err := Run(context.Background(), args, &out); err == nil {
			t.Errorf("arguments %q are taken", args)
		}
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Run(stopped, []string{"-trace", dir}, &out); err != context.Canceled && !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a run that is stopped says %v", err)
	}
}
