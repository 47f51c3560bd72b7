// Package docker runs instances as containers of a Docker engine.
//
// The engine is the truth: what a container is to Cube stands in its labels, and nothing else is remembered between
// calls. It is the only package that knows the Docker SDK.
package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"
	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/transcript"
)

// Name is what a task's driver field says.
const Name = "docker"

const (
	// callTimeout stands behind every call to the engine that is answered at once when all is well. A machine that
	// starts dozens of containers makes each wait for seconds, so it is long.
	callTimeout = 30 * time.Second
	// fingerprintTimeout is shorter: an engine that takes longer to say its version is not fit to start anything.
	fingerprintTimeout = 5 * time.Second
	// pullTimeout is how long a pull may make no progress.
	pullTimeout = 60 * time.Second
)

// Config is what a Driver is made of.
type Config struct {
	Owner   driver.Owner
	DataDir string // where kept output is found again; it belongs to this owner's driver alone
	Logger  hclog.Logger
}

// Driver is the docker driver. Make it with New.
type Driver struct {
	owner   driver.Owner
	text    api.IDText
	engine  engine
	archive *transcript.Archive
	log     hclog.Logger
	lanes   driver.Lanes

	meeting chan struct{} // holds one token: who has it agrees on the API version with the engine
	met     atomic.Bool

	call time.Duration // callTimeout, pullTimeout and syncEvery, but in tests of what hangs
	pull time.Duration
	sync time.Duration

	work sync.WaitGroup // starts that nobody waits for any more
}

var _ driver.Driver = (*Driver)(nil)

// New makes a driver for the engine that the environment names (DOCKER_HOST; by default the socket
// /var/run/docker.sock). It succeeds also while no engine answers: Fingerprint tells.
func New(c Config) (*Driver, error) {
	e, err := dial()
	if err != nil {
		return nil, err
	}
	return newDriver(c, e)
}

func newDriver(c Config, e engine) (*Driver, error) {
	archive, err := transcript.OpenArchive(c.DataDir)
	if err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Driver{
		owner: c.Owner, text: api.NewIDText(c.Owner.ClusterID), engine: e, archive: archive, log: log,
		meeting: make(chan struct{}, 1), call: callTimeout, pull: pullTimeout, sync: syncEvery,
	}, nil
}

// Name returns "docker".
func (d *Driver) Name() string { return Name }

// CheckOptions validates a task's config block against the driver's table.
func (d *Driver) CheckOptions(options map[string]any) error {
	_, err := parseOptions(options)
	return err
}

// Close waits for what is being cleaned up and closes the connections. Containers go on running.
func (d *Driver) Close() error {
	d.work.Wait()
	if err := d.engine.Close(); err != nil {
		return fmt.Errorf("close the connections to Docker: %w", err)
	}
	return nil
}

// Fingerprint asks the engine what it is. Its attributes are version, api_version, os, cgroup_version and storage.
func (d *Driver) Fingerprint(ctx context.Context) api.DriverInfo {
	ctx, cancel := context.WithTimeout(ctx, fingerprintTimeout)
	defer cancel()
	if err := d.meet(ctx); err != nil {
		return api.DriverInfo{Reason: err.Error()}
	}
	info, err := d.engine.Info(ctx)
	if err != nil {
		return api.DriverInfo{Detected: true, Reason: unreachable(d.engine.DaemonHost(), err)}
	}
	found := api.DriverInfo{Detected: true, Attributes: map[string]string{
		"version":        info.ServerVersion,
		"api_version":    d.engine.ClientVersion(),
		"os":             info.OSType,
		"cgroup_version": info.CgroupVersion,
		"storage":        info.Driver,
	}}
	switch {
	case versions.LessThan(d.engine.ClientVersion(), minimum):
		found.Reason = fmt.Sprintf("Docker Engine %s speaks API %s; %s is needed: update it to 19.03 or later", info.ServerVersion, d.engine.ClientVersion(), minimum)
	case info.OSType != "linux":
		found.Reason = fmt.Sprintf("the Docker engine runs %s containers; Linux ones are needed", info.OSType)
	default:
		found.Healthy = true
	}
	return found
}

// meet agrees with the engine on the API version, once. Every public method that asks something of the engine begins with
// it: the SDK would do it by itself, but some of its methods look at the version before (found by the race detector).
func (d *Driver) meet(ctx context.Context) error {
	if d.met.Load() {
		return nil
	}
	within, cancel := d.within(ctx)
	defer cancel()
	failed := func(err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("ask Docker for its version: %w", ctx.Err())
		}
		return errors.New(unreachable(d.engine.DaemonHost(), err))
	}
	select {
	case d.meeting <- struct{}{}:
		defer func() { <-d.meeting }()
	case <-within.Done():
		return failed(within.Err())
	}
	if d.met.Load() {
		return nil
	}
	ping, err := d.engine.Ping(within)
	if err != nil {
		return failed(err)
	}
	d.engine.NegotiateAPIVersionPing(ping)
	d.met.Store(true)
	return nil
}

// within bounds a call to the engine.
func (d *Driver) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.call, fmt.Errorf("docker has not answered for %v: %w", d.call, context.DeadlineExceeded))
}

// beginning bounds only how a stream begins: it ends with ctx or cancel, and by itself unless begun is called in time.
func (d *Driver) beginning(ctx context.Context) (stream context.Context, begun func(), cancel context.CancelFunc) {
	stream, cancelCause := context.WithCancelCause(ctx)
	t := time.AfterFunc(d.call, func() {
		cancelCause(fmt.Errorf("docker has not answered for %v: %w", d.call, context.DeadlineExceeded))
	})
	return stream, func() { t.Stop() }, func() { t.Stop(); cancelCause(context.Canceled) }
}

// inspect asks for all that the engine knows of a container.
func (d *Driver) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	return d.engine.ContainerInspect(ctx, id)
}

// mine selects the containers of the owner.
func (d *Driver) mine(more ...filters.KeyValuePair) filters.Args {
	f := filters.NewArgs(more...)
	f.Add("label", labelCluster+"="+d.owner.ClusterID)
	f.Add("label", labelNode+"="+d.owner.NodeID)
	return f
}

// list asks for the owner's containers, running or not.
func (d *Driver) list(ctx context.Context, more ...filters.KeyValuePair) ([]container.Summary, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	all, err := d.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: d.mine(more...)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return all, nil
}
