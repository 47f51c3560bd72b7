package api

import "time"

// Update is how a new version of a task takes the place of the old one.
type Update struct {
	// MinHealthyTime is how long an instance must have run before it can be healthy. Without checks that is all that it
	// takes. A rolling update goes on when the new instance is healthy.
	MinHealthyTime time.Duration
}

// DefaultMinHealthyTime: most programs that cannot live with their configuration die within it, and a person who watches an
// update of three instances still waits for it.
const DefaultMinHealthyTime = 5 * time.Second

// DefaultUpdate is what a task without an update block has.
func DefaultUpdate() Update { return Update{MinHealthyTime: DefaultMinHealthyTime} }

// IsZero reports whether there is nothing to say: the task has the default. JSON leaves it out then, as it did before there
// was an update block, so that what was said then and what is said now are the same text.
func (u Update) IsZero() bool { return u == DefaultUpdate() }

func (u Update) validate() error {
	if u.MinHealthyTime < 0 || u.MinHealthyTime > maxTimeout {
		return faultf("min_healthy_time", "min_healthy_time %s is not from 0 to %s", u.MinHealthyTime, maxTimeout)
	}
	return nil
}
