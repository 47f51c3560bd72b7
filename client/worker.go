package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"cube/api"
	"cube/api/attach"
	"cube/client/driver"
	"cube/client/estate"
	"cube/client/meter"
)

// Ping answers at once.
func (c *Client) Ping(ctx context.Context) error { return ctx.Err() }

// Stats measures the node's load now.
func (c *Client) Stats(ctx context.Context) (*api.NodeLoad, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	load, err := c.cfg.Machine.Load(c.cfg.DataDir)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "measure node %s: %w", c.cfg.Name, err)
	}
	return load, nil
}

// Usage measures instances of this node with their parts, and says how their checks and parts stand.
func (c *Client) Usage(ctx context.Context, allocations []api.ID) ([]api.AllocationUsage, error) {
	var targets []meter.Target
	found := map[api.ID]*api.AllocationUsage{}
	err := c.runner.ask(ctx, func() {
		for _, id := range allocations {
			if a := c.runner.allocs[id]; a != nil && a.Stage != stageDone {
				p := c.runner.policy(a)
				found[id] = &api.AllocationUsage{ID: id, Checks: a.checks(p), Parts: a.partStatuses(p)}
				targets = append(targets, c.runner.targets(a)...)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, u := range c.visits.meter.Measure(ctx, targets) {
		sum := found[u.ID]
		sum.CPU, sum.Memory = sum.CPU+u.CPU, sum.Memory+u.Memory
		if u.At.After(sum.At) {
			sum.At = u.At
		}
	}
	var all []api.AllocationUsage
	for _, id := range allocations {
		if u := found[id]; u != nil && (!u.At.IsZero() || len(u.Checks)+len(u.Parts) > 0) {
			all = append(all, *u)
			delete(found, id)
		}
	}
	return all, nil
}

// targets are what there is to measure of an allocation: its instance and its parts that run.
func (r *runner) targets(a *allocation) (out []meter.Target) {
	d := r.drivers[a.Driver]
	if d == nil {
		return nil
	}
	if a.Stage == stageRun {
		out = append(out, meter.Target{Driver: d.Driver, Handle: a.Run})
	}
	for i := range a.Crew {
		if m := &a.Crew[i]; m.Stage == stageRun {
			out = append(out, meter.Target{Driver: d.Driver, Handle: m.Run})
		}
	}
	return out
}

// Logs streams the output of an allocation that this node runs, or has run and still keeps; CodeNotFound for any other.
// With Follow it goes on over restarts, until the allocation is terminal. The caller closes it.
func (c *Client) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	f, err := c.runner.look(ctx, allocation, r.Part)
	if err != nil {
		return nil, err
	}
	if f.driver == nil {
		return nil, api.Errorf(api.CodeUnavailable, "allocation %s: its driver is not enabled on node %s", f.text, c.cfg.Name)
	}
	if !r.Follow {
		return f.driver.Logs(ctx, allocation, r)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &logFollower{c: c, ctx: ctx, cancel: cancel, id: allocation, request: r}
	if err := l.open(f); err != nil {
		cancel()
		return nil, err
	}
	return l, nil
}

// glimpse is what others than the runner may know of an allocation.
type glimpse struct {
	text     string
	driver   driver.Driver // nil: not on this node
	instance driver.Handle // the one that runs or may run; zero: none
	started  int64         // when the latest instance did, Unix milliseconds
	ended    bool          // terminal
	quiet    bool          // between two instances: the former one is removed
	changed  chan struct{} // closed when there is something new to see
}

// look asks the runner for an allocation, or for a part of its task.
func (r *runner) look(ctx context.Context, id api.ID, part string) (g glimpse, err error) {
	found, known := false, true
	err = r.ask(ctx, func() {
		g.text = r.text.Format(id)
		a := r.allocs[id]
		if a == nil {
			return
		}
		found = true
		g.ended = a.Stage == stageDone
		it := a
		if part != "" {
			it, known = r.partOf(a, part)
		}
		g.started = it.Status.StartedAt
		if it.Stage == stageRun {
			g.instance = it.Run
		}
		g.quiet = it.Stage == stageWait && len(it.Old) == 0
		if d := r.drivers[a.Driver]; d != nil {
			g.driver = d.Driver
		}
		if r.watched[id] == nil {
			r.watched[id] = make(chan struct{})
		}
		g.changed = r.watched[id]
	})
	if err == nil && !known {
		err = api.Errorf(api.CodeNotFound, "the task of allocation %.8s has no sidecar, prestart or poststop %.80q", g.text, part)
	}
	if err == nil && !found {
		err = api.Errorf(api.CodeNotFound, "allocation %s is not on node %s, or no longer", g.text, r.c.cfg.Name)
	}
	return g, err
}

// partOf returns the latest of a part of the allocation, which has never been anything if there was none yet. known is false when
// its task has no such part.
func (r *runner) partOf(a *allocation, part string) (latest *allocation, known bool) {
	latest, known = &allocation{}, r.policy(a).kind(part) != ""
	for i := range a.Crew {
		if m := &a.Crew[i]; m.Part == part && (latest.ID == 0 || m.Of > latest.Of) {
			latest, known = m, true
		}
	}
	return latest, known
}

// logFollower follows an allocation's output from instance to instance: a driver's stream ends with its instance.
type logFollower struct {
	c       *Client
	ctx     context.Context // ends with the caller's, or with Close
	cancel  context.CancelFunc
	id      api.ID
	request api.LogRequest

	// of the one goroutine that reads
	started int64 // the latest instance when the present stream was opened
	seen    int64 // bytes of output kept of the instances before the next one, all of them read; -1: not known

	mu  sync.Mutex // guards now against Close
	now io.ReadCloser
}

func (l *logFollower) open(g glimpse) error {
	in, err := g.driver.Logs(l.ctx, l.id, l.request)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.now != nil {
		_ = l.now.Close()
	}
	l.now = in
	l.mu.Unlock()
	l.started = g.started
	return nil
}

// Read reads from the present instance's output; at its end it waits for the next one.
func (l *logFollower) Read(p []byte) (int, error) {
	for {
		l.mu.Lock()
		in := l.now
		l.mu.Unlock()
		n, err := in.Read(p)
		if n > 0 || err != io.EOF {
			if n > 0 && err == io.EOF {
				err = nil
			}
			return n, err
		}
		if err := l.next(); err != nil {
			return 0, err
		}
	}
}

// next opens the output of the instances that follow, as soon as there is one; io.EOF when there will be none.
func (l *logFollower) next() error {
	l.seen = -1
	for {
		g, err := l.c.runner.look(l.ctx, l.id, l.request.Part)
		switch {
		case api.CodeOf(err) == api.CodeNotFound:
			return io.EOF
		case err != nil:
			return err
		case g.started != l.started && g.driver != nil:
			return l.reopen(g)
		case g.ended:
			return io.EOF
		case g.quiet && l.seen < 0 && g.driver != nil:
			l.seen = l.measure(g.driver)
		}
		select {
		case <-g.changed:
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
}

// measure counts what is kept of the allocation's output.
func (l *logFollower) measure(d driver.Driver) int64 {
	r := l.request
	r.Tail, r.Follow = -1, false
	in, err := d.Logs(l.ctx, l.id, r)
	if err != nil {
		return -1
	}
	defer in.Close()
	n, err := io.Copy(io.Discard, in)
	if err != nil {
		return -1
	}
	return n
}

// reopen opens the output anew, without what has been read. Where it is not known how much that is, what a new instance
// has written already is lost.
func (l *logFollower) reopen(g glimpse) error {
	l.request.Tail = 0
	if l.seen >= 0 {
		l.request.Tail = -1
	}
	if err := l.open(g); err != nil {
		return err
	}
	if l.seen > 0 {
		if _, err := io.CopyN(io.Discard, l.now, l.seen); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// Close ends the stream, also under a Read that waits.
func (l *logFollower) Close() error {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now.Close()
}

// maxExecs is how many commands people may have run on a node at a time. Each holds a few hundred KiB and some
// connections; who needs more has written a loop.
const maxExecs = 64

// visits are what people ask of the node itself: the commands that they have run now, and what its instances use.
type visits struct {
	places  chan struct{}  // holds one for each command
	sends   chan struct{}  // holds one for each directory that is given away
	streams atomic.Int32   // directories that are given away or taken over
	running sync.WaitGroup // of the commands' and sends' goroutines
	meter   meter.Meter
}

// any reports whether there is a command, or a directory on its way. While there is the node does not leave a server of its own
// accord: the connection would break with the session.
func (v *visits) any() bool { return len(v.places) > 0 || v.streams.Load() > 0 }

// Exec runs a command beside an instance of this node; see api.Allocations. What happens to the instance is none of its
// doing: nothing is reported, and no policy is asked.
func (c *Client) Exec(ctx context.Context, allocation api.ID, r api.ExecRequest) (io.ReadWriteCloser, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	g, err := c.runner.look(ctx, allocation, r.Part)
	switch {
	case err != nil:
		return nil, err
	case g.driver == nil:
		return nil, api.Errorf(api.CodeUnavailable, "allocation %s: its driver is not enabled on node %s", g.text, c.cfg.Name)
	case g.instance == driver.Handle{} && r.Part != "":
		return nil, api.Errorf(api.CodeConflict, "%s of allocation %.8s does not run on node %s at the moment", r.Part, g.text, c.cfg.Name)
	case g.instance == driver.Handle{}:
		return nil, api.Errorf(api.CodeConflict, "allocation %.8s does not run on node %s at the moment", g.text, c.cfg.Name)
	}
	select {
	case c.visits.places <- struct{}{}:
	default:
		return nil, api.Errorf(api.CodeBusy, "node %s runs %d commands beside its instances already; end one first", c.cfg.Name, maxExecs)
	}
	theirs, ours := net.Pipe()
	c.visits.running.Go(func() {
		defer func() { <-c.visits.places }()
		attach.Serve(ctx, ours, func(ctx context.Context, command *attach.Command) (int, error) {
			return g.driver.Exec(ctx, g.instance, execRequest(&r, command))
		})
	})
	return theirs, nil
}

func execRequest(r *api.ExecRequest, command *attach.Command) *driver.ExecRequest {
	out := &driver.ExecRequest{
		Command: r.Command, Env: r.Env, WorkDir: r.WorkDir, TTY: r.TTY, Size: r.Size,
		Stdout: command.Stdout, Stderr: command.Stderr, Resize: command.Resize, Signals: command.Signals,
	}
	if r.Stdin {
		out.Stdin = command.Stdin
	}
	return out
}

// Estate streams the sticky directory of an allocation that has ended here, or removes it once it is taken over; see api.Worker.
func (c *Client) Estate(ctx context.Context, allocation api.ID, taken bool) (io.ReadCloser, error) {
	own, text, err := c.runner.estateOf(ctx, allocation, taken)
	if err != nil {
		return nil, err
	}
	if taken {
		if err := os.RemoveAll(own); err != nil {
			return nil, api.Errorf(api.CodeInternal, "remove a directory that was taken over: %w", err)
		}
		return nil, nil
	}
	if _, err := os.Stat(own); err != nil {
		return nil, api.Errorf(api.CodeNotFound, "allocation %s has no directory on node %s any more", text, c.cfg.Name)
	}
	select {
	case c.visits.sends <- struct{}{}:
	default:
		return nil, api.Errorf(api.CodeBusy, "node %s sends %d directories already", c.cfg.Name, fetchesAtOnce)
	}
	c.visits.streams.Add(1)
	in, out := io.Pipe()
	c.visits.running.Go(func() {
		defer func() { <-c.visits.sends }()
		defer c.visits.streams.Add(-1)
		out.CloseWithError(estate.Pack(ctx, out, own)) // it never fails
	})
	return in, nil
}

// fetch asks the server of the present session for a directory of another node; see api.Estates.
func (l *link) fetch(ctx context.Context, r api.FetchRequest) (io.ReadCloser, error) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return nil, api.Errorf(api.CodeUnavailable, "this node is not connected to a server")
	}
	return conn.Fetch(ctx, l.c.id, r)
}

// estateOf returns the sticky directory of an allocation that has ended. With taken the node need not keep it any more.
func (r *runner) estateOf(ctx context.Context, id api.ID, taken bool) (own, text string, err error) {
	fault := error(nil)
	err = r.ask(ctx, func() {
		a := r.allocs[id]
		text = r.text.Format(id)
		if a == nil || r.c.dir == nil || !r.sticky(a) {
			fault = api.Errorf(api.CodeNotFound, "allocation %s has left nothing on node %s", text, r.c.cfg.Name)
			return
		}
		if a.Stage != stageDone {
			fault = api.Errorf(api.CodeBusy, "allocation %s has not ended on node %s", text, r.c.cfg.Name)
			return
		}
		if taken {
			a.Handed = true
			r.keep(a)
		}
		own = estate.Own(r.c.dir.Allocation(text))
	})
	return own, text, errors.Join(err, fault)
}

// Volume takes one step of making or removing a volume of this node; see api.Worker. What the node offers then is on its way to
// the servers when it returns.
func (c *Client) Volume(ctx context.Context, change api.VolumeChange) (*api.VolumeDone, error) {
	if c.cfg.Volumes == nil {
		return nil, api.Errorf(api.CodeNotYet, "node %s makes no volumes", c.cfg.Name)
	}
	if change.Step == api.VolumeWithdraw || change.Step == api.VolumeRemove {
		holder := ""
		err := c.runner.ask(ctx, func() { holder = c.runner.holderOf(change.Name) })
		switch {
		case err != nil:
			return nil, err
		case holder != "":
			return nil, api.Errorf(api.CodeConflict, "volume %s is held by %s, which has not ended on node %s", change.Name, holder, c.cfg.Name)
		}
	}
	done, err := c.cfg.Volumes.Change(change)
	c.fingerprintVolumes() // also after an error: a part may be done
	c.refresh()
	c.link.outOfDate(c.describe())
	return done, err
}

// holderOf returns an instance that has not ended and holds the volume, "" if there is none. Servers may have given one up that
// runs on here.
func (r *runner) holderOf(volume string) string {
	for _, a := range r.allocs {
		if t := r.spec(a).task(a.Task); a.Stage != stageDone && t != nil &&
			slices.ContainsFunc(t.Volumes, func(v api.VolumeRequest) bool { return v.Source == volume }) {
			return api.InstanceName(a.Job, a.Task, a.Slot)
		}
	}
	return ""
}
