package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cube/api"
	"cube/internal/bench/cluster"
	"cube/internal/bench/result"
	"cube/internal/hello/helloimage"
)

// engine speaks as much of the Docker API as a bare start takes, so that Cube is compared with the API and not with a
// client of it.
type engine struct{ http *http.Client }

func newEngine() *engine {
	socket := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	return &engine{&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}}
}

func (e *engine) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("make the request %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the Docker engine: %w", err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // the status says enough without it
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return resp, nil
}

// event is the start of a container, and when it was heard of.
type event struct {
	id, job string
	at      time.Time
}

// events streams the starts of containers until ctx is done.
func (e *engine) events(ctx context.Context) (<-chan event, error) {
	filters := url.QueryEscape(`{"type":["container"],"event":["start"]}`)
	resp, err := e.do(ctx, "GET", "/events?filters="+filters, nil)
	if err != nil {
		return nil, err
	}
	out := make(chan event, 64)
	go func() { // ends with ctx, which closes the body
		defer close(out)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var m struct {
				Actor struct {
					ID         string
					Attributes map[string]string
				}
			}
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				out <- event{id: m.Actor.ID, job: m.Actor.Attributes["cube.job"], at: time.Now()}
			}
		}
	}()
	return out, nil
}

// bare creates and starts a container as Cube would, and removes it; it returns the time until the start was heard of.
func (e *engine) bare(ctx context.Context, started <-chan event) (time.Duration, error) {
	body := map[string]any{
		"Image": helloimage.Tag, "Env": []string{"CUBE_PORT_http=8080"},
		"ExposedPorts": map[string]any{"8080/tcp": struct{}{}},
		"HostConfig": map[string]any{
			"Memory": 128 << 20, "MemorySwap": 128 << 20, "CpuShares": 102,
			"PortBindings": map[string]any{"8080/tcp": []any{map[string]string{"HostIp": "127.0.7.1", "HostPort": "19999"}}},
		},
	}
	begin := time.Now()
	resp, err := e.do(ctx, "POST", "/containers/create", body)
	if err != nil {
		return 0, err
	}
	var created struct{ ID string }
	err = json.NewDecoder(resp.Body).Decode(&created)
	resp.Body.Close()
	if err != nil {
		return 0, fmt.Errorf("read what create answers: %w", err)
	}
	if resp, err = e.do(ctx, "POST", "/containers/"+created.ID+"/start", nil); err != nil {
		return 0, err
	}
	resp.Body.Close()
	ev, err := wait(ctx, started, func(ev event) bool { return ev.id == created.ID })
	if err != nil {
		return 0, err
	}
	took := ev.at.Sub(begin)
	resp, err = e.do(ctx, "DELETE", "/containers/"+created.ID+"?force=1", nil)
	if err != nil {
		return 0, err
	}
	return took, resp.Body.Close()
}

func wait(ctx context.Context, events <-chan event, match func(event) bool) (event, error) {
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return event{}, fmt.Errorf("the engine's events ended")
			}
			if match(ev) {
				return ev, nil
			}
		case <-deadline.C:
			return event{}, fmt.Errorf("no container started within 30 s")
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

// timing is how long the parts of one start through Cube took.
type timing struct {
	toStart time.Duration // from the submission until the engine said that the container had started
	own     time.Duration // of it Cube's: until the engine was asked to create, and between created and asked to start
	toShown time.Duration // from the submission until the API said that it runs
}

