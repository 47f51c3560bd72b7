package driver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lanes
		one, two := Key{Allocation: 1}, Key{Allocation: 1, Restarts: 1}
		leave, err := l.Enter(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.Enter(t.Context(), two) // another key does not wait
		if err != nil {
			t.Fatal(err)
		}
		other()

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Enter(short, one); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait over its deadline gives %v", err)
		}

		entered := make(chan func())
		go func() {
			leave, err := l.Enter(t.Context(), one)
			if err != nil {
				t.Error(err)
			}
			entered <- leave
		}()
		synctest.Wait()
		select {
		case <-entered:
			t.Error("two are in one lane")
		default:
		}
		leave()
		(<-entered)()
		if len(l.lanes) != 0 {
			t.Errorf("%d lanes are left that nobody uses", len(l.lanes))
		}
	})
}
