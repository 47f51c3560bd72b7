package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/term"

	"cube/api"
	"cube/api/attach"
)

// execCluster has the instances of populated, and a second one of web that runs.
func execCluster(t *testing.T) *fakeCluster {
	c := newFakeCluster()
	populated(c)
	t.Cleanup(c.scripts.Wait)
	return c
}

func TestExecPassesEverythingOn(t *testing.T) {
	c := execCluster(t)
	c.exec = func(_ context.Context, a *api.Allocation, r api.ExecRequest, command *attach.Command) (int, error) {
		in, err := io.ReadAll(command.Stdin)
		fmt.Fprintf(command.Stdout, "%s %q read %q\n", a.Name, r.Command, in)
		fmt.Fprintf(command.Stderr, "in %q with %v, terminal %v\n", r.WorkDir, r.Env, r.TTY)
		return 42, err
	}
	p := newTerminal(t, c)
	p.stdin.WriteString("typed\n")
	p.cube(42, "task", "exec", "-i", "-env", "A=b", "-dir", "/srv", "web", "-instance", "0", "--", "sh", "-c", "exit 42", "-h")
	if want := "web[0] [\"sh\" \"-c\" \"exit 42\" \"-h\"] read \"typed\\n\"\n"; p.stdout.String() != want {
		t.Errorf("stdout is %q, want %q", p.stdout.String(), want)
	}
	if want := "in \"/srv\" with map[A:b], terminal false\n"; p.stderr.String() != want {
		t.Errorf("stderr is %q, want %q", p.stderr.String(), want)
	}
}

// TestExecTellsItsFailuresFromTheCommands: each has a code of its own and one line.
func TestExecTellsItsFailuresFromTheCommands(t *testing.T) {
	for _, c := range []struct {
		args   string
		err    error // of the command
		code   int   // of the command
		exit   int
		stderr string
	}{
		{args: "web -- true", code: 1, exit: 1, stderr: ""},
		{args: "web -- true", code: 125, exit: 125, stderr: ""},
		{args: "web -- nothing", code: 127, err: api.Errorf(api.CodeInvalid, "no such file"), exit: 127, stderr: "Error running nothing in web[0]: no such file\n"},
		{args: "web -- /etc", code: 126, err: api.Errorf(api.CodeInvalid, "is a directory"), exit: 126, stderr: "Error running /etc in web[0]: is a directory\n"},
		{args: "web -- true", code: -1, err: api.Errorf(api.CodeConflict, "it has ended"), exit: 125, stderr: "Error running true in web[0]: it has ended\n"},
		{args: "nobody -- true", exit: 125, stderr: "Error running a command in \"nobody\": "},
		{args: "web -instance 7 -- true", exit: 125, stderr: "Error running a command in \"web\": there is no instance 7; those that run: 0\n"},
		{args: "shop -- true", exit: 125, stderr: "Error running a command in \"shop\": the job has several tasks; say which: shop/cart, shop/pay\n"},
		{args: "shop/none -- true", exit: 125, stderr: "Error running a command in \"shop/none\": job \"shop\" has no task \"none\""},
		{args: "web", exit: 125, stderr: "Error reading the arguments: this command takes: <name> -- <command>"},
		{args: "-nope web -- true", exit: 125, stderr: "Error reading the arguments: unknown flag -nope"},
		{args: "-it web -- sh", exit: 125, stderr: "Error running sh in web[0]: -t needs a terminal"},
	} {
		cluster := execCluster(t)
		cluster.exec = func(context.Context, *api.Allocation, api.ExecRequest, *attach.Command) (int, error) {
			return c.code, c.err
		}
		p := newTerminal(t, cluster)
		p.cube(c.exit, append([]string{"task", "exec"}, strings.Fields(c.args)...)...)
		if got := p.stderr.String(); !strings.HasPrefix(got, c.stderr) || c.stderr == "" && got != "" {
			t.Errorf("%s: stderr is %q, want %q", c.args, got, c.stderr)
		}
	}
}

func TestExecChoosesTheLowestThatRuns(t *testing.T) {
	c := execCluster(t)
	job := webJob(4)
	for slot := 2; slot < 4; slot++ {
		c.place(job, "web", slot, c.nodes[0], func(a *api.Allocation) { a.Phase = api.PhaseRunning })
	}
	for _, a := range c.allocs {
		if a.Name == "web[0]" {
			c.set(a.ID, func(a *api.Allocation) { a.Phase = api.PhaseFailed })
		}
	}
	c.exec = func(_ context.Context, a *api.Allocation, _ api.ExecRequest, command *attach.Command) (int, error) {
		_, err := fmt.Fprintln(command.Stdout, a.Name)
		return 0, err
	}
	p := newTerminal(t, c)
	p.cube(0, "task", "exec", "web", "--", "true")
	if p.stdout.String() != "web[2]\n" || p.stderr.String() != "web[2] of 2 that run, on n1\n" {
		t.Errorf("it says %q and %q", p.stdout.String(), p.stderr.String())
	}
	p = newTerminal(t, c)
	p.cube(exitExec, "task", "exec", "web", "-instance", "0", "--", "true")
	p.complains("instance 0 does not run, it is failed")
	for _, args := range [][]string{{"exec", "web", "-instance", "-2", "--", "true"}, {"logs", "web", "-instance", "-1"}, {"restart", "web", "-instance", "one"}} {
		p = newTerminal(t, c)
		p.cube(map[string]int{"exec": exitExec, "logs": exitError, "restart": exitError}[args[0]], append([]string{"task"}, args...)...)
		p.complains("not the number of an instance, from 0 to")
	}
}

// TestExecOnATerminal has a person type, change the size of their window and leave by ctrl-C, which is the command's to
// hear; then the terminal is as it was.
func TestExecOnATerminal(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 30, Cols: 97}); err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	c := execCluster(t)
	c.exec = func(_ context.Context, _ *api.Allocation, r api.ExecRequest, command *attach.Command) (int, error) {
		fmt.Fprintf(command.Stdout, "<%dx%d>", r.Size.Rows, r.Size.Columns)
		size := <-command.Resize
		fmt.Fprintf(command.Stdout, "<%dx%d>", size.Rows, size.Columns)
		for key := make([]byte, 1); ; {
			if _, err := command.Stdin.Read(key); err != nil {
				return -1, err
			}
			fmt.Fprintf(command.Stdout, "<%d>", key[0])
			if key[0] == 3 {
				return 5, nil
			}
		}
	}
	m := newMeta(tty, tty, tty)
	m.Getenv = func(string) string { return "" }
	m.Connect = newTerminal(t, c).meta.Connect
	done := make(chan int)
	go func() { done <- m.main([]string{"task", "exec", "-it", "web", "--", "sh"}) }()

	screen := ""
	sees := func(want string) {
		t.Helper()
		for b := make([]byte, 256); !strings.Contains(screen, want); {
			n, err := person.Read(b)
			if screen += string(b[:n]); err != nil {
				t.Fatalf("the screen ends (%v) without %q: %q", err, want, screen)
			}
		}
	}
	sees("<30x97>")
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // as the kernel does where the terminal is one's own
		t.Fatal(err)
	}
	sees("<50x120>")
	for _, key := range []string{"a", "\r", "\x1b", "\x03"} { // one that a terminal makes lines of turns none of them into another
		if _, err := person.WriteString(key); err != nil {
			t.Fatal(err)
		}
	}
	sees("<97><13><27><3>")
	if code := <-done; code != 5 {
		t.Errorf("it ends with %d, want 5", code)
	}
	after, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal is not as it was: %+v, was %+v", after, before)
	}
}
