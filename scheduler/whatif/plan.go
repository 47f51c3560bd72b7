package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"cube/api"
	"cube/scheduler"
)

// Plan says what registering the jobs would do. They are canonical and valid; none is changed.
//
// The scheduler is asked twice. The first plan says which instances take the new version in place and which go; the second
// is made as if everything that is to go had gone, and so says where all that is placed anew would end up, and what would
// not fit, whatever the order in which the roll-out takes its steps.
func Plan(s State, jobs []*api.Job, o scheduler.Options) *api.Forecast {
	p := newPlanning(newDraft(s))
	f := &api.Forecast{Index: s.Index()}
	var names []string
	for _, j := range jobs {
		f.Jobs = append(f.Jobs, p.draw(j))
		last := &f.Jobs[len(f.Jobs)-1]
		f.CheckIndex = max(f.CheckIndex, last.ModifyIndex)
		if last.Changed {
			names = append(names, j.Name)
		}
	}
	now := time.Unix(0, o.Now)
	o.MaxPlacements = 0
	first := scheduler.Schedule(p.draft, p.evaluations(names), o)
	for i := range first.Jobs {
		p.sort(&first.Jobs[i])
	}
	second := scheduler.Schedule(p.draft, p.evaluations(names), o)
	for i := range f.Jobs {
		job := &f.Jobs[i]
		at := slices.IndexFunc(second.Jobs, func(j api.JobPlan) bool { return j.Job == job.Name })
		if at < 0 {
			continue
		}
		if j := p.asked[job.Name]; j.Launches() {
			job.Message = j.ToBeLaunched(now)
			continue
		}
		job.Tasks = p.tasks(&second.Jobs[at])
		if gone := p.yielded[job.Name]; len(gone) > 0 {
			job.Message = fmt.Sprintf("%d less important instances give way: %s", len(gone), api.FirstOf(gone, 5))
		}
		if second.Jobs[at].Status == api.EvalFailed {
			job.Message = second.Jobs[at].Message
		}
	}
	return f
}

// fate is what becomes of an instance that runs.
type fate uint8

const (
	stays fate = iota
	changes
	isReplaced
	isStopped
	losesNode
	givesWay // to a more important one
)

type planning struct {
	*draft
	sorts   map[string]map[api.ID]fate // by job
	yielded map[string][]string        // by job, what gave way to it
	asked   map[string]*api.Job        // as they were submitted
}

func newPlanning(d *draft) planning {
	return planning{draft: d, sorts: map[string]map[api.ID]fate{}, yielded: map[string][]string{}, asked: map[string]*api.Job{}}
}

// draw puts a job in force, unless what is in force says the same.
func (p *planning) draw(j *api.Job) api.JobForecast {
	old := p.State.Job(j.Name)
	f := api.JobForecast{Name: j.Name, Version: p.NextVersion(j.Name), Changed: true, Diff: api.DiffJobs(old, j)}
	if old != nil {
		f.ModifyIndex, f.Starts = old.ModifyIndex, old.Stopped
		if f.Diff.Kind == api.DiffNone && !old.Stopped {
			f.Version, f.Changed = old.Version, false
			return f
		}
	}
	supposed := *j
	supposed.Version, supposed.ModifyIndex = f.Version, p.Index()
	if old != nil {
		supposed.Restarted = old.Restarted.Carry(func(api.Renewal) bool { return true })
	}
	p.jobs[j.Name] = begun(&supposed)
	p.asked[j.Name] = j
	return f
}

// begun is the job once its tasks need not wait for each other any more.
func begun(j *api.Job) *api.Job {
	if !slices.ContainsFunc(j.Tasks, func(t *api.Task) bool { return len(t.DependsOn) > 0 }) {
		return j
	}
	next := *j
	next.Tasks = slices.Clone(j.Tasks)
	for i, t := range next.Tasks {
		free := *t
		free.DependsOn = nil
		next.Tasks[i] = &free
	}
	return &next
}

// sort says of each of a job's live instances what the plan, and those after it, will make of it, and has those go that go.
func (p *planning) sort(plan *api.JobPlan) {
	job := p.Job(plan.Job)
	stops, inPlace := map[api.ID]bool{}, map[api.ID]bool{}
	for _, s := range plan.Stops {
		stops[s.Allocation] = true
	}
	for _, id := range plan.InPlace {
		inPlace[id] = true
	}
	for _, x := range plan.Preemptions {
		for row := range p.JobRows(x.Job) {
			if row.ID == x.Allocation && row.Live() {
				row.Desired = api.DesiredStop
				p.end(row, api.PhaseComplete)
				p.yielded[plan.Job] = append(p.yielded[plan.Job], api.InstanceName(row.Job, row.Task, row.Slot))
			}
		}
	}
	fates := p.fates(plan.Job)
	rows := slices.Collect(p.JobRows(plan.Job))
	for i, row := range rows {
		if !row.Live() {
			continue
		}
		task := job.Task(row.Task)
		switch {
		case row.Desired == api.DesiredStop: // it goes anyway
		case inPlace[row.ID]:
			fates[row.ID] = changes
			row.Version = job.Version
			p.rows[row.ID] = row
			continue
		case task == nil || int64(row.Slot) >= int64(job.Slots(task)) || succeeded(rows[i:]):
			fates[row.ID] = isStopped
		case stops[row.ID] && job.Type.EveryNode(): // its node may be one no longer: see outcome
			fates[row.ID] = isStopped
		case stops[row.ID] || row.Version != job.Version:
			fates[row.ID] = isReplaced
		default:
			fates[row.ID] = stays
			continue
		}
		row.Desired = api.DesiredStop
		p.end(row, api.PhaseComplete)
	}
}

