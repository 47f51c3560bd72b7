package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/cli"
	"golang.org/x/term"

	"cube/api"
)

// Exit codes (DESIGN section 6). Scripts rely on them.
const (
	exitOK        = 0
	exitError     = 1
	exitNotPlaced = 2 // accepted, but not (all) placed or started
)

// Meta is what all commands share: the outside world, so that a test can be one.
type Meta struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Context is the parent of every command's context.
	Context context.Context
	Getenv  func(name string) string
	Environ func() []string
	Now     func() time.Time
	// Size tells the columns and rows of the terminal that Stdout is; ok is false when it is none.
	Size func() (columns, rows int, ok bool)
	// Interrupt returns a context that ends when the person presses Ctrl-C.
	Interrupt func(context.Context) (context.Context, context.CancelFunc)
	// Connect returns the cluster behind an agent's address. It does not dial.
	Connect func(address string) (api.Cluster, error)
	// Recover makes the server whose data directory this is the only voter of its cluster, while it is stopped, and says
	// what it did.
	Recover func(dataDir string) (string, error)
	// Agent and Supervise make the commands that run a process for long: the agent itself, and what watches over one
	// raw_exec instance. Where they are nil there is no such command.
	Agent, Supervise func(*Meta) cli.Command
	// Version is what `cube version` says after the name.
	Version string
}

// newMeta returns the Meta of a real process.
func newMeta(stdin io.Reader, stdout, stderr io.Writer) *Meta {
	return &Meta{
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Context: context.Background(),
		Getenv:  os.Getenv,
		Environ: os.Environ,
		Now:     time.Now,
		Size:    func() (int, int, bool) { return terminalSize(stdout) },
		Interrupt: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		},
	}
}

func terminalSize(w io.Writer) (columns, rows int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return 80, 24, true
	}
	return columns, rows, true
}

// who says who asks, for the record.
func (m *Meta) who() string {
	user := m.Getenv("USER")
	if user == "" {
		user = fmt.Sprintf("uid %d", os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}

// isTerminal reports whether people look at standard output.
func (m *Meta) isTerminal() bool {
	_, _, ok := m.Size()
	return ok
}
