package lifecycle

import (
	"maps"
	"slices"
	"strings"

	"cube/api"
	"cube/fsm"
)

// machine is a computer that runs a client, and what is true there, which the state learns of later or never.
type machine struct {
	id          string
	incarnation uint64
	up          bool // the agent runs
	cut         bool // nobody hears of it
	asking      bool // its registration is in the log
	reporting   bool // a report is
	telling     bool // that it is ready is
	cleaning    bool // its inventory is judged, and being put right
	memory      int64
	volumes     []api.NodeVolume
	instances   map[api.ID]*instance
}

// instance is a container, and what its client keeps of it.
type instance struct {
	status api.AllocationStatus
	told   uint64 // the sequence that is acknowledged
	task   *api.Task
	ports  []api.PortBinding
	kind   string // what its image does: good, bad (it is never healthy), crash
	batch  bool
	stop   bool // it is to go
	left   bool // its row has ended, or is gone: nobody asks for it any more
}

func newMachine(id string, volumes []api.NodeVolume) *machine {
	return &machine{id: id, incarnation: 1, up: true, memory: 1000, volumes: volumes, instances: map[api.ID]*instance{}}
}

func (m *machine) connected() bool { return m.up && !m.cut }

// ids are those of the instances, in order.
func (m *machine) ids() []api.ID { return slices.Sorted(maps.Keys(m.instances)) }

// live are the instances that exist and have not ended.
func (m *machine) live() (out []api.ID) {
	for _, id := range m.ids() {
		if !m.instances[id].status.Phase.Terminal() {
			out = append(out, id)
		}
	}
	return out
}

// exchange is one round of what an agent says and hears. The state that it polls is the one of now; what it says is in the log.
func (w *world) exchange(m *machine) {
	if !m.connected() {
		return
	}
	s := w.m.Snapshot()
	n := s.Node(m.id)
	if n == nil || n.Incarnation != m.incarnation || n.Status == api.NodeDown || n.Resources.Memory != m.memory {
		w.enroll(m)
		return
	}
	w.poll(m)
	w.report(m)
}

// enroll tells of the machine and of what exists on it. It is judged as the servers do: what has ended or is not known stops, and
// until it has, nothing new is placed.
func (w *world) enroll(m *machine) {
	if m.asking {
		return
	}
	s := w.m.Snapshot()
	c := &fsm.RegisterNode{Ready: w.verdicts(m, s), Node: &api.Node{ID: m.id, Name: m.id, Incarnation: m.incarnation,
		Resources: api.Resources{CPU: 1000, Memory: m.memory}, Volumes: m.volumes, Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}}
	if known := s.Node(m.id); known != nil {
		c.JudgedOn = known.ModifyIndex
	}
	m.asking = true
	w.propose("node/"+m.id, c, func(_ fsm.Result, lost bool) {
		m.asking = false
		if lost {
			return
		}
		m.cleaning = !w.verdicts(m, w.m.Snapshot())
		if n := w.m.Snapshot().Node(m.id); n != nil && n.Away() { // the servers want to hear of everything again
			for _, i := range m.instances {
				i.told = 0
			}
		}
	})
}

// verdicts has what is not to run stop, and reports whether there was nothing of the kind.
func (w *world) verdicts(m *machine, s *fsm.Snapshot) (clean bool) {
	clean = true
	for _, id := range m.ids() {
		i := m.instances[id]
		row, ok := s.Row(id)
		switch {
		case !ok || row.Node != m.id || row.Phase.Terminal():
			i.left = true
			clean = clean && i.status.Phase.Terminal()
		case row.Desired == api.DesiredStop:
			i.stop = true
		}
	}
	return clean
}

func newInstance(s *fsm.Snapshot, row *api.AllocationRow, status api.AllocationStatus) *instance {
	j := s.JobVersion(row.Job, row.Version)
	task := j.Task(row.Task)
	kind, _, _ := strings.Cut(task.Image, "-")
	return &instance{status: status, task: task, ports: s.Ports(row.ID), kind: kind, batch: j.Type.Completes()}
}

