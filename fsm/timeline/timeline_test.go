package timeline

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
)

func restarted(slot uint32, at time.Duration, why string) api.Event {
	return api.Event{Type: api.EventRestarted, Index: uint64(at/time.Second) + 1, At: int64(at), Job: "web", Task: "web", Slot: slot, Node: fmt.Sprintf("n%02d", slot), Detail: why}
}

func (t *Table) lines(job string) []string {
	var out []string
	for _, m := range t.Of(job) {
		out = append(out, m.View(api.NewIDText("c1"), func(id string) string { return id }).Text)
	}
	return out
}

// TestWhatIsAlikeIsOneRow: a row goes on while the same happens, side by side with a few others, until there is a lull.
func TestWhatIsAlikeIsOneRow(t *testing.T) {
	tab := New()
	for i := range 20 {
		at := time.Duration(i) * 30 * time.Second
		tab.Note([]api.Event{restarted(1, at, "exit code 1"), restarted(2, at, "out of memory"), restarted(3, at, "exit code 1")})
	}
	tab.Note([]api.Event{restarted(1, time.Hour, "exit code 1")})
	before := tab.Copy()
	tab.Note([]api.Event{{Type: api.EventStopped, Job: "web", At: int64(time.Hour), By: "ada"}, {Type: api.EventLook, Job: "web"}, {Type: api.EventDown, Node: "n1"}})
	want := []string{
		"web[2] restarted 20 times in 9m30s: out of memory", "web[1,3] restarted 40 times in 9m30s: exit code 1",
		"web[1] restarted: exit code 1",
	}
	slices.Sort(want)
	got := before.lines("web")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if all := tab.lines("web"); len(all) != 4 || all[3] != "job stopped by ada" || before.Len() != 3 {
		t.Errorf("%q; the copy has %d rows", all, before.Len())
	}
	tab.Forget("web")
	if tab.Len() != 0 || len(before.Of("web")) != 3 {
		t.Errorf("%d rows are left, the copy has %d", tab.Len(), len(before.Of("web")))
	}
}

// TestManyAreCounted: what is too much to name is counted.
func TestManyAreCounted(t *testing.T) {
	tab := New()
	var events []api.Event
	for slot := range uint32(1000) {
		events = append(events, api.Event{Type: api.EventPlaced, Job: "web", Task: "web", Slot: slot * 2, Node: fmt.Sprintf("n%03d", slot), Version: 3, Cause: api.CauseRegister, By: "ada"})
	}
	tab.Note(events)
	tab.Note(events[:5])
	want := []string{"1005 instances of web placed on more than 8 nodes: version 3"}
	if got := tab.lines("web"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestSlots: whatever the order, the runs are those of the set, as long as they can all be named.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m api.Moment
		set := map[uint32]bool{}
		for _, s := range rapid.SliceOf(rapid.Uint32Range(0, 30)).Draw(t, "slots") {
			addSlots(&m, api.Span{From: s, To: s})
			set[s] = true
		}
		var want []api.Span
		for s := range uint32(31) {
			switch last := len(want) - 1; {
			case !set[s]:
			case last >= 0 && want[last].To+1 == s:
				want[last].To = s
			default:
				want = append(want, api.Span{From: s, To: s})
			}
		}
		if m.Vague == 0 && !slices.Equal(m.Slots, want) {
			t.Fatalf("%v, want %v", m.Slots, want)
		}
		if len(m.Slots) > named || m.Vague == 0 && len(want) > named {
			t.Fatalf("%d runs are named of %d", len(m.Slots), len(want))
		}
	})
}

// TestBounds: a job's rows are bounded, the newest stay, and what Scan gives Load takes.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := New()
		at := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "entries") {
			var events []api.Event
			for range rapid.IntRange(0, 8).Draw(t, "events") {
				e := restarted(rapid.Uint32Range(0, 20).Draw(t, "slot"), at, rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}).Draw(t, "why"))
				e.Job = rapid.SampledFrom([]string{"web", "db"}).Draw(t, "job")
				events = append(events, e)
			}
			tab.Note(events)
			at += rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "pause")
		}
		again := New()
		tab.Scan(func(number uint64, m *api.Moment) bool {
			if !again.Load(number, m) {
				t.Fatalf("row %d of %s is not taken back", number, m.Job)
			}
			if again.Load(number, m) {
				t.Fatalf("row %d of %s is taken twice", number, m.Job)
			}
			return true
		})
		for _, job := range []string{"db", "web"} {
			rows := tab.Of(job)
			if len(rows) > api.KeptMoments || !slices.Equal(rows, again.Of(job)) {
				t.Fatalf("%d rows of %s, %d again", len(rows), job, len(again.Of(job)))
			}
			for i := 1; i < len(rows); i++ {
				if rows[i].At < rows[i-1].At {
					t.Fatalf("the rows of %s are out of order", job)
				}
			}
		}
		again.Note([]api.Event{restarted(1, at, "once more")})
		tab.Note([]api.Event{restarted(1, at, "once more")})
		if !slices.Equal(again.lines("web"), tab.lines("web")) {
			t.Fatalf("the two go on in different ways")
		}
	})
}
