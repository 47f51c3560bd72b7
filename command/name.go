package command

import (
	"slices"
	"strings"

	"cube/api"
)

// splitName takes NAME apart: a job, or job/task for one task of it ("" for all).
func splitName(name string) (job, task string) {
	job, task, _ = strings.Cut(name, "/")
	return job, task
}

// onlyTask returns the status with nothing but one task's instances, or as it is when task is "".
func onlyTask(status *api.JobStatus, task string) (*api.JobStatus, error) {
	if task == "" {
		return status, nil
	}
	if status.Job.Task(task) == nil {
		var names []string
		for _, t := range status.Job.Tasks {
			names = append(names, t.Name)
		}
		return nil, api.Errorf(api.CodeNotFound, "job %q has no task %q; it has %s", status.Job.Name, task, strings.Join(names, ", "))
	}
	one := *status
	one.Allocations = slices.DeleteFunc(slices.Clone(status.Allocations), func(a *api.Allocation) bool { return a.Task != task })
	return &one, nil
}

// slotKey names a slot of a job.
type slotKey struct {
	task string
	slot int
}

func slotOf(a *api.Allocation) slotKey { return slotKey{a.Task, a.Slot} }

// holders returns the newest allocation of each slot, in the order of the list (which is by task, slot, newest first).
func holders(allocs []*api.Allocation) []*api.Allocation {
	seen := map[slotKey]bool{}
	var out []*api.Allocation
	for _, a := range allocs {
		if !seen[slotOf(a)] {
			seen[slotOf(a)] = true
			out = append(out, a)
		}
	}
	return out
}
