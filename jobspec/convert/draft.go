package convert

import (
	"bytes"
	"slices"
	"strings"
)

// node is a part of a task file in the making: a block, or an attribute with the text of its expression.
type node struct {
	key      string
	label    string // of a block; "": it takes none
	value    string // of an attribute
	children []*node
	notes    []string // comments, above it
	origin   int      // line of the source
	what     string   // where in the source
	from, to int      // lines of the latest rendering
	isBlock  bool
	free     bool // its keys are the user's, in the user's order
	whole    bool // without one of its parts it would mean something else
}

// attr adds an attribute. Where there is one of that name, its value is replaced.
func (n *node) attr(key, value string, line int) *node {
	if have := n.find(key); have != nil {
		have.value, have.origin = value, line
		return have
	}
	a := &node{key: key, value: value, origin: line}
	n.children = append(n.children, a)
	return a
}

// block adds a block, with a label unless that is "".
func (n *node) block(kind, label string, line int) *node {
	b := &node{key: kind, label: label, origin: line, isBlock: true, whole: slices.Contains([]string{"constraint", "affinity", "spread", "check", "variable", "depends_on", "volume"}, kind)}
	n.children = append(n.children, b)
	return b
}

// one returns the block of that type, a new one if there is none yet.
func (n *node) one(kind string, line int) *node {
	if b := n.find(kind); b != nil {
		return b
	}
	return n.block(kind, "", line)
}

func (n *node) find(key string) *node {
	for _, c := range n.children {
		if c.key == key {
			return c
		}
	}
	return nil
}

// note adds a comment above.
func (n *node) note(text string) {
	if text = strings.Join(strings.Fields(text), " "); !slices.Contains(n.notes, text) {
		n.notes = append(n.notes, text)
	}
}

// title names a node in a finding: by its place in the source, or by that of what it is in.
func (n *node) title(outer string) string {
	switch {
	case n.what != "":
		return n.what
	case n.label != "":
		outer += "." + n.key + "." + n.label
	default:
		outer += "." + n.key
	}
	return strings.TrimPrefix(outer, ".")
}

// render writes the draft, and notes at which lines each part of it is.
func (n *node) render() []byte {
	w := &writer{line: 1}
	for _, note := range n.notes {
		w.comment(note)
	}
	for i, c := range n.children {
		if i > 0 || len(n.notes) > 0 {
			w.put("\n")
		}
		c.write(w)
	}
	return w.Bytes()
}

type writer struct {
	bytes.Buffer
	line int
}

func (w *writer) put(text string) {
	w.WriteString(text)
	w.line += strings.Count(text, "\n")
}

// comment writes a comment in lines of a readable length.
func (w *writer) comment(text string) {
	const width = 110
	line := "#"
	for word := range strings.FieldsSeq(printable(text)) {
		if len(line)+len(word) > width && line != "#" {
			w.put(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	w.put(line + "\n")
}

func (n *node) write(w *writer) {
	for _, note := range n.notes {
		w.comment(note)
	}
	n.from = w.line
	defer func() { n.to = w.line - 1 }()
	if !n.isBlock {
		w.put(n.key + " = " + n.value + "\n")
		return
	}
	w.put(n.key)
	if n.label != "" {
		w.put(" " + quote(n.label))
	}
	if len(n.children) == 0 {
		w.put(" {}\n")
		return
	}
	w.put(" {\n")
	for i, c := range n.ordered() {
		if c.isBlock && i > 0 {
			w.put("\n")
		}
		c.write(w)
	}
	w.put("}\n")
}

// ordered are the attributes, then the blocks, both in the order in which a task file usually has them.
func (n *node) ordered() []*node {
	usual := usualOrder()
	list := slices.Clone(n.children)
	slices.SortStableFunc(list, func(a, b *node) int {
		switch {
		case a.isBlock && !b.isBlock:
			return 1
		case !a.isBlock && b.isBlock:
			return -1
		case n.free:
			return 0
		}
		return slices.Index(usual, a.key) - slices.Index(usual, b.key)
	})
	return list
}

func usualOrder() []string {
	return []string{
		"type", "description", "default", "datacenters", "priority", // of variables and jobs
		"crons", "time_zone", "prohibit_overlap", "payload", "meta_required", "meta_optional", "file", // of their blocks
		"driver", "image", "count", "command", "args", "user", "work_dir", "max_run_duration", "shutdown_delay", "kill_signal", "kill_timeout",
		"static", "to", "port", "path", "method", "headers", "body", "attempts", "interval", "timeout", "start_period", "success_before_passing", "failures_before_critical", "restart_after", "unlimited", "delay", "delay_function", "max_delay", "mode",
		"max_parallel", "order", "min_healthy_time", "healthy_deadline", "progress_deadline", "canary", "auto_promote", "auto_revert", "source", "destination", "access", "read_only", "sticky", "move",
		"attribute", "operator", "value", "weight", "cpu", "memory", "disk", "device",
		"env", "resources", "volume", "ephemeral_disk", "dispatch_payload", "restart", "reschedule", "update", "migrate", "check", "depends_on", "constraint", "affinity", "spread", "config", "periodic", "parameterized", "meta", "task",
	}
}

// at returns the innermost part that is at a line of the latest rendering, or what it cannot be taken out of; and its title.
func (n *node) at(line int, outer string) (*node, string) {
	for _, c := range n.children {
		if line < c.from || c.to < line {
			continue
		}
		title := c.title(outer)
		if inner, where := c.at(line, title); inner != nil && !c.whole {
			return inner, where
		} else if inner != nil {
			return c, where
		}
		return c, title
	}
	return nil, ""
}

// remove takes parts out, and blocks that have nothing left in them for it.
func (n *node) remove(removed map[*node]bool) {
	n.children = slices.DeleteFunc(n.children, func(c *node) bool {
		if removed[c] {
			return true
		}
		before := len(c.children)
		c.remove(removed)
		return before > 0 && len(c.children) == 0
	})
}
