package convert

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"cube/api"
	"cube/jobspec"
)

// nomad converts one file with a Nomad job.
type nomad struct {
	conversion
	src   []byte
	job   *node
	name  string // the job's in Nomad
	tasks names
	// everyNode says that the job has one instance on every node: counts have no meaning.
	everyNode bool
	given     map[string]string // values with which variables that have none can be read
	told      []string          // keys of the meta that a dispatch has
	launched  bool              // the job waits to be launched
}

// Nomad converts a Nomad job: its tasks become tasks of one job of Cube, which has no groups: what a group says holds for
// each of its tasks. Variables and locals stay what they are, as far as Cube's expressions reach. Nothing is evaluated that
// calls a function. An error, with CodeInvalid, says that nothing usable came out.
func Nomad(src []byte, o Options) (*Result, error) {
	body, err := jobspec.Syntax(src, o.FileName)
	if err != nil {
		return nil, err
	}
	o.CoreMHz = cmp.Or(o.CoreMHz, DefaultCoreMHz)
	n := &nomad{conversion: conversion{Options: o, draft: &node{isBlock: true}}, src: src, tasks: names{}, given: map[string]string{}}
	n.draft.note("Converted from " + o.FileName + ". Comments say what a person has to decide.")
	var job *hclsyntax.Block
	for _, b := range body.Blocks {
		switch b.Type {
		case "job":
			if job != nil {
				n.find(line(b), "job", "left out: only the first job of a file is converted", "")
				continue
			}
			job = b
		case "variable":
			n.readVariable(b)
		case "variables":
			n.readVariables(b)
		case "locals":
			n.readLocals(b)
		default:
			n.find(line(b), b.Type, "left out: it is not known", "")
		}
	}
	if job == nil || len(job.Labels) != 1 {
		return nil, api.Errorf(api.CodeInvalid, "%s: it holds no job \"name\" { ... }, as a file of Nomad does", o.FileName)
	}
	n.readJob(job)
	result, err := n.finish(n.given)
	if err == nil && n.launched && n.job.find("periodic") == nil && n.job.find("parameterized") == nil {
		result.Findings = together(append(result.Findings, Finding{File: n.FileName, Line: line(job), What: "job",
			Why: "nothing says any more when it is launched: it runs as soon as it is submitted"}))
	}
	return result, err
}

func line(b *hclsyntax.Block) int { return b.TypeRange.Start.Line }

// reader reads a block of a Nomad file, and reports in the end what nobody asked for.
type reader struct {
	*nomad
	body *hclsyntax.Body
	path string // for findings
	line int
	// what was asked for
	seenAttributes, seenBlocks []string
}

func (n *nomad) open(b *hclsyntax.Block, path string) *reader {
	return &reader{nomad: n, body: b.Body, path: path, line: line(b)}
}

// attr returns an attribute, nil if it is not there.
func (r *reader) attr(name string) *hclsyntax.Attribute {
	r.seenAttributes = append(r.seenAttributes, name)
	return r.body.Attributes[name]
}

// blocks returns the blocks of a type.
func (r *reader) blocks(kind string) []*hclsyntax.Block {
	r.seenBlocks = append(r.seenBlocks, kind)
	var out []*hclsyntax.Block
	for _, b := range r.body.Blocks {
		if b.Type == kind {
			out = append(out, b)
		}
	}
	return out
}

// each reads the blocks of a type.
func (r *reader) each(kind string, read func(*reader, *hclsyntax.Block)) {
	for _, b := range r.blocks(kind) {
		path := r.path + "." + kind
		if len(b.Labels) > 0 {
			path += "." + short(b.Labels[0])
		}
		inner := r.open(b, path)
		read(inner, b)
		inner.rest()
	}
}

// skip says that keys need no word.
func (r *reader) skip(keys ...string) {
	r.seenAttributes, r.seenBlocks = append(r.seenAttributes, keys...), append(r.seenBlocks, keys...)
}

// rest reports what nobody asked for. A block that is written as an attribute, or the other way round, is not what was asked for.
func (r *reader) rest() {
	report := func(seen []string, key string, line int) {
		if !slices.Contains(seen, key) {
			r.find(line, r.path+"."+short(key), "left out", leftOut()[key])
		}
	}
	for _, a := range inOrder(r.body) {
		report(r.seenAttributes, a.Name, a.NameRange.Start.Line)
	}
	for _, b := range r.body.Blocks {
		report(r.seenBlocks, b.Type, line(b))
	}
}

