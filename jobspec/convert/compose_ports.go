package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

// port is one that a service listens on.
type port struct {
	label  string // wanted
	static string // on the host, an expression of HCL; "": a free one
	to     int
	line   int
	what   string
	note   string
}

// readPorts reads the short form, [host address:][host port:]port[/protocol] with ranges, and the long one.
func (s *service) readPorts(e entry) {
	for i, item := range e.value.items {
		what := fmt.Sprintf("%s.ports[%d]", s.path, i)
		switch {
		case item.isMap():
			s.readLongPort(item, what)
		case item.isScalar():
			s.readShortPort(item, what)
		}
	}
}

func (s *service) readShortPort(t *tree, what string) {
	spec, protocol, _ := strings.Cut(t.text, "/")
	host, published, inside := "", "", spec
	if i := lastColon(spec); i >= 0 {
		published, inside = spec[:i], spec[i+1:]
		if i := lastColon(published); i >= 0 {
			host, published = strings.Trim(published[:i], "[]"), published[i+1:]
		} else if strings.HasPrefix(published, "[") {
			host, published = strings.Trim(published, "[]"), ""
		}
	}
	if !s.portFits(t.line, what, protocol, host) {
		return
	}
	s.addPorts(&tree{kind: t.kind, tag: "!!str", text: inside, line: t.line}, published, what, "", host)
}

// fields divides a text at the colons that are neither in ${} nor in [].
func fields(s string) []string {
	var out []string
	from, depth := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ':':
			if depth == 0 {
				out = append(out, s[from:i])
				from = i + 1
			}
		}
	}
	return append(out, s[from:])
}

