package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func empty() *fsm.Snapshot { return fsm.New().Snapshot() }

func started(index uint64, job string, slot uint32) api.Event {
	return api.Event{Type: api.EventStarted, Index: index, Job: job, Task: job, Slot: slot, Node: "n1"}
}

// fill applies entries from one index to another, each with so many events.
func fill(j *Journal, from, to uint64, each int) {
	for index := from; index <= to; index++ {
		var events []api.Event
		for slot := range each {
			events = append(events, started(index, "web", uint32(slot)))
		}
		j.Applied(index, events)
	}
}

// all reads what a request gives without following.
func all(t *testing.T, j *Journal, r api.EventRequest) (lines []string, index uint64, err error) {
	t.Helper()
	err = j.Events(t.Context(), r, func(b api.EventBatch) error {
		if b.Index < index {
			t.Fatalf("a batch up to %d comes after one up to %d", b.Index, index)
		}
		index = b.Index
		for _, e := range b.Events {
			lines = append(lines, fmt.Sprintf("%d %s", e.Index, e.Text))
		}
		return nil
	})
	return lines, index, err
}

func after(index uint64) api.EventRequest { return api.EventRequest{After: &index} }

// TestWhatIsKept: by count and by bytes the oldest go, and who asks for them is told so.
func TestWhatIsKept(t *testing.T) {
	j := New(Limits{Events: 10, Bytes: 1 << 20}, empty)
	fill(j, 1, 4, 3)
	lines, index, err := all(t, j, after(1))
	if err != nil || len(lines) != 9 || lines[0] != "2 web[0] started on n1" || lines[8] != "4 web[2] started on n1" || index != 4 {
		t.Errorf("%q up to %d, %v", lines, index, err)
	}
	if _, _, err := all(t, j, after(0)); api.CodeOf(err) != api.CodeTooOld || !strings.Contains(err.Error(), "events up to index 1 are not kept any more") {
		t.Errorf("what is partly gone is answered with %v", err)
	}
	if lines, _, err := all(t, j, api.EventRequest{Tail: -1}); err != nil || len(lines) != 9 {
		t.Errorf("all that is kept whole are %q, %v", lines, err)
	}
	if lines, _, err := all(t, j, api.EventRequest{Tail: 2}); err != nil || !slices.Equal(lines, []string{"4 web[0] started on n1", "4 web[1] started on n1", "4 web[2] started on n1"}) {
		t.Errorf("the last two, with what came with them, are %q, %v", lines, err)
	}
	if lines, index, err := all(t, j, api.EventRequest{}); err != nil || len(lines) != 0 || index != 4 {
		t.Errorf("nothing before now: %q up to %d, %v", lines, index, err)
	}
	if lines, index, err := all(t, j, after(9)); err != nil || len(lines) != 0 || index != 9 {
		t.Errorf("what this server does not know yet: %q up to %d, %v", lines, index, err)
	}

	long := started(5, "web", 0)
	long.Detail = strings.Repeat("x", 1000)
	small := New(Limits{Events: 100, Bytes: 5000}, empty)
	for index := range uint64(20) {
		long.Index = index + 1
		small.Applied(index+1, []api.Event{long})
	}
	if lines, _, _ := all(t, small, api.EventRequest{Tail: -1}); len(lines) != 4 || small.bytes > 5000 {
		t.Errorf("%d events of 1,000 bytes are kept in 5,000, which are %d", len(lines), small.bytes)
	}

	j.Restored(100)
	if _, _, err := all(t, j, after(99)); api.CodeOf(err) != api.CodeTooOld {
		t.Errorf("what came before a restored snapshot is answered with %v", err)
	}
	j.Applied(101, []api.Event{started(101, "web", 0)})
	if lines, _, err := all(t, j, after(100)); err != nil || len(lines) != 1 {
		t.Errorf("what came after it: %q, %v", lines, err)
	}
}

// TestFilters: topic, job and node, and what is none of them.
func TestFilters(t *testing.T) {
	j := New(Limits{}, empty)
	j.Applied(1, []api.Event{started(1, "web", 0), {Type: api.EventDown, Index: 1, Node: "n1"}, {Type: api.EventStopped, Index: 1, Job: "db"}, {Type: api.EventLook, Index: 1, Job: "db"}})
	for _, c := range []struct {
		r    api.EventRequest
		want int
	}{
		{api.EventRequest{}, 4}, {api.EventRequest{Job: "db"}, 2}, {api.EventRequest{Node: "n1"}, 2}, {api.EventRequest{Job: "none"}, 0},
		{api.EventRequest{Topics: []api.Topic{api.TopicJob, api.TopicNode}}, 2}, {api.EventRequest{Topics: []api.Topic{api.TopicEvaluation}, Job: "web"}, 0},
	} {
		c.r.Tail = -1
		if lines, index, err := all(t, j, c.r); err != nil || len(lines) != c.want || index != 1 {
			t.Errorf("%+v gives %q up to %d, %v", c.r, lines, index, err)
		}
	}
	if _, _, err := all(t, j, api.EventRequest{Topics: []api.Topic{"deploy"}}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("an unknown topic is answered with %v", err)
	}
}

