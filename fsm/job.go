package fsm

import (
	"iter"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/launch"
)

// job is a row of the job table: a name with its kept versions. A stored job never changes; it is replaced.
type job struct {
	name     string
	handle   uint32
	next     uint64    // the number of the next version; it survives a purge
	versions []version // newest first; none when the job was purged
}

// version is one version of a job, with what belongs to each of its tasks.
type version struct {
	job     *api.Job
	handles []uint32 // of the names of job.Tasks
	lines   []uint64 // of each of job.Tasks: the version since which its instances are the same
}

// tally is what is counted for a job. It changes with each of the job's allocations, so it is a row of its own.
type tally struct {
	job         uint32
	counts      [api.PhaseLost + 1]int32 // current instances by phase, see counted
	healthy     int32                    // of these, the healthy ones
	occupied    int32                    // slots below their task's count that have a current instance
	live        int32                    // allocations that are not terminal
	wanted      int32                    // of these, to run
	current     int32                    // of these, of the version in force
	well        int32                    // of these, healthy
	kept        int32                    // evaluations
	open        api.ID                   // the open evaluation
	progress    uint64                   // the index at which an allocation last became running or terminal, or a node ceased to be one to be on
	ended       uint64                   // the index at which an allocation last became terminal
	allocations uint64                   // the index at which any allocation last changed
	evaluations uint64                   // the index at which any evaluation last changed
}

type jobTables struct {
	rows      *btree.BTreeG[*job] // by name
	tallies   *btree.BTreeG[tally]
	completed *btree.BTreeG[completedSlots]
	launches  launch.Table
}

func newJobTables() jobTables {
	return jobTables{
		launches: launch.New(),
		rows:     newTree(func(a, b *job) bool { return a.name < b.name }),
		tallies:  newTree(func(a, b tally) bool { return a.job < b.job }),
		completed: newTree(func(a, b completedSlots) bool {
			switch {
			case a.job != b.job:
				return a.job < b.job
			case a.task != b.task:
				return a.task < b.task
			case a.line != b.line:
				return a.line < b.line
			}
			return a.word < b.word
		}),
	}
}

func (t *jobTables) copy() jobTables {
	return jobTables{rows: t.rows.Copy(), tallies: t.tallies.Copy(), completed: t.completed.Copy(), launches: t.launches.Copy()}
}

// get returns the row, nil if there never was such a job.
func (t *jobTables) get(name string) *job {
	j, _ := t.rows.Get(&job{name: name})
	return j
}

// all returns the rows by name, purged jobs included.
func (t *jobTables) all() []*job {
	out := make([]*job, 0, t.rows.Len())
	t.rows.Scan(func(j *job) bool { out = append(out, j); return true })
	return out
}

// current returns the version in force, nil for no job or a purged one.
func (j *job) current() *api.Job {
	if j == nil || len(j.versions) == 0 {
		return nil
	}
	return j.versions[0].job
}

// version returns a kept version, nil if it is gone.
func (j *job) version(number uint64) *version {
	if j != nil {
		for i := range j.versions {
			if j.versions[i].job.Version == number {
				return &j.versions[i]
			}
		}
	}
	return nil
}

// count returns how many slots the version has for the task with that handle.
func (v *version) count(task uint32) uint32 {
	if i := v.task(task); i >= 0 {
		return uint32(v.job.Slots(v.job.Tasks[i]))
	}
	return 0
}

// task returns the place of the task with that handle, -1 if the version has none.
func (v *version) task(handle uint32) int {
	for i, h := range v.handles {
		if h == handle {
			return i
		}
	}
	return -1
}

// everyNode reports whether the job's slots are nodes.
func (j *job) everyNode() bool { return j.current() != nil && j.current().Type.EveryNode() }

// count is that of the version in force, whether the job is stopped or not.
func (j *job) count(task uint32) uint32 {
	if j.current() == nil {
		return 0
	}
	return j.versions[0].count(task)
}

func (t *tables) tally(job uint32) tally {
	row, _ := t.jobs.tallies.Get(tally{job: job})
	row.job = job
	return row
}

// RegisteredJob is what became of one job of a RegisterJobs, in its order.
type RegisteredJob struct {
	Name       string
	Version    uint64
	Changed    bool   // false: the version in force already says this
	Evaluation api.ID // the job's open one; 0 when nothing changed and nothing is open
}