// lastColon finds the last colon that is neither in ${} nor in [].
func lastColon(s string) int {
	depth := 0
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case '}', ']':
			depth++
		case '{', '[':
			depth--
		case ':':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (s *service) readLongPort(t *tree, what string) {
	value := func(key string) string {
		if v := t.get(key); v != nil {
			return v.text
		}
		return ""
	}
	target := t.get("target")
	if target == nil {
		s.compose.find(t.line, what, "left out: it has no target", "")
		return
	}
	if s.portFits(t.line, what, value("protocol"), value("host_ip")) {
		s.addPorts(target, value("published"), what, value("name"), value("host_ip"))
	}
}

// portFits reports whether Cube can publish such a port.
func (s *service) portFits(line int, what, protocol, host string) bool {
	protocol, _ = s.resolved(protocol, 0)
	if protocol = strings.ToLower(protocol); protocol != "" && protocol != "tcp" {
		s.compose.find(line, what, "left out: Cube publishes TCP ports only, not "+short(protocol), "")
		return false
	}
	return true
}

// addPorts adds a port, or those of a range.
func (s *service) addPorts(inside *tree, published, what, name, host string) {
	note := ""
	if host, _ := s.resolved(host, 0); host != "" && host != "0.0.0.0" && host != "::" {
		note = "it was published on " + short(host) + " only; Cube publishes ports on the node's address"
		s.compose.find(inside.line, what, note, "keep others away from it with a firewall")
	}
	text, ok := s.plain(inside, what)
	if !ok {
		return
	}
	first, last, ok := portRange(text)
	if !ok {
		s.compose.find(inside.line, what, "left out: "+short(text)+" is no port", "")
		return
	}
	if last == first && strings.Contains(published, "$") { // the one port may be a variable
		if n, ok := s.number(&tree{kind: inside.kind, tag: "!!str", text: published, line: inside.line}, what); ok {
			s.ports = append(s.ports, port{label: name, static: n, to: first, line: inside.line, what: what, note: note})
			return
		}
	}
	from, to := 0, 0
	if published, _ = s.resolved(published, 0); published != "" && published != "0" { // 0 is any free one
		if from, to, ok = portRange(published); !ok || to-from != last-first && last != first {
			s.compose.find(inside.line, what, "left out: "+short(published)+" are no ports for "+short(text), "")
			return
		}
		if last == first && to > from { // any of them
			s.compose.find(inside.line, what, fmt.Sprintf("it gets any free port of its node, not one of %d-%d", from, to), "")
			from = 0
		}
	}
	for i := range last - first + 1 {
		p := port{label: name, to: first + i, line: inside.line, what: what, note: note}
		if from > 0 {
			p.static = s.static(from+i, inside.line, what)
		}
		s.ports = append(s.ports, p)
	}
}

// static writes a port of the host, "" where Cube gives those away itself.
func (s *service) static(n, line int, what string) string {
	if n >= api.MinDynamicPort && n <= api.MaxDynamicPort {
		s.compose.find(line, what, fmt.Sprintf("%d is among the ports that Cube gives away, %d to %d: it gets any free one", n, api.MinDynamicPort, api.MaxDynamicPort),
			"choose another number for a fixed one")
		return ""
	}
	return strconv.Itoa(n)
}

// portRange reads 80 or 80-85. A range that is longer than the ports of a task is none.
func portRange(s string) (first, last int, ok bool) {
	a, b, isRange := strings.Cut(strings.TrimSpace(s), "-")
	first, err := strconv.Atoi(a)
	last = first
	if err == nil && isRange {
		last, err = strconv.Atoi(b)
	}
	return first, last, err == nil && first > 0 && last >= first && last <= 65535 && last-first < api.MaxNameLength
}

// readExpose: ports for other containers are published too, since that is how tasks reach each other.
func (s *service) readExpose(e entry) {
	for i, item := range e.value.items {
		text, ok := s.plain(item, fmt.Sprintf("%s.expose[%d]", s.path, i))
		if !ok {
			continue
		}
		text, protocol, _ := strings.Cut(text, "/")
		first, last, fits := portRange(text)
		if !fits || protocol != "" && protocol != "tcp" {
			s.find(item.line, fmt.Sprintf("expose[%d]", i), "left out: "+short(item.text)+" is no TCP port", "")
			continue
		}
		for n := first; n <= last; n++ {
			s.listensOn(n, item.line)
		}
	}
}

// listensOn returns the place of a port among the service's, adding a dynamic one if it is not there.
func (s *service) listensOn(to, line int) int {
	if i := slices.IndexFunc(s.ports, func(p port) bool { return p.to == to }); i >= 0 {
		return i
	}
	s.ports = append(s.ports, port{to: to, line: line, what: s.path + ".expose"})
	return len(s.ports) - 1
}

// writePorts writes all ports, each with a label, and the checks' references to them.
func (s *service) writePorts() {
	labels := names{}
	for i := range s.ports {
		p := &s.ports[i]
		p.label = labels.take(portLabel(p.label, p.to))
		b := s.task.block("port", p.label, p.line)
		b.what = p.what
		if p.note != "" {
			b.note(p.note)
		}
		if p.static != "" {
			b.attr("static", p.static, p.line)
		}
		b.attr("to", strconv.Itoa(p.to), p.line)
	}
	for _, check := range s.task.children {
		if a := check.find("port"); check.key == "check" && a != nil {
			if i, err := strconv.Atoi(a.value); err == nil {
				a.value = quote(s.ports[i].label)
			}
		}
	}
	if count := s.task.find("count"); count != nil && count.value != "0" && slices.ContainsFunc(s.ports, func(p port) bool { return p.static != "" }) {
		s.find(count.origin, "ports", "a fixed port goes to one instance a node: more instances need as many nodes", "leave static out to get free ones")
	}
}

// portLabel is what a port is called: as the source says, or by what usually listens there.
func portLabel(name string, to int) string {
	if name = dnsLabel(name, ""); name != "" {
		return name
	}
	switch to {
	case 80, 3000, 5000, 8000, 8080:
		return "http"
	case 443, 8443:
		return "https"
	case 22:
		return "ssh"
	case 25, 587, 1025:
		return "smtp"
	case 3306:
		return "mysql"
	case 5432:
		return "postgres"
	case 5672:
		return "amqp"
	case 6379:
		return "redis"
	case 9092:
		return "kafka"
	case 27017:
		return "mongodb"
	}
	return "port-" + strconv.Itoa(to)
}
