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
		Periodic: j.Periodic, Parameterized: j.Parameterized, Tasks: j.Tasks,
	}
}

// SameInstance reports whether an instance of task a is already what task b asks for. How many there are and where they may
// stand, what it waits for, what happens when one ends, how it is asked about its health, how it is replaced and moved, what becomes of it
// when its node is not heard of, how long it is out of rotation before it ends and what people note about it can change without touching a running instance; anything else cannot.
func SameInstance(a, b *Task) bool { return sameJSON(a.instance(), b.instance()) }

// SameLine reports whether batch instances of two tasks are of one line: what has completed in the one has in the other. The
// state decides by it when entries of the log are applied, so it stays what SameInstance was when there was no other: a
// change of meta begins a new line.
func SameLine(a, b *Task) bool { return SameInstance(a, b) && sameJSON(a.Meta, b.Meta) }

// instance is the part of the task that a running instance is made of.
func (t *Task) instance() *Task {
	c := *t
	c.Count, c.Constraints, c.Affinities, c.Spreads, c.Restart = 0, nil, nil, nil, Restart{}
	c.Reschedule = Reschedule{}
	c.Checks, c.Update, c.DependsOn, c.Meta = nil, Update{}, nil, nil
	c.ShutdownDelay, c.MaxRunDuration, c.Migrate, c.Disconnect = 0, 0, Migrate{}, Disconnect{}
	if d := c.EphemeralDisk; d != nil && d.Move != "" {
		c.EphemeralDisk = &EphemeralDisk{Destination: d.Destination, Sticky: d.Sticky}
	}
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
