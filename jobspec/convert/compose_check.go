package convert

import (
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
