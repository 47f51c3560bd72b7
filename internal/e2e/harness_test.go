package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/api/rest"
	"cube/internal/hello/helloimage"
)

// binary is the cube under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cube-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "make a directory for the binary:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "cube")
		build := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", binary, "cube")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build cube: %v\n%s", err, out)
			return 1
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := helloimage.Ensure(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "make the test image (is a Docker engine running? make docker):", err)
			return 1
		}
		return m.Run()
	}())
}

// process is one agent.
type process struct {
	name string
	bind string
	args []string
	dir  string // its data directory
	log  *lockedBuffer
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; err is readable then
	err  error
}

// lockedBuffer collects a process's output while a test may read it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(binary, append([]string{"agent", "-bind", p.bind, "-name", p.name, "-data-dir", p.dir}, p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		p.err = cmd.Wait()
		close(done)
	}(p.cmd, p.done)
}

// end signals the process and waits until it has ended.
func (p *process) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		t.Fatalf("%s did not end within 20 s of %s; its log:\n%s", p.name, s, tail(p.log.String(), 40))
	}
}

// fleet is servers and clients as separate processes.
type fleet struct {
	t       *testing.T
	servers []*process
	clients []*process
	id      string // of the cluster, for docker's labels
}

// newAlone starts one agent that is server and client, and waits until its node is ready.
func newAlone(t *testing.T, bind string, more ...string) *fleet {
	t.Helper()
	agent := &process{name: "n1", bind: bind, dir: filepath.Join(t.TempDir(), "data"), log: &lockedBuffer{}, args: append([]string{"-server", "-client"}, more...)}
	f := &fleet{t: t, servers: []*process{agent}}
	agent.start(t)
	t.Cleanup(f.close)
	f.eventually("the node is ready", 20*time.Second, func() error { return f.nodesReady(1) })
	f.learnID()
	return f
}

// newFleet starts three servers on 127.0.0.1 to .3 and three clients on .4 to .6, and waits until all nodes are ready.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t}
	base := t.TempDir()
	for i := 1; i <= 6; i++ {
		p := &process{bind: fmt.Sprintf("127.0.0.%d", i), log: &lockedBuffer{}, dir: filepath.Join(base, fmt.Sprint(i))}
		if i <= 3 {
			p.name, p.args = fmt.Sprintf("s%d", i), []string{"-server", "-bootstrap-expect", "3", "-join", "127.0.0.1", "-join", "127.0.0.2"}
			f.servers = append(f.servers, p)
		} else {
			p.name, p.args = fmt.Sprintf("n%d", i-3), []string{"-client", "-join", "127.0.0.1", "-join", "127.0.0.2"}
			f.clients = append(f.clients, p)
		}
		p.start(t)
	}
	t.Cleanup(f.close)
	f.eventually("three nodes are ready", 30*time.Second, func() error { return f.nodesReady(3) })
	f.learnID()
	return f
}

// join starts a client more and waits until its node is ready, as all others are.
func (f *fleet) join(name, bind string, more ...string) *process {
	f.t.Helper()
	p := &process{name: name, bind: bind, dir: filepath.Join(f.t.TempDir(), "data"), log: &lockedBuffer{}, args: append([]string{"-client", "-join", f.servers[0].bind}, more...)}
	f.clients = append(f.clients, p)
	p.start(f.t)
	nodes := len(f.clients)
	for _, s := range f.servers {
		if slices.Contains(s.args, "-client") {
			nodes++
		}
	}
	f.eventually(name+" has joined", 20*time.Second, func() error { return f.nodesReady(nodes) })
	return p
}

// learnID asks for the cluster's ID, by which its containers are known.
func (f *fleet) learnID() {
	f.t.Helper()
	h, err := f.api(0).Health(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	f.id = h.Cluster
}

func (f *fleet) close() {
	if f.t.Failed() {
		for _, p := range append(f.servers, f.clients...) {
			f.t.Logf("the end of %s's log:\n%s", p.name, tail(p.log.String(), 60))
		}
	}
	for _, p := range append(f.clients, f.servers...) {
		p.cmd.Process.Kill() // it may have ended
		<-p.done
	}
	for _, c := range f.containers() {
		// An agent may have been killed in the middle of removing it: the engine goes on with that by itself.
		out, err := exec.Command("docker", "rm", "-f", c.ID).CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("is already in progress")) && !bytes.Contains(out, []byte("No such container")) {
			f.t.Errorf("docker rm -f %s: %v: %s", c.ID, err, out)
		}
	}
}

