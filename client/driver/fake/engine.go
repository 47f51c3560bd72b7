// Package fake runs scripted instances in memory. An Engine stands for a machine's container engine: it outlives the
// clients that use it, several may share it, and tests break it on purpose. Time is the process's own, so in a synctest
// bubble it is virtual. There is no goroutine an instance, and one timer in all: a process can hold a million instances.
package fake

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"cube/api"
	"cube/client/driver"
)

// Engine holds the instances of all drivers made from it. Its methods are safe for concurrent use.
type Engine struct {
	mu      sync.Mutex // guards what follows
	owners  map[driver.Owner]*owner
	due     deadlines
	timer   *time.Timer // fires at the first deadline; nil until there is one
	serial  uint64
	scripts scripts
	ports   map[int]bool
	broken  string
	waiting func(op string, key driver.Key) <-chan struct{}
}

// owner is what one client has.
type owner struct {
	name      driver.Owner
	instances map[driver.Key]*instance
	kept      map[source][]written // of each removed instance
	watches   []*watch
}

// source is whose output something is: an allocation's main instances', or those of a part.
type source struct {
	allocation api.ID
	part       string
}

// runs reports whether the instance with this data in its handle does.
func (o *owner) runs(data string) bool {
	for _, i := range o.instances {
		if i.handle().Data == data {
			return i.exit == nil
		}
	}
	return false
}

// watch is one Watch that is going on.
type watch struct {
	ended func(driver.Handle, driver.Exit)
}

// instance is one run. It is small: simulations hold a million.
type instance struct {
	of      *owner
	key     driver.Key
	serial  uint64
	job     string
	task    string
	version uint64
	script  *script
	started time.Time
	exit    *driver.Exit  // nil: it runs
	gone    chan struct{} // closed at its end; nil while nobody waits for it
	next    *deadline     // its only deadline; nil: it runs until it is stopped
}

func (i *instance) written() written { return written{i.script.lines, i.started} }

// deadline is when something happens to an instance by itself.
type deadline struct {
	at   time.Time
	i    *instance
	exit driver.Exit
	pos  int // in the heap
}

// NewEngine returns an engine that holds nothing.
func NewEngine() *Engine {
	return &Engine{owners: map[driver.Owner]*owner{}, ports: map[int]bool{}}
}

// Driver returns a driver that sees the owner's instances.
func (e *Engine) Driver(o driver.Owner) *Driver { return &Driver{engine: e, owner: o} }

// Kill ends the running main instance of an allocation, whoever owns it, as if it had ended by itself so. ok is false when
// none runs.
func (e *Engine) Kill(allocation api.ID, x driver.Exit) (ok bool) {
	return e.KillPart(allocation, "", x)
}

// KillPart is Kill for a part of the allocation's task.
func (e *Engine) KillPart(allocation api.ID, part string, x driver.Exit) (ok bool) {
	e.mu.Lock()
	var ended []func()
	for _, o := range e.owners {
		for _, i := range o.instances {
			if i.key.Allocation == allocation && i.key.Part == part && i.exit == nil {
				ended = append(ended, e.end(i, x))
			}
		}
	}
	e.mu.Unlock()
	for _, tell := range ended {
		tell()
	}
	return len(ended) > 0
}

// Erase removes all instances of an allocation without a trace and without telling anybody, as a person with access to
// the engine may.
func (e *Engine) Erase(allocation api.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.owners {
		for key, i := range o.instances {
			if key.Allocation == allocation {
				e.forget(i)
			}
		}
	}
}

// Owners returns whose instances there are, or were.
func (e *Engine) Owners() []driver.Owner {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Keys(e.owners), func(a, b driver.Owner) int {
		return cmp.Or(cmp.Compare(a.ClusterID, b.ClusterID), cmp.Compare(a.NodeID, b.NodeID))
	})
}

// Instances returns the owner's instances, in the order of their keys.
func (e *Engine) Instances(o driver.Owner) []driver.Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list(o)
}

// Count returns how many instances there are, of all owners, and how many of them run.
func (e *Engine) Count() (all, running int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.owners {
		all += len(o.instances)
		for _, i := range o.instances {
			if i.exit == nil {
				running++
			}
		}
	}
	return all, running
}

// TakePort has something outside hold a host port, or let go of it: a start that needs it fails meanwhile.
func (e *Engine) TakePort(port int, taken bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ports[port] = taken
}

// Break makes every call fail with the reason, as an engine that is down does, until it is called with "". Instances go on.
func (e *Engine) Break(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = reason
}

