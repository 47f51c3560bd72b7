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
	blocks    []*node // restart, update, reschedule, migrate and max_run_duration: of each kind the innermost
	meta      []pair
}

// own adds what is said here, in the place of what is inherited.
func (in *inherited) own(n *node) {
	if n == nil {
		return
	}
	in.blocks = append(slices.DeleteFunc(slices.Clone(in.blocks), func(o *node) bool { return o.key == n.key }), n)
}

// group is one of a Nomad job. Cube has none: what it says goes to its tasks.
type group struct {
	*reader
	name     string
	alone    bool // it has one task, but for those that become parts of it
	part     bool // it stands for one of these
	single   bool // it is the job's only group
	count    *node
	delay    *node // shutdown_delay
	ports    []nomadPort
	services []*hclsyntax.Block
	diskSize string
	disk     *node                       // ephemeral_disk
	claims   map[string]*hclsyntax.Block // volumes, by name
}

type nomadPort struct {
	label string
	node  *node
	taken bool // a task has it
}

// inherit reads what goes to the tasks, added to what is inherited already.
func (r *reader) inherit(from inherited) inherited {
	out := inherited{slices.Clone(from.placement), slices.Clone(from.blocks), slices.Clone(from.meta)}
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
	r.each("restart", func(c *reader, _ *hclsyntax.Block) { out.own(c.readRestart()) })
	r.each("update", func(c *reader, _ *hclsyntax.Block) { out.own(c.readUpdate()) })
	r.each("reschedule", func(c *reader, _ *hclsyntax.Block) { out.own(c.readReschedule()) })
	r.each("migrate", func(c *reader, _ *hclsyntax.Block) { out.own(c.readMigrate()) })
	out.own(r.readAbsence())
	r.each("disconnect", func(c *reader, _ *hclsyntax.Block) { out.own(c.readDisconnect()) })
	out.own(r.carry("max_run_duration", &node{isBlock: true}, "max_run_duration"))
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

// readUpdate reads how instances are replaced.
func (r *reader) readUpdate() *node {
	out := &node{key: "update", origin: r.line, isBlock: true, what: r.path}
	for _, key := range []string{"max_parallel", "min_healthy_time", "healthy_deadline", "progress_deadline", "canary", "auto_promote", "auto_revert"} {
		r.carry(key, out, key)
	}
	if v, ok := r.constant("health_check"); ok && v != "checks" {
		r.find(r.line, r.path+".health_check", "left out: health is what the checks say, and running where there are none", "")
	}
	r.skip("stagger") // of no effect in Nomad either where health is waited for
	return out
}

// readReschedule reads how often an instance that failed is placed again. Attempts have no effect in Nomad beside unlimited.
func (r *reader) readReschedule() *node {
	out := &node{key: "reschedule", origin: r.line, isBlock: true, what: r.path}
	if v, _ := r.constant("unlimited"); v == "true" {
		out.attr("unlimited", "true", r.line)
		r.skip("attempts", "interval")
	} else {
		r.carry("attempts", out, "attempts")
		r.carry("interval", out, "interval")
	}
	for _, key := range []string{"delay", "delay_function", "max_delay"} {
		r.carry(key, out, key)
	}
	return out
}

// readMigrate reads how a node is emptied.
func (r *reader) readMigrate() *node {
	out := &node{key: "migrate", origin: r.line, isBlock: true, what: r.path}
	for _, key := range []string{"max_parallel", "min_healthy_time", "healthy_deadline"} {
		r.carry(key, out, key)
	}
	r.skip("health_check")
	return out
}

// readAbsence reads what older files say instead of a disconnect block.
func (r *reader) readAbsence() *node {
	out := &node{key: "disconnect", origin: r.line, isBlock: true, what: r.path}
	kept := r.carry("max_client_disconnect", out, "lost_after")
	r.carry("stop_after_client_disconnect", out, "stop_on_client_after")
	alone, _ := r.constant("prevent_reschedule_on_lost")
	r.absent(out, kept, alone == "true", "prevent_reschedule_on_lost")
	if len(out.children) == 0 {
		return nil
	}
	return out
}

// readDisconnect reads what becomes of instances whose node is not heard of.
func (r *reader) readDisconnect() *node {
	out := &node{key: "disconnect", origin: r.line, isBlock: true, what: r.path}
	kept := r.carry("lost_after", out, "lost_after")
	r.carry("stop_on_client_after", out, "stop_on_client_after")
	replace, _ := r.constant("replace")
	r.absent(out, kept, replace == "false", "replace")
	keep, _ := r.constant("reconcile")
	switch {
	case kept == nil || replace == "false" || r.everyNode: // there is nothing to choose from
	case slices.Contains(api.Reconciles(), keep):
		out.attr("reconcile", quote(keep), r.line)
	default:
		r.find(r.line, r.path, "of two that run when the node is back Nomad keeps the one on the better node, Cube the original if it is healthy", `or give reconcile = "keep_replacement" or "longest_running"`)
	}
	if len(out.children) == 0 {
		return nil
	}
	return out
}

// absent says that nothing takes an instance's place while it is kept, where it is.
func (r *reader) absent(out, kept *node, alone bool, key string) {
	switch {
	case !alone || r.everyNode:
	case kept == nil:
		r.find(r.line, r.path+"."+key, "left out: what is lost with its node is replaced", "give lost_after: until then nothing takes its place")
	default:
		out.attr("replace", "false", r.line)
	}
}

func (n *nomad) readGroup(b *hclsyntax.Block, from inherited, groups []*hclsyntax.Block) {
	r := n.open(b, "group."+short(b.Labels[0]))
	g := &group{reader: r, name: b.Labels[0], single: len(groups) == 1, claims: map[string]*hclsyntax.Block{}}
	tasks, parts := partsOf(r.blocks("task"))
	g.alone = len(tasks) == 1
	if !g.alone && len(tasks) > 0 {
		n.find(r.line, r.path, "its tasks are placed each by itself: they share neither a node nor a network", "let them reach each other through ports")
	}
	holder := &node{isBlock: true}
	g.count = r.carry("count", holder, "count")
	g.delay = r.carry("shutdown_delay", holder, "shutdown_delay")
	r.each("network", func(c *reader, _ *hclsyntax.Block) { c.readNetwork(g) })
	r.each("ephemeral_disk", func(c *reader, _ *hclsyntax.Block) { c.readDisk(g) })
	g.services = r.blocks("service")
	common := r.inherit(from)
	common.meta = append(common.meta, r.pairs("meta")...)
	for _, v := range r.blocks("volume") {
		if len(v.Labels) == 1 {
			g.claims[v.Labels[0]] = v
		}
	}
	for _, t := range tasks {
		main, taken := n.readTask(t, g, common), names{}
		for _, part := range parts {
			if main != nil {
				n.readPart(part, g, main, taken)
			}
		}
	}
	for _, p := range g.ports {
		if !p.taken {
			n.find(p.node.origin, p.node.what, "left out: no task of the group names it among the ports of its config", "write port \""+p.node.label+"\" into the task that listens there")
		}
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
		g.ports = append(g.ports, nomadPort{label: b.Labels[0], node: out})
	})
	r.skip("mbits")
}

