package scheduler_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"cube/api"
	"cube/scheduler"
)

// TestStories runs the stories of testdata/stories: a world is described in words, schedule prints the plan and applies it.
//
//	nodes               one a line: NAME cpu=4 memory=8192 disk=10000 dc=dc1 KEY=VALUE (attr.x, meta.x), driver.D=REASON
//	                    (unhealthy) or driver.D=ok, device.TYPE=COUNT*MODEL,ATTRIBUTE=VALUE..., and the words down,
//	                    initializing, ineligible
//	job NAME            type=, priority=, dc=, scheduler=; each call is a new version. Lines: task NAME count= cpu= memory= disk=
//	                    image= driver=; then for that task: constraint ATTR OP VALUE, affinity ATTR OP VALUE WEIGHT,
//	                    depends TASK CONDITION TIMEOUT, disconnect lost= alone keep=, migrate MAX ORDER, spread ATTR WEIGHT VALUE=PERCENT..., port LABEL static= to=, device TYPE count= share=, and for
//	                    that device: if ATTR OP VALUE
//	schedule            the jobs named, all by default; limit= algorithm= preempt=TYPE stop=SLOT
//	report              lines: SLOT PHASE [port | HEALTH], of the slot's live allocation; SLOT may be web[*]. What runs is
//	                    healthy unless it is said to be unknown or unhealthy
//	ill ID              an allocation is unhealthy
//	drain NODE          stage=moving (or system, forced), cancel; by=, message=
//	restart NAME        slots=0,2: a version that says the same, with a restart of all or of some slots
//	rebalance           what would be moved; min-gain= most= algorithm=
//	move SLOT NODE      the rebalance under way moves it; undo: it has to be undone; end: none is under way
//	down, forget        nodes: their allocations are lost, but for down those that their tasks keep for a while
//	back                nodes that were down; what was kept there is healthy as it was
//	stop, purge         jobs
//	load                lines: NODE cpu=PART memory=PART, of what the machine has
//	quarantine          lines: NODE PORT
//	pass                lets so much time pass
//	show                who holds what
//
// Run with -rewrite to write down what happens now.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := newStory()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

type story struct {
	world *scheduler.World
	jobs  []string
	loads map[string]api.NodeLoad
	evals api.ID
}

func newStory() *story {
	return &story{world: &scheduler.World{}, loads: map[string]api.NodeLoad{}, evals: 1000}
}

func (s *story) run(d *datadriven.TestData) (string, error) {
	lines := strings.Split(strings.TrimSpace(d.Input), "\n")
	each := func(f func(words []string) error) (string, error) {
		for _, line := range lines {
			if words := fields(line); len(words) > 0 {
				if err := f(words); err != nil {
					return "", fmt.Errorf("%q: %w", line, err)
				}
			}
		}
		return "", nil
	}
	switch d.Cmd {
	case "nodes":
		return each(s.node)
	case "job":
		return "", s.job(d, lines)
	case "schedule":
		return s.schedule(d)
	case "report":
		return each(s.report)
	case "restart":
		return "", s.restart(d)
	case "ill":
		id, err := strconv.Atoi(d.CmdArgs[0].Key)
		s.world.SetHealth(api.ID(id), api.HealthUnhealthy)
		return "", err
	case "back":
		for _, a := range d.CmdArgs {
			s.nodeBack(a.Key)
		}
		return "", nil
	case "down", "forget":
		for _, a := range d.CmdArgs {
			s.nodeDown(a.Key, d.Cmd == "forget")
		}
		return "", nil
	case "drain":
		return "", s.drain(d)
	case "rebalance":
		return s.rebalance(d)
	case "move":
		s.move(d)
		return "", nil
	case "stop", "purge":
		for _, a := range d.CmdArgs {
			s.stopJob(a.Key, d.Cmd == "purge")
		}
		return "", nil
	case "load":
		return each(s.load)
	case "quarantine":
		return each(func(w []string) error {
			port, err := strconv.Atoi(w[1])
			s.world.Quarantine(w[0], port)
			return err
		})
	case "pass":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		s.world.Pass(by)
		return "", err
	case "show":
		return s.show(), nil
	}
	return "", fmt.Errorf("unknown command %q", d.Cmd)
}

