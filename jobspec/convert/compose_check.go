package convert

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

// readHealth turns a health check into a check: one that asks over HTTP where that is clearly what its command does, else
// one that runs the command.
func (s *service) readHealth(e entry) {
	if off := e.value.get("disable"); off != nil && off.text == "true" {
		return
	}
	test := e.value.get("test")
	if test == nil {
		s.find(e.line, "healthcheck", "left out: it changes the image's own check, which Cube does not run", "write a check")
		return
	}
	line, shell, ok := s.healthCommand(test)
	if !ok {
		return
	}
	check := (&node{}).block("check", "health", e.line)
	check.what = s.path + ".healthcheck"
	command := line
	if shell != "" {
		command, _ = words(shell)
	}
	switch p, clear := readProbe(command); {
	case clear:
		check.attr("type", `"http"`, e.line)
		check.attr("port", strconv.Itoa(s.listensOn(p.port, e.line)), e.line) // its label is not known yet, see writePorts
		p.write(check, e.line)
	default:
		check.attr("type", `"exec"`, e.line)
		if shell != "" {
			line = []string{"/bin/sh", "-c", shell}
		}
		parts := make([]string, len(line))
		for i, word := range line {
			parts[i] = s.fill(word, test.line, false, 0).String()
		}
		check.attr("command", list(parts), e.line)
	}
	s.healthTimes(check, e)
	s.task.children = append(s.task.children, check)
}

// write writes what a probe asks for.
func (p probe) write(check *node, line int) {
	if p.path != "/" && p.path != "" {
		check.attr("path", quote(p.path), line)
	}
	if p.method != "" && p.method != "GET" {
		check.attr("method", quote(p.method), line)
	}
	check.pairs("headers", p.headers, line)
}

// healthCommand reads a test: a command line, or a list that begins with CMD, CMD-SHELL or NONE.
func (s *service) healthCommand(test *tree) (line []string, shell string, ok bool) {
	if test.isScalar() {
		return nil, test.text, true
	}
	for _, item := range test.items {
		line = append(line, item.text)
	}
	switch {
	case len(line) == 0 || line[0] == "NONE":
		return nil, "", false
	case line[0] == "CMD-SHELL" && len(line) == 2:
		return nil, line[1], true
	case line[0] == "CMD" && len(line) > 1:
		return line[1:], "", true
	}
	s.find(test.line, "healthcheck.test", "left out: a list that begins with CMD or CMD-SHELL is expected", "")
	return nil, "", false
}

func (s *service) healthTimes(check *node, e entry) {
	interval := api.DefaultCheckInterval
	for _, h := range e.value.entries {
		switch h.key {
		case "test", "disable":
		case "interval", "start_period":
			d, ok := s.duration(h.value, "healthcheck."+h.key)
			if !ok {
				continue
			}
			check.attr(h.key, d, h.line).what = s.path + ".healthcheck." + h.key
			if h.key == "interval" {
				interval, _ = time.ParseDuration(strings.Trim(d, `"`))
			}
		case "timeout": // below, since it is bounded by the interval
		case "retries":
			if n, ok := s.number(h.value, s.path+".healthcheck.retries"); ok {
				check.attr("failures_before_critical", n, h.line).what = s.path + ".healthcheck.retries"
			}
		case "start_interval":
			s.find(h.line, "healthcheck.start_interval", "left out: while an instance starts Cube asks every second", "")
		default:
			s.find(h.line, "healthcheck."+short(h.key), "left out: it is not known", "")
		}
	}
	if t := e.value.get("timeout"); t != nil {
		if d, ok := s.duration(t, "healthcheck.timeout"); ok {
			if given, _ := time.ParseDuration(strings.Trim(d, `"`)); given > interval {
				s.find(t.line, "healthcheck.timeout", "shortened to the interval, "+interval.String()+": one probe at a time", "")
				d = quote(interval.String())
			}
			check.attr("timeout", d, t.line)
		}
	}
}

