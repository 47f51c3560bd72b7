package load

import (
	"testing"
	"time"

	"cube/api"
	"cube/jobspec"
)

// TestSource is read by the parser that servers have.
func TestSource(t *testing.T) {
	j := Job{Name: "a-1", Count: 7, CPU: 0.25, Memory: 100, Class: "class_1", Scheduler: api.AlgorithmSpread}
	f, err := jobspec.Parse([]byte(j.Source()), "a.hcl", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := f.Jobs[0]
	task := got.Tasks[0]
	if got.Name != "a-1" || got.Scheduler != api.AlgorithmSpread || task.Count != 7 || task.Driver != "fake" || task.Resources.CPU != 250 || task.Resources.Memory != 100 || len(task.Constraints) != 2 {
		t.Errorf("%+v %+v", got, task)
	}
	j.Class, j.Scheduler = "", ""
	if f, err = jobspec.Parse([]byte(j.Source()), "a.hcl", nil); err != nil || len(f.Jobs[0].Tasks[0].Constraints) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestTracker notes when a job was first seen placed and running whole, whatever else there is.
func TestTracker(t *testing.T) {
	tr := NewTracker([]Job{{Name: "a", Count: 2}, {Name: "b", Count: 1}})
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	tr.Submitted(0, at(1))
	tr.Accepted(0, at(2))
	list := func(a, b api.PhaseCounts) []*api.JobSummary {
		return []*api.JobSummary{{Name: "a", Counts: a}, {Name: "b", Counts: b}, {Name: "other", Counts: api.PhaseCounts{Running: 9}}}
	}
	for i, c := range []struct {
		a, b            api.PhaseCounts
		placed, running int
		done            bool
	}{
		{api.PhaseCounts{Queued: 2}, api.PhaseCounts{Pending: 1}, 1, 0, false},
		{api.PhaseCounts{Pending: 1, Running: 1}, api.PhaseCounts{Running: 1}, 3, 2, false},
		{api.PhaseCounts{Preparing: 1, Running: 1}, api.PhaseCounts{Running: 1}, 3, 2, false},
		{api.PhaseCounts{Running: 2}, api.PhaseCounts{Lost: 1, Queued: 1}, 2, 2, false}, // b's instance was lost meanwhile
		{api.PhaseCounts{Running: 2}, api.PhaseCounts{Running: 1}, 3, 3, true},
	} {
		done := tr.look(list(c.a, c.b), at(10+i))
		if l := tr.Last(); done != c.done || l.Placed != c.placed || l.Running != c.running {
			t.Errorf("look %d: done %v, %+v; want %+v", i, done, l, c)
		}
	}
	want := []Progress{{at(1), at(2), at(11), at(13)}, {time.Time{}, time.Time{}, at(10), at(11)}}
	for i, p := range tr.Progress() {
		if p != want[i] {
			t.Errorf("job %d: %+v, want %+v", i, p, want[i])
		}
	}
	if tr.looks != 5 {
		t.Errorf("%d looks", tr.looks)
	}
}
