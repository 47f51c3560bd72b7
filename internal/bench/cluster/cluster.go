// Package cluster runs the servers that a scenario measures: real processes of the real binary, with Raft on disk and
// fsync, on loopback addresses of their own.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"cube/agent"
	"cube/api/rest"
	"cube/internal/bench/process"
)

const (
	readyWithin = 30 * time.Second      // a cluster founds itself in about a second
	stopWithin  = 30 * time.Second      // a leader hands over and writes what it holds
	lookEvery   = 10 * time.Millisecond // between looks at a process that is starting: it can tell nobody that it has
)

// Config is what to start.
type Config struct {
	Servers int
	Cube    string // the binary; "": it is built from the checkout
	Dir     string // for data and logs, kept; "": a temporary directory, removed by Stop
	Debug   bool   // serve profiles
	Extra   string // more of a server's configuration, HCL
}

// Cluster is a number of running servers. Its methods are not safe for concurrent use, but those of what API returns are.
type Cluster struct {
	cfg      Config
	dir      string
	cube     string
	network  string // of the servers' addresses, "127.x.y."
	servers  []*server
	stopping bool
}

type server struct {
	name, address string
	process       *process.Process // nil while it is down
	api           *rest.Client
}

// Start starts the servers and returns when one leads and all know it. The caller calls Stop.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	c := &Cluster{cfg: cfg, dir: cfg.Dir, cube: cfg.Cube}
	if cfg.Dir == "" {
		if c.dir, err = os.MkdirTemp("", "cube-bench-"); err != nil {
			return nil, fmt.Errorf("make a directory for the servers: %w", err)
		}
	} else if err := fresh(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if c.cube == "" {
		c.cube = filepath.Join(c.dir, "cube")
		if err := Build(ctx, c.cube); err != nil {
			return nil, err
		}
	}
	if c.cube, err = filepath.Abs(c.cube); err != nil {
		return nil, fmt.Errorf("find the binary: %w", err)
	}
	if c.network, err = freeNetwork(); err != nil {
		return nil, err
	}
	if err := c.configure(); err != nil {
		return nil, err
	}
	for i := range cfg.Servers {
		address := fmt.Sprint(c.network, i+1)
		api, err := rest.NewClient(fmt.Sprintf("http://%s:%d", address, agent.DefaultHTTPPort))
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, &server{name: fmt.Sprintf("s%d", i+1), address: address, api: api})
		if err := c.launch(i); err != nil {
			return nil, err
		}
	}
	return c, c.Settled(ctx)
}

// fresh makes a directory that no former run has left anything in: its servers would go on where they ended.
func fresh(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a directory for the servers: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "s[0-9]"))
	if err != nil {
		return fmt.Errorf("look into the directory for the servers: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("%s holds servers of a former run: remove them, or give another -dir", dir)
	}
	return nil
}

// Build makes the binary of the checkout that this process stands in, as make build does.
func Build(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "hashicorpmetrics", "-trimpath", "-ldflags", "-s -w", "-o", path, "cube")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binary to measure (run this in the checkout, or give -cube): %w\n%s", err, out)
	}
	return nil
}

// freeNetwork finds three neighbouring loopback addresses on which nobody serves: several runs may share a machine.
func freeNetwork() (string, error) {
	pid := os.Getpid()
	for n := range 64 {
		network := fmt.Sprintf("127.%d.%d.", 64+(pid>>8+n)%128, pid&0xff)
		l, err := net.Listen("tcp", fmt.Sprintf("%s1:%d", network, agent.DefaultRPCPort))
		if err != nil {
			continue
		}
		return network, l.Close()
	}
	return "", fmt.Errorf("64 loopback networks are in use already")
}

// configure writes what the servers have no flag for.
func (c *Cluster) configure() error {
	text := fmt.Sprintf("debug = %v\n%s\n", c.cfg.Debug, c.cfg.Extra)
	if err := os.WriteFile(c.configFile(), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the servers' configuration: %w", err)
	}
	return nil
}

func (c *Cluster) configFile() string { return filepath.Join(c.dir, "server.hcl") }

