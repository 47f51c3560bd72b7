// Package reunion decides which of two instances of one slot stays: the original, whose node was not heard of for a while, or
// the replacement that was placed beside it meanwhile. It is pure, and looks at nothing but the two.
package reunion

import (
	"time"

	"cube/api"
)

// Instance is one of the two.
type Instance struct {
	Well    bool  // it is healthy, and its node is heard of
	Leaves  bool  // its node is being drained
	Started int64 // when its present run began, Unix milliseconds by its node's clock; 0: it has not
}

// Verdict is which one stays.
type Verdict uint8

const (
	Undecided Verdict = iota // neither is healthy, and there is time
	Original
	Replacement
)

// Decide says which one stays. One that is well stays rather than one that is not, whatever the task asks for; and of two that
// are, one that need not leave its node at once. Else it is for the task's reconcile to say. While neither is well nothing is
// decided, so that none is stopped before the other is known to run, unless that lasts too long.
func Decide(reconcile string, original, replacement Instance, late bool) Verdict {
	switch {
	case original.Well != replacement.Well:
		return choose(original.Well)
	case !original.Well && !late:
		return Undecided
	case original.Leaves != replacement.Leaves:
		return choose(replacement.Leaves)
	}
	return Prefer(reconcile, original, replacement)
}

// Prefer says which one a task asks for, of two that are as good as each other. An instance that has not started has run for no
// time; of two that started at the same time the original stays.
func Prefer(reconcile string, original, replacement Instance) Verdict {
	switch reconcile {
	case api.ReconcileReplacement:
		return Replacement
	case api.ReconcileLongest:
		return choose(replacement.Started == 0 || original.Started != 0 && original.Started <= replacement.Started)
	}
	return Original
}

func choose(original bool) Verdict {
	if original {
		return Original
	}
	return Replacement
}

// Apart reports whether an instance that succeeds another was placed because the other's node was away: then the two are to be
// reunited once that is back.
func Apart(absence *api.Absence, placed int64) bool {
	return absence != nil && placed >= absence.Since.UnixNano() && (absence.Until.IsZero() || placed <= absence.Until.UnixNano())
}

// GivenUp is when an instance of a node that is away is lost.
func GivenUp(absence *api.Absence, d api.Disconnect) time.Time { return absence.Since.Add(d.LostAfter) }
