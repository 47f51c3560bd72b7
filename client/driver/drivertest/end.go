package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"syscall"
	"time"

	"cube/client/driver"
)

// ends is what a Watch has reported so far.
type ends struct {
	b       *bench
	mu      sync.Mutex
	exits   map[driver.Handle]driver.Exit
	changed chan struct{} // closed and replaced with each report
}

// watch begins to watch. It ends with the test, at the latest.
func (b *bench) watch(d driver.Driver) *ends {
	e, _ := b.watchUntil(d)
	return e
}

func (b *bench) watchUntil(d driver.Driver) (*ends, func()) {
	e := &ends{b: b, exits: map[driver.Handle]driver.Exit{}, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Watch(ctx, e.ended); err != nil && !errors.Is(err, context.Canceled) {
			b.Errorf("watch: %v", err)
		}
	}()
	end := func() { cancel(); <-done }
	b.Cleanup(end)
	return e, end
}

func (e *ends) ended(h driver.Handle, x driver.Exit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exits[h] = x
	close(e.changed)
	e.changed = make(chan struct{})
}

// of waits for the end of an instance.
func (e *ends) of(h driver.Handle) driver.Exit {
	e.b.Helper()
	for {
		e.mu.Lock()
		x, ok := e.exits[h]
		changed := e.changed
		e.mu.Unlock()
		if ok {
			return x
		}
		select {
		case <-changed:
		case <-e.b.ctx.Done():
			e.b.Fatalf("the end of %+v is not reported", h)
		}
	}
}

func (e *ends) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.exits)
}

func stopAsks(b *bench) {
	d := b.driver()
	e := b.watch(d)
	h, at := b.start(d, b.config(Program{Lines: 1, ExitCode: 7}))
	b.awaitOutput(d, h.Key.Allocation, "out 1\n") // it listens to signals now
	b.stop(d, h, "SIGTERM", 10*patience)
	x := e.of(h)
	if x.Code != 7 || x.Signal != 0 || x.OOM {
		b.Errorf("asked to end it ended with %+v; want code 7, and no signal", x)
	}
	if x.FinishedAt.Before(at) || x.FinishedAt.After(time.Now().Add(time.Second)) {
		b.Errorf("it ended at %v; want it between %v and now", x.FinishedAt, at)
	}
	if i := b.only(d); i.Running || i.Exit == nil || i.Exit.Code != 7 {
		b.Errorf("the driver lists %+v; want it ended with code 7", i)
	}
}

func stopKills(b *bench) {
	const timeout = 300 * time.Millisecond
	d := b.driver()
	e := b.watch(d)
	h, _ := b.start(d, b.config(Program{IgnoreTerm: true, Lines: 1}))
	b.awaitOutput(d, h.Key.Allocation, "out 1\n")
	before := time.Now()
	b.stop(d, h, "SIGTERM", timeout)
	if took := time.Since(before); took < timeout {
		b.Errorf("it was killed after %v, it had %v", took, timeout)
	}
	if x := e.of(h); x.Signal != int(syscall.SIGKILL) || x.OOM {
		b.Errorf("it ended with %+v; want signal 9", x)
	}
}

func stopEndsWithItsContext(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{IgnoreTerm: true, Lines: 1}))
	b.awaitOutput(d, h.Key.Allocation, "out 1\n")
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()
	if err := d.Stop(ctx, h, "SIGTERM", 10*patience); !errors.Is(err, context.DeadlineExceeded) {
		b.Errorf("a stop over its deadline gives %v", err)
	}
	if i := b.only(d); !i.Running {
		b.Errorf("the driver lists %+v; want it running: it ignores the signal, and its timeout is not over", i)
	}
}

func stopAndRemoveTwice(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	b.stop(d, h, "SIGKILL", time.Second)
	b.stop(d, h, "SIGKILL", time.Second)
	b.remove(d, h)
	b.remove(d, h)
	b.stop(d, h, "SIGTERM", time.Second)
	if l := b.list(d); len(l) != 0 {
		b.Errorf("after its removal the driver lists %+v", l)
	}
}

