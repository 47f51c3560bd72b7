package scheduler_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"cube/api"
	"cube/scheduler"
)

// What the lines of a story say of tasks and of nodes' devices: see TestStories.

func taskWords(t *api.Task, words []string) (err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "count":
			t.Count, err = strconv.Atoi(value)
		case "image":
			t.Image = value
		case "driver":
			t.Driver = value
		case "cpu", "memory", "disk":
			err = setResource(&t.Resources, key, value)
		default:
			err = fmt.Errorf("unknown word %q", w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func taskLine(t *api.Task, words []string) error {
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "constraint":
		c := api.Constraint{Attribute: at(1), Operator: at(2), Value: at(3)}
		if at(1) == api.OpDistinctHosts {
			c = api.Constraint{Operator: api.OpDistinctHosts}
		}
		t.Constraints = append(t.Constraints, c)
	case "affinity":
		weight, err := strconv.Atoi(at(4))
		t.Affinities = append(t.Affinities, api.Affinity{Attribute: at(1), Operator: at(2), Value: at(3), Weight: weight})
		return err
	case "spread":
		weight, err := strconv.Atoi(at(2))
		sp := api.Spread{Attribute: at(1), Weight: weight}
		for _, w := range words[3:] {
			value, percent, _ := strings.Cut(w, "=")
			p, _ := strconv.Atoi(percent)
			sp.Targets = append(sp.Targets, api.SpreadTarget{Value: value, Percent: p})
		}
		t.Spreads = append(t.Spreads, sp)
		return err
	case "port":
		p := api.Port{Label: at(1)}
		for _, w := range words[2:] {
			key, value, _ := strings.Cut(w, "=")
			n, _ := strconv.Atoi(value)
			if key == "static" {
				p.Static = n
			} else {
				p.To = n
			}
		}
		t.Ports = append(t.Ports, p)
	case "migrate":
		t.Migrate.MaxParallel, _ = strconv.Atoi(at(1))
		if at(2) != "" {
			t.Migrate.Order = at(2)
		}
		if at(3) != "" {
			var err error
			t.Migrate.HealthyDeadline, err = time.ParseDuration(at(3))
			return err
		}
	case "disconnect":
		return disconnectLine(t, words[1:])
	case "depends":
		timeout, err := time.ParseDuration(cmp.Or(at(3), "0s"))
		t.DependsOn = append(t.DependsOn, api.Dependency{Task: at(1), Condition: at(2), Timeout: timeout})
		return err
	case "sticky":
		t.EphemeralDisk = &api.EphemeralDisk{Sticky: true}
	case "volume":
		v := api.VolumeRequest{Name: at(1), Source: at(1), Access: api.AccessSingleWriter}
		if at(2) != "" {
			v.Access = at(2)
		}
		t.Volumes = append(t.Volumes, v)
	case "device":
		d := api.DeviceRequest{Type: at(1), Count: 1, Share: api.WholeDevice}
		for _, w := range words[2:] {
			key, value, _ := strings.Cut(w, "=")
			f, _ := strconv.ParseFloat(value, 64)
			if key == "share" {
				d.Share = int(f * api.WholeDevice)
			} else {
				d.Count = int(f)
			}
		}
		t.Devices = append(t.Devices, d)
	case "reschedule":
		return rescheduleWords(t, words[1:])
	case "if":
		d := &t.Devices[len(t.Devices)-1]
		d.Constraints = append(d.Constraints, api.Constraint{Attribute: at(1), Operator: at(2), Value: at(3)})
	default:
		return fmt.Errorf("unknown line %q", words)
	}
	return nil
}

func rescheduleWords(t *api.Task, words []string) (err error) {
	r := api.DefaultReschedule(api.JobService)
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "attempts":
			r.Attempts, err = strconv.Atoi(value)
			r.Interval = max(r.Interval, time.Hour)
		case "interval":
			r.Interval, err = time.ParseDuration(value)
		case "delay":
			r.Delay, err = time.ParseDuration(value)
		case "function":
			r.DelayFunction = value
		}
		if err != nil {
			return err
		}
	}
	t.Reschedule = r
	return nil
}