// carry writes an attribute under another name, with the expression that it has.
func (r *reader) carry(key string, to *node, as string) *node {
	a := r.attr(key)
	if a == nil {
		return nil
	}
	value, ok := r.expression(a.Expr, r.path+"."+key)
	if !ok {
		return nil
	}
	out := to.attr(as, value, a.NameRange.Start.Line)
	out.what = r.path + "." + key
	return out
}

// constant returns an attribute's text if it is a plain value.
func (r *reader) constant(key string) (string, bool) {
	a := r.attr(key)
	if a == nil {
		return "", false
	}
	s, ok := plainText(a.Expr)
	if !ok {
		r.find(a.NameRange.Start.Line, r.path+"."+key, "left out: only a plain value is understood here", "")
	}
	return s, ok
}

// pairs reads a map, as an attribute or as a block.
func (r *reader) pairs(key string) (out []pair) {
	add := func(name string, x hclsyntax.Expression, line int) {
		if value, ok := r.expression(x, r.path+"."+key+"."+short(name)); ok {
			out = append(out, pair{name, value, line})
		}
	}
	for _, b := range r.blocks(key) {
		for _, a := range inOrder(b.Body) {
			add(a.Name, a.Expr, a.NameRange.Start.Line)
		}
	}
	a := r.attr(key)
	if a == nil {
		return out
	}
	object, ok := a.Expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		r.find(a.NameRange.Start.Line, r.path+"."+key, "left out: only a map that is written out is understood here", "")
		return out
	}
	for _, item := range object.Items {
		if name, ok := keyText(item.KeyExpr); ok {
			add(name, item.ValueExpr, item.KeyExpr.Range().Start.Line)
		} else {
			r.find(item.KeyExpr.Range().Start.Line, r.path+"."+key, "an entry of it is left out: its name is not a plain text", "")
		}
	}
	return out
}

func inOrder(body *hclsyntax.Body) []*hclsyntax.Attribute {
	var list []*hclsyntax.Attribute
	for _, a := range body.Attributes {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int { return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte) })
	return list
}

// readVariable carries a variable over, if its type is one that Cube has.
func (n *nomad) readVariable(b *hclsyntax.Block) {
	if len(b.Labels) != 1 {
		n.find(line(b), "variable", "left out: it has no name", "")
		return
	}
	out := n.draft.block("variable", b.Labels[0], line(b))
	out.what = "variable." + short(b.Labels[0])
	r := n.open(b, out.what)
	value := "1"
	if a := r.attr("type"); a != nil {
		kind := string(a.Expr.Range().SliceBytes(n.src))
		if kind = strings.TrimSuffix(strings.ReplaceAll(kind, "any", "string"), "\n"); !slices.Contains([]string{"string", `"string"`}, kind) {
			out.attr("type", kind, a.NameRange.Start.Line)
		}
		switch {
		case strings.HasPrefix(kind, "list") || strings.HasPrefix(kind, "set"):
			value = "[]"
		case strings.HasPrefix(kind, "map") || strings.HasPrefix(kind, "object"):
			value = "{}"
		case kind == "bool":
			value = "true"
		case kind == "number":
			value = strconv.Itoa(1 + len(n.given)) // each another: two ports are not the same one
		}
	}
	r.carry("description", out, "description")
	if a := r.attr("default"); a != nil && !isNull(a.Expr) {
		r.carry("default", out, "default")
	} else {
		n.given[b.Labels[0]] = value
	}
	if a := r.attr("sensitive"); a != nil {
		if v, _ := plainText(a.Expr); v == "true" {
			if out.find("default") != nil {
				n.find(a.NameRange.Start.Line, r.path+".sensitive", "left out: a sensitive variable has no default in Cube, since the file is kept", "take the default away")
			} else {
				out.attr("sensitive", "true", a.NameRange.Start.Line)
			}
		}
	}
	r.rest()
}

