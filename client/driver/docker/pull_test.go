package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/drivertest"
)

// shelf is a registry with one image, shop/one:1, whose one layer holds a file of random bytes. It speaks what the
// engine needs of the OCI distribution protocol.
type shelf struct {
	host  string
	blobs map[string][]byte // by digest
	user  string            // asked for, with the password "secret", when not empty
	stall chan struct{}     // when not nil, manifests are answered once it is closed
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	r := &shelf{blobs: map[string][]byte{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.host = server.Listener.Addr().String()

	content := make([]byte, 3*mib)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	err := w.WriteHeader(&tar.Header{Name: "bytes", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	z := gzip.NewWriter(&packed)
	if err = errors.Join(err, w.Close()); err == nil {
		_, err = z.Write(plain.Bytes())
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	config := mustJSON(t, map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(plain.Bytes())}},
	})
	const docker = "application/vnd.docker."
	r.blobs["manifest"] = mustJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": docker + "distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": docker + "container.image.v1+json", "size": len(config), "digest": r.add(config)},
		"layers": []any{map[string]any{"mediaType": docker + "image.rootfs.diff.tar.gzip", "size": packed.Len(), "digest": r.add(packed.Bytes())}},
	})
	return r
}

func (r *shelf) add(blob []byte) string {
	d := digest(blob)
	r.blobs[d] = blob
	return d
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *shelf) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	user, password, _ := q.BasicAuth()
	if r.user != "" && (user != r.user || password != "secret") {
		w.Header().Set("WWW-Authenticate", `Basic realm="shelf"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	path, found := strings.CutPrefix(q.URL.Path, "/v2/shop/one/")
	kind, name, _ := strings.Cut(path, "/")
	switch {
	case q.URL.Path == "/v2/":
	case found && kind == "manifests" && (name == "1" || name == digest(r.blobs["manifest"])):
		if r.stall != nil {
			<-r.stall
		}
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		w.Header().Set("Docker-Content-Digest", digest(r.blobs["manifest"]))
		w.Write(r.blobs["manifest"])
	case found && kind == "blobs" && r.blobs[name] != nil:
		w.Write(r.blobs[name])
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}`))
	}
}

