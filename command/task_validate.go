package command

import (
	"context"
	"flag"
	"fmt"

	"cube/api"
	"cube/jobspec"
)

func newTaskValidate(m *Meta) *command {
	var variables variableFlags
	var read readFlags
	return &command{
		meta: m, name: "task validate", args: "<file>", min: 1, max: 1, predict: predictTaskFiles, offline: true, reads: true,
		synopsis: "Check a task file",
		prose:    "Reads a task file as the leader would, without asking anybody, and says what is wrong in it and where; - reads standard input. With -json or -t, prints the jobs it holds with every default filled in.",
		example:  "$ cube task validate web.hcl",
		flags: func(f *flag.FlagSet) {
			variables.declare(f)
			read.declareData(f)
		},
		run: func(_ context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			submission, err := variables.submission(s, args[0])
			if err != nil {
				return err
			}
			file, err := jobspec.Parse([]byte(submission.Source), submission.FileName, submission.Variables)
			if err != nil {
				return failed(err, "validating %q", args[0])
			}
			shown := make([]*api.Job, len(file.Jobs))
			for i, j := range file.Jobs {
				shown[i] = j.Redacted()
			}
			if done, err := read.emit(s, shown); done {
				return err
			}
			fmt.Fprintf(s.Stdout, "%s is valid\n", printable(submission.FileName))
			for _, j := range file.Jobs {
				instances := 0
				for _, t := range j.Tasks {
					instances += t.Count
				}
				size := countOf(instances, "instance")
				if j.Type.EveryNode() {
					size += " on every node"
				}
				fmt.Fprintf(s.Stdout, "    job %q (%s): %s, %s\n", j.Name, j.Type, countOf(len(j.Tasks), "task"), size)
			}
			return nil
		},
	}
}
