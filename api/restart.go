package api

import (
	"fmt"
	"slices"
	"strings"
)

// RestartRequest asks for instances to be replaced by new ones of the same content.
type RestartRequest struct {
	Task      string `json:",omitempty"` // "" for every task; with Instances, of a job that has one only
	Instances []int  `json:",omitempty"` // slots of the task; none: all
	// CheckIndex, if set, must be the job's modify index: CodeConflict otherwise, and nothing is written.
	CheckIndex *uint64 `json:",omitempty"`
}

// Restarted is what restarts have left to a version of a job.
type Restarted struct {
	// Of is the version whose content this one has, if a restart made it: the one that was submitted, where several restarts
	// followed it. 0 for a version that was submitted or reverted to.
	Of uint64 `json:",omitempty"`
	// Renewals are the restarts that may not be through, this version's and those before it.
	Renewals []Renewal `json:",omitempty"`
}

// Renewal has the instances of a task that were placed in versions before one be replaced, though they are what it asks for.
type Renewal struct {
	Task   string
	Slots  []int `json:",omitempty"` // in order; none: all
	Before uint64
}

// Renews reports whether an instance that was placed, or last changed in place, in a version is to be replaced by one that is
// the same.
func (j *Job) Renews(task string, slot uint32, version uint64) bool {
	if j.Restarted == nil {
		return false
	}
	return slices.ContainsFunc(j.Restarted.Renewals, func(r Renewal) bool { return r.Covers(task, slot, version) })
}

// Covers reports whether the renewal has an instance replaced: see Job.Renews.
func (r Renewal) Covers(task string, slot uint32, version uint64) bool {
	if r.Task != task || version >= r.Before {
		return false
	}
	if len(r.Slots) == 0 {
		return true
	}
	_, found := slices.BinarySearch(r.Slots, int(slot))
	return found
}

// IsRestart reports whether a restart made the version, so that it says what the version before it says.
func (j *Job) IsRestart() bool { return j.Restarted != nil && j.Restarted.Of > 0 }

// Restart returns what a version with that number, made by a restart of this one, is marked with, and what was restarted in
// words: "version 3", "web[0] and web[2] of version 3". The slots must be sorted; none stand for all.
func (j *Job) Restart(task string, slots []int, version uint64) (*Restarted, string) {
	next := &Restarted{Of: j.Version}
	if j.Restarted != nil {
		next.Renewals = slices.Clone(j.Restarted.Renewals)
		if j.IsRestart() {
			next.Of = j.Restarted.Of
		}
	}
	for _, t := range j.Tasks {
		if task != "" && t.Name != task {
			continue
		}
		if len(slots) == 0 { // those before it are in it
			next.Renewals = slices.DeleteFunc(next.Renewals, func(r Renewal) bool { return r.Task == t.Name })
		}
		next.Renewals = append(next.Renewals, Renewal{Task: t.Name, Slots: slots, Before: version})
	}
	what := fmt.Sprintf("version %d", next.Of)
	switch {
	case len(slots) > 0:
		what = j.instances(task, slots) + " of " + what
	case task != "" && len(j.Tasks) > 1:
		what = task + " of " + what
	}
	return next, what
}

// instances names slots of a task, the first few.
func (j *Job) instances(task string, slots []int) string {
	if task == "" {
		task = j.Tasks[0].Name
	}
	names := make([]string, len(slots))
	for i, slot := range slots {
		names[i] = InstanceName(j.Name, task, uint32(slot))
	}
	return FirstOf(names, 3)
}

// Carry returns what a version that follows this one takes over of its restarts: those that have not replaced all that they
// were to. needed says whether one still has something to replace.
func (r *Restarted) Carry(needed func(Renewal) bool) *Restarted {
	if r == nil {
		return nil
	}
	var left []Renewal
	for _, renewal := range r.Renewals {
		if needed(renewal) {
			left = append(left, renewal)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return &Restarted{Renewals: left}
}

// Restartable returns the slots that a restart is to replace, in order and none twice, or why the job cannot be restarted
// so. What only the state knows is not looked at: whether a slot of a job that is on every node exists, and what has completed.
func (j *Job) Restartable(r RestartRequest) ([]int, error) {
	var names []string
	for _, t := range j.Tasks {
		names = append(names, t.Name)
	}
	t := j.Task(r.Task)
	switch {
	case j.Stopped:
		return nil, Errorf(CodeConflict, "job %.80q is stopped; run it again instead", j.Name)
	case r.Task != "" && t == nil:
		return nil, Errorf(CodeNotFound, "job %.80q has no task %.80q; it has %s", j.Name, r.Task, strings.Join(names, ", "))
	case r.Task == "" && len(names) == 1:
		t = j.Tasks[0]
	case t == nil && len(r.Instances) > 0:
		return nil, Errorf(CodeInvalid, "job %.80q has %d tasks; name the one whose instances are meant as in %s/%s", j.Name, len(names), j.Name, names[0])
	}
	if !slices.ContainsFunc(j.Tasks, func(o *Task) bool { return (t == nil || o == t) && j.Slots(o) > 0 }) {
		return nil, Errorf(CodeConflict, "job %.80q has no instances to restart: its count is 0", j.Name)
	}
	slots := slices.Clone(r.Instances)
	slices.Sort(slots)
	slots = slices.Compact(slots)
	for _, slot := range slots {
		if slot < 0 || slot >= j.Slots(t) {
			return nil, Errorf(CodeNotFound, "there is no instance %d of %s: its %d are numbered from 0 to %d", slot, t.Name, j.Slots(t), j.Slots(t)-1)
		}
	}
	return slots, nil
}

// FirstOf names a few of many: "a, b and 3 more".
func FirstOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
