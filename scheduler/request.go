package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cube/api"
	"cube/scheduler/matching"
)

// request is one task's wish for nodes.
type request struct {
	view  *view
	job   *api.Job
	task  *api.Task
	seed  uint64 // of the order among nodes that are equally good
	shape []byte // what is asked for by fixed filters and of devices

	// A node is asked in this order: the fixed filters, which do not change within a batch and are kept as bitmaps; the
	// others; resources; dynamic ports, which are looked at only on a node that is chosen.
	fixed  []filter
	others []filter
	open   bitmap // nodes that pass every fixed filter
	stays  bitmap // nodes that pass those of them that hold for an instance which is there already

	dynamic  int             // dynamic ports asked for
	distinct bool            // no two instances on one node
	hosts    []bool          // nodes that keep an instance; only if distinct
	same     map[uint64]bool // older versions: whether their instances are what the task asks for
	before   *request        // for the task as it was in the version before; only while the roll-out is held back
	devices  []deviceAsk     // one for each of the task's device requests
	chosen   []int           // scratch: places of devices

	turns []int32 // rounds each node has had; only for roundrobin
}

// filter is one condition that a node must meet to be given an instance, and what to say of a node that does not.
type filter struct {
	name   string // "datacenter", "constraint attr.class = edge", "port 80"
	wanted string
	given  func(node int) bool // whether the question makes sense for the node: another filter speaks if not; nil: always
	passes func(node int) bool
	seen   func(node int) string            // what the node has instead
	amount func(node int) (ask, free int64) // how near the node is to passing; nil: it either does or does not
}

func newRequest(v *view, job *api.Job, t *api.Task) *request {
	r := &request{view: v, job: job, task: t, seed: hashString(job.Name), stays: newBitmap(len(v.nodes))}
	for i := range r.stays {
		r.stays[i] = ^uint64(0)
	}
	for i := len(v.nodes); i < 64*len(r.stays); i++ {
		r.stays[i>>6] &^= 1 << (i & 63)
	}
	r.open = slices.Clone(r.stays)

	r.askReady()
	r.askDatacenter()
	r.askDriver()
	for _, c := range t.Constraints {
		if c.Operator == api.OpDistinctHosts {
			r.distinct = true
		} else {
			r.askConstraint(c)
		}
	}
	if r.distinct {
		r.hosts = make([]bool, len(v.nodes))
		r.askDistinctHosts()
	}
	for _, p := range t.Ports {
		if p.Static == 0 {
			r.dynamic++
		} else {
			r.askPort(p.Static)
		}
	}
	for i := range t.Devices {
		r.askDevice(&t.Devices[i])
	}
	for i := range t.Volumes {
		r.askVolume(t.Volumes[i])
	}
	return r
}

// fix adds a filter that does not change within a batch. key names its condition among all jobs.
func (r *request) fix(key, name, wanted string, test func(*api.Node) bool, seen func(*api.Node) string) bitmap {
	return r.fixSet(key, name, wanted, r.view.set(key, test), seen)
}

func (r *request) fixSet(key, name, wanted string, set bitmap, seen func(*api.Node) string) bitmap {
	r.open.intersect(set)
	r.shape = append(append(r.shape, key...), '\n')
	r.fixed = append(r.fixed, filter{name: name, wanted: wanted, passes: set.has,
		seen: func(node int) string { return seen(r.view.nodes[node]) }})
	return set
}

const filterReady = "ready"

func (r *request) askReady() {
	r.fix("ready", filterReady, "ready", (*api.Node).Ready, func(n *api.Node) string {
		switch {
		case n.Status == api.NodeReady && n.Drain.Active():
			return "being drained"
		case n.Status == api.NodeReady:
			return "not eligible"
		}
		return string(n.Status)
	})
}

func (r *request) askDatacenter() {
	if len(r.job.Datacenters) == 0 {
		return
	}
	wanted := strings.Join(r.job.Datacenters, ", ")
	datacenters := r.job.Datacenters // not the job itself: the test outlives the batch
	r.stays.intersect(r.fix(fmt.Sprintf("datacenter %q", datacenters), "datacenter", wanted,
		func(n *api.Node) bool { return slices.Contains(datacenters, n.Datacenter) },
		func(n *api.Node) string { return n.Datacenter }))
}

func (r *request) askDriver() {
	name := r.task.Driver
	r.fix("driver "+strconv.Quote(name), "driver "+name, "detected and healthy",
		func(n *api.Node) bool { return n.Drivers[name].Detected && n.Drivers[name].Healthy },
		func(n *api.Node) string {
			switch d := n.Drivers[name]; {
			case d.Reason != "":
				return d.Reason
			case !d.Detected:
				return "not found on the node"
			}
			return "not healthy"
		})
}

// askConstraint adds a constraint. One that does not compile lets no node pass, and says so.
func (r *request) askConstraint(c api.Constraint) {
	name, wanted := c.Attribute+" "+c.Operator, c.Operator
	if c.Value != "" {
		name, wanted = name+" "+c.Value, wanted+" "+c.Value
	}
	set, broken := r.view.setWhere(c.Attribute, c.Operator, c.Value)
	seen := func(n *api.Node) string {
		if broken != nil {
			return "the constraint is wrong: " + broken.Error()
		}
		if value, ok := n.Attribute(c.Attribute); ok {
			return value
		}
		return "not set"
	}
	r.stays.intersect(r.fixSet(conditionKey(c.Attribute, c.Operator, c.Value), "constraint "+name, wanted, set, seen))
}

