package docker

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"cube/client/driver"
)

const (
	// syncEvery is how long an end can go unnoticed when the engine loses its event. Events are quick, but only a hint.
	syncEvery = 15 * time.Second
	// retryAfter spaces attempts while the engine does not answer as it should.
	retryAfter = time.Second
	// inspectors bounds the questions under way at once: enough that one that hangs holds up no other.
	inspectors = 8
)

// List returns the owner's containers; see driver.Driver. A container that was created but never started is neither
// running nor does it have an end. One that the engine does not describe in time is listed by what is known without.
func (d *Driver) List(ctx context.Context) ([]driver.Instance, error) {
	if err := d.meet(ctx); err != nil {
		return nil, err
	}
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*driver.Instance, len(all))
	var group sync.WaitGroup
	slots := make(chan struct{}, inspectors)
	for n, s := range all {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			found[n] = d.describe(ctx, s)
		})
	}
	group.Wait()
	var list []driver.Instance
	for _, i := range found {
		if i != nil {
			list = append(list, *i)
		}
	}
	return list, ctx.Err()
}

// describe makes an instance of a container, nil of one that is gone or whose labels are not ours.
func (d *Driver) describe(ctx context.Context, s container.Summary) *driver.Instance {
	h, ok := d.handle(s.ID, s.Labels)
	if !ok {
		d.log.Warn("a container has labels that do not make sense; it is left alone", "container", s.ID)
		return nil
	}
	version, _ := strconv.ParseUint(s.Labels[labelVersion], 10, 64) // handle has looked at it
	i := &driver.Instance{
		Handle: h, Job: s.Labels[labelJob], Task: s.Labels[labelTask], Version: version,
		Running: s.State == container.StateRunning || s.State == container.StatePaused, StartedAt: time.Unix(s.Created, 0),
	}
	full, err := d.inspect(ctx, s.ID)
	if gone(err) {
		return nil
	}
	if err != nil {
		d.log.Warn("docker does not describe a container", "container", s.ID, "error", err)
		return i
	}
	i.Running = full.State.Running
	i.StartedAt = instant(full.State.StartedAt)
	if hasEnded(full.State) {
		x := exitOf(full.State)
		i.Exit = &x
	}
	return i
}

// handle reads a container's labels.
func (d *Driver) handle(id string, labels map[string]string) (driver.Handle, bool) {
	allocation, ok := d.text.Parse(labels[labelAlloc])
	restarts, err := strconv.ParseUint(labels[labelRestarts], 10, 32)
	_, bad := strconv.ParseUint(labels[labelVersion], 10, 64)
	k := driver.Key{Allocation: allocation, Restarts: uint32(restarts), Part: labels[labelPart]}
	if k.Part != "" {
		of, err := strconv.ParseUint(labels[labelRun], 10, 32)
		k.Of, ok = uint32(of), ok && err == nil
	}
	return driver.Handle{Key: k, Data: id}, ok && err == nil && bad == nil
}

// hasEnded reports whether the container has run and runs no more.
func hasEnded(s *container.State) bool {
	return !s.Running && !s.Paused && !s.Restarting && s.Status != container.StateCreated && instant(s.StartedAt) != time.Time{}
}

// watcher is one Watch. Only its own goroutine touches it; the questions it asks run beside it and answer through answers.
type watcher struct {
	d        *Driver
	ended    func(driver.Handle, driver.Exit)
	answers  chan answer
	group    sync.WaitGroup
	reported map[string]bool
	asked    map[string]bool // asked or waiting to be: a container is asked after once at a time
	waiting  []candidate
	running  int  // questions under way
	listing  bool // a list is under way
	again    *time.Timer
	silent   bool // the engine failed last time, and that was said
}

// candidate is a container that may have ended.
type candidate struct {
	id     string
	handle driver.Handle
}

// answer is what a question brought: a list when of is nil, otherwise what became of one container.
type answer struct {
	of    *candidate
	list  []container.Summary
	state *container.State
	err   error
}

// Watch reports the ends of the owner's containers; see driver.Driver. A list every 15 s is the truth, events say when
// to look earlier.
func (d *Driver) Watch(ctx context.Context, ended func(driver.Handle, driver.Exit)) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		d: d, ended: ended, answers: make(chan answer), again: time.NewTimer(d.sync),
		reported: map[string]bool{}, asked: map[string]bool{},
	}
	defer w.group.Wait()
	defer w.again.Stop()
	defer cancel()
	for ctx.Err() == nil {
		w.follow(ctx)
	}
	return ctx.Err()
}

