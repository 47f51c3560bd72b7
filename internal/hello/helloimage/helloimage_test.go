package helloimage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestEnsureTwice needs a Docker engine and fails without one.
func TestEnsureTwice(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tag := "cube/hello-test:" + strings.ToLower(rand.Text())
	e, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer e.client.CloseIdleConnections()
	t.Cleanup(func() {
		if _, err := e.do(context.Background(), http.MethodDelete, "/images/"+tag, nil); err != nil {
			t.Errorf("remove the image: %v", err)
		}
	})
	id := func() string {
		t.Helper()
		if err := EnsureTag(ctx, tag); err != nil {
			t.Fatal(err)
		}
		answer, err := e.do(ctx, http.MethodGet, "/images/"+tag+"/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		var image struct {
			ID     string `json:"Id"`
			Config struct{ Entrypoint []string }
		}
		if err := json.Unmarshal(answer, &image); err != nil {
			t.Fatal(err)
		}
		if len(image.Config.Entrypoint) != 1 || image.Config.Entrypoint[0] != "/hello" {
			t.Errorf("the image's entry point is %q", image.Config.Entrypoint)
		}
		return image.ID
	}
	if first, second := id(), id(); first != second {
		t.Errorf("the same program was imported twice, as %s and %s", first, second)
	}
}

func TestWithoutEngine(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///no/such/docker.sock": "no Docker engine answers at unix:///no/such/docker.sock; install docker.io and start dockerd",
		"ssh://elsewhere":             "use unix:// or tcp://",
	} {
		t.Setenv("DOCKER_HOST", host)
		if err := importImage(t.Context(), Tag, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with DOCKER_HOST=%s: %v, want %q", host, err, want)
		}
	}
}
