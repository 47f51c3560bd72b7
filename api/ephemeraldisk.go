package api

import "cmp"

// EphemeralDisk is a directory of its own that each instance of a task has. It lasts over restarts in place, and goes with the
// instance, unless it is sticky.
type EphemeralDisk struct {
	Destination string `json:",omitempty"` // where it is inside a container; canonical: DefaultEphemeralDisk. raw_exec has none
	// Sticky has the next instance of a slot placed on the node of the one before it, if that can take it, and gives it the
	// directory as the latest instance of its slot on that node left it.
	Sticky bool `json:",omitempty"`
	// Move says what becomes of the directory of a sticky disk when the next instance of the slot is placed on another node. MoveMust,
	// MoveNever, or "" for MoveTry.
	Move string `json:",omitempty"`
}

// DefaultEphemeralDisk is where the directory is inside a container that is not told otherwise.
const DefaultEphemeralDisk = "/alloc"

// Sticky reports whether the instances of the task's slots inherit their directories.
func (t *Task) Sticky() bool { return t.EphemeralDisk != nil && t.EphemeralDisk.Sticky }

// MovesData reports whether the directories of the task's instances are moved between nodes.
func (t *Task) MovesData() bool { return t.Sticky() && t.EphemeralDisk.Move != MoveNever }

func (t *Task) canonicalizeEphemeralDisk() {
	if t.EphemeralDisk == nil {
		return
	}
	d := *t.EphemeralDisk // it may be another task's too
	if t.Driver != "raw_exec" {
		d.Destination = cmp.Or(d.Destination, DefaultEphemeralDisk)
	}
	if d.Move == MoveTry {
		d.Move = ""
	}
	t.EphemeralDisk = &d
}

func (t *Task) validateEphemeralDisk() error {
	d := t.EphemeralDisk
	if d == nil {
		return nil
	}
	if t.Driver == "raw_exec" && d.Destination != "" {
		return in("ephemeral_disk", faultf("destination", "destination has no meaning for the raw_exec driver: CUBE_ALLOC_DIR holds the path"))
	}
	if t.Driver != "raw_exec" {
		if err := checkDestination(d.Destination); err != nil {
			return in("ephemeral_disk", err)
		}
	}
	for i := range t.Volumes {
		if v := &t.Volumes[i]; v.Destination == d.Destination && d.Destination != "" {
			return in("ephemeral_disk", faultf("destination", "destination %.80q belongs to volume %q already", d.Destination, v.Name))
		}
	}
	switch d.Move {
	case "", MoveTry, MoveMust, MoveNever:
	default:
		return in("ephemeral_disk", faultf("move", "move %.40q is none of %s, %s, %s", d.Move, MoveTry, MoveMust, MoveNever))
	}
	if d.Move != "" && !d.Sticky {
		return in("ephemeral_disk", faultf("move", "move is for a directory that is sticky"))
	}
	if t.MovesData() && t.Migrate.Order == OrderStartFirst {
		return in("migrate", faultf("order", "order %s runs two instances side by side, so the data of a sticky ephemeral_disk cannot move with them; use %s, or move = %q in ephemeral_disk",
			OrderStartFirst, OrderStopFirst, MoveNever))
	}
	if d.Sticky && t.Update.Canary > 0 {
		return in("update", faultf("canary", "a canary runs beside the instance whose place it is to take, and a sticky ephemeral_disk is handed from one to the next; leave canary out"))
	}
	if d.Sticky && t.Update.Order == OrderStartFirst {
		return in("update", faultf("order", "order %s runs two instances side by side, and a sticky ephemeral_disk is handed from one to the next; use %s", OrderStartFirst, OrderStopFirst))
	}
	return nil
}
