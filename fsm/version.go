package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"cube/api"
	"cube/fsm/deployment"
	"cube/fsm/versions"
)

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

// jobs are what the kept versions say, newest first.
func (j *job) jobs() []*api.Job {
	out := make([]*api.Job, len(j.versions))
	for i := range j.versions {
		out[i] = j.versions[i].job
	}
	return out
}

// find returns the place of the version that a text means: a number, a tag, or a word for a place.
func (j *job) find(text string) (int, error) { return versions.Find(j.jobs(), text) }

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
		return refused(s.index, api.Errorf(api.CodeNotFound, "job %.80q has no tag %s; it has %s", b.Name, b.Tag, versions.Names(row.jobs())))
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
	version := row.versions[to].job.Version
	r.Registered = []RegisteredJob{{Name: row.name, Version: version, Changed: b.Remove || had != to}}
	switch {
	case b.Remove:
		s.note(api.Event{Type: api.EventTagged, Job: row.name, Version: version, By: s.by, Detail: "is not called " + b.Tag + " any more"})
	case had != to:
		s.note(api.Event{Type: api.EventTagged, Job: row.name, Version: version, By: s.by, Detail: "called " + b.Tag})
	}
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
	r.Registered = []RegisteredJob{s.registerJob(&spec, registration{cause: api.CauseRevert, who: who, deploy: b.Deploy})}
	return r
}

// restartJob puts what the version in force says in force again, as a version whose instances take the place of those there are.
func (s *state) restartJob(b *RestartJob, who string) Result {
	row := s.jobs.get(b.Name)
	old := row.current()
	if old == nil {
		return refused(s.index, noJob(b.Name))
	}
	if err := s.unchanged(b.CheckIndex, old); err != nil {
		return refused(s.index, err)
	}
	slots, err := old.Restartable(b.RestartRequest)
	if err == nil {
		err = s.restartable(row, b.Task, slots)
	}
	if err != nil {
		return refused(s.index, err)
	}
	spec, what := *old, ""
	spec.Restarted, what = old.Restart(b.Task, slots, row.next)
	spec.SubmittedBy, spec.Origin = who, "restart of "+what
	r := s.done()
	r.Registered = []RegisteredJob{s.registerJob(&spec, registration{cause: api.CauseRestart, who: who, deploy: b.Deploy, restart: true})}
	return r
}

// restartable says why a job cannot be restarted now.
func (s *state) restartable(row *job, task string, slots []int) error {
	if d := s.deployments.Newest(row.name); d != nil && d.Status.Active() {
		return api.Errorf(api.CodeConflict, "version %d of job %.80q is being rolled out, which replaces its instances; restart it when that is done, or fail the deployment first",
			d.Version, row.name)
	}
	v := &row.versions[0]
	placed := func(task int) (slots []int) {
		s.eachOfJob(row.handle, func(a allocation) bool {
			if a.task == v.handles[task] {
				slots = append(slots, int(a.slot))
			}
			return true
		})
		return slots
	}
	if !v.job.Type.EveryNode() {
		placed = func(task int) (slots []int) {
			for slot := range v.job.Tasks[task].Count {
				slots = append(slots, slot)
			}
			return slots
		}
	}
	return versions.Restartable(v.job, task, slots, placed, func(task, slot int) bool { return s.completed(row, v.job.Version, v.handles[task], uint32(slot)) })
}

