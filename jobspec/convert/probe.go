package convert

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

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
