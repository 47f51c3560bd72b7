package api

import (
	"cmp"
	"fmt"
	"strings"
)

// MaxSuppositions is how many things one simulation may suppose.
const MaxSuppositions = 100

// Supposition is one thing to suppose of the cluster. Exactly one of its parts is set.
type Supposition struct {
	NodeDown string            `json:",omitempty"` // a node's name or ID: it is gone, and all that runs there is lost
	Drain    string            `json:",omitempty"` // the same: nothing new goes there, and what runs there has moved away
	Scale    *ScaleSupposition `json:",omitempty"`
	Run      *Submission       `json:",omitempty"`
}

// ScaleSupposition is another number of instances of one task.
type ScaleSupposition struct {
	Job   string
	Task  string `json:",omitempty"` // "" where the job has one task
	Count int
}

// SimulationRequest asks what would happen if all of this were so at once.
type SimulationRequest struct {
	Suppose []Supposition // in this order
}

// Check says what is wrong with the request as such.
func (r *SimulationRequest) Check() error {
	if n := len(r.Suppose); n == 0 || n > MaxSuppositions {
		return Errorf(CodeInvalid, "a simulation supposes 1 to %d things, not %d", MaxSuppositions, n)
	}
	for i := range r.Suppose {
		s, parts := &r.Suppose[i], 0
		for _, set := range []bool{s.NodeDown != "", s.Drain != "", s.Scale != nil, s.Run != nil} {
			if set {
				parts++
			}
		}
		if parts != 1 {
			return Errorf(CodeInvalid, "supposition %d of %d has %d of NodeDown, Drain, Scale and Run; it takes one", i+1, len(r.Suppose), parts)
		}
	}
	return nil
}

// Simulation is what would become of the cluster in the end: once what has lost its place is placed anew, and what is to be
// replaced has been. Instances that wait for a place as things are do not count against the suppositions.
type Simulation struct {
	Totals
	Jobs     []JobOutcome  `json:",omitempty"` // that anything would become of: those that do not wholly fit first, then by name
	Nodes    []NodeOutcome `json:",omitempty"` // the fullest ones there would be, and the nodes that are supposed to go
	Before   Fill          // of the nodes that take instances
	After    Fill
	Unlooked int    `json:",omitempty"` // jobs that wait and were not looked at: they could take room that is given back
	Index    uint64 // of the state it was made from
}

// Totals count instances by what would become of them.
type Totals struct {
	Moved    int // they lose their node and are placed on another
	Placed   int // new, or waiting so far
	InPlace  int // they take a new version without being touched
	Replaced int // stopped and placed anew
	Stopped  int // stopped for good
	Missing  int // they have a place now or would be asked for, and would have none
	Waiting  int // they have no place, and would not get one
	// GiveWay are those that would make room for more important ones. They are among the moved, the missing or the stopped, too.
	GiveWay int `json:",omitempty"`
}

// Add adds o to t.
func (t *Totals) Add(o *Totals) {
	t.Moved += o.Moved
	t.Placed += o.Placed
	t.InPlace += o.InPlace
	t.Replaced += o.Replaced
	t.Stopped += o.Stopped
	t.Missing += o.Missing
	t.Waiting += o.Waiting
	t.GiveWay += o.GiveWay
}

// Empty reports whether nothing would happen, and nothing would be missing.
func (t *Totals) Empty() bool {
	return t.Moved+t.Placed+t.InPlace+t.Replaced+t.Stopped+t.Missing == 0
}

// JobOutcome is what would become of one job.
type JobOutcome struct {
	Name    string
	Tasks   []TaskOutcome // by name, those of which nothing would become left out
	Message string        `json:",omitempty"` // of the scheduler, where it failed on the job
}

// TaskOutcome is what would become of one task's instances.
type TaskOutcome struct {
	Task string
	Totals
	From        []NodeCount  `json:",omitempty"` // the nodes that instances would leave, most first
	To          []NodeCount  `json:",omitempty"` // where instances would go
	Ways        []string     `json:",omitempty"` // what would give way, and to whom; a few of many
	Explanation *Explanation `json:",omitempty"` // of what would have no place
}

// NodeOutcome is how full a node is and would be.
type NodeOutcome struct {
	ID, Name string
	Gone     string `json:",omitempty"` // "down" or "drained", of a node that is supposed to go
	Leave    int    // instances that would leave it
	Arrive   int    // instances that would come
	Before   Fill
	After    Fill
}

// Fill is what is held of what there is.
type Fill struct{ Held, Total Resources }

// Fullest returns the part that is held of the resource that is scarcest, in percent, and its name; 0 where there is nothing.
func (f *Fill) Fullest() (percent float64, resource string) {
	for _, r := range []struct {
		name        string
		held, total int64
	}{{"CPU", f.Held.CPU, f.Total.CPU}, {"memory", f.Held.Memory, f.Total.Memory}, {"disk", f.Held.Disk, f.Total.Disk}} {
		if r.total <= 0 {
			continue
		}
		if p := 100 * float64(r.held) / float64(r.total); resource == "" || p > percent {
			percent, resource = p, r.name
		}
	}
	return percent, cmp.Or(resource, "CPU")
}

// Fits reports whether everything would have a place that has one now or would be asked for.
func (s *Simulation) Fits() bool { return s.Missing == 0 }

// Verdict says in a sentence what it comes to.
func (s *Simulation) Verdict() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{s.Moved, "move"}, {s.Replaced, "replaced"}, {s.InPlace, "changed in place"}, {s.Placed, "new"}, {s.Stopped, "stopped"}, {s.GiveWay, "give way"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	changes := strings.Join(parts, ", ")
	switch {
	case s.Missing == 1:
		return "NOT everything fits: 1 instance would have no place" + behind("; ", changes)
	case s.Missing > 1:
		return fmt.Sprintf("NOT everything fits: %d instances would have no place%s", s.Missing, behind("; ", changes))
	case changes == "":
		return "Everything fits: no instance is touched"
	}
	return "Everything fits" + behind(": ", changes)
}

func behind(mark, text string) string {
	if text == "" {
		return ""
	}
	return mark + text
}
