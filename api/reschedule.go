package api

import (
	"math"
	"slices"
	"time"
)

// Delay functions: how the delay before an instance is placed again grows.
const (
	DelayConstant    = "constant"    // always Delay
	DelayExponential = "exponential" // twice as long each time
	DelayFibonacci   = "fibonacci"   // each the sum of the two before it
)

// DelayFunctions lists the delay functions that there are.
func DelayFunctions() []string { return []string{DelayConstant, DelayExponential, DelayFibonacci} }

// Reschedule is how an instance that failed for good, its restart policy used up, is placed again, on another node if one fits.
// The delay begins anew after an instance has lasted for MaxDelay.
type Reschedule struct {
	Attempts      int           // allowed within Interval; -1: no limit
	Interval      time.Duration `json:",omitempty"` // the window that Attempts counts in; it begins with the first failure
	Delay         time.Duration // from a failure to the next instance
	DelayFunction string
	MaxDelay      time.Duration // what no delay is longer than
}

// DefaultReschedule is what tasks without a reschedule block do. A service is to run: it is tried for ever, at last every ten
// minutes, so that who repairs what it needs sees it come back. A batch instance is tried once more, elsewhere and soon: a second
// failure in a day is its own. Where a job has an instance on every node, another is placed on the same one.
func DefaultReschedule(t JobType) Reschedule {
	if t.Completes() {
		return Reschedule{Attempts: 1, Interval: 24 * time.Hour, Delay: 5 * time.Second, DelayFunction: DelayConstant, MaxDelay: 5 * time.Second}
	}
	return Reschedule{Attempts: -1, Delay: 30 * time.Second, DelayFunction: DelayExponential, MaxDelay: 10 * time.Minute}
}

// Rescheduling is the policy in force for the task in a job of that type.
func (t *Task) Rescheduling(kind JobType) Reschedule {
	if t.Reschedule == (Reschedule{}) {
		return DefaultReschedule(kind)
	}
	return t.Reschedule
}

// Trial counts how often the instance of a slot was placed again because the one before it failed. The zero value is the first
// instance of a slot.
type Trial struct {
	Since  int64  // Unix nanoseconds, the state's time: when the interval began that Used counts in
	Used   uint32 // placed again in it
	Streak uint32 // placed again one soon after the other: what the delay grows with
}

// Past is what is known of an instance that ended: all that placing it again depends on.
type Past struct {
	Trial    Trial
	PlacedAt int64    // Unix nanoseconds, the state's time
	EndedAt  int64    // likewise
	Failed   []string // IDs of the nodes on which the slot's instances of its version failed lately, the latest first
}

// Next says when an instance may take the place of one that failed, in Unix nanoseconds, and what it is to be told of its
// past; ok is false when the attempts are used up.
func (r Reschedule) Next(p Past) (next Trial, due int64, ok bool) {
	next = p.Trial
	if next.Used == 0 || r.Interval > 0 && p.EndedAt-next.Since >= int64(r.Interval) {
		next.Since, next.Used = p.EndedAt, 0
	}
	if p.EndedAt-p.PlacedAt >= int64(max(r.MaxDelay, r.Delay)) {
		next.Streak = 0
	}
	if r.Attempts >= 0 && int64(next.Used) >= int64(r.Attempts) {
		return Trial{}, 0, false
	}
	delay := r.delay(next.Streak)
	next.Used = min(next.Used, math.MaxUint32-1) + 1
	next.Streak = min(next.Streak, math.MaxUint32-1) + 1
	return next, p.EndedAt + int64(delay), true
}

// delay is how long the instance waits that is placed again after n others in a row.
func (r Reschedule) delay(n uint32) time.Duration {
	ceiling := max(r.Delay, r.MaxDelay)
	before, d := time.Duration(0), r.Delay
	for ; n > 0 && 0 < d && d < ceiling; n-- {
		switch r.DelayFunction {
		case DelayExponential:
			d *= 2
		case DelayFibonacci:
			before, d = d, d+before
		default:
			return d
		}
	}
	return min(d, ceiling)
}

// validate checks a policy that somebody wrote down. One beside a restart policy that never gives up would never be asked, unless
// runs may take too long.
func (r Reschedule) validate(t *Task) error {
	switch {
	case r == (Reschedule{}):
		return nil
	case r.Attempts < -1 || r.Attempts > MaxTaskInstances:
		return faultf("attempts", "attempts %d is not from -1 to %d", r.Attempts, MaxTaskInstances)
	case r.Attempts < 0 && r.Interval != 0:
		return faultf("interval", "interval has no meaning without attempts: there is no limit to them")
	case r.Attempts > 0 && (r.Interval < minInterval || r.Interval > 365*maxTimeout):
		return faultf("interval", "interval %s is not from %s to a year", r.Interval, minInterval)
	case r.Delay < 0 || r.Delay > maxTimeout:
		return faultf("delay", "delay %s is not from 0 to %s", r.Delay, maxTimeout)
	case r.Attempts < 0 && r.Delay < minInterval:
		return faultf("delay", "delay %s is too short without a limit of attempts: at least %s", r.Delay, minInterval)
	case r.MaxDelay < r.Delay || r.MaxDelay > maxTimeout:
		return faultf("max_delay", "max_delay %s is not from delay (%s) to %s", r.MaxDelay, r.Delay, maxTimeout)
	case !slices.Contains(DelayFunctions(), r.DelayFunction):
		return faultf("delay_function", "delay_function %.40q is none of constant, exponential, fibonacci", r.DelayFunction)
	case r.Attempts != 0 && t.Restart.Mode != RestartFail && t.MaxRunDuration == 0:
		return faultf("", "reschedule would never be asked: the restart policy goes on for ever; give restart { attempts = 3, mode = \"fail\" } too")
	}
	return nil
}
