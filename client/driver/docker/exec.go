package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	"cube/api"
	"cube/client/driver"
)

const (
	// execKillTimeout is how long a command may take to die of SIGKILL before it is left alone.
	execKillTimeout = 5 * time.Second
	// detachKeys stand in for Docker's own, ctrl-p ctrl-q, which would keep a shell's ctrl-p from it: nobody types these.
	detachKeys = "ctrl-@,ctrl-^,ctrl-@,ctrl-_"
	// endOfInput is what a person types at a terminal to end the input.
	endOfInput = 0x04
)

// Exec runs a command in the container; see driver.Driver.
//
// The engine has no call that ends or signals such a command. It is done through the machine's own process table, which
// takes an engine on this machine and the right to signal its processes. Where that is not to be had signals are dropped,
// and Exec says of a command whose context ended that it may go on.
func (d *Driver) Exec(ctx context.Context, h driver.Handle, r *driver.ExecRequest) (int, error) {
	if r.Stdin != nil {
		defer r.Stdin.Close()
	}
	if err := d.meet(ctx); err != nil {
		return -1, err
	}
	id, err := d.createExec(ctx, h, r)
	if err != nil {
		return -1, d.execError(ctx, h, err)
	}
	conn, out, err := d.startExec(ctx, id, r)
	if err != nil {
		return -1, d.execError(ctx, h, err)
	}
	x := &execution{d: d, id: id, container: h.Data, r: r, conn: conn, out: out}
	return x.attend(ctx)
}

func (d *Driver) createExec(ctx context.Context, h driver.Handle, r *driver.ExecRequest) (string, error) {
	var env []string
	for _, k := range slices.Sorted(maps.Keys(r.Env)) {
		env = append(env, k+"="+r.Env[k])
	}
	o := container.ExecOptions{
		Cmd: r.Command, Env: env, WorkingDir: r.WorkDir, Tty: r.TTY, DetachKeys: detachKeys,
		AttachStdin: r.Stdin != nil, AttachStdout: true, AttachStderr: true,
	}
	within, cancel := d.within(ctx)
	defer cancel()
	made, err := d.engine.ContainerExecCreate(within, h.Data, o)
	return made.ID, err
}

// execError says what kept a command from being run.
func (d *Driver) execError(ctx context.Context, h driver.Handle, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case gone(err), errdefs.IsConflict(err):
		return d.notRunning(h)
	}
	return fmt.Errorf("run a command in the container %.12s: %s", h.Data, d.reason(err))
}

// startExec starts the command and takes over the connection for what goes in and out. The SDK's own call for that heeds
// no deadline while it waits for the engine's answer.
func (d *Driver) startExec(ctx context.Context, id string, r *driver.ExecRequest) (net.Conn, *bufio.Reader, error) {
	within, cancel := d.within(ctx)
	defer cancel()
	conn, err := d.engine.Dialer()(within)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(within, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	out, err := upgrade(conn, fmt.Sprintf("/v%s/exec/%s/start", d.engine.ClientVersion(), id), container.ExecStartOptions{Tty: r.TTY})
	if !stop() && err == nil {
		err = context.Cause(within)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, out, nil
}

func upgrade(conn net.Conn, path string, options container.ExecStartOptions) (*bufio.Reader, error) {
	body, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"Upgrade"}, "Upgrade": {"tcp"}}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return in, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &said) != nil {
		said.Message = resp.Status
	}
	err = errors.New(said.Message)
	switch resp.StatusCode {
	case http.StatusNotFound:
		err = errdefs.ErrNotFound.WithMessage(said.Message)
	case http.StatusConflict:
		err = errdefs.ErrConflict.WithMessage(said.Message)
	}
	return nil, err
}

// execution is a command that runs in a container.
type execution struct {
	d         *Driver
	id        string
	container string
	r         *driver.ExecRequest
	conn      net.Conn
	out       *bufio.Reader
	refusal   refusal
}

// attend passes on what goes in and out until the command has ended, and returns its code.
func (x *execution) attend(ctx context.Context) (int, error) {
	var input sync.WaitGroup
	if x.r.Stdin != nil {
		input.Go(x.send)
	}
	output := make(chan error, 1)
	go func() { output <- x.receive() }()
	x.resize(ctx, x.r.Size)

	var broke, left error
	signals, sizes := x.r.Signals, x.r.Resize
	for running := true; running; {
		select {
		case broke = <-output:
			running = false
		case <-ctx.Done():
			left = x.end(output)
			running = false
		case n, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			if err := x.signal(n); err != nil {
				x.d.log.Warn("a signal to a command in a container is dropped", "container", x.container, "error", err)
			}
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			x.resize(ctx, size)
		}
	}
	x.conn.Close()
	if x.r.Stdin != nil {
		x.r.Stdin.Close()
	}
	input.Wait()
	switch {
	case ctx.Err() != nil:
		return -1, errors.Join(ctx.Err(), left)
	case broke != nil:
		left = x.signal(syscall.SIGKILL)
		return -1, errors.Join(fmt.Errorf("pass on the command's output: %w", broke), left)
	}
	return x.code(ctx)
}

