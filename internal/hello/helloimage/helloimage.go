// Package helloimage builds the hello program and hands it to the Docker engine as an image, with no registry: for
// tests, examples and the quickstart.
//
// It speaks the engine's HTTP API by itself, three requests of it, because only the docker driver may import the SDK.
package helloimage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tag is the image's name. It is on no registry.
const Tag = "cube/hello:1"

// digestLabel carries the SHA-256 of the program in an image, so that the same one is not imported again.
const digestLabel = "cube.hello.sha256"

// program is the import path of what is built.
const program = "cube/internal/hello"

// Ensure makes sure that the engine has the image Tag of the program as it is in this tree now, and returns Tag. It
// must run inside the module, and may run in several processes at once.
func Ensure(ctx context.Context) (string, error) { return Tag, EnsureTag(ctx, Tag) }

// EnsureTag is Ensure for an image of another name.
func EnsureTag(ctx context.Context, tag string) error {
	dir, err := os.MkdirTemp("", "cube-hello-")
	if err != nil {
		return fmt.Errorf("make a directory to build in: %w", err)
	}
	defer os.RemoveAll(dir)
	path, err := Binary(ctx, dir)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the built program: %w", err)
	}
	// Test packages run in parallel: without the lock each would import the image, and the last one's tag would leave
	// the others' without a name.
	unlock, err := lock(filepath.Join(os.TempDir(), "cube-hello-image.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	return importImage(ctx, tag, content)
}

// Binary builds the program statically into dir and returns its path.
func Binary(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "hello")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return path, nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the image: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func importImage(ctx context.Context, tag string, content []byte) error {
	e, err := dial()
	if err != nil {
		return err
	}
	defer e.client.CloseIdleConnections()
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	if have, err := e.label(ctx, tag); err != nil || have == digest {
		return err
	}
	layer, err := layer(content)
	if err != nil {
		return err
	}
	repository, version, ok := strings.Cut(tag, ":")
	if !ok {
		version = "latest"
	}
	query := url.Values{"fromSrc": {"-"}, "repo": {repository}, "tag": {version}, "changes": {
		`ENTRYPOINT ["/hello"]`, "EXPOSE 8080", "LABEL " + digestLabel + "=" + digest,
	}}
	answer, err := e.do(ctx, http.MethodPost, "/images/create?"+query.Encode(), layer)
	if err != nil {
		return fmt.Errorf("import the image %s: %w", tag, err)
	}
	// The status is 200 before the work is done: what went wrong stands in the stream.
	for d := json.NewDecoder(bytes.NewReader(answer)); ; {
		var line struct{ Error string }
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read how the import of %s went: %w", tag, err)
		}
		if line.Error != "" {
			return fmt.Errorf("import the image %s: %s", tag, line.Error)
		}
	}
}

// layer is the file system of the image: the program and a directory for temporary files.
func layer(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}),
		w.WriteHeader(&tar.Header{Name: "hello", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}),
	)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack the image: %w", err)
	}
	return b.Bytes(), nil
}

// engine is the Docker engine's HTTP API without a version: it then speaks its own.
type engine struct {
	client *http.Client
	host   string
}

// dial reads DOCKER_HOST as the docker command does, without TLS: what is built here goes to this machine's engine.
func dial() (*engine, error) {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	scheme, address, _ := strings.Cut(host, "://")
	if scheme != "unix" && scheme != "tcp" {
		return nil, fmt.Errorf("cannot import an image through DOCKER_HOST %q: use unix:// or tcp://", host)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, scheme, address)
	}}
	return &engine{client: &http.Client{Transport: transport, Timeout: time.Minute}, host: host}, nil
}

// errNotFound is the engine's 404.
var errNotFound = errors.New("not found")

func (e *engine) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := e.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no Docker engine answers at %s; install docker.io and start dockerd: %w", e.host, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the engine's answer: %w", err)
	case response.StatusCode == http.StatusNotFound:
		return nil, errNotFound
	case response.StatusCode >= http.StatusBadRequest:
		return nil, fmt.Errorf("the engine answers %s: %s", response.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}

// label returns the digest that the image of that name carries, "" when there is none.
func (e *engine) label(ctx context.Context, tag string) (string, error) {
	answer, err := e.do(ctx, http.MethodGet, "/images/"+tag+"/json", nil)
	if errors.Is(err, errNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var image struct {
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(answer, &image); err != nil {
		return "", fmt.Errorf("read what the engine says of %s: %w", tag, err)
	}
	return image.Config.Labels[digestLabel], nil
}
