package api

import "strings"

// ExecRequest is a command that a person wants to have run beside an instance.
type ExecRequest struct {
	Command []string          // the program and its arguments; no shell is put around it
	Env     map[string]string `json:",omitempty"` // besides what the instance has
	WorkDir string            `json:",omitempty"` // "": the instance's
	Stdin   bool              `json:",omitempty"` // it has input
	TTY     bool              `json:",omitempty"` // it gets a terminal of its own, and one stream of output
	Size    WindowSize        // of the terminal at the beginning
	Part    string            `json:",omitempty"` // the running part of its task in which it is run; "": the main container
}

// WindowSize is how many characters a terminal shows. The zero value is: not known.
type WindowSize struct {
	Rows    uint16
	Columns uint16
}

// Check says what is wrong with the request; nil for nothing.
func (r *ExecRequest) Check() error {
	if len(r.Command) == 0 || r.Command[0] == "" {
		return Errorf(CodeInvalid, "there is no command to run; name one, such as sh")
	}
	for _, s := range r.Command {
		if strings.ContainsRune(s, 0) {
			return Errorf(CodeInvalid, "the command holds a NUL, which no argument can")
		}
	}
	for k, v := range r.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return Errorf(CodeInvalid, "%.40q is no environment variable", k)
		}
	}
	return nil
}
