package packing

import (
	"context"
	"math"
	"strings"
	"testing"
)

// fixed puts every task where it is told.
type fixed struct {
	spots   []spot // the task is refused where the machine is negative
	removed []int
}

func (f *fixed) place(n int, _ *Task) (spot, bool) { return f.spots[n], f.spots[n].machine >= 0 }
func (f *fixed) remove(n int)                      { f.removed = append(f.removed, n) }

func TestReplayKeepsTheBooks(t *testing.T) {
	c, trace := world(t, "1000 1000 1", "1000 1000 1", "1000 1000 0")
	trace.Tasks = []Task{*task(100, 10, 1, 600), *task(100, 10, 1, 600), *task(100, 10, 1, 800)}
	refused := spot{machine: -1}
	f := &fixed{spots: []spot{{0, 1}, {1, 1}, refused, {0, 1}}}
	// The first ends before the fourth comes. The third is refused: 800 are left in sum, on no GPU.
	order := []arrival{{0, 0, 3}, {1, 1, math.Inf(1)}, {2, 2, math.Inf(1)}, {2, 3, math.Inf(1)}}
	o, err := replay(context.Background(), c, trace, f, order)
	if err != nil {
		t.Fatal(err)
	}
	if o.refused != 1 || o.stranded != 1 || o.missed != 0 || o.untouched != 1 {
		t.Errorf("%d refused, %d stranded, %d missed, %d untouched; want 1, 1, 0, 1", o.refused, o.stranded, o.missed, o.untouched)
	}
	if o.asked != (usage{400, 40, 2800}) || o.placed != (usage{300, 30, 2000}) || c.free != (usage{2800, 2980, 600}) {
		t.Errorf("asked %v, placed %v, left %v", o.asked, o.placed, c.free)
	}
	if o.mean.GPU != (1200+1400)/2 {
		t.Errorf("in the second half %d thousandths of GPUs were in use on average, want 1300", o.mean.GPU)
	}
	if len(f.removed) != 1 || f.removed[0] != 0 {
		t.Errorf("departures that the algorithm heard of: %v", f.removed)
	}
}