func (s *state) registerJobs(b *RegisterJobs, who string) Result {
	if len(b.Jobs) == 0 {
		return refused(s.index, api.Errorf(api.CodeInvalid, "there is no job to register"))
	}
	seen := map[string]bool{}
	for _, j := range b.Jobs {
		if err := registrable(j); err != nil {
			return refused(s.index, err)
		}
		if seen[j.Name] {
			return refused(s.index, api.Errorf(api.CodeInvalid, "job %q is there twice", j.Name))
		}
		seen[j.Name] = true
	}
	if err := s.unchanged(b.CheckIndex, b.Jobs...); err != nil {
		return refused(s.index, err)
	}
	for _, j := range b.Jobs {
		if err := s.sameSlots(j); err != nil {
			return refused(s.index, err)
		}
	}
	r := s.done()
	for _, j := range b.Jobs {
		r.Registered = append(r.Registered, s.registerJob(j, registration{cause: api.CauseRegister, who: who, deploy: b.Deploy}))
	}
	return r
}

// registrable checks what the state itself relies on; all else was validated before the command was made.
func registrable(j *api.Job) error {
	if j == nil || j.Name == "" || len(j.Tasks) == 0 {
		return api.Errorf(api.CodeInvalid, "a job needs a name and a task")
	}
	seen := map[string]bool{}
	for _, t := range j.Tasks {
		switch {
		case t == nil || t.Name == "" || seen[t.Name]:
			return api.Errorf(api.CodeInvalid, "the tasks of job %q need names that differ", j.Name)
		case t.Count < 0 || t.Count > api.MaxTaskInstances:
			return api.Errorf(api.CodeInvalid, "task %q of job %q asks for %d instances: give 0 to %d",
				t.Name, j.Name, t.Count, api.MaxTaskInstances)
		}
		seen[t.Name] = true
	}
	return nil
}

func (s *state) registerJob(spec *api.Job, r registration) RegisteredJob {
	row := s.jobs.get(spec.Name)
	old := row.current()
	if old != nil && !old.Stopped && !r.restart && api.SpecEqual(old, spec) {
		return RegisteredJob{Name: old.Name, Version: old.Version, Evaluation: s.tally(row.handle).open}
	}
	next := &job{name: spec.Name, handle: s.intern(spec.Name), next: 1}
	if row != nil {
		*next = *row
	}
	accepted := *spec
	accepted.Version, accepted.Stopped, accepted.Hurry = next.next, false, false
	accepted.SubmittedAt = time.Unix(0, s.now).UTC()
	accepted.CreateIndex, accepted.ModifyIndex = s.index, s.index
	accepted.Scaled, accepted.Tags, accepted.StoppedBy, accepted.Stable = nil, nil, "", false
	accepted.Launched = launch.Since(old, &accepted, accepted.SubmittedAt)
	if old != nil {
		accepted.CreateIndex = old.CreateIndex
	}
	if !r.restart {
		accepted.Restarted = s.renewals(row)
	}
	next.next++
	next.versions = append([]version{s.newVersion(&accepted, row)}, next.versions...)
	s.dropVersions(next)
	s.putJob(next)
	s.recount(next)
	s.note(api.Event{Type: api.EventSubmitted, Job: next.name, Version: accepted.Version, By: s.by, Detail: accepted.MadeFrom()})
	s.beginDeployment(&accepted, old, r)
	return RegisteredJob{Name: next.name, Version: accepted.Version, Changed: true, Evaluation: s.look(next, r.cause, "", nil)}
}

// newVersion finds for each task whether its instances are those of the version before: then what completed stays so. A
// job that was stopped begins anew, since running it again is why somebody registers a stopped batch job.
func (s *state) newVersion(j *api.Job, before *job) version {
	v := version{job: j, handles: make([]uint32, len(j.Tasks)), lines: make([]uint64, len(j.Tasks))}
	old := before.current()
	for i, t := range j.Tasks {
		v.handles[i], v.lines[i] = s.intern(t.Name), j.Version
		if old == nil || old.Stopped {
			continue
		}
		if k := before.versions[0].task(v.handles[i]); k >= 0 && api.SameLine(old.Tasks[k], t) {
			v.lines[i] = before.versions[0].lines[k]
		}
	}
	return v
}

