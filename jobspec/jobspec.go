// Package jobspec reads task files: HCL text in, api.Job out. See website/docs/task-file.md for the language.
//
// It is pure and bounded: the same text and variables always give the same jobs, nothing outside is read, and no text,
// however hostile, costs more than a fraction of a second and a few dozen megabytes. That is because servers parse what
// anyone with access sends them, and a parser that recurses can be made to overflow its stack, which no recover catches.
package jobspec

import "cube/api"

// File is what a task file says.
type File struct {
	Jobs []*api.Job // canonical and valid, in the order of the file
}

// Parse reads a task file. The variables are those given for it, as text, each converted to the type the file declares;
// the file's name is for messages and for the jobs' Source. An error is an *api.Error, usually with CodeInvalid, whose
// message says for each fault its place, what is wrong and what to do, with the line it stands in.
func Parse(src []byte, fileName string, vars map[string]string) (*File, error) {
	return nil, api.Errorf(api.CodeNotYet, "%s: reading task files is being built", fileName)
}

// ParseVariables reads a file of variables: lines of name = value. The values are text as Parse takes it.
func ParseVariables(src []byte, fileName string) (map[string]string, error) {
	return nil, api.Errorf(api.CodeNotYet, "%s: reading files of variables is being built", fileName)
}

// Declared returns the names of the variables that a task file declares, sorted; nil if the text cannot be read.
func Declared(src []byte) []string { return nil }

// Format lays a task file out in the usual way, without changing what it says. Text that is not HCL is refused.
func Format(src []byte, fileName string) ([]byte, error) {
	return nil, api.Errorf(api.CodeNotYet, "%s: formatting task files is being built", fileName)
}

// Sample returns a task file to begin from, with comments.
func Sample() []byte { return nil }
