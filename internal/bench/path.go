package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cube/agent"
	"cube/api"
	"cube/api/rest"
	"cube/client/driver"
	"cube/client/driver/fake"
)

// path measures Cube's own way from a submitted task file to the call of the driver, without Docker: parse, one entry of
// the log for the job and one for the plan, the node's poll. The agents run in this process and talk over loopback. But
// with -dev, which keeps nothing, every entry waits for the disk of the temporary directory.
func path(ctx context.Context, runs int, row report) error {
	for _, c := range []struct {
		what    string
		servers int // 0: one -dev agent
		target  string
	}{
		{"-dev", 0, ""},
		{"a server and a client", 1, "<= 5ms"},
		{"three servers and a client", 3, ""},
	} {
		took, err := pathOf(ctx, c.servers, runs)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		row("submitted to driver called, "+c.what+", p50 (p90)", spread(took), c.target)
	}
	return nil
}

func pathOf(ctx context.Context, servers, runs int) (took []time.Duration, err error) {
	dir, err := os.MkdirTemp("", "cube-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	called := make(chan time.Time, 1)
	engine := fake.NewEngine()
	drivers := func(o driver.Owner) ([]driver.Driver, error) {
		return []driver.Driver{stopwatch{engine.Driver(o), called}}, nil
	}
	var group agents
	defer func() { err = errors.Join(err, group.stop()) }()
	if servers == 0 {
		c := agent.DevConfig()
		c.Bind, c.Client.Drivers = "127.0.7.2", drivers
		if err := group.start(ctx, c); err != nil {
			return nil, err
		}
	}
	for i := range servers {
		c := agent.Config{Name: fmt.Sprintf("s%d", i), Bind: fmt.Sprintf("127.0.7.%d", 10+i), DataDir: filepath.Join(dir, fmt.Sprintf("s%d", i))}
		c.Server = agent.ServerConfig{Enabled: true, BootstrapExpect: servers}
		if i > 0 {
			c.Join = []string{"127.0.7.10"}
		}
		if err := group.start(ctx, c); err != nil {
			return nil, err
		}
	}
	if servers > 0 {
		c := agent.Config{Name: "node", Bind: "127.0.7.9", DataDir: filepath.Join(dir, "node"), Join: []string{"127.0.7.10"}}
		c.Client = agent.ClientConfig{Enabled: true, Drivers: drivers}
		if err := group.start(ctx, c); err != nil {
			return nil, err
		}
	}
	people, err := rest.NewClient(group.address)
	if err != nil {
		return nil, err
	}
	if err := nodeReady(ctx, people); err != nil {
		return nil, err
	}
	const warm = 5
	for n := range runs + warm {
		one, err := submit(ctx, people, n, called)
		if err != nil {
			return nil, err
		}
		if n >= warm {
			took = append(took, one)
		}
	}
	return took, nil
}

// submit runs a task and returns when the driver was called; then it stops it and waits until it is gone, so that the
// runs do not see each other.
func submit(ctx context.Context, people *rest.Client, n int, called <-chan time.Time) (time.Duration, error) {
	name := fmt.Sprintf("bench-%d", n)
	source := fmt.Sprintf("task %q {\n  driver = \"fake\"\n  image = \"none\"\n  port \"http\" {}\n}\n", name)
	begin := time.Now()
	if _, err := people.RegisterJobs(ctx, api.Submission{Source: source, FileName: "bench.hcl"}, api.WriteMeta{}); err != nil {
		return 0, err
	}
	var at time.Time
	select {
	case at = <-called:
	case <-time.After(30 * time.Second):
		return 0, fmt.Errorf("the driver was not called within 30 s")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := awaitJob(ctx, people, name, func(s *api.JobStatus) bool { return s.Summary.Counts.Running == 1 }); err != nil {
		return 0, err
	}
	if _, err := people.StopJob(ctx, name, api.StopRequest{}, api.WriteMeta{}); err != nil {
		return 0, err
	}
	return at.Sub(begin), awaitJob(ctx, people, name, func(s *api.JobStatus) bool { return s.Summary.Status == api.JobDead })
}

// awaitJob asks for a job, again each time it has changed, until it is as wanted.
func awaitJob(ctx context.Context, people *rest.Client, name string, wanted func(*api.JobStatus) bool) error {
	q := api.Query{}
	for {
		s, meta, err := people.Job(ctx, name, q)
		if err != nil {
			return err
		}
		if wanted(s) {
			return nil
		}
		q = api.Query{Index: meta.Index, Wait: 10 * time.Second}
	}
}

// nodeReady waits until a leader answers and the one node is ready.
func nodeReady(ctx context.Context, people *rest.Client) error {
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) && ctx.Err() == nil {
		nodes, _, err := people.ListNodes(ctx, api.Query{})
		if err == nil && len(nodes) == 1 && nodes[0].Status == api.NodeReady {
			return nil
		}
		<-tick.C
	}
	return errors.Join(ctx.Err(), fmt.Errorf("no leader has a ready node after 30 s"))
}

// stopwatch is the fake driver, which says when it was asked for a start.
type stopwatch struct {
	driver.Driver
	called chan<- time.Time
}

func (s stopwatch) Start(ctx context.Context, c *driver.Config, p driver.Progress) (driver.Handle, time.Time, error) {
	s.called <- time.Now()
	return s.Driver.Start(ctx, c, p)
}

// agents are agents that run in this process.
type agents struct {
	address string // of the first one's HTTP API
	cancel  []context.CancelFunc
	ended   []chan error
}

func (g *agents) start(ctx context.Context, c agent.Config) error {
	a, err := agent.New(c, io.Discard)
	if err != nil {
		return err
	}
	if g.address == "" {
		g.address = "http://" + c.Bind + ":5555"
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }() // stop waits for it
	g.cancel, g.ended = append(g.cancel, cancel), append(g.ended, ended)
	return nil
}

// stop ends the agents, the last one first.
func (g *agents) stop() error {
	var err error
	for i := len(g.cancel) - 1; i >= 0; i-- {
		g.cancel[i]()
		err = errors.Join(err, <-g.ended[i])
	}
	return err
}
