package api

import (
	"bytes"
	"encoding/json"
)

// SpecEqual reports whether two jobs ask for the same: what the state adds to a job, and the text it was parsed from, do
// not count. Registering an equal job makes no new version.
func SpecEqual(a, b *Job) bool { return sameJSON(a.spec(), b.spec()) }

// spec is the part of the job that its user wrote.
func (j *Job) spec() *Job {
	return &Job{
		Name: j.Name, Type: j.Type, Datacenters: j.Datacenters, Priority: j.Priority, Meta: j.Meta, Scheduler: j.Scheduler,
		Tasks: j.Tasks,
	}
}

// SameInstance reports whether an instance of task a is already what task b asks for. How many there are and where they may
// stand, what it waits for, what happens when one ends, how it is asked about its health, how it is replaced and how long it is out of
// rotation before it ends can change without touching a running instance; anything else cannot.
func SameInstance(a, b *Task) bool { return sameJSON(a.instance(), b.instance()) }

// instance is the part of the task that a running instance is made of.
func (t *Task) instance() *Task {
	c := *t
	c.Count, c.Constraints, c.Affinities, c.Spreads, c.Restart = 0, nil, nil, nil, Restart{}
	c.Checks, c.Update, c.DependsOn, c.ShutdownDelay = nil, Update{}, nil, 0
	return &c
}

// sameJSON compares what two values say rather than how they hold it: an empty map and none, 3 and 3.0, are the same.
func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// SameTask reports whether two tasks say the same in every respect.
func SameTask(a, b *Task) bool { return sameJSON(a, b) }