// through submits a task over the HTTP API, times its start, and ends it again.
func through(ctx context.Context, d *dev, tap *tap, n int, started <-chan event) (t timing, err error) {
	name := fmt.Sprintf("bench-%d", n)
	source := fmt.Sprintf("task %q {\n  image = %q\n  port \"http\" {}\n}\n", name, helloimage.Tag)
	begin := time.Now()
	if _, err := d.api.RegisterJobs(ctx, api.Submission{Source: source, FileName: "bench.hcl"}, api.WriteMeta{}); err != nil {
		return t, err
	}
	shown := make(chan error, 1)
	go func() { // ends when the instance runs, or with ctx
		err := awaitJob(ctx, d.api, name, func(s *api.JobStatus) bool { return s.Summary.Counts.Running == 1 })
		t.toShown = time.Since(begin)
		shown <- err
	}()
	ev, err := wait(ctx, started, func(ev event) bool { return ev.job == name })
	if err != nil {
		return t, err
	}
	if err := <-shown; err != nil {
		return t, err
	}
	m := tap.take()
	t.toStart, t.own = ev.at.Sub(begin), m.create.Sub(begin)+m.start.Sub(m.created)
	if _, err := d.api.StopJob(ctx, name, api.StopRequest{}, api.WriteMeta{}); err != nil {
		return t, err
	}
	return t, awaitJob(ctx, d.api, name, func(s *api.JobStatus) bool { return s.Summary.Status == api.JobDead })
}

const (
	oneshotAdds  = 15 * time.Millisecond // target for what Cube adds to the engine's own time
	oneshotShows = 20 * time.Millisecond // target from the start of the container until the API says so
	warmUps      = 2                     // the first of each kind warm caches
)

// measureOneshot measures single starts through a real Docker engine.
func measureOneshot(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("oneshot", flag.ContinueOnError)
	var o options
	f.StringVar(&o.cube, "cube", "", "the binary to measure; built from the checkout unless it is given")
	f.StringVar(&o.json, "json", "", "write the result to this file, too")
	runs := f.Int("runs", 50, "starts measured, one after the other")
	if err := f.Parse(args); err != nil {
		return err
	}
	r, err := oneshot(ctx, o.cube, *runs)
	if err != nil {
		return err
	}
	return o.publish(r)
}

// oneshot alternates bare starts with Cube's, so that both see the same machine.
func oneshot(ctx context.Context, cube string, runs int) (_ *result.Result, err error) {
	dir, err := os.MkdirTemp("", "cube-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if cube == "" {
		cube = filepath.Join(dir, "cube")
		if err := cluster.Build(ctx, cube); err != nil {
			return nil, err
		}
	}
	if _, err := helloimage.Ensure(ctx); err != nil {
		return nil, err
	}
	e := newEngine()
	tap, err := newTap(e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tap.close()) }()
	d, err := startDev(ctx, cube, "DOCKER_HOST=unix://"+tap.socket())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	started, err := e.events(ctx)
	if err != nil {
		return nil, err
	}
	var bare, with, own, shown, more []time.Duration
	for n := range runs + warmUps {
		b, err := e.bare(ctx, started)
		if err != nil {
			return nil, err
		}
		t, err := through(ctx, d, tap, n, started)
		if err != nil {
			return nil, err
		}
		if n < warmUps {
			continue
		}
		bare, with, own = append(bare, b), append(with, t.toStart), append(own, t.own)
		shown, more = append(shown, t.toShown-t.toStart), append(more, t.toStart-b)
	}
	r := result.New("oneshot")
	r.Set("runs", runs)
	ms := func(d []time.Duration, p int) float64 { return float64(percentile(d, p)) / float64(time.Millisecond) }
	r.AtMost("Cube's part: until create, and from created to start, p50", ms(own, 50), "ms", float64(oneshotAdds.Milliseconds()))
	r.Add("Cube's part, p90", ms(own, 90), "ms")
	r.AtMost("container started to shown running by the API, p50", ms(shown, 50), "ms", float64(oneshotShows.Milliseconds()))
	r.Add("container started to shown running by the API, p90", ms(shown, 90), "ms")
	r.Add("Docker API's own create and start, p50", ms(bare, 50), "ms")
	r.Add("task submitted to container started, p50", ms(with, 50), "ms")
	r.Add("the difference of each pair, p50", ms(more, 50), "ms")
	r.Note("one agent -dev; bare starts and Cube's take turns. The engine's own time varies by more than Cube's part, so that part is taken within each start, by a tap between agent and engine; the difference of the pairs is the same with the engine's noise in it.")
	return r, nil
}

// spread is what is usual, and what is not rare.
func spread(d []time.Duration) string {
	tenths := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s (%s)", tenths(percentile(d, 50)), tenths(percentile(d, 90)))
}

func percentile(d []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[(len(s)-1)*p/100]
}
