package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestExec runs commands beside instances of both drivers, from a terminal and from scripts, and from another agent than
// the one whose instance it is.
func TestExec(t *testing.T) {
	config := write(t, "agent.hcl", "client {\n  raw_exec = true\n}\n")
	f := &fleet{t: t, servers: []*process{{name: "s1", bind: "127.0.9.5", dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-server"}}}}
	f.servers[0].start(t)
	t.Cleanup(f.close)
	f.join("n1", "127.0.9.6", "-config", config)
	f.learnID()
	file := write(t, "web.hcl", "task \"web\" {\n  image = \"cube/hello:1\"\n  args  = [\"-listen\", \"none\"]\n}\n")
	raw := write(t, "raw.hcl", "task \"raw\" {\n  driver  = \"raw_exec\"\n  command = \"/bin/sleep\"\n  args    = [\"1000\"]\n}\n")
	for _, file := range []string{file, raw} {
		f.does("task", "run", file)
	}
	defer f.cube("task", "stop", "raw") // its process outlives its agent
	for _, address := range []string{"http://127.0.9.5:5555", "http://127.0.9.6:5555"} {
		for _, c := range []struct {
			stdin, command, stdout, stderr string
			code                           int
		}{
			{"", "web -- /hello -listen none -lines 2 -exit-after 0s -exit-code 3", "out 1\nout 2\n", "err 1\nerr 2\n", 3},
			{"typed\n", "-i web -- /hello -echo", "typed\n", "", 0},
			{"", "web -- sh", "", "Error running sh in web[0]: run sh: ", 127},
			{"typed\n", "-i -env A=b raw -- sh -c cat;echo$A;exit5", "typed\n", "sh: 1: echob: not found\nsh: 1: exit5: not found\n", 127},
			{"", "raw -instance 1 -- true", "", "Error running a command in \"raw\": there is no instance 1; those that run: 0\n", 125},
		} {
			cmd := exec.Command(binary, append([]string{"task", "exec", "-address", address}, strings.Fields(c.command)...)...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &out, &errs
			if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			if cmd.ProcessState.ExitCode() != c.code || out.String() != c.stdout || !strings.HasPrefix(errs.String(), c.stderr) {
				t.Errorf("cube task exec %s at %s ends with %d after %q and %q; want %d after %q and %q", c.command, address, cmd.ProcessState.ExitCode(), &out, &errs, c.code, c.stdout, c.stderr)
			}
		}
		onATerminal(t, address)
	}
}

// onATerminal types at a shell as a person does, makes the window larger, interrupts a command, and ends with a code.
func onATerminal(t *testing.T, address string) {
	cmd := exec.Command(binary, "task", "exec", "-address", address, "-it", "raw", "--", "sh")
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 97})
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	watchdog := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	seen := ""
	sees := func(want string) {
		t.Helper()
		for b := make([]byte, 1024); !strings.Contains(seen, want); {
			n, err := screen.Read(b)
			if seen += string(b[:n]); err != nil {
				t.Fatalf("the screen ends (%v) without %q: %q", err, want, seen)
			}
		}
		_, seen, _ = strings.Cut(seen, want)
	}
	types := func(keys string) {
		t.Helper()
		if _, err := screen.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	types("stty size\r")
	sees("30 97\r\n")
	if err := pty.Setsize(screen, &pty.Winsize{Rows: 50, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	types("until stty size | grep '^50 120'; do sleep 0.05; done\r") // that it is told is for later than that it is done
	sees("50 120\r\n")
	types("echo re''ady; sleep 1000\r")
	sees("ready\r\n")
	types("\x03")
	types("echo $? on $CUBE_TASK_NAME; exit 7\r")
	sees("130 on raw\r\n")
	err = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("the shell ends with %d (%v), want 7; the rest of the screen is %q", code, err, seen)
	}
}

// TestExecEndsWithItsPerson kills `cube task exec` with -9: what it had run ends, and the instance goes on.
func TestExecEndsWithItsPerson(t *testing.T) {
	f := newAlone(t, "127.0.9.7")
	file := write(t, "web.hcl", "task \"web\" {\n  image = \"cube/hello:1\"\n  args  = [\"-listen\", \"none\"]\n}\n")
	f.does("task", "run", file)
	mark := fmt.Sprintf("mark-%d", os.Getpid())
	cmd := exec.Command(binary, "task", "exec", "-address", "http://127.0.9.7:5555", "web", "--", "/hello", "-listen", "none", "-lines", "1", mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if inside(mark) != 1 {
		t.Errorf("%d processes carry the mark, want one", inside(mark))
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it was killed
	f.eventually("the command has ended", 10*time.Second, func() error {
		if n := inside(mark); n != 0 {
			return fmt.Errorf("%d processes carry the mark", n)
		}
		return nil
	})
	if n := len(f.running()); n != 1 {
		t.Errorf("%d containers run, want one", n)
	}
}

// inside counts the processes of hello that have the mark among their arguments.
func inside(mark string) (n int) {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, path := range found {
		if text, err := os.ReadFile(path); err == nil && bytes.HasPrefix(text, []byte("/hello\x00")) && bytes.Contains(text, []byte(mark)) {
			n++
		}
	}
	return n
}
