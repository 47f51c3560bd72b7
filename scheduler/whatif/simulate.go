package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"cube/api"
	"cube/scheduler"
	"cube/scheduler/preempt"
)

const (
	// maxWaiting bounds how many jobs that wait a simulation looks at: as many as the leader does in a batch.
	maxWaiting = 1000
	// listed is how many of the nodes that would be fullest a simulation names.
	listed = 5
	// maxWays bounds how often what gave way is asked about in turn: it may have others give way, which are less important by a
	// step of priority each time.
	maxWays = api.MaxPriority / preempt.Gap
)

// Step is one thing to suppose. Exactly one of its parts is set.
type Step struct {
	Down, Drain string     // node ID
	Run         []*api.Job // registered together; canonical and valid, none is changed
	Scale       *api.ScaleSupposition
}

// Simulate says what would become of the cluster if all the steps were taken and it came to rest. It fails where one cannot be
// taken, such as another count of a job that there is not.
//
// The scheduler is asked about the jobs that change and, as in Plan, a second time when what is to be replaced has gone: about
// those, about the jobs that lose instances, those that it has not looked at yet and, if room is given back, those that wait
// for it.
func Simulate(s State, steps []Step, o scheduler.Options) (*api.Simulation, error) {
	m := newSimulation(newDraft(s))
	before := slices.Clone(m.held)
	for i := range steps {
		if err := m.take(&steps[i]); err != nil {
			return nil, err
		}
	}
	o.MaxPlacements, o.Memory = 0, &scheduler.Memory{}
	first := scheduler.Schedule(m.draft, m.evaluations(m.changed), o)
	m.giveWay(first)
	for i := range first.Jobs {
		m.sort(&first.Jobs[i])
	}
	out := &api.Simulation{Index: s.Index()}
	var second *api.Plan
	for range maxWays {
		var evaluations []*api.Evaluation
		evaluations, out.Unlooked = m.reasons()
		if second = scheduler.Schedule(m.draft, evaluations, o); !m.giveWay(second) {
			break
		}
	}
	m.outcomes(second, out)
	m.fill(second, before, out)
	return out, nil
}

// giveWay has those instances be gone that give way to more important ones by a plan, and reports whether there are any. What they
// make room for is then placed when the scheduler is asked again, and they themselves where else there is room.
func (m *simulation) giveWay(p *api.Plan) (any bool) {
	for i := range p.Jobs {
		for _, x := range p.Jobs[i].Preemptions {
			for row := range m.JobRows(x.Job) {
				if row.ID != x.Allocation || !row.Live() {
					continue
				}
				row.Desired = api.DesiredStop
				m.end(row, api.PhaseComplete)
				m.fates(x.Job)[row.ID] = givesWay
				m.ways[row.ID] = api.InstanceName(row.Job, row.Task, row.Slot) + " " + x.Reason
				m.leave[row.NodeOrdinal]++
				any = true
			}
		}
	}
	return any
}

// simulation is a draft with what was supposed of it.
type simulation struct {
	planning
	gone    map[int]string    // nodes, by how they go
	changed []string          // jobs
	leave   map[int]int       // instances, by the node that they lose
	ways    map[api.ID]string // what gives way, and to whom
}

func newSimulation(d *draft) *simulation {
	return &simulation{planning: newPlanning(d), gone: map[int]string{}, leave: map[int]int{}, ways: map[api.ID]string{}}
}

func (m *simulation) take(s *Step) error {
	switch {
	case s.Down != "":
		return m.lose(s.Down, "down", goesDown)
	case s.Drain != "":
		return m.lose(s.Drain, "drained", func(n *api.Node) {
			n.Ineligible, n.EligibilityBy, n.EligibilityReason = true, "", ""
		})
	case s.Scale != nil:
		return m.scale(s.Scale)
	}
	for _, j := range s.Run {
		delete(m.jobs, j.Name) // what was supposed of it before: the file speaks of all of it
		if m.draw(j).Changed {
			m.change(j.Name)
		}
	}
	return nil
}

// lose takes a node out of service. What is to run there loses its place; what is on its way out has gone.
func (m *simulation) lose(id, how string, change func(*api.Node)) error {
	node, ok := m.ordinal(id)
	if !ok {
		return api.Errorf(api.CodeNotFound, "there is no node %.80s", id)
	}
	supposed := *m.nodes[node] // the view knows a changed node by its address
	change(&supposed)
	m.nodes[node], m.gone[node] = &supposed, how
	for row := range m.NodeRows(id, 0) {
		if !row.Live() {
			continue
		}
		if row.Desired == api.DesiredRun {
			m.fates(row.Job)[row.ID] = losesNode
			m.leave[node]++
		}
		if how == "down" {
			m.end(row, api.PhaseLost)
			continue
		}
		row.Desired = api.DesiredStop
		m.end(row, api.PhaseComplete)
	}
	return nil
}