// fields splits at spaces, but not inside double quotes, which it drops.
func fields(line string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?:[^\s"]|"[^"]*")+`).FindAllString(line, -1) {
		out = append(out, strings.ReplaceAll(m, `"`, ""))
	}
	return out
}

func (s *story) node(words []string) error {
	n := &api.Node{ID: words[0], Name: words[0], Datacenter: "dc1", Status: api.NodeReady,
		Attributes: map[string]string{}, Meta: map[string]string{}, Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 100000},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		root, sub, _ := strings.Cut(key, ".")
		switch root {
		case "cpu", "memory", "disk":
			if err := setResource(&n.Resources, key, value); err != nil {
				return err
			}
		case "dc":
			n.Datacenter = value
		case "attr":
			n.Attributes[sub] = value
		case "meta":
			n.Meta[sub] = value
		case "device":
			addDevices(n, sub, value)
		case "volume":
			n.Volumes = append(n.Volumes, api.NodeVolume{Name: sub, Path: "/srv/" + sub, ReadOnly: value == "ro", SingleWriter: value == "one"})
		case "driver":
			info := api.DriverInfo{Detected: true, Healthy: value == "ok"}
			if value != "ok" {
				info.Reason = value
			}
			n.Drivers[sub] = info
		case "no":
			delete(n.Drivers, sub)
		case "down", "initializing":
			n.Status = api.NodeStatus(root)
		case "ineligible":
			n.Ineligible = true
		default:
			return fmt.Errorf("unknown word %q", w)
		}
	}
	s.world.PutNode(n)
	return nil
}

func setResource(r *api.Resources, key, value string) error {
	f, err := strconv.ParseFloat(value, 64)
	switch key {
	case "cpu":
		r.CPU = int64(f * 1000)
	case "memory":
		r.Memory = int64(f)
	case "disk":
		r.Disk = int64(f)
	}
	return err
}

func (s *story) job(d *datadriven.TestData, lines []string) error {
	name := d.CmdArgs[0].Key
	j := &api.Job{Name: name, Type: api.JobService, Priority: api.DefaultPriority, Datacenters: []string{"dc1"}, Version: 1}
	if old := s.world.Job(name); old != nil {
		j.Version = old.Version + 1
	} else if !slices.Contains(s.jobs, name) {
		s.jobs = append(s.jobs, name)
	}
	for _, a := range d.CmdArgs[1:] {
		switch a.Key {
		case "type":
			j.Type = api.JobType(a.Vals[0])
		case "priority":
			j.Priority, _ = strconv.Atoi(a.Vals[0])
		case "dc":
			j.Datacenters = a.Vals
		case "scheduler":
			j.Scheduler = a.Vals[0]
		case "count-change": // in place: no new version
			j.Version--
		}
	}
	var t *api.Task
	for _, line := range lines {
		words := fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "task":
			t = api.DefaultTask(words[1])
			if err := taskWords(t, words[2:]); err != nil {
				return err
			}
			j.Tasks = append(j.Tasks, t)
		case "nil-task": // what no parser lets through: the scheduler trips over it
			j.Tasks = append(j.Tasks, nil)
		default:
			if err := taskLine(t, words); err != nil {
				return err
			}
		}
	}
	j.ModifyIndex = s.world.Index() + 1
	j.SubmittedAt = time.Unix(0, s.world.Now())
	s.world.PutJob(j)
	return nil
}

func (s *story) restart(d *datadriven.TestData) error {
	j := *s.world.Job(d.CmdArgs[0].Key)
	var slots []int
	for _, a := range d.CmdArgs[1:] {
		for _, v := range a.Vals {
			n, err := strconv.Atoi(v)
			if err != nil {
				return err
			}
			slots = append(slots, n)
		}
	}
	j.Restarted, _ = j.Restart("", slots, j.Version+1)
	j.Version, j.ModifyIndex, j.SubmittedBy = j.Version+1, s.world.Index()+1, "alice"
	s.world.PutJob(&j)
	return nil
}

