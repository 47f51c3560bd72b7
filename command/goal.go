package command

import (
	"time"

	"cube/api"
)

// goal is what a monitor waits for at one job. It is pure: it is told what was seen and when, and says how far things
// are. Goals are used by one goroutine.
type goal interface {
	// look takes what a read gave. err is that of the read; status is nil then.
	look(status *api.JobStatus, err error, now time.Time)
	// lines are the instances to show, in order.
	lines() []instanceLine
	verdict(now time.Time) verdict
	// late is the verdict when patience is over.
	late(now time.Time) verdict
}

// outcome is how a goal stands.
type outcome int

const (
	waiting outcome = iota
	reached
	stuck // it will not be reached, as far as can be told
)

// verdict is a goal's answer to "are we there?".
type verdict struct {
	outcome outcome
	summary string    // one sentence, when it is not waiting
	reasons []string  // why it is stuck; lines for people, made safe
	wake    time.Time // when to ask again though nothing has changed; zero: no need
	bounded bool      // it is waiting for what has deadlines of its own, and so ends without anybody's patience
}

// instanceLine is one instance as a monitor shows it.
type instanceLine struct {
	name, id, node string
	phase          string
	note           string // what it waits for, or why it ended
	restarts       int
	settled        bool // nothing more is expected of it
}

// unreachable reports whether a read failed for a reason that will pass, so that it is worth asking again.
func unreachable(err error) bool {
	switch api.CodeOf(err) {
	case "", api.CodeNotFound, api.CodeInvalid, api.CodeForbidden, api.CodeAmbiguous, api.CodeNotYet, api.CodeIncompatible:
		return false
	}
	return true
}
