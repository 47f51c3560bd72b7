package fsm

import (
	"fmt"
	"slices"

	"github.com/tidwall/btree"

	"cube/api"
)

// Check walks a snapshot and returns every invariant that it breaks; none for a sound state. It costs a visit to each
// row: it is for tests, for a restored snapshot and for an operator in doubt.
func Check(s *Snapshot) []error {
	c := &checker{s: s, nodes: map[uint32]*nodeSum{}}
	c.allocations()
	c.slots()
	c.nodeRows()
	c.ports()
	c.devices()
	c.volumes()
	c.jobRows()
	c.evaluations()
	c.requests()
	c.deployments()
	c.timelines()
	return c.errs
}

type checker struct {
	s     *Snapshot
	errs  []error
	nodes map[uint32]*nodeSum // looked up, never ranged over
}

// nodeSum is what the allocations say of a node.
type nodeSum struct {
	held          api.Resources
	live, running int32
	ports         int
	devices       map[uint32]int // thousandths, by the device's handle; looked up, never ranged over
}

func (c *checker) that(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// minted reports whether an ID is one that the state has given out.
func (c *checker) minted(id api.ID) bool {
	return id != 0 && id <= api.MakeID(c.s.epoch, c.s.counter)
}

func (c *checker) allocations() {
	t := &c.s.allocations
	c.that(t.bySlot.Len() == t.rows.Len(), "the slot index has %d entries for %d allocations", t.bySlot.Len(), t.rows.Len())
	c.that(t.byNode.Len() == t.rows.Len(), "the node index has %d entries for %d allocations", t.byNode.Len(), t.rows.Len())
	t.rows.Scan(func(a allocation) bool {
		c.allocation(&a)
		return true
	})
	t.trials.Scan(func(row trial) bool {
		_, ok := t.get(row.id)
		c.that(ok && row.Trial != (api.Trial{}), "there is a past of allocation %d, which does not exist or has none", row.id)
		return true
	})
	t.remarks.Scan(func(r remark) bool {
		_, ok := t.get(r.id)
		c.that(ok, "there is text for allocation %d, which does not exist", r.id)
		return true
	})
}

func (c *checker) allocation(a *allocation) {
	c.that(c.minted(a.id), "allocation %d was never given out: the counter is at %d.%d", a.id, c.s.epoch, c.s.counter)
	c.that(a.create <= a.modify && a.modify <= c.s.index, "allocation %d has indexes %d and %d in a state at %d",
		a.id, a.create, a.modify, c.s.index)
	c.that(api.HealthOf(a.phase, a.health) == a.health, "allocation %d is %v and %v", a.id, a.phase, a.health)
	_, inSlot := c.s.allocations.bySlot.Get(a.slotKey())
	_, onNode := c.s.allocations.byNode.Get(a.nodeKey())
	c.that(inSlot, "allocation %d is not in the slot index", a.id)
	c.that(onNode, "allocation %d is not in the node index", a.id)
	j := c.s.jobs.get(c.s.names[a.job])
	c.that(j.current() != nil, "allocation %d is of job %q, which does not exist", a.id, c.s.names[a.job])
	if a.live() {
		v := j.version(uint64(a.version))
		c.that(v != nil && v.task(a.task) >= 0, "allocation %d lives in version %d of job %q, which is not kept",
			a.id, a.version, c.s.names[a.job])
	}
	n, ok := c.s.nodes.get(c.s.names[a.node])
	c.that(ok && n.handle == a.node, "allocation %d is on node %q, which does not exist", a.id, c.s.names[a.node])
	c.that(!ok || n.node.Status != api.NodeDown || !a.live() || n.node.Away() && a.desired == api.DesiredRun, "allocation %d lives on node %s, which is down", a.id, n.id)
	c.that(n.touched >= a.modify, "node %s was last touched at %d, its allocation %d at %d", n.id, n.touched, a.id, a.modify)
	sum := c.nodes[a.node]
	if sum == nil {
		sum = &nodeSum{devices: map[uint32]int{}}
		c.nodes[a.node] = sum
	}
	if !a.live() {
		return
	}
	sum.held = sum.held.Add(a.held)
	sum.live++
	if a.phase == api.PhaseRunning {
		sum.running++
	}
	for _, d := range c.s.claimsOf(a.id) {
		sum.devices[d.device] += int(d.share)
	}
	for _, b := range c.s.ports.of(a.id) {
		sum.ports++
		held, ok := c.s.ports.held.Get(heldPort{node: a.node, port: b.host})
		c.that(ok && held.owner == a.id, "port %d of allocation %d is not held for it", b.host, a.id)
	}
}

// slots checks that a slot has one live holder, and at most one live successor that names it.
func (c *checker) slots() {
	var slot slotKey
	var holder allocation
	ended, surplus, third := 0, 0, false
	node := uint32(0)             // of a slot that is one
	nodes := map[slotKey]uint32{} // slots by job, task and, in slot's place, node
	leave := func() {
		if ended > keptEnded {
			surplus++
			_, ok := c.s.allocations.surplus.Get(slot)
			c.that(ok, "slot %d of %s/%s has %d ended allocations and is not marked", slot.slot, c.s.names[slot.job], c.s.names[slot.task], ended)
		}
	}
	c.s.allocations.bySlot.Scan(func(k slotKey) bool {
		if k.job != slot.job || k.task != slot.task || k.slot != slot.slot {
			leave()
			slot, holder, ended, third, node = slotKey{job: k.job, task: k.task, slot: k.slot}, allocation{}, 0, false, 0
		}
		a, ok := c.s.allocations.get(k.id)
		c.that(ok, "the slot index names allocation %d, which does not exist", k.id)
		if c.s.jobs.get(c.s.names[k.job]).everyNode() && node == 0 {
			node = a.node
			place := slotKey{job: k.job, task: k.task, slot: node}
			other, twice := nodes[place]
			c.that(!twice, "slots %d and %d of %s/%s are both node %s", other, k.slot, c.s.names[k.job], c.s.names[k.task], c.s.names[node])
			nodes[place] = k.slot
		}
		c.that(node == 0 || a.node == node, "slot %d of %s/%s is both node %s and node %s", k.slot, c.s.names[k.job], c.s.names[k.task], c.s.names[node], c.s.names[a.node])
		switch {
		case !a.live():
			ended++
		case holder.id == 0:
			holder = a
		default:
			c.that(a.replaces == holder.id,
				"slot %d of %s/%s is held by allocations %d and %d", k.slot, c.s.names[k.job], c.s.names[k.task], holder.id, a.id)
			c.that(!third, "slot %d of %s/%s has three live allocations", k.slot, c.s.names[k.job], c.s.names[k.task])
			third = true
		}
		return true
	})
	leave()
	c.that(c.s.allocations.surplus.Len() == surplus, "%d slots are marked for reaping, %d should be", c.s.allocations.surplus.Len(), surplus)
}

func (c *checker) nodeRows() {
	c.s.nodes.rows.Scan(func(n nodeRow) bool {
		sum := c.nodes[n.handle]
		if sum == nil {
			sum = &nodeSum{}
		}
		_, away := slices.BinarySearch(c.s.nodes.away, n.handle)
		c.that(away == n.node.Away(), "node %s is away: %v, and listed so: %v", n.id, n.node.Away(), away)
		c.that(n.id == n.node.ID && c.s.names[n.handle] == n.id, "node %s has the handle of %q", n.id, c.s.names[n.handle])
		c.that(n.held == sum.held, "node %s holds %v by its counter and %v by its allocations", n.id, n.held, sum.held)
		c.that(n.live == sum.live && n.running == sum.running, "node %s counts %d live and %d running, its allocations are %d and %d",
			n.id, n.live, n.running, sum.live, sum.running)
		c.that(over(&n).Fits(n.excess), "node %s holds %v and has %v: it is over by more than when it shrank (%v)",
			n.id, n.held, n.node.Resources, n.excess)
		return true
	})
}

// ports checks that what is held is held by somebody alive; that each live allocation holds its own was checked with it.
func (c *checker) ports() {
	byNode := map[uint32]int{}
	c.s.ports.held.Scan(func(p heldPort) bool {
		a, ok := c.s.allocations.get(p.owner)
		c.that(ok && a.live() && a.node == p.node, "port %d of node %s is held for allocation %d, which does not live there",
			p.port, c.s.names[p.node], p.owner)
		byNode[p.node]++
		return true
	})
	c.s.nodes.rows.Scan(func(n nodeRow) bool {
		want := 0
		if sum := c.nodes[n.handle]; sum != nil {
			want = sum.ports
		}
		c.that(byNode[n.handle] == want, "node %s holds %d ports, its allocations have %d", n.id, byNode[n.handle], want)
		return true
	})
	last := api.ID(0)
	c.s.ports.bindings.Scan(func(b binding) bool {
		_, ok := c.s.allocations.get(b.owner)
		c.that(ok || b.owner == last, "there are ports for allocation %d, which does not exist", b.owner)
		last = b.owner
		return true
	})
	c.that(c.s.ports.quarantine.Len() == c.s.ports.expiry.Len(), "%d ports are in quarantine, %d expire",
		c.s.ports.quarantine.Len(), c.s.ports.expiry.Len())
	c.s.ports.quarantine.Scan(func(q quarantine) bool {
		_, ok := c.s.ports.expiry.Get(q)
		c.that(ok && q.until > c.s.now, "the quarantine of port %d on %s has expired, or never will", q.port, c.s.names[q.node])
		return true
	})
}

func (c *checker) jobRows() {
	c.s.jobs.rows.Scan(func(j *job) bool {
		t := c.s.tally(j.handle)
		fresh := c.s.countOf(j)
		c.that(t.counts == fresh.counts && t.healthy == fresh.healthy && t.occupied == fresh.occupied && t.live == fresh.live && t.wanted == fresh.wanted,
			"job %q counts %v, %d, %d, %d, %d; its allocations are %v, %d, %d, %d, %d", j.name, t.counts, t.healthy, t.occupied, t.live, t.wanted,
			fresh.counts, fresh.healthy, fresh.occupied, fresh.live, fresh.wanted)
		c.that(t.current == fresh.current && t.well == fresh.well, "job %q counts %d instances of the version in force, %d healthy; there are %d and %d",
			j.name, t.current, t.well, fresh.current, fresh.well)
		for i, v := range j.versions {
			c.that(v.job.Name == j.name && v.job.Version < j.next, "job %q has version %d of job %q", j.name, v.job.Version, v.job.Name)
			c.that(i == 0 || v.job.Version < j.versions[i-1].job.Version, "the versions of job %q are out of order", j.name)
		}
		return true
	})
	c.s.jobs.completed.Scan(func(row completedSlots) bool {
		j := c.s.jobs.get(c.s.names[row.job])
		known := false
		for i := range j.versions {
			if k := j.versions[i].task(row.task); k >= 0 && j.versions[i].lines[k] == row.line {
				known = true
			}
		}
		c.that(known, "completed slots of job %q belong to no version", j.name)
		return true
	})
}

// recount counts a job's current instances anew: a change of the counts asked for moves what counts.
func (s *state) recount(j *job) {
	row := s.tally(j.handle)
	fresh := s.countOf(j)
	row.counts, row.healthy, row.occupied = fresh.counts, fresh.healthy, fresh.occupied
	row.current, row.well = fresh.current, fresh.well
	s.jobs.tallies.Set(row)
}

// countOf counts a job's allocations from the rows.
func (t *tables) countOf(j *job) tally {
	var sum tally
	var newest allocation
	flush := func() {
		if newest.id != 0 {
			sum.tallySlot(j, t.allocations.speaker(newest), 1)
		}
	}
	t.eachOfJob(j.handle, func(a allocation) bool {
		if a.task != newest.task || a.slot != newest.slot {
			flush()
		}
		newest = a
		sum.tallyLive(j, a, 1)
		return true
	})
	flush()
	return sum
}

func (c *checker) evaluations() {
	t := &c.s.evaluations
	kept, open := map[string]int32{}, map[string]api.ID{}
	pending, blocked, stirred, owed, alarms := 0, 0, 0, 0, 0
	t.rows.Scan(func(r evaluationRow) bool {
		e := r.e
		j := c.s.jobs.get(e.Job)
		c.that(c.minted(e.ID), "evaluation %d was never given out", e.ID)
		c.that(j.current() != nil, "evaluation %d is of job %q, which does not exist", e.ID, e.Job)
		if j == nil {
			return true
		}
		kept[e.Job]++
		_, indexed := t.byJob.Get(evaluationKey{j.handle, e.ID})
		c.that(indexed, "evaluation %d is not in the job index", e.ID)
		if e.Status.Open() {
			c.that(open[e.Job] == 0, "job %q has two open evaluations, %d and %d", e.Job, open[e.Job], e.ID)
			open[e.Job] = e.ID
		}
		switch e.Status {
		case api.EvalPending:
			pending++
			c.that(inLane(t.pending, lane{rank(e), 0, e.ID}), "evaluation %d is pending and not in its lane", e.ID)
		case api.EvalBlocked:
			blocked++
			c.that(inLane(t.blocked, lane{rank(e), e.SeenIndex, e.ID}), "evaluation %d is blocked and not in its lane", e.ID)
		case api.EvalWaiting:
			c.that(!e.WakeAt.IsZero(), "evaluation %d waits for no time", e.ID)
		}
		if e.Status == api.EvalBlocked || e.Status == api.EvalWaiting {
			moved := e.SeenIndex < c.s.tally(j.handle).progress
			if moved {
				stirred++
			}
			if e.Kept() > 0 {
				owed++
				c.that(inLane(t.owed, lane{rank(e), 0, e.ID}), "evaluation %d has room promised and is not in its lane", e.ID)
			}
			c.that(inLane(t.stirred, lane{rank(e), 0, e.ID}) == moved, "evaluation %d waits for its job, which has moved on, or the reverse", e.ID)
		}
		if a := alarmOf(e); a.id != 0 {
			alarms++
			_, set := t.alarms.Get(a)
			c.that(set, "evaluation %d has a time and no alarm", e.ID)
		}
		return true
	})
	c.that(t.byJob.Len() == t.rows.Len(), "the job index has %d entries for %d evaluations", t.byJob.Len(), t.rows.Len())
	c.that(t.alarms.Len() == alarms, "there are %d alarms for %d evaluations that have a time", t.alarms.Len(), alarms)
	c.that(t.pending.Len() == pending && t.blocked.Len() == blocked && t.stirred.Len() == stirred && t.owed.Len() == owed,
		"the lanes hold %d, %d, %d and %d evaluations, not %d, %d, %d and %d",
		t.pending.Len(), t.blocked.Len(), t.stirred.Len(), t.owed.Len(), pending, blocked, stirred, owed)
	c.s.jobs.rows.Scan(func(j *job) bool {
		sum := c.s.tally(j.handle)
		c.that(sum.kept == kept[j.name] && sum.open == open[j.name], "job %q counts %d evaluations with %d open; they are %d with %d",
			j.name, sum.kept, sum.open, kept[j.name], open[j.name])
		_, crowded := t.crowded.Get(j.handle)
		c.that(crowded == (sum.kept > keptEvaluations), "job %q has %d evaluations; marked for reaping: %v", j.name, sum.kept, crowded)
		return true
	})
}

// deployments checks that a deployment that is under way is its job's newest one, and that of the version in force.
func (c *checker) deployments() {
	of := map[string]int{}
	c.s.deployments.Each(func(d *api.Deployment) bool {
		of[d.Job]++
		j := c.s.Job(d.Job)
		c.that(c.minted(d.ID) && j != nil, "deployment %d was never given out, or its job %q does not exist", d.ID, d.Job)
		c.that(!d.Status.Active() || c.s.Deployment(d.Job) == d && !j.Stopped, "deployment %d of job %q is %s, and its version %d is not in force",
			d.ID, d.Job, d.Status, d.Version)
		c.that(d.Status != api.DeploymentSuccessful || c.s.JobVersion(d.Job, d.Version) == nil || c.s.JobVersion(d.Job, d.Version).Stable,
			"deployment %d of job %q is successful, and version %d not stable", d.ID, d.Job, d.Version)
		c.that(of[d.Job] <= api.KeptDeployments, "job %q has %d deployments", d.Job, of[d.Job])
		return true
	})
}

func inLane(t *btree.BTreeG[lane], l lane) bool {
	_, ok := t.Get(l)
	return ok
}

func (c *checker) requests() {
	ids := map[string]bool{}
	c.s.requests.rows.Scan(func(q *request) bool {
		c.that(!ids[q.id], "request %q is remembered twice", q.id)
		ids[q.id] = true
		return true
	})
	c.that(len(ids) <= rememberedRequests, "%d requests are remembered", len(ids))
}

func (c *checker) timelines() {
	rows := map[string]int{}
	c.s.timeline.Scan(func(number uint64, m *api.Moment) bool {
		c.that(c.s.jobs.get(m.Job).current() != nil, "moment %d is of job %q, which does not exist", number, m.Job)
		c.that(m.Type.Kept() && m.Count > 0 && m.Since <= m.At && m.At <= c.s.now && m.Index <= c.s.index,
			"moment %d of job %q is %v, %d times from %d to %d", number, m.Job, m.Type, m.Count, m.Since, m.At)
		rows[m.Job]++
		return true
	})
	c.s.jobs.rows.Scan(func(j *job) bool {
		c.that(rows[j.name] <= api.KeptMoments, "job %q has %d moments", j.name, rows[j.name])
		return true
	})
}
