package convert

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// nomadTask is a task of a Nomad job and the one that it becomes.
type nomadTask struct {
	*reader
	group  *group
	out    *node
	driver string
	config *reader  // of its driver
	ports  []string // labels that its config names
}

// readTask reads a task of a group; nil if it has no name, or becomes none.
func (n *nomad) readTask(b *hclsyntax.Block, g *group, from inherited) *nomadTask {
	if len(b.Labels) != 1 {
		n.find(line(b), "task", "left out: it has no name", "")
		return nil
	}
	path := "task." + short(b.Labels[0])
	if g.name != n.name || !g.alone {
		path = "group." + short(g.name) + "." + path
	}
	t := &nomadTask{reader: n.open(b, path), group: g}
	name := b.Labels[0]
	if n.tasks[dnsLabel(name, "task")] {
		name = g.name + "-" + name
	}
	t.out = n.job.block("task", n.tasks.take(dnsLabel(name, "task")), line(b))
	t.out.what = path
	if g.count != nil && g.count.value != "1" && !n.everyNode {
		t.out.children = append(t.out.children, g.count.copied())
	}
	if !t.readDriver() {
		n.job.remove(map[*node]bool{t.out: true})
		return nil
	}
	t.readConfig()
	t.carry("user", t.out, "user")
	if t.carry("shutdown_delay", t.out, "shutdown_delay") == nil && g.delay != nil {
		t.out.children = append(t.out.children, g.delay.copied())
	}
	t.carry("kill_signal", t.out, "kill_signal")
	t.carry("kill_timeout", t.out, "kill_timeout")
	t.out.pairs("env", t.pairs("env"), t.line)
	common := t.inherit(from)
	t.out.pairs("meta", lastWins(append(common.meta, t.pairs("meta")...)), t.line)
	resources := t.blocks("resources")
	for _, r := range resources {
		t.readResources(t.open(r, path+".resources"))
	}
	if len(resources) == 0 {
		t.readResources(&reader{nomad: n, body: &hclsyntax.Body{}, path: path + ".resources", line: t.line})
	}
	t.writePorts()
	for _, part := range common.blocks {
		if !part.isBlock || len(part.children) > 0 {
			t.out.children = append(t.out.children, part.copied())
		}
	}
	if g.disk != nil {
		t.out.children = append(t.out.children, g.disk.copied())
	}
	t.readPayload()
	t.readServices()
	t.each("logs", func(r *reader, _ *hclsyntax.Block) { t.readLogs(r) })
	for _, block := range common.placement {
		t.out.children = append(t.out.children, block.copied())
	}
	t.readClaims()
	if g.part {
		t.each("lifecycle", func(r *reader, _ *hclsyntax.Block) { r.skip("hook", "sidecar") })
	}
	t.rest()
	return t
}

// readPayload carries over where a task finds the payload. Its file has another place.
func (t *nomadTask) readPayload() {
	t.each("dispatch_payload", func(r *reader, b *hclsyntax.Block) {
		file, ok := r.constant("file")
		if !ok {
			return
		}
		out := t.out.one("dispatch_payload", line(b))
		out.what, out.whole = r.path, true
		out.attr("file", quote(path.Base(file)), line(b))
		t.decide(out, line(b), r.path, "the payload is not in local/: CUBE_PAYLOAD_FILE says where it is", "read it there: ${CUBE_PAYLOAD_FILE} stands for it in args and env")
	})
}

func lastWins(entries []pair) []pair {
	var out []pair
	for _, p := range entries {
		if i := slices.IndexFunc(out, func(o pair) bool { return o.key == p.key }); i >= 0 {
			out[i] = p
			continue
		}
		out = append(out, p)
	}
	return out
}

// readDriver reports whether Cube has a driver for the task.
func (t *nomadTask) readDriver() bool {
	t.driver, _ = t.constant("driver")
	line := t.line
	if t.driver == "" {
		t.find(line, t.path, "left out: it names no driver", "")
		return false
	}
	switch t.driver {
	case "docker":
	case "raw_exec":
		t.out.attr("driver", `"raw_exec"`, line)
	case "exec", "exec2":
		driver := t.out.attr("driver", `"raw_exec"`, line)
		t.decide(driver, line, t.path+".driver", "exec shuts a process in, raw_exec does not", "put it into an image, and use docker")
	case "podman":
		t.find(line, t.path+".driver", "docker runs it in the place of podman", "")
		t.driver = "docker"
	default:
		t.find(line, t.path, "left out: Cube has no driver "+short(t.driver), "put it into an image, and use docker")
		return false
	}
	return true
}