func TestReplayTrustsNobody(t *testing.T) {
	for name, f := range map[string]*fixed{
		"twice the GPU":         {spots: []spot{{0, 1}, {0, 1}}},
		"no such machine":       {spots: []spot{{7, 1}, {0, 1}}},
		"no such GPU":           {spots: []spot{{0, 2}, {0, 1}}},
		"too few GPUs":          {spots: []spot{{0, 0}, {0, 1}}},
		"more than it asks for": {spots: []spot{{1, 3}, {0, 1}}},
	} {
		c, trace := world(t, "1000 1000 1", "1000 1000 2")
		trace.Tasks = []Task{*task(100, 10, 1, 600), *task(100, 10, 1, 600)}
		_, err := replay(context.Background(), c, trace, f, []arrival{{0, 0, math.Inf(1)}, {1, 1, math.Inf(1)}})
		if err == nil || !strings.Contains(err.Error(), "does not fit where it was put") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	c, trace := world(t, "1000 1000 1")
	trace.Tasks = []Task{*task(100, 10, 1, 600)}
	o, err := replay(context.Background(), c, trace, &fixed{spots: []spot{{machine: -1}}}, []arrival{{0, 0, math.Inf(1)}})
	if err != nil || o.missed != 1 {
		t.Errorf("a refusal though there was a place: %d missed, %v", o.missed, err)
	}
}

func TestArrivalsFillTheCluster(t *testing.T) {
	trace := synthetic(1)
	total := newCluster(trace.Machines).total.GPU
	order := arrivals(trace, pressure, 7)
	asked := int64(0)
	for i, a := range order {
		if i < len(trace.Tasks) && a.task != i {
			t.Fatalf("arrival %d is task %d: the trace itself comes first", i, a.task)
		}
		asked += trace.Tasks[a.task].gpu()
	}
	if part := float64(asked) / float64(total); part < pressure || part > pressure+0.05 {
		t.Errorf("the arrivals ask for %.2f times the GPUs, want %.2f", part, pressure)
	}
	for name, edit := range map[string]func(*Trace){
		"no GPUs asked for": func(t *Trace) {
			for i := range t.Tasks {
				t.Tasks[i].GPUs = 0
			}
		},
		"no GPUs there": func(t *Trace) {
			for i := range t.Machines {
				t.Machines[i].GPUs = 0
			}
		},
	} {
		trace := synthetic(1)
		edit(trace)
		asked, have := int64(0), newCluster(trace.Machines).total.CPU
		for _, a := range arrivals(trace, pressure, 7) {
			asked += trace.Tasks[a.task].CPU
		}
		if part := float64(asked) / float64(have); part < pressure || part > pressure+0.05 {
			t.Errorf("%s: the arrivals ask for %.2f times the CPU, want %.2f", name, part, pressure)
		}
	}
}

func TestDepartingArrivalsKeepThePressure(t *testing.T) {
	trace := synthetic(2)
	order := departing(trace, 3)
	present, last := int64(0), order[len(order)-1].at
	for i, a := range order {
		if a.end != a.at+trace.Tasks[a.task].lasts() || i > 0 && a.at <= order[i-1].at {
			t.Fatalf("arrival %d comes at %v and ends at %v", i, a.at, a.end)
		}
		if a.end > last {
			present += trace.Tasks[a.task].gpu()
		}
	}
	part := float64(present) / float64(newCluster(trace.Machines).total.GPU)
	if part < pressure-0.05 || part > pressure+0.05 {
		t.Errorf("those present at the end ask for %.2f times the GPUs, want %.2f", part, pressure)
	}
}

func TestVary(t *testing.T) {
	trace := synthetic(1)
	parts := func(v *Trace) (shared, several, named float64) {
		var gpu, share, many, tasks, specified float64
		for i := range v.Tasks {
			k := &v.Tasks[i]
			gpu += float64(k.gpu())
			if k.GPUs > 0 {
				tasks++
			}
			if k.GPUs > 0 && k.Share < whole {
				share += float64(k.gpu())
			}
			if k.GPUs > 1 {
				many += float64(k.gpu())
			}
			if len(k.Models) > 0 {
				specified++
			}
		}
		return share / gpu, many / gpu, specified / tasks
	}
	for name, want := range map[string][3]float64{"gpushare100": {1, 0, 0}, "multigpu50": {-1, 0.5, 0}, "gpuspec33": {-1, -1, 0.33}, "gpushare40,gpuspec10": {0.4, -1, 0.1}} {
		v, err := Vary(trace, name, 1)
		if err != nil {
			t.Fatal(err)
		}
		a, b, c := parts(v)
		for i, got := range []float64{a, b, c} {
			if want[i] >= 0 && math.Abs(got-want[i]) > 0.05 {
				t.Errorf("%s: part %d is %.2f, want %.2f", name, i, got, want[i])
			}
		}
	}
	cpu, _ := Vary(trace, "cpu250", 1)
	count := func(v *Trace) (n int) {
		for i := range v.Tasks {
			if v.Tasks[i].GPUs == 0 {
				n++
			}
		}
		return n
	}
	if got, want := count(cpu), int(2.5*float64(count(trace))); got != want {
		t.Errorf("cpu250 has %d tasks without GPUs, want %d", got, want)
	}
	few, _ := Vary(trace, "gpunodes,nodes50,shuffled", 1)
	if n := len(few.Machines); n < 15 || n > 40 || few.Tasks[0].Name == trace.Tasks[0].Name {
		t.Errorf("gpunodes,nodes50,shuffled has %d machines and begins with %s", n, few.Tasks[0].Name)
	}
	if again, _ := Vary(trace, "gpunodes,nodes50,shuffled", 1); again.Tasks[0].Name != few.Tasks[0].Name {
		t.Error("the same seed gives another variant")
	}
	if _, err := Vary(trace, "gpusharing40", 1); err == nil {
		t.Error("a variant that is not there is taken")
	}
}
