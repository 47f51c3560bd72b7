package scale

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/bench/cluster"
	"cube/internal/bench/fleet"
	"cube/internal/bench/result"
)

// TestMain is the fleet process, too: Start runs this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == fleet.Command {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
		defer stop()
		if err := fleet.Serve(ctx, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(test(m))
}

// cube is the binary that all tests here measure. TestMain builds it.
var cube string

func test(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cube-bench-")
	if err == nil {
		defer os.RemoveAll(dir)
		cube = filepath.Join(dir, "cube")
		err = cluster.Build(context.Background(), cube)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// small is a cluster that fits into a test. Its elections are patient: the machine may be busy with other tests.
func small(t *testing.T, servers, nodes int) Config {
	return Config{
		Cluster: cluster.Config{Servers: servers, Cube: cube, Dir: t.TempDir(), Debug: true, Extra: "server {\n  raft_multiplier  = 3\n  disconnect_after = \"2s\"\n}\n"},
		Nodes:   nodes, Classes: 2, AtOnce: 4, Node: api.Resources{CPU: 8000, Memory: 30 << 10, Disk: 100 << 10}, Patience: time.Minute, Progress: t.Logf,
	}
}

// want checks figures that do not depend on how fast the machine is.
func want(t *testing.T, r *result.Result, figures map[string]float64) {
	t.Helper()
	for name, v := range figures {
		if f, ok := r.Figure(name); !ok || f.Value != v {
			t.Errorf("%s: %v (ok %v), want %v", name, f.Value, ok, v)
		}
	}
}

// positive checks that figures were measured at all.
func positive(t *testing.T, r *result.Result, names ...string) {
	t.Helper()
	for _, name := range names {
		if f, ok := r.Figure(name); !ok || f.Value <= 0 {
			t.Errorf("%s: %v (ok %v), want more than 0", name, f.Value, ok)
		}
	}
}

// TestBurst runs what c1m and c100k run, with profiles. That all instances run, and as many on the nodes as the servers
// say, Run itself demands.
func TestBurst(t *testing.T) {
	cfg := small(t, 3, 10)
	cfg.Profile = t.TempDir()
	r, err := Burst{Name: "burst", Jobs: 6, Count: 50, CPU: 0.03, Memory: 100}.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]float64{"elections during the run": 0, "placements rejected at commit": 0})
	positive(t, r, "placed", "running", "submit to placed, a job, p50", "submit to running, a job, p99", "all instances reported running after",
		"peak RSS of the leader", "log on disk an instance", "snapshot an instance", "reports of nodes", "an instance on it", "goroutines of an empty node")
	empty, _ := r.Figure("goroutines of an empty node")
	if full, _ := r.Figure("goroutines of a node with instances"); full.Value > empty.Value+10 { // 30 instances run on each
		t.Errorf("%v goroutines a node with 30 instances, %v without: instances own goroutines", full.Value, empty.Value)
	}
	for _, name := range []string{"leader.cpu", "leader.heap", "follower.cpu", "fleet.cpu", "fleet.heap"} {
		if info, err := os.Stat(cfg.Profile + "/" + name); err != nil || info.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
}

// TestChurn replaces instances for a moment. That as many run at the end as before, Run itself demands.
func TestChurn(t *testing.T) {
	c := Churn{Steady: Steady{Instances: 150}, Rate: 50, Count: 5, Lifetime: time.Second, Duration: 2 * time.Second}
	r, err := c.Run(t.Context(), small(t, 1, 6))
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]float64{"elections during the run": 0})
	positive(t, r, "instances replaced", "submit to running, a job, p50", "submit to running, a job, p99")
}

func TestIdle(t *testing.T) {
	r, err := Idle{Steady: Steady{Instances: 30}, Duration: time.Second}.Run(t.Context(), small(t, 1, 3))
	if err != nil {
		t.Fatal(err)
	}
	want(t, r, map[string]float64{"elections during the run": 0})
	positive(t, r, "goroutines of the leader", "RSS of the leader")
}

func TestNodeLoss(t *testing.T) {
	r, err := NodeLoss{Steady: Steady{Instances: 60}, Lost: 2}.Run(t.Context(), small(t, 1, 6))
	if err != nil {
		t.Fatal(err)
	}
	positive(t, r, "instances lost", "gone to first node declared down", "first declared down to every replacement running")
}

// TestAFleetThatFails ends the run with what it said, not with a timeout.
func TestAFleetThatFails(t *testing.T) {
	cfg := small(t, 1, 1)
	cfg.Nodes = 1 << 40 // no limit of open files is so high
	_, err := Burst{Name: "burst", Jobs: 1, Count: 1}.Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "so many nodes need") || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("got %v", err)
	}
}
