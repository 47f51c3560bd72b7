// Package versions says which version of a job a text means, and which versions are kept. Versions come newest first.
package versions

import (
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

// Find returns the place of the version that a text means: a number, a tag, or a word for a place. The version before one that
// restarts made is the version before the one that was restarted: they all say the same.
func Find(all []*api.Job, text string) (int, error) {
	name := all[0].Name
	if text == api.VersionPrevious {
		before := 1
		if all[0].IsRestart() {
			for before < len(all) && all[before].Version >= all[0].Restarted.Of {
				before++
			}
		}
		if before < len(all) {
			return before, nil
		}
		return 0, api.Errorf(api.CodeNotFound, "job %.80q has no version before %d", name, all[before-1].Version)
	}
	number, err := strconv.ParseUint(text, 10, 64)
	for i, v := range all {
		if text == api.VersionCurrent || err == nil && v.Version == number || slices.Contains(v.Tags, text) {
			return i, nil
		}
	}
	what := "version"
	if err != nil {
		what = "tag"
	}
	return 0, api.Errorf(api.CodeNotFound, "job %.80q has no %s %.80s; it has %s", name, what, text, Names(all))
}

// Names lists the versions with their tags.
func Names(all []*api.Job) string {
	var names []string
	for _, v := range all {
		name := strconv.FormatUint(v.Version, 10)
		if len(v.Tags) > 0 {
			name += " (" + strings.Join(v.Tags, ", ") + ")"
		}
		names = append(names, name)
	}
	if len(names) == 1 {
		return "version " + names[0]
	}
	return "versions " + strings.Join(names, ", ")
}

// Keep says of each version whether it is kept: the newest ones, up to a number, those in use, those that somebody has named, and
// the last stable one. Versions that restarts made take no other's place: of them, those among the newest are kept.
func Keep(all []*api.Job, newest int, used func(version uint64) bool) []bool {
	keep := make([]bool, len(all))
	stable, submitted := false, 0
	for i, v := range all {
		last := v.Stable && !stable
		stable = stable || v.Stable
		fresh := i < newest
		if !v.IsRestart() {
			fresh = submitted < newest
			submitted++
		}
		keep[i] = fresh || last || len(v.Tags) > 0 || used(v.Version)
	}
	return keep
}

// Restartable says why nothing can come of a restart of slots of a task of a job (none and "" stand for all): there is no such
// instance, or all that is meant has completed. placed are the slots of a task, by its place, that have instances, in order;
// completed reports whether a slot is done for good.
func Restartable(j *api.Job, task string, slots []int, placed func(task int) []int, completed func(task, slot int) bool) error {
	if !j.Type.Completes() && !j.Type.EveryNode() {
		return nil
	}
	left := false
	for i, t := range j.Tasks {
		if task != "" && t.Name != task {
			continue
		}
		there := placed(i)
		for _, slot := range slots {
			if _, found := slices.BinarySearch(there, slot); !found {
				return api.Errorf(api.CodeNotFound, "there is no instance %s", api.InstanceName(j.Name, t.Name, uint32(slot)))
			}
		}
		if len(slots) > 0 {
			there = slots
		}
		left = left || slices.ContainsFunc(there, func(slot int) bool { return !completed(i, slot) })
	}
	if !left && j.Type.Completes() {
		return api.Errorf(api.CodeConflict, "all of job %.80q that is to be restarted has completed; to run it from the beginning, stop it and run it again", j.Name)
	}
	return nil
}
