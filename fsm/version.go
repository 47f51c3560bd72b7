package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

// keptVersions is how many versions of a job are kept whether anything runs in them or not.
const keptVersions = api.KeptVersions

// dropVersions drops from j, which is not stored yet, the old versions in which nothing lives and that nobody has named, and
// the completed slots that only they knew.
func (s *state) dropVersions(j *job) {
	if len(j.versions) <= keptVersions {
		return
	}
	used := map[uint64]bool{}
	s.eachOfJob(j.handle, func(a allocation) bool {
		if a.live() {
			used[uint64(a.version)] = true
		}
		return true
	})
	kept := make([]version, 0, keptVersions+1)
	for i, v := range j.versions {
		if i < keptVersions || used[v.job.Version] || len(v.job.Tags) > 0 {
			kept = append(kept, v)
		}
	}
	j.versions = kept
	s.dropCompleted(j)
}

// unchanged refuses a change that was decided on while another state of the jobs was in force. A job that changes gets a
// modify index above all earlier ones, so the greatest of them stands for all.
func (s *state) unchanged(check *uint64, jobs ...*api.Job) error {
	if check == nil {
		return nil
	}
	var last *api.Job
	for _, j := range jobs {
		if c := s.jobs.get(j.Name).current(); c != nil && (last == nil || c.ModifyIndex > last.ModifyIndex) {
			last = c
		}
	}
	switch {
	case last == nil && *check != 0:
		return api.Errorf(api.CodeConflict, "job %.80q does not exist (any more), so its modify index is not %d: plan again", jobs[0].Name, *check)
	case last != nil && last.ModifyIndex != *check:
		return api.Errorf(api.CodeConflict, "job %.80q has changed: its modify index is %d, not %d; plan again", last.Name, last.ModifyIndex, *check)
	}
	return nil
}

// find returns the place of the version that a text means: a number, a tag, or a word for a place.
func (j *job) find(text string) (int, error) {
	if text == api.VersionPrevious {
		if len(j.versions) > 1 {
			return 1, nil
		}
		return 0, api.Errorf(api.CodeNotFound, "job %.80q has no version before %d", j.name, j.current().Version)
	}
	number, err := strconv.ParseUint(text, 10, 64)
	for i := range j.versions {
		v := j.versions[i].job
		if text == api.VersionCurrent || err == nil && v.Version == number || slices.Contains(v.Tags, text) {
			return i, nil
		}
	}
	what := "version"
	if err != nil {
		what = "tag"
	}
	return 0, api.Errorf(api.CodeNotFound, "job %.80q has no %s %.80s; it has %s", j.name, what, text, j.kept())
}

