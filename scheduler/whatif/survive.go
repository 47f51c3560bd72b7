package whatif

import (
	"cmp"
	"slices"

	"cube/api"
	"cube/scheduler"
)

// Survive says whether everything that has a place would have one again if any one node went. What it says is what Simulate
// would say of each node by itself, with nothing else about to be placed. At most so many nodes are simulated, those first that
// hold most; where that is not all, the answer may be that it is not known. It never says yes where it is not so.
//
// It stops where as many nodes are found that cannot be spared as a Survival names: more of them change nothing.
//
// A node whose instances would surely find a place by what is free (scheduler.Room) is not simulated: in a cluster that is
// large or has some air, that is each of them.
func Survive(s State, simulations int, o scheduler.Options) *api.Survival {
	base := newDraft(s)
	c := newCensus(s, len(base.nodes))
	out := &api.Survival{Survives: api.SurvivesYes}
	room := scheduler.NewRoom(s)
	var doubtful []int
	for node := range base.nodes {
		if len(c.on[node]) == 0 {
			continue
		}
		out.Nodes++
		if c.certain(room, node) {
			out.Checked++
		} else {
			doubtful = append(doubtful, node)
		}
	}
	out.Tightest = tightest(base, c)
	slices.SortStableFunc(doubtful, func(a, b int) int {
		x, _ := (&api.Fill{Held: base.held[a], Total: c.capacity}).Fullest()
		y, _ := (&api.Fill{Held: base.held[b], Total: c.capacity}).Fullest()
		return cmp.Compare(y, x)
	})
	o.MaxPlacements, o.Memory = 0, &scheduler.Memory{}
	for _, node := range doubtful[:min(len(doubtful), simulations)] {
		if out.Failing == api.MaxLosses {
			break
		}
		out.Checked++
		if l := without(base.fork(), node, o); l.Missing > 0 {
			out.Failing++
			out.Losses = append(out.Losses, l)
		}
	}
	slices.SortStableFunc(out.Losses, func(a, b api.NodeLoss) int {
		return cmp.Or(cmp.Compare(b.Missing, a.Missing), cmp.Compare(a.Name, b.Name))
	})
	switch {
	case out.Failing > 0:
		out.Survives = api.SurvivesNo
	case out.Checked < out.Nodes:
		out.Survives = api.SurvivesUnknown
	}
	return out
}

// without simulates the loss of a node.
func without(d *draft, node int, o scheduler.Options) api.NodeLoss {
	m := newSimulation(d)
	out := api.NodeLoss{ID: d.nodes[node].ID, Name: d.nodes[node].Name}
	if err := m.lose(out.ID, "down", goesDown); err != nil {
		return out // it is one of the draft's own
	}
	plan := scheduler.Schedule(d, m.evaluations(m.hit()), o)
	for i := range plan.Jobs {
		p := &plan.Jobs[i]
		for _, t := range m.outcome(p).Tasks {
			if t.Missing > 0 && out.Missing == 0 {
				out.Instance, out.Lacks = m.firstMissing(p, t.Task), lacks(t.Explanation)
			}
			out.Missing += t.Missing
		}
	}
	return out
}

// firstMissing names the lowest slot of a task that lost its holder and did not get another.
func (m *simulation) firstMissing(p *api.JobPlan, task string) string {
	placed := map[uint32]bool{}
	for i := range p.Placements {
		if p.Placements[i].Task == task {
			placed[p.Placements[i].Slot] = true
		}
	}
	for row := range m.JobRows(p.Job) {
		if row.Task == task && m.sorts[p.Job][row.ID] == losesNode && !placed[row.Slot] {
			return api.InstanceName(p.Job, task, row.Slot)
		}
	}
	return api.InstanceName(p.Job, task, 0)
}

// lacks names what the node that came closest does not have.
func lacks(e *api.Explanation) string {
	switch {
	case e == nil || e.Nearest == nil:
		return ""
	case e.Nearest.Filter == "ready":
		return "no other node is ready"
	}
	return e.Nearest.Filter
}

// census is who has a place where, and what belongs to it.
type census struct {
	tasks    []member
	on       [][]int32 // by node: the tasks of the instances that are to run there, each as often as it has some
	capacity api.Resources
	loose    map[string]bool // jobs of which there is more to say than how many instances they have
	byJob    map[string][]int32
}

