package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/drivertest"
)

// fault stands between a driver and the machine's engine. Where a function is set, it comes first.
type fault struct {
	engine
	create  func(ctx context.Context)
	inspect func(ctx context.Context, id string) error
	events  func(ctx context.Context) (<-chan events.Message, <-chan error)
}

func (f *fault) ContainerCreate(ctx context.Context, c *container.Config, h *container.HostConfig, n *network.NetworkingConfig, p *ocispec.Platform, name string) (container.CreateResponse, error) {
	if f.create != nil {
		f.create(ctx)
	}
	return f.engine.ContainerCreate(ctx, c, h, n, p, name)
}

func (f *fault) ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error) {
	if f.inspect != nil {
		if err := f.inspect(ctx, id); err != nil {
			return container.InspectResponse{}, err
		}
	}
	return f.engine.ContainerInspect(ctx, id)
}

func (f *fault) Events(ctx context.Context, o events.ListOptions) (<-chan events.Message, <-chan error) {
	if f.events != nil {
		return f.events(ctx)
	}
	return f.engine.Events(ctx, o)
}

// shop is a driver with a fault and an owner of its own.
type shop struct {
	*testing.T
	*Driver
	fault *fault
	ctx   context.Context
	ids   atomic.Uint32
}

func newShop(t *testing.T) *shop {
	t.Helper()
	e, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	f := &fault{engine: e}
	owner := driver.Owner{ClusterID: "trouble-" + rand.Text(), NodeID: rand.Text()}
	d, err := newDriver(Config{Owner: owner, DataDir: t.TempDir()}, f)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	s := &shop{T: t, Driver: d, fault: f, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		d.work.Wait()
		d.call, *f = callTimeout, fault{engine: e}
		for _, c := range s.containers() {
			d.discard(c.ID)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shop) config(p drivertest.Program) *driver.Config {
	id := api.MakeID(0, s.ids.Add(1))
	c := &driver.Config{
		Owner: s.owner, Key: driver.Key{Allocation: id}, Text: s.text.Format(id), Job: "shop", Task: "web", Version: 1,
		Network: driver.Network{Address: "127.0.0.1"}, Held: api.Resources{CPU: 100, Memory: 64}, Dir: s.TempDir(),
	}
	configure(c, p)
	return c
}

func (s *shop) start(p drivertest.Program) driver.Handle {
	s.Helper()
	h, _, err := s.Start(s.ctx, s.config(p), func(string) {})
	if err != nil {
		s.Fatal(err)
	}
	return h
}

// containers lists the owner's containers without the fault.
func (s *shop) containers() []container.Summary {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := s.fault.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: s.mine()})
	if err != nil {
		s.Error(err)
	}
	return all
}

// watch sends what Watch reports, until the test ends.
func (s *shop) watch() <-chan driver.Handle {
	seen := make(chan driver.Handle, 64)
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func(h driver.Handle, _ driver.Exit) { seen <- h }) }()
	s.Cleanup(func() { cancel(); <-done })
	return seen
}

func (s *shop) await(seen <-chan driver.Handle, h driver.Handle) {
	s.Helper()
	for {
		select {
		case got := <-seen:
			if got == h {
				return
			}
		case <-s.ctx.Done():
			s.Fatalf("the end of %+v is not reported", h)
		}
	}
}

