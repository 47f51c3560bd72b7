package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/posener/complete"

	"cube/jobspec/convert"
)

// converter converts one file of another orchestrator.
type converter struct {
	*session
	from    string
	out     string
	force   bool
	json    bool
	name    string
	coreMHz int
}

func newTaskConvert(m *Meta) *command {
	var o converter
	return &command{
		meta: m, name: "task convert", args: "<file>", min: 1, max: 1, offline: true, reads: true,
		predict: func(*Meta) complete.Predictor {
			return complete.PredictOr(complete.PredictFiles("*.y*ml"), complete.PredictFiles("*.hcl"), complete.PredictFiles("*.nomad"))
		},
		synopsis: "Convert a Compose file or a Nomad job",
		prose: `Writes a task file that says what a Compose file or a Nomad job says, to standard output or with -o to a file, and lists on standard error what could not be carried over: where it stands, what became of it, and what to do instead. Where a person has to decide, a comment in the task file says so. Nothing that the file refers to is read, and no agent is asked; - reads standard input.

Files whose names end in .yml or .yaml are taken for Compose, those that end in .hcl or .nomad for Nomad; -from says which it is.

The exit code is 0 when a task file came out, however much it leaves out, and 1 when none did.`,
		example: "$ cube task convert -o shop.hcl compose.yml\n$ cube task convert -core-mhz 3200 web.nomad.hcl > web.hcl",
		flags: func(f *flag.FlagSet) {
			f.StringVar(&o.out, "o", "", "The `file` to write. One that exists is left as it is, but for -force.")
			f.BoolVar(&o.force, "force", false, "Overwrite the file of -o.")
			f.StringVar(&o.from, "from", "", "What it is: `compose or nomad`, whatever the file is called.")
			f.StringVar(&o.name, "name", "", "The job's `name`, where a Compose file gives none. Default: that of its directory, as Compose does.")
			f.IntVar(&o.coreMHz, "core-mhz", convert.DefaultCoreMHz, "How many `MHz` of a Nomad job make one core.")
			f.BoolVar(&o.json, "json", false, "Print JSON, the task file and the findings, and nothing else.")
		},
		run: func(_ context.Context, s *session, args []string) error {
			o.session = s
			if o.coreMHz < 1 {
				return failed(fmt.Errorf("-core-mhz %d is not above 0", o.coreMHz), "reading the arguments")
			}
			return o.convert(args[0])
		},
	}
}

func (o *converter) convert(path string) error {
	read, err := o.reader(path)
	if err != nil {
		return failed(err, "converting %q", path)
	}
	fileName, source, err := readSource(o.Stdin, path)
	if err != nil {
		return err
	}
	result, err := read(source, convert.Options{FileName: fileName, Name: o.jobName(path), CoreMHz: o.coreMHz})
	if err != nil {
		return failed(err, "converting %q", path)
	}
	if o.out != "" {
		if err := o.write(path, result.HCL); err != nil {
			return failed(err, "writing %q", o.out)
		}
	}
	if o.json {
		return o.printJSON(result)
	}
	if o.out == "" {
		o.print(string(result.HCL))
	}
	for _, f := range result.Findings {
		fmt.Fprintln(o.Stderr, printable(f.String()))
	}
	if o.out != "" {
		fmt.Fprintf(o.Stdout, "Wrote %s, with %s to look at; then: cube task plan %s\n", printable(o.out), countOf(len(result.Findings), "finding"), printable(o.out))
	}
	return nil
}

// reader finds out what converts a file.
func (o *converter) reader(path string) (func([]byte, convert.Options) (*convert.Result, error), error) {
	kind := o.from
	if kind == "" {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".yml", ".yaml":
			kind = "compose"
		case ".hcl", ".nomad":
			kind = "nomad"
		default:
			return nil, errors.New("its name says neither that it is a Compose file (.yml, .yaml) nor a Nomad job (.hcl, .nomad); say which with -from")
		}
	}
	switch kind {
	case "compose":
		return convert.Compose, nil
	case "nomad":
		return convert.Nomad, nil
	}
	return nil, fmt.Errorf("-from %.40q is neither compose nor nomad", kind)
}

// jobName is what Compose would call the project of a file.
func (o *converter) jobName(path string) string {
	if o.name != "" || path == "-" {
		return o.name
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	return filepath.Base(filepath.Dir(absolute))
}

// write writes the task file. Only -force overwrites one, and nothing overwrites what it was made from.
func (o *converter) write(source string, contents []byte) error {
	if !o.force {
		return writeNew(o.out, contents)
	}
	out, err := os.Stat(o.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeNew(o.out, contents)
	case err != nil:
		return plainPathError(err)
	}
	if in, err := os.Stat(source); err == nil && os.SameFile(in, out) {
		return errors.New("it is the file to convert")
	}
	return replaceFile(o.out, contents)
}

func (o *converter) printJSON(result *convert.Result) error {
	text, err := writeJSON(struct {
		HCL      string
		Findings []convert.Finding
	}{string(result.HCL), append([]convert.Finding{}, result.Findings...)}, "    ")
	if err != nil {
		return failed(err, "writing JSON")
	}
	o.print(text + "\n")
	return nil
}
