package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Reconcile says which of two instances of a slot stays when the node of the first is heard of again.
const (
	ReconcileOriginal    = "keep_original"
	ReconcileReplacement = "keep_replacement"
	ReconcileLongest     = "longest_running"
)

// Reconciles lists them.
func Reconciles() []string {
	return []string{ReconcileOriginal, ReconcileReplacement, ReconcileLongest}
}

// Disconnect is what becomes of a task's instances when their node is not heard of.
type Disconnect struct {
	// LostAfter is how long after its node was declared down an instance is kept as one that may run. 0: it is lost at once.
	LostAfter time.Duration `json:",omitempty"`
	// Replace has another placed beside it at once; else nothing takes its place before it is lost.
	Replace bool
	// Reconcile is which of the two stays if it is heard of again.
	Reconcile string
	// StopOnClientAfter is how long a client may be without any server before it stops the instances itself. 0: it never does.
	StopOnClientAfter time.Duration `json:",omitempty"`
}

// MinStopOnClientAfter is what an election and the search for another server take at the most when all is well: who has instances
// stop sooner loses them all with one server.
const MinStopOnClientAfter = 5 * time.Second

// MaxLostAfter bounds both times.
const MaxLostAfter = 365 * 24 * time.Hour

// DefaultDisconnect loses instances with their node. Where they are kept, the original stays if it is well: the outcome is then
// what it would be had the node never been away, and what the instance has gathered there is not thrown away.
func DefaultDisconnect() Disconnect { return Disconnect{Replace: true, Reconcile: ReconcileOriginal} }

// IsZero reports whether there is nothing to say, as Update.IsZero does.
func (d Disconnect) IsZero() bool { return d == DefaultDisconnect() || d == Disconnect{} }

// UnmarshalJSON fills in the defaults for what the text leaves out. Unknown fields are errors.
func (d *Disconnect) UnmarshalJSON(b []byte) error {
	type plain Disconnect // without this method
	p := plain(DefaultDisconnect())
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return err
	}
	*d = Disconnect(p)
	return nil
}

// Keeps reports whether instances are kept for a while when their node is declared down.
func (d Disconnect) Keeps() bool { return d.LostAfter > 0 }

func (d Disconnect) validate() error {
	switch {
	case d.IsZero():
		return nil
	case d.LostAfter < 0 || d.LostAfter > 0 && d.LostAfter < time.Second || d.LostAfter > MaxLostAfter:
		return faultf("lost_after", "lost_after %s is not from 1s to a year; leave it out to lose instances with their node", d.LostAfter)
	case !slices.Contains(Reconciles(), d.Reconcile):
		return faultf("reconcile", "reconcile %.40q is none of keep_original, keep_replacement, longest_running", d.Reconcile)
	case !d.Keeps() && !d.Replace:
		return faultf("replace", "replace has no meaning without lost_after: an instance is lost with its node, and replaced")
	case !d.Keeps() && d.Reconcile != ReconcileOriginal:
		return faultf("reconcile", "reconcile has no meaning without lost_after: what is lost does not come back")
	case !d.Replace && d.Reconcile != ReconcileOriginal:
		return faultf("reconcile", "reconcile has no meaning with replace = false: there is only one instance")
	case d.StopOnClientAfter != 0 && (d.StopOnClientAfter < MinStopOnClientAfter || d.StopOnClientAfter > MaxLostAfter):
		return faultf("stop_on_client_after", "stop_on_client_after %s is not from %s, which a change of the leader may take, to a year", d.StopOnClientAfter, MinStopOnClientAfter)
	case d.Keeps() && d.StopOnClientAfter >= d.LostAfter:
		return faultf("stop_on_client_after", "stop_on_client_after %s is not below lost_after %s: the servers would give up instances that still run", Brief(d.StopOnClientAfter), Brief(d.LostAfter))
	}
	return nil
}

// validateFor refuses what has no meaning in a job of a kind.
func (d Disconnect) validateFor(kind JobType) error {
	switch {
	case !kind.EveryNode() || d.IsZero():
		return nil
	case !d.Replace:
		return faultf("replace", "replace has no meaning in a %s job: its instances belong to their nodes; leave it out", kind)
	case d.Reconcile != ReconcileOriginal:
		return faultf("reconcile", "reconcile has no meaning in a %s job: its instances belong to their nodes; leave it out", kind)
	}
	return nil
}

// Absence is that a node was declared down while instances of it are kept. It is the node's latest one.
type Absence struct {
	Since time.Time // when it was declared down, the leader's clock
	Until time.Time `json:",omitzero"` // when it was ready again; zero: it is not
}

// Away reports whether the node is not heard of, or has not yet told what has become of its instances: what is known of those that
// were kept is what it last said.
func (n *Node) Away() bool { return n.Absence != nil && n.Absence.Until.IsZero() }

// AwayInstance is that nothing is heard of an instance, for people to read.
type AwayInstance struct {
	Since     time.Time // its node was declared down
	GivenUpAt time.Time // it is lost then
}

// Text says it: "node n3 is not heard of since 12:04:05 UTC; given up at 12:14:05 UTC".
func (a *AwayInstance) Text(node string) string {
	return fmt.Sprintf("node %s is not heard of since %s; given up at %s", node, clockText(a.Since, a.Since), clockText(a.GivenUpAt, a.Since))
}

// clockText is a time of day, with its date where that is another one than that of the reference.
func clockText(t, reference time.Time) string {
	t, reference = t.UTC(), reference.UTC()
	if t.YearDay() != reference.YearDay() || t.Year() != reference.Year() {
		return t.Format("2006-01-02 15:04:05 MST")
	}
	return t.Format("15:04:05 MST")
}