// addDevices gives the node a group; its IDs go on where those of the type before it end.
func addDevices(n *api.Node, kind, text string) {
	words := strings.Split(text, ",")
	number, model, _ := strings.Cut(words[0], "*")
	count, _ := strconv.Atoi(number)
	g := api.DeviceGroup{Type: kind, Model: model}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if g.Attributes == nil {
			g.Attributes = map[string]string{}
		}
		g.Attributes[key] = value
	}
	from := 0
	for _, other := range n.Devices {
		if other.Type == kind {
			from += len(other.IDs)
		}
	}
	for i := range count {
		g.IDs = append(g.IDs, fmt.Sprintf("%s%d", kind, from+i))
	}
	n.Devices = append(n.Devices, g)
}

// rebalance prints what would be moved.
func (s *story) rebalance(d *datadriven.TestData) (string, error) {
	o := scheduler.Options{Load: func(id string) (api.NodeLoad, bool) { l, ok := s.loads[id]; return l, ok }}
	least, most := 5.0, 500
	var err error
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "min-gain":
			least, err = strconv.ParseFloat(a.Vals[0], 64)
		case "most":
			most, err = strconv.Atoi(a.Vals[0])
		case "algorithm":
			o.Algorithm = a.Vals[0]
		}
	}
	var nodes []string
	for n := range s.world.Nodes() {
		nodes = append(nodes, n.Name)
	}
	found := scheduler.Rebalance(s.world, most, least, o)
	var b strings.Builder
	fmt.Fprintf(&b, "%d looked at, more %t\n", found.Looked, found.More)
	for _, m := range found.Moves {
		fmt.Fprintf(&b, "%s -> %s: %.1f (%s)\n", s.name(m.Row.ID), nodes[m.To], m.Gain, m.Why)
	}
	for _, l := range found.Left {
		fmt.Fprintf(&b, "%d left: %s\n", l.Instances, l.Why)
	}
	return b.String(), err
}

// move puts a rebalance of one move under way, or ends it.
func (s *story) move(d *datadriven.TestData) {
	switch d.CmdArgs[0].Key {
	case "end":
		s.world.PutRebalance(nil)
	case "undo":
		r := *s.world.Rebalancing()
		r.Moves = slices.Clone(r.Moves)
		r.Moves[0].Stage, r.Moves[0].Reason = api.MoveUndone, "not healthy in time"
		s.world.PutRebalance(&r)
	default:
		row := s.slotRows(d.CmdArgs[0].Key, true)[0]
		s.world.PutRebalance(&api.Rebalance{Stage: api.RebalanceMoving, By: "alice", Moves: []api.Move{{Allocation: row.ID, Job: row.Job, Task: row.Task,
			Slot: row.Slot, From: row.Node, To: d.CmdArgs[1].Key, Stage: api.MoveUnder, Begun: s.world.Index()}}})
	}
}

func disconnectLine(t *api.Task, words []string) (err error) {
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "lost":
			t.Disconnect.LostAfter, err = time.ParseDuration(value)
		case "alone":
			t.Disconnect.Replace = false
		case "keep":
			t.Disconnect.Reconcile = value
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keeps reports whether an allocation is kept for a while when its node goes down.
func (s *story) keeps(row *api.AllocationRow) bool {
	j := s.world.JobVersion(row.Job, row.Version)
	return j != nil && j.Task(row.Task) != nil && j.Task(row.Task).Disconnect.Keeps() && row.Desired == api.DesiredRun
}

func (s *story) nodeBack(id string) {
	for n := range s.world.Nodes() {
		if n.ID == id {
			back := *n
			back.Status, back.Absence = api.NodeReady, &api.Absence{Since: n.Absence.Since, Until: time.Unix(0, s.world.Now())}
			s.world.PutNode(&back)
			return
		}
	}
}