func (s *state) stopJob(b *StopJob, who string) Result {
	row := s.jobs.get(b.Name)
	old := row.current()
	if old == nil {
		return refused(s.index, noJob(b.Name))
	}
	r := s.done()
	if old.Stopped && (old.Hurry || !b.NoShutdownDelay) {
		r.Evaluation = s.tally(row.handle).open
		return r
	}
	stopped := *old
	stopped.Stopped, stopped.StoppedBy, stopped.Hurry, stopped.ModifyIndex = true, s.by, b.NoShutdownDelay, s.index
	next := s.replaceVersion(row, 0, &stopped)
	if stopped.Hurry {
		s.hurryLeaving(next)
	}
	s.note(api.Event{Type: api.EventStopped, Job: next.name, Version: stopped.Version, By: s.by})
	s.cancelDeployment(b.Name, "the job was stopped", who)
	r.Evaluation = s.look(next, api.CauseStop, "", nil)
	return r
}

// launchJob launches a job for another one. A time that comes due for which nothing is launched is noted.
func (s *state) launchJob(b *LaunchJob, who string) Result {
	row := s.jobs.get(b.Name)
	parent := row.current()
	if parent == nil {
		return refused(s.index, noJob(b.Name))
	}
	jobs := launch.Jobs{Known: s.isJob, Finished: s.finished, Job: s.currentJob}
	if b.Asked != nil {
		return s.dispatchJob(b, parent, jobs, who)
	}
	noted, child, err := s.jobs.launches.Take(&b.Order, parent, jobs, s.time())
	if err != nil {
		return refused(s.index, err)
	}
	r := s.done()
	s.replaceVersion(row, 0, noted)
	if skipped, ok := launch.Skipped(noted); ok {
		s.note(skipped)
	}
	if child != nil {
		s.note(launch.Told(child))
		r.Registered = []RegisteredJob{s.registerJob(child, registration{cause: api.CauseLaunch})}
	}
	return r
}

// dispatchJob launches a job because somebody asks for it. One that the same request launched before is named again.
func (s *state) dispatchJob(b *LaunchJob, parent *api.Job, jobs launch.Jobs, who string) Result {
	d, err := s.jobs.launches.Dispatch(parent, b.Asked, jobs, who, func() string { return s.text.Format(s.mint())[:8] })
	if err != nil {
		return refused(s.index, err)
	}
	r := s.done()
	if d.Known != nil {
		r.Registered = []RegisteredJob{{Name: d.Known.Name, Version: d.Known.Version, Evaluation: s.tally(s.jobs.get(d.Known.Name).handle).open}}
		return r
	}
	s.touch(WatchKey{Table: TableJobs, Key: b.Name}) // who watches it is told of what it launches
	s.note(launch.Told(d.Child))
	r.Registered = []RegisteredJob{s.registerJob(d.Child, registration{cause: api.CauseLaunch, who: who})}
	return r
}

func noJob(name string) error { return api.Errorf(api.CodeNotFound, "there is no job %q", name) }

func (t *tables) isJob(name string) bool { return t.currentJob(name) != nil }

func (t *tables) currentJob(name string) *api.Job { return t.jobs.get(name).current() }

func (s *state) putJob(j *job) {
	s.jobs.rows.Set(j)
	s.touch(WatchKey{Table: TableJobs, Key: j.name})
	s.noteEveryNode(j)
	if s.jobs.launches.Note(j.name, j.current()) {
		s.touch(LaunchesKey())
	}
}

// counted reports whether the allocation that speaks for a slot is an instance that people count, and whether its slot
// is one that its task asks for. What was stopped and is gone no longer counts, nor what ended above a lowered count.
func counted(j *job, a allocation) (counts, occupies bool) {
	occupies = a.slot < j.count(a.task)
	if a.live() {
		return true, occupies
	}
	counts = a.desired == api.DesiredRun && occupies
	if a.phase == api.PhaseLost && j.everyNode() {
		counts = false // nothing is to take its place while its node is away
	}
	return counts, counts
}

// tallySlot adds (by 1) or takes off (by -1) the allocation that speaks for a slot; one without an ID is none.
func (t *tally) tallySlot(j *job, a allocation, by int32) {
	if a.id == 0 {
		return
	}
	counts, occupies := counted(j, a)
	if counts {
		t.counts[a.phase] += by
	}
	if counts && a.health == api.HealthHealthy {
		t.healthy += by
	}
	if occupies {
		t.occupied += by
	}
}

// tallyLive adds or takes off what an allocation counts for, whether it speaks for its slot or not.
func (t *tally) tallyLive(j *job, a allocation, by int32) {
	if !a.live() {
		return
	}
	t.live += by
	if a.desired != api.DesiredRun {
		return
	}
	t.wanted += by
	if current := j.current(); current != nil && uint64(a.version) == current.Version {
		t.current += by
		if a.health == api.HealthHealthy {
			t.well += by
		}
	}
}