// readConfig reads what only the driver knows.
func (t *nomadTask) readConfig() {
	for _, b := range t.blocks("config") {
		c := t.open(b, t.path+".config")
		if t.driver == "docker" {
			t.readDocker(c)
		}
		c.carry("command", t.out, "command")
		c.carry("args", t.out, "args")
		c.carry("work_dir", t.out, "work_dir")
		c.rest()
	}
}

func (t *nomadTask) readDocker(c *reader) {
	if a := c.attr("image"); a != nil {
		if value, ok := c.expression(a.Expr, c.path+".image"); ok {
			image := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(value, `"https://`), `"http://`), `"docker://`)
			if image != value {
				image = `"` + image
			}
			t.out.attr("image", image, a.NameRange.Start.Line).what = c.path + ".image"
		}
	}
	options := &node{isBlock: true}
	for _, key := range []string{"hostname", "entrypoint", "force_pull", "cap_drop", "extra_hosts"} {
		c.carry(key, options, key)
	}
	c.carry("readonly_rootfs", options, "read_only")
	if len(options.children) > 0 {
		config := t.out.one("config", c.line)
		config.children = append(config.children, options.children...)
	}
	if labels := c.pairs("labels"); len(labels) > 0 {
		t.out.one("config", c.line).pairs("labels", labels, c.line)
	}
	if a := c.attr("ports"); a != nil {
		t.ports, _ = plainTexts(a.Expr)
	}
	for _, p := range c.pairs("port_map") { // of old files
		for i := range t.group.ports {
			if t.group.ports[i].label == p.key {
				t.group.ports[i].node.attr("to", p.value, p.line)
				t.ports = append(t.ports, p.key)
			}
		}
	}
	if a := c.attr("network_mode"); a != nil {
		if v, _ := plainText(a.Expr); v != "bridge" {
			c.find(a.NameRange.Start.Line, c.path+".network_mode", "left out: containers are in the engine's bridge network, with ports of the node", "")
		}
	}
	for _, kind := range []string{"mount", "mounts"} {
		c.each(kind, func(m *reader, _ *hclsyntax.Block) { t.readMount(m) })
	}
	c.each("logging", func(l *reader, _ *hclsyntax.Block) {
		l.skip("type", "driver", "config")
		t.find(l.line, l.path, "left out: Cube keeps what a container prints on its node", "set config { log_max_size = ... }")
	})
	if a := c.attr("volumes"); a != nil {
		t.decide(t.out, a.NameRange.Start.Line, c.path+".volumes", "volumes are left out: what is written there is lost with the container", "")
	}
}

// readMount: memory file systems are the mounts that a container of Cube may have.
func (t *nomadTask) readMount(m *reader) {
	kind, _ := m.constant("type")
	target, _ := m.constant("target")
	m.skip("source", "readonly", "volume_options", "bind_options", "tmpfs_options")
	if kind == "tmpfs" {
		config := t.out.one("config", m.line)
		if have := config.find("tmpfs"); have != nil {
			have.value = strings.TrimSuffix(have.value, "]") + ", " + quote(target) + "]"
			return
		}
		config.attr("tmpfs", list([]string{quote(target)}), m.line).what = m.path
		return
	}
	t.decide(t.out, m.line, m.path, short(target)+" is not mounted: what is written there is lost with the container", "")
}

// readLogs reads how much of the output is kept.
func (t *nomadTask) readLogs(r *reader) {
	if t.driver != "docker" {
		r.skip("max_files", "max_file_size", "disabled")
		r.find(r.line, r.path, "left out: raw_exec keeps 5 files of 10 MiB", "")
		return
	}
	config := t.out.one("config", r.line)
	r.carry("max_files", config, "log_max_files")
	if size, ok := r.constant("max_file_size"); ok {
		config.attr("log_max_size", quote(size+"MiB"), r.line).what = r.path
	}
}

// readResources reads what is reserved. What is not said has Nomad's default, where that is more than Cube's.
func (t *nomadTask) readResources(r *reader) {
	out := t.out.one("resources", r.line)
	if cores := r.carry("cores", out, "cpu"); cores == nil {
		t.readMHz(r, out)
	} else {
		r.skip("cpu")
	}
	if r.carry("memory", out, "memory") == nil {
		out.attr("memory", "300", r.line).note("what Nomad gives to a task that does not say")
	}
	r.carry("disk", out, "disk")
	if t.group.diskSize != "" && out.find("disk") == nil {
		out.attr("disk", t.group.diskSize, r.line)
	}
	r.each("device", func(d *reader, b *hclsyntax.Block) { t.readDevice(d, b, out) })
	r.each("network", func(c *reader, _ *hclsyntax.Block) { c.readNetwork(t.group) })
	r.rest()
}

