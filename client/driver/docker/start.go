package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"cube/api"
	"cube/client/driver"
)

// started is how a start went.
type started struct {
	id    string
	at    time.Time
	fresh bool // made by this start, not adopted
	err   error
}

// Start creates and starts a container; see driver.Driver. Its image is pulled if the engine does not have it.
//
// The engine does not take back a request: when ctx ends while a container is being created, Start returns, and what
// comes of the request is removed when it is there. Until then the instance's lane stays taken.
func (d *Driver) Start(ctx context.Context, c *driver.Config, progress driver.Progress) (driver.Handle, time.Time, error) {
	leave, err := d.lanes.Enter(ctx, c.Key)
	if err != nil {
		return driver.Handle{}, time.Time{}, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	results := make(chan started) // no buffer: a result is handed over, or it is known that nobody takes it
	d.work.Go(func() {
		defer leave()
		r := d.start(ctx, c, progress)
		select {
		case results <- r:
		case <-ctx.Done():
			if r.err == nil && r.fresh {
				d.discard(r.id)
			}
		}
	})
	select {
	case r := <-results:
		if r.err == nil {
			return driver.Handle{Key: c.Key, Data: r.id}, r.at, nil
		}
		err = r.err
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // whatever else went wrong followed from that
		err = fmt.Errorf("start the container %s: %w", d.name(c.Key), ctx.Err())
	}
	return driver.Handle{}, time.Time{}, err
}

func (d *Driver) start(ctx context.Context, c *driver.Config, progress driver.Progress) started {
	o, err := parseOptions(c.Options)
	if err != nil {
		return failed(true, err)
	}
	if err := d.meet(ctx); err != nil {
		return failed(false, err)
	}
	if err := d.archive.Place(c.Key.Allocation, c.Dir); err != nil {
		return failed(false, err)
	}
	if o.forcePull {
		if err := d.pullImage(ctx, c.Image, progress); err != nil {
			return started{err: err}
		}
	}
	r := d.create(ctx, c, o, progress)
	if r.err != nil || !r.fresh {
		return r
	}
	if err := d.run(ctx, c, &r); err != nil {
		d.discard(r.id)
		return started{err: err}
	}
	return r
}

// run starts the created container and asks when that was.
func (d *Driver) run(ctx context.Context, c *driver.Config, r *started) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	ctx, cancel := d.within(context.WithoutCancel(ctx))
	defer cancel()
	if err := d.engine.ContainerStart(ctx, r.id, container.StartOptions{}); err != nil {
		return startError(c, d.reason(err))
	}
	i, err := d.engine.ContainerInspect(ctx, r.id)
	if err != nil {
		return failed(false, fmt.Errorf("ask when the container started: %s", d.reason(err))).err
	}
	r.at = instant(i.State.StartedAt)
	return nil
}

// conflicts bounds how often a name that is taken is cleared away: each time it was somebody else who took it.
const conflicts = 3

// create makes the container, or finds the one that is there.
func (d *Driver) create(ctx context.Context, c *driver.Config, o *options, progress driver.Progress) started {
	name := d.name(c.Key)
	pulled := o.forcePull
	for range conflicts {
		if err := ctx.Err(); err != nil {
			return started{err: fmt.Errorf("create the container: %w", err)}
		}
		made, err := d.tryCreate(ctx, c, o, name)
		switch {
		case err == nil:
			return started{id: made, fresh: true}
		case gone(err) && !pulled: // the image: there is nothing else that it names
			pulled = true
			if err := d.pullImage(ctx, c.Image, progress); err != nil {
				return started{err: err}
			}
		case errdefs.IsConflict(err):
			if r, done := d.adopt(ctx, c, name); done {
				return r
			}
		default:
			permanent := errdefs.IsInvalidArgument(err) || gone(err)
			return failed(permanent, fmt.Errorf("create a container of %s: %s", c.Image, d.reason(err)))
		}
	}
	return failed(false, fmt.Errorf("create the container %s: its name is taken again and again", name))
}

