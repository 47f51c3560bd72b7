package jobspec

import _ "embed"

//go:embed sample.hcl
var sample string

// Sample returns a task file to begin from, with comments. It runs the image that Cube's own examples use.
func Sample() []byte { return []byte(sample) }
