// Package drivertest is the contract of driver.Driver as tests. Every driver's own tests call Run.
package drivertest

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
)

// Program says what an instance is to do, in words that every driver can put into practice. The zero value runs until
// it is told to end, and then ends by itself with ExitCode.
type Program struct {
	Lines      int           // prints "out 1" ... to stdout and "err 1" ... to stderr, at once
	Serve      bool          // answers GET / with 200 on the port labelled "http"
	Show       bool          // prints one line of JSON first: {"Args": [], "Env": {}, "Dir": "", "UID": 0}
	Args       []string      // further arguments, for Show
	Ends       bool          // ends by itself, After it has started
	After      time.Duration // with Ends
	ExitCode   int
	IgnoreTerm bool   // goes on after SIGTERM
	Memory     int    // MiB to take at SIGUSR1
	Get        string // prints what a URL answers, once it does

	// What commands are asked for that run beside an instance.
	Echo bool // copies stdin to stdout after the Lines, and ends with it; signals end it
	Size bool // prints the rows and columns of its terminal, 24x80, again when they change, and ends with stdin
}

// Open opens a driver for one owner. Drivers that one Open made share what they drive: a second one for the same owner
// is what an agent sees that started anew.
type Open func(t *testing.T, owner driver.Owner) driver.Driver

// Harness is what the suite needs of a driver's tests.
type Harness struct {
	// Engine makes what drivers drive: an engine, a directory. Each test has one of its own, and calls it once.
	Engine func(t *testing.T) Open
	// Configure makes c run the program. The rest of c is filled in already.
	Configure func(c *driver.Config, p Program)
	// Command is the program as a command to run beside an instance that Configure has made.
	Command func(p Program) []string
	// Break makes c name an image or a command that does not exist.
	Break func(c *driver.Config)
	// What instances of this driver are able to do. The tests of what is false here are left out.
	Ports       bool // listen on real ports
	Surrounding bool // see arguments, environment and directory: Program.Show
	OOM         bool // are killed at their memory limit, and the driver tells
	Counts      bool // what they use is counted
	Parts       bool // have parts beside them
	Networks    bool // are in networks that parts can be in, too: Program.Serve and Program.Get
}

// patience bounds every step of a test. It is generous: the machines that run tests are slow and busy.
const patience = 40 * time.Second

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		need bool
		test func(b *bench)
	}{
		{"idle instances own no goroutine", true, idleInstancesOwnNoGoroutine}, // first, and alone: it counts goroutines
		{"fingerprint", true, fingerprint},
		{"options", true, options},
		{"start runs", true, startRuns},
		{"start adopts", true, startAdopts},
		{"starts at the same time make one instance", true, startsAtTheSameTime},
		{"start replaces what has other marks", true, startReplaces},
		{"failed start leaves nothing", true, failedStart},
		{"cancelled start leaves nothing", true, cancelledStart},
		{"stop asks", true, stopAsks},
		{"stop kills after the timeout", true, stopKills},
		{"stop ends with its context", true, stopEndsWithItsContext},
		{"stop and remove twice", true, stopAndRemoveTwice},
		{"one that hangs holds up no other", true, oneThatHangs},
		{"list filters by owner", true, listFilters},
		{"watch reports ends", true, watchReports},
		{"watch reports what ended before", true, watchReportsThePast},
		{"a new agent finds its instances", true, reattach},
		{"logs", true, logs},
		{"logs follow", true, logsFollow},
		{"logs of former runs come first", true, logsOfFormerRuns},
		{"logs tell times", true, logsTellTimes},
		{"exec tells code and output", true, execTellsCodeAndOutput},
		{"exec reads stdin", true, execReadsStdin},
		{"exec leaves stdin", true, execLeavesStdin},
		{"exec of what does not exist", true, execOfNothing},
		{"exec in what has ended", true, execInTheEnded},
		{"exec ends with its context", true, execEndsWithItsContext},
		{"exec ends with its instance", true, execEndsWithItsInstance},
		{"exec passes signals on", true, execSignals},
		{"exec with a terminal", true, execTerminal},
		{"execs at the same time", true, execsAtTheSameTime},
		{"exec has the instance's surroundings", h.Surrounding, execSurroundings},
		{"surroundings", h.Surrounding, surrounding},
		{"ports", h.Ports, ports},
		{"out of memory", h.OOM, outOfMemory},
		{"usage is counted", h.Counts, usageIsCounted},
		{"usage of what has ended", true, usageOfTheEnded},
		{"parts are instances of their own", h.Parts, partsAreInstances},
		{"a part joins what runs", h.Parts, partJoinsWhatRuns},
		{"a part shares the network", h.Networks, partSharesTheNetwork},
	} {
		if !c.need {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if c.name != "idle instances own no goroutine" {
				t.Parallel()
			}
			c.test(newBench(t, h))
		})
	}
}

