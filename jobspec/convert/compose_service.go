package convert

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"cube/api"
)

func (s *service) readImage(e entry) {
	s.task.attr("image", s.text(e.value, false).String(), e.line).what = s.path + ".image"
}

func (s *service) readBuild(e entry) {
	if s.body.get("image") != nil {
		s.find(e.line, "build", "left out: Cube builds no images", "build the image and push it")
		return
	}
	image := s.task.attr("image", quote(dnsLabel(s.jobName()+"-"+s.name, "app")), e.line)
	s.decide(image, e.line, "build", "Cube builds no images", "build it, push it to a registry, and write its name here")
}

func (s *service) jobName() string {
	for _, n := range s.draft.children {
		if n.key == "job" {
			return n.label
		}
	}
	return s.Name
}

// readProfiles: a service with profiles does not start unless one of them is asked for.
func (s *service) readProfiles(e entry) {
	if len(e.value.items) > 0 {
		count := s.task.attr("count", "0", e.line)
		s.decide(count, e.line, "profiles", "it is not started by itself", "set count, or use 'cube task scale'")
	}
}

func (s *service) readScale(e entry) { s.readCount(e, "scale") }

func (s *service) readCount(e entry, key string) {
	if have := s.task.find("count"); have != nil && have.value == "0" {
		return // of a profile
	}
	if n, ok := s.number(e.value, s.path+"."+key); ok && n != "1" && !s.kind.EveryNode() {
		s.task.attr("count", n, e.line).what = s.path + "." + key
	}
}

// commandLine reads a list of words, or a text that is divided as a shell would.
func (s *service) commandLine(e entry) ([]text, bool) {
	if e.value.isList() {
		return s.texts(e), true
	}
	if !e.value.isScalar() {
		return nil, true
	}
	list, ok := words(e.value.text)
	if !ok {
		s.find(e.line, e.key, "left out: a quote in it is not closed", "")
		return nil, false
	}
	out := make([]text, len(list))
	for i, word := range list {
		out[i] = s.fill(word, e.line, false, 0)
	}
	return out, true
}

// texts reads a list of texts.
func (s *service) texts(e entry) []text {
	var out []text
	for _, item := range e.value.items {
		if item.isScalar() || item.tag == "!!null" {
			out = append(out, s.text(item, false))
			continue
		}
		s.find(item.line, e.key, "an entry of it is left out: a text is expected", "")
	}
	return out
}

func (s *service) readEntrypoint(e entry) {
	line, ok := s.commandLine(e)
	switch {
	case !ok || e.value.isNull():
	case len(line) == 0:
		s.find(e.line, "entrypoint", "left out: Cube cannot take an image's entry point away", "write the program as config { entrypoint = [...] }")
	default:
		s.task.one("config", e.line).attr("entrypoint", list(expressions(line)), e.line).what = s.path + ".entrypoint"
	}
}

func (s *service) readCommand(e entry) {
	line, ok := s.commandLine(e)
	if !ok || e.value.isNull() {
		return
	}
	if len(line) == 0 {
		s.find(e.line, "command", "left out: Cube cannot take an image's command away", "")
		return
	}
	s.task.attr("command", line[0].String(), e.line).what = s.path + ".command"
	if len(line) > 1 {
		s.task.attr("args", list(expressions(line[1:])), e.line).what = s.path + ".command"
	}
}

// readText carries a text over as an attribute of the task.
func (s *service) readText(as string) func(entry) {
	return func(e entry) {
		s.task.attr(as, s.asString(e.value), e.line).what = s.path + "." + e.key
	}
}

// asString writes a text, which stays one where a variable that is a number is all of it.
func (s *service) asString(t *tree) string { return s.text(t, false).String() }

// readOption carries a text over as an option of the driver.
func (s *service) readOption(as string) func(entry) {
	return func(e entry) {
		s.task.one("config", e.line).attr(as, s.asString(e.value), e.line).what = s.path + "." + e.key
	}
}

// readOptionList carries a text or a list of them over as an option of the driver.
func (s *service) readOptionList(as string) func(entry) {
	return func(e entry) {
		texts := s.texts(e)
		if e.value.isScalar() {
			texts = []text{s.text(e.value, false)}
		}
		if len(texts) > 0 {
			s.option(as, expressions(texts), e)
		}
	}
}