// dynamicPort reports whether a number is among those that Cube gives away itself.
func dynamicPort(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n >= api.MinDynamicPort && n <= api.MaxDynamicPort
}

// makeVolume is what a person does so that a node has a volume.
func makeVolume(name string) string {
	return "make it on a node: 'cube volume create -node NODE " + name + "'"
}

// addVolume gives a task a volume of its node, and says that a node has to have it.
func (c *conversion) addVolume(task *node, line int, what, source, destination string) *node {
	name := dnsLabel(source, "data")
	label := name
	if slices.ContainsFunc(task.children, func(n *node) bool { return n.key == "volume" && n.label == name }) {
		c.find(line, what, "left out: the volume "+name+" is in the container already", "")
		return nil
	}
	v := task.block("volume", label, line)
	v.what = what
	v.attr("destination", destination, line)
	c.find(line, what, "the task runs only where there is a volume "+name, makeVolume(name))
	return v
}

// readClaims gives a Nomad task the volumes that its group claims and it mounts.
func (t *nomadTask) readClaims() {
	t.each("volume_mount", func(r *reader, _ *hclsyntax.Block) {
		name, _ := r.constant("volume")
		r.skip("propagation_mode", "selinux_label")
		lost := func(why string) {
			at, _ := r.constant("destination")
			r.skip("read_only")
			t.decide(t.out, r.line, r.path, "the volume "+short(name)+" at "+short(at)+" is left out: "+why+"; what is written there is lost with the container", "")
		}
		claim := t.group.claims[name]
		if claim == nil {
			lost("its group claims none of that name")
			return
		}
		kind, _ := plainAttribute(claim, "type")
		source, plain := plainAttribute(claim, "source")
		if kind != "host" || !plain {
			lost("Cube has volumes on nodes only")
			return
		}
		at := r.attr("destination")
		if at == nil {
			lost("it has no destination")
			return
		}
		destination, ok := r.expression(at.Expr, r.path+".destination")
		if !ok {
			return
		}
		if v := t.addVolume(t.out, r.line, r.path, source, destination); v != nil {
			t.readAccess(v, r, claim)
		}
	})
}

// readAccess reads how a volume is used. Where the file does not say, Nomad lets everybody write.
func (t *nomadTask) readAccess(v *node, r *reader, claim *hclsyntax.Block) {
	mounted, _ := r.constant("read_only")
	claimed, _ := plainAttribute(claim, "read_only")
	mode, _ := plainAttribute(claim, "access_mode")
	switch {
	case mounted == "true" || claimed == "true" || strings.HasSuffix(mode, "reader-only"):
		v.attr("read_only", "true", r.line)
	case mode == "single-node-writer" || mode == "single-node-single-writer" || mode == "multi-node-single-writer":
	default:
		v.attr("access", `"multi-writer"`, r.line)
	}
}

// readDisk reads a group's ephemeral disk. What is sticky of it is what Nomad keeps under /alloc/data.
func (r *reader) readDisk(g *group) {
	holder := &node{isBlock: true}
	if d := r.carry("size", holder, "disk"); d != nil {
		g.diskSize = d.value
	}
	sticky, _ := r.constant("sticky")
	migrate, _ := r.constant("migrate")
	if sticky != "true" && migrate != "true" {
		return
	}
	g.disk = &node{key: "ephemeral_disk", origin: r.line, isBlock: true, what: r.path}
	g.disk.attr("destination", `"/alloc/data"`, r.line)
	g.disk.attr("sticky", "true", r.line)
	if migrate != "true" {
		g.disk.attr("move", `"never"`, r.line)
	}
}
