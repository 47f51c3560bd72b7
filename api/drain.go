package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// DrainStage is how far the drain of a node has come.
type DrainStage string

const (
	DrainMoving   DrainStage = "moving"   // services go elsewhere, batch instances run to their end
	DrainSystem   DrainStage = "system"   // nothing is left but the instances of system jobs, which go now
	DrainForced   DrainStage = "forced"   // the deadline has come: all that is left stops at once
	DrainComplete DrainStage = "complete" // nothing is left that was to go
)

// Drain is that a node is being emptied, or was. It begins with a person's wish and stays with the node, which takes nothing
// new meanwhile or afterwards, until the node is made eligible.
type Drain struct {
	Stage        DrainStage
	By           string    `json:",omitempty"` // who asked for it; "" if it is not known
	Message      string    `json:",omitempty"` // why, in that person's words
	StartedAt    time.Time // the leader's clock, as all of these
	Deadline     time.Time // what is left then stops at once
	EndedAt      time.Time // zero: it is under way
	IgnoreSystem bool      `json:",omitempty"` // instances of system jobs stay
	Instances    int       // that were to go when it began
}

// Active reports whether the drain is under way. A nil drain is not.
func (d *Drain) Active() bool { return d != nil && d.Stage != DrainComplete }

// Cause is why an instance had to leave the node, as it is recorded with the instance: "node n2 drained by alice: kernel
// update".
func (d *Drain) Cause(node string) string {
	cause := "node " + node + " drained"
	if d.By != "" {
		cause += " by " + d.By
	}
	if d.Stage == DrainForced {
		cause += ", deadline reached"
	}
	if d.Message != "" {
		cause += ": " + d.Message
	}
	return cause
}

// Evicts reports whether instances of a type of job are to leave the node now: a drain moves services, leaves batch instances
// to their end until its deadline, and has the system jobs' instances go last, if at all.
func (n *Node) Evicts(t JobType) bool {
	d := n.Drain
	switch {
	case !d.Active() || !d.Drains(t):
		return false
	case d.Stage == DrainForced || t == JobService:
		return true
	}
	return t == JobSystem && d.Stage == DrainSystem
}

// Drains reports whether an instance of a type of job has to be gone before the drain of its node is complete.
func (d *Drain) Drains(t JobType) bool {
	return !d.IgnoreSystem || t != JobSystem && t != JobSysbatch
}

// Bounds of a drain.
const (
	DefaultDrainDeadline = time.Hour // long enough to move what starts slowly, and to notice that something cannot move
	MaxDrainDeadline     = 365 * 24 * time.Hour
)

// DrainRequest asks for a node to be emptied. A drain that is under way takes over what the request says, counted from now.
type DrainRequest struct {
	Deadline     time.Duration `json:",omitempty"` // from now; 0: DefaultDrainDeadline
	Force        bool          `json:",omitempty"` // stop everything at once: the deadline is now
	IgnoreSystem bool          `json:",omitempty"` // leave instances of system jobs where they are
	Message      string        `json:",omitempty"` // why, in at most MaxReason bytes: it is recorded with each instance that goes
}

// Check says what is wrong with a request.
func (r *DrainRequest) Check() error {
	switch {
	case r.Deadline < 0:
		return Errorf(CodeInvalid, "the deadline %s is negative; give how long the drain may take, such as 1h, or -force", r.Deadline)
	case r.Deadline > MaxDrainDeadline:
		return Errorf(CodeInvalid, "the deadline %s is more than a year away", r.Deadline)
	case r.Deadline > 0 && r.Force:
		return Errorf(CodeInvalid, "a drain with -force stops everything at once and has no use for a deadline")
	}
	return checkReason("message", r.Message)
}

// CancelDrainRequest ends a drain: what has moved stays where it is.
type CancelDrainRequest struct {
	KeepIneligible bool `json:",omitempty"` // place nothing new on the node even so
}

// DrainStatus is how the drain of a node gets on.
type DrainStatus struct {
	Node     string // ID
	NodeName string
	Drain    *Drain             // nil: the node was never drained, or the drain was cancelled
	Left     []DrainingInstance // what is still on the node and has to go, by name
}

// DrainingInstance is an instance that is still on a node that is being drained.
type DrainingInstance struct {
	Allocation string // ID
	Name       string // web[3]
	Desired    Desired
	Phase      Phase
	Successor  string       `json:",omitempty"` // ID of the allocation that is to take its place
	Node       string       `json:",omitempty"` // name of the successor's node
	Health     HealthStatus // of the successor
	Waits      string       // what it waits for: "web[3] waits to be healthy on n2"
	Stuck      bool         `json:",omitempty"` // it cannot go before the deadline as things are
}

