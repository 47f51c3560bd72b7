package moving

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// letters write standings: "..LLMo" are two settled slots, two that leave, one on its way, one that is out.
func letters(text string) (out []Standing) {
	for _, c := range text {
		out = append(out, map[rune]Standing{'.': Settled, 'L': Leaving, 'i': LeavingIll, 't': Tried, 'M': Moving, 'o': Out, 'f': Failed}[c])
	}
	return out
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		slots string
		max   int
		order string
		want  []int
	}{
		{"", 1, api.OrderStartFirst, nil},
		{"....", 3, api.OrderStartFirst, nil},
		{".L.L", 1, api.OrderStartFirst, []int{1}},
		{".L.L", 2, api.OrderStartFirst, []int{1, 3}},
		{"ML.L", 2, api.OrderStartFirst, []int{1}},
		{"ML.L", 1, api.OrderStartFirst, nil},
		{"oL.L", 1, api.OrderStartFirst, nil},
		{"fL.L", 1, api.OrderStartFirst, []int{1}},
		{"fL.L", 1, api.OrderStopFirst, nil},
		{"fL.L", 2, api.OrderStopFirst, []int{1}},
		{"Li", 1, api.OrderStartFirst, []int{1}},
		{"Li", 2, api.OrderStartFirst, []int{1, 0}},
		{"Liii", 2, api.OrderStopFirst, []int{1, 2}},
		{"Liii", 3, api.OrderStopFirst, []int{1, 2, 3}},
		{"LLLLL", 3, api.OrderStopFirst, []int{0, 1, 2}},
		{"LL", 0, "", []int{0}},
		{"tL.L", 1, api.OrderStartFirst, []int{1}},
		{"tL.L", 3, api.OrderStartFirst, []int{1, 3, 0}},
		{"tt.i", 2, api.OrderStartFirst, []int{3, 0}},
		{"Mt", 1, api.OrderStartFirst, nil},
		{"ft", 1, api.OrderStartFirst, []int{1}},
		{"ft", 1, api.OrderStopFirst, nil},
	} {
		if got := Next(letters(c.slots), api.Migrate{MaxParallel: c.max, Order: c.order}); !slices.Equal(got, c.want) {
			t.Errorf("%q, at most %d, %s: %v, want %v", c.slots, c.max, c.order, got, c.want)
		}
	}
}

// TestADrainTakesNoMoreOutThanItMay plays whole drains, in which instances fall ill and fail when they like: never are more
// than max_parallel on the move, never does a stop-first move leave fewer healthy than it may, and what can move has moved at the end.
func TestADrainTakesNoMoreOutThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := api.Migrate{MaxParallel: rapid.IntRange(1, 4).Draw(t, "max"), Order: rapid.SampledFrom([]string{api.OrderStartFirst, api.OrderStopFirst}).Draw(t, "order")}
		slots := letters(rapid.StringMatching("[.Liot]{0,12}").Draw(t, "slots"))
		step := func(calm bool) {
			for _, i := range Next(slots, m) {
				if slots[i] != Leaving && slots[i] != LeavingIll && slots[i] != Tried {
					t.Fatalf("slot %d of %v is to move", i, slots)
				}
				if m.Order == api.OrderStopFirst && slots[i] != LeavingIll && count(slots, Settled, Leaving, Tried) <= len(slots)-m.MaxParallel {
					t.Fatalf("slot %d of %v is taken out, and %d of %d are healthy", i, slots, count(slots, Settled, Leaving, Tried), len(slots))
				}
				slots[i] = Moving
			}
			if n := count(slots, Moving); n > m.MaxParallel {
				t.Fatalf("%d are on the move in %v, at most %d may be", n, slots, m.MaxParallel)
			}
			for i, s := range slots {
				slots[i] = become(t, s, i, calm)
			}
		}
		for range rapid.IntRange(0, 20).Draw(t, "rounds") {
			step(false)
		}
		for range 2*len(slots) + 2 {
			step(true)
		}
		if n := count(slots, Leaving, LeavingIll, Tried, Moving); n > 0 {
			t.Fatalf("%d are still there: %v", n, slots)
		}
	})
}

// become draws what a slot stands like a while later; when all is calm, everything gets well.
func become(t *rapid.T, s Standing, slot int, calm bool) Standing {
	choices := map[Standing]string{Settled: "..o", Leaving: "LLi", LeavingIll: "iLi", Tried: "tti", Moving: "MM.Lt", Out: "o."}[s]
	if calm {
		choices = map[Standing]string{Settled: ".", Leaving: "L", LeavingIll: "i", Tried: "t", Moving: ".", Out: "."}[s]
	}
	return letters(choices[at(t, slot, len(choices)):][:1])[0]
}

func at(t *rapid.T, slot, n int) int {
	if n == 1 {
		return 0
	}
	return rapid.IntRange(0, n-1).Draw(t, fmt.Sprint("slot ", slot))
}

func count(slots []Standing, which ...Standing) (n int) {
	for _, s := range slots {
		if slices.Contains(which, s) {
			n++
		}
	}
	return n
}
