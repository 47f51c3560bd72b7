package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseUsage(t *testing.T) {
	const stat = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 2345 0 1 0 150 25 0 0 20 0 8 0 1234 1 2 3"
	const status = "Name:\tcube\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t8\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n"
	u, err := parseUsage(stat, status)
	if want := (Usage{CPU: 1750 * time.Millisecond, RSS: 1 << 20, PeakRSS: 2 << 20, Threads: 8, Switches: 10}); err != nil || u != want {
		t.Errorf("%+v, %v; want %+v", u, err, want)
	}
	for _, bad := range []struct{ stat, status string }{
		{"4711 (a) S 1", status},
		{strings.Replace(stat, "150", "x", 1), status},
		{stat, "Name:\tcube\nState:\tZ (zombie)\n"},
	} {
		if u, err := parseUsage(bad.stat, bad.status); err == nil {
			t.Errorf("%q: %+v", bad, u)
		}
	}
}

// TestAProcess is started, measured, asked to end and killed.
func TestAProcess(t *testing.T) {
	dir := t.TempDir()
	p, err := Start("/bin/sh", []string{"-c", "trap 'echo asked; exit 3' INT; echo here; while :; do sleep 0.01; done"}, dir+"/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for Tail(dir+"/1") != "here\n" {
		select {
		case <-p.Ended():
			t.Fatal(p.Err())
		default:
		}
	}
	if u, err := ReadUsage(p.PID()); err != nil || u.RSS == 0 || u.OpenFDs == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if err := p.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.HasSuffix(err.Error(), "here\nasked\n") {
		t.Errorf("got %v", err)
	}
	if _, err := ReadUsage(p.PID()); err == nil {
		t.Error("a process that has ended has used something")
	}
	if p, err = Start("/bin/sleep", []string{"1000"}, filepath.Join(dir, "2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("got %v", err)
	}
	if err := p.Kill(); err == nil || !strings.Contains(err.Error(), os.ErrClosed.Error()) {
		t.Errorf("killed again: %v", err)
	}
	if _, err := Start(dir, nil, dir+"/3", nil); err == nil {
		t.Error("a directory was started")
	}
}
