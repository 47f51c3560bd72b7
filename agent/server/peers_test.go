package server

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/internal/session"
)

// TestRequestsShareOneAttempt: however many need a server that is cut off, all know after one attempt, whoever is in a
// hurry sooner, and nobody waits for it when this server ends.
func TestRequestsShareOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		p := newPeers(func(ctx context.Context, _ string) (*session.Session, error) {
			dials++
			<-ctx.Done()
			return nil, ctx.Err()
		})
		began := time.Now()
		var wait sync.WaitGroup
		ask := func(ctx context.Context, want error, after time.Duration) {
			wait.Go(func() {
				_, err := p.get(ctx, "s2")
				if took := time.Since(began); !errors.Is(err, want) || took != after {
					t.Errorf("after %s: %v; want %v after %s", took, err, want, after)
				}
			})
		}
		for range 10 {
			ask(context.Background(), ErrNotSent, dialTimeout)
		}
		synctest.Wait()
		hurry, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		ask(hurry, context.DeadlineExceeded, time.Second)
		wait.Wait()
		if dials != 1 {
			t.Errorf("%d attempts", dials)
		}

		began = time.Now()
		ask(context.Background(), ErrNotSent, time.Second)
		time.Sleep(time.Second)
		p.close()
		wait.Wait()
		if _, err := p.get(context.Background(), "s2"); !errors.Is(err, ErrNotSent) {
			t.Errorf("after the end: %v", err)
		}
	})
}
