package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/cli"

	"cube/agent"
)

// words is a repeatable flag.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

// Set implements flag.Value.
func (w *words) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it is empty")
	}
	*w = append(*w, s)
	return nil
}

// agentFlags are what the command line says of an agent. They are laid over what the configuration files say.
type agentFlags struct {
	dev, server, client bool
	cfg                 agent.Config
	join, files         words
}

func (f *agentFlags) declare(s *flag.FlagSet) {
	s.BoolVar(&f.dev, "dev", false, "A server and a client in one, for trying things: on loopback, alone, in a temporary directory, with raw_exec. Ctrl-C stops its instances and removes everything.")
	s.BoolVar(&f.server, "server", false, "Be a server: one of those who agree on what should run.")
	s.BoolVar(&f.client, "client", false, "Be a client: run tasks on this machine.")
	s.Var(&f.join, "join", "`Host`[:port] of any member to join through. May be given several times. The port is that of gossip, 5557 by default.")
	s.StringVar(&f.cfg.Bind, "bind", "", "IP `address` for everything. Default: all addresses, and loopback for the HTTP API. With a loopback address all ports stand on it.")
	s.StringVar(&f.cfg.Advertise, "advertise", "", "IP `address` others reach this agent at. Default: the bind address, or that of the default route.")
	s.StringVar(&f.cfg.HTTP, "http", "", "`Host:port` of the HTTP API. Default 127.0.0.1:5555.")
	s.StringVar(&f.cfg.Name, "name", "", "`Name` that people see. Default: the host's.")
	s.StringVar(&f.cfg.Datacenter, "dc", "", "`Datacenter` this agent stands in. Default dc1.")
	s.StringVar(&f.cfg.DataDir, "data-dir", "", "`Directory` for what must survive. Default /var/lib/cube for root, .local/share/cube in the home directory otherwise.")
	s.IntVar(&f.cfg.Server.BootstrapExpect, "bootstrap-expect", 0, "How many `servers` found the cluster together: each waits until it sees that many new ones. Without it a server that joins nobody founds one alone.")
	s.Var(&f.files, "config", "Configuration `file` (HCL), or a directory of them. May be given several times; what flags say wins.")
	s.StringVar(&f.cfg.LogLevel, "log-level", "", "trace, debug, info, warn or error. Default info.")
	s.BoolVar(&f.cfg.LogJSON, "log-json", false, "Logs as JSON, a line each.")
	s.BoolVar(&f.cfg.InsecureBind, "insecure-bind", false, "Allow a public address although nothing is encrypted yet.")
	s.BoolVar(&f.cfg.Client.NewIdentity, "new-identity", false, "Make this client a new node: the way out when its data directory was copied from a machine that still runs.")
}

// config merges the files and the flags.
func (f *agentFlags) config() (agent.Config, error) {
	var cfg agent.Config
	if f.dev {
		cfg = agent.DevConfig()
	}
	for _, path := range f.files {
		if err := cfg.LoadConfig(path); err != nil {
			return cfg, err
		}
	}
	cfg.Server.Enabled = cfg.Server.Enabled || f.server
	cfg.Client.Enabled = cfg.Client.Enabled || f.client
	cfg.Client.NewIdentity = f.cfg.Client.NewIdentity
	cfg.Join = append(cfg.Join, f.join...)
	cfg.LogJSON = cfg.LogJSON || f.cfg.LogJSON
	cfg.InsecureBind = cfg.InsecureBind || f.cfg.InsecureBind
	if f.cfg.Server.BootstrapExpect != 0 {
		cfg.Server.BootstrapExpect = f.cfg.Server.BootstrapExpect
	}
	for _, s := range []struct{ to, from *string }{
		{&cfg.Bind, &f.cfg.Bind}, {&cfg.Advertise, &f.cfg.Advertise}, {&cfg.HTTP, &f.cfg.HTTP}, {&cfg.Name, &f.cfg.Name},
		{&cfg.Datacenter, &f.cfg.Datacenter}, {&cfg.DataDir, &f.cfg.DataDir}, {&cfg.LogLevel, &f.cfg.LogLevel},
	} {
		if *s.from != "" {
			*s.to = *s.from
		}
	}
	return cfg, nil
}

func newAgentCommand(m *Meta) cli.Command {
	var f agentFlags
	return &command{
		meta: m, name: "agent", offline: true, reads: true,
		synopsis: "Run a server, a client or both on this machine",
		prose: "Runs until it is interrupted. A server that is told of nobody to join founds a cluster of its own; further servers and clients join it by naming any member. " +
			"Instances go on running while an agent is stopped, and it takes them up again when it starts; with -dev they are stopped.\n\n" +
			"Ports: 5555 the HTTP API, for people, on loopback; 5556 servers, for nodes and other servers; 5557 gossip, TCP and UDP. A client whose ports are taken uses free ones and says so.",
		example: "$ cube agent -dev\n$ cube agent -server\n$ cube agent -client -join 10.0.0.1",
		flags:   f.declare,
		run: func(ctx context.Context, s *session, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return failed(err, "reading the configuration")
			}
			roomForGarbage(cfg)
			a, err := agent.New(cfg, s.Stderr)
			if err != nil {
				return failed(err, "starting the agent")
			}
			s.banner(a)
			ctx, stop := s.Interrupt(ctx)
			defer stop()
			silence := context.AfterFunc(ctx, func() {
				fmt.Fprintln(s.Stdout, "==> "+farewell(cfg))
				stop() // the next Ctrl-C ends the process as it ends any other
			})
			defer silence()
			if err := a.Run(ctx); err != nil {
				return failed(err, "running the agent")
			}
			return nil
		},
	}
}

// roomForGarbage lets a server's heap grow to three times what is alive before it is collected, unless GOGC says otherwise. Beside
// a collection, requests wait: with half as many, the slowest hundredth of a hundred changes a second waits a third less, for
// 0.4 GiB more of a million instances (website/docs/performance.md). A client and an agent that is tried out stay small.
func roomForGarbage(cfg agent.Config) {
	if cfg.Server.Enabled && !cfg.Dev && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// farewell is what an agent says when it is told to end, which may take it some seconds.
func farewell(cfg agent.Config) string {
	switch {
	case cfg.Dev:
		return "Stopping, and first what runs here; Ctrl-C again ends the agent at once and leaves that running"
	case cfg.Client.Enabled:
		return "Stopping; what runs here goes on"
	}
	return "Stopping"
}

// banner says where the agent stands, before its log begins.
func (s *session) banner(a *agent.Agent) {
	fmt.Fprintln(s.Stdout, "==> Cube agent")
	for _, f := range a.Facts() {
		fmt.Fprintf(s.Stdout, "    %10s: %s\n", f.Key, f.Value)
	}
	for _, n := range a.Notes() {
		fmt.Fprintf(s.Stdout, "==> %s\n", n)
	}
}

// superviseCommand is the hidden process beside each raw_exec instance. Its arguments are rawexec's own.
type superviseCommand struct{}

func newSuperviseCommand(*Meta) cli.Command { return superviseCommand{} }

func (superviseCommand) Help() string {
	return "Watches over one raw_exec instance; the agent starts it."
}
func (superviseCommand) Synopsis() string      { return "Watch over one raw_exec instance" }
func (superviseCommand) Run(args []string) int { return agent.Supervise(args) }