// readVariables reads the short form: names, each with a default.
func (n *nomad) readVariables(b *hclsyntax.Block) {
	for _, a := range inOrder(b.Body) {
		what := "variables." + short(a.Name)
		if value, ok := n.expression(a.Expr, what); ok {
			out := n.draft.block("variable", a.Name, a.NameRange.Start.Line)
			out.what = what
			out.attr("default", value, a.NameRange.Start.Line)
		}
	}
	for _, inner := range b.Body.Blocks {
		n.find(line(inner), "variables."+short(inner.Type), "left out: it is not known", "")
	}
}

func (n *nomad) readLocals(b *hclsyntax.Block) {
	out := n.draft.block("locals", "", line(b))
	out.free = true
	for _, a := range inOrder(b.Body) {
		if value, ok := n.expression(a.Expr, "locals."+a.Name); ok {
			out.attr(a.Name, value, a.NameRange.Start.Line).what = "locals." + a.Name
		}
	}
	if len(out.children) == 0 {
		n.draft.remove(map[*node]bool{out: true})
	}
}

func (n *nomad) readJob(b *hclsyntax.Block) {
	n.name = b.Labels[0]
	r := n.open(b, "job")
	if name, ok := r.constant("name"); ok {
		n.name = name
	}
	r.skip("id")
	label := dnsLabel(n.name, "job")
	if label != n.name {
		n.find(line(b), "job", "called "+label, "names have lower-case letters, digits and hyphens")
	}
	n.job = n.draft.block("job", label, line(b))
	n.job.what = "job"
	if kind, ok := r.constant("type"); ok && kind != string(api.JobService) {
		n.readType(r, kind)
	}
	if a := r.attr("datacenters"); a != nil && !strings.Contains(string(a.Expr.Range().SliceBytes(n.src)), `"*"`) {
		r.carry("datacenters", n.job, "datacenters")
	}
	if region, ok := r.constant("region"); ok && region != "global" {
		n.find(r.line, "job.region", "left out: a cluster of Cube has no regions", "")
	}
	if namespace, ok := r.constant("namespace"); ok && namespace != "default" {
		n.find(r.line, "job.namespace", "left out: Cube has no namespaces", "begin the job's name with it")
	}
	r.carry("priority", n.job, "priority")
	n.job.pairs("meta", r.pairs("meta"), r.line)
	r.each("periodic", n.readPeriodic)
	r.each("parameterized", n.readParameterized)
	groups := r.blocks("group")
	common := r.inherit(inherited{})
	for _, g := range groups {
		if len(g.Labels) != 1 {
			n.find(line(g), "group", "left out: it has no name", "")
			continue
		}
		n.readGroup(g, common, groups)
	}
	for _, t := range r.blocks("task") { // Nomad makes a group of each
		n.readTask(t, &group{name: n.name, alone: true}, common)
	}
	r.skip("enabled", "all_at_once", "version")
	r.rest()
}

// readPeriodic carries over when a job is launched. What a cron line of Nomad may say and one of Cube may not is refused by Cube's
// own check of the file, and taken out then.
func (n *nomad) readPeriodic(r *reader, b *hclsyntax.Block) {
	if enabled, _ := r.constant("enabled"); enabled == "false" {
		r.skip("cron", "crons", "time_zone", "prohibit_overlap", "spec_type")
		n.find(r.line, r.path, "left out: it is switched off", "")
		n.launched = true
		return
	}
	out := n.job.one("periodic", line(b))
	out.what, out.whole = r.path, true
	n.launched = true
	for _, key := range []string{"cron", "crons"} {
		a := r.attr(key)
		if a == nil {
			continue
		}
		lines, plain := plainTexts(a.Expr)
		if line, ok := plainText(a.Expr); ok {
			lines, plain = []string{line}, true
		}
		if !plain {
			r.carry(key, out, "crons")
			continue
		}
		for i := range lines {
			lines[i] = quote(fiveFields(lines[i]))
		}
		out.attr("crons", list(lines), a.NameRange.Start.Line).what = r.path + "." + key
	}
	r.carry("time_zone", out, "time_zone")
	r.carry("prohibit_overlap", out, "prohibit_overlap")
	r.skip("spec_type")
}

