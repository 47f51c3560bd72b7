package agent

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"cube/api"
	"cube/client/device"
)

// card is a network card with no wires: a machine with an address, on which some ports are taken.
type card struct {
	own    string
	public bool
	taken  map[string]bool
}

func (c card) Own() (string, bool) { return c.own, c.public }
func (c card) Listen(addr string) (net.Listener, error) {
	if c.taken[addr] {
		return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	return addrListener(addr), nil
}
func (c card) Dial(context.Context, string) (net.Conn, error)       { return nil, syscall.ENETUNREACH }
func (c card) Gossip(string) (memberlist.NodeAwareTransport, error) { return nil, nil }
func (c card) GossipFree(addr string) error {
	_, err := c.Listen(addr)
	return err
}

type addrListener string

func (l addrListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (l addrListener) Close() error              { return nil }
func (l addrListener) Addr() net.Addr            { return addr(l) }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

func TestAddresses(t *testing.T) {
	private, public := card{own: "10.0.0.5"}, card{own: "10.0.0.5", public: true}
	onlyPublic := card{own: "127.0.0.1", public: true}
	cases := []struct {
		name                  string
		cfg                   Config
		bind, advertise, http string
		refused               string
	}{
		{name: "nothing said", cfg: Config{Network: private}, bind: "0.0.0.0", advertise: "10.0.0.5", http: "127.0.0.1:5555"},
		{name: "loopback", cfg: Config{Network: private, Bind: "127.0.0.4"}, bind: "127.0.0.4", advertise: "127.0.0.4", http: "127.0.0.4:5555"},
		{name: "private", cfg: Config{Network: private, Bind: "10.0.0.5"}, bind: "10.0.0.5", advertise: "10.0.0.5", http: "127.0.0.1:5555"},
		{name: "a public address beside", cfg: Config{Network: public}, bind: "10.0.0.5", advertise: "10.0.0.5", http: "127.0.0.1:5555"},
		{name: "only a public address", cfg: Config{Network: onlyPublic}, bind: "127.0.0.1", advertise: "127.0.0.1", http: "127.0.0.1:5555"},
		{name: "public, insecure", cfg: Config{Network: public, InsecureBind: true}, bind: "0.0.0.0", advertise: "10.0.0.5", http: "127.0.0.1:5555"},
		{name: "public, named", cfg: Config{Network: public, Bind: "8.8.4.4"}, refused: "-insecure-bind"},
		{name: "all said", cfg: Config{Network: private, Bind: "0.0.0.0", Advertise: "10.9.9.9", HTTP: "10.0.0.5:80"}, bind: "0.0.0.0", advertise: "10.9.9.9", http: "10.0.0.5:80"},
		{name: "no address", cfg: Config{Network: private, Bind: "eth0"}, refused: "not an IP address"},
		{name: "no port", cfg: Config{Network: private, HTTP: "10.0.0.5"}, refused: "host:port"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.cfg
			cfg.Server.Enabled = true
			err := cfg.Complete()
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v, want a refusal that says %q", err, c.refused)
				}
				return
			}
			if err != nil || cfg.Bind != c.bind || cfg.Advertise != c.advertise || cfg.HTTP != c.http {
				t.Errorf("bind %s, advertise %s, http %s, %v; want %s, %s, %s", cfg.Bind, cfg.Advertise, cfg.HTTP, err, c.bind, c.advertise, c.http)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	n := card{taken: map[string]bool{"127.0.0.1:5555": true, "127.0.0.1:5557": true, "127.0.0.1:5567": true}}
	if _, _, err := listen(n, "127.0.0.1", 5555, false); err == nil || !strings.Contains(err.Error(), "5555") {
		t.Errorf("a server whose port is taken: %v", err)
	}
	if _, moved, err := listen(n, "127.0.0.1", 5555, true); err != nil || !moved {
		t.Errorf("a client whose port is taken: moved %v, %v", moved, err)
	}
	if port, moved, err := gossipPort(n, "127.0.0.1", true); err != nil || !moved || port != 5577 {
		t.Errorf("gossip moved to %d (%v), %v", port, moved, err)
	}
	if _, _, err := gossipPort(n, "127.0.0.1", false); err == nil {
		t.Error("a server's gossip moved")
	}
}

func TestPublicAddresses(t *testing.T) {
	for ip, want := range map[string]bool{
		"8.8.8.8": true, "2600::1": true, "10.1.2.3": false, "192.168.0.1": false, "172.16.0.1": false, "127.0.0.1": false,
		"100.64.0.1": false, "192.0.2.2": false, "fd00::2": false, "fe80::1": false, "0.0.0.0": false,
	} {
		if isPublic(net.ParseIP(ip)) != want {
			t.Errorf("isPublic(%s) is not %v", ip, want)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("10-base.hcl", `
name = "n1"
join = ["10.0.0.1"]
server {
  bootstrap_expect = 3
  node_grace       = "7s"
  rebalance {
    per = "20m"
  }
}`)
	write("20-more.hcl", `
datacenter = "fra"
join       = ["10.0.0.2"]
client {
  meta     = { rack = "r1" }
  raw_exec = true
  reserved {
    cpu    = 0.5
    memory = 256
  }
  device "gpu" {
    model      = "A100"
    ids        = ["GPU-2", "GPU-1"]
    attributes = { vendor = "nvidia", memory_gib = 40 }
  }
}`)
	write("30-kvm.hcl", `
server {
  rebalance {
    min_gain = 2.5
  }
}
client {
  device "kvm" {
    count      = 4
    attributes = { path = "/dev/kvm" }
  }
}`)
	var cfg Config
	if err := cfg.LoadConfig(dir); err != nil {
		t.Fatal(err)
	}
	if b := cfg.Server.Rebalance; b == nil || *b != (api.RebalanceBudget{MaxMoves: 2, Per: 20 * time.Minute, MinGain: 2.5}) {
		t.Errorf("rebalance is %+v", b)
	}
	if cfg.Name != "n1" || cfg.Datacenter != "fra" || strings.Join(cfg.Join, " ") != "10.0.0.1 10.0.0.2" ||
		!cfg.Server.Enabled || cfg.Server.BootstrapExpect != 3 || cfg.Server.Graces.Node != 7*time.Second ||
		!cfg.Client.Enabled || cfg.Client.Meta["rack"] != "r1" || !cfg.Client.RawExec || cfg.Client.Reserved != (api.Resources{CPU: 500, Memory: 256}) {
		t.Errorf("%+v", cfg)
	}
	if want := []device.Block{
		{Type: "gpu", Model: "A100", IDs: []string{"GPU-2", "GPU-1"}, Attributes: map[string]string{"vendor": "nvidia", "memory_gib": "40"}},
		{Type: "kvm", Count: 4, Attributes: map[string]string{"path": "/dev/kvm"}},
	}; !reflect.DeepEqual(cfg.Client.Devices, want) {
		t.Errorf("devices %+v", cfg.Client.Devices)
	}
	for text, says := range map[string]string{
		"nmae = \"x\"":                      "bad.hcl:1:1",
		"name = ":                           "bad.hcl:1:",
		"server {\n  node_grace = \"7\"\n}": "server.node_grace",
		"client {\n  reserved {\n    cpu = -1\n  }\n}":                                                        "below zero",
		"client {\n  device {\n  }\n}":                                                                        "bad.hcl:2:10: Missing type for device",
		"client {\n  device \"gpu\" {\n    modle = \"x\"\n  }\n}":                                             "bad.hcl:3:5",
		"client {\n  device \"gpu\" {\n    count = 1.5\n  }\n}":                                               "bad.hcl:3:13",
		"client {\n  device \"gpu\" {\n  }\n}":                                                                "client: device \"gpu\": it needs ids, or a count",
		"client {\n  device \"gpu\" {\n    count = 1\n    ids = [\"a\"]\n  }\n}":                              "it has both ids and count",
		"client {\n  device \"GPU\" {\n    count = 1\n  }\n}":                                                 "is not a name",
		"client {\n  device \"gpu\" {\n    ids = [\"a\"]\n  }\n  device \"nic\" {\n    ids = [\"a\"]\n  }\n}": "belongs to a device \"gpu\" already",
		"client {\n  device \"kvm\" {\n    count = 2\n    attributes = { path = \"dev/kvm\" }\n  }\n}":        "is not an absolute one",
		strings.Repeat("(", 5000):                                                                             "bad.hcl:1:17: brackets",
		strings.Repeat("a {\n", 5000):                                                                         "bad.hcl:17:3: brackets",
		strings.Repeat("}", 5000) + "((":                                                                      "bad.hcl:1:1",
		"name = \"x${1e10000000}\"":                                                                           "bad.hcl:1:10: a configuration has no ${",
		"server {\n  raft_multiplier = 1e10000000\n}":                                                         "bad.hcl:2:21: a number",
		strings.Repeat("# x\n", 20_000):                                                                       "bytes",
	} {
		err := new(Config).LoadConfig(write("bad.hcl", text))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.30q gives %v, want one line that says %q", text, err, says)
		}
	}
	if err := new(Config).LoadConfig(filepath.Join(dir, "none.hcl")); err == nil {
		t.Error("a file that is not there is no error")
	}
	if err := new(Config).LoadConfig("/dev/zero"); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a file without an end: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for says, cfg := range map[string]Config{
		"-server, -client or -dev": {},
		"does not take -join":      {Dev: true, Server: ServerConfig{Enabled: true}, Join: []string{"a"}},
		"-bootstrap-expect":        {Client: ClientConfig{Enabled: true}, Server: ServerConfig{BootstrapExpect: 3}},
		"bootstrap-expect":         {Server: ServerConfig{Enabled: true, BootstrapExpect: -1}},
		"scheduler":                {Server: ServerConfig{Enabled: true, Scheduler: "best"}},
		"preempt":                  {Server: ServerConfig{Enabled: true, Preempt: []api.JobType{"daemon"}}},
		"rebalance: max_moves 0":   {Server: ServerConfig{Enabled: true, Rebalance: &api.RebalanceBudget{Per: time.Minute, MinGain: 5}}},
		"rebalance: min_gain -1":   {Server: ServerConfig{Enabled: true, Rebalance: &api.RebalanceBudget{MaxMoves: 1, Per: time.Minute, MinGain: -1}}},
		"rebalance: per is":        {Server: ServerConfig{Enabled: true, Rebalance: &api.RebalanceBudget{MaxMoves: 1, MinGain: 5}}},
		"raft_multiplier":          {Server: ServerConfig{Enabled: true, RaftMultiplier: 11}},
		"printed":                  {Server: ServerConfig{Enabled: true}, Name: "a\x1b[2J"},
	} {
		cfg.Network = card{own: "10.0.0.5"}
		if err := cfg.Complete(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v gives %v, want %q", cfg, err, says)
		}
	}
}

// TestAFailedStartLeavesNothing: the temporary directory of -dev goes with the agent that could not start.
func TestAFailedStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for name, spoil := range map[string]func(*Config){
		"the level of the log": func(c *Config) { c.LogLevel = "loud" },
		"the port":             func(c *Config) { c.HTTP = "127.0.0.1:99999" },
	} {
		cfg := DevConfig()
		cfg.Network = card{own: "127.0.0.1"}
		spoil(&cfg)
		if _, err := New(cfg, io.Discard); err == nil {
			t.Errorf("%s: it starts", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
}

func TestServerIDIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "server")
	first, err := serverID(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := serverID(dir)
	if err != nil || again != first || len(first) != 32 {
		t.Errorf("%q then %q, %v", first, again, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "server-id"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := serverID(dir); err == nil {
		t.Error("a damaged ID was taken")
	}
}

// TestDocumentedConfiguration loads every configuration the documentation shows.
func TestDocumentedConfiguration(t *testing.T) {
	text, err := os.ReadFile("../website/docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```hcl agent\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("the page shows no configuration")
	}
	for _, b := range blocks {
		src, _, _ := strings.Cut(b, "```")
		path := filepath.Join(t.TempDir(), "agent.hcl")
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := Config{Network: card{own: "10.0.0.4"}}
		if err := cfg.LoadConfig(path); err != nil {
			t.Errorf("%v in\n%s", err, src)
		}
		if err := cfg.Complete(); err != nil {
			t.Errorf("%v in\n%s", err, src)
		}
	}
}
