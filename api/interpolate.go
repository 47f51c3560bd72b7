package api

import "strings"

// RuntimeRoots are the first parts of the names that ${} may hold until an instance starts. Any other root must be known
// when a task file is parsed. CUBE_ stands for every name that begins so.
func RuntimeRoots() []string { return []string{"node", "attr", "meta", "CUBE_"} }

// IsRuntimeName reports whether a name inside ${} is one that only the client can fill in.
func IsRuntimeName(name string) bool {
	for _, r := range RuntimeRoots() {
		if name == r && r != "CUBE_" || strings.HasPrefix(name, r+".") || r == "CUBE_" && strings.HasPrefix(name, r) {
			return true
		}
	}
	return false
}

// Interpolate replaces each ${name} whose name is a run-time one by what lookup says. Names that lookup does not know
// are returned in unknown, in order; any other ${...} stays as it is, since it belongs to the instance's own shell.
func Interpolate(s string, lookup func(name string) (string, bool)) (out string, unknown []string) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			break
		}
		name := strings.TrimSpace(s[i+2 : i+end])
		b.WriteString(s[:i])
		if !IsRuntimeName(name) { // what it holds may be ours all the same: ${HOST:-${node.name}}
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		if value, ok := lookup(name); ok {
			b.WriteString(value)
		} else {
			unknown = append(unknown, name)
		}
		s = s[i+end+1:]
	}
	b.WriteString(s)
	return b.String(), unknown
}