// readParameterized carries over what a dispatch takes.
func (n *nomad) readParameterized(r *reader, b *hclsyntax.Block) {
	out := n.job.one("parameterized", line(b))
	out.what, out.whole = r.path, true
	r.carry("payload", out, "payload")
	n.launched = true
	for _, key := range []string{"meta_required", "meta_optional"} {
		a := r.attr(key)
		if a == nil {
			continue
		}
		keys, ok := plainTexts(a.Expr)
		if !ok {
			r.carry(key, out, key)
			continue
		}
		quoted := make([]string, len(keys))
		for i, told := range keys {
			if keys[i] = variableEnd(told); keys[i] != told {
				n.find(a.NameRange.Start.Line, r.path+"."+key, short(told)+" is called "+short(keys[i])+", as in the name of its variable", "")
			}
			quoted[i] = quote(keys[i])
		}
		n.told = append(n.told, keys...)
		out.attr(key, list(quoted), a.NameRange.Start.Line).what = r.path + "." + key
	}
}

// fiveFields takes seconds of 0 and any year off a line of Nomad, which may have both: Cube's lines have neither.
func fiveFields(line string) string {
	fields := strings.Fields(line)
	if n := len(fields); (n == 6 || n == 7) && fields[n-1] == "*" {
		fields = fields[:n-1]
	}
	if len(fields) == 6 && fields[0] == "0" {
		fields = fields[1:]
	}
	return strings.Join(fields, " ")
}

// variableEnd is a key as Nomad writes it into the name of a variable.
func variableEnd(key string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, key)
}

func (n *nomad) readType(r *reader, kind string) {
	switch line := r.body.Attributes["type"].NameRange.Start.Line; kind {
	case string(api.JobBatch):
		n.job.attr("type", `"batch"`, line)
	case string(api.JobSystem), string(api.JobSysbatch):
		n.job.attr("type", quote(kind), line)
		n.everyNode = true
	default:
		n.find(line, "job.type", "left out: "+short(kind)+" is not known", "")
	}
}

// leftOut is what to do instead of what Cube does not have, by key.
func leftOut() map[string]string {
	const namespaces = "a container of Cube shares no namespace with others"
	const privileges = "Cube grants no more privileges than a container has; do without"
	const image = "put the files into the image, or their text into env"
	return map[string]string{
		"artifact": image, "template": image, "vault": "use a variable with sensitive = true", "secret": "use a variable with sensitive = true", "consul": "Cube needs no Consul", "identity": "Cube gives instances no identity",
		"multiregion": "run it in each cluster", "node_pool": "use constraint with meta of the nodes", "scaling": "use 'cube task scale'",
		"spread": "", "scaling_policy": "", "connect": "name the address in env", "sidecar_service": "",
		"lifecycle": "", "leader": "", "kind": "", "csi_plugin": "", "actions": "use 'cube task exec'", "action": "use 'cube task exec'", "schedule": "",
		"memory_max": "memory is a hard limit: set it to the most that an instance needs", "numa": "", "iops": "", "dynamic": "write the blocks out",
		"vault_token": "", "consul_token": "", "network_mode": namespaces, "ipc_mode": namespaces, "pid_mode": namespaces, "uts_mode": namespaces,
		"userns_mode": namespaces, "cap_add": privileges, "privileged": privileges, "security_opt": privileges, "devices": "name the device in the node's configuration and ask for it with device \"...\" in resources",
		"auth": "run 'docker login' as the user of the agent", "auth_soft_fail": "", "volumes": "", "volume": "", "volume_mount": "", "mount": image, "mounts": image,
		"dns_servers": "Cube leaves the engine's", "dns": "Cube leaves the engine's", "interactive": "use 'cube task exec -it'", "tty": "use 'cube task exec -it'", "init": "use an image with an init process",
		"mac_address": namespaces, "network_aliases": "Cube has no networks of its own", "ulimit": "Cube leaves the engine's", "sysctl": "Cube leaves the engine's", "shm_size": `use config { tmpfs = ["/dev/shm:size=..."] }`,
		"pids_limit": "a container has at most 4,096 processes", "runtime": "Cube uses the engine's default runtime", "load": "push the image to a registry",
		"grpc_service": "Cube asks for the whole server", "grpc_use_tls": "Cube's checks do not speak TLS", "affinity": "", "logs": "", "restart": "", "update": "", "canary_tags": "", "on_update": "",
	}
}