// bench is what one test works with.
type bench struct {
	*testing.T
	h     Harness
	open  Open
	owner driver.Owner
	text  api.IDText
	ids   atomic.Uint32
	dir   string
	ctx   context.Context
}

func newBench(t *testing.T, h Harness) *bench {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	// Owners differ from test to test and run to run: packages share the machine's engine.
	owner := driver.Owner{ClusterID: "test-" + rand.Text(), NodeID: rand.Text()}
	return &bench{T: t, h: h, open: h.Engine(t), owner: owner, text: api.NewIDText(owner.ClusterID), dir: t.TempDir(), ctx: ctx}
}

// driver opens one, to be closed after the test, when all of its instances are removed.
func (b *bench) driver() driver.Driver { return b.driverOf(b.owner) }

func (b *bench) driverOf(owner driver.Owner) driver.Driver {
	b.Helper()
	d := b.open(b.T, owner)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		left, err := d.List(ctx)
		if err != nil {
			b.Errorf("list what is left: %v", err)
		}
		for _, i := range left {
			if err := d.Stop(ctx, i.Handle, "SIGKILL", 0); err != nil {
				b.Errorf("stop what is left: %v", err)
			}
			if err := d.Remove(ctx, i.Handle); err != nil {
				b.Errorf("remove what is left: %v", err)
			}
		}
		if err := d.Close(); err != nil {
			b.Errorf("close: %v", err)
		}
	})
	return d
}

// config is a new allocation that runs the program.
func (b *bench) config(p Program) *driver.Config {
	b.Helper()
	id := api.MakeID(0, b.ids.Add(1))
	c := &driver.Config{
		Owner:   b.owner,
		Key:     driver.Key{Allocation: id},
		Text:    b.text.Format(id),
		Job:     "shop",
		Task:    "web",
		Slot:    uint32(id),
		Version: 1,
		Env:     map[string]string{"CUBE_TEST": "yes"},
		Network: driver.Network{Address: "127.0.0.1"},
		Held:    api.Resources{CPU: 100, Memory: 64},
		Dir:     filepath.Join(b.dir, b.text.Format(id)),
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		b.Fatal(err)
	}
	b.h.Configure(c, p)
	return c
}

// next is the allocation's next run, with another program.
func (b *bench) next(c *driver.Config, p Program) *driver.Config {
	n := *c
	n.Key.Restarts++
	n.Image, n.Command, n.Args, n.Options = "", "", nil, nil
	b.h.Configure(&n, p)
	return &n
}

func (b *bench) start(d driver.Driver, c *driver.Config) (driver.Handle, time.Time) {
	b.Helper()
	h, at, err := d.Start(b.ctx, c, func(string) {})
	if err != nil {
		b.Fatalf("start %v: %v", c.Key, err)
	}
	return h, at
}

func (b *bench) stop(d driver.Driver, h driver.Handle, signal string, timeout time.Duration) {
	b.Helper()
	if err := d.Stop(b.ctx, h, signal, timeout); err != nil {
		b.Fatalf("stop %v: %v", h.Key, err)
	}
}

func (b *bench) remove(d driver.Driver, h driver.Handle) {
	b.Helper()
	if err := d.Remove(b.ctx, h); err != nil {
		b.Fatalf("remove %v: %v", h.Key, err)
	}
}

func (b *bench) list(d driver.Driver) []driver.Instance {
	b.Helper()
	l, err := d.List(b.ctx)
	if err != nil {
		b.Fatalf("list: %v", err)
	}
	return l
}

// only is the one instance that the driver lists.
func (b *bench) only(d driver.Driver) driver.Instance {
	b.Helper()
	l := b.list(d)
	if len(l) != 1 {
		b.Fatalf("the driver lists %d instances, want one: %+v", len(l), l)
	}
	return l[0]
}
