package drivertest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"cube/api"
	"cube/client/driver"
)

func fingerprint(b *bench) {
	d := b.driver()
	if d.Name() == "" {
		b.Error("the driver has no name")
	}
	if i := d.Fingerprint(b.ctx); !i.Detected || !i.Healthy || i.Reason != "" {
		b.Errorf("the driver says of itself %+v; want it healthy, and no reason against it", i)
	}
}

func options(b *bench) {
	d := b.driver()
	if err := d.CheckOptions(nil); err != nil {
		b.Errorf("no options: %v", err)
	}
	if err := d.CheckOptions(map[string]any{"no_such_option": true}); err == nil {
		b.Error("an option that does not exist is accepted")
	}
}

func startRuns(b *bench) {
	d, c := b.driver(), b.config(Program{})
	before := time.Now()
	h, at := b.start(d, c)
	if h.Key != c.Key || h.Data == "" {
		b.Errorf("the handle is %+v; want key %v and some data", h, c.Key)
	}
	// Engines round, and keep clocks of their own.
	if at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		b.Errorf("it started at %v; want it between %v and now", at, before)
	}
	i := b.only(d)
	if i.Handle != h || i.Job != c.Job || i.Task != c.Task || i.Version != c.Version || !i.Running || i.Exit != nil {
		b.Errorf("the driver lists %+v; want %+v of %s/%s version %d, running", i, h, c.Job, c.Task, c.Version)
	}
	if !i.StartedAt.Equal(at) {
		b.Errorf("it is listed as started at %v, Start said %v", i.StartedAt, at)
	}
}

func startAdopts(b *bench) {
	d, c := b.driver(), b.config(Program{})
	h, at := b.start(d, c)
	again, atAgain := b.start(d, c)
	if again != h || !atAgain.Equal(at) {
		b.Errorf("the second start gives %+v started at %v, the first gave %+v at %v", again, atAgain, h, at)
	}
	if i := b.only(d); i.Handle != h {
		b.Errorf("the driver lists %+v, want %+v", i, h)
	}
}

func startsAtTheSameTime(b *bench) {
	d, c := b.driver(), b.config(Program{})
	handles := make([]driver.Handle, 4)
	errs := make([]error, len(handles))
	var all sync.WaitGroup
	for n := range handles {
		all.Go(func() { handles[n], _, errs[n] = d.Start(b.ctx, c, func(string) {}) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	for _, h := range handles {
		if h != handles[0] {
			b.Errorf("starts at the same time give %+v and %+v", handles[0], h)
		}
	}
	b.only(d)
}

func startReplaces(b *bench) {
	d, c := b.driver(), b.config(Program{})
	h, _ := b.start(d, c)
	other := *c
	other.Version = 2
	again, _ := b.start(d, &other)
	if again == h {
		b.Errorf("an instance of version 1 was adopted as one of version 2: %+v", h)
	}
	if i := b.only(d); i.Handle != again || i.Version != 2 || !i.Running {
		b.Errorf("the driver lists %+v; want %+v of version 2, running", i, again)
	}
}

func failedStart(b *bench) {
	d, c := b.driver(), b.config(Program{})
	broken := *c
	b.h.Break(&broken)
	_, _, err := d.Start(b.ctx, &broken, func(string) {})
	var failed *driver.StartError
	if !errors.As(err, &failed) || failed.Failure != api.FailureStart {
		b.Fatalf("a start that cannot work gives %v; want a StartError with FailureStart", err)
	}
	b.Logf("it says: %v", err)
	if l := b.list(d); len(l) != 0 {
		b.Errorf("the failed start left %+v", l)
	}
	b.start(d, c) // with the same key, once it is put right
}

func cancelledStart(b *bench) {
	d, c := b.driver(), b.config(Program{})
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, _, err := d.Start(ctx, c, func(string) {}); !errors.Is(err, context.Canceled) {
		b.Errorf("a cancelled start gives %v", err)
	}
	if l := b.list(d); len(l) != 0 {
		b.Errorf("the cancelled start left %+v", l)
	}
}

func oneThatHangs(b *bench) {
	d := b.driver()
	slow, _ := b.start(d, b.config(Program{IgnoreTerm: true, Lines: 1}))
	b.awaitOutput(d, slow.Key.Allocation, "out 1\n")
	ctx, cancel := context.WithCancel(b.ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- d.Stop(ctx, slow, "SIGTERM", 10*patience) }()

	other := b.config(Program{})
	h, _ := b.start(d, other)
	b.stop(d, h, "SIGTERM", patience)
	b.remove(d, h)
	if i := b.only(d); i.Handle != slow || !i.Running {
		b.Errorf("the driver lists %+v; want %+v running still", i, slow)
	}
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		b.Errorf("the stop that hung gives %v", err)
	}
}

func idleInstancesOwnNoGoroutine(b *bench) {
	const n = 8 // HTTP connections and the like come and go, so it takes some instances to see
	d := b.driver()
	b.watch(d)
	b.start(d, b.config(Program{}))
	before := runtime.NumGoroutine()
	for range n {
		b.start(d, b.config(Program{}))
	}
	if after := runtime.NumGoroutine(); after-before >= n {
		b.Errorf("%d goroutines with one instance, %d with %d", before, after, n+1)
	}
}
