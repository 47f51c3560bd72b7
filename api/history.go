package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a job's history.
const (
	KeptVersions = 10 // versions of a job that are kept in any case, the one in force included
	MaxTags      = 10 // tags of one job: a tagged version is kept beyond KeptVersions
)

// Words that name a version by its place.
const (
	VersionCurrent  = "current"  // the one in force
	VersionPrevious = "previous" // the newest kept one before it that it is no restart of
)

// Scaling is a change of a count within a version: instances are what they were, so there is no new version.
type Scaling struct {
	At   time.Time // the leader's clock
	By   string
	What string // "web from 3 to 12"
}

// Revision is one version of a job's history.
type Revision struct {
	Job  *Job  // redacted
	Diff *Diff `json:",omitempty"` // from the kept version before it; nil where none is kept
}

// TagRequest gives a version of a job a name, or takes it away.
type TagRequest struct {
	Version string `json:",omitempty"` // a number, a tag, VersionCurrent or VersionPrevious; "" with Remove
	Tag     string
	Remove  bool `json:",omitempty"`
}

// RevertRequest asks for a version's content to be in force again.
type RevertRequest struct {
	To string // as TagRequest.Version
	// CheckIndex, if set, must be the job's modify index: CodeConflict otherwise, and nothing is written.
	CheckIndex *uint64 `json:",omitempty"`
}

// ScaleRequest asks for another number of instances of one task.
type ScaleRequest struct {
	Task       string `json:",omitempty"` // "" if the job has one only
	Count      int
	CheckIndex *uint64 `json:",omitempty"` // as RevertRequest.CheckIndex
}

// Scalable returns the place of the task that is to have another number of instances, or why it cannot have it. The task
// need not be named where there is only one.
func (j *Job) Scalable(task string, count int) (int, error) {
	var names []string
	for _, t := range j.Tasks {
		names = append(names, t.Name)
	}
	place := slices.Index(names, task)
	switch {
	case count < 0 || count > MaxTaskInstances:
		return 0, Errorf(CodeInvalid, "count %d is not from 0 to %d", count, MaxTaskInstances)
	case j.Stopped:
		return 0, Errorf(CodeConflict, "job %.80q is stopped; run it again first", j.Name)
	case j.Type.EveryNode():
		return 0, Errorf(CodeInvalid, "job %.80q is a %s job: it has one instance on every node, so there is nothing to scale", j.Name, j.Type)
	case task == "" && len(names) == 1:
		return 0, nil
	case task == "":
		return 0, Errorf(CodeInvalid, "job %.80q has %d tasks; name one as in %s/%s", j.Name, len(names), j.Name, names[0])
	case place < 0:
		return 0, Errorf(CodeNotFound, "job %.80q has no task %.80q; it has %s", j.Name, task, strings.Join(names, ", "))
	}
	return place, nil
}

// History is what has become of jobs, version by version, and the ways back.
type History interface {
	// JobHistory returns the kept versions of a job, newest first, each with what it changed.
	JobHistory(ctx context.Context, name string, q Query) ([]*Revision, ReadMeta, error)
	// TagVersion names a version, so that it is kept and can be found; a tag that another version has moves. It returns the
	// version, without the tag if it was taken away.
	TagVersion(ctx context.Context, name string, r TagRequest, w WriteMeta) (*Job, error)
	// RevertJob registers the content of a kept version as a new one. A job that was stopped runs again.
	RevertJob(ctx context.Context, name string, r RevertRequest, w WriteMeta) (*Registered, error)
	// ScaleJob changes a count in place: nothing that runs is touched but what is too many.
	ScaleJob(ctx context.Context, name string, r ScaleRequest, w WriteMeta) (*Registered, error)
	// RestartJob replaces instances by new ones of the same content, as the tasks' update blocks pace it: a new version that
	// says what the one in force says is rolled out. CodeConflict while another roll-out is under way.
	RestartJob(ctx context.Context, name string, r RestartRequest, w WriteMeta) (*Registered, error)
}

// CheckTag says what is wrong with the name of a version, as the end of a sentence that begins with it.
func CheckTag(tag string) error {
	if err := CheckName(tag); err != nil {
		return err
	}
	if _, err := strconv.ParseUint(tag, 10, 64); err == nil {
		return fmt.Errorf("is a number, as versions have; take a word")
	}
	if tag == VersionCurrent || tag == VersionPrevious {
		return fmt.Errorf("stands for a version by its place; take another word")
	}
	return nil
}
