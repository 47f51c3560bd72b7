package preempt

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

func drawNode(t *rapid.T, first api.ID) (free api.Resources, instances []Instance) {
	amount := rapid.Int64Range(0, 4)
	free = api.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory")}
	for i := range rapid.IntRange(0, 6).Draw(t, "instances") {
		instances = append(instances, Instance{
			ID: first + api.ID(i), Priority: rapid.SampledFrom([]int{10, 20, 40, 41, 50, 90}).Draw(t, "priority"),
			Held:     api.Resources{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory")},
			Stopping: rapid.IntRange(0, 4).Draw(t, "stopping") == 0,
		})
	}
	return free, instances
}

// TestPromises holds what is chosen to what it is for: there is room afterwards, all that was promised before included, nothing
// gives way that is too important or is not needed, none does where room comes by itself; and where nothing is
// chosen, all that may give way would not do.
func TestPromises(t *testing.T) {
	const priority = 50
	rapid.Check(t, func(t *rapid.T) {
		free := make([]api.Resources, rapid.IntRange(1, 3).Draw(t, "nodes"))
		on := make([][]Instance, len(free))
		for n := range free {
			free[n], on[n] = drawNode(t, api.ID(100*n+1))
		}
		rooms := NewRooms(func(n int) (api.Resources, []Instance) { return free[n], slices.Clone(on[n]) })
		left := slices.Clone(free) // once all has stopped, less what was promised
		for n := range on {
			for _, i := range on[n] {
				if i.Stopping {
					left[n] = left[n].Add(i.Held)
				}
			}
		}
		all := func(yield func(int) bool) {
			for n := range free {
				if !yield(n) {
					return
				}
			}
		}
		stopped := map[api.ID]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "asks") {
			ask := api.Resources{CPU: rapid.Int64Range(1, 6).Draw(t, "ask cpu"), Memory: rapid.Int64Range(1, 6).Draw(t, "ask memory")}
			itself := slices.ContainsFunc(left, ask.Fits)
			node, stops, ok := rooms.Promise(ask, priority, all)
			if !ok {
				for n := range left {
					most := left[n]
					for _, i := range on[n] {
						if !i.Stopping && !stopped[i.ID] && i.Priority <= priority-Gap {
							most = most.Add(i.Held)
						}
					}
					if ask.Fits(most) {
						t.Fatalf("%+v finds no room, and would on node %d", ask, n)
					}
				}
				continue
			}
			if itself && len(stops) > 0 {
				t.Fatalf("%+v gives way to %+v, for which there is room", stops, ask)
			}
			for _, s := range stops {
				if stopped[s.ID] || s.Stopping || s.Priority > priority-Gap || !slices.Contains(on[node], s) {
					t.Fatalf("%+v of node %d gives way", s, node)
				}
				stopped[s.ID] = true
				left[node] = left[node].Add(s.Held)
			}
			for _, s := range stops {
				if ask.Fits(left[node].Sub(s.Held)) {
					t.Fatalf("%+v gives way to %+v for nothing", s, ask)
				}
			}
			if !ask.Fits(left[node]) {
				t.Fatalf("%+v has no room on node %d, which has %+v", ask, node, left[node])
			}
			left[node] = left[node].Sub(ask)
		}
	})
}

// TestTheCheapestNode: the importance of what gives way counts before its number.
func TestTheCheapestNode(t *testing.T) {
	one := api.Resources{CPU: 1, Memory: 1}
	on := [][]Instance{
		{{ID: 1, Priority: 40, Held: one.Add(one)}},
		{{ID: 2, Priority: 20, Held: one}, {ID: 3, Priority: 10, Held: one}},
		{{ID: 4, Priority: 20, Held: one}, {ID: 5, Priority: 30, Held: one}, {ID: 6, Priority: 20, Held: one}},
	}
	rooms := NewRooms(func(n int) (api.Resources, []Instance) { return api.Resources{}, on[n] })
	for _, want := range [][]api.ID{{2, 3}, {4, 6}, {1}} {
		_, stops, ok := rooms.Promise(one.Add(one), 50, slices.Values([]int{0, 1, 2}))
		var got []api.ID
		for _, s := range stops {
			got = append(got, s.ID)
		}
		if !ok || !slices.Equal(got, want) {
			t.Errorf("%v give way, want %v", got, want)
		}
	}
	if _, _, ok := rooms.Promise(one.Add(one), 50, slices.Values([]int{0, 1, 2})); ok {
		t.Error("the same instances give way twice")
	}
}
