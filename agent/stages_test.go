package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

// diary notes what happened in which order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

func (d *diary) until(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name)
		return ctx.Err()
	}
}

func TestStagesEndInOrder(t *testing.T) {
	var d diary
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runStages(ctx, stage{d.until("people")}, nil, stage{d.until("server")}, stage{d.until("gossip")}); err != nil {
		t.Error(err)
	}
	if want := []string{"people", "server", "gossip"}; !slices.Equal(d.lines, want) {
		t.Errorf("ended %v, want %v", d.lines, want)
	}
}

func TestAFailureEndsTheOthers(t *testing.T) {
	var d diary
	broken := errors.New("broken")
	fails := func(context.Context) error { return broken }
	err := runStages(t.Context(), stage{d.until("people")}, stage{fails, d.until("beside")}, stage{d.until("gossip")})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if want := []string{"people", "beside", "gossip"}; !slices.Equal(d.lines, want) {
		t.Errorf("ended %v, want %v", d.lines, want)
	}
}
