package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/api/rest"
)

// patience is the watchdog of whatever must neither hang nor wait: far more than it takes on a busy machine.
const patience = 15 * time.Second

// TestBadInput gives a cluster what no careful user would. After each of it the agents must run, the servers must have a
// leader, and nothing may have been registered.
func TestBadInput(t *testing.T) {
	v := newVictim(t)
	t.Run("packets", v.packets) // the first two watch memory, and the heap is still small
	t.Run("bodies", v.bodies)
	t.Run("files", v.files)
	t.Run("commands", v.commands)
	t.Run("requests", v.requests)
	t.Run("snapshots", v.snapshots)
	t.Run("silence", v.silence)
	t.Run("tasks", v.tasks)
}

// victim is a server that is a client too, and a client that knows the server only through its session.
type victim struct {
	*fleet
	server, client *process
	jobs           string // as they were, with the index of their table
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	base := t.TempDir()
	raw := write(t, "agent.hcl", "client {\n  raw_exec = true\n}\n")
	v := &victim{
		server: &process{name: "victim", bind: "127.0.9.1", dir: filepath.Join(base, "server"), log: &lockedBuffer{}, args: []string{"-server", "-client", "-config", raw}},
		client: &process{name: "beside", bind: "127.0.9.2", dir: filepath.Join(base, "client"), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.1"}},
	}
	v.fleet = &fleet{t: t, servers: []*process{v.server}, clients: []*process{v.client}}
	v.server.start(t)
	v.client.start(t)
	t.Cleanup(v.close)
	v.eventually("two nodes are ready", 20*time.Second, func() error { return v.nodesReady(2) })
	v.learnID()
	v.jobs = v.registered(t)
	return v
}

// addresses are the HTTP addresses of both agents: what the one answers, the other passes on.
func (v *victim) addresses() []string {
	return []string{v.server.bind + ":5555", v.client.bind + ":5555"}
}

// registered is all that is registered, with the index that any registration would have raised.
func (v *victim) registered(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	jobs, meta, err := v.api(0).ListJobs(ctx, api.Query{})
	if err != nil {
		t.Fatalf("list the jobs: %v; the end of the log:\n%s", err, tail(v.server.log.String(), 30))
	}
	s := fmt.Sprint("index ", meta.Index)
	for _, j := range jobs {
		s += " " + j.Name
	}
	return s
}

// unharmed fails unless both agents run and answer, and nothing was registered.
func (v *victim) unharmed(t *testing.T, after string) {
	t.Helper()
	for _, p := range []*process{v.server, v.client} {
		select {
		case <-p.done:
			t.Fatalf("after %s, %s has ended: %v; the end of its log:\n%s", after, p.name, p.err, tail(p.log.String(), 40))
		default:
		}
		c, err := rest.NewClient(p.bind)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		h, err := c.Health(ctx)
		cancel()
		if err != nil || h.Leader != v.server.name {
			t.Fatalf("after %s, %s says of its health: %+v, %v", after, p.name, h, err)
		}
		if log := p.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
			t.Fatalf("after %s, the log of %s has:\n%s", after, p.name, tail(log, 40))
		}
	}
	if now := v.registered(t); now != v.jobs {
		t.Errorf("after %s, the jobs are %q; they were %q", after, now, v.jobs)
		v.jobs = now // what comes next is not to blame
	}
}

// said is how a command ended and what it wrote.
type said struct {
	code     int
	out, err string
}

// cli runs a command under the watchdog.
func cli(t *testing.T, stdin io.Reader, env []string, args ...string) said {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, problem bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &problem
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		t.Fatalf("cube %.200q hangs; so far it has said:\n%s%s", args, out.String(), problem.String())
	}
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cube %.200q: %v", args, err)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), problem.String()}
}

// complains fails unless a command has failed with one clear line that says what is wanted of it. A second and third
// line may show the place in the text, or where to find help.
func (s said) complains(t *testing.T, wants ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimRight(s.err, "\n"), "\n")
	switch {
	case s.code != 1:
		t.Errorf("it ends with %d, want 1; it says:\n%.2000s%.2000s", s.code, s.out, s.err)
	case s.out != "":
		t.Errorf("a failure writes to standard output:\n%.2000s", s.out)
	case !strings.HasPrefix(lines[0], "Error "), len(lines) > 3, len(s.err) > 1000:
		t.Errorf("this is not one clear line:\n%.2000s", s.err)
	case strings.ContainsFunc(s.err, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }):
		t.Errorf("a terminal would act on it: %q", s.err)
	}
	for _, line := range lines[min(1, len(lines)):] {
		if !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "For additional help") {
			t.Errorf("this is not one clear line:\n%.2000s", s.err)
		}
	}
	for _, want := range wants {
		if !strings.Contains(lines[0], want) {
			t.Errorf("it says\n%.1000s\nwithout %q", s.err, want)
		}
	}
}
