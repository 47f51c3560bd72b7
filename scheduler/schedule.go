// Package scheduler decides what should run where. Schedule is a pure function from a view of the state and a batch of
// evaluations to a plan: equal arguments give equal plans, on every machine. It reads no clock, draws no numbers, does no
// I/O and keeps nothing between calls but what a Memory may keep, which saves work and changes no plan.
//
// The way of an evaluation through the package:
//
//	reconcile   compares a job with its allocations, slot by slot: what to stop, keep, change in place, place
//	request     one task's wish for nodes: filters, each able to explain itself, over a columnar view of the nodes
//	score       how much an algorithm likes a node; affinities and spreads are added for every algorithm
//	ratings     what all requests of one shape think of the nodes, from which the first instances are placed
//	ranking     the feasible nodes as a heap: the best one is taken, and only what that changed is mended
//	preempt     which less important instances give way where there is no room, if that is wanted
//	explain     why what is left over could not be placed
//
// DESIGN.md argues for the choices, and against them.
package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"strings"

	"cube/api"
	"cube/scheduler/preempt"
)

// State is the world a plan is made from: an immutable view that answers without error. *fsm.Snapshot satisfies it, and
// World does for tests and simulations.
type State interface {
	// Index is the view's place in the log; it becomes the plan's BaseIndex.
	Index() uint64
	// Job returns the version in force, nil if there is no such job.
	Job(name string) *api.Job
	// JobVersion returns a kept version, nil if it is gone.
	JobVersion(name string, version uint64) *api.Job
	// Nodes yields every node with what is held on it, in the order of node IDs. The position is the node's ordinal. A node
	// that was yielded is never changed: when something about it does, another *api.Node takes its place.
	Nodes() iter.Seq2[*api.Node, api.Resources]
	// DevicesHeld yields the ordinal of every node that has devices, with what is held of each, in thousandths and in the
	// order of the node's groups and their IDs. The slice is good until the next one.
	DevicesHeld() iter.Seq2[int, []int16]
	// VolumesHeld returns what stands on each volume of the node with that ordinal, by their names. It is asked only for tasks
	// that want volumes.
	VolumesHeld(node int) map[string]api.VolumeHold
	// JobRows yields the job's allocations that matter to a plan: all that are not terminal, and the newest one of each
	// slot whatever its phase; by task, slot, ID.
	JobRows(job string) iter.Seq[api.AllocationRow]
	// Past tells of an instance that ended.
	Past(id api.ID) api.Past
	// StartedAt is when the present or last run of an instance began, Unix milliseconds by its node's clock; 0: it has not. It is
	// asked of few.
	StartedAt(id api.ID) int64
	// Completed reports whether a batch slot has completed in this version of the job: it is never run again.
	Completed(job, task string, version uint64, slot uint32) bool
	// Deployment returns the deployment of the version in force, nil if it has none.
	Deployment(job string) *api.Deployment
	// PortHeld reports whether a host port is held on a node, by ordinal.
	PortHeld(node int, port int) bool
	// NodeRows yields a node's allocations that changed after an index: all of them after 0. Of some it is asked only where
	// one job may have others give way.
	NodeRows(node string, since uint64) iter.Seq[api.AllocationRow]
	// Rebalancing returns the rebalance that is under way, nil if none is.
	Rebalancing() *api.Rebalance
	// Promised yields the blocked evaluations to which room is promised, by priority, the highest first.
	Promised() iter.Seq[*api.Evaluation]
	// Quarantined reports whether a host port was found taken by something outside Cube not long ago.
	Quarantined(node int, port int) bool
}

// Options are what a plan depends on besides the state.
type Options struct {
	// Algorithm is used by jobs that name none; "" is binpack.
	Algorithm string
	// Load tells what a node measures of itself, false if nothing is known. It ranks nodes and never decides whether one
	// can take an instance. It must answer the same throughout a call. nil: nothing is known of any node.
	Load func(nodeID string) (api.NodeLoad, bool)
	// Now is the time in Unix nanoseconds: an instance that failed is placed again when it has come. 0: it never has.
	Now int64
	// MaxPlacements bounds the changes of one plan (placements, stops and in-place changes together), so that it fits a
	// log entry; 0: no bound. Evaluations that are not reached are left out of the plan; the one that is cut short keeps
	// the status pending.
	MaxPlacements int
	// Preempt lists the types of jobs for which instances of less important jobs give way when there is no room.
	Preempt []api.JobType
	// Memory makes the plan cheaper and changes nothing about it. nil: everything is worked out anew.
	Memory *Memory
}

