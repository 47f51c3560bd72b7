package command

import (
	"fmt"

	"cube/api"
)

// explainAll writes why instances are not placed, as lines for people.
func explainAll(explanations []api.Explanation) []string {
	var lines []string
	for i := range explanations {
		lines = append(lines, explain(&explanations[i])...)
	}
	return lines
}

// explain writes one task's explanation: a line that says how much is missing, then one for each filter, most nodes first.
func explain(e *api.Explanation) []string {
	missing := e.Wanted - e.Placed
	head := fmt.Sprintf("%s: %d of %s not placed", e.Task, missing, countOf(e.Wanted, "instance"))
	if e.Note != "" {
		head += ": " + e.Note
	}
	lines := []string{printable(head)}
	for _, f := range e.Filters {
		lines = append(lines, "  * "+printable(fmt.Sprintf("%s: %s%s", f.Filter, excluded(f.Nodes, e.Nodes), wantedSeen(f.Wanted, f.Seen))))
	}
	if m := e.Nearest; m != nil && e.Nodes > 1 {
		lines = append(lines, "  "+printable(fmt.Sprintf("Nearest: %s, but for %s%s", m.Node, m.Filter, wantedSeen(m.Wanted, m.Seen))))
	}
	return lines
}

func excluded(n, of int) string {
	if of == 1 {
		return "the only node is excluded"
	}
	return fmt.Sprintf("%d of %d nodes excluded", n, of)
}

func wantedSeen(wanted, seen string) string {
	switch {
	case wanted != "" && seen != "":
		return fmt.Sprintf(" (wants %s, sees %s)", wanted, seen)
	case wanted != "":
		return fmt.Sprintf(" (wants %s)", wanted)
	case seen != "":
		return fmt.Sprintf(" (sees %s)", seen)
	}
	return ""
}

// lacksNodes reports whether something is not placed for what nodes are or have, rather than for a rule of the roll-out
// that will pass by itself.
func lacksNodes(explanations []api.Explanation) bool {
	for _, e := range explanations {
		if e.Placed < e.Wanted && (len(e.Filters) > 0 || e.Nodes == 0 && e.Note == "") {
			return true
		}
	}
	return false
}
