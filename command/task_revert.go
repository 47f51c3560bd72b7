package command

import (
	"context"

	"cube/api"
)

func newTaskRevert(m *Meta) *command {
	var o runFlags
	return &command{
		meta: m, name: "task revert", args: "<name> <version>", min: 2, max: 2, predict: predictJobs,
		synopsis: "Run an older version of a job again",
		prose: `Makes a new version of a job with what an older one said, and runs it. The version is its number, a tag, or previous; 'cube task history' lists them. What is in force already is left alone; a job that was stopped runs again.

Then follows each instance as 'cube task run' does, with the same exit codes.`,
		example: "$ cube task revert web previous\n$ cube task revert web stable",
		flags:   o.declareFollow,
		run: func(ctx context.Context, s *session, args []string) error {
			return changeJob(ctx, s, &o, "reverting", args[0], func(ctx context.Context, c api.Cluster, w api.WriteMeta) (*api.Registered, error) {
				return c.RevertJob(ctx, args[0], api.RevertRequest{To: args[1], CheckIndex: o.check.index}, w)
			})
		},
	}
}

// changeJob sends a change of one job, and follows what comes of it.
func changeJob(ctx context.Context, s *session, o *runFlags, doing, name string, change func(context.Context, api.Cluster, api.WriteMeta) (*api.Registered, error)) error {
	cluster, err := s.cluster()
	if err != nil {
		return err
	}
	registered, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.Registered, error) { return change(ctx, cluster, w) })
	switch {
	case err != nil:
		return failed(err, "%s %q", doing, name)
	case o.json:
		_, err = (&readFlags{json: true}).emit(s, registered)
		return err
	case o.detach:
		printEvaluations(s, registered)
		return nil
	}
	return monitorRun(ctx, s, cluster, o, registered)
}