// fates are those of a job's instances, for reading and for writing.
func (p *planning) fates(job string) map[api.ID]fate {
	if p.sorts[job] == nil {
		p.sorts[job] = map[api.ID]fate{}
	}
	return p.sorts[job]
}

// succeeded reports whether the first row's slot has a newer holder among the rows behind it.
func succeeded(rows []api.AllocationRow) bool {
	for i := 1; i < len(rows) && rows[i].Task == rows[0].Task && rows[i].Slot == rows[0].Slot; i++ {
		if rows[i].Live() && rows[i].Desired == api.DesiredRun {
			return true
		}
	}
	return false
}

// tasks says of each task of a job, and of those that it no longer has, what becomes of its instances.
func (p *planning) tasks(plan *api.JobPlan) []api.TaskForecast {
	old, job := p.State.Job(plan.Job), p.asked[plan.Job]
	byName := map[string]*api.TaskForecast{}
	for _, t := range job.Tasks {
		byName[t.Name] = &api.TaskForecast{Task: t.Name, Effect: effect(old, t), Wanted: t.Count, Nodes: p.spread(plan.Placements, t.Name)}
	}
	replaced, placed := map[slotOf]bool{}, map[slotOf]bool{}
	for i := range plan.Placements {
		placed[slotOf{plan.Placements[i].Task, plan.Placements[i].Slot}] = true
	}
	for row := range p.JobRows(plan.Job) {
		what, lived := p.sorts[plan.Job][row.ID]
		if !lived {
			continue
		}
		f := byName[row.Task]
		if f == nil {
			f = &api.TaskForecast{Task: row.Task, Effect: api.EffectRemove}
			byName[row.Task] = f
		}
		if job.Type.EveryNode() {
			what = outcome(what, placed[slotOf{row.Task, row.Slot}])
		}
		switch what {
		case stays:
			f.Keep++
		case changes:
			f.InPlace++
		case isStopped:
			f.Stop++
		case isReplaced:
			f.Replace++
			replaced[slotOf{row.Task, row.Slot}] = true
		}
	}
	for i := range plan.Placements {
		if at := (slotOf{plan.Placements[i].Task, plan.Placements[i].Slot}); !replaced[at] {
			byName[at.task].Place++
		}
	}
	for i := range plan.Explanations {
		if f := byName[plan.Explanations[i].Task]; f != nil {
			f.Explanation = &plan.Explanations[i]
		}
	}
	if job.Type.EveryNode() {
		for _, f := range byName {
			if f.Wanted = f.Keep + f.InPlace + f.Replace + f.Place; f.Explanation != nil {
				f.Wanted += f.Explanation.Wanted - f.Explanation.Placed
			}
		}
	}
	for _, t := range job.Tasks {
		if f := byName[t.Name]; f.Replace > 0 {
			f.RollOut = t.RollOut(job.Type, f.Replace)
		}
	}
	out := make([]api.TaskForecast, 0, len(byName))
	for _, f := range slices.SortedFunc(maps.Values(byName), func(a, b *api.TaskForecast) int { return cmp.Compare(a.Task, b.Task) }) {
		out = append(out, *f)
	}
	return out
}

// outcome is what becomes of an instance of a slot that is a node, given whether the node gets another one: one in an older
// version stays where its node can take no other, and is stopped where its node is not one for the task any more.
func outcome(what fate, placed bool) fate {
	switch {
	case what == isStopped && placed:
		return isReplaced
	case what == isReplaced && !placed:
		return stays
	}
	return what
}

type slotOf struct {
	task string
	slot uint32
}

// effect is what the change of a task means to its running instances.
func effect(old *api.Job, t *api.Task) string {
	if old == nil || old.Stopped || old.Task(t.Name) == nil {
		return api.EffectCreate
	}
	switch before := old.Task(t.Name); {
	case !api.SameInstance(before, t):
		return api.EffectDestructive
	case api.SameTask(before, t):
		return api.EffectNone
	}
	return api.EffectInPlace
}