// probe is a request that a check makes, read from the command line of curl or wget.
type probe struct {
	port    int
	path    string
	method  string
	headers []pair
}

// readProbe reads a command that clearly asks the instance itself over HTTP and does nothing else.
func readProbe(line []string) (probe, bool) {
	line = withoutShell(line)
	if len(line) < 2 {
		return probe{}, false
	}
	var p probe
	var target string
	tool := path.Base(line[0])
	if tool != "curl" && tool != "wget" {
		return p, false
	}
	for i := 1; i < len(line); i++ {
		word := line[i]
		switch takes, known := flagOf(tool, word); {
		case !strings.HasPrefix(word, "-") && target == "":
			target = word
		case !known:
			return p, false
		case takes:
			name, value, joined := strings.Cut(word, "=")
			if !joined {
				if i++; i == len(line) {
					return p, false
				}
				value = line[i]
			}
			switch name {
			case "-X", "--request":
				p.method = value
			case "-H", "--header":
				header, content, ok := strings.Cut(value, ":")
				if !ok {
					return p, false
				}
				p.headers = append(p.headers, pair{key: strings.TrimSpace(header), value: quote(strings.TrimSpace(content))})
			}
		case word == "-I" || word == "--head":
			p.method = "HEAD"
		}
	}
	for _, h := range p.headers {
		if strings.Contains(h.value, "$") { // it is for a shell, or Compose, to say what it is
			return p, false
		}
	}
	return p, p.aim(target)
}

// withoutShell takes away what a shell does with the exit code and the output: || exit 1, > /dev/null.
func withoutShell(line []string) []string {
	for {
		n := len(line)
		switch {
		case n >= 3 && line[n-3] == "||" && line[n-2] == "exit":
			line = line[:n-3]
		case n >= 2 && line[n-2] == "||" && line[n-1] == "false":
			line = line[:n-2]
		case n >= 2 && (line[n-2] == ">" || line[n-2] == "1>") && line[n-1] == "/dev/null":
			line = line[:n-2]
		case n >= 1 && (line[n-1] == "2>&1" || line[n-1] == ">/dev/null" || line[n-1] == "1>/dev/null" || line[n-1] == "2>/dev/null"):
			line = line[:n-1]
		default:
			return line
		}
	}
}

// flagOf says whether a flag changes nothing about what is asked, and whether it takes a value.
func flagOf(tool, word string) (takes, known bool) {
	name, _, joined := strings.Cut(word, "=")
	plain := map[string][]string{
		"curl": {"--fail", "--silent", "--show-error", "--location", "--head", "-I", "--no-progress-meter", "--ipv4", "-4", "--fail-with-body"},
		"wget": {"--spider", "--quiet", "--no-verbose", "-nv", "-O-", "-qO-", "-S", "--server-response", "-4", "-q"},
	}
	valued := map[string][]string{
		"curl": {"-o", "--output", "-X", "--request", "-H", "--header", "-m", "--max-time", "--connect-timeout", "--retry"},
		"wget": {"-O", "-qO", "--output-document", "-t", "--tries", "-T", "--timeout", "--header"},
	}
	switch {
	case slices.Contains(plain[tool], word):
		return false, true
	case slices.Contains(valued[tool], name):
		return !joined, true
	case tool == "curl" && len(word) > 1 && word[1] != '-': // -fsSL
		return false, strings.Trim(word[1:], "fsSL") == ""
	}
	return false, false
}

// aim reads the address, which must be the instance's own.
func (p *probe) aim(target string) bool {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.User != nil || strings.Contains(target, "$") {
		return false
	}
	if !slices.Contains([]string{"localhost", "127.0.0.1", "0.0.0.0", "::1"}, u.Hostname()) {
		return false
	}
	p.port = 80
	if u.Port() != "" {
		if p.port, err = strconv.Atoi(u.Port()); err != nil || p.port < 1 || p.port > 65535 {
			return false
		}
	}
	p.path = u.RequestURI()
	return true
}
