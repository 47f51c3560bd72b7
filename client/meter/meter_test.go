package meter

import (
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/fake"
)

// instance starts one that uses so many thousandths of a core and MiB.
func instance(t *testing.T, d driver.Driver, n uint32, cpu, memory int) Target {
	t.Helper()
	h, _, err := d.Start(t.Context(), &driver.Config{
		Key: driver.Key{Allocation: api.MakeID(0, n)}, Options: map[string]any{"use_cpu": cpu, "use_memory": memory},
	}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return Target{Driver: d, Handle: h}
}

func TestMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.NewEngine().Driver(driver.Owner{ClusterID: "c", NodeID: "n"})
		one, two := instance(t, d, 1, 250, 40), instance(t, d, 2, 0, 3)
		time.Sleep(time.Hour)
		var m Meter
		for _, c := range []struct {
			what    string
			after   time.Duration
			targets []Target
			takes   time.Duration
		}{
			{"the first who asks waits for two counts", 0, []Target{one, two}, shortest},
			{"who asks at the same time is told the same", 0, []Target{one}, 0},
			{"who asks again is told at once", 2 * time.Second, []Target{one, two}, 0},
			{"what was long ago tells nothing", longest + time.Second, []Target{one}, shortest},
			{"nothing is asked", 0, nil, 0},
		} {
			time.Sleep(c.after)
			began := time.Now()
			got := m.Measure(t.Context(), c.targets)
			if took := time.Since(began); took != c.takes {
				t.Errorf("%s: it took %v, want %v", c.what, took, c.takes)
			}
			if len(got) != len(c.targets) {
				t.Fatalf("%s: got %+v", c.what, got)
			}
			for i, want := range []api.Usage{{CPU: 250, Memory: 40}, {CPU: 0, Memory: 3}}[:len(got)] {
				if got[i].ID != c.targets[i].Handle.Key.Allocation || got[i].CPU != want.CPU || got[i].Memory != want.Memory {
					t.Errorf("%s: got %+v, want %+v", c.what, got[i], want)
				}
			}
		}
	})
}

func TestWhatCannotBeMeasuredIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.NewEngine().Driver(driver.Owner{ClusterID: "c", NodeID: "n"})
		one, two := instance(t, d, 1, 250, 40), instance(t, d, 2, 0, 3)
		var m Meter
		m.Measure(t.Context(), []Target{one, two})
		if err := d.Stop(t.Context(), two.Handle, "SIGTERM", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(longest + time.Second)
		if got := m.Measure(t.Context(), []Target{one, two}); len(got) != 1 || got[0].ID != one.Handle.Key.Allocation {
			t.Errorf("got %+v", got)
		}
		if len(m.last) != 1 {
			t.Errorf("%d counts are remembered, of which one can be of use", len(m.last))
		}
	})
}
