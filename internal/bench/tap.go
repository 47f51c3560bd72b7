package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// tap stands between an agent and the Docker engine and notes when it passes what: so what Cube takes is told from what
// the engine takes within one and the same start. Its own time counts as Cube's.
type tap struct {
	dir    string
	server *http.Server
	served chan error

	mu   sync.Mutex
	last marks
}

// marks are the moments of one container's start as they pass the tap.
type marks struct {
	create, created time.Time // the request, and the head of its answer
	start, started  time.Time
}

// newTap opens a tap at unix://socket(), in a directory of its own. The caller closes it.
func newTap(e *engine) (*tap, error) {
	dir, err := os.MkdirTemp("", "cube-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	t := &tap{dir: dir, served: make(chan error, 1)}
	l, err := net.Listen("unix", t.socket())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen before the engine: %w", err), os.RemoveAll(dir))
	}
	t.server = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			t.note(r.In.URL.Path, func(m *marks) (create, start *time.Time) { return &m.create, &m.start })
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker"
		},
		ModifyResponse: func(r *http.Response) error {
			t.note(r.Request.URL.Path, func(m *marks) (create, start *time.Time) { return &m.created, &m.started })
			return nil
		},
		Transport:     e.http.Transport,
		FlushInterval: -1, // events are passed on as they come
	}}
	go func() { t.served <- t.server.Serve(l) }() // close waits for it
	return t, nil
}

func (t *tap) socket() string { return filepath.Join(t.dir, "docker.sock") }

// note sets the mark that a request for path is, if it is one.
func (t *tap) note(path string, of func(*marks) (create, start *time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	create, start := of(&t.last)
	switch {
	case strings.HasSuffix(path, "/containers/create"):
		*create = time.Now()
	case strings.HasSuffix(path, "/start"):
		*start = time.Now()
	}
}

// take returns the marks of the latest start.
func (t *tap) take() marks {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *tap) close() error {
	err := t.server.Shutdown(context.Background()) // the agent has ended: nothing is under way
	if serving := <-t.served; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, serving)
	}
	return errors.Join(err, os.RemoveAll(t.dir))
}
