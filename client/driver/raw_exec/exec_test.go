package rawexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"cube/client/driver"
	"cube/client/driver/cgroup"
)

// sleeper is an instance that runs until it is stopped.
func (s *shop) sleeper() driver.Handle {
	s.Helper()
	return s.start(s.config("/bin/sleep", "1000"))
}

func (s *shop) exec(h driver.Handle, script string) (code int, out string) {
	s.Helper()
	var b bytes.Buffer
	code, err := s.Exec(s.ctx, h, &driver.ExecRequest{Command: []string{"/bin/sh", "-c", script}, Stdout: &b, Stderr: &b})
	if err != nil {
		s.Fatal(err)
	}
	return code, b.String()
}

func TestCommandIsInTheInstancesGroup(t *testing.T) {
	if cgroupVersion(cgroup.Root) == "" {
		t.Skip("this machine's control groups cannot be written")
	}
	s := newShop(t)
	h := s.sleeper()
	run, program, err := s.running(h)
	if err != nil {
		t.Fatal(err)
	}
	program.close()
	of, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", run.Program.PID))
	if err != nil {
		t.Fatal(err)
	}
	_, out := s.exec(h, "cat /proc/self/cgroup")
	if out != string(of) {
		t.Errorf("the command is in the control groups\n%sand its instance in\n%s", out, of)
	}
}

func TestCancelEndsWhatACommandStarted(t *testing.T) {
	s := newShop(t)
	h := s.sleeper()
	ctx, cancel := context.WithCancel(s.ctx)
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Exec(ctx, h, &driver.ExecRequest{Command: []string{"/bin/sh", "-c", "sleep 1000 & echo $!; wait"}, Stdout: write})
		done <- err
	}()
	said := make([]byte, 32)
	n, err := read.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(said[:n])))
	if err != nil {
		t.Fatal(err)
	}
	child, err := openProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer child.close()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it gives %v", err)
	}
	if err := child.await(s.ctx); err != nil {
		t.Errorf("what the command had started goes on: %v", err)
	}
}

func TestWhatACommandLeavesBehindHoldsNothingUp(t *testing.T) {
	s := newShop(t)
	h := s.sleeper()
	code, out := s.exec(h, "sleep 1000 & echo begun; exit 3") // with the output still open
	if code != 3 || out != "begun\n" {
		t.Errorf("it ends with %d after %q", code, out)
	}
}

func TestCommandRunsAsTheInstancesUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may run as another user")
	}
	s := newShop(t)
	c := s.config("/bin/sleep", "1000")
	c.User = "nobody"
	h := s.start(c)
	var b bytes.Buffer
	r := &driver.ExecRequest{Command: []string{"/bin/sh", "-c", "id -un; echo x > /dev/tty && tty"}, TTY: true, Stdout: &b}
	if code, err := s.Exec(s.ctx, h, r); code != 0 || err != nil {
		t.Errorf("it ends with %d, %v", code, err)
	}
	if out := b.String(); !strings.HasPrefix(out, "nobody\r\nx\r\n/dev/pts/") {
		t.Errorf("it writes %q", out)
	}
}

func TestCommandThatCannotBeRun(t *testing.T) {
	s := newShop(t)
	h := s.sleeper()
	for _, r := range []driver.ExecRequest{{Command: []string{"/etc/passwd"}}, {Command: []string{"true"}, WorkDir: "/no/such"}} {
		if code, err := s.Exec(s.ctx, h, &r); code != driver.ExecNotRunnable || err == nil {
			t.Errorf("%+v gives %d, %v; want 126 and why", r, code, err)
		}
	}
}