// Schedule answers a batch of evaluations with a plan: by priority, highest first, then by age. Equal arguments give
// equal plans. Earlier answers take room from later ones. Of several evaluations of one job only the first is answered,
// since a second answer could not see what the first changes; the others are left out of the plan and stay as they are.
//
// An evaluation on which the scheduler panics is answered with the status failed and the reason; the others are not
// affected. Nothing that s returns is changed.
func Schedule(s State, evaluations []*api.Evaluation, o Options) *api.Plan {
	b := &batch{state: s, options: o, plan: &api.Plan{BaseIndex: s.Index()}, left: o.MaxPlacements}
	if b.left <= 0 {
		b.left = math.MaxInt
	}
	ordered := slices.Clone(evaluations)
	slices.SortFunc(ordered, func(x, y *api.Evaluation) int {
		return cmp.Or(cmp.Compare(y.Priority, x.Priority), cmp.Compare(x.ID, y.ID))
	})
	b.owed = owed(s, ordered)
	seen := make(map[string]bool, len(ordered))
	for _, e := range ordered {
		if b.left == 0 {
			break
		}
		if !seen[e.Job] {
			seen[e.Job] = true
			b.plan.Jobs = append(b.plan.Jobs, b.attempt(e))
		}
	}
	o.Memory.keep(b.view)
	return b.plan
}

// batch is one call of Schedule.
type batch struct {
	state   State
	options Options
	plan    *api.Plan
	view    *view                 // nil until needed, and after a panic
	rooms   *preempt.Rooms        // nil until needed
	owed    []*api.Evaluation     // others with promises, the most important first
	kept    int                   // of these, whose promises the view knows
	owing   map[int]api.Resources // promised by them, by node, and not there yet
	left    int                   // changes that still fit the plan
}

// attempt answers one evaluation. A panic costs the evaluation, not the batch: the view it may have left half changed is
// dropped, and made again from the state and the plan so far.
func (b *batch) attempt(e *api.Evaluation) (answer api.JobPlan) {
	left := b.left
	defer func() {
		if r := recover(); r != nil {
			b.view, b.left = nil, left
			answer = api.JobPlan{Evaluation: e.ID, Job: e.Job, Status: api.EvalFailed, Message: panicMessage(r)}
		}
	}()
	if b.view == nil {
		b.view = b.options.Memory.take(b.state, b.options)
		for i := range b.plan.Jobs {
			for _, p := range b.plan.Jobs[i].Placements {
				b.view.give(b.view.ordinal(p.Node), p.Held, grant{p.Ports, p.Devices})
			}
			b.keep(b.plan.Jobs[i].Job, b.plan.Jobs[i].Promises)
		}
		b.kept = 0
	}
	for ; b.kept < len(b.owed) && b.owed[b.kept].Priority >= e.Priority; b.kept++ {
		b.keep(b.owed[b.kept].Job, b.owed[b.kept].Promises)
	}
	return b.answer(e)
}

func (b *batch) answer(e *api.Evaluation) api.JobPlan {
	job := b.state.Job(e.Job)
	answer := api.JobPlan{Evaluation: e.ID, Job: e.Job, Status: api.EvalComplete}
	if job != nil {
		answer.JobModifyIndex = job.ModifyIndex
	}
	c := &change{batch: b, job: job, asked: e.Stop, answer: &answer}
	if e.Cause == api.CauseAllocStop {
		c.by = e.By
	}
	for row := range b.state.JobRows(e.Job) {
		c.rows = append(c.rows, row)
	}
	if job == nil || job.Stopped || job.Launches() {
		c.stopAll()
	} else {
		c.stopUnwanted()
		for _, t := range job.Tasks {
			c.task(t)
		}
	}
	if c.answer.WakeAt != 0 && c.answer.Status == api.EvalComplete {
		c.answer.Status = api.EvalWaiting
	}
	if c.cut {
		c.answer.Status = api.EvalPending
		c.messages = append(c.messages, "continued in the next plan")
	}
	answer.Message = clip(strings.Join(c.messages, "; "), maxMessage)
	return answer
}

// owed are the evaluations with promises that this batch does not answer: those it does get new ones.
func owed(s State, batch []*api.Evaluation) (out []*api.Evaluation) {
	for e := range s.Promised() {
		if !slices.ContainsFunc(batch, func(o *api.Evaluation) bool { return o.Job == e.Job }) {
			out = append(out, e)
		}
	}
	return out
}