// readMHz turns MHz into cores, with the assumption written beside it.
func (t *nomadTask) readMHz(r *reader, out *node) {
	a := r.attr("cpu")
	if a == nil {
		return
	}
	assumed := "at " + strconv.Itoa(t.CoreMHz) + " MHz a core"
	if text, ok := plainText(a.Expr); ok {
		mhz, err := strconv.ParseFloat(text, 64)
		if err != nil || mhz <= 0 || mhz > 1<<40 {
			r.find(a.NameRange.Start.Line, r.path+".cpu", "left out: "+short(text)+" is no number of MHz", "")
			return
		}
		milli := max(1, int64(mhz/float64(t.CoreMHz)*1000+0.5))
		cpu := out.attr("cpu", strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64), a.NameRange.Start.Line)
		cpu.note(text + " MHz, " + assumed)
		return
	}
	value, ok := r.expression(a.Expr, r.path+".cpu")
	if ok {
		out.attr("cpu", "("+value+") / "+strconv.Itoa(t.CoreMHz), a.NameRange.Start.Line).note("MHz, " + assumed)
	}
}

// readDevice: of vendor/type/model the type counts, the model is a condition.
func (t *nomadTask) readDevice(r *reader, b *hclsyntax.Block, out *node) {
	if len(b.Labels) != 1 {
		return
	}
	parts := strings.Split(b.Labels[0], "/")
	kind := parts[0]
	if len(parts) > 1 {
		kind = parts[1]
	}
	device := out.block("device", dnsLabel(kind, "gpu"), r.line)
	device.what = r.path
	r.carry("count", device, "count")
	if len(parts) == 3 {
		c := device.block("constraint", "", r.line)
		c.attr("attribute", `"device.model"`, r.line)
		c.attr("value", quote(parts[2]), r.line)
	}
}

// writePorts gives the task those of its group's ports that are its own: all, if it is alone there, else those that its
// config names.
func (t *nomadTask) writePorts() {
	for i, p := range t.group.ports {
		if t.group.alone || slices.Contains(t.ports, p.label) {
			t.group.ports[i].taken = true
			t.out.children = append(t.out.children, p.node.copied())
		}
	}
	for _, label := range t.ports {
		if t.port(label) == nil {
			t.find(t.line, t.path+".config.ports", "the group has no port "+short(label), "")
		}
	}
}

func (t *nomadTask) port(label string) *node {
	for _, c := range t.out.children {
		if c.key == "port" && c.label == portName(label) {
			return c
		}
	}
	return nil
}

// readServices turns the checks of services into checks of the task.
func (t *nomadTask) readServices() {
	taken := names{}
	for _, b := range t.blocks("service") {
		t.readService(b, taken)
	}
	if t.group.reader == nil {
		return
	}
	t.group.services = slices.DeleteFunc(t.group.services, func(b *hclsyntax.Block) bool {
		task, _ := plainAttribute(b, "task")
		port, _ := plainAttribute(b, "port")
		_, err := strconv.Atoi(port)
		if t.group.alone || task == t.out.label || t.port(port) != nil && port != "" || err == nil && task == "" {
			t.readService(b, taken)
			return true
		}
		return false
	})
}

func plainAttribute(b *hclsyntax.Block, name string) (string, bool) {
	if a := b.Body.Attributes[name]; a != nil {
		return plainText(a.Expr)
	}
	return "", false
}

func (t *nomadTask) readService(b *hclsyntax.Block, taken names) {
	r := t.open(b, t.path+".service")
	name, ok := r.constant("name")
	if !ok {
		name = t.group.name
	}
	port, _ := r.constant("port")
	if n, err := strconv.Atoi(port); err == nil { // inside the group's network
		port = t.listensOn(n, r.line)
	}
	restarts := r.blocks("check_restart")
	for _, c := range r.blocks("check") {
		own := t.open(c, r.path+".check")
		if check := t.readCheck(own, name, port, taken); check != nil {
			if len(own.blocks("check_restart")) == 0 { // it has those of its service
				own = &reader{nomad: t.nomad, body: &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, Blocks: restarts}, path: r.path, line: r.line}
			}
			own.readCheckRestart(check)
		}
	}
	r.skip("provider", "task", "tags", "meta", "canary_tags", "canary_meta", "address_mode", "enable_tag_override", "on_update", "cluster", "tagged_addresses", "weights")
	r.find(r.line, r.path, "it is registered nowhere: Cube has no registry of services", "see addresses with 'cube task status', or use a static port")
	r.rest()
}

