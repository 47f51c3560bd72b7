package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

// asked is a node that answers in its own way. What else servers ask of nodes nobody asks here.
type asked struct {
	api.Worker
	answer func(ctx context.Context, ids []api.ID) ([]api.AllocationUsage, error)
}

func (a asked) Usage(ctx context.Context, ids []api.ID) ([]api.AllocationUsage, error) {
	return a.answer(ctx, ids)
}

func row(n uint32, node string, phase api.Phase) api.AllocationRow {
	return api.AllocationRow{ID: api.MakeID(0, n), Job: "web", Task: "web", Slot: n, Node: node, Phase: phase, Held: api.Resources{CPU: 100, Memory: 64}}
}

func TestWhoDoesNotAnswerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQuestion(api.NewIDText("test"))
		q.Add(slices.Values([]api.AllocationRow{
			row(1, "n1", api.PhaseRunning), row(2, "n1", api.PhaseComplete), row(3, "n2", api.PhaseRunning), row(4, "n3", api.PhaseRunning),
			row(5, "n4", api.PhaseRunning), row(1, "n1", api.PhaseRunning), row(6, "n1", api.PhaseRunning),
		}))
		began := time.Now()
		report := q.Gather(t.Context(), func(id string) (string, api.Worker, error) {
			name := "node-" + id
			switch id {
			case "n1":
				return name, asked{answer: func(_ context.Context, ids []api.ID) ([]api.AllocationUsage, error) {
					if want := []api.ID{api.MakeID(0, 1), api.MakeID(0, 6)}; !slices.Equal(ids, want) {
						t.Errorf("n1 is asked for %v, want %v", ids, want)
					}
					return []api.AllocationUsage{{ID: ids[0], Usage: api.Usage{CPU: 7, Memory: 8}}, {ID: 99}}, nil
				}}, nil
			case "n2":
				return name, asked{answer: func(ctx context.Context, _ []api.ID) ([]api.AllocationUsage, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}, nil
			case "n3":
				return name, asked{answer: func(context.Context, []api.ID) ([]api.AllocationUsage, error) {
					return nil, errors.New("it is on fire")
				}}, nil
			}
			return name, nil, errors.New("it is not connected")
		})
		if took := time.Since(began); took != patience {
			t.Errorf("it took %v", took)
		}
		if len(report.Instances) != 1 || report.Instances[0].Name != "web[1]" || report.Instances[0].CPU != 7 || report.Instances[0].Reserved.Memory != 64 {
			t.Errorf("the instances are %+v", report.Instances)
		}
		var silent []string
		for _, s := range report.Silent {
			silent = append(silent, fmt.Sprintf("%s: %s", s.Name, s.Reason))
		}
		if got, want := strings.Join(silent, "; "), "node-n2: it did not answer in time; node-n3: it is on fire; node-n4: it is not connected"; got != want {
			t.Errorf("silent are %s, want %s", got, want)
		}
	})
}

func TestAnAnswerIsBounded(t *testing.T) {
	q := NewQuestion(api.NewIDText("test"))
	q.Add(func(yield func(api.AllocationRow) bool) {
		for n := range uint32(api.MaxUsage + 5) {
			if !yield(row(n+1, fmt.Sprint(n%100), api.PhaseRunning)) {
				return
			}
		}
	})
	report := q.Gather(t.Context(), func(string) (string, api.Worker, error) {
		return "", asked{answer: func(_ context.Context, ids []api.ID) (all []api.AllocationUsage, _ error) {
			for _, id := range ids {
				all = append(all, api.AllocationUsage{ID: id})
			}
			return all, nil
		}}, nil
	})
	if len(report.Instances) != api.MaxUsage || report.Omitted != 5 {
		t.Errorf("%d instances are measured and %d are not", len(report.Instances), report.Omitted)
	}
}
