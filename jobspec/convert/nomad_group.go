package convert

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"cube/api"
)

// inherited is what a job or group says for the tasks in it.
type inherited struct {
	placement []*node // constraint, affinity and spread
	restart   *node
	update    *node
	meta      []pair
}

// group is one of a Nomad job. Cube has none: what it says goes to its tasks.
type group struct {
	*reader
	name     string
	alone    bool // it has one task
	single   bool // it is the job's only group
	count    *node
	delay    *node // shutdown_delay
	ports    []nomadPort
	services []*hclsyntax.Block
	diskSize string
	claims   map[string]*hclsyntax.Block // volumes, by name
}

type nomadPort struct {
	label string
	node  *node
}

// inherit reads what goes to the tasks, added to what is inherited already.
func (r *reader) inherit(from inherited) inherited {
	out := inherited{slices.Clone(from.placement), from.restart, from.update, slices.Clone(from.meta)}
	holder := &node{isBlock: true}
	r.each("constraint", func(c *reader, _ *hclsyntax.Block) { c.readCondition(holder.block("constraint", "", c.line)) })
	r.each("affinity", func(c *reader, _ *hclsyntax.Block) {
		b := holder.block("affinity", "", c.line)
		c.readCondition(b)
		c.carry("weight", b, "weight")
	})
	r.each("spread", func(c *reader, _ *hclsyntax.Block) { c.readSpread(holder.block("spread", "", c.line)) })
	holder.children = slices.DeleteFunc(holder.children, func(n *node) bool { return len(n.children) == 0 })
	out.placement = append(out.placement, holder.children...)
	r.each("restart", func(c *reader, _ *hclsyntax.Block) { out.restart = c.readRestart() })
	r.each("update", func(c *reader, _ *hclsyntax.Block) { out.update = c.readUpdate() })
	return out
}

// copied is a copy of a part that several tasks inherit, since each may lose its own.
func (n *node) copied() *node {
	c := *n
	c.children = nil
	for _, child := range n.children {
		c.children = append(c.children, child.copied())
	}
	return &c
}

// readCondition reads an attribute, an operator and a value, or one of the short forms.
func (r *reader) readCondition(out *node) {
	out.what = r.path
	if a := r.attr("distinct_hosts"); a != nil {
		if v, _ := plainText(a.Expr); v == "true" {
			out.attr("distinct_hosts", "true", r.line)
		}
		return
	}
	operator, _ := r.constant("operator")
	if operator == "distinct_hosts" {
		out.attr("distinct_hosts", "true", r.line)
		r.skip("value", "attribute")
		return
	}
	if operator == "distinct_property" || r.attr("distinct_property") != nil {
		r.find(r.line, r.path, "left out: Cube has no distinct_property", "use spread")
		r.skip("value", "attribute")
		return
	}
	if !r.readAttribute(out) {
		r.skip("value", "operator", "version", "semver", "regexp", "set_contains")
		return
	}
	value := r.carry("value", out, "value")
	for _, short := range []string{"version", "semver", "regexp", "set_contains"} {
		if v := r.carry(short, out, "value"); v != nil {
			operator, value = short, v
		}
	}
	switch operator {
	case "", "=", "==", "is":
	case "not":
		out.attr("operator", `"!="`, r.line)
	case "set_contains_all":
		out.attr("operator", `"set_contains"`, r.line)
	default:
		out.attr("operator", quote(operator), r.line)
	}
	if operator == "is_set" && value != nil {
		out.remove(map[*node]bool{value: true})
	}
}

// readAttribute reads the attribute of nodes that a condition is about.
func (r *reader) readAttribute(out *node) bool {
	a := r.attr("attribute")
	if a == nil {
		return false
	}
	name, known := "", false
	switch x := a.Expr.(type) {
	case *hclsyntax.TemplateWrapExpr:
		if t, ok := x.Wrapped.(*hclsyntax.ScopeTraversalExpr); ok {
			name, known = runtimeName(t.Traversal)
		}
	default:
		name, known = plainText(a.Expr)
	}
	attribute, same := nodeAttribute(name)
	if !known || !same {
		r.find(a.NameRange.Start.Line, r.path, "left out: "+short(string(a.Expr.Range().SliceBytes(r.src)))+" is no attribute of Cube's nodes",
			"'cube node status NODE' lists them; others go into meta of the nodes' configuration")
		return false
	}
	out.attr("attribute", quote(attribute), r.line)
	return true
}