// poll takes over what is to run, and what is not.
func (w *world) poll(m *machine) {
	s := w.m.Snapshot()
	for row := range s.NodeRows(m.id, 0) {
		i := m.instances[row.ID]
		if i == nil && row.Desired == api.DesiredRun && row.Phase == api.PhasePending {
			begun := newInstance(s, &row, api.AllocationStatus{ID: row.ID, Seq: 1, Phase: api.PhasePreparing})
			w.alone(m, row.ID, begun)
			m.instances[row.ID] = begun
			continue
		}
		if i == nil && !row.Phase.Terminal() { // stopped before it began, or forgotten by the machine
			i = newInstance(s, &row, api.AllocationStatus{ID: row.ID, Seq: row.Seq, Restarts: row.Restarts, Phase: row.Phase, Health: row.Health})
			i.told, i.stop = row.Seq, true
			m.instances[row.ID] = i
		}
		if i != nil && row.Desired == api.DesiredStop {
			i.stop = true
		}
	}
	for _, id := range m.ids() {
		if row, ok := s.Row(id); !ok || row.Phase.Terminal() || row.Node != m.id {
			i := m.instances[id]
			if i.left = true; i.status.Phase.Terminal() {
				delete(m.instances, id)
			}
		}
	}
}

// report says what has changed, and that the inventory is put right once it is.
func (w *world) report(m *machine) {
	var news []api.AllocationStatus
	clean, told := true, !m.reporting
	for _, id := range m.ids() {
		i := m.instances[id]
		clean = clean && (!i.left || i.status.Phase.Terminal())
		if i.status.Seq > i.told && !i.left {
			news = append(news, i.status)
		}
	}
	if len(news) > 0 && !m.reporting {
		m.reporting = true
		w.propose("node/"+m.id, &fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: m.id, Statuses: news}}}, func(_ fsm.Result, lost bool) {
			m.reporting = false
			for _, st := range news {
				if i := m.instances[st.ID]; i != nil && !lost {
					i.told = max(i.told, st.Seq)
				}
			}
		})
	}
	if n := w.m.Snapshot().Node(m.id); clean && (told || len(news) == 0) && n.Status == api.NodeInitializing && !m.telling {
		m.telling, m.cleaning = true, false
		w.propose("node/"+m.id, &fsm.NodeReady{Node: m.id, Incarnation: m.incarnation}, func(fsm.Result, bool) { m.telling = false })
	}
}

// What may become of an instance besides what its image has in mind.
const (
	luckFail = iota
	luckIll
	luckRestart
	luckPort
	luckNothing // it does not come on
	luckGood    // it does what it is meant to
)

// live on: an instance takes its next step.
func (i *instance) step(luck int) {
	st := i.status
	switch {
	case st.Phase.Terminal() || luck == luckNothing:
		return
	case i.stop || i.left:
		st.Phase, st.Health = api.PhaseComplete, api.HealthUnknown
	case luck == luckFail:
		st.Phase, st.Health, st.Failure, st.ExitCode = api.PhaseFailed, api.HealthUnknown, api.FailureExit, 1
	case luck == luckPort && st.Phase == api.PhasePreparing:
		st.Phase, st.Failure = api.PhaseFailed, api.FailurePortTaken
	case luck == luckRestart && st.Phase == api.PhaseRunning:
		st.Phase, st.Health, st.Failure = api.PhasePreparing, api.HealthUnknown, api.FailureExit
		st.Restarts++
	case st.Phase != api.PhaseRunning:
		st.Phase = api.PhaseRunning
	case luck == luckIll:
		st.Health = api.HealthUnhealthy
	case i.kind == "crash":
		st.Phase, st.Health, st.Failure, st.ExitCode = api.PhaseFailed, api.HealthUnknown, api.FailureExit, 1
	case i.kind == "bad":
	case i.batch:
		st.Phase, st.Health = api.PhaseComplete, api.HealthUnknown
	default:
		st.Health = api.HealthHealthy
	}
	if st != i.status {
		st.Seq++
		i.status = st
	}
}

// evolve has every instance of the machine take a step; luck says which.
func (m *machine) evolve(luck func() int) {
	for _, id := range m.live() {
		m.instances[id].step(luck())
	}
}

// reboot ends all that runs there; the agent starts what is to run again.
func (m *machine) reboot() {
	m.incarnation++
	for _, id := range m.live() {
		i := m.instances[id]
		i.status.Seq++
		i.status.Phase, i.status.Health = api.PhasePreparing, api.HealthUnknown
		i.status.Restarts++
	}
}
