package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/internal/hello/helloimage"
)

// on is a constraint to a node.
func on(node string) string {
	return fmt.Sprintf("constraint {\n    attribute = \"node.name\"\n    value     = %q\n  }\n", node)
}

// tasks are accepted and cannot be started: both task run and task status say why.
func (v *victim) tasks(t *testing.T) {
	at := []string{"CUBE_ADDR=" + v.client.bind}
	t.Run("all at once", func(t *testing.T) {
		for _, c := range []struct{ name, text, want string }{
			{"no-image", "image = \"cube/does-not-exist:7\"", "image cube/does-not-exist:7 cannot be pulled"},
			{"no-command", "driver  = \"raw_exec\"\n  command = \"/no/such/command\"", "/no/such/command: no such file or directory"},
			{"no-user", fmt.Sprintf("image = %q\n  user  = \"nobody-here\"", helloimage.Tag), "unable to find user nobody-here"},
			{"no-node", fmt.Sprintf("image = %q\n  %s", helloimage.Tag, on("nowhere")), "both nodes fail node.name = nowhere (seen: beside, victim)"},
			{"no-room", fmt.Sprintf("image = %q\n  resources {\n    memory = 9999999\n  }", helloimage.Tag), "both nodes lack memory"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				file := write(t, "bad.hcl", fmt.Sprintf("task %q {\n  %s\n}\n", c.name, c.text))
				run := cli(t, nil, at, "task", "run", "-timeout", "3s", file)
				if run.code != 2 || !strings.Contains(run.out+run.err, c.want) {
					t.Errorf("task run ends with %d and does not say %q:\n%s%s", run.code, c.want, run.out, run.err)
				}
				if s := cli(t, nil, at, "task", "status", c.name); s.code != 0 || !strings.Contains(s.out, c.want) {
					t.Errorf("task status ends with %d and does not say %q:\n%s%s", s.code, c.want, s.out, s.err)
				}
				if s := cli(t, nil, at, "task", "stop", c.name); s.code != 0 {
					t.Errorf("task stop ends with %d:\n%s%s", s.code, s.out, s.err)
				}
			})
		}
	})
	v.jobs = v.registered(t) // those above were, on purpose
	v.unharmed(t, "tasks that cannot be started")
	if left := v.containers(); len(left) > 0 {
		t.Errorf("containers are left: %v", left)
	}
}

// TestAFullDisk: a client whose disk is full starts what needs none of it, says of the rest why not, loses nothing when it
// is killed then, and goes on when there is room.
func TestAFullDisk(t *testing.T) {
	v := newVictim(t)
	disk := smallDisk(t, 1) // before the agent's own end below, so that it goes after it
	full := &process{name: "full", bind: "127.0.9.3", dir: filepath.Join(disk, "data"), log: &lockedBuffer{}, args: append([]string{"-client", "-join", v.server.bind}, v.server.args[2:]...)}
	full.start(t)
	t.Cleanup(func() {
		full.cmd.Process.Kill()
		<-full.done
		if t.Failed() {
			t.Logf("the end of its log:\n%s", tail(full.log.String(), 40))
		}
	})
	v.eventually("three nodes are ready", 20*time.Second, func() error { return v.nodesReady(3) })
	fill := filepath.Join(disk, "fill")
	exhaust(t, fill)

	file := write(t, "web.hcl", fmt.Sprintf("task \"web\" {\n  image = %q\n  resources {\n    memory = 16\n  }\n  %s}\n", helloimage.Tag, on("full")))
	v.does("task", "run", "-timeout", "10s", file)
	before := v.agree("web", 1, 10*time.Second)
	raw := func(name string) string {
		return write(t, name+".hcl", fmt.Sprintf("task %q {\n  driver  = \"raw_exec\"\n  command = \"/bin/sleep\"\n  args    = [\"1000\"]\n  %s}\n", name, on("full")))
	}
	v.says(2, "no space left on device", "task", "run", "-timeout", "3s", raw("sleep"))
	v.says(0, "no space left on device", "task", "status", "sleep")
	v.says(0, "no space left on device", "node", "status", "full")

	if n := strings.Count(full.log.String(), "the client's state is not saved"); n != 1 {
		t.Errorf("its log says %d times that its state is not saved:\n%s", n, tail(full.log.String(), 20))
	}

	full.end(t, syscall.SIGKILL)
	full.restart(t, v.fleet, 3)
	v.agree("web", 1, 10*time.Second)
	v.unchanged("after the agent was killed on a full disk,", before)

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	v.says(0, "", "task", "run", "-timeout", "10s", raw("later"))
	for _, job := range []string{"web", "sleep", "later"} {
		v.says(0, "", "task", "stop", job)
	}
	full.end(t, syscall.SIGTERM)

	exhaust(t, fill)
	fresh := filepath.Join(disk, "fresh")
	for _, role := range []string{"-server", "-client"} {
		cli(t, nil, nil, "agent", role, "-bind", full.bind, "-data-dir", fresh).complains(t, fresh, "no space left on device")
	}
}

// exhaust fills the disk that a file is on.
func exhaust(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Fatal(err)
	}
}
