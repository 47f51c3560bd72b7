package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

// TestSplit: whatever the plan, its parts hold what it held, none is too large, replacements stay whole, and only the
// last part of a job says what becomes of its evaluation.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t)
		changes := rapid.IntRange(2, 10).Draw(t, "changes")
		size := rapid.IntRange(500, 5000).Draw(t, "size")
		var got api.Plan
		for _, part := range split(plan, changes, size) {
			n := 0
			for _, j := range part.Jobs {
				n += len(j.Placements) + len(j.Stops) + len(j.InPlace) + len(j.Preemptions)
				stops := make(map[api.ID]bool)
				for _, s := range j.Stops {
					stops[s.Allocation] = true
				}
				for _, p := range j.Placements {
					if p.Replaces != 0 && !stops[p.Replaces] {
						t.Fatalf("the placement that replaces %d is without its stop", p.Replaces)
					}
				}
				merge(t, &got, j)
			}
			if n > changes || part.BaseIndex != plan.BaseIndex {
				t.Fatalf("a part has %d changes of %d, base %d", n, changes, part.BaseIndex)
			}
		}
		if len(got.Jobs) != len(plan.Jobs) {
			t.Fatalf("%d jobs of %d", len(got.Jobs), len(plan.Jobs))
		}
		for i, want := range plan.Jobs {
			g := got.Jobs[i]
			if len(g.Placements) != len(want.Placements) || len(g.Stops) != len(want.Stops) || len(g.InPlace) != len(want.InPlace) ||
				!slices.Equal(g.Preemptions, want.Preemptions) || !slices.Equal(g.Promises, want.Promises) || g.WakeAt != want.WakeAt ||
				g.Status != want.Status || g.Message != want.Message || len(g.Explanations) != len(want.Explanations) {
				t.Fatalf("job %d: %+v, want %+v", i, g, want)
			}
		}
	})
}

func drawPlan(t *rapid.T) *api.Plan {
	plan := &api.Plan{BaseIndex: 7}
	id := api.ID(0)
	for i := range rapid.IntRange(0, 6).Draw(t, "jobs") {
		j := api.JobPlan{Evaluation: api.ID(1000 + i), Job: fmt.Sprint("job-", i), Status: api.EvalComplete, Message: "done"}
		if rapid.Bool().Draw(t, "explained") {
			j.Explanations = []api.Explanation{{Task: "web", Note: strings.Repeat("x", 300)}}
		}
		if rapid.Bool().Draw(t, "waits") {
			j.Status, j.WakeAt = api.EvalBlocked, int64(i+1)
			j.Promises = []api.Promise{{Node: "n1", Room: api.Resources{Memory: 64}}, {Node: "n2", Room: api.Resources{CPU: 500}}}
		}
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			id++
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				j.Placements = append(j.Placements, api.Placement{Task: "web", Slot: uint32(id)})
			case 1:
				j.Placements = append(j.Placements, api.Placement{Task: "web", Slot: uint32(id), Replaces: id})
				j.Stops = append(j.Stops, api.Stop{Allocation: id, Reason: "replaced"})
			case 2:
				j.Stops = append(j.Stops, api.Stop{Allocation: id})
			case 3:
				j.InPlace = append(j.InPlace, id)
			case 4:
				j.Preemptions = append(j.Preemptions, api.Preemption{Allocation: id, Job: "low", Reason: "gives way"})
			}
		}
		plan.Jobs = append(plan.Jobs, j)
	}
	return plan
}

// merge puts the parts of a job's plan together again. All but the last leave the evaluation pending.
func merge(t *rapid.T, into *api.Plan, j api.JobPlan) {
	n := len(into.Jobs)
	if n == 0 || into.Jobs[n-1].Evaluation != j.Evaluation {
		into.Jobs = append(into.Jobs, j)
		return
	}
	last := &into.Jobs[n-1]
	if last.Status != api.EvalPending || len(last.Explanations)+len(last.Promises) > 0 || last.WakeAt != 0 {
		t.Fatalf("a part before the last says %s", last.Status)
	}
	last.Placements = append(last.Placements, j.Placements...)
	last.Stops = append(last.Stops, j.Stops...)
	last.InPlace = append(last.InPlace, j.InPlace...)
	last.Preemptions = append(last.Preemptions, j.Preemptions...)
	last.Status, last.WakeAt, last.Message, last.Explanations, last.Promises = j.Status, j.WakeAt, j.Message, j.Explanations, j.Promises
}