// TestFollow: what happens comes at once, silence is broken by a beat, and the end of the context is the end.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := New(Limits{Readers: 1}, empty)
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		var got []api.EventBatch
		ended := make(chan error, 1)
		go func() {
			ended <- j.Events(ctx, api.EventRequest{Follow: true, Job: "web"}, func(b api.EventBatch) error {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, b)
				return nil
			})
		}()
		expect := func(batches int, index uint64, events int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(got) != batches || got[batches-1].Index != index || len(got[batches-1].Events) != events {
				t.Fatalf("%d batches, want %d, the last up to %d with %d: %+v", len(got), batches, index, events, got)
			}
		}
		expect(1, 0, 0)
		fill(j, 1, 1, 2)
		expect(2, 1, 2)
		j.Applied(2, []api.Event{started(2, "db", 0)})
		expect(2, 1, 2)
		time.Sleep(api.Beat)
		expect(3, 2, 0)
		if err := j.Events(t.Context(), api.EventRequest{}, nil); api.CodeOf(err) != api.CodeBusy {
			t.Errorf("one reader too many gets %v", err)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the end is %v", err)
		}
		if _, _, err := all(t, j, api.EventRequest{}); err != nil {
			t.Errorf("the place of who has left is not free: %v", err)
		}
	})
}

// TestASlowReaderIsCutOff: it has been told whole entries up to an index, and nothing after that.
func TestASlowReaderIsCutOff(t *testing.T) {
	j := New(Limits{Events: 600}, empty)
	fill(j, 1, 300, 2)
	var told uint64
	batches := 0
	from := uint64(0)
	err := j.Events(t.Context(), api.EventRequest{After: &from, Follow: true}, func(b api.EventBatch) error {
		batches++
		told = b.Index
		fill(j, j.latest+1, j.latest+1000, 2)
		return nil
	})
	if api.CodeOf(err) != api.CodeTooOld || !strings.Contains(err.Error(), fmt.Sprintf("too slow, and is cut off: what it was not told after index %d", told)) || batches != 1 || told != 128 {
		t.Errorf("after %d batches up to %d: %v", batches, told, err)
	}
}

// TestAnyReader: whoever reads on from where he was gets each event that his filter lets through exactly once, in order.
func TestAnyReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := New(Limits{Events: rapid.IntRange(50, 5000).Draw(t, "limit")}, empty)
		var want []api.Event
		index, at := uint64(0), uint64(0)
		var got []api.Event
		keep := func(e *api.Event) bool { return e.Slot%3 == 0 }
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			var events []api.Event
			index += rapid.Uint64Range(1, 3).Draw(t, "entries")
			for slot := range rapid.SampledFrom([]int{0, 1, 5, 300, 3000}).Draw(t, "events") {
				e := started(index, "web", uint32(slot))
				events = append(events, e)
				if keep(&e) {
					want = append(want, e)
				}
			}
			j.Applied(index, events)
			if !rapid.Bool().Draw(t, "read") {
				continue
			}
			for {
				some, upTo, err := j.read(at, keep)
				if err != nil {
					if at >= j.gone {
						t.Fatalf("at %d, of which nothing is gone: %v", at, err)
					}
					at = j.gone // he begins anew, after what he has missed
					got = slices.DeleteFunc(slices.Clone(want), func(e api.Event) bool { return e.Index > at })
					continue
				}
				got = append(got, some...)
				if upTo < at {
					t.Fatalf("from %d back to %d", at, upTo)
				}
				at = upTo
				if at >= index {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d events of %d, up to %d", len(got), len(want), at)
			}
		}
		sum := 0
		for i := range j.n {
			sum += size(j.at(i))
		}
		if sum != j.bytes || j.n > j.limits.Events || len(j.ring) > j.limits.Events {
			t.Fatalf("%d events, %d bytes by the counter and %d really", j.n, j.bytes, sum)
		}
	})
}
