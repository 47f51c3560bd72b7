// Package estate is what nodes are told of the instances that came before theirs in their slots, and who may have what these have
// left.
package estate

import (
	"cube/api"
	"cube/fsm"
)

// maxFormer is how many of those before it a node is told of: as many as are kept of a slot.
const maxFormer = 3

// Tell completes what a node is told of an allocation that is to run there with what follows from those before it in its slot.
func Tell(s *fsm.Snapshot, row *api.AllocationRow, a *api.Assignment) {
	if row.Replaces == 0 || row.Desired != api.DesiredRun {
		return
	}
	before, ok := s.Row(row.Replaces)
	if !ok {
		return
	}
	a.Moved = before.Version == row.Version && before.Node != row.Node && (before.Live() || before.Desired == api.DesiredStop)
	if t := task(s, row); t == nil || !t.MovesData() || row.Phase > api.PhasePreparing {
		return
	}
	elsewhere := false
	for n := 0; ok && n < maxFormer; n++ {
		if !before.Live() {
			a.Former = append(a.Former, api.Former{Allocation: before.ID, Node: before.Node, NodeName: name(s, before.Node)})
			elsewhere = elsewhere || before.Node != row.Node
		}
		before, ok = s.Row(before.Replaces)
	}
	if !elsewhere { // what is on its own node the node knows itself
		a.Former = nil
	}
}

// task is the one that an allocation is an instance of, nil if its version is not kept.
func task(s *fsm.Snapshot, row *api.AllocationRow) *api.Task {
	if job := s.JobVersion(row.Job, row.Version); job != nil {
		return job.Task(row.Task)
	}
	return nil
}

func name(s *fsm.Snapshot, node string) string {
	if n := s.Node(node); n != nil {
		return n.Name
	}
	return node
}

// Check says whether a node may have the directory of a former allocation, which it returns: it may if it is to run the one that
// comes after that in the slot, and if that has ended. The codes are those of api.Estates.
func Check(s *fsm.Snapshot, node string, r api.FetchRequest) (former api.AllocationRow, err error) {
	heir, ok := s.Row(r.Allocation)
	if !ok { // it may be news to this server
		return former, api.Errorf(api.CodeUnavailable, "allocation %s is not known", s.Text().Format(r.Allocation))
	}
	t := task(s, &heir)
	if heir.Node != node || !heir.Live() || heir.Desired != api.DesiredRun || t == nil || !t.MovesData() {
		return former, api.Errorf(api.CodeForbidden, "node %.32s does not run allocation %s, or that inherits nothing", node, s.Text().Format(heir.ID))
	}
	former, ok = s.Row(r.Former)
	switch {
	case !ok:
		return former, api.Errorf(api.CodeNotFound, "allocation %s is forgotten", s.Text().Format(r.Former))
	case former.Job != heir.Job || former.Task != heir.Task || former.Slot != heir.Slot || former.ID >= heir.ID:
		return former, api.Errorf(api.CodeForbidden, "allocation %s does not come after %s in its slot", s.Text().Format(heir.ID), s.Text().Format(former.ID))
	case former.Live():
		return former, api.Errorf(api.CodeBusy, "allocation %s has not ended", s.Text().Format(former.ID))
	}
	switch n := s.Node(former.Node); {
	case n == nil:
		return former, api.Errorf(api.CodeNotFound, "its node is gone")
	case n.Status == api.NodeDown:
		return former, api.Errorf(api.CodeConflict, "node %s is down", n.Name)
	}
	return former, nil
}