func (s *story) schedule(d *datadriven.TestData) (string, error) {
	o := scheduler.Options{Load: func(id string) (api.NodeLoad, bool) { l, ok := s.loads[id]; return l, ok }, Now: s.world.Now()}
	var names []string
	var stop []api.ID
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "limit":
			o.MaxPlacements, _ = strconv.Atoi(a.Vals[0])
		case "algorithm":
			o.Algorithm = a.Vals[0]
		case "preempt":
			o.Preempt = append(o.Preempt, api.JobType(a.Vals[0]))
		case "stop":
			for _, row := range s.slotRows(a.Vals[0], true) {
				stop = append(stop, row.ID)
			}
		default:
			names = append(names, a.Key)
		}
	}
	if len(names) == 0 {
		names = s.jobs
	}
	var evals []*api.Evaluation
	for _, name := range names {
		s.evals++
		e := &api.Evaluation{ID: s.evals, Job: name, Priority: api.DefaultPriority, Status: api.EvalPending, Stop: stop}
		if j := s.world.Job(name); j != nil {
			e.Priority = j.Priority
		}
		evals = append(evals, e)
	}
	p := scheduler.Schedule(s.world, evals, o)
	out := s.format(p)
	s.world.Apply(p)
	return out, nil
}

// stackLines are where a panic was: they move with every edit.
var stackLines = regexp.MustCompile(`\.go:\d+`)

func (s *story) format(p *api.Plan) string {
	var b strings.Builder
	for _, j := range p.Jobs {
		fmt.Fprintf(&b, "%s: %s", j.Job, j.Status)
		if j.Message != "" {
			fmt.Fprintf(&b, " (%s)", stackLines.ReplaceAllString(j.Message, ".go:N"))
		}
		b.WriteByte('\n')
		if j.WakeAt != 0 {
			fmt.Fprintf(&b, "  wakes in %s\n", time.Duration(j.WakeAt-s.world.Now()))
		}
		for _, st := range j.Stops {
			fmt.Fprintf(&b, "  stop %s: %s\n", s.name(st.Allocation), st.Reason)
		}
		for _, x := range j.Preemptions {
			fmt.Fprintf(&b, "  preempt %s: %s\n", s.name(x.Allocation), x.Reason)
		}
		for _, id := range j.InPlace {
			fmt.Fprintf(&b, "  in place %s\n", s.name(id))
		}
		for _, pl := range j.Placements {
			fmt.Fprintf(&b, "  place %s v%d on %s", api.InstanceName(j.Job, pl.Task, pl.Slot), pl.Version, pl.Node)
			for _, port := range pl.Ports {
				fmt.Fprintf(&b, " %s=%d", port.Label, port.Host)
				if port.To != port.Host {
					fmt.Fprintf(&b, ":%d", port.To)
				}
			}
			for _, c := range pl.Devices {
				b.WriteString(" " + claimText(c))
			}
			switch {
			case pl.Beside:
				fmt.Fprintf(&b, ", beside %d", pl.Replaces)
			case pl.Replaces != 0:
				fmt.Fprintf(&b, ", replaces %d", pl.Replaces)
			}
			b.WriteByte('\n')
		}
		for _, e := range j.Explanations {
			for _, line := range e.Lines() {
				fmt.Fprintf(&b, "  %s\n", line)
			}
		}
	}
	return b.String()
}

func claimText(c api.DeviceClaim) string {
	if c.Share == api.WholeDevice {
		return c.ID
	}
	return fmt.Sprintf("%s:%g", c.ID, float64(c.Share)/api.WholeDevice)
}

func (s *story) name(id api.ID) string {
	row, _, _ := s.world.Allocation(id)
	return fmt.Sprintf("%s #%d on %s", api.InstanceName(row.Job, row.Task, row.Slot), id, row.Node)
}

var slotName = regexp.MustCompile(`^(?:(.+)/)?(.+)\[(\d+|\*)\]$`)

