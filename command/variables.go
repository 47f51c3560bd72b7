package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"strings"
	"unicode/utf8"

	"cube/api"
	"cube/jobspec"
)

// variablePrefix begins the environment variables that give values to the variables of a task file.
const variablePrefix = "CUBE_VAR_"

// variableFlags give values to the variables of a task file.
type variableFlags struct {
	values keyValues
	files  words
}

func (v *variableFlags) declare(f *flag.FlagSet) {
	v.values = keyValues{}
	f.Var(v.values, "var", "Value of a variable, as `name=value`. May be given several times, and wins over files and the environment.")
	f.Var(&v.files, "var-file", "`File` with values of variables, a name = value each. May be given several times; the last one wins.")
}

// submission reads the task file at path, or standard input for "-", with the values for its variables.
func (v *variableFlags) submission(s *session, path string) (api.Submission, error) {
	name, source, err := readSource(s.Stdin, path)
	if err != nil {
		return api.Submission{}, err
	}
	values, err := v.collect(s.Meta, source)
	if err != nil {
		return api.Submission{}, err
	}
	return api.Submission{Source: string(source), FileName: name, Variables: values}, nil
}

// collect returns the values for the variables of source: from the environment (only of variables that source declares,
// since the environment is shared with other files), then from files, then from the command line.
func (v *variableFlags) collect(m *Meta, source []byte) (map[string]string, error) {
	all := map[string]string{}
	environment := map[string]string{}
	for _, e := range m.Environ() {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, variablePrefix) {
			environment[strings.TrimPrefix(name, variablePrefix)] = value
		}
	}
	for _, name := range jobspec.Declared(source) {
		if value, ok := environment[name]; ok {
			all[name] = value
		}
	}
	for _, path := range v.files {
		values, err := readVariables(path)
		if err != nil {
			return nil, failed(err, "reading the variables of %q", path)
		}
		maps.Copy(all, values)
	}
	maps.Copy(all, v.values)
	for _, name := range sortedKeys(all) {
		if !utf8.ValidString(all[name]) {
			return nil, failed(errors.New("its value holds bytes that are not UTF-8"), "reading variable %q", name)
		}
	}
	return all, nil
}

// again are the flags that give a file the same values once more, each with a space before it. Sensitive values are not repeated:
// without them the file is refused, and says which.
func (v *variableFlags) again(source string) string {
	var out strings.Builder
	for _, path := range v.files {
		out.WriteString(" -var-file " + shellWord(path))
	}
	sensitive := map[string]bool{}
	if body, err := jobspec.Syntax([]byte(source), ""); err == nil { // it is what the servers have read
		for _, b := range body.Blocks {
			if b.Type == "variable" && len(b.Labels) == 1 {
				sensitive[b.Labels[0]] = b.Body.Attributes["sensitive"] != nil
			}
		}
	}
	for _, name := range sortedKeys(v.values) {
		if !sensitive[name] {
			out.WriteString(" -var " + shellWord(name+"="+v.values[name]))
		}
	}
	return out.String()
}

func readVariables(path string) (map[string]string, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, api.MaxSourceBytes+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if len(b) > api.MaxSourceBytes {
		return nil, fmt.Errorf("it is over %d bytes, more than such a file may have", api.MaxSourceBytes)
	}
	return jobspec.ParseVariables(b, path)
}
