package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// engine is what Cube uses of the Docker SDK: the one seam to put another client, or a fault, behind.
type engine interface {
	Ping(ctx context.Context) (types.Ping, error)
	Info(ctx context.Context) (system.Info, error)
	NegotiateAPIVersionPing(types.Ping)
	ClientVersion() string
	DaemonHost() string
	ContainerCreate(ctx context.Context, config *container.Config, host *container.HostConfig, network *network.NetworkingConfig, platform *ocispec.Platform, name string) (container.CreateResponse, error)
	ContainerStart(ctx context.Context, id string, options container.StartOptions) error
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
	ContainerKill(ctx context.Context, id, signal string) error
	ContainerWait(ctx context.Context, id string, condition container.WaitCondition) (<-chan container.WaitResponse, <-chan error)
	ContainerRemove(ctx context.Context, id string, options container.RemoveOptions) error
	ContainerList(ctx context.Context, options container.ListOptions) ([]container.Summary, error)
	ContainerLogs(ctx context.Context, id string, options container.LogsOptions) (io.ReadCloser, error)
	ContainerStatsOneShot(ctx context.Context, id string) (container.StatsResponseReader, error)
	ContainerExecCreate(ctx context.Context, id string, options container.ExecOptions) (container.ExecCreateResponse, error)
	ContainerExecInspect(ctx context.Context, execID string) (container.ExecInspect, error)
	ContainerExecResize(ctx context.Context, execID string, options container.ResizeOptions) error
	Dialer() func(context.Context) (net.Conn, error)
	ImagePull(ctx context.Context, reference string, options image.PullOptions) (io.ReadCloser, error)
	Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error)
	Close() error
}

var _ engine = (*client.Client)(nil)

// dial makes a client of the engine that DOCKER_HOST and its relatives name. Nothing is sent yet.
func dial() (engine, error) {
	e, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("read the Docker settings of the environment (DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY): %w", err)
	}
	return e, nil
}

// minimum is the oldest engine API that has what Cube needs; Docker Engine 19.03 brought it.
const minimum = "1.40"

// unreachable explains why the engine does not answer, and what to do.
func unreachable(host string, err error) string {
	where := strings.TrimPrefix(host, "unix://")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("Docker does not answer at %s: permission denied; add the user to the docker group or run as root", where)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("there is no Docker engine at %s; install Docker and start it, or set DOCKER_HOST", where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("Docker does not answer at %s: connection refused; start the engine (systemctl start docker)", where)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("Docker does not answer at %s in time; look at the engine's own log (journalctl -u docker)", where)
	case says(err, "permission denied"): // the client keeps the text of some errors only
		return unreachable(host, fs.ErrPermission)
	case says(err, "no such file or directory"), says(err, "Is the docker daemon running"):
		return unreachable(host, fs.ErrNotExist)
	}
	return fmt.Sprintf("Docker does not answer at %s: %s", where, reason(err))
}

func says(err error, words string) bool { return strings.Contains(err.Error(), words) }

// reason says in one line why a call failed.
func (d *Driver) reason(err error) string {
	if client.IsErrConnectionFailed(err) {
		return unreachable(d.engine.DaemonHost(), err)
	}
	return reason(err)
}

// reason is the engine's own words in one line, without what wraps them.
func reason(err error) string {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err // the URL of the engine's API is of no use to people
	}
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " ")
	text = strings.TrimPrefix(text, "Error response from daemon: ")
	if says(err, "OCI runtime create failed") || says(err, refused) || says(err, "failed to create shim") {
		// The layers under the engine each add their name; the last one knows.
		if i := strings.LastIndex(text, "caused: "); i >= 0 {
			text = text[i+len("caused: "):]
		}
		if i := strings.Index(text, "exec: "); i >= 0 {
			text = text[i+len("exec: "):]
		}
		text = strings.TrimSuffix(text, ": unknown")
	}
	return text
}

// gone reports whether the engine says that what was named does not exist.
func gone(err error) bool { return errdefs.IsNotFound(err) }
