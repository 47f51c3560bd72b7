package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// exampleFile is the name `task init` writes to when none is given.
const exampleFile = "web.hcl"

// exampleTask is what `task init` writes: a service that runs as it is, with the settings people change first.
const exampleTask = `# A task is what runs: an image, in one or more instances.
#
#   cube task run web.hcl       run it, or change what runs to what this file says now
#   cube task status web        see where its instances are
#   cube task logs web -f       follow what they write
#   cube task stop web          stop it

variable "version" {
  default = "1.28-alpine"
}

task "web" {
  image = "nginx:${var.version}"
  count = 2

  # Each instance gets a free port of its node. It stands in the address of
  # "cube task status web" and in the variable CUBE_PORT_http of the instance.
  port "http" {
    to = 80
  }

  resources {
    cpu    = 0.1 # cores
    memory = 64  # MiB
  }
}
`

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
			if err := writeNew(path, exampleTask); err != nil {
				return failed(err, "writing %q", path)
			}
			fmt.Fprintf(s.Stdout, "Wrote an example task to %s; run it with: cube task run %s\n", printable(path), printable(path))
			return nil
		},
	}
}

// writeNew writes a file that must not exist yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("it exists already and is left as it is")
	}
	if err != nil {
		return plainPathError(err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
