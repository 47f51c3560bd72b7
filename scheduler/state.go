package scheduler

import (
	"iter"

	"cube/api"
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
	// Nodes yields every node with what is held on it, in the order of node IDs. The position is the node's ordinal.
	Nodes() iter.Seq2[*api.Node, api.Resources]
	// DevicesHeld yields the ordinal of every node that has devices, with what is held of each, in thousandths and in the
	// order of the node's groups and their IDs. The slice is good until the next one.
	DevicesHeld() iter.Seq2[int, []int16]
	// JobRows yields the job's allocations that matter to a plan: all that are not terminal, and the newest one of each
	// slot whatever its phase; by task, slot, ID.
	JobRows(job string) iter.Seq[api.AllocationRow]
	// Completed reports whether a batch slot has completed in this version of the job: it is never run again.
	Completed(job, task string, version uint64, slot uint32) bool
	// PortHeld reports whether a host port is held on a node, by ordinal.
	PortHeld(node int, port int) bool
	// Quarantined reports whether a host port was found taken by something outside Cube not long ago.
	Quarantined(node int, port int) bool
}
