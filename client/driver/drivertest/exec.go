package drivertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"cube/api"
	"cube/client/driver"
)

// exec runs a command to its end and returns what it wrote.
func (b *bench) exec(d driver.Driver, h driver.Handle, r driver.ExecRequest) (code int, stdout, stderr string) {
	b.Helper()
	var out, errs bytes.Buffer
	r.Stdout, r.Stderr = &out, &errs
	code, err := d.Exec(b.ctx, h, &r)
	if err != nil {
		b.Errorf("exec %q: %v", r.Command, err)
	}
	return code, out.String(), errs.String()
}

func execTellsCodeAndOutput(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	for _, p := range []Program{
		{Lines: 2, Ends: true, ExitCode: 3},
		{Lines: 2, Ends: true},
		{Ends: true, ExitCode: 255},
	} {
		code, out, errs := b.exec(d, h, driver.ExecRequest{Command: b.h.Command(p)})
		if want := lines("out", 1, p.Lines); code != p.ExitCode || out != want || errs != lines("err", 1, p.Lines) {
			b.Errorf("%+v ends with %d after %q and %q; want %d after %q, and stderr apart", p, code, out, errs, p.ExitCode, want)
		}
	}
	if code, err := d.Exec(b.ctx, h, &driver.ExecRequest{Command: b.h.Command(Program{Lines: 2, Ends: true, ExitCode: 4})}); code != 4 || err != nil {
		b.Errorf("a command that nobody listens to ends with %d, %v", code, err)
	}
	if i := b.only(d); !i.Running || i.Handle != h {
		b.Errorf("after that the driver lists %+v; want %+v running", i, h)
	}
}

func execReadsStdin(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	sent := make([]byte, 1<<20) // more than any pipe on the way holds
	_, _ = rand.Read(sent)      // it never fails
	for _, in := range [][]byte{sent, nil} {
		code, out, _ := b.exec(d, h, driver.ExecRequest{Command: b.h.Command(Program{Echo: true}), Stdin: io.NopCloser(bytes.NewReader(in))})
		if code != 0 || out != string(in) {
			b.Errorf("of %d bytes %d came back, with code %d", len(in), len(out), code)
		}
	}
	if code, out, _ := b.exec(d, h, driver.ExecRequest{Command: b.h.Command(Program{Echo: true})}); code != 0 || out != "" {
		b.Errorf("without input it ends with %d after %q", code, out)
	}
}

// execLeavesStdin has a command end that reads nothing of what waits for it.
func execLeavesStdin(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	read, write := io.Pipe()
	defer write.Close()
	if code, _, _ := b.exec(d, h, driver.ExecRequest{Command: b.h.Command(Program{Ends: true, ExitCode: 6}), Stdin: read}); code != 6 {
		b.Errorf("it ends with %d, want 6", code)
	}
	if _, err := write.Write([]byte("late")); !errors.Is(err, io.ErrClosedPipe) {
		b.Errorf("a write to the input of an ended command gives %v; want it closed", err)
	}
}

func execSurroundings(b *bench) {
	d := b.driver()
	c := b.config(Program{Lines: 1})
	c.Env["GREETING"] = "hello\tworld = 1"
	c.WorkDir = "/tmp"
	h, _ := b.start(d, c)
	b.awaitOutput(d, h.Key.Allocation, "out 1\n")
	for _, dir := range []string{"", "/"} {
		r := driver.ExecRequest{Command: b.h.Command(Program{Show: true, Ends: true}), Env: map[string]string{"CUBE_TEST": "no", "MORE": "x=y"}, WorkDir: dir}
		_, out, _ := b.exec(d, h, r)
		var got struct {
			Env map[string]string
			Dir string
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			b.Fatalf("the command prints %q: %v", out, err)
		}
		for k, want := range map[string]string{"GREETING": "hello\tworld = 1", "CUBE_TEST": "no", "MORE": "x=y"} {
			if got.Env[k] != want {
				b.Errorf("the command sees %s=%q, want %q", k, got.Env[k], want)
			}
		}
		want := dir
		if dir == "" {
			want = c.WorkDir
		}
		if got.Dir != want {
			b.Errorf("the command runs in %q, want %q", got.Dir, want)
		}
	}
}

func execOfNothing(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	for _, command := range [][]string{{"no-such-command"}, {"/no/such/command", "x"}} {
		var out bytes.Buffer
		code, err := d.Exec(b.ctx, h, &driver.ExecRequest{Command: command, Stdout: &out, Stderr: &out})
		if code != driver.ExecNotFound || api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), command[0]) {
			b.Errorf("%q gives %d, %v (%s); want 127 and an error that names it", command, code, err, api.CodeOf(err))
		}
		if out.Len() > 0 {
			b.Errorf("%q writes %q; the error says it all", command, &out)
		}
		b.Logf("it says: %v", err)
	}
	if i := b.only(d); !i.Running || i.Handle != h {
		b.Errorf("after that the driver lists %+v; want %+v running", i, h)
	}
}

