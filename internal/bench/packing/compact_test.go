package packing

import (
	"context"
	"slices"
	"testing"
)

func TestCompactionOfKnownCases(t *testing.T) {
	for _, c := range []struct {
		name     string
		machines string
		count    int // of machines
		tasks    []Task
		want     int
	}{
		{"a GPU each", "1000 1000 1", 6, slices.Repeat([]Task{*task(10, 10, 1, whole)}, 3), 3},
		{"two to a GPU", "1000 1000 1", 6, slices.Repeat([]Task{*task(10, 10, 1, 500)}, 5), 3},
		{"CPU decides", "1000 1000 8", 6, slices.Repeat([]Task{*task(600, 10, 1, 100)}, 4), 4},
		{"all of them", "1000 1000 1", 3, slices.Repeat([]Task{*task(10, 10, 1, whole)}, 3), 3},
		{"more than there are", "1000 1000 1", 2, slices.Repeat([]Task{*task(10, 10, 1, whole)}, 5), 5},
		{"never", "1000 1000 1", 4, []Task{*task(10, 10, 2, whole)}, 0},
	} {
		_, trace := world(t, slices.Repeat([]string{c.machines}, c.count)...)
		trace.Tasks = c.tasks
		if err := trace.finish(); err != nil {
			t.Fatal(err)
		}
		for _, k := range contenders() {
			for _, guess := range []int{1, 3, c.count} {
				n, err := compact(context.Background(), trace, k.build, 1, guess)
				if err != nil || n != c.want {
					t.Errorf("%s: %s needs %d nodes from %d on (%v), want %d", c.name, k.name, n, guess, err, c.want)
				}
			}
		}
	}
}

// odd refuses everything unless the cluster has one of these sizes.
type odd struct {
	ranked
	sizes []int
}

func (o *odd) place(n int, t *Task) (spot, bool) {
	if !slices.Contains(o.sizes, len(o.cluster.rooms)) {
		return spot{}, false
	}
	return o.ranked.place(n, t)
}

func TestCompactionDoesNotTrustMonotony(t *testing.T) {
	_, trace := world(t, slices.Repeat([]string{"1000 1000 1"}, 100)...)
	trace.Tasks = []Task{*task(1, 1, 0, 0)}
	if err := trace.finish(); err != nil {
		t.Fatal(err)
	}
	sizes := []int{60}
	for n := 64; n <= 400; n++ {
		sizes = append(sizes, n)
	}
	sizes = slices.DeleteFunc(sizes, func(n int) bool { return n == 66 })
	asked := 0
	n, err := compact(context.Background(), trace, func(c *cluster, _ *Trace, seed uint64) algorithm {
		asked++
		return &odd{ranked{c, chance(seed, "test"), c.mostAllocated}, sizes}
	}, 1, 90)
	if err != nil || n > 64 {
		t.Errorf("the search stops at %d (%v) where 66 does not fit, 64 and 65 do", n, err)
	}
	if asked > 40 {
		t.Errorf("%d clusters were tried", asked)
	}
}

func TestPercentile(t *testing.T) {
	values := []int{5, 1, 4, 2, 3, 11, 10, 9, 8, 7, 6}
	for p, want := range map[float64]int{0: 1, 0.5: 6, 0.9: 10, 1: 11} {
		if got := percentile(values, p); got != want {
			t.Errorf("the %v percentile of 1 to 11 is %d, want %d", p, got, want)
		}
	}
}