func attributeTest(attribute string, match matching.Matcher) func(*api.Node) bool {
	return func(n *api.Node) bool { return match(n.Attribute(attribute)) }
}

// conditionKey names a condition on an attribute; no two conditions share a key, whatever their texts hold.
func conditionKey(attribute, operator, operand string) string {
	key := make([]byte, 0, len(attribute)+len(operator)+len(operand)+8)
	key = append(append(append(strconv.AppendQuote(key, attribute), ' '), operator...), ' ')
	return string(strconv.AppendQuote(key, operand))
}

func (r *request) askDistinctHosts() {
	r.others = append(r.others, filter{
		name:   "constraint " + api.OpDistinctHosts,
		wanted: "no instance of " + r.task.Name,
		passes: func(node int) bool { return r.view.counts.live[node] == 0 },
		seen:   func(int) string { return "has one" },
	})
}

func (r *request) askPort(port int) {
	r.others = append(r.others, filter{
		name:   fmt.Sprintf("port %d", port),
		wanted: "free",
		passes: func(node int) bool { return r.view.portFree(node, port) },
		seen: func(node int) string {
			if r.view.state.Quarantined(node, port) {
				return "taken by something outside Cube"
			}
			return cmp.Or(r.view.taken[nodePort{node, port}], portGiven)
		},
	})
}

// askVolume adds that a node has the volume, and that those who hold it leave room for one more.
func (r *request) askVolume(wanted api.VolumeRequest) {
	r.fix(fmt.Sprintf("volume %s %s", wanted.Source, wanted.Access), "volume "+wanted.Source, "there",
		func(n *api.Node) bool { return n.LacksVolume(&wanted) == "" },
		func(n *api.Node) string { return n.LacksVolume(&wanted) })
	r.others = append(r.others, filter{
		name:   "volume " + wanted.Source + " free",
		wanted: "free for a " + wanted.Access,
		given:  func(node int) bool { return r.view.nodes[node].LacksVolume(&wanted) == "" },
		passes: func(node int) bool { return r.view.volumes(node)[wanted.Source].Admits(wanted.Access) },
		seen:   func(node int) string { return "held by " + r.view.volumes(node)[wanted.Source].String() },
	})
}

// fits reports whether a node that passes the fixed filters can take one more instance, dynamic ports apart.
func (r *request) fits(node int) bool {
	if !r.task.Holds().Fits(r.view.free[node]) {
		return false
	}
	for i := range r.others {
		if !r.others[i].passes(node) {
			return false
		}
	}
	return true
}

// succeeds reports whether an instance would have a node if the one whose place it takes had ended: that one's, or, unless each has its
// own, any that can take it as things are. What else but room is held by what ends is not looked at.
func (r *request) succeeds(old *api.AllocationRow) bool {
	own := old.NodeOrdinal
	if own >= 0 && r.open.has(own) && r.task.Holds().Fits(r.view.free[own].Add(old.Held)) {
		return true
	}
	for node := 0; node < len(r.view.nodes) && !r.job.Type.EveryNode(); node++ {
		if r.open.has(node) && r.fits(node) {
			return true
		}
	}
	return false
}

// keeps reports whether an instance that is on the node may stay there.
func (r *request) keeps(node int) bool {
	return node >= 0 && r.stays.has(node) && !(r.distinct && r.hosts[node])
}

// kept notes that an instance stays on the node.
func (r *request) kept(node int) {
	if r.distinct && node >= 0 {
		r.hosts[node] = true
	}
}

// count fills the view's counts with what the task and its job have on each node: by the job's rows, and by what this
// plan has placed.
func (r *request) count(rows []api.AllocationRow, placed []api.Placement) {
	c := &r.view.counts
	c.clear()
	for i := range rows {
		row := &rows[i]
		if row.Away && !r.job.Type.EveryNode() {
			continue // who knows: what spreads and keeps apart looks at those that are heard of
		}
		if !row.Live() || row.NodeOrdinal < 0 || row.Task != r.task.Name && row.Desired != api.DesiredRun {
			continue
		}
		c.note(row.NodeOrdinal)
		if row.Task == r.task.Name {
			c.live[row.NodeOrdinal]++
		}
		if row.Desired == api.DesiredRun {
			c.job[row.NodeOrdinal]++
			if row.Task == r.task.Name {
				c.task[row.NodeOrdinal]++
			}
		}
	}
	for i := range placed {
		node := r.view.ordinal(placed[i].Node)
		c.note(node)
		c.job[node]++
		if placed[i].Task == r.task.Name {
			c.task[node]++
			c.live[node]++
		}
	}
}

// give gives an instance to a node.
func (r *request) give(node int, g grant) {
	v := r.view
	v.give(node, r.task.Holds(), g)
	v.hold(node, r.task.Volumes)
	v.counts.note(node)
	v.counts.task[node]++
	v.counts.job[node]++
	v.counts.live[node]++
	if r.turns != nil {
		r.turns[node]++
		v.lastRotated = node
	}
}
