package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"cube/api"
	"cube/client/driver"
)

// Name is what a task's driver field says.
const Name = "fake"

// Driver is one owner's view of an Engine.
type Driver struct {
	engine *Engine
	owner  driver.Owner
}

var _ driver.Driver = (*Driver)(nil)

// Name returns "fake".
func (d *Driver) Name() string { return Name }

// Fingerprint says that the engine works, unless it was broken.
func (d *Driver) Fingerprint(context.Context) api.DriverInfo {
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	return api.DriverInfo{Detected: true, Healthy: d.engine.broken == "", Reason: d.engine.broken}
}

// CheckOptions validates a script.
func (d *Driver) CheckOptions(options map[string]any) error {
	return api.CheckOptions(Name, options)
}

// pass goes through what tests have put in the way of a call.
func (d *Driver) pass(ctx context.Context, op string, key driver.Key) error {
	e := d.engine
	e.mu.Lock()
	waiting := e.waiting
	e.mu.Unlock()
	if waiting != nil {
		if c := waiting(op, key); c != nil {
			select {
			case <-c:
			case <-ctx.Done():
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken != "" {
		return errors.New(e.broken)
	}
	return nil
}

// Start starts an instance, after the delay that its script asks for.
func (d *Driver) Start(ctx context.Context, c *driver.Config, progress driver.Progress) (driver.Handle, time.Time, error) {
	none := func(err error) (driver.Handle, time.Time, error) { return driver.Handle{}, time.Time{}, err }
	if err := d.pass(ctx, "start", c.Key); err != nil {
		return none(err)
	}
	s, err := parse(c.Options)
	if err != nil {
		return none(&driver.StartError{Failure: api.FailureStart, Permanent: true, Err: err})
	}
	if s.startDelay > 0 {
		progress("waiting for " + s.startDelay.String())
		t := time.NewTimer(s.startDelay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return none(ctx.Err())
		}
	}
	return d.engine.start(d.owner, c, s)
}

// start makes the instance, or adopts the one with its key.
func (e *Engine) start(name driver.Owner, c *driver.Config, s script) (driver.Handle, time.Time, error) {
	var tell func()
	defer func() {
		if tell != nil {
			tell()
		}
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.of(name)
	if i := o.instances[c.Key]; i != nil {
		if i.job == c.Job && i.task == c.Task && i.version == c.Version {
			return i.handle(), i.started, nil
		}
		if i.exit == nil {
			tell = e.end(i, killed())
		}
		e.forget(i)
	}
	if s.startError != "" {
		return driver.Handle{}, time.Time{}, &driver.StartError{Failure: api.FailureStart, Err: errors.New(s.startError)}
	}
	for _, p := range c.Ports {
		if e.ports[p.Host] {
			return driver.Handle{}, time.Time{}, &driver.StartError{Failure: api.FailurePortTaken, Port: p.Host,
				Err: api.Errorf(api.CodeConflict, "port %d (%s) is in use by something outside Cube", p.Host, p.Label)}
		}
	}
	if c.Beside != "" && !o.runs(c.Beside) {
		return driver.Handle{}, time.Time{}, &driver.StartError{Failure: api.FailureStart, Err: fmt.Errorf("cannot join the network of %s, which does not run", c.Beside)}
	}
	e.serial++
	i := &instance{of: o, key: c.Key, serial: e.serial, job: c.Job, task: c.Task, version: c.Version,
		script: e.scripts.share(s), started: time.Now().Round(0)}
	o.instances[c.Key] = i
	if s.runFor >= 0 {
		x := driver.Exit{Code: s.exitCode}
		if s.oom {
			x = killed()
			x.OOM = true
		}
		e.plan(i, s.runFor, x)
	}
	return i.handle(), i.started, nil
}

// find returns the instance of a handle, nil if it is gone. The caller holds the engine's mu.
func (d *Driver) find(h driver.Handle) *instance {
	if o := d.engine.owners[d.owner]; o != nil {
		if i := o.instances[h.Key]; i != nil && i.handle() == h {
			return i
		}
	}
	return nil
}

// Stop ends an instance as its script answers to signals.
func (d *Driver) Stop(ctx context.Context, h driver.Handle, signal string, timeout time.Duration) error {
	if err := d.pass(ctx, "stop", h.Key); err != nil {
		return err
	}
	e := d.engine
	e.mu.Lock()
	i := d.find(h)
	if i == nil || i.exit != nil {
		e.mu.Unlock()
		return nil
	}
	if signal == "SIGKILL" || !i.script.ignoreSignal {
		x := driver.Exit{Code: i.script.exitCode}
		if signal == "SIGKILL" {
			x = killed()
		}
		tell := e.end(i, x)
		e.mu.Unlock()
		tell()
		return nil
	}
	gone := i.wait()
	e.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return d.Stop(ctx, h, "SIGKILL", 0)
	}
}

// Remove drops an ended instance; what it wrote is kept.
func (d *Driver) Remove(ctx context.Context, h driver.Handle) error {
	if err := d.pass(ctx, "remove", h.Key); err != nil {
		return err
	}
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	i := d.find(h)
	if i == nil {
		return nil
	}
	if i.exit == nil {
		return api.Errorf(api.CodeConflict, "instance %s runs: it is stopped before it is removed", h.Data)
	}
	if i.script.lines > 0 {
		if i.of.kept == nil {
			i.of.kept = map[source][]written{}
		}
		from := source{h.Key.Allocation, h.Key.Part}
		i.of.kept[from] = append(i.of.kept[from], i.written())
	}
	e.forget(i)
	return nil
}

// List returns the owner's instances in the order of their keys.
func (d *Driver) List(ctx context.Context) ([]driver.Instance, error) {
	if err := d.pass(ctx, "list", driver.Key{}); err != nil {
		return nil, err
	}
	d.engine.mu.Lock()
	defer d.engine.mu.Unlock()
	return d.engine.list(d.owner), nil
}

// Watch reports ends until ctx is done.
func (d *Driver) Watch(ctx context.Context, ended func(driver.Handle, driver.Exit)) error {
	e := d.engine
	w := &watch{ended: ended}
	e.mu.Lock()
	o := e.of(d.owner)
	o.watches = append(o.watches, w)
	before := e.list(d.owner)
	e.mu.Unlock()
	for _, i := range before {
		if i.Exit != nil {
			ended(i.Handle, *i.Exit)
		}
	}
	<-ctx.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	o.watches = slices.DeleteFunc(o.watches, func(x *watch) bool { return x == w })
	return ctx.Err()
}

// Logs streams the lines that scripts have instances write.
func (d *Driver) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	l := &stream{ctx: ctx, closed: make(chan struct{})}
	var all []written
	if o := e.owners[d.owner]; o != nil {
		all = slices.Clone(o.kept[source{allocation, r.Part}])
		for _, in := range e.list(d.owner) {
			if in.Handle.Key.Allocation != allocation || in.Handle.Key.Part != r.Part {
				continue
			}
			i := o.instances[in.Handle.Key]
			all = append(all, i.written())
			if i.exit == nil && r.Follow {
				l.until = i.wait()
			}
		}
	}
	text, err := output(all, r)
	l.text = strings.NewReader(text)
	return l, err
}

// Usage counts what the instance's script says: use_cpu thousandths of a core and use_memory MiB.
func (d *Driver) Usage(ctx context.Context, h driver.Handle) (driver.Usage, error) {
	if err := d.pass(ctx, "usage", h.Key); err != nil {
		return driver.Usage{}, err
	}
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	i := d.find(h)
	if i == nil || i.exit != nil {
		return driver.Usage{}, api.Errorf(api.CodeConflict, "instance %s does not run", h.Data)
	}
	now := time.Now()
	return driver.Usage{CPU: now.Sub(i.started) * time.Duration(i.script.uses.CPU) / 1000, Memory: i.script.uses.Memory << 20, At: now}, nil
}

// Close does nothing: an Engine's drivers hold nothing of their own.
func (d *Driver) Close() error { return nil }

// stream is an instance's output: what is there, and then its end.
type stream struct {
	ctx   context.Context
	text  *strings.Reader
	until <-chan struct{} // closed when the instance has ended; nil: it has, or nobody follows

	once   sync.Once
	closed chan struct{}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.text.Len() > 0 || s.until == nil {
		return s.text.Read(p)
	}
	select {
	case <-s.until:
		return 0, io.EOF
	case <-s.closed:
		return 0, io.ErrClosedPipe
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}

func (s *stream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
