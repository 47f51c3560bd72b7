// Package drain keeps the drains of nodes going while this server leads, and tells how they get on.
package drain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cube/agent/server/signal"
	"cube/api"
	"cube/fsm"
)

// lookEvery bounds how often changes of allocations have drains looked at: a node with a thousand instances that end at once
// is looked at ten times a second, not a thousand times.
const lookEvery = 100 * time.Millisecond

// Keeper is the leader's loop that takes drains from stage to stage: at their deadlines, and when what was to go has gone. The
// deadlines are in the nodes' rows, by the clock of entries, so a new leader's Keeper goes on where the last one ended.
type Keeper struct {
	Machine *fsm.Machine
	Now     func() int64            // Unix nanoseconds: the clock of entries, which does not go back while a server leads
	Settle  func(node string) error // has the state take the next step of a node's drain
}

// Run ends when ctx does or an entry cannot be written. Changes of nodes wake it, the next deadline does, and while a drain is
// under way changes of allocations do. While there is none it only sleeps.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		nodes := k.Machine.Watch(fsm.WatchKey{Table: fsm.TableNodes})
		allocations := k.Machine.Watch(fsm.WatchKey{Table: fsm.TableAllocations})
		due, next := Due(k.Machine.Snapshot(), k.Now())
		for _, node := range due {
			if err := k.Settle(node); err != nil {
				return fmt.Errorf("draining node %s: %w", node, err)
			}
		}
		if len(due) > 0 {
			continue
		}
		if next == 0 {
			allocations = nil
		}
		if !k.wait(ctx, nodes, allocations, next) {
			return nil
		}
	}
}

// wait reports false when ctx has ended.
func (k *Keeper) wait(ctx context.Context, nodes, allocations <-chan struct{}, next int64) bool {
	var deadline <-chan time.Time
	if next != 0 {
		t := time.NewTimer(time.Duration(next - k.Now()))
		defer t.Stop()
		deadline = t.C
	}
	select {
	case <-nodes:
	case <-allocations:
		return signal.Pause(ctx, lookEvery)
	case <-deadline:
	case <-ctx.Done():
		return false
	}
	return true
}

// Due returns the nodes whose drain has its next step before it at a time, by ID, and the next deadline of the others: 0 if
// no drain is under way.
func Due(s *fsm.Snapshot, now int64) (due []string, next int64) {
	for n := range s.Nodes() {
		if !n.Drain.Active() {
			continue
		}
		if s.DrainDue(n, now) && (now >= n.Drain.Deadline.UnixNano() || len(unfetched(s, n)) == 0) {
			due = append(due, n.ID)
			continue
		}
		at := n.Drain.Deadline.UnixNano()
		if n.Drain.Stage == api.DrainForced {
			at = now + int64(time.Hour) // what is left is stopping: its end wakes us
		}
		if next == 0 || at < next {
			next = at
		}
	}
	return due, next
}

// Status says how the drain of a node gets on.
func Status(s *fsm.Snapshot, n *api.Node) *api.DrainStatus {
	out := &api.DrainStatus{Node: n.ID, NodeName: n.Name, Drain: n.Drain, Left: []api.DrainingInstance{}}
	if !n.Drain.Active() {
		return out
	}
	for row := range s.NodeRows(n.ID, 0) {
		job := s.Job(row.Job)
		if row.Live() && job != nil && n.Drain.Drains(job.Type) {
			out.Left = append(out.Left, instance(s, job, &row))
		}
	}
	if now := n.Drain.Stage; now == api.DrainMoving || now == api.DrainSystem {
		out.Left = append(out.Left, unfetched(s, n)...)
	}
	slices.SortFunc(out.Left, func(a, b api.DrainingInstance) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name)) // web[9] before web[10]
	})
	return out
}

// unfetched are the instances that were to leave a node and have, but whose data is still there: what comes after them fetches it
// before it begins. The node is not drained before that: who empties a machine most likely switches it off.
func unfetched(s *fsm.Snapshot, n *api.Node) (out []api.DrainingInstance) {
	const ended = 1 // an index before any allocation: from 0 on those that have ended would be left out
	for row := range s.NodeRows(n.ID, ended) {
		job := s.Job(row.Job)
		if row.Live() || row.Desired != api.DesiredStop || job == nil || job.Stopped {
			continue
		}
		t := job.Task(row.Task)
		if t == nil || !t.MovesData() || int64(row.Slot) >= int64(t.Count) {
			continue
		}
		heir, ok := s.Successor(row.ID)
		i := api.DrainingInstance{Allocation: s.Text().Format(row.ID), Name: api.InstanceName(row.Job, row.Task, row.Slot), Desired: row.Desired, Phase: row.Phase}
		switch {
		case ok && (heir.Node == n.ID || heir.Phase >= api.PhaseRunning):
			continue
		case ok:
			i.Successor, i.Node, i.Health = s.Text().Format(heir.ID), nodeName(s, heir.Node), heir.Health
			i.Waits = i.Name + " waits to run on " + i.Node + ", and to fetch its data from here"
		case followed(s, &row):
			continue
		default:
			i.Waits = i.Name + " waits to be placed; its data is still here"
		}
		out = append(out, i)
	}
	return out
}

// followed reports whether the slot of an allocation has had another one since.
func followed(s *fsm.Snapshot, row *api.AllocationRow) bool {
	for other := range s.JobAllRows(row.Job) {
		if other.Task == row.Task && other.Slot == row.Slot && other.ID > row.ID {
			return true
		}
	}
	return false
}

func instance(s *fsm.Snapshot, job *api.Job, row *api.AllocationRow) api.DrainingInstance {
	i := api.DrainingInstance{
		Allocation: s.Text().Format(row.ID), Name: api.InstanceName(row.Job, row.Task, row.Slot), Desired: row.Desired, Phase: row.Phase,
	}
	successor, succeeded := s.Successor(row.ID)
	if succeeded {
		i.Successor, i.Node, i.Health = s.Text().Format(successor.ID), nodeName(s, successor.Node), successor.Health
	}
	switch {
	case row.Desired == api.DesiredStop:
		i.Waits = i.Name + " is stopping"
	case succeeded && successor.Phase == api.PhaseRunning:
		i.Waits = i.Name + " waits to be healthy on " + i.Node
	case succeeded:
		i.Waits = i.Name + " waits to run on " + i.Node
	case job.Type == api.JobBatch || job.Type == api.JobSysbatch:
		i.Waits = "batch instances run to their end, until the deadline"
	case job.Type == api.JobSystem:
		i.Waits = "instances of system jobs go last"
	default:
		i.Waits, i.Stuck = waits(s, row)
	}
	return i
}

// waits says what an instance waits for whose successor is not there yet: as the scheduler put it, or else for its turn.
func waits(s *fsm.Snapshot, row *api.AllocationRow) (text string, stuck bool) {
	e := s.Open(row.Job)
	if e == nil {
		return "the scheduler is about to look at job " + row.Job, false
	}
	for i := range e.Explanations {
		if x := &e.Explanations[i]; x.Task == row.Task && x.Note != "" {
			return x.Note, true
		}
	}
	if e.Message != "" && !strings.HasPrefix(e.Message, "draining ") { // that says whose turn it is
		return e.Message, false
	}
	return "instances of " + row.Job + " wait for their turn", false
}

func nodeName(s *fsm.Snapshot, id string) string {
	if n := s.Node(id); n != nil {
		return n.Name
	}
	return id
}