func (d *Driver) tryCreate(ctx context.Context, c *driver.Config, o *options, name string) (id string, err error) {
	ctx, cancel := d.within(context.WithoutCancel(ctx))
	defer cancel()
	made, err := d.engine.ContainerCreate(ctx, d.containerConfig(c, o), hostConfig(c, o), nil, nil, name)
	return made.ID, err
}

// adopt looks at the container that has the name. It is the instance if its marks agree and it has ever run; otherwise
// it is removed, and done is false: the name is free now.
func (d *Driver) adopt(ctx context.Context, c *driver.Config, name string) (r started, done bool) {
	i, err := d.inspect(ctx, name)
	if gone(err) {
		return started{}, false
	}
	if err != nil {
		return failed(false, fmt.Errorf("look at the container %s that is there already: %s", name, d.reason(err))), true
	}
	want := d.labels(c, &options{})
	agree, ours := true, i.Config.Labels[labelCluster] != ""
	for _, k := range marks {
		agree = agree && i.Config.Labels[k] == want[k]
	}
	at := instant(i.State.StartedAt)
	if agree && !at.IsZero() {
		return started{id: i.ID, at: at}, true
	}
	if !ours {
		return failed(true, fmt.Errorf("a container that is not Cube's has the name %s; remove it (docker rm -f %s)", name, name)), true
	}
	d.log.Info("replacing a container whose labels do not agree, or that was never started", "container", name)
	if err := d.clear(ctx, i.ID, true); err != nil {
		return failed(false, err), true
	}
	return started{}, false
}

// discard removes a container that must not stay, whatever becomes of the caller.
func (d *Driver) discard(id string) {
	if err := d.clear(context.Background(), id, true); err != nil {
		d.log.Warn("a container of a failed start is left", "container", id, "error", err)
	}
}

// clear removes a container with its anonymous volumes and returns when it is gone.
func (d *Driver) clear(ctx context.Context, id string, force bool) error {
	within, cancel := d.within(ctx)
	defer cancel()
	err := d.engine.ContainerRemove(within, id, container.RemoveOptions{RemoveVolumes: true, Force: force})
	switch {
	case err == nil, gone(err):
		return nil
	case errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress"):
		return d.await(within, id, container.WaitConditionRemoved)
	}
	return fmt.Errorf("remove the container %.12s: %w", id, errors.New(d.reason(err)))
}

func failed(permanent bool, err error) started {
	return started{err: &driver.StartError{Failure: api.FailureStart, Permanent: permanent, Err: err}}
}

// startError tells what kept the container from starting, from the engine's words.
func startError(c *driver.Config, text string) error {
	if strings.Contains(text, "address already in use") || strings.Contains(text, "port is already allocated") {
		port := takenPort(c, text)
		return &driver.StartError{Failure: api.FailurePortTaken, Port: port, Err: fmt.Errorf("port %d of %s is taken by something outside Cube", port, c.Address)}
	}
	if trouble := deviceTrouble(c, text); trouble != "" {
		return failed(true, errors.New(trouble)).err // until the machine is set right
	}
	// What does not depend on the moment: the command, the user or the address is wrong.
	permanent := false
	for _, s := range []string{"executable file not found", "no such file or directory", "permission denied", "unable to find user", "cannot assign requested address"} {
		permanent = permanent || strings.Contains(text, s)
	}
	return failed(permanent, fmt.Errorf("start a container of %s: %s", c.Image, text)).err
}

// takenPort is the host port that the engine's message names, the first one if it names none.
func takenPort(c *driver.Config, text string) int {
	for _, p := range c.Ports {
		for _, end := range []string{" ", ":"} {
			if strings.Contains(text, fmt.Sprintf(":%d%s", p.Host, end)) {
				return p.Host
			}
		}
	}
	if len(c.Ports) == 0 {
		return 0
	}
	return c.Ports[0].Host
}

// instant reads a time of the engine's; its "never" is the zero time.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
