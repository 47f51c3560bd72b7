package cluster

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// TestAServerIsKilledAndComesBack: a cluster of real processes goes on without its leader and takes it back, and nothing of
// it is left afterwards.
func TestAServerIsKilledAndComesBack(t *testing.T) {
	ctx := t.Context()
	c, err := Start(ctx, Config{Servers: 3, Debug: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	before, ok := c.Leader(ctx)
	if !ok {
		t.Fatal("no leader")
	}
	m, err := c.Metrics(ctx, before)
	if err != nil {
		t.Fatal(err)
	}
	if m["cube_raft_servers"] != 3 || m["cube_server_leading"] != 1 || m["cube_raft_term"] < 1 || m["go_memory_total_bytes"] < 1<<20 {
		t.Errorf("the leader's metrics: %v", m)
	}
	dir := t.TempDir()
	if err := c.save(ctx, before, "/debug/pprof/heap", dir+"/heap"); err != nil {
		t.Error(err)
	}
	if err := c.Kill(before); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Usage(before); err == nil {
		t.Error("a killed server uses something")
	}
	if err := c.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	if after, ok := c.Leader(ctx); !ok || after == before {
		t.Errorf("leader %d, ok %v, after %d was killed", after, ok, before)
	}
	if err := c.Restart(before); err != nil {
		t.Fatal(err)
	}
	if err := c.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range c.Size() {
		u, err := c.Usage(i)
		if err != nil || u.RSS < 1<<20 || u.PeakRSS < u.RSS {
			t.Errorf("server %d: %+v, %v", i, u, err)
		}
		log, _, err := c.Disk(i)
		if err != nil || log == 0 {
			t.Errorf("server %d: a log of %d bytes, %v", i, log, err)
		}
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

// TestAServerThatCannotStart is reported with what it said.
func TestAServerThatCannotStart(t *testing.T) {
	_, err := Start(t.Context(), Config{Servers: 1, Cube: "/bin/false", Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
}

func TestParseMetrics(t *testing.T) {
	m, err := parseMetrics(strings.NewReader("# HELP a b\n# TYPE a gauge\na 1.5\nb{version=\"1\"} 1\nc 7e+06\n"))
	if err != nil || len(m) != 2 || m["a"] != 1.5 || m["c"] != 7e6 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := parseMetrics(strings.NewReader("a x\n")); err == nil {
		t.Error("a sample that is no number passed")
	}
}
