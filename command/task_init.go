package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"cube/jobspec"
)

// exampleFile is the name `task init` writes to when none is given.
const exampleFile = "web.hcl"

func newTaskInit(m *Meta) *command {
	return &command{
		meta: m, name: "task init", args: "[file]", max: 1, offline: true,
		synopsis: "Write an example task file",
		prose:    "Writes an example task file, web.hcl unless another name is given, to begin from. A file that exists is left as it is.",
		example:  "$ cube task init\n$ cube task run web.hcl",
		run: func(_ context.Context, s *session, args []string) error {
			path := exampleFile
			if len(args) == 1 {
				path = args[0]
			}
			if err := writeNew(path, jobspec.Sample()); err != nil {
				return failed(err, "writing %q", path)
			}
			fmt.Fprintf(s.Stdout, "Wrote an example task to %s; run it with: cube task run %s\n", printable(path), printable(path))
			return nil
		},
	}
}

// writeNew writes a file that must not exist yet.
func writeNew(path string, contents []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("it exists already and is left as it is")
	}
	if err != nil {
		return plainPathError(err)
	}
	_, err = f.Write(contents)
	return errors.Join(err, f.Close())
}
