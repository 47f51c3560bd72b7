package command

import (
	"time"

	"cube/api"
)

// explainAll writes why instances are not placed, as lines for people, made safe.
func explainAll(explanations []api.Explanation) []string { return explainAt(explanations, time.Time{}) }

// explainAt is explainAll for somebody who reads it now and once.
func explainAt(explanations []api.Explanation, now time.Time) []string {
	var lines []string
	for i := range explanations {
		for _, line := range explanations[i].LinesAt(now) {
			lines = append(lines, printable(line))
		}
	}
	return lines
}