func listFilters(b *bench) {
	mine := b.driver()
	cluster := b.driverOf(driver.Owner{ClusterID: b.owner.ClusterID, NodeID: b.owner.NodeID + "2"})
	node := b.driverOf(driver.Owner{ClusterID: b.owner.ClusterID + "2", NodeID: b.owner.NodeID})
	ofMine, ofCluster, ofNode := b.watch(mine), b.watch(cluster), b.watch(node)
	h, _ := b.start(mine, b.config(Program{Ends: true, ExitCode: 1}))
	ofMine.of(h)
	b.only(mine)
	for _, d := range []driver.Driver{cluster, node} {
		if l := b.list(d); len(l) != 0 {
			b.Errorf("another owner's driver lists %+v", l)
		}
	}
	if n := ofCluster.count() + ofNode.count(); n != 0 {
		b.Errorf("the ends of others' instances were reported: %d", n)
	}
}

func watchReports(b *bench) {
	d := b.driver()
	e := b.watch(d)
	three, at := b.start(d, b.config(Program{Ends: true, After: 50 * time.Millisecond, ExitCode: 3}))
	zero, _ := b.start(d, b.config(Program{Ends: true}))
	killed, _ := b.start(d, b.config(Program{}))
	b.stop(d, killed, "SIGKILL", time.Second)
	if x := e.of(three); x.Code != 3 || x.Signal != 0 || x.OOM || x.FinishedAt.Before(at) {
		b.Errorf("exit code 3 is reported as %+v", x)
	}
	if x := e.of(zero); x.Code != 0 || x.Signal != 0 || x.OOM {
		b.Errorf("exit code 0 is reported as %+v", x)
	}
	if x := e.of(killed); x.Signal != int(syscall.SIGKILL) || x.OOM {
		b.Errorf("SIGKILL is reported as %+v", x)
	}
}

func watchReportsThePast(b *bench) {
	d := b.driver()
	e, end := b.watchUntil(d)
	h, _ := b.start(d, b.config(Program{Ends: true, ExitCode: 5}))
	e.of(h)
	end()
	if x := b.watch(d).of(h); x.Code != 5 {
		b.Errorf("exit code 5 is reported later as %+v", x)
	}
	if x := b.watch(b.driver()).of(h); x.Code != 5 {
		b.Errorf("exit code 5 is reported to a new agent as %+v", x)
	}
}

func reattach(b *bench) {
	former := b.open(b.T, b.owner)
	c := b.config(Program{Lines: 2, ExitCode: 4})
	h, at := b.start(former, c)
	b.awaitOutput(former, c.Key.Allocation, "out 2\n")
	if err := former.Close(); err != nil {
		b.Fatalf("close: %v", err)
	}
	d := b.driver()
	if i := b.only(d); i.Handle != h || !i.Running || !i.StartedAt.Equal(at) {
		b.Errorf("a new agent finds %+v; want %+v running since %v", i, h, at)
	}
	if again, atAgain := b.start(d, c); again != h || !atAgain.Equal(at) {
		b.Errorf("a new agent's start gives %+v started at %v; want %+v at %v", again, atAgain, h, at)
	}
	b.awaitOutput(d, c.Key.Allocation, "out 1\nout 2\n")
	e := b.watch(d)

	// As it comes back out of the client's state file.
	text, err := json.Marshal(h)
	if err != nil {
		b.Fatal(err)
	}
	var kept driver.Handle
	if err := json.Unmarshal(text, &kept); err != nil {
		b.Fatal(err)
	}
	b.stop(d, kept, "SIGTERM", 10*patience)
	if x := e.of(h); x.Code != 4 {
		b.Errorf("it ended with %+v, want code 4", x)
	}
}
