package lifecycle

import (
	"slices"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

// What instances hold of their nodes besides room: ports, volumes, and directories that are handed on.

// thePort is the one that tasks of several jobs want: no node has it twice.
const thePort = 8080

// volumesOf are those of a machine: three have one of the same name, each with rules of its own, a fourth lets it be read, and the
// fifth has none.
func volumesOf(machine int) []api.NodeVolume {
	if machine == machines-1 {
		return nil
	}
	return []api.NodeVolume{{Name: "data", Path: "/data", SingleWriter: machine == 2, ReadOnly: machine == 3}}
}

// drawHoldings draws what instances of a task hold, and has the task be one that may hold it.
func (w *world) drawHoldings(job *api.Job, task *api.Task) {
	if !job.Type.EveryNode() && w.pick("static port", 3) == 0 {
		task.Ports = append(task.Ports, api.Port{Label: "http", Static: thePort})
	}
	if w.pick("dynamic port", 3) == 0 {
		task.Ports = append(task.Ports, api.Port{Label: "peer"})
	}
	switch w.pick("holds", 4) {
	case 0:
		access := rapid.SampledFrom(api.Accesses()).Draw(w.t, "access")
		task.Volumes = []api.VolumeRequest{{Name: "data", Destination: "/data", Access: access}}
		if access == api.AccessSingleWriter {
			task.Update.Order = api.OrderStopFirst
		}
	case 1:
		if job.Type != api.JobService {
			return
		}
		task.EphemeralDisk = &api.EphemeralDisk{Sticky: true, Move: rapid.SampledFrom([]string{api.MoveTry, api.MoveNever}).Draw(w.t, "move data")}
		task.Update.Order, task.Migrate.Order = api.OrderStopFirst, api.OrderStopFirst
		task.Update.Canary, task.Update.AutoPromote = 0, false
	}
}

// modest has what a task holds fit beside all else.
func modest(job *api.Job, task *api.Task) {
	if job.Type.EveryNode() {
		task.Volumes = nil
	}
	task.Volumes, task.Ports = slices.Clone(task.Volumes), slices.Clone(task.Ports)
	for i := range task.Volumes {
		task.Volumes[i].Access = api.AccessMultiReader
	}
	for i := range task.Ports {
		if p := &task.Ports[i]; p.Static != 0 && (job.Name != "web" || len(task.Volumes) > 0) {
			p.Static = 0
		} else if p.Static != 0 {
			task.Count = min(task.Count, 2) // two tasks of two, on five nodes
		}
	}
}

// alone checks that an instance which begins on a machine has no port in common with one that exists there, and no volume with one
// that is to write alone: whatever the state thinks of that one, it may be there still.
func (w *world) alone(m *machine, id api.ID, i *instance) {
	hold := map[string]api.VolumeHold{}
	for _, other := range m.live() {
		o := m.instances[other]
		for _, p := range o.ports {
			if slices.ContainsFunc(i.ports, func(own api.PortBinding) bool { return own.Host == p.Host }) {
				w.fatalf("#%d begins on %s with port %d, which #%d has: %+v", id, m.id, p.Host, other, o)
			}
		}
		for _, v := range o.task.Volumes {
			of := hold[v.Source]
			of.Add(v.Access)
			hold[v.Source] = of
		}
	}
	for _, v := range i.task.Volumes {
		if of := hold[v.Source]; !of.Admits(v.Access) {
			w.fatalf("#%d begins on %s with volume %s as %s, which %s holds", id, m.id, v.Source, v.Access, of)
		}
	}
}

// judgeHoldings: what is placed has the ports it asks for, is where its volumes are, and where its slot's data is if there is room.
func (w *world) judgeHoldings(s *fsm.Snapshot, job *api.Job, a *api.Placement, p *api.Plan) {
	t := s.JobVersion(job.Name, a.Version).Task(a.Task)
	for i, want := range t.Ports {
		if len(a.Ports) != len(t.Ports) || a.Ports[i].Label != want.Label || a.Ports[i].Host == 0 || want.Static != 0 && a.Ports[i].Host != want.Static {
			w.fatalf("%s[%d] asks for ports %+v and is given %+v", t.Name, a.Slot, t.Ports, a.Ports)
		}
	}
	for i := range t.Volumes {
		if lack := s.Node(a.Node).LacksVolume(&t.Volumes[i]); lack != "" {
			w.fatalf("%s[%d] is placed on %s, which has %s", t.Name, a.Slot, a.Node, lack)
		}
	}
	last, ok := s.Row(a.Replaces)
	if ok && t.Sticky() && !a.Beside && last.Phase != api.PhaseFailed && last.Node != a.Node && w.takes(s, last.Node, t, p) {
		w.fatalf("%s[%d] is placed on %s, and its data is on %s, which can take it", t.Name, a.Slot, a.Node, last.Node)
	}
}

// takes reports whether a node can take one more instance of a task beside all that a plan places there, as far as that is plain: where
// room is kept for others it is not.
func (w *world) takes(s *fsm.Snapshot, node string, t *api.Task, p *api.Plan) bool {
	for e := range s.Promised() {
		if len(e.Promises) > 0 {
			return false
		}
	}
	for i := range p.Jobs {
		if len(p.Jobs[i].Promises) > 0 {
			return false
		}
	}
	for n, held := range s.Nodes() {
		if n.ID != node || !n.Ready() {
			continue
		}
		free := n.Resources.Sub(held)
		for i := range p.Jobs {
			for _, a := range p.Jobs[i].Placements {
				if a.Node == node {
					free = free.Sub(a.Held)
				}
			}
		}
		static := slices.ContainsFunc(t.Ports, func(p api.Port) bool { return p.Static != 0 })
		return t.Holds().Fits(free) && !static
	}
	return false
}