// Job returns the version in force, nil if there is no such job.
func (s *Snapshot) Job(name string) *api.Job { return s.currentJob(name) }

// JobVersion returns a kept version, nil if it is gone.
func (s *Snapshot) JobVersion(name string, number uint64) *api.Job {
	if v := s.jobs.get(name).version(number); v != nil {
		return v.job
	}
	return nil
}

// Jobs yields the version in force of each job, by name.
func (s *Snapshot) Jobs() iter.Seq[*api.Job] {
	return func(yield func(*api.Job) bool) {
		s.jobs.rows.Scan(func(j *job) bool {
			current := j.current()
			return current == nil || yield(current)
		})
	}
}

// Versions returns a job's kept versions, newest first.
func (s *Snapshot) Versions(name string) []*api.Job {
	var out []*api.Job
	if j := s.jobs.get(name); j != nil {
		for i := range j.versions {
			out = append(out, j.versions[i].job)
		}
	}
	return out
}

// Summary returns the row of a job list; its Name is "" if there is no such job. Nothing is counted for it: the counts
// are kept up to date.
func (s *Snapshot) Summary(name string) api.JobSummary {
	row := s.jobs.get(name)
	j := row.current()
	if j == nil {
		return api.JobSummary{}
	}
	t := s.tally(row.handle)
	sum := api.JobSummary{Name: j.Name, Type: j.Type, Priority: j.Priority, Version: j.Version, Stopped: j.Stopped,
		Healthy: int(t.healthy), SubmittedAt: j.SubmittedAt, CreateIndex: j.CreateIndex, ModifyIndex: j.ModifyIndex}
	sum.Desired = s.desired(j, &t)
	sum.Counts = api.PhaseCounts{
		Queued:  max(0, sum.Desired-int(t.occupied)),
		Pending: int(t.counts[api.PhasePending]), Preparing: int(t.counts[api.PhasePreparing]),
		Running: int(t.counts[api.PhaseRunning]), Complete: int(t.counts[api.PhaseComplete]),
		Failed: int(t.counts[api.PhaseFailed]), Lost: int(t.counts[api.PhaseLost]),
	}
	sum.Status = sum.Judge(j, int(t.live), t.open != 0)
	if j.Type.EveryNode() && !j.Stopped && !j.Launches() && s.unsettled(&t, sum.Desired) {
		sum.Status = api.JobPending
	}
	return sum
}

func (t *tables) persistJobs(k *sink) {
	t.jobs.rows.Scan(func(j *job) bool {
		k.name(j.handle)
		k.uvarint(j.next)
		k.uvarint(uint64(len(j.versions)))
		for _, v := range j.versions {
			k.json(v.job)
			for _, line := range v.lines {
				k.uvarint(line)
			}
		}
		sum := t.tally(j.handle)
		for _, index := range []uint64{sum.progress, sum.ended, sum.allocations, sum.evaluations} {
			k.uvarint(index)
		}
		return k.row()
	})
}

func (s *state) restoreJob(r *reader) {
	j := &job{handle: s.handle(r), next: r.uvarint()}
	j.name = s.names[j.handle]
	const versionSize = 2
	j.versions = makeSlice[version](r.count(versionSize))
	for i := range j.versions {
		if j.versions[i] = s.restoreVersion(r, j.name); r.err != nil {
			return
		}
	}
	t := tally{job: j.handle, progress: r.uvarint(), ended: r.uvarint(), allocations: r.uvarint(), evaluations: r.uvarint()}
	if s.jobs.get(j.name) != nil {
		r.fail("job %q is there twice", j.name)
	}
	if r.err != nil {
		return
	}
	s.jobs.rows.Set(j)
	s.noteEveryNode(j)
	s.jobs.launches.Note(j.name, j.current())
	if len(j.versions) > 0 {
		s.jobs.tallies.Set(t)
	}
}

func (s *state) restoreVersion(r *reader, name string) version {
	v := version{job: &api.Job{}}
	r.json(v.job)
	if err := registrable(v.job); r.err == nil && (err != nil || v.job.Name != name) {
		r.fail("a version of job %q is not one of it", name)
	}
	if r.err != nil {
		return v
	}
	for _, t := range v.job.Tasks {
		h, ok := s.handles[t.Name]
		if !ok {
			r.fail("task %q is not in its names", t.Name)
		}
		v.handles = append(v.handles, h)
		v.lines = append(v.lines, r.uvarint())
	}
	return v
}