// slotRows finds the newest allocations of the slots that a name like web[0] or shop/web[*] means.
func (s *story) slotRows(name string, live bool) []api.AllocationRow {
	m := slotName.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	job := m[1]
	if job == "" {
		job = m[2]
	}
	var out []api.AllocationRow
	for row := range s.world.Allocations(job) {
		if row.Task == m[2] && (m[3] == "*" || m[3] == fmt.Sprint(row.Slot)) && (row.Live() || !live) {
			if last := len(out) - 1; last >= 0 && out[last].Slot == row.Slot {
				out[last] = row
			} else {
				out = append(out, row)
			}
		}
	}
	return out
}

func (s *story) report(words []string) error {
	var phase api.Phase
	if err := phase.UnmarshalText([]byte(words[1])); err != nil {
		return err
	}
	failure, health := api.FailureNone, api.ImpliedHealth(phase)
	if len(words) > 2 && words[2] == "port" {
		failure = api.FailurePortTaken
	} else if len(words) > 2 {
		if err := health.UnmarshalText([]byte(words[2])); err != nil {
			return err
		}
	}
	rows := s.slotRows(words[0], true)
	if len(rows) == 0 {
		return fmt.Errorf("nothing live in %s", words[0])
	}
	for _, row := range rows {
		s.world.Report(row.ID, phase, failure)
		if health != api.ImpliedHealth(phase) {
			s.world.SetHealth(row.ID, health)
		}
	}
	return nil
}

func (s *story) nodeDown(id string, forget bool) {
	for n := range s.world.Nodes() {
		if n.ID == id {
			dead := *n
			dead.Status, dead.Absence = api.NodeDown, &api.Absence{Since: time.Unix(0, s.world.Now())}
			s.world.PutNode(&dead)
		}
	}
	for _, job := range s.jobs {
		for row := range s.world.Allocations(job) {
			if row.Node == id && (forget || !s.keeps(&row)) {
				defer s.world.Report(row.ID, api.PhaseLost, api.FailureNone)
			}
		}
	}
	if forget {
		s.world.RemoveNode(id)
	}
}

func (s *story) drain(d *datadriven.TestData) error {
	drain := &api.Drain{Stage: api.DrainMoving, By: "alice"}
	for _, a := range d.CmdArgs[1:] {
		switch a.Key {
		case "stage":
			drain.Stage = api.DrainStage(a.Vals[0])
		case "message":
			drain.Message = strings.Join(a.Vals, " ")
		case "cancel":
			drain = nil
		default:
			return fmt.Errorf("unknown word %q", a.Key)
		}
	}
	for n := range s.world.Nodes() {
		if n.ID == d.CmdArgs[0].Key {
			changed := *n
			changed.Drain, changed.Ineligible = drain, drain != nil
			s.world.PutNode(&changed)
			return nil
		}
	}
	return fmt.Errorf("there is no node %s", d.CmdArgs[0].Key)
}

func (s *story) stopJob(name string, purge bool) {
	if purge {
		s.world.RemoveJob(name)
		return
	}
	j := *s.world.Job(name)
	j.Stopped = true
	s.world.PutJob(&j)
}

func (s *story) load(words []string) error {
	l := api.NodeLoad{CPUTotal: 4000, MemoryTotal: 8192}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		part, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		if key == "cpu" {
			l.CPU = int64(part * 4000)
		} else {
			l.Memory = int64(part * 8192)
		}
	}
	s.loads[words[0]] = l
	return nil
}

func (s *story) show() string {
	var b strings.Builder
	for n, held := range s.world.Nodes() {
		fmt.Fprintf(&b, "%s: cpu %s of %s, memory %d of %d:", n.Name, api.FormatCPU(held.CPU), api.FormatCPU(n.Resources.CPU),
			held.Memory, n.Resources.Memory)
		for _, job := range s.jobs {
			for row := range s.world.Allocations(job) {
				if row.Node == n.ID && row.Live() {
					fmt.Fprintf(&b, " %s", api.InstanceName(row.Job, row.Task, row.Slot))
					for _, c := range s.world.Claims(row.ID) {
						b.WriteString("+" + claimText(c))
					}
				}
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