// kept lists the versions there are.
func (j *job) kept() string {
	var names []string
	for i := range j.versions {
		v := j.versions[i].job
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

// replaceVersion stores another value of one version.
func (s *state) replaceVersion(row *job, place int, v *api.Job) *job {
	next := *row
	next.versions = slices.Clone(row.versions)
	next.versions[place].job = v
	s.putJob(&next)
	return &next
}

// tagVersion changes names of versions and nothing that a plan depends on, so the job's modify index stays.
func (s *state) tagVersion(b *TagVersion) Result {
	row := s.jobs.get(b.Name)
	if row.current() == nil {
		return refused(s.index, noJob(b.Name))
	}
	if err := api.CheckTag(b.Tag); err != nil {
		return refused(s.index, api.Errorf(api.CodeInvalid, "tag %.80q %w", b.Tag, err))
	}
	had := slices.IndexFunc(row.versions, func(v version) bool { return slices.Contains(v.job.Tags, b.Tag) })
	to := had
	if !b.Remove {
		var err error
		if to, err = row.find(b.Version); err != nil {
			return refused(s.index, err)
		}
	} else if had < 0 {
		return refused(s.index, api.Errorf(api.CodeNotFound, "job %.80q has no tag %s; it has %s", b.Name, b.Tag, row.kept()))
	}
	tags := 0
	for i := range row.versions {
		tags += len(row.versions[i].job.Tags)
	}
	if !b.Remove && had < 0 && tags >= api.MaxTags {
		return refused(s.index, api.Errorf(api.CodeConflict, "job %.80q has %d tags, as many as a job may have; take one away first", b.Name, tags))
	}
	if had >= 0 && (b.Remove || had != to) {
		without := *row.versions[had].job
		without.Tags = slices.DeleteFunc(slices.Clone(without.Tags), func(tag string) bool { return tag == b.Tag })
		row = s.replaceVersion(row, had, &without)
	}
	if !b.Remove && had != to {
		with := *row.versions[to].job
		with.Tags = append(slices.Clone(with.Tags), b.Tag)
		slices.Sort(with.Tags)
		row = s.replaceVersion(row, to, &with)
	}
	r := s.done()
	r.Registered = []RegisteredJob{{Name: row.name, Version: row.versions[to].job.Version, Changed: b.Remove || had != to}}
	return r
}

func (s *state) revertJob(b *RevertJob, who string) Result {
	row := s.jobs.get(b.Name)
	if row.current() == nil {
		return refused(s.index, noJob(b.Name))
	}
	if err := s.unchanged(b.CheckIndex, row.current()); err != nil {
		return refused(s.index, err)
	}
	place, err := row.find(b.To)
	if err != nil {
		return refused(s.index, err)
	}
	spec := *row.versions[place].job
	spec.SubmittedBy, spec.Origin = who, fmt.Sprintf("reverted to version %d", spec.Version)
	if b.To != strconv.FormatUint(spec.Version, 10) {
		spec.Origin += " (" + b.To + ")"
	}
	r := s.done()
	r.Registered = []RegisteredJob{s.registerJob(&spec, api.CauseRevert)}
	return r
}

func (s *state) scaleJob(b *ScaleJob, who string) Result {
	row := s.jobs.get(b.Name)
	old := row.current()
	if old == nil {
		return refused(s.index, noJob(b.Name))
	}
	if err := s.unchanged(b.CheckIndex, old); err != nil {
		return refused(s.index, err)
	}
	place, err := old.Scalable(b.Task, b.Count)
	if err != nil {
		return refused(s.index, err)
	}
	r := s.done()
	before := old.Tasks[place]
	if before.Count == b.Count {
		r.Registered = []RegisteredJob{{Name: old.Name, Version: old.Version, Evaluation: s.tally(row.handle).open}}
		return r
	}
	scaled, task := *old, *before
	task.Count = b.Count
	scaled.Tasks = slices.Clone(old.Tasks)
	scaled.Tasks[place], scaled.ModifyIndex = &task, s.index
	scaled.Scaled = &api.Scaling{At: time.Unix(0, s.now).UTC(), By: who, What: fmt.Sprintf("%s from %d to %d", task.Name, before.Count, b.Count)}
	next := s.replaceVersion(row, 0, &scaled)
	s.recount(next)
	r.Registered = []RegisteredJob{{Name: old.Name, Version: old.Version, Changed: true, Evaluation: s.look(next, api.CauseScale, "", nil)}}
	return r
}

// NextVersion is the number that the next version of a job gets.
func (s *Snapshot) NextVersion(name string) uint64 {
	if j := s.jobs.get(name); j != nil {
		return j.next
	}
	return 1
}

// FindVersion returns the version of a job that a text means, as RevertJob.To does.
func (s *Snapshot) FindVersion(name, text string) (*api.Job, error) {
	j := s.jobs.get(name)
	if j.current() == nil {
		return nil, noJob(name)
	}
	place, err := j.find(text)
	if err != nil {
		return nil, err
	}
	return j.versions[place].job, nil
}

// annotated reports whether the version says what format 2 of a snapshot does not know.
func (v *version) annotated() bool {
	return v.job.SubmittedBy != "" || v.job.Origin != "" || v.job.Scaled != nil || len(v.job.Tags) > 0
}

// hasEveryNode reports whether a kept version of a job wants an instance on every node.
func (t *tables) hasEveryNode() (has bool) {
	t.jobs.rows.Scan(func(j *job) bool {
		has = slices.ContainsFunc(j.versions, func(v version) bool { return v.job.Type.EveryNode() })
		return !has
	})
	return has
}

// format is the lowest format of a snapshot that can hold the state.
func (t *tables) format() uint16 {
	differing, hurried := t.allocations.exceptions()
	t.jobs.rows.Scan(func(j *job) bool {
		hurried = hurried || j.current() != nil && j.current().Hurry
		return !hurried
	})
	switch {
	case t.hasEveryNode():
		return 6
	case hurried:
		return 5
	case differing:
		return 4
	}
	format := uint16(1)
	if t.claims.Len() > 0 {
		format = 2
	}
	t.jobs.rows.Scan(func(j *job) bool {
		for i := range j.versions {
			if j.versions[i].annotated() {
				format = 3
			}
		}
		return format < 3
	})
	return format
}
