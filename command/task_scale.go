package command

import (
	"context"
	"fmt"
	"strconv"

	"cube/api"
)

func newTaskScale(m *Meta) *command {
	var o runFlags
	return &command{
		meta: m, name: "task scale", args: "<name> <count>", min: 2, max: 2, predict: predictJobs,
		synopsis: "Change how many instances a task has",
		prose: `Changes the number of instances of a task, in place: instances are added, or the highest are stopped, and the rest is not touched. NAME is the job, or job/task where the job has several tasks. It makes no new version; the file does not know of it, so running the file again brings its own count back.

Then follows each instance as 'cube task run' does, with the same exit codes.`,
		example: "$ cube task scale web 5\n$ cube task scale shop/cart 3",
		flags:   o.declareFollow,
		run: func(ctx context.Context, s *session, args []string) error {
			count, err := strconv.Atoi(args[1])
			if err != nil || count < 0 || count > api.MaxTaskInstances {
				return failed(fmt.Errorf("the count %.40q is not a whole number from 0 to %d", args[1], api.MaxTaskInstances), "reading the arguments")
			}
			job, task := splitName(args[0])
			return changeJob(ctx, s, &o, "scaling", args[0], func(ctx context.Context, c api.Cluster, w api.WriteMeta) (*api.Registered, error) {
				return c.ScaleJob(ctx, job, api.ScaleRequest{Task: task, Count: count, CheckIndex: o.check.index}, w)
			})
		},
	}
}