// option adds to a list among the driver's options.
func (s *service) option(name string, items []string, e entry) {
	config := s.task.one("config", e.line)
	if have := config.find(name); have != nil {
		have.value = strings.TrimSuffix(have.value, "]") + ", " + strings.Join(items, ", ") + "]"
		return
	}
	config.attr(name, list(items), e.line).what = s.path + "." + e.key
}

func (s *service) readReadOnly(e entry) {
	if v, ok := s.plain(e.value, s.path+".read_only"); ok && v == "true" {
		s.task.one("config", e.line).attr("read_only", "true", e.line)
	}
}

func (s *service) readSignal(e entry) {
	v, ok := s.plain(e.value, s.path+".stop_signal")
	if !ok {
		return
	}
	v = "SIG" + strings.TrimPrefix(strings.ToUpper(v), "SIG")
	if !slices.Contains(api.KillSignals(), v) {
		s.find(e.line, "stop_signal", "left out: Cube does not send "+short(v), "it sends one of "+strings.Join(api.KillSignals(), ", "))
	} else if v != api.DefaultKillSignal {
		s.task.attr("kill_signal", quote(v), e.line)
	}
}

func (s *service) readGrace(e entry) {
	if d, ok := s.duration(e.value, "stop_grace_period"); ok {
		s.task.attr("kill_timeout", d, e.line).what = s.path + ".stop_grace_period"
	}
}

// duration writes a duration, which Compose and Cube write alike.
func (s *service) duration(t *tree, key string) (string, bool) {
	v, ok := s.plain(t, s.path+"."+key)
	if !ok {
		return "", false
	}
	if d, err := time.ParseDuration(v); err != nil || d < 0 {
		s.find(t.line, key, "left out: "+short(v)+" is no duration such as 1m30s", "")
		return "", false
	}
	return quote(v), true
}

// readEnvironment reads a mapping, or a list of NAME=value. A name alone takes its value from where Compose runs.
func (s *service) readEnvironment(e entry) {
	var entries []pair
	add := func(key string, line int, value *tree) {
		if value == nil || value.isNull() {
			v := s.variable(key, line)
			v.used = true
			entries = append(entries, pair{key, "var." + identifier(key), line})
			return
		}
		entries = append(entries, pair{key, s.text(value, true).String(), line})
	}
	for _, item := range e.value.items {
		name, value, ok := strings.Cut(item.text, "=")
		switch {
		case !item.isScalar() || strings.ContainsAny(name, "$") || leadingName(name) != name && !ok:
			s.find(item.line, "environment", "an entry of it is left out: NAME=value is expected", "")
		case ok:
			add(name, item.line, &tree{kind: item.kind, tag: "!!str", text: value, line: item.line})
		default:
			add(name, item.line, nil)
		}
	}
	for _, v := range e.value.entries {
		if v.value.isScalar() || v.value.isNull() && leadingName(v.key) == v.key {
			add(v.key, v.line, v.value)
			continue
		}
		s.find(v.line, "environment."+short(v.key), "left out: a text is expected", "")
	}
	s.task.pairs("env", entries, e.line)
}

func (s *service) readEnvFile(e entry) {
	s.decide(s.task.one("env", e.line), e.line, "env_file", "no other file is read", "write the lines of "+fileNames(e.value)+" into env, secrets as variables with sensitive = true")
}

func fileNames(t *tree) string {
	var list []string
	t.scalars(func(t *tree) {
		if t.tag == "!!str" {
			list = append(list, short(t.text))
		}
	})
	return strings.Join(list, ", ")
}

// readHosts reads host:address or host=address, in a list or as a mapping.
func (s *service) readHosts(e entry) {
	var hosts []string
	for _, item := range e.value.items {
		if item.isScalar() {
			line := item.text
			if name, address, ok := strings.Cut(line, "="); ok && !strings.Contains(name, ":") {
				line = name + ":" + strings.Trim(address, "[]")
			}
			hosts = append(hosts, s.fill(line, item.line, false, 0).String())
		}
	}
	for _, h := range e.value.entries {
		if h.value.isScalar() {
			hosts = append(hosts, append(literal(h.key+":"), s.text(h.value, false)...).String())
		}
	}
	if len(hosts) > 0 {
		s.option("extra_hosts", hosts, e)
	}
}

