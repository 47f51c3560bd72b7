package driver

import (
	"io"
	"syscall"

	"cube/api"
)

// Codes that Exec returns with an error when the command could not be started, as shells number them.
const (
	ExecNotRunnable = 126 // it is no program, or may not be run
	ExecNotFound    = 127 // there is no such command
)

// ExecRequest is a command to run beside a running instance: in its surroundings, with its environment, as its user. No
// shell is put around it.
//
// The context of Exec bounds its streams too: a Read or Write that waits must end once that context has.
type ExecRequest struct {
	Command []string          // the program, looked for in the instance's PATH, and its arguments
	Env     map[string]string // besides what the instance has; these win
	WorkDir string            // "": the instance's
	// TTY gives the command a terminal of its own. All that it writes goes to Stdout then.
	TTY  bool
	Size api.WindowSize // of the terminal at the beginning; zero: unknown

	// Stdin is closed by Exec once the command has ended. Its end is the end of the command's input. nil: none.
	Stdin          io.ReadCloser
	Stdout, Stderr io.Writer // nil: what is written there is dropped

	Resize  <-chan api.WindowSize // of the terminal. May be nil
	Signals <-chan syscall.Signal // to be sent to the command and what it has started. May be nil
}
