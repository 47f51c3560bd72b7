package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Dependency holds a task's instances back until another task of the job is so far. It is about beginnings: an instance
// that is new, or of another version than the one before it in its slot, is not placed, and an update of the task does not
// begin, before the condition holds for every instance of the other task. What runs is left alone when the condition
// ceases to hold, and takes the place of what is lost.
type Dependency struct {
	Task      string // of the same job
	Condition string
	// Timeout is how long the task waits at most, from when it could have begun; 0: for as long as it takes. Then it gives up: its
	// deployment fails, and the condition is asked for again only when the job is looked at for another reason.
	Timeout time.Duration `json:",omitempty"`
}

// GivesUp is when a task of the job that waits for a dependency gives up, the zero time for never. It could have begun when its
// version came or a count was changed, or when the version's deployment, nil for none, began or went on. One of which an instance was
// placed since then does not give up: the condition has been met, and what it waits for now is another wait.
func (d Dependency) GivesUp(j *Job, deployment *Deployment) time.Time {
	if d.Timeout == 0 {
		return time.Time{}
	}
	since := j.SubmittedAt
	if j.Scaled != nil && j.Scaled.At.After(since) {
		since = j.Scaled.At
	}
	if deployment != nil && deployment.Version == j.Version && deployment.Since.After(since) {
		since = deployment.Since
	}
	return since.Add(d.Timeout)
}

// Conditions of a dependency. An instance that has completed for good meets all of them.
const (
	DependRunning  = "running"
	DependHealthy  = "healthy"
	DependComplete = "complete" // for batch jobs: the instances of others do not end
)

// DependConditions lists the conditions, the default first.
func DependConditions() []string { return []string{DependHealthy, DependRunning, DependComplete} }

func (t *Task) canonicalizeDependencies() {
	slices.SortFunc(t.DependsOn, func(a, b Dependency) int { return cmp.Compare(a.Task, b.Task) })
	for i := range t.DependsOn {
		d := &t.DependsOn[i]
		d.Condition = cmp.Or(d.Condition, DependHealthy)
	}
}

// validateDependencies checks what tasks say of each other.
func (j *Job) validateDependencies() error {
	for _, t := range j.Tasks {
		for i, d := range t.DependsOn {
			block := fmt.Sprintf("depends_on %q", d.Task)
			err := j.validateDependency(t, d)
			if i > 0 && t.DependsOn[i-1].Task == d.Task {
				err = faultf("", "it is there twice")
			}
			if err != nil {
				return in(fmt.Sprintf("task %q", t.Name), in(block, err))
			}
		}
	}
	if circle := j.circle(); circle != nil {
		return in(fmt.Sprintf("task %q", circle[0]), in(fmt.Sprintf("depends_on %q", circle[1]),
			faultf("", "%s wait for each other, so that none would start", strings.Join(circle, " -> "))))
	}
	return nil
}

func (j *Job) validateDependency(t *Task, d Dependency) error {
	switch {
	case d.Task == t.Name:
		return faultf("", "a task cannot wait for itself")
	case j.Task(d.Task) == nil:
		var others []string
		for _, o := range j.Tasks {
			if o.Name != t.Name {
				others = append(others, o.Name)
			}
		}
		if len(others) == 0 {
			return faultf("", "the job has no task %.80q, nor any other than %s", d.Task, t.Name)
		}
		return faultf("", "the job has no task %.80q; it has %s", d.Task, strings.Join(others, ", "))
	case !slices.Contains(DependConditions(), d.Condition):
		return faultf("condition", "condition %.40q is none of %s", d.Condition, strings.Join(DependConditions(), ", "))
	case d.Timeout != 0 && d.Timeout < time.Second:
		return faultf("timeout", "timeout %s is not from 1s up; leave it out to wait for as long as it takes", d.Timeout)
	case d.Condition == DependComplete && j.Type != JobBatch:
		return faultf("condition", "condition complete is for batch jobs: instances of a %s job do not end", j.Type)
	}
	return nil
}

// circle returns tasks of which each waits for the next, the first again as the last; nil if there are none. It looks at each
// task once.
func (j *Job) circle() []string {
	const (
		open = iota + 1 // on the way
		done
	)
	state := make(map[string]int, len(j.Tasks))
	var way []string
	var visit func(t *Task) []string
	visit = func(t *Task) []string {
		state[t.Name] = open
		way = append(way, t.Name)
		for _, d := range t.DependsOn {
			switch state[d.Task] {
			case open:
				return append(slices.Clone(way[slices.Index(way, d.Task):]), d.Task)
			case done:
			default:
				if found := visit(j.Task(d.Task)); found != nil {
					return found
				}
			}
		}
		state[t.Name] = done
		way = way[:len(way)-1]
		return nil
	}
	for _, t := range j.Tasks {
		if state[t.Name] != 0 {
			continue
		}
		if found := visit(t); found != nil {
			return found
		}
	}
	return nil
}