// renewals are what restarts of a job have still to replace, nil for nothing.
func (s *state) renewals(j *job) *api.Restarted {
	current := j.current()
	if current == nil || current.Restarted == nil {
		return nil
	}
	return current.Restarted.Carry(func(r api.Renewal) (needed bool) {
		s.eachOfJob(j.handle, func(a allocation) bool {
			needed = a.live() && a.desired == api.DesiredRun && r.Covers(s.names[a.task], a.slot, uint64(a.version))
			return !needed
		})
		return needed
	})
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
	what := fmt.Sprintf("%s from %d to %d", task.Name, before.Count, b.Count)
	scaled.Tasks[place], scaled.ModifyIndex = &task, s.index
	scaled.Scaled = &api.Scaling{At: time.Unix(0, s.now).UTC(), By: who, What: what}
	next := s.replaceVersion(row, 0, &scaled)
	s.recount(next)
	s.note(api.Event{Type: api.EventScaled, Job: old.Name, Version: old.Version, By: s.by, Detail: what})
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

// registration is what comes with the specification of a version.
type registration struct {
	cause     string // of the evaluation
	who       string
	deploy    bool // it is rolled out by a deployment
	automatic bool // nobody asked for it: a deployment failed
	restart   bool // it says what the version in force says, and is one all the same
}

// beginDeployment puts the deployment of a new version, if it is to have one, in the place of that of the version before; nil
// is none.
func (s *state) beginDeployment(j, before *api.Job, r registration) {
	last := s.deployments.Newest(j.Name)
	if before != nil && before.Stopped {
		before = nil
	}
	var d *api.Deployment
	if r.deploy && j.Type == api.JobService {
		d = deployment.Begin(s.mint(), j, before, last, r.who, time.Unix(0, s.now).UTC())
		d.CreateIndex, d.Automatic = s.index, r.automatic
		for i := range d.Tasks {
			if r.automatic { // what was stable is not tried again: it is wanted now
				d.Tasks[i].Canaries = 0
			}
		}
	}
	s.cancelDeployment(j.Name, fmt.Sprintf("version %d took its place", j.Version), r.who)
	if d != nil {
		s.putDeployment(d)
		s.forgetDeployments(j.Name, api.KeptDeployments)
	}
}

// cancelDeployment ends the deployment of a job that is under way, if there is one.
func (s *state) cancelDeployment(job, reason, who string) {
	if d := s.deployments.Newest(job); d != nil && d.Status.Active() {
		next := *d
		next.Status, next.Reason, next.By = api.DeploymentCancelled, reason, who
		s.putDeployment(&next)
	}
}

func (s *state) putDeployment(d *api.Deployment) {
	d.ModifyIndex, d.ModifiedAt = s.index, time.Unix(0, s.now).UTC()
	s.noteRollout(s.deployments.Get(d.ID), d)
	s.deployments.Set(d)
	s.touch(WatchKey{Table: TableDeployments, Key: d.Job})
}

// forgetDeployments keeps so many of a job, the newest.
func (s *state) forgetDeployments(job string, keep int) {
	all := s.deployments.OfJob(job)
	for _, d := range all[min(keep, len(all)):] {
		s.deployments.Delete(d)
		s.touch(WatchKey{Table: TableDeployments, Key: job})
		s.deleted[TableDeployments] = s.index
	}
}

// factsOf are what a deployment's moves depend on.
func (s *state) factsOf(d *api.Deployment, who string) deployment.Facts {
	j := s.jobs.get(d.Job)
	current := j.current()
	return deployment.Facts{
		InForce: current != nil && !current.Stopped && current.Version == d.Version,
		Healthy: func(task string) (n int) {
			s.eachOfJob(j.handle, func(a allocation) bool {
				if s.names[a.task] == task && uint64(a.version) == d.Version && a.live() && a.desired == api.DesiredRun && a.health == api.HealthHealthy {
					n++
				}
				return true
			})
			return n
		},
		Who: who, Now: time.Unix(0, s.now).UTC(),
	}
}

func (s *state) steerDeployment(b *SteerDeployment, who string) Result {
	old := s.deployments.Get(b.ID)
	if old == nil {
		return refused(s.index, api.Errorf(api.CodeNotFound, "there is no deployment %s", s.text.Format(b.ID)))
	}
	d, err := deployment.Steer(old, b.DeploymentOrder, s.factsOf(old, who))
	if err != nil {
		return refused(s.index, err)
	}
	d.Reason = shorten(d.Reason, api.MaxStatusMessage)
	s.moveDeployment(d)
	return s.done()
}

func (s *state) judgeDeployments(b *JudgeDeployments, who string) Result {
	for i := range b.Moves {
		old := s.deployments.Get(b.Moves[i].ID)
		if old == nil {
			continue
		}
		if d := deployment.Take(old, &b.Moves[i], s.factsOf(old, who)); d != nil {
			s.moveDeployment(d)
		}
	}
	return s.done()
}

// moveDeployment stores where a deployment has come to, and does what follows from it.
func (s *state) moveDeployment(d *api.Deployment) {
	old := s.deployments.Get(d.ID)
	row := s.jobs.get(d.Job)
	if d.Status == api.DeploymentFailed {
		s.revertFailed(d)
	}
	s.putDeployment(d)
	switch {
	case d.Status == api.DeploymentSuccessful:
		stable := *row.current()
		stable.Stable = true
		s.replaceVersion(row, 0, &stable)
	case d.Status != api.DeploymentReverted && (d.Status != old.Status || promoted(d) != promoted(old)) && !row.current().Stopped:
		s.look(row, api.CauseDeployment, "", nil)
	}
}

// promoted counts the tasks whose canaries were promoted.
func promoted(d *api.Deployment) (n int) {
	for i := range d.Tasks {
		if d.Tasks[i].Promoted {
			n++
		}
	}
	return n
}

// revertFailed puts the last stable version in force when a deployment has failed whose job asks for that. What was put in force
// so and fails, too, is left as it is: two versions would take turns for ever.
func (s *state) revertFailed(d *api.Deployment) {
	row := s.jobs.get(d.Job)
	current := row.current()
	if current.Stopped || current.Version != d.Version || !slices.ContainsFunc(current.Tasks, func(t *api.Task) bool { return t.Update.AutoRevert }) {
		return
	}
	if d.Automatic {
		d.Reason += "; not reverted again, since it was an automatic revert itself"
		return
	}
	if current.IsRestart() {
		d.Reason += "; not reverted, since it was a restart: the version before it says the same"
		return
	}
	place := slices.IndexFunc(row.versions, func(v version) bool { return v.job.Stable && !api.SpecEqual(v.job, current) })
	if place < 0 {
		d.Reason += "; there is no stable version to revert to"
		return
	}
	spec := *row.versions[place].job
	d.Status, d.RevertedTo = api.DeploymentReverted, row.next
	spec.SubmittedBy, spec.Origin = d.By, fmt.Sprintf("reverted to version %d automatically: version %d failed: %s", spec.Version, d.Version, d.Reason)
	s.putDeployment(d) // before the new version would cancel it
	s.registerJob(&spec, registration{cause: api.CauseRevert, who: d.By, deploy: true, automatic: true})
}

func (t *tables) persistDeployments(k *sink) {
	t.deployments.Each(func(d *api.Deployment) bool {
		k.json(d)
		return k.row()
	})
}

func (s *state) restoreDeployment(r *reader) {
	d := &api.Deployment{}
	if r.json(d); r.err != nil {
		return
	}
	if s.jobs.get(d.Job).current() == nil || s.deployments.Get(d.ID) != nil || !slices.Contains(deployment.Statuses(), d.Status) {
		r.fail("deployment %d of job %q has no job, no status, or is there twice", d.ID, d.Job)
		return
	}
	s.deployments.Set(d)
}

// Deployment returns the deployment of a job's version in force, nil if it has none.
func (s *Snapshot) Deployment(job string) *api.Deployment {
	d, j := s.deployments.Newest(job), s.Job(job)
	if d == nil || j == nil || d.Version != j.Version {
		return nil
	}
	return d
}

// Deployments returns the table of deployments, for reading.
func (s *Snapshot) Deployments() *deployment.Table { return &s.deployments }

// Standing returns how many instances of a job's version in force are to run and how many of them are healthy, and the index at
// which an instance of the job last ended. It costs nothing: all of it is counted along.
func (s *Snapshot) Standing(job string) (placed, healthy int, ended uint64) {
	if j := s.jobs.get(job); j != nil {
		t := s.tally(j.handle)
		return int(t.current), int(t.well), t.ended
	}
	return 0, 0, 0
}

// anyVersion reports whether something holds of a kept version of a job.
func (t *tables) anyVersion(holds func(*api.Job) bool) (found bool) {
	t.jobs.rows.Scan(func(j *job) bool {
		found = slices.ContainsFunc(j.versions, func(v version) bool { return holds(v.job) })
		return !found
	})
	return found
}

// format is the lowest format of a snapshot that can hold the state.
func (t *tables) format() uint16 {
	differing, hurried := t.allocations.exceptions()
	t.jobs.rows.Scan(func(j *job) bool {
		hurried = hurried || j.current() != nil && j.current().Hurry
		return !hurried
	})
	switch {
	case t.nodes.said():
		return 16
	case t.nodes.missed():
		return 15
	case t.anyVersion(func(j *api.Job) bool { return j.Parameterized != nil || j.Dispatched != nil }):
		return 14
	case t.nodes.rebalance != nil:
		return 13
	case t.jobs.launches.Len() > 0 || t.anyVersion((*api.Job).Launches):
		return 12
	case t.anyVersion(func(j *api.Job) bool { return j.Restarted != nil }):
		return 11
	case t.nodes.dated():
		return 10
	case t.allocations.trials.Len() > 0 || t.evaluations.alarms.Len() > 0:
		return 9
	case t.timeline.Len() > 0:
		return 8
	case t.deployments.Len() > 0:
		return 7
	case t.anyVersion(func(j *api.Job) bool { return j.Type.EveryNode() }):
		return 6
	case hurried:
		return 5
	case differing:
		return 4
	case t.anyVersion(annotated):
		return 3
	case t.claims.Len() > 0:
		return 2
	}
	return 1
}