// listensOn returns the label of the port with that number inside, adding a dynamic one if it is not there.
func (t *nomadTask) listensOn(n, line int) string {
	number := strconv.Itoa(n)
	for _, c := range t.out.children {
		if to := c.find("to"); c.key == "port" && to != nil && to.value == number {
			return c.label
		}
	}
	label := portLabel("", n)
	t.out.block("port", label, line).attr("to", number, line)
	return label
}

// readCheck reads all of a check but when it restarts its task; nil if it becomes none.
func (t *nomadTask) readCheck(r *reader, service, port string, taken names) *node {
	defer r.rest()
	kind, _ := r.constant("type")
	name, ok := r.constant("name")
	if !ok {
		name = service + "-" + kind
	}
	if p, ok := r.constant("port"); ok {
		port = p
	}
	r.skip("protocol", "initial_status", "address_mode", "expose", "on_update", "failures_before_warning", "notes", "task", "name", "check_restart")
	check := (&node{}).block("check", taken.take(dnsLabel(name, "check")), r.line)
	check.what = r.path
	switch kind {
	case "http", "tcp", "grpc":
		if protocol, ok := r.constant("protocol"); ok && protocol == "https" {
			r.find(r.line, r.path, "left out: Cube's checks do not speak TLS", `use type = "tcp"`)
			r.skip("path", "method", "header", "body", "interval", "timeout", "tls_skip_verify", "tls_server_name")
			return nil
		}
		check.attr("type", quote(kind), r.line)
		if port != "" {
			check.attr("port", quote(portName(port)), r.line)
		}
	case "script":
		check.attr("type", `"exec"`, r.line)
		t.readScript(r, check)
	default:
		r.find(r.line, r.path, "left out: its type "+short(kind)+" is not known", "")
		return nil
	}
	if a := r.attr("path"); a != nil && kind == "http" {
		r.carry("path", check, "path")
	}
	r.carry("method", check, "method")
	r.carry("body", check, "body")
	t.readHeaders(r, check)
	r.carry("interval", check, "interval")
	r.carry("timeout", check, "timeout")
	r.carry("success_before_passing", check, "success_before_passing")
	r.carry("failures_before_critical", check, "failures_before_critical")
	t.out.children = append(t.out.children, check)
	return check
}

// readCheckRestart reads after how many failures of a check its task is restarted.
func (r *reader) readCheckRestart(check *node) {
	r.each("check_restart", func(c *reader, _ *hclsyntax.Block) {
		c.carry("limit", check, "restart_after")
		c.carry("grace", check, "start_period")
		c.skip("ignore_warnings")
	})
}

func (t *nomadTask) readScript(r *reader, check *node) {
	command := []string{}
	if a := r.attr("command"); a != nil {
		if v, ok := r.expression(a.Expr, r.path+".command"); ok {
			command = append(command, v)
		}
	}
	if a := r.attr("args"); a != nil {
		if tuple, ok := a.Expr.(*hclsyntax.TupleConsExpr); ok {
			for _, item := range tuple.Exprs {
				if v, ok := r.expression(item, r.path+".args"); ok {
					command = append(command, v)
				}
			}
		}
	}
	check.attr("command", list(command), r.line)
}

// readHeaders: a header has several values in Nomad, and one here.
func (t *nomadTask) readHeaders(r *reader, check *node) {
	var headers []pair
	for _, b := range r.blocks("header") {
		for _, a := range inOrder(b.Body) {
			if values, ok := plainTexts(a.Expr); ok && len(values) > 0 {
				headers = append(headers, pair{a.Name, quote(strings.Join(values, ", ")), a.NameRange.Start.Line})
			}
		}
	}
	if a := r.attr("header"); a != nil {
		if object, ok := a.Expr.(*hclsyntax.ObjectConsExpr); ok {
			for _, item := range object.Items {
				name, named := keyText(item.KeyExpr)
				if values, ok := plainTexts(item.ValueExpr); ok && named && len(values) > 0 {
					headers = append(headers, pair{name, quote(strings.Join(values, ", ")), r.line})
				}
			}
		}
	}
	check.pairs("headers", headers, r.line)
}
