package rawexec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/cgroup"
)

// shop is a driver with an owner of its own, and a watch.
type shop struct {
	*testing.T
	*Driver
	ctx  context.Context
	ends chan end
	ids  atomic.Uint32
}

type end struct {
	handle driver.Handle
	exit   driver.Exit
}

func newShop(t *testing.T) *shop {
	t.Helper()
	owner := driver.Owner{ClusterID: "trouble-" + rand.Text(), NodeID: rand.Text()}
	s := &shop{T: t, Driver: open(t, owner, t.TempDir()), ends: make(chan end, 16)}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	s.ctx = ctx
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func(h driver.Handle, x driver.Exit) { s.ends <- end{h, x} }) }()
	t.Cleanup(func() {
		cancel()
		<-done
		left, err := s.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, i := range left {
			if err := s.Stop(context.Background(), i.Handle, "SIGKILL", 0); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shop) config(command string, args ...string) *driver.Config {
	id := api.MakeID(0, s.ids.Add(1))
	return &driver.Config{
		Owner: s.owner, Key: driver.Key{Allocation: id}, Job: "shop", Task: "web", Version: 1, Command: command, Args: args,
		Held: api.Resources{CPU: 100, Memory: 64}, Dir: s.TempDir(),
	}
}

func (s *shop) start(c *driver.Config) driver.Handle {
	s.Helper()
	h, _, err := s.Start(s.ctx, c, func(string) {})
	if err != nil {
		s.Fatal(err)
	}
	return h
}

func (s *shop) end(h driver.Handle) driver.Exit {
	s.Helper()
	for {
		select {
		case e := <-s.ends:
			if e.handle == h {
				return e.exit
			}
		case <-s.ctx.Done():
			s.Fatalf("the end of %+v is not reported", h)
		}
	}
}

func (s *shop) output(h driver.Handle, r api.LogRequest) string {
	s.Helper()
	l, err := s.Logs(s.ctx, h.Key.Allocation, r)
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	b, err := io.ReadAll(l)
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

// run runs a program to its end and returns what it printed.
func (s *shop) run(c *driver.Config) string {
	s.Helper()
	h := s.start(c)
	if x := s.end(h); x.Code != 0 {
		s.Errorf("%s %v ended with %+v: %s", c.Command, c.Args, x, s.output(h, api.LogRequest{Tail: -1}))
	}
	return s.output(h, api.LogRequest{Tail: -1})
}

// firstLine follows the output until there is a line.
func (s *shop) firstLine(h driver.Handle) string {
	s.Helper()
	l, err := s.Logs(s.ctx, h.Key.Allocation, api.LogRequest{Tail: -1, Follow: true})
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	var got []byte
	for p := make([]byte, 1); !strings.HasSuffix(string(got), "\n"); {
		if _, err := io.ReadFull(l, p); err != nil {
			s.Fatalf("the output ends with %q: %v", got, err)
		}
		got = append(got, p...)
	}
	return strings.TrimSpace(string(got))
}

// ended waits for a process that is no child of ours.
func (s *shop) ended(i identity) {
	s.Helper()
	p, err := i.open()
	if err != nil {
		s.Fatal(err)
	}
	if p == nil {
		return
	}
	defer p.close()
	if err := p.wait(s.ctx); err != nil {
		s.Errorf("process %d is alive: %v", i.PID, err)
	}
}

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	h := s.start(s.config("sleep", "1000"))
	state, err := parseData(h.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(state.Supervisor.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if x := s.end(h); x.Signal != int(syscall.SIGKILL) || x.Message != "its supervisor was killed" {
		t.Errorf("an instance without its supervisor ended with %+v", x)
	}
	s.ended(state.Program)
	if err := s.Remove(s.ctx, h); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(cgroup.Root, "*", "cube", s.text.Format(h.Key.Allocation)+"-0"))
	if err != nil || len(left) != 0 {
		t.Errorf("control groups are left: %v, %v", left, err)
	}
}

// TestSupervisorIgnoresWhatEndsAgents sends what a terminal or an init system sends to all processes of an agent.
func TestSupervisorIgnoresWhatEndsAgents(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	h := s.start(s.config("sh", "-c", "echo up; exec sleep 1000"))
	s.firstLine(h)
	state, err := parseData(h.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(state.Supervisor.PID, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(s.ctx, h, "SIGINT", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if x := s.end(h); x.Signal != int(syscall.SIGINT) || x.Code != 130 {
		t.Errorf("after a SIGINT to the program itself it ended with %+v", x)
	}
}

func TestDescendantsEndToo(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	// One in the program's session, one that left it and has lost its parent.
	h := s.start(s.config("sh", "-c", `sleep 1000 & one=$!; setsid sh -c 'sleep 1000 & echo $!' | { read two; echo $one $two; }; exec sleep 1000`))
	var children []identity
	for field := range strings.FieldsSeq(s.firstLine(h)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		i, ok := identify(pid)
		if !ok {
			t.Fatalf("process %d is not there", pid)
		}
		children = append(children, i)
	}
	if len(children) != 2 {
		t.Fatalf("want two descendants, have %v", children)
	}
	if err := s.Stop(s.ctx, h, "SIGTERM", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, i := range children {
		if _, alive := identify(i.PID); alive {
			t.Errorf("process %d outlives its instance", i.PID)
		}
	}
}

// TestAnotherProcessIsLeftAlone has a handle whose PIDs are in use again: by this test.
func TestAnotherProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	self, ok := identify(os.Getpid())
	if !ok {
		t.Fatal("this process is not there")
	}
	former := identity{PID: self.PID, Start: self.Start - 1}
	for what, st := range map[string]state{
		"the PIDs are used again":        {Boot: boot, Supervisor: former, Program: former},
		"the machine was started anew":   {Boot: "another", Supervisor: self, Program: self},
		"only the supervisor's is again": {Boot: boot, Supervisor: former, Program: self},
	} {
		h := driver.Handle{Key: driver.Key{Allocation: 99}, Data: st.data()}
		if err := s.Stop(s.ctx, h, "SIGKILL", 0); err != nil { // were it not left alone, nothing would be left to fail
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("CUBE_AGENT_SECRET", "hush")
	s := newShop(t)
	c := s.config("env")
	c.Env = map[string]string{"GREETING": "hello", "LANG": "C"}
	got := s.run(c)
	if strings.Contains(got, "hush") {
		t.Errorf("a program sees the agent's environment: %s", got)
	}
	for _, want := range []string{"GREETING=hello\n", "LANG=C\n", "PATH="} {
		if !strings.Contains(got, want) {
			t.Errorf("a program does not see %q: %s", want, got)
		}
	}
	c = s.config("pwd")
	if got := strings.TrimSpace(s.run(c)); got != filepath.Join(c.Dir, "work") {
		t.Errorf("a program works in %s, want %s", got, filepath.Join(c.Dir, "work"))
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if _, err := credentialOf("0"); err == nil {
			t.Error("a user becomes root")
		}
		return
	}
	s := newShop(t)
	c := s.config("sh", "-c", `echo $(id -u) $(id -g) $HOME $(pwd)`)
	c.User = "65533:65532"
	if got := s.run(c); got != "65533 65532 / /\n" {
		t.Errorf("as 65533:65532 a program is %q", got)
	}
	for _, u := range []string{"nobody", "daemon"} {
		have, err := user.Lookup(u)
		if err != nil {
			continue
		}
		home := have.HomeDir
		if _, err := os.Stat(home); err != nil {
			home = "/" // nobody's is in name only
		}
		c = s.config("sh", "-c", `echo $HOME $(pwd)`)
		c.User = u
		if got, want := s.run(c), home+" "+home+"\n"; got != want {
			t.Errorf("as %s a program is in %q, want %q", u, got, want)
		}
	}
	c = s.config("true")
	c.User = "no-such-user"
	_, _, err := s.Start(s.ctx, c, func(string) {})
	var failed *driver.StartError
	if !errors.As(err, &failed) || !failed.Permanent || !strings.Contains(err.Error(), "no user no-such-user") {
		t.Errorf("as a user that does not exist a start gives %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"":                 "the task has no command",
		"no-such-command":  "no-such-command is in no directory of the PATH",
		"/no/such/command": "no such file or directory",
		"/tmp":             "permission denied",
		text:               "exec format error",
	} {
		_, _, err := s.Start(s.ctx, s.config(command), func(string) {})
		var failed *driver.StartError
		if !errors.As(err, &failed) || !failed.Permanent || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("the command %q gives %v, want %q", command, err, want)
		}
	}
	c := s.config("true")
	for _, dir := range []string{"/no/such/directory", text, text + "/x"} {
		c.WorkDir = dir
		if _, _, err := s.Start(s.ctx, c, func(string) {}); err == nil || !strings.Contains(err.Error(), "work_dir "+dir+" is not a directory") {
			t.Errorf("the directory %s gives %v", dir, err)
		}
	}
	if list, err := s.List(s.ctx); err != nil || len(list) != 0 {
		t.Errorf("failed starts left %+v, %v", list, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.logSize = 64 << 10
	h := s.start(s.config("seq", "200000")) // 1.3 MB
	l, err := s.Logs(s.ctx, h.Key.Allocation, api.LogRequest{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := io.Copy(io.Discard, l); err != nil {
		t.Errorf("following output that is rotated gives %v", err)
	}
	s.end(h)
	if got, want := s.output(h, api.LogRequest{Tail: 2}), "199999\n200000\n"; got != want {
		t.Errorf("the last two lines are %q, want %q", got, want)
	}
	home, _ := s.archive.Dir(h.Key.Allocation)
	files, err := filepath.Glob(filepath.Join(runDir(home, 0), "output-*"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range files {
		if i, err := os.Stat(f); err == nil {
			size += i.Size()
		}
	}
	// A file may be over its size by what one read brings, and each line has two bytes more.
	if len(files) > logFiles || size > int64(logFiles*(s.logSize+64<<10)) {
		t.Errorf("%d bytes are kept in %d files", size, len(files))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if cgroupVersion(cgroup.Root) != "v1" {
		t.Skip("this test reads control groups of version 1; TestUnifiedGroup looks at version 2")
	}
	s := newShop(t)
	c := s.config("sh", "-c", "cat /proc/self/cgroup")
	name := fmt.Sprintf("/cube/%s-0\n", s.text.Format(c.Key.Allocation))
	got := s.run(c)
	for _, controller := range controllers {
		if !strings.Contains(got, ":"+controller+":"+name) {
			t.Errorf("for %s a program is not in its own control group: %s", controller, got)
		}
	}
	h := s.start(s.config("sleep", "1000"))
	dir := filepath.Join(cgroup.Root, "memory", "cube", fmt.Sprintf("%s-0", s.text.Format(h.Key.Allocation)))
	limit, err := os.ReadFile(filepath.Join(dir, "memory.limit_in_bytes"))
	if err != nil || strings.TrimSpace(string(limit)) != strconv.Itoa(64<<20) {
		t.Errorf("the memory limit is %s, %v; want 64 MiB", limit, err)
	}
	if err := s.Stop(s.ctx, h, "SIGTERM", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the control group is left: %v", err)
	}
}

// TestUnifiedGroup works on the hierarchy of version 2, also where it is mounted beside those of version 1 and has no
// controllers: a program begins in its group and ends with it.
func TestUnifiedGroup(t *testing.T) {
	t.Parallel()
	root := cgroup.Root
	if cgroupVersion(root) != "v2" {
		root = filepath.Join(root, "unified")
	}
	if cgroupVersion(root) != "v2" {
		t.Skip("this machine has no control groups of version 2 that can be written")
	}
	g, err := newGroup(root, "test-"+rand.Text(), &spec{CPU: 100, Memory: 64})
	if err != nil {
		t.Logf("without controllers there are no limits: %v", err)
	}
	defer g.remove()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	command := exec.Command("sleep", "1000")
	command.SysProcAttr = &syscall.SysProcAttr{}
	done, err := g.attributes(command.SysProcAttr)
	if err != nil {
		t.Fatal(err)
	}
	err = command.Start()
	done()
	if err != nil {
		t.Fatal(err)
	}
	members, err := os.ReadFile(filepath.Join(g.dirs[0], "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(members)) != strconv.Itoa(command.Process.Pid) {
		t.Errorf("the group has %s, %v; want %d", members, err, command.Process.Pid)
	}
	g.kill()
	if err := command.Wait(); err == nil {
		t.Error("the program was not killed with its group")
	}
	g.remove()
	if _, err := os.Stat(g.dirs[0]); !os.IsNotExist(err) {
		t.Errorf("the group is left: %v", err)
	}
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	damaged, c := s.config("true"), s.config("sleep", "1000")
	h := s.start(c)
	s.end(s.start(damaged))
	if err := os.WriteFile(filepath.Join(runDir(damaged.Dir, 0), stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(s.ctx); err != nil || len(list) != 1 || list[0].Handle != h {
		t.Errorf("beside a damaged run are listed %+v, %v; want %+v", list, err, h)
	}
	s.end(s.start(damaged)) // in its place
}

func TestNoSuchSignal(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	h := s.start(s.config("sleep", "1000"))
	if err := s.Stop(s.ctx, h, "SIGNOTHING", 0); err == nil {
		t.Error("a signal that does not exist is sent")
	}
	if _, _, err := s.Start(s.ctx, s.config("sleep", "0"), func(string) {}); err != nil {
		t.Error(err)
	}
}