func (r *reader) readSpread(out *node) {
	out.what = r.path
	if !r.readAttribute(out) {
		r.skip("weight", "target")
		return
	}
	r.carry("weight", out, "weight")
	r.each("target", func(t *reader, b *hclsyntax.Block) {
		if len(b.Labels) == 1 {
			t.carry("percent", out.block("target", b.Labels[0], t.line), "percent")
			t.skip("value")
		}
	})
}

// readRestart: Nomad waits the same time before each restart, Cube at first doubles it.
func (r *reader) readRestart() *node {
	out := &node{key: "restart", origin: r.line, isBlock: true, what: r.path}
	r.carry("attempts", out, "attempts")
	r.carry("interval", out, "interval")
	if d := r.carry("delay", out, "delay"); d != nil {
		out.attr("max_delay", d.value, d.origin)
	}
	mode := r.carry("mode", out, "mode")
	if mode == nil && out.find("attempts") != nil {
		out.attr("mode", `"fail"`, r.line) // Nomad's default
	}
	r.skip("render_templates")
	return out
}

// readUpdate reads how instances are replaced. Cube replaces one at a time, the next when the new one is healthy.
func (r *reader) readUpdate() *node {
	out := &node{key: "update", origin: r.line, isBlock: true, what: r.path}
	r.carry("min_healthy_time", out, "min_healthy_time")
	for _, usual := range [][2]string{{"max_parallel", "1"}, {"canary", "0"}, {"auto_revert", "false"}, {"auto_promote", "false"}, {"health_check", "checks"}} {
		if a := r.body.Attributes[usual[0]]; a != nil {
			if v, _ := plainText(a.Expr); v == usual[1] {
				r.skip(usual[0])
			}
		}
	}
	r.skip("stagger")
	return out
}

func (n *nomad) readGroup(b *hclsyntax.Block, from inherited, groups []*hclsyntax.Block) {
	r := n.open(b, "group."+short(b.Labels[0]))
	g := &group{reader: r, name: b.Labels[0], single: len(groups) == 1, claims: map[string]*hclsyntax.Block{}}
	tasks := r.blocks("task")
	g.alone = len(tasks) == 1
	if !g.alone && len(tasks) > 0 {
		n.find(r.line, r.path, "its tasks are placed each by itself: they share neither a node nor a network", "let them reach each other through ports")
	}
	holder := &node{isBlock: true}
	g.count = r.carry("count", holder, "count")
	g.delay = r.carry("shutdown_delay", holder, "shutdown_delay")
	r.each("network", func(c *reader, _ *hclsyntax.Block) { c.readNetwork(g) })
	r.each("ephemeral_disk", func(c *reader, _ *hclsyntax.Block) {
		if d := c.carry("size", holder, "disk"); d != nil {
			g.diskSize = d.value
		}
		c.skip("migrate")
	})
	g.services = r.blocks("service")
	common := r.inherit(from)
	common.meta = append(common.meta, r.pairs("meta")...)
	for _, v := range r.blocks("volume") {
		if len(v.Labels) == 1 {
			g.claims[v.Labels[0]] = v
		}
	}
	for _, t := range tasks {
		n.readTask(t, g, common)
	}
	for _, s := range g.services {
		n.find(line(s), r.path+".service", "left out: no task of the group has its port", "write a check into the task")
	}
	r.rest()
}

// readNetwork reads the ports of a group, or, in old files, of a task.
func (r *reader) readNetwork(g *group) {
	if mode, ok := r.constant("mode"); ok && mode != "bridge" {
		r.find(r.line, r.path+".mode", "left out: containers are in the engine's bridge network, with ports of the node", "name each port")
	}
	r.each("port", func(p *reader, b *hclsyntax.Block) {
		if len(b.Labels) != 1 {
			return
		}
		out := &node{key: "port", label: portName(b.Labels[0]), origin: p.line, isBlock: true, what: p.path}
		if static := p.carry("static", out, "static"); static != nil && dynamicPort(static.value) {
			out.remove(map[*node]bool{static: true})
			p.find(p.line, p.path+".static", static.value+" is among the ports that Cube gives away: it gets any free one", "choose another number for a fixed one")
		}
		if to := p.carry("to", out, "to"); to != nil && strings.HasPrefix(to.value, "-") {
			out.remove(map[*node]bool{to: true}) // -1: the same as on the host, which is Cube's way without it
		}
		p.skip("ignore_collision")
		g.ports = append(g.ports, nomadPort{b.Labels[0], out})
	})
	r.skip("mbits")
}

// dynamicPort reports whether a number is among those that Cube gives away itself.
func dynamicPort(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n >= api.MinDynamicPort && n <= api.MaxDynamicPort
}