func at(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestPacer(t *testing.T) {
	waiting := func(rejections int, modified uint64) *api.Evaluation {
		return &api.Evaluation{Job: "web", Rejections: rejections, ModifyIndex: modified}
	}
	tests := []struct {
		name       string
		last       *look
		evaluation *api.Evaluation
		at         float64
		next       float64 // 0: admitted
	}{
		{"never seen", nil, waiting(0, 5), 0, 0},
		{"nothing changed, at once", &look{at(0), 9}, waiting(1, 9), 0.1, 1},
		{"nothing changed, a second later", &look{at(0), 9}, waiting(1, 9), 1, 0},
		{"something changed", &look{at(0), 9}, waiting(1, 10), 0.1, 0},
		{"rejected three times", &look{at(0), 9}, waiting(3, 9), 0.5, 1},
		{"rejected five times", &look{at(0), 9}, waiting(5, 9), 3.9, 4},
		{"rejected for ever", &look{at(0), 9}, waiting(50, 9), 29, 30},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := pacer{jobs: map[string]look{}}
			if test.last != nil {
				p.jobs["web"] = *test.last
			}
			admitted, next := p.admit([]*api.Evaluation{test.evaluation}, at(test.at))
			if (len(admitted) == 1) != (test.next == 0) || test.next > 0 && !next.Equal(at(test.next)) {
				t.Errorf("admitted %d, next at %v; want next %v s", len(admitted), next, test.next)
			}
		})
	}
}

// TestVerifierCoalesces: a reader is served by a round that began after it came, and all who wait share one.
func TestVerifierCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rounds atomic.Int32
		v := newVerifier(func() error {
			rounds.Add(1)
			time.Sleep(time.Second)
			return nil
		})
		var wait sync.WaitGroup
		read := func(want time.Duration) {
			began := time.Now()
			wait.Go(func() {
				if err := v.wait(context.Background()); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != want {
					t.Errorf("a reader waited %s, want %s", took, want)
				}
			})
		}
		read(time.Second)
		synctest.Wait()
		time.Sleep(250 * time.Millisecond)
		for range 100 {
			read(1750 * time.Millisecond) // the rest of the round that runs, and the next
		}
		wait.Wait()
		if rounds.Load() != 2 {
			t.Errorf("%d rounds for 101 readers", rounds.Load())
		}
	})
	lost := newVerifier(func() error { return errors.New("no quorum") })
	wantCode(t, lost.wait(context.Background()), api.CodeNotLeader)
}

// TestGatherer: while one batch is under way the next one gathers.
func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		g := newCommitting()
		var entries []int
		ended := make(chan error, 1)
		go func() {
			ended <- g.run(ctx, func(_ context.Context, lists [][]fsm.NodeReport) ([]committed, error) {
				time.Sleep(10 * time.Millisecond)
				entries = append(entries, len(lists))
				if len(entries) == 3 {
					return nil, api.Errorf(api.CodeBusy, "too much")
				}
				return slices.Repeat([]committed{{index: uint64(len(entries))}}, len(lists)), nil
			})
		}()
		var wait sync.WaitGroup
		for i := 1; i <= 50; i++ {
			wait.Go(func() {
				got, err := g.submit(context.Background(), []fsm.NodeReport{{Node: fmt.Sprint(i), Statuses: []api.AllocationStatus{{ID: api.ID(i)}}}})
				if err != nil || got.index == 0 {
					t.Errorf("report %d: %+v, %v", i, got, err)
				}
			})
			if i == 1 {
				synctest.Wait()
			}
		}
		wait.Wait()
		if len(entries) != 2 || entries[0] != 1 || entries[1] != 49 {
			t.Errorf("entries of %v reports", entries)
		}
		_, err := g.submit(context.Background(), nil)
		wantCode(t, err, api.CodeBusy)
		if _, err := g.submit(context.Background(), nil); err != nil {
			t.Errorf("after a batch that failed: %v", err)
		}
		large := []fsm.NodeReport{{Statuses: make([]api.AllocationStatus, gatherStatuses)}}
		full := newCommitting()
		full.waiting = []*gathered[[]fsm.NodeReport, committed]{{in: large}, {in: large}}
		if n := len(full.take()); n != 1 || len(full.waiting) != 1 {
			t.Errorf("an entry took %d large reports", n)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_, err = g.submit(context.Background(), large)
		wantCode(t, err, api.CodeUnknown)
	})
}

func TestGateTurnsAwayWhatIsTooMuch(t *testing.T) {
	g := newGate()
	var out []func()
	ctx, cancel := context.WithCancel(context.Background())
	for range cap(g.working) {
		leave, err := g.enter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, leave)
	}
	for range maxParses - cap(g.working) {
		g.places <- struct{}{} // as those who wait hold them
	}
	_, err := g.enter(ctx)
	wantCode(t, err, api.CodeBusy)
	<-g.places
	cancel()
	if _, err := g.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one who left: %v", err)
	}
	for _, leave := range out {
		leave()
	}
}

func TestResolve(t *testing.T) {
	same := func(s string) string { return s }
	if got, err := resolve("node", "ab", []string{"abc"}, same); got != "abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := resolve("node", "ab", []string{"ab", "abc"}, same); got != "ab" || err != nil {
		t.Errorf("an exact ID is also a prefix: %q, %v", got, err)
	}
	_, err := resolve("node", "a", []string{"ab", "ac"}, same)
	wantCode(t, err, api.CodeAmbiguous)
	if !strings.Contains(err.Error(), "ab, ac") {
		t.Errorf("it does not say which: %v", err)
	}
	_, err = resolve("node", "x", nil, same)
	wantCode(t, err, api.CodeNotFound)
}
