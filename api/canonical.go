package api

import (
	"cmp"
	"slices"
	"strings"
)

// Canonicalize fills in what a job left out and puts its parts in their order, so that equal jobs look equal. It changes
// the job in place; it is done once, before Validate and before the job is shared.
func (j *Job) Canonicalize() {
	if j.Type == "" {
		j.Type = JobService
	}
	if j.Priority == 0 {
		j.Priority = DefaultPriority
	}
	if len(j.Datacenters) == 0 { // none and an empty list both mean any
		j.Datacenters = nil
	}
	if j.Periodic != nil {
		j.Periodic.canonicalize()
	}
	if j.Parameterized != nil {
		j.Parameterized.canonicalize()
	}
	slices.SortFunc(j.Tasks, func(a, b *Task) int { return cmp.Compare(taskName(a), taskName(b)) })
	for _, t := range j.Tasks {
		if t != nil {
			t.canonicalize()
			if t.Reschedule == DefaultReschedule(j.Type) {
				t.Reschedule = Reschedule{}
			}
		}
	}
}

// Asked returns what a user may write of the job: the rest is the state's. Canonicalize may be called of it and leaves j as it is,
// but for the tasks, which both have.
func (j *Job) Asked() *Job {
	out := j.spec()
	out.Tasks = slices.Clone(j.Tasks)
	if p := j.Periodic; p != nil {
		out.Periodic = &Periodic{Crons: slices.Clone(p.Crons), TimeZone: p.TimeZone, ProhibitOverlap: p.ProhibitOverlap, OnMissed: p.OnMissed}
	}
	if p := j.Parameterized; p != nil {
		out.Parameterized = &Parameterized{Payload: p.Payload, MetaRequired: slices.Clone(p.MetaRequired), MetaOptional: slices.Clone(p.MetaOptional)}
	}
	return out
}

// taskName is the name of a task that may be nil, as a null in JSON makes it; Validate refuses it later.
func taskName(t *Task) string {
	if t == nil {
		return ""
	}
	return t.Name
}

func (t *Task) canonicalize() {
	slices.SortFunc(t.Ports, func(a, b Port) int { return cmp.Compare(a.Label, b.Label) })
	slices.Sort(t.Sensitive)
	t.KillSignal = strings.ToUpper(t.KillSignal)
	if t.KillSignal != "" && !strings.HasPrefix(t.KillSignal, "SIG") {
		t.KillSignal = "SIG" + t.KillSignal
	}
	t.canonicalizeVolumes()
	t.canonicalizeEphemeralDisk()
	slices.SortFunc(t.Devices, func(a, b DeviceRequest) int { return cmp.Compare(a.Type, b.Type) })
	for i := range t.Devices {
		d := &t.Devices[i]
		d.Count, d.Share = cmp.Or(d.Count, 1), cmp.Or(d.Share, WholeDevice)
		canonicalizeConstraints(d.Constraints)
	}
	t.canonicalizeChecks()
	t.canonicalizeDependencies()
	t.canonicalizeParts()
	canonicalizeConstraints(t.Constraints)
	for i := range t.Affinities {
		a := &t.Affinities[i]
		a.Attribute = bareAttribute(a.Attribute)
		a.Operator = cmp.Or(a.Operator, OpEqual)
		a.Weight = cmp.Or(a.Weight, DefaultWeight)
	}
	for i := range t.Spreads {
		s := &t.Spreads[i]
		s.Attribute = bareAttribute(s.Attribute)
		s.Weight = cmp.Or(s.Weight, DefaultWeight)
	}
}

func canonicalizeConstraints(list []Constraint) {
	for i := range list {
		c := &list[i]
		c.Attribute = bareAttribute(c.Attribute)
		c.Operator = cmp.Or(c.Operator, OpEqual)
	}
}

// bareAttribute takes the ${} off an attribute's name.
func bareAttribute(s string) string {
	if inner, ok := strings.CutPrefix(s, "${"); ok {
		if inner, ok = strings.CutSuffix(inner, "}"); ok {
			return strings.TrimSpace(inner)
		}
	}
	return s
}