// member is a task that has instances.
type member struct {
	job  *api.Job
	task *api.Task
	held []uint64 // slots with an instance that is to run, as bits
	live int      // of them
	done int      // slots that have completed
}

// twice notes that a slot has an instance that is to run, and reports whether it had one already.
func (m *member) twice(slot uint32) bool {
	word, bit := &m.held[slot/64], uint64(1)<<(slot%64)
	if *word&bit != 0 {
		return true
	}
	*word |= bit
	m.live++
	return false
}

func newCensus(s State, nodes int) *census {
	c := &census{on: make([][]int32, nodes), loose: map[string]bool{}, byJob: map[string][]int32{}}
	type key struct{ job, task string }
	places := map[key]int32{}
	place := func(job, task string) int32 {
		k := key{job, task}
		at, known := places[k]
		if known {
			return at
		}
		at = -1
		j := s.Job(job)
		if j != nil && !j.Stopped && !j.Type.EveryNode() && j.Task(task) != nil {
			at = int32(len(c.tasks))
			t := j.Task(task)
			c.tasks = append(c.tasks, member{job: j, task: t, held: make([]uint64, t.Count/64+1)})
			c.byJob[job] = append(c.byJob[job], at)
		}
		places[k] = at
		return at
	}
	for row := range s.Rows() {
		if !row.Live() {
			continue
		}
		at := place(row.Job, row.Task)
		if at < 0 || row.Desired != api.DesiredRun || int64(row.Slot) >= int64(c.tasks[at].task.Count) {
			continue
		}
		if c.tasks[at].twice(row.Slot) || row.Version != c.tasks[at].job.Version {
			c.loose[row.Job] = true // an update is under way, or may be
		}
		if row.NodeOrdinal >= 0 {
			c.on[row.NodeOrdinal] = append(c.on[row.NodeOrdinal], at)
		}
	}
	for job := range c.byJob { // in any order: each looks at its own
		j := s.Job(job)
		for _, t := range j.Tasks {
			at := place(job, t.Name)
			if m := &c.tasks[at]; j.Type.Completes() {
				for slot := range uint32(t.Count) {
					if s.Completed(job, t.Name, j.Version, slot) {
						m.done++
					}
				}
			}
		}
	}
	for n := range s.Nodes() {
		if n.Ready() {
			c.capacity = c.capacity.Add(n.Resources)
		}
	}
	return c
}

// certain reports that all that is on the node would have a place without it. Whatever else of the same jobs has no place now
// may take room, too.
func (c *census) certain(room *scheduler.Room, node int) bool {
	lost := map[int32]int{}
	var jobs []string
	for _, at := range c.on[node] {
		job := c.tasks[at].job.Name
		if c.loose[job] {
			return false
		}
		if !slices.Contains(jobs, job) {
			jobs = append(jobs, job)
		}
		lost[at]++
	}
	var wants []scheduler.Want
	for _, job := range jobs {
		for _, at := range c.byJob[job] {
			m := &c.tasks[at]
			vacant := max(0, m.task.Count-m.live-m.done)
			if n := lost[at]; n+vacant > 0 {
				wants = append(wants, scheduler.Want{Job: m.job, Task: m.task, Count: n, Others: vacant})
			}
		}
	}
	return room.Suffices(wants, node)
}

// tightest finds the node without which the others would be the fullest.
func tightest(d *draft, c *census) *api.Tightest {
	var held api.Resources
	for i, n := range d.nodes {
		if n.Ready() {
			held = held.Add(d.held[i])
		}
	}
	var out *api.Tightest
	for i, n := range d.nodes {
		if len(c.on[i]) == 0 {
			continue
		}
		rest := api.Fill{Held: held, Total: c.capacity}
		if n.Ready() {
			rest.Total = rest.Total.Sub(n.Resources)
		} else {
			rest.Held = rest.Held.Add(d.held[i])
		}
		if percent, resource := rest.Fullest(); out == nil || percent > out.Percent {
			out = &api.Tightest{ID: n.ID, Name: n.Name, Percent: percent, Resource: resource}
		}
	}
	return out
}