func goesDown(n *api.Node) { n.Status, n.StatusReason = api.NodeDown, "supposed" }

// hit lists the jobs that lose instances, by name.
func (m *simulation) hit() []string { return slices.Sorted(maps.Keys(m.sorts)) }

func (m *simulation) scale(s *api.ScaleSupposition) error {
	old := m.Job(s.Job)
	if old == nil {
		return api.Errorf(api.CodeNotFound, "there is no job %.80q", s.Job)
	}
	place, err := old.Scalable(s.Task, s.Count)
	if err != nil {
		return err
	}
	scaled, task := *old, *old.Tasks[place]
	task.Count = s.Count
	scaled.Tasks = slices.Clone(old.Tasks)
	scaled.Tasks[place] = &task
	m.jobs[s.Job] = begun(&scaled)
	m.change(s.Job)
	return nil
}

func (m *simulation) change(job string) {
	if !slices.Contains(m.changed, job) {
		m.changed = append(m.changed, job)
	}
}

// reasons are why the scheduler would look at jobs, in the order in which it would, and how many of those that wait for
// room are left out.
func (m *simulation) reasons() (out []*api.Evaluation, left int) {
	waiting := m.Waiting(api.EvalPending, math.MaxInt)
	if m.roomier {
		waiting = append(waiting, m.Waiting(api.EvalBlocked, math.MaxInt)...)
	}
	own := map[string]*api.Evaluation{}
	next := api.ID(0)
	for i, e := range waiting {
		if i >= maxWaiting {
			left++
			continue
		}
		out = append(out, e)
		own[e.Job] = e
		next = max(next, e.ID)
	}
	for _, name := range append(m.hit(), m.changed...) {
		e := &api.Evaluation{ID: next + 1, Job: name, Status: api.EvalPending}
		if j := m.Job(name); j != nil {
			e.Priority = j.Priority
		}
		if old := own[name]; old != nil {
			e.Stop = old.Stop
			out = slices.DeleteFunc(out, func(x *api.Evaluation) bool { return x == old })
		}
		own[name] = e
		out = append(out, e)
		next++
	}
	return out, left
}

// outcomes says what the plan means to each job.
func (m *simulation) outcomes(p *api.Plan, out *api.Simulation) {
	for i := range p.Jobs {
		j := m.outcome(&p.Jobs[i])
		for k := range j.Tasks {
			out.Add(&j.Tasks[k].Totals)
		}
		j.Tasks = slices.DeleteFunc(j.Tasks, func(t api.TaskOutcome) bool { return t.Empty() })
		if len(j.Tasks) > 0 || j.Message != "" {
			out.Jobs = append(out.Jobs, j)
		}
	}
	lacks := func(j *api.JobOutcome) int {
		if slices.ContainsFunc(j.Tasks, func(t api.TaskOutcome) bool { return t.Missing > 0 }) {
			return 0
		}
		return 1
	}
	slices.SortFunc(out.Jobs, func(a, b api.JobOutcome) int {
		return cmp.Or(cmp.Compare(lacks(&a), lacks(&b)), cmp.Compare(a.Name, b.Name))
	})
}

// tallied is a task's outcome while it is counted.
type tallied struct {
	api.TaskOutcome
	lost, replaced int
	from           map[int]int
	held           map[uint32]bool // slots that somebody holds today
}

func (m *simulation) outcome(p *api.JobPlan) api.JobOutcome {
	tasks := map[string]*tallied{}
	task := func(name string) *tallied {
		if tasks[name] == nil {
			tasks[name] = &tallied{TaskOutcome: api.TaskOutcome{Task: name}, from: map[int]int{}, held: map[uint32]bool{}}
		}
		return tasks[name]
	}
	fates := m.sorts[p.Job]
	for row := range m.JobRows(p.Job) {
		t := task(row.Task)
		what, known := fates[row.ID]
		if known || row.Live() {
			t.held[row.Slot] = true
		}
		switch what {
		case losesNode, givesWay:
			t.lost++
			t.from[row.NodeOrdinal]++
			if what == givesWay {
				t.GiveWay++
				t.Ways = append(t.Ways, m.ways[row.ID])
			}
		case changes:
			t.InPlace++
		case isReplaced:
			t.replaced++
		case isStopped:
			t.Stopped++
		}
	}
	for i := range p.Explanations {
		e := &p.Explanations[i]
		task(e.Task).Explanation = e
	}
	for i := range p.Placements {
		task(p.Placements[i].Task).Placed++
	}
	out := api.JobOutcome{Name: p.Job}
	if p.Status == api.EvalFailed {
		out.Message = p.Message
	}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		t := tasks[name]
		m.settle(t, p)
		out.Tasks = append(out.Tasks, t.TaskOutcome)
	}
	return out
}

