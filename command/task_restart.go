package command

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"cube/api"
)

func newTaskRestart(m *Meta) *command {
	var o runFlags
	var instances slotsFlag
	return &command{
		meta: m, name: "task restart", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Replace instances by new ones that are the same",
		prose: `Replaces the instances of a job by new ones that are the same, as an update would: so many at a time and in the order that the update block of each task says, the next only when the new ones are healthy. One that does not get healthy stops the restart, and the rest runs on. What had failed for good is placed again.

NAME is the job, or job/task for one of its tasks; -instance names single instances of a task. A restart is a version of its own that says what the one before it says, so it has a deployment: 'cube deployment pause' and the others steer it. A job that is stopped, or that another deployment is replacing, is refused. Instances of a batch job that have completed stay as they are.

Then follows each instance as 'cube task run' does, with the same exit codes.`,
		example: "$ cube task restart web\n$ cube task restart -instance 0 -instance 2 shop/cart",
		flags: func(f *flag.FlagSet) {
			f.Var(&instances, "instance", "Restart the instance of this `number` only. May be given several times.")
			f.BoolVar(&o.json, "json", false, "Do not follow: print what was accepted, as the API gives it.")
			o.declareFollow(f)
		},
		run: func(ctx context.Context, s *session, args []string) error {
			job, task := splitName(args[0])
			request := api.RestartRequest{Task: task, Instances: instances, CheckIndex: o.check.index}
			return changeJob(ctx, s, &o, "restarting", args[0], func(ctx context.Context, c api.Cluster, w api.WriteMeta) (*api.Registered, error) {
				return c.RestartJob(ctx, job, request, w)
			})
		},
	}
}

// slotFlag is the number of an instance; -1 while none is given.
type slotFlag int

// String implements flag.Value.
func (l *slotFlag) String() string { return "" }

// Set implements flag.Value.
func (l *slotFlag) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= api.MaxTaskInstances {
		return fmt.Errorf("not the number of an instance, from 0 to %d", api.MaxTaskInstances-1)
	}
	*l = slotFlag(n)
	return nil
}

// slotsFlag collects numbers of instances.
type slotsFlag []int

// String implements flag.Value.
func (l *slotsFlag) String() string { return strings.Trim(fmt.Sprint([]int(*l)), "[]") }

// Set implements flag.Value.
func (l *slotsFlag) Set(text string) error {
	var one slotFlag
	if err := one.Set(text); err != nil {
		return err
	}
	*l = append(*l, int(one))
	return nil
}