// send passes on the input. A command need not read all of it: errors show in its end.
func (x *execution) send() {
	_, _ = io.Copy(x.conn, x.r.Stdin)
	if x.r.TTY {
		_, _ = x.conn.Write([]byte{endOfInput})
		return
	}
	if half, ok := x.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// receive passes on the output.
func (x *execution) receive() error {
	or := func(w io.Writer) io.Writer {
		if w == nil {
			return io.Discard
		}
		return w
	}
	x.refusal.to = or(x.r.Stdout)
	if x.r.TTY {
		_, err := io.Copy(&x.refusal, x.out)
		return err
	}
	_, err := stdcopy.StdCopy(&x.refusal, or(x.r.Stderr), x.out)
	return err
}

// resize tells the terminal's size. The engine waits with it until the command has begun; it fails once that has ended.
func (x *execution) resize(ctx context.Context, size api.WindowSize) {
	if !x.r.TTY || size == (api.WindowSize{}) {
		return
	}
	ctx, cancel := x.d.within(ctx)
	defer cancel()
	err := x.d.engine.ContainerExecResize(ctx, x.id, container.ResizeOptions{Height: uint(size.Rows), Width: uint(size.Columns)})
	if err != nil {
		x.d.log.Debug("a terminal in a container is not resized", "container", x.container, "error", err)
	}
}

// end kills the command and waits until its output has ended, for a while. Its error says why it may go on.
func (x *execution) end(output <-chan error) error {
	left := x.signal(syscall.SIGKILL)
	if left == nil {
		t := time.NewTimer(execKillTimeout)
		defer t.Stop()
		select {
		case <-output:
			return nil
		case <-t.C:
		}
	}
	x.conn.Close()
	<-output
	return left
}

// code asks for the exit code after the output has ended.
func (x *execution) code(ctx context.Context) (int, error) {
	i, err := x.inspect(ctx)
	if err == nil && i.Running {
		i, err = x.awaitEnd(ctx) // it has only closed its output
	}
	if err != nil {
		if ctx.Err() != nil {
			return -1, errors.Join(ctx.Err(), x.signal(syscall.SIGKILL))
		}
		return -1, fmt.Errorf("ask how the command in the container %.12s ended: %s", x.container, x.d.reason(err))
	}
	if text := x.refusal.text(); text != "" {
		if i.Pid == 0 && i.ExitCode >= driver.ExecNotRunnable {
			return x.notStarted(text)
		}
		if err := x.refusal.release(); err != nil {
			return -1, fmt.Errorf("pass on the command's output: %w", err)
		}
	}
	return i.ExitCode, nil
}

// notStarted tells from the engine's words why there was no command.
func (x *execution) notStarted(text string) (int, error) {
	code := driver.ExecNotRunnable
	for _, s := range []string{"executable file not found", "no such file or directory"} {
		if strings.Contains(text, s) {
			code = driver.ExecNotFound
		}
	}
	return code, api.Errorf(api.CodeInvalid, "run %s: %s", strings.Join(x.r.Command[:min(1, len(x.r.Command))], ""), reason(errors.New(text)))
}

func (x *execution) inspect(ctx context.Context) (container.ExecInspect, error) {
	ctx, cancel := x.d.within(ctx)
	defer cancel()
	return x.d.engine.ContainerExecInspect(ctx, x.id)
}

// awaitEnd waits for the engine to say that the command has ended.
func (x *execution) awaitEnd(ctx context.Context) (container.ExecInspect, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := filters.NewArgs(filters.Arg("container", x.container), filters.Arg("event", "exec_die"), filters.Arg("event", "die"))
	messages, errs := x.d.engine.Events(ctx, events.ListOptions{Filters: f})
	for {
		// After the events have begun, so that the end is in one or the other.
		i, err := x.inspect(ctx)
		if err != nil || !i.Running {
			return i, err
		}
		select {
		case <-messages:
		case err := <-errs:
			return i, err
		}
	}
}

// refused is how the engine's word begins that a command could not be started. It comes as output of the command.
const refused = "OCI runtime exec failed"

// maxRefusal bounds such a word.
const maxRefusal = 8 << 10

// refusal passes on output, but holds back what may be the engine's word that there will be none.
type refusal struct {
	to   io.Writer
	held []byte
	open bool // it was output
}

func (r *refusal) Write(p []byte) (int, error) {
	if r.open {
		return r.to.Write(p)
	}
	r.held = append(r.held, p...)
	n := min(len(r.held), len(refused))
	if string(r.held[:n]) == refused[:n] && len(r.held) < maxRefusal {
		return len(p), nil
	}
	return len(p), r.release()
}

// text is what is held back.
func (r *refusal) text() string { return strings.TrimSpace(string(r.held)) }

// release passes on what is held back, and from now on everything.
func (r *refusal) release() error {
	r.open = true
	_, err := r.to.Write(r.held)
	r.held = nil
	return err
}