// api asks the i-th server's agent.
func (f *fleet) api(i int) *rest.Client {
	f.t.Helper()
	c, err := rest.NewClient("http://" + f.servers[i].bind + ":5555")
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// up returns the API of some server that runs.
func (f *fleet) up() *rest.Client {
	f.t.Helper()
	for i, s := range f.servers {
		select {
		case <-s.done:
		default:
			return f.api(i)
		}
	}
	f.t.Fatal("no server runs")
	return nil
}

// leader returns the server that leads.
func (f *fleet) leader() *process {
	f.t.Helper()
	var found *process
	f.eventually("a server leads", 10*time.Second, func() error {
		l, err := f.up().Leader(f.t.Context())
		if err != nil {
			return err
		}
		for _, s := range f.servers {
			if s.name == l.Name {
				found = s
				return nil
			}
		}
		return fmt.Errorf("leader %+v is none of ours", l)
	})
	return found
}

func (f *fleet) nodesReady(want int) error {
	nodes, _, err := f.up().ListNodes(f.t.Context(), api.Query{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range nodes {
		if n.Ready() && n.Connected {
			ready++
		}
	}
	if ready != want {
		return fmt.Errorf("%d of %d nodes are ready: %s", ready, len(nodes), describe(nodes))
	}
	return nil
}

func describe(nodes []*api.NodeView) string {
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "%s %s %s; ", n.Name, n.Status, n.StatusReason)
	}
	return b.String()
}

// cube runs the CLI against the i-th server's agent and returns its exit code and output.
func (f *fleet) cube(args ...string) (int, string) {
	f.t.Helper()
	return run(f.t, "http://"+strings.TrimPrefix(f.up().Address(), "http://"), args...)
}

func run(t *testing.T, address string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "CUBE_ADDR="+address)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("cube %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// said runs the CLI and returns what it says, with an error unless it ends with a code and says what is wanted.
func (f *fleet) said(code int, want string, args ...string) (string, error) {
	f.t.Helper()
	got, out := f.cube(args...)
	if got != code || !strings.Contains(out, want) {
		return out, fmt.Errorf("cube %s ends with %d, not %d, or does not say %q:\n%s", strings.Join(args, " "), got, code, want, out)
	}
	return out, nil
}

// says runs the CLI, which is to end with a code and to say something.
func (f *fleet) says(code int, want string, args ...string) string {
	f.t.Helper()
	out, err := f.said(code, want, args...)
	if err != nil {
		f.t.Error(err)
	}
	return out
}

// does runs the CLI, which is to succeed: without it what follows means nothing.
func (f *fleet) does(args ...string) string {
	f.t.Helper()
	out, err := f.said(0, "", args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// comesToSay runs a command until it ends with 0 and says something.
func (f *fleet) comesToSay(within time.Duration, want string, args ...string) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("%s says %q", strings.Join(args, " "), want), within, func() error {
		_, err := f.said(0, want, args...)
		return err
	})
}

// container is what docker says of one of the fleet's containers.
type container struct {
	ID, StartedAt, Node, Alloc string
	Running                    bool
}

// containers lists every container with the fleet's label, whatever its state.
func (f *fleet) containers() []container {
	f.t.Helper()
	ids := strings.Fields(docker(f.t, "ps", "-aq", "--no-trunc", "--filter", "label=cube.cluster="+f.id))
	if len(ids) == 0 || f.id == "" {
		return nil
	}
	var found []struct {
		ID     string `json:"Id"`
		State  struct{ StartedAt, Status string }
		Config struct{ Labels map[string]string }
	}
	// Containers may go between the two calls: then docker fails and answers for the others all the same.
	out, err := exec.Command("docker", append([]string{"inspect"}, ids...)...).Output()
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil {
		f.t.Fatalf("docker inspect: %v, %v", err, jsonErr)
	}
	var cs []container
	for _, c := range found {
		cs = append(cs, container{
			ID: c.ID, StartedAt: c.State.StartedAt, Node: c.Config.Labels["cube.node"], Alloc: c.Config.Labels["cube.alloc"],
			Running: c.State.Status == "running",
		})
	}
	slices.SortFunc(cs, func(a, b container) int { return strings.Compare(a.ID, b.ID) })
	return cs
}

func (f *fleet) running() []container {
	return slices.DeleteFunc(f.containers(), func(c container) bool { return !c.Running })
}

// agree waits until docker runs exactly want containers of ours, one for each of the job's running instances.
func (f *fleet) agree(job string, want int, within time.Duration) []container {
	f.t.Helper()
	var cs []container
	f.eventually(fmt.Sprintf("docker and the servers agree on %d instances of %s", want, job), within, func() error {
		allocs, _, err := f.up().JobAllocations(f.t.Context(), job, api.Query{})
		if err != nil {
			return err
		}
		var known []string
		for _, a := range allocs {
			if a.Phase == api.PhaseRunning && a.Desired == api.DesiredRun {
				known = append(known, a.ID)
			}
		}
		cs = f.running()
		var seen []string
		for _, c := range cs {
			seen = append(seen, c.Alloc)
		}
		slices.Sort(known)
		slices.Sort(seen)
		if len(seen) != want || !slices.Equal(known, seen) {
			return fmt.Errorf("docker runs %v, the servers say %v", seen, known)
		}
		return nil
	})
	return cs
}

// eventually asks again and again until check is content. Processes and engines offer no common thing to wait on.
func (f *fleet) eventually(what string, within time.Duration, check func() error) time.Duration {
	f.t.Helper()
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		took := time.Since(start)
		if err == nil {
			f.t.Logf("%s after %s", what, took.Round(10*time.Millisecond))
			return took
		}
		if took > within {
			f.t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		<-tick.C
	}
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