// readLabels: labels of a container stay labels of the container, since that is where other programs look for them.
func (s *service) readLabels(e entry) {
	labels := s.labels(e)
	for _, l := range labels {
		if strings.HasPrefix(l.key, "cube.") {
			s.find(l.line, "labels."+short(l.key), "left out: labels that begin with cube. are Cube's own", "")
		}
	}
	labels = slices.DeleteFunc(labels, func(l pair) bool { return strings.HasPrefix(l.key, "cube.") })
	if len(labels) > 0 {
		s.task.one("config", e.line).pairs("labels", labels, e.line)
	}
}

// labels reads a mapping, or a list of name=value.
func (s *service) labels(e entry) []pair {
	var out []pair
	for _, item := range e.value.items {
		if name, value, _ := strings.Cut(item.text, "="); item.isScalar() {
			out = append(out, pair{name, s.fill(value, item.line, false, 0).String(), item.line})
		}
	}
	for _, l := range e.value.entries {
		switch {
		case l.value.isScalar():
			out = append(out, pair{l.key, s.text(l.value, false).String(), l.line})
		case l.value.isNull():
			out = append(out, pair{l.key, `""`, l.line})
		}
	}
	return out
}

func (s *service) readPull(e entry) {
	switch v, ok := s.plain(e.value, s.path+".pull_policy"); {
	case !ok || v == "missing" || v == "if_not_present":
	case v == "always":
		s.task.one("config", e.line).attr("force_pull", "true", e.line)
	default:
		s.find(e.line, "pull_policy", "left out: Cube pulls an image that is not there, or with force_pull always", "")
	}
}

func (s *service) readLogging(e entry) {
	driver := e.value.get("driver")
	if driver != nil && driver.text != "json-file" && driver.text != "local" {
		s.find(e.line, "logging", "left out: Cube keeps what a container prints on its node", "collect it from 'cube logs' or from the machine")
		return
	}
	for _, o := range e.value.get("options").pairsOf() {
		switch o.key {
		case "max-size":
			if v, ok := s.plain(o.value, s.path+".logging.options.max-size"); ok {
				s.task.one("config", o.line).attr("log_max_size", quote(binarySize(v)), o.line).what = s.path + ".logging.options.max-size"
			}
		case "max-file":
			if n, ok := s.number(o.value, s.path+".logging.options.max-file"); ok {
				s.task.one("config", o.line).attr("log_max_files", n, o.line).what = s.path + ".logging.options.max-file"
			}
		default:
			s.find(o.line, "logging.options."+short(o.key), "left out", "")
		}
	}
}

// pairsOf returns the entries of a mapping, none of anything else.
func (t *tree) pairsOf() []entry {
	if t == nil {
		return nil
	}
	return t.entries
}

// readDependsOn carries over what a task waits for in its own job. A service that runs to completion is another job.
func (s *service) readDependsOn(e entry) {
	for _, item := range e.value.items {
		s.waitFor(item.text, "service_started", item.line)
	}
	for _, d := range e.value.entries {
		condition := d.value.get("condition").scalar()
		for _, option := range d.value.entries {
			if option.key != "condition" && option.key != "required" {
				s.find(option.line, "depends_on."+short(d.key+"."+option.key), "left out: what runs is left alone when the other changes", "")
			}
		}
		s.waitFor(d.key, cmp.Or(condition, "service_started"), d.line)
	}
}

func (s *service) waitFor(name, condition string, line int) {
	i := slices.IndexFunc(s.services, func(o *service) bool { return o.name == name })
	if i < 0 {
		s.find(line, "depends_on."+short(name), "left out: there is no such service", "")
		return
	}
	other := s.services[i]
	if other.kind != api.JobService || s.kind != api.JobService {
		s.find(line, "depends_on."+short(name), "left out: one that runs to completion or on every node is a job of its own, and jobs do not wait for each other",
			"run the job of "+other.task.label+" first, or let the program try again until it gets an answer")
		return
	}
	b := s.task.block("depends_on", other.task.label, line)
	b.what = s.path + ".depends_on." + short(name)
	switch condition {
	case "service_healthy": // the default
	case "service_started":
		b.attr("condition", `"running"`, line)
	default:
		s.task.remove(map[*node]bool{b: true})
		s.find(line, "depends_on."+short(name), "left out: its condition "+short(condition)+" is not known", "")
	}
}