func execInTheEnded(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	b.stop(d, h, "SIGKILL", 0)
	refused := func(when string) {
		b.Helper()
		code, err := d.Exec(b.ctx, h, &driver.ExecRequest{Command: b.h.Command(Program{Ends: true})})
		if code != -1 || api.CodeOf(err) != api.CodeConflict {
			b.Errorf("exec in an instance that %s gives %d, %v (%s)", when, code, err, api.CodeOf(err))
		}
		b.Logf("it says: %v", err)
	}
	refused("has ended")
	if i := b.only(d); i.Running {
		b.Errorf("after that the driver lists %+v", i)
	}
	b.remove(d, h)
	refused("is gone")
	if l := b.list(d); len(l) != 0 {
		b.Errorf("after that the driver lists %+v", l)
	}
}

func execEndsWithItsContext(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	for _, tty := range []bool{false, true} {
		mark := rand.Text()
		ctx, cancel := context.WithCancel(b.ctx)
		in, typing := io.Pipe()
		read, write := io.Pipe()
		stop := context.AfterFunc(ctx, func() { write.CloseWithError(ctx.Err()) })
		done := make(chan error, 1)
		go func() {
			r := &driver.ExecRequest{Command: b.h.Command(Program{Lines: 1, Echo: true, Args: []string{mark}}), TTY: tty, Stdin: in, Stdout: write}
			_, err := d.Exec(ctx, h, r)
			write.Close()
			done <- err
		}()
		b.await(read, "out 1")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.Errorf("a command whose context ended gives %v", err)
		}
		if pid := processWith(mark); pid != "" {
			b.Errorf("a command whose context ended goes on as process %s", pid)
		}
		stop()
		typing.Close()
	}
	if i := b.only(d); !i.Running || i.Handle != h {
		b.Errorf("after that the driver lists %+v; want %+v running", i, h)
	}
}

// processWith is the process of this machine that has the mark among its arguments, if there is one.
func processWith(mark string) (pid string) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return ""
	}
	for _, path := range found {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(mark)) {
			return filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

func execEndsWithItsInstance(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	in, typing := io.Pipe()
	defer typing.Close()
	read, write := io.Pipe()
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := d.Exec(b.ctx, h, &driver.ExecRequest{Command: b.h.Command(Program{Lines: 1, Echo: true}), Stdin: in, Stdout: write})
		write.Close()
		done <- result{code, err}
	}()
	b.await(read, "out 1\n")
	b.stop(d, h, "SIGKILL", 0)
	if r := <-done; r.code == 0 && r.err == nil {
		b.Errorf("a command whose instance was killed ends well")
	}
}

func execSignals(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	signals := make(chan syscall.Signal)
	read, write := io.Pipe()
	done := make(chan int, 1)
	go func() {
		r := &driver.ExecRequest{Command: b.h.Command(Program{Lines: 1, Echo: true}), Stdout: write, Signals: signals}
		in, typing := io.Pipe()
		defer typing.Close()
		r.Stdin = in
		code, err := d.Exec(b.ctx, h, r)
		if err != nil {
			b.Errorf("a command that got a signal gives %v", err)
		}
		write.Close()
		done <- code
	}()
	b.await(read, "out 1\n")
	signals <- syscall.SIGTERM
	if code := <-done; code != 128+int(syscall.SIGTERM) {
		b.Errorf("after SIGTERM it ends with %d, want 143", code)
	}
}

func execTerminal(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	in, typing := io.Pipe()
	read, write := io.Pipe()
	sizes := make(chan api.WindowSize)
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		r := &driver.ExecRequest{
			Command: b.h.Command(Program{Size: true, ExitCode: 9}), TTY: true, Size: api.WindowSize{Rows: 40, Columns: 100},
			Stdin: in, Stdout: write, Stderr: &errs, Resize: sizes,
		}
		code, err := d.Exec(b.ctx, h, r)
		if err != nil {
			b.Errorf("exec with a terminal: %v", err)
		}
		write.Close()
		done <- code
	}()
	b.await(read, "40x100\r\n") // a terminal makes two characters of a line break
	sizes <- api.WindowSize{Rows: 50, Columns: 120}
	b.await(read, "50x120\r\n")
	var rest sync.WaitGroup
	rest.Go(func() { _, _ = io.Copy(io.Discard, read) })
	typing.Close() // a terminal has no end: the program is told by the character for it
	if code := <-done; code != 9 {
		b.Errorf("it ends with %d, want 9", code)
	}
	rest.Wait()
	if errs.Len() > 0 {
		b.Errorf("with a terminal something went to stderr: %q", &errs)
	}
}

func execsAtTheSameTime(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{}))
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			if code, out, _ := b.exec(d, h, driver.ExecRequest{Command: b.h.Command(Program{Lines: n, Ends: true, ExitCode: n})}); code != n || out != lines("out", 1, n) {
				b.Errorf("command %d ends with %d after %q", n, code, out)
			}
		})
	}
	all.Wait()
}