func (c *Cluster) launch(i int) error {
	s := c.servers[i]
	args := []string{
		"agent", "-server", "-name", s.name, "-bind", s.address, "-data-dir", filepath.Join(c.dir, s.name),
		"-config", c.configFile(), "-bootstrap-expect", fmt.Sprint(c.cfg.Servers),
	}
	if i > 0 {
		args = append(args, "-join", c.servers[0].address)
	}
	var err error
	s.process, err = process.Start(c.cube, args, c.Log(i), nil)
	return err
}

// Log is the file that a server logs to.
func (c *Cluster) Log(i int) string { return filepath.Join(c.dir, c.servers[i].name+".log") }

// Dir is where the servers' data and logs are.
func (c *Cluster) Dir() string { return c.dir }

// Size is how many servers there are, up or down.
func (c *Cluster) Size() int { return len(c.servers) }

// API speaks to one server's HTTP API.
func (c *Cluster) API(i int) *rest.Client { return c.servers[i].api }

// RPC lists the addresses that nodes connect to.
func (c *Cluster) RPC() []string {
	var out []string
	for _, s := range c.servers {
		out = append(out, fmt.Sprintf("%s:%d", s.address, agent.DefaultRPCPort))
	}
	return out
}

// Leader returns which server leads now by its own word; ok is false when none says so.
func (c *Cluster) Leader(ctx context.Context) (i int, ok bool) {
	for i, s := range c.servers {
		if s.process == nil {
			continue
		}
		if h, err := s.api.Health(ctx); err == nil && h.Leading {
			return i, true
		}
	}
	return 0, false
}

// Settled returns when one server leads and every one that is up knows it.
func (c *Cluster) Settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if c.settled(ctx) {
			return nil
		}
		for _, s := range c.servers {
			if s.process == nil {
				continue
			}
			select {
			case <-s.process.Ended():
				return fmt.Errorf("server %s has ended while it was waited for", s.name) // Stop says how
			default:
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the servers have no leader that all know (logs in %s): %w", c.dir, ctx.Err())
		}
	}
}

func (c *Cluster) settled(ctx context.Context) bool {
	leaders := 0
	for _, s := range c.servers {
		if s.process == nil {
			continue
		}
		h, err := s.api.Health(ctx)
		if err != nil || h.Leader == "" {
			return false
		}
		if h.Leading {
			leaders++
		}
	}
	return leaders == 1
}

// Kill ends a server as a power cut would. Its data stays for Restart.
func (c *Cluster) Kill(i int) error {
	p := c.servers[i].process
	c.servers[i].process = nil
	return p.Kill()
}

// Restart starts a server again that was killed, with the data it has. It does not wait for anything.
func (c *Cluster) Restart(i int) error {
	if c.servers[i].process != nil {
		return fmt.Errorf("server %s runs already", c.servers[i].name)
	}
	return c.launch(i)
}

// Usage is what the kernel counts of a server that runs.
func (c *Cluster) Usage(i int) (process.Usage, error) {
	if c.servers[i].process == nil {
		return process.Usage{}, fmt.Errorf("server %s is down", c.servers[i].name)
	}
	return process.ReadUsage(c.servers[i].process.PID())
}

// Disk is how many bytes a server's log and its snapshots take.
func (c *Cluster) Disk(i int) (log, snapshots int64, err error) {
	root := filepath.Join(c.dir, c.servers[i].name, "server")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a snapshot that was replaced while we looked
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), "raft.db"):
			log += info.Size()
		case strings.Contains(path, "snapshots"):
			snapshots += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("measure the data of %s: %w", c.servers[i].name, err)
	}
	return log, snapshots, nil
}

// Stop ends all servers and removes what was temporary. It may be called again.
func (c *Cluster) Stop() error {
	if c.stopping {
		return nil
	}
	c.stopping = true
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var errs []error
	for i := len(c.servers) - 1; i >= 0; i-- {
		if p := c.servers[i].process; p != nil {
			errs = append(errs, p.Stop(ctx))
		}
	}
	if c.cfg.Dir == "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}