func (s *service) readNetworks(e entry) {
	var aliases []string
	for _, n := range e.value.entries {
		for _, option := range n.value.entries {
			aliases = append(aliases, option.key)
		}
	}
	if len(aliases) > 0 {
		s.find(e.line, "networks", "left out: Cube has no networks of its own", "")
	}
}

func (s *service) readNetworkMode(e entry) {
	if v := e.value.text; v != "bridge" {
		s.find(e.line, "network_mode", "left out: containers are in the engine's bridge network, with ports of the node", "name its ports with port \"...\" { ... }")
	}
}

func (s *service) readContainerName(e entry) {
	if e.value.text != s.name {
		s.find(e.line, "container_name", "left out: Cube names containers itself", "its instances are "+s.task.label+"[0] and so on")
	}
}

func (s *service) readInit(e entry) {
	if e.value.text == "true" {
		s.find(e.line, "init", "left out: Cube puts no init process into a container", "use an image with one where the program leaves zombies")
	}
}

// readPlatform: an architecture is a condition on nodes.
func (s *service) readPlatform(e entry) {
	if v, ok := s.resolved(e.value.text, 0); ok && v == "" {
		return
	}
	v, ok := s.plain(e.value, s.path+".platform")
	if !ok {
		return
	}
	parts := strings.Split(v, "/")
	if parts[0] != "linux" || len(parts) < 2 {
		s.find(e.line, "platform", "left out: "+short(v)+" is no Linux platform", "")
		return
	}
	b := s.task.block("constraint", "", e.line)
	b.attr("attribute", `"attr.cpu.arch"`, e.line)
	b.attr("value", quote(parts[1]), e.line)
}

// namesOfOthers looks for addresses that name other services: nothing in Cube makes such a name lead anywhere.
func (s *service) namesOfOthers() {
	check := func(key string, t *tree) {
		for _, other := range s.services {
			if s.reaches(key, t.text, other.name) {
				s.find(t.line, short(key), "it names the service "+other.name+", a name that Cube does not resolve",
					"give an address of a node and a static port of "+other.task.label)
			}
		}
	}
	for _, key := range []string{"environment", "command", "entrypoint", "healthcheck"} {
		t := s.body.get(key)
		if t == nil {
			continue
		}
		for _, e := range t.entries {
			e.value.scalars(func(v *tree) { check(key+"."+e.key, v) })
		}
		for _, item := range t.items {
			name, _, _ := strings.Cut(item.text, "=")
			item.scalars(func(v *tree) { check(key+"."+strings.TrimSpace(name), v) })
		}
		if t.isScalar() {
			check(key, t)
		}
	}
}

// reaches reports whether a text holds a service's name where a host stands: before a port, after // or @, or all by itself
// in a variable that is called so.
func (s *service) reaches(key, text, name string) bool {
	if _, value, ok := strings.Cut(text, "="); ok && value == name || text == name {
		upper := strings.ToUpper(key)
		return name != s.name && slices.ContainsFunc([]string{"HOST", "ADDR", "SERVER", "NODE", "BROKER", "ENDPOINT"}, func(w string) bool { return strings.Contains(upper, w) })
	}
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		before, after := text[:from+i], text[from+i+len(name):]
		from += i + len(name)
		begins := before == "" || strings.ContainsAny(before[len(before)-1:], "/@,= ;'\"([")
		port := len(after) > 1 && after[0] == ':' && (after[1] >= '0' && after[1] <= '9' || after[1] == '$')
		host := (strings.HasSuffix(before, "//") || strings.HasSuffix(before, "@")) && (after == "" || after[0] == '/')
		if begins && (port || host) && name != s.name {
			return true
		}
	}
}