// login makes an empty Docker configuration with these credentials for the environment.
func login(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

func TestPull(t *testing.T) {
	s, r := newShop(t), newShelf(t)
	r.user = "ann"
	login(t, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, r.host, base64.StdEncoding.EncodeToString([]byte("ann:secret"))))
	name := r.host + "/shop/one:1"
	if err := s.pullImage(s.ctx, name, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.fault.engine.(*client.Client).ImageRemove(s.ctx, name, image.RemoveOptions{}); err != nil {
		t.Errorf("the pulled image cannot be removed: %v", err)
	}
	login(t, `{}`)
	err := s.pullImage(s.ctx, name, func(string) {})
	var failed *driver.StartError
	if !errors.As(err, &failed) || !failed.Permanent || !strings.HasPrefix(err.Error(), "image "+name+" cannot be pulled: ") {
		t.Errorf("without credentials the pull gives %v", err)
	}
}

func TestProgress(t *testing.T) {
	l := layers{}
	for _, c := range []struct {
		status, id     string
		current, total int64
		want           string
	}{
		{"Pulling from library/redis", "7", 0, 0, ""},
		{"Pulling fs layer", "a", 0, 0, ""},
		{"Downloading", "a", 6 * mib, 30 * mib, "pulling redis:7: 6 of 30 MiB"},
		{"Downloading", "b", 5 * mib, 10 * mib, "pulling redis:7: 11 of 40 MiB"},
		{"Download complete", "b", 0, 0, "pulling redis:7: 16 of 40 MiB"},
		{"Extracting", "b", 1 * mib, 10 * mib, "pulling redis:7: 16 of 40 MiB"},
		{"Downloading", "a", 30 * mib, 30 * mib, "pulling redis:7: 40 of 40 MiB"},
	} {
		m := &jsonmessage.JSONMessage{Status: c.status, ID: c.id}
		if c.total > 0 {
			m.Progress = &jsonmessage.JSONProgress{Current: c.current, Total: c.total}
		}
		if got := l.add("redis:7", m); got != c.want {
			t.Errorf("after %s of %s: %q, want %q", c.status, c.id, got, c.want)
		}
	}
}

func TestMissingImage(t *testing.T) {
	s, r := newShop(t), newShelf(t)
	for name, want := range map[string]string{
		r.host + "/shop/nope:1": "image " + r.host + "/shop/nope:1 not found: manifest unknown",
		"UPPER:CASE:1":          "create a container of UPPER:CASE:1: invalid reference format: repository name must be lowercase",
	} {
		c := s.config(drivertest.Program{})
		c.Image = name
		_, _, err := s.Start(s.ctx, c, func(string) {})
		var failed *driver.StartError
		if !errors.As(err, &failed) || failed.Failure != api.FailureStart || !failed.Permanent {
			t.Errorf("a start of %s gives %#v; want a permanent StartError", name, err)
			continue
		}
		if err.Error() != want {
			t.Errorf("a start of %s gives %q, want %q", name, err, want)
		}
	}
	if left := s.containers(); len(left) != 0 {
		t.Errorf("the failed starts left %v", left[0].Names)
	}
}

func TestStalledPull(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newShelf(t)
	r.stall = make(chan struct{})
	t.Cleanup(func() { close(r.stall) }) // before the server is closed
	s.pull = 2 * time.Second
	c := s.config(drivertest.Program{})
	c.Image = r.host + "/shop/one:1"
	result := make(chan error, 1)
	go func() {
		_, _, err := s.Start(s.ctx, c, func(string) {})
		result <- err
	}()
	s.start(drivertest.Program{}) // nobody else waits for it
	err := <-result
	if err == nil || !strings.Contains(err.Error(), "made no progress for 2s; is the registry "+r.host+" reachable from here?") {
		t.Errorf("a pull that stalls gives %v", err)
	}
}

func TestCredentials(t *testing.T) {
	helpers := t.TempDir()
	script := "#!/bin/sh\nread host\ncase $host in\nhelped.example) echo '{\"Username\": \"bob\", \"Secret\": \"pw\"}';;\n" +
		"token.example) echo '{\"Username\": \"<token>\", \"Secret\": \"t0k\"}';;\n*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(helpers, "docker-credential-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", helpers+":"+os.Getenv("PATH"))
	login(t, `{"auths": {"https://index.docker.io/v1/": {"auth": "YW5uOnB3"}, "plain.example:5000": {"username": "ann", "password": "x"}, "bad.example": {"auth": "%%%"}},
		"credHelpers": {"helped.example": "test", "token.example": "test", "unknown.example": "test", "broken.example": "no-such-helper"}}`)
	for name, want := range map[string]registry.AuthConfig{
		"redis:7":                     {Username: "ann", Password: "pw", ServerAddress: "https://index.docker.io/v1/"},
		"plain.example:5000/shop/web": {Username: "ann", Password: "x", ServerAddress: "plain.example:5000"},
		"helped.example/shop/web":     {Username: "bob", Password: "pw", ServerAddress: "helped.example"},
		"token.example/shop/web":      {IdentityToken: "t0k", ServerAddress: "token.example"},
		"unknown.example/shop/web":    {},
		"other.example/shop/web":      {},
	} {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := registryAuth(context.Background(), named)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := registry.AuthConfig{}
		if text != "" {
			decoded, err := registry.DecodeAuthConfig(text)
			if err != nil {
				t.Fatal(err)
			}
			got = *decoded
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, name := range []string{"bad.example/x", "broken.example/x"} {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := registryAuth(context.Background(), named); err == nil {
			t.Errorf("%s: credentials that cannot be read are no error", name)
		}
	}
}
