package command

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/posener/complete"

	"cube/api"
)

// command is one command of the tree. It implements cli.Command and cli.CommandAutocomplete.
type command struct {
	meta     *Meta
	name     string // "task run"
	args     string // what follows the options in the usage line: "<file>"
	min, max int    // how many arguments it takes; max -1: any number
	synopsis string
	prose    string // paragraphs of the help, not yet wrapped
	example  string // lines of a transcript, shown as they are
	offline  bool   // it asks no agent: no -address
	// reads says that it may wait for a file or for standard input, where no context reaches: until it asks for
	// Meta.Interrupt itself, Ctrl-C ends the process as it ends any other.
	reads bool
	// errorCode is the exit code of an error, where that is not 1.
	errorCode int
	flags     func(*flag.FlagSet)
	run       func(ctx context.Context, s *session, args []string) error
	predict   func(*Meta) complete.Predictor // of its arguments
}

// session is one run of a command: its streams, its look and the cluster it asks.
type session struct {
	*Meta
	style   style
	general generalFlags
	failed  int // exit code of an error
}

// generalFlags are those every command has, or every command that asks an agent.
type generalFlags struct {
	address string
	noColor bool
}

func (g *generalFlags) declare(f *flag.FlagSet, offline bool) {
	if !offline {
		f.StringVar(&g.address, "address", "", "The `address` of the agent to ask: http://host:port, host:port or unix:///path. Default http://127.0.0.1:5555, or what the environment variable CUBE_ADDR says.")
	}
	f.BoolVar(&g.noColor, "no-color", false, "No colours, even on a terminal. The environment variable NO_COLOR does the same.")
}

// Synopsis implements cli.Command.
func (c *command) Synopsis() string { return c.synopsis }

// Run implements cli.Command: it parses the arguments, runs the command and turns its error into words and an exit code.
func (c *command) Run(args []string) int {
	s := &session{Meta: c.meta, failed: cmp.Or(c.errorCode, exitError)}
	positional, err := c.parse(&s.general, args)
	if err != nil {
		fmt.Fprintf(c.meta.Stderr, "Error reading the arguments: %s\nFor additional help try 'cube %s -h'\n", printable(err.Error()), c.name)
		return s.failed
	}
	s.style = s.Meta.styleFor(s.general.noColor)
	ctx := c.meta.Context
	if !c.reads {
		var stop context.CancelFunc
		ctx, stop = c.meta.Interrupt(ctx)
		defer stop()
	}
	return s.report(c.run(ctx, s, positional))
}

func (c *command) flagSet(g *generalFlags) *flag.FlagSet {
	f := flag.NewFlagSet(c.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	g.declare(f, c.offline)
	if c.flags != nil {
		c.flags(f)
	}
	return f
}

func (c *command) parse(g *generalFlags, args []string) ([]string, error) {
	f := c.flagSet(g)
	flags, positional, err := reorder(f, args)
	if err != nil {
		return nil, err
	}
	if err := f.Parse(flags); err != nil {
		return nil, err
	}
	if len(positional) < c.min || c.max >= 0 && len(positional) > c.max {
		return nil, fmt.Errorf("%s, got %s", c.wants(), countOf(len(positional), "argument"))
	}
	for _, a := range positional {
		if a == "" {
			return nil, fmt.Errorf("an argument is empty; %s", c.wants())
		}
	}
	return positional, nil
}

// wants says which arguments the command takes.
func (c *command) wants() string {
	switch {
	case c.max == 0:
		return "this command takes no arguments"
	case c.min == c.max && c.min == 1:
		return "this command takes one argument: " + c.args
	case c.min == 0 && c.max == 1:
		return "this command takes at most one argument: " + c.args
	}
	return "this command takes: " + c.args
}

// failure is an error with what was being done when it happened.
type failure struct {
	doing string
	err   error
}

func (f *failure) Error() string { return f.doing + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failed says what was being done when err happened; the person reads "Error <doing>: <cause>".
func failed(err error, format string, args ...any) error {
	return &failure{doing: fmt.Sprintf(format, args...), err: err}
}

// exitCode ends a command with a code when everything there is to say has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// report puts err on the screen and returns the exit code.
func (s *session) report(err error) int {
	var code exitCode
	var f *failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(s.Stderr, "Interrupted")
	case errors.As(err, &f):
		fmt.Fprintf(s.Stderr, "Error %s: %s\n", printable(f.doing), strings.TrimRight(printableLines(f.err.Error()), "\n"))
		s.hint(f.err)
	default:
		fmt.Fprintf(s.Stderr, "Error: %s\n", printableLines(err.Error()))
	}
	return s.failed
}

// hint says what a person may try, where the code of an error makes that plain and its sentence does not.
func (s *session) hint(err error) {
	switch api.CodeOf(err) {
	case api.CodeNoLeader:
		fmt.Fprintln(s.Stderr, "The servers have no leader; see who is there with 'cube server members'")
	case api.CodeUnknown:
		fmt.Fprintln(s.Stderr, "It may or may not have happened: look before you try again")
	}
}

// cluster connects to the agent the flags and the environment name.
func (s *session) cluster() (api.Cluster, error) {
	address := s.general.address
	if address == "" {
		address = s.Getenv("CUBE_ADDR")
	}
	cluster, err := s.Connect(address)
	if err != nil {
		return nil, failed(err, "connecting")
	}
	return cluster, nil
}
