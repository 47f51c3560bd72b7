package agent

import (
	"context"
	"errors"
	"sync"
)

// stage is a set of blocking functions that end together.
type stage []func(ctx context.Context) error

// runStages runs every function of every stage until ctx is done or one of them returns, then ends the stages in order,
// each after the one before it has wholly ended: what serves others goes first, what is served last. It returns the
// first error and what came of ending.
func runStages(ctx context.Context, stages ...stage) error {
	type running struct {
		cancel context.CancelFunc
		wait   sync.WaitGroup
	}
	var (
		runs  = make([]*running, len(stages))
		ended = make(chan struct{}, 1) // somebody returned
		mu    sync.Mutex
		errs  []error // guarded by mu
	)
	for i, s := range stages {
		stageCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		runs[i] = &running{cancel: cancel}
		for _, f := range s {
			runs[i].wait.Go(func() {
				if err := f(stageCtx); err != nil && !errors.Is(err, context.Canceled) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				select {
				case ended <- struct{}{}:
				default: // somebody said so already
				}
			})
		}
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	for _, r := range runs {
		r.cancel()
		r.wait.Wait()
	}
	return errors.Join(errs...)
}
