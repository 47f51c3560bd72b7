package api

import "fmt"

// Whether everything would have a place again if any one node went.
const (
	SurvivesYes     = "yes"
	SurvivesNo      = "no"
	SurvivesUnknown = "unknown" // not every node was looked at
)

// MaxLosses is how many nodes a Survival names.
const MaxLosses = 10

// Survival is what the loss of any one node would do to what has a place now. Instances that wait for one already, and room for
// what is about to be placed, are left out of it.
type Survival struct {
	Survives string
	Nodes    int        // with instances that would have to move
	Checked  int        // of these: known
	Failing  int        // of these: whose loss would leave something without a place
	Losses   []NodeLoss `json:",omitempty"` // of the failing ones those that would leave the most
	Tightest *Tightest  `json:",omitempty"` // nil if there is nothing to move
}

// NodeLoss is what would have no place without a node.
type NodeLoss struct {
	ID, Name string
	Missing  int
	Instance string // the first of them: "web[3]"
	Lacks    string `json:",omitempty"` // the filter that the nearest node fails: "memory"
}

// Tightest is the node without which the others would be the fullest, all taken together.
type Tightest struct {
	ID, Name string
	Percent  float64 // of what the others have
	Resource string  // that is scarcest
}

// Line says it in a line: "no, tightest n2 (web[3] would not fit: memory)".
func (s *Survival) Line() string {
	switch {
	case s.Survives == SurvivesNo:
		l := &s.Losses[0]
		line := fmt.Sprintf("no, tightest %s (%s would not fit", l.Name, l.Instance)
		if l.Lacks != "" {
			line += ": " + l.Lacks
		}
		if l.Missing > 1 {
			line += fmt.Sprintf("; %d in all", l.Missing)
		}
		line += ")"
		switch {
		case s.Checked < s.Nodes:
			line += fmt.Sprintf("; of %d nodes %d were looked at, and %d cannot be spared", s.Nodes, s.Checked, s.Failing)
		case s.Nodes > 1:
			line += fmt.Sprintf("; %d of %d nodes cannot be spared", s.Failing, s.Nodes)
		}
		return line
	case s.Survives == SurvivesUnknown:
		return fmt.Sprintf("not known: of %d nodes %d were looked at, and can be spared", s.Nodes, s.Checked)
	case s.Tightest == nil:
		return "yes, nothing runs that would have to move"
	}
	return fmt.Sprintf("yes, tightest %s (the others would be %.0f %% full: %s)", s.Tightest.Name, s.Tightest.Percent, s.Tightest.Resource)
}