// follow works until ctx is done or the events end.
func (w *watcher) follow(ctx context.Context) {
	if err := w.d.meet(ctx); err != nil {
		w.failed(err)
		w.pause(ctx)
		return
	}
	stream, begun, cancel := w.d.beginning(ctx)
	defer cancel()
	messages, errs := w.d.engine.Events(stream, events.ListOptions{Filters: w.d.mine(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionDie)),
	)})
	begun()
	w.sync(ctx) // after the events began: what ends from here on is among them
	for {
		select {
		case m := <-messages:
			if h, ok := w.d.handle(m.Actor.ID, m.Actor.Attributes); ok {
				w.look(ctx, candidate{m.Actor.ID, h})
			}
		case err := <-errs:
			if ctx.Err() == nil {
				w.failed(err)
				w.pause(ctx)
			}
			return
		case a := <-w.answers:
			w.take(ctx, a)
		case <-w.again.C:
			w.sync(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// pause goes on taking answers until it is time to try for events again.
func (w *watcher) pause(ctx context.Context) {
	t := time.NewTimer(retryAfter)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case a := <-w.answers:
			w.take(ctx, a)
		case <-ctx.Done():
			return
		}
	}
}

// failed says once that the engine does not answer.
func (w *watcher) failed(err error) {
	if !w.silent {
		w.d.log.Warn("docker does not tell what ends; trying again", "error", err)
		w.silent = true
	}
}

// sync lists the containers.
func (w *watcher) sync(ctx context.Context) {
	w.again.Reset(w.d.sync)
	if w.listing {
		return
	}
	w.listing = true
	w.ask(ctx, func() answer {
		all, err := w.d.list(ctx)
		return answer{list: all, err: err}
	})
}

// ask runs a question beside the watcher, which takes its answer.
func (w *watcher) ask(ctx context.Context, question func() answer) {
	w.group.Go(func() {
		a := question()
		select {
		case w.answers <- a:
		case <-ctx.Done():
		}
	})
}

// look asks after a container, when its turn comes.
func (w *watcher) look(ctx context.Context, c candidate) {
	if w.reported[c.id] || w.asked[c.id] {
		return
	}
	w.asked[c.id] = true
	w.waiting = append(w.waiting, c)
	w.next(ctx)
}

func (w *watcher) next(ctx context.Context) {
	for w.running < inspectors && len(w.waiting) > 0 {
		c := w.waiting[0]
		w.waiting = w.waiting[1:]
		w.running++
		w.ask(ctx, func() answer {
			full, err := w.d.inspect(ctx, c.id)
			if err != nil {
				return answer{of: &c, err: err}
			}
			w.d.hearOOM(ctx, c.id, full.State)
			return answer{of: &c, state: full.State}
		})
	}
}

func (w *watcher) take(ctx context.Context, a answer) {
	if a.of == nil {
		w.listing = false
		w.takeList(ctx, a)
		return
	}
	w.running--
	delete(w.asked, a.of.id)
	switch {
	case gone(a.err):
	case a.err != nil:
		w.failed(a.err)
		w.again.Reset(retryAfter)
	case hasEnded(a.state):
		w.reported[a.of.id] = true
		w.ended(a.of.handle, exitOf(a.state))
	default: // the event came before its container was done ending
		w.again.Reset(retryAfter)
	}
	w.next(ctx)
}

func (w *watcher) takeList(ctx context.Context, a answer) {
	if a.err != nil {
		w.failed(a.err)
		w.again.Reset(retryAfter)
		return
	}
	if w.silent {
		w.d.log.Info("docker tells again what ends")
		w.silent = false
	}
	there := make(map[string]bool, len(a.list))
	for _, s := range a.list {
		there[s.ID] = true
		if s.State != container.StateExited && s.State != container.StateDead {
			continue
		}
		if h, ok := w.d.handle(s.ID, s.Labels); ok {
			w.look(ctx, candidate{s.ID, h})
		}
	}
	for id := range w.reported {
		if !there[id] {
			delete(w.reported, id)
		}
	}
}