// Moved is how many instances have gone.
func (s *DrainStatus) Moved() int {
	if s.Drain == nil {
		return 0
	}
	return max(0, s.Drain.Instances-len(s.Left))
}

// Lines say how the drain gets on: "12 of 20 instances moved", and what the rest waits for, the same thing once.
func (s *DrainStatus) Lines() []string {
	if s.Drain == nil {
		return []string{"node " + s.NodeName + " is not being drained"}
	}
	lines := []string{fmt.Sprintf("%d of %d instances moved", s.Moved(), max(s.Drain.Instances, len(s.Left)))}
	for _, left := range s.Left {
		if !slices.Contains(lines, left.Waits) {
			lines = append(lines, left.Waits)
		}
	}
	return lines
}

// Drains is the emptying of nodes.
type Drains interface {
	// DrainNode begins to empty a node, or changes the drain that is under way. CodeConflict: the node is down.
	DrainNode(ctx context.Context, id string, r DrainRequest, w WriteMeta) (*NodeView, error)
	// CancelDrain ends a drain that is under way. CodeConflict: there is none.
	CancelDrain(ctx context.Context, id string, r CancelDrainRequest, w WriteMeta) (*NodeView, error)
	// NodeDrain says how a drain gets on. It is woken by each change on the node.
	NodeDrain(ctx context.Context, id string, q Query) (*DrainStatus, ReadMeta, error)
}

// Migrate is how instances of a task leave a node that is being drained.
type Migrate struct {
	MaxParallel int    // how many are on the move at a time
	Order       string // OrderStartFirst or OrderStopFirst
	// MinHealthyTime is how long what takes the place of an instance that is moved must have run before it can be healthy; 0:
	// what the task's Update says.
	MinHealthyTime time.Duration `json:",omitempty"`
	// HealthyDeadline is how long that may take from its placement until it is healthy; past it the others need not wait for it
	// any more. 0: what the task's Update says, and time for MinHealthyTime.
	HealthyDeadline time.Duration `json:",omitempty"`
}

// Move returns how long what takes the place of an instance that is moved must have run before it can be healthy, and how long it
// may take until it is.
func (t *Task) Move() (minHealthy, deadline time.Duration) {
	minHealthy, deadline = t.Update.MinHealthyTime, t.Update.HealthyDeadline
	if m := t.Migrate.MinHealthyTime; m != 0 {
		minHealthy, deadline = m, max(deadline, 2*m)
	}
	return minHealthy, cmp.Or(t.Migrate.HealthyDeadline, deadline)
}

// DefaultMigrate moves one instance at a time, and never has fewer than there are to be.
func DefaultMigrate() Migrate { return Migrate{MaxParallel: 1, Order: OrderStartFirst} }

// IsZero reports whether there is nothing to say, as Update.IsZero does.
func (m Migrate) IsZero() bool { return m == DefaultMigrate() }

// UnmarshalJSON fills in the defaults for what the text leaves out. Unknown fields are errors.
func (m *Migrate) UnmarshalJSON(b []byte) error {
	type plain Migrate // without this method
	p := plain(DefaultMigrate())
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return err
	}
	*m = Migrate(p)
	return nil
}

func (t *Task) validateMigrate() error {
	m := t.Migrate
	minHealthy, deadline := t.Move()
	switch {
	case m.MaxParallel < 1 || m.MaxParallel > MaxTaskInstances:
		return faultf("max_parallel", "max_parallel %d is not from 1 to %d", m.MaxParallel, MaxTaskInstances)
	case m.Order != OrderStartFirst && m.Order != OrderStopFirst:
		return faultf("order", "order %.40q is neither %s nor %s", m.Order, OrderStartFirst, OrderStopFirst)
	case m.MinHealthyTime < 0 || m.MinHealthyTime > maxTimeout:
		return faultf("min_healthy_time", "min_healthy_time %s is not from 0 to %s", m.MinHealthyTime, maxTimeout)
	case m.HealthyDeadline < 0 || m.HealthyDeadline > maxDeadline:
		return faultf("healthy_deadline", "healthy_deadline %s is not above 0 and at most %s", m.HealthyDeadline, maxDeadline)
	case m.HealthyDeadline > 0 && deadline <= minHealthy:
		return faultf("healthy_deadline", "healthy_deadline %s is not above min_healthy_time %s: no instance could be healthy in time", deadline, minHealthy)
	}
	return nil
}