func TestOneContainerThatHangs(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	stuck, fine := s.start(drivertest.Program{}), s.start(drivertest.Program{})
	s.call = 300 * time.Millisecond
	s.fault.inspect = func(ctx context.Context, id string) error {
		if id == stuck.Data {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	seen := s.watch()
	for _, h := range []driver.Handle{stuck, fine} {
		if err := s.fault.engine.ContainerKill(s.ctx, h.Data, "SIGKILL"); err != nil {
			t.Fatal(err)
		}
	}
	s.await(seen, fine)
	list, err := s.List(s.ctx)
	if err != nil || len(list) != 2 {
		t.Errorf("with one container that hangs the list is %+v, %v; want both", list, err)
	}
}

func TestLostEvents(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sync = 50 * time.Millisecond
	s.fault.events = func(context.Context) (<-chan events.Message, <-chan error) { return nil, nil } // silence
	seen := s.watch()
	s.await(seen, s.start(drivertest.Program{Ends: true}))
}

func TestEventsThatBreakOff(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var broken atomic.Int32
	s.fault.events = func(ctx context.Context) (<-chan events.Message, <-chan error) {
		if broken.Add(1) == 1 {
			errs := make(chan error, 1)
			errs <- errors.New("the engine went away")
			return nil, errs
		}
		return s.fault.engine.Events(ctx, events.ListOptions{Filters: s.mine(filters.Arg("event", "die"))})
	}
	s.await(s.watch(), s.start(drivertest.Program{Ends: true}))
}

func TestCancelledWhileCreating(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	creating, release := make(chan struct{}), make(chan struct{})
	s.fault.create = func(context.Context) { close(creating); <-release }
	ctx, cancel := context.WithCancel(s.ctx)
	result := make(chan error, 1)
	c := s.config(drivertest.Program{})
	go func() {
		_, _, err := s.Start(ctx, c, func(string) {})
		result <- err
	}()
	<-creating
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a start that is cancelled while the engine creates gives %v", err)
	}
	close(release)
	s.work.Wait()
	if left := s.containers(); len(left) != 0 {
		t.Errorf("the cancelled start left %v", left[0].Names)
	}
}

func TestNeverStarted(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := s.config(drivertest.Program{})
	// As an agent leaves it that dies between the two calls.
	made, err := s.fault.engine.ContainerCreate(s.ctx, s.containerConfig(c, &options{}), nil, nil, nil, s.name(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.List(s.ctx)
	if err != nil || len(list) != 1 || list[0].Running || list[0].Exit != nil {
		t.Errorf("a container that was never started is listed as %+v, %v", list, err)
	}
	h, _, err := s.Start(s.ctx, c, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if h.Data == made.ID || len(s.containers()) != 1 {
		t.Errorf("the container that was never started is adopted, or left: %+v", s.containers())
	}
}

func TestForeignContainer(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c := s.config(drivertest.Program{})
	made, err := s.fault.engine.ContainerCreate(s.ctx, &container.Config{Image: c.Image}, nil, nil, nil, s.name(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.discard(made.ID) })
	_, _, err = s.Start(s.ctx, c, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "not Cube's") {
		t.Errorf("with a stranger's container of that name the start gives %v", err)
	}
	if _, err := s.inspect(s.ctx, made.ID); err != nil {
		t.Errorf("the stranger's container is gone: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := free.Addr().(*net.TCPAddr).Port
	free.Close()
	c := s.config(drivertest.Program{})
	c.Ports = []api.PortBinding{{Label: "free", Host: other, To: 80}, {Label: "taken", Host: port, To: 8080}}
	_, _, err = s.Start(s.ctx, c, func(string) {})
	var failed *driver.StartError
	if !errors.As(err, &failed) || failed.Failure != api.FailurePortTaken || failed.Port != port {
		t.Fatalf("with port %d taken the start gives %+v", port, err)
	}
	t.Log(err)
	if left := s.containers(); len(left) != 0 {
		t.Errorf("the failed start left %v", left[0].Names)
	}
}

func TestFingerprintWithoutEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/no.sock")
	d, err := New(Config{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	i := d.Fingerprint(t.Context())
	if i.Detected || i.Healthy || !strings.Contains(i.Reason, "there is no Docker engine at /") {
		t.Errorf("without an engine the driver says %+v", i)
	}
	if _, _, err := d.Start(t.Context(), &driver.Config{Image: "x", Dir: t.TempDir()}, func(string) {}); err == nil {
		t.Error("a start without an engine succeeds")
	} else {
		t.Log(err)
	}
}

func TestUnreachable(t *testing.T) {
	const host = "unix:///var/run/docker.sock"
	for _, c := range []struct {
		err  error
		want string
	}{
		{fs.ErrPermission, "Docker does not answer at /var/run/docker.sock: permission denied; add the user to the docker group or run as root"},
		{errors.New("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"), "Docker does not answer at /var/run/docker.sock: permission denied; add the user to the docker group or run as root"},
		{errors.New("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"), "there is no Docker engine at /var/run/docker.sock; install Docker and start it, or set DOCKER_HOST"},
		{fmt.Errorf("dial: %w", syscall.ECONNREFUSED), "Docker does not answer at /var/run/docker.sock: connection refused; start the engine (systemctl start docker)"},
		{context.DeadlineExceeded, "Docker does not answer at /var/run/docker.sock in time; look at the engine's own log (journalctl -u docker)"},
	} {
		if got := unreachable(host, c.err); got != c.want {
			t.Errorf("%v is explained as %q, want %q", c.err, got, c.want)
		}
	}
}

func TestReason(t *testing.T) {
	for in, want := range map[string]string{
		"Error response from daemon: No such image: cube/nope:1\n": "No such image: cube/nope:1",
		`Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`: `"nope": executable file not found in $PATH`,
		`OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "/x": stat /x: no such file or directory: unknown`:                                                       `"/x": stat /x: no such file or directory`,
	} {
		if got := reason(errors.New(in)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestAWantOfMemoryThatTheEngineHeardOfLate: its state knows nothing of it, but its events do.
func TestAWantOfMemoryThatTheEngineHeardOfLate(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, c := range []struct {
		signal string
		want   bool
	}{{"SIGUSR1", true}, {"SIGKILL", false}} {
		h := s.start(drivertest.Program{Lines: 1, Memory: 256})
		output, err := s.fault.engine.ContainerLogs(s.ctx, h.Data, container.LogsOptions{ShowStdout: true, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadFull(output, make([]byte, 8)) // once it prints, it listens to signals
		if err = errors.Join(err, output.Close()); err != nil {
			t.Fatal(err)
		}
		seen := s.watch()
		if err := s.fault.engine.ContainerKill(s.ctx, h.Data, c.signal); err != nil {
			t.Fatal(err)
		}
		s.await(seen, h)
		full, err := s.fault.engine.ContainerInspect(s.ctx, h.Data)
		if err != nil {
			t.Fatal(err)
		}
		full.State.OOMKilled = false
		if s.hearOOM(s.ctx, h.Data, full.State); full.State.OOMKilled != c.want {
			t.Errorf("after %s (%d) a want of memory is heard of: %v, want %v", c.signal, full.State.ExitCode, full.State.OOMKilled, c.want)
		}
	}
}