// settle works out what the counts mean. Instances of a task are alike: where one gets a place, it does not matter which.
func (m *simulation) settle(t *tallied, p *api.JobPlan) {
	without := 0
	if e := t.Explanation; e != nil {
		without = e.Wanted - e.Placed
	}
	if p.Status == api.EvalFailed {
		without = t.lost + t.replaced
	}
	placed := t.Placed
	t.Moved = min(t.lost, placed)
	t.Replaced = min(t.replaced, placed-t.Moved)
	t.Placed = placed - t.Moved - t.Replaced
	if without > 0 {
		t.Waiting = min(without, m.waitToday(t, p.Job))
	}
	t.Missing = without - t.Waiting
	t.Stopped += max(0, t.lost-t.Moved-t.Missing) // what belongs to its node ends with it
	if t.Missing == 0 {
		t.Explanation = nil
	}
	if more := len(t.Ways) - listed; more > 0 {
		t.Ways = append(t.Ways[:listed], fmt.Sprintf("and %d more", more))
	}
	t.From, t.To = m.counted(t.from), m.spread(p.Placements, t.Task)
}

// waitToday counts the instances of a task that are asked for and have no place, as things are.
func (m *simulation) waitToday(t *tallied, job string) (n int) {
	old, now := m.State.Job(job), m.Job(job)
	if old == nil || old.Stopped || now == nil {
		return 0
	}
	if old.Type.EveryNode() {
		return m.nodesToday(t.Task, job)
	}
	before, after := old.Task(t.Task), now.Task(t.Task)
	if before == nil || after == nil {
		return 0
	}
	for slot := range uint32(min(before.Count, after.Count)) {
		if !t.held[slot] && !m.State.Completed(job, t.Task, old.Version, slot) {
			n++
		}
	}
	return n
}

// nodesToday counts the nodes that are to have an instance of a task of every node and do not take one. Their slots are not
// known from outside, so the scheduler is asked how things are.
func (m *simulation) nodesToday(task, job string) (n int) {
	for _, p := range scheduler.Schedule(m.State, []*api.Evaluation{{ID: 1, Job: job}}, scheduler.Options{}).Jobs {
		for _, e := range p.Explanations {
			if e.Task == task {
				n += e.Wanted - e.Placed
			}
		}
	}
	return n
}

// fill says how full the nodes would be.
func (m *simulation) fill(p *api.Plan, before []api.Resources, out *api.Simulation) {
	arrive := map[int]int{}
	after := slices.Clone(m.held)
	for i := range p.Jobs {
		for k := range p.Jobs[i].Placements {
			placement := &p.Jobs[i].Placements[k]
			if node, ok := m.ordinal(placement.Node); ok {
				after[node] = after[node].Add(placement.Held)
				arrive[node]++
			}
		}
	}
	var nodes []api.NodeOutcome
	i := 0
	for old := range m.State.Nodes() {
		n := m.nodes[i]
		if old.Ready() {
			out.Before.Held, out.Before.Total = out.Before.Held.Add(before[i]), out.Before.Total.Add(old.Resources)
		}
		if n.Ready() {
			out.After.Held, out.After.Total = out.After.Held.Add(after[i]), out.After.Total.Add(n.Resources)
		}
		if n.Ready() || m.gone[i] != "" {
			nodes = append(nodes, api.NodeOutcome{ID: n.ID, Name: n.Name, Gone: m.gone[i], Leave: m.leave[i], Arrive: arrive[i],
				Before: api.Fill{Held: before[i], Total: n.Resources}, After: api.Fill{Held: after[i], Total: n.Resources}})
		}
		i++
	}
	slices.SortStableFunc(nodes, func(a, b api.NodeOutcome) int {
		x, _ := a.After.Fullest()
		y, _ := b.After.Fullest()
		return cmp.Or(cmp.Compare(min(len(b.Gone), 1), min(len(a.Gone), 1)), cmp.Compare(y, x))
	})
	out.Nodes = nodes[:min(len(nodes), len(m.gone)+listed)]
}
