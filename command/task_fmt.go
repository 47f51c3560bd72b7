package command

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"cube/jobspec"
)

func newTaskFmt(m *Meta) *command {
	var o formatter
	return &command{
		meta: m, name: "task fmt", args: "[file or directory ...]", max: -1, predict: predictTaskFiles, offline: true, reads: true,
		synopsis: "Lay task files out in the usual way",
		prose:    "Rewrites task files in the usual layout and prints the names of those it changed. What they say stays the same. Of a directory it takes every file whose name ends in .hcl; without an argument, of the working directory. With - it reads standard input and writes standard output.",
		example:  "$ cube task fmt web.hcl\n$ cube task fmt -check .",
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&o.check, "check", false, "Change nothing; the exit code is 1 when a file is not in the usual layout.")
			f.BoolVar(&o.write, "write", true, "Write the files. With -write=false, the result goes to standard output instead.")
		},
		run: func(_ context.Context, s *session, args []string) error {
			o.session = s
			if len(args) == 0 {
				args = []string{"."}
			}
			for _, path := range args {
				if err := o.path(path); err != nil {
					return err
				}
			}
			if o.check && o.changed > 0 {
				return exitCode(exitError)
			}
			return nil
		},
	}
}

// formatter formats files, one after the other.
type formatter struct {
	*session
	check, write bool
	changed      int // files that are not, or were not, in the usual layout
}

// path formats a file, the files of a directory, or standard input.
func (o *formatter) path(path string) error {
	info, err := os.Stat(path)
	if path == "-" || err != nil || !info.IsDir() {
		return o.file(path) // reading it says what is wrong with it
	}
	found, err := filepath.Glob(filepath.Join(path, "*.hcl"))
	if err != nil {
		return failed(err, "reading %q", path)
	}
	for _, file := range found {
		if err := o.file(file); err != nil {
			return err
		}
	}
	return nil
}

func (o *formatter) file(path string) error {
	name, source, err := readSource(o.Stdin, path)
	if err != nil {
		return err
	}
	result, err := jobspec.Format(source, name)
	if err != nil {
		return failed(err, "formatting %q", path)
	}
	same := bytes.Equal(source, result)
	if !same {
		o.changed++
	}
	switch {
	case o.check:
		if !same {
			fmt.Fprintln(o.Stdout, printable(name))
		}
	case path == "-" || !o.write:
		_, err = o.Stdout.Write(result)
	case !same:
		fmt.Fprintln(o.Stdout, printable(name))
		err = replaceFile(path, result)
	}
	if err != nil {
		return failed(err, "writing %q", path)
	}
	return nil
}

// replaceFile puts new contents in the place of a file, whole or not at all, and keeps its mode. A link stays a link.
func replaceFile(path string, contents []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return plainPathError(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return plainPathError(err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".cube-fmt-*")
	if err != nil {
		return plainPathError(err)
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	_, err = tmp.Write(contents)
	if err == nil {
		err = tmp.Chmod(info.Mode().Perm())
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}
