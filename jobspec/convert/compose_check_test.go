package convert

import (
	"fmt"
	"strings"
	"testing"
)

// TestProbes: a health check becomes a request only where that is clearly all it is.
func TestProbes(t *testing.T) {
	for command, want := range map[string]string{
		"curl -f http://localhost:8080/health":                                 "8080 /health",
		"curl -fsSL -o /dev/null -m 3 http://127.0.0.1/ || exit 1":             "80 /",
		"/usr/bin/curl --fail --silent localhost:3000/live?full=1 > /dev/null": "3000 /live?full=1",
		"curl -I http://[::1]:9000":                                            "9000 / HEAD",
		"curl -X POST -H 'Host: shop.example' http://0.0.0.0:80/x":             `80 /x POST Host="shop.example"`,
		"wget --no-verbose --tries=1 --spider http://localhost:9090/-/healthy": "9090 /-/healthy",
		"wget -qO- http://localhost/ping 2>&1":                                 "80 /ping",
		"wget -q -O /dev/null http://localhost:81/ || false":                   "81 /",
		"curl -f https://localhost/":                                           "", // TLS
		"curl -f http://db:8080/":                                              "", // another
		"curl -f http://localhost:8080/ | grep ok":                             "", // looks at the answer
		"curl -f http://localhost:1/ && curl -f http://localhost:2/":           "",
		"curl -f http://user:password@localhost/":                              "",
		"curl -f http://localhost:${PORT}/":                                    "",
		"curl -d x http://localhost/":                                          "", // sends something
		"curl -o":                                                              "",
		"pg_isready -U shop":                                                   "",
		"curl":                                                                 "",
	} {
		line, ok := words(command)
		if !ok {
			t.Fatalf("%q: a quote is open", command)
		}
		got := ""
		if p, clear := readProbe(line); clear {
			got = strings.TrimSpace(fmt.Sprintf("%d %s %s", p.port, p.path, p.method))
			for _, h := range p.headers {
				got += " " + h.key + "=" + h.value
			}
		}
		if got != want {
			t.Errorf("%q is %q, not %q", command, got, want)
		}
	}
}

// TestWords: a command line is divided as a shell would.
func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		`a b  c`:                     `[a b c]`,
		`sh -c 'echo "x y"'`:         `[sh -c echo "x y"]`,
		`a "b c"d e\ f ''`:           `[a b cd e f ]`,
		`run --x=${A:-b c} "${D e}"`: `[run --x=${A:-b c} ${D e}]`,
		`"\"" '\'`:                   `[" \]`,
	} {
		if got, ok := words(line); fmt.Sprint(got) != want || !ok {
			t.Errorf("%s is %v (%v), not %s", line, got, ok, want)
		}
	}
	for _, line := range []string{`"a`, `a '`, `a\`} {
		if got, ok := words(line); ok {
			t.Errorf("%s is %q", line, got)
		}
	}
}