// keep keeps what a job was promised from those that are answered from here on: they are less important.
func (b *batch) keep(name string, promises []api.Promise) {
	job := b.view.state.Job(name)
	for _, p := range promises {
		node := b.view.ordinal(p.Node)
		if node == len(b.view.nodes) || b.view.nodes[node].ID != p.Node {
			continue
		}
		owing := b.view.reserve(node, p.Room)
		set(&b.owing, node, b.owing[node].Add(owing))
		if b.rooms != nil {
			b.rooms.Take(node, owing)
		}
		for i := 0; job != nil && i < len(job.Tasks); i++ { // a promise names no task, and the size tells
			if job.Tasks[i].Holds() == p.Room {
				b.view.keep(node, job.Tasks[i])
			}
		}
	}
}

// preempt makes room for so many instances that no node can take as things are: it has less important ones give way, and
// says in e what it waits for. nodes are where the i-th of them may be. Only room can be made: a node that
// lacks something else is left out, and so are tasks that ask for devices.
func (c *change) preempt(r *request, vacant int, nodes func(i int) iter.Seq[int], e *api.Explanation) {
	if !c.mayPreempt(r) {
		return
	}
	if c.rooms == nil {
		c.rooms = preempt.NewRooms(c.inhabitants)
	}
	promised, gone := 0, []string(nil)
	for i := range vacant {
		node, stops, ok := c.rooms.Promise(r.task.Holds(), c.job.Priority, r.lackingRoom(nodes(i)))
		if !ok {
			continue
		}
		promised++
		c.answer.Promises = append(c.answer.Promises, api.Promise{Node: c.view.nodes[node].ID, Room: r.task.Holds()})
		c.view.reserve(node, r.task.Holds()) // what is not there yet the rooms know of
		c.view.keep(node, r.task)
		c.view.counts.note(node)
		c.view.counts.live[node]++
		for _, i := range stops {
			if !c.take() {
				return
			}
			c.answer.Preemptions = append(c.answer.Preemptions, api.Preemption{Allocation: i.ID, Job: i.Job,
				Reason: fmt.Sprintf("gives way to %s, whose priority is %d and its own %d", c.job.Name, c.job.Priority, i.Priority)})
			gone = append(gone, i.Name+" on "+c.view.nodes[node].Name)
		}
	}
	if promised == 0 {
		return
	}
	note := fmt.Sprintf("room for %d will be there when what is stopping has stopped", promised)
	if len(gone) > 0 {
		note = fmt.Sprintf("to make room for %d, less important ones are stopped: %s", promised, api.FirstOf(gone, 5))
	}
	e.Note = strings.TrimPrefix(e.Note+"; "+note, "; ")
	c.messages = append(c.messages, note)
}

func (c *change) mayPreempt(r *request) bool {
	return slices.Contains(c.options.Preempt, c.job.Type) && len(r.task.Devices) == 0
}

// lackingRoom leaves out the nodes that lack something else.
func (r *request) lackingRoom(nodes iter.Seq[int]) iter.Seq[int] {
	return func(yield func(int) bool) {
		for node := range nodes {
			if r.open.has(node) && !slices.ContainsFunc(r.others, func(f filter) bool { return !f.passes(node) }) && !yield(node) {
				return
			}
		}
	}
}

// anywhere are all nodes, for each instance.
func (c *change) anywhere(int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for node := range c.view.nodes {
			if !yield(node) {
				return
			}
		}
	}
}

// inhabitants are what is alive on a node, with what is free there.
func (b *batch) inhabitants(node int) (free api.Resources, out []preempt.Instance) {
	v := b.view
	for row := range b.state.NodeRows(v.nodes[node].ID, 0) {
		job := b.state.Job(row.Job)
		if !row.Live() || job == nil {
			continue
		}
		out = append(out, preempt.Instance{ID: row.ID, Job: row.Job, Name: api.InstanceName(row.Job, row.Task, row.Slot),
			Priority: job.Priority, Held: row.Held, Stopping: row.Desired == api.DesiredStop})
	}
	return v.free[node].Sub(b.owing[node]), out
}

// maxMessage bounds JobPlan.Message in bytes: a line or two on a terminal.
const maxMessage = 512

// panicMessage is one line that says what happened and where: the innermost functions of this module.
func panicMessage(value any) string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var where []string
	for len(where) < 4 {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") && !strings.Contains(f.Function, ".attempt.") {
			where = append(where, fmt.Sprintf("%s %s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:],
				f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line))
		}
		if !more {
			break
		}
	}
	text := fmt.Sprintf("the scheduler panicked: %v (in %s)", value, strings.Join(where, ", from "))
	return clip(strings.ReplaceAll(text, "\n", " "), maxMessage)
}

// clip cuts s to at most limit bytes, between runes, and marks the cut.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "..."
	end := 0
	for i := range s {
		if i > limit-len(mark) {
			break
		}
		end = i
	}
	return s[:end] + mark
}
