package command

import "cube/api"

// explainAll writes why instances are not placed, as lines for people, made safe.
func explainAll(explanations []api.Explanation) []string {
	var lines []string
	for i := range explanations {
		for _, line := range explanations[i].Lines() {
			lines = append(lines, printable(line))
		}
	}
	return lines
}