// Hang has wait asked before each call to start, stop or remove an instance or to list them (then with no key). The call
// goes on when the channel that it returns is closed or the call's context ends; nil does not hold it up.
func (e *Engine) Hang(wait func(op string, key driver.Key) <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = wait
}

// of returns what the owner has, making it if need be. The caller holds mu.
func (e *Engine) of(name driver.Owner) *owner {
	o := e.owners[name]
	if o == nil {
		o = &owner{name: name, instances: map[driver.Key]*instance{}}
		e.owners[name] = o
	}
	return o
}

func (e *Engine) list(name driver.Owner) []driver.Instance {
	o := e.owners[name]
	if o == nil {
		return nil
	}
	out := make([]driver.Instance, 0, len(o.instances))
	for _, i := range o.instances {
		out = append(out, i.view())
	}
	slices.SortFunc(out, func(a, b driver.Instance) int {
		ka, kb := a.Handle.Key, b.Handle.Key
		return cmp.Or(cmp.Compare(ka.Allocation, kb.Allocation), cmp.Compare(ka.Part, kb.Part), cmp.Compare(ka.Of, kb.Of), cmp.Compare(ka.Restarts, kb.Restarts))
	})
	return out
}

func (i *instance) handle() driver.Handle {
	return driver.Handle{Key: i.key, Data: fmt.Sprintf("fake-%d", i.serial)}
}

func (i *instance) view() driver.Instance {
	in := driver.Instance{Handle: i.handle(), Job: i.job, Task: i.task, Version: i.version, Running: i.exit == nil, StartedAt: i.started}
	if i.exit != nil {
		x := *i.exit
		in.Exit = &x
	}
	return in
}

// end ends an instance and returns what tells those who watch, to be called without mu. The caller holds mu.
func (e *Engine) end(i *instance, x driver.Exit) (tell func()) {
	e.cancel(i)
	if x.FinishedAt.IsZero() {
		x.FinishedAt = time.Now()
	}
	i.exit = &x
	if i.gone != nil {
		close(i.gone)
		i.gone = nil
	}
	watches, h := slices.Clone(i.of.watches), i.handle()
	return func() {
		for _, w := range watches {
			w.ended(h, x)
		}
	}
}

// forget drops an instance. The caller holds mu.
func (e *Engine) forget(i *instance) {
	e.cancel(i)
	if i.gone != nil {
		close(i.gone)
		i.gone = nil
	}
	delete(i.of.instances, i.key)
}

// wait returns a channel that is closed when the instance has ended. The caller holds mu, and it runs.
func (i *instance) wait() <-chan struct{} {
	if i.gone == nil {
		i.gone = make(chan struct{})
	}
	return i.gone
}

// plan has the instance end by itself after d, unless it is to end sooner already. The caller holds mu.
func (e *Engine) plan(i *instance, d time.Duration, x driver.Exit) *deadline {
	at := time.Now().Add(d)
	if i.next != nil {
		if !at.Before(i.next.at) {
			return i.next
		}
		e.cancel(i)
	}
	i.next = &deadline{at: at, i: i, exit: x}
	heap.Push(&e.due, i.next)
	e.arm()
	return i.next
}

func (e *Engine) cancel(i *instance) {
	if i.next != nil {
		heap.Remove(&e.due, i.next.pos)
		i.next = nil
	}
}

// arm sets the timer for the first deadline. The caller holds mu.
func (e *Engine) arm() {
	if len(e.due) == 0 {
		return
	}
	wait := max(0, time.Until(e.due[0].at))
	if e.timer == nil {
		e.timer = time.AfterFunc(wait, e.fire)
		return
	}
	e.timer.Reset(wait)
}

// fire ends the instances whose time has come.
func (e *Engine) fire() {
	e.mu.Lock()
	var ended []func()
	for now := time.Now(); len(e.due) > 0 && !e.due[0].at.After(now); {
		d := e.due[0]
		x := d.exit
		x.FinishedAt = d.at
		ended = append(ended, e.end(d.i, x))
	}
	e.arm()
	e.mu.Unlock()
	for _, tell := range ended {
		tell()
	}
}

// killed is how an instance ends that gets SIGKILL.
func killed() driver.Exit {
	return driver.Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
}

// deadlines is a heap by time.
type deadlines []*deadline

func (h deadlines) Len() int           { return len(h) }
func (h deadlines) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h deadlines) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *deadlines) Push(x any) {
	d := x.(*deadline)
	d.pos = len(*h)
	*h = append(*h, d)
}
func (h *deadlines) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return d
}
