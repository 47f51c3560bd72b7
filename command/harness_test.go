package command

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

var rewrite = flag.Bool("rewrite", false, "write what the commands print into testdata/golden")

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// terminal is a person's end of a command: what they type, what they see and when they press Ctrl-C.
type terminal struct {
	t              *testing.T
	meta           *Meta
	stdin          bytes.Buffer
	stdout, stderr buffer
	columns, rows  int // 0: no terminal
	env            map[string]string
	interrupt      context.CancelFunc
}

// newTerminal returns a pipe's end of commands that ask cluster; resize makes it a terminal.
func newTerminal(t *testing.T, cluster api.Cluster) *terminal {
	p := &terminal{t: t, env: map[string]string{"USER": "ada"}}
	interrupts, interrupt := context.WithCancel(context.Background())
	p.interrupt = interrupt
	t.Cleanup(interrupt)
	p.meta = &Meta{
		Stdin: &p.stdin, Stdout: &p.stdout, Stderr: &p.stderr, Context: context.Background(), Version: "0.0.0-test",
		Getenv:    func(name string) string { return p.env[name] },
		Environ:   func() []string { return p.environ() },
		Now:       func() time.Time { return time.Now().UTC() },
		Size:      func() (int, int, bool) { return p.columns, p.rows, p.columns > 0 },
		Interrupt: func(context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(interrupts) },
		Connect:   func(string) (api.Cluster, error) { return cluster, nil },
	}
	return p
}

func (p *terminal) environ() []string {
	var out []string
	for _, k := range sortedKeys(p.env) {
		out = append(out, k+"="+p.env[k])
	}
	return out
}

// fresh forgets what was shown so far.
func (p *terminal) fresh() {
	for _, b := range []*buffer{&p.stdout, &p.stderr} {
		b.mu.Lock()
		b.b.Reset()
		b.mu.Unlock()
	}
}

// cube runs a command and checks its exit code.
func (p *terminal) cube(wantCode int, args ...string) {
	p.t.Helper()
	if code := p.meta.main(args); code != wantCode {
		p.t.Fatalf("cube %s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), code, wantCode, p.stdout.String(), p.stderr.String())
	}
}

func (p *terminal) shows(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if !strings.Contains(p.stdout.String(), w) {
			p.t.Errorf("stdout does not hold %q:\n%s", w, p.stdout.String())
		}
	}
}

func (p *terminal) complains(want ...string) {
	p.t.Helper()
	for _, w := range want {
		if !strings.Contains(p.stderr.String(), w) {
			p.t.Errorf("stderr does not hold %q:\n%s", w, p.stderr.String())
		}
	}
}

// golden compares text with a file of testdata/golden, or writes it there with -rewrite.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./command -run '%s' -rewrite", err, t.Name())
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("%s (-want +got; if it is better now: go test ./command -run '%s' -rewrite):\n%s", path, t.Name(), diff)
	}
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// emulate plays what a command wrote on a terminal and returns the lines that stand there at the end. It knows the few
// sequences a monitor uses, and fails the test at any other.
func emulate(t *testing.T, written string) []string {
	t.Helper()
	var lines []string
	row, col := 0, 0
	text := colours.ReplaceAllString(written, "")
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "\x1b[J"):
			lines = lines[:min(row, len(lines))]
			text = text[len("\x1b[J"):]
			continue
		case strings.HasPrefix(text, "\x1b["):
			up := regexp.MustCompile(`^\x1b\[([0-9]+)A`).FindStringSubmatch(text)
			if up == nil {
				t.Fatalf("an unknown sequence: %q", text[:min(len(text), 12)])
			}
			n := 0
			for _, d := range up[1] {
				n = n*10 + int(d-'0')
			}
			if row -= n; row < 0 {
				t.Fatalf("the cursor went above the first line")
			}
			text = text[len(up[0]):]
			continue
		}
		c := text[0]
		text = text[1:]
		switch c {
		case '\r':
			col = 0
		case '\n':
			row, col = row+1, 0
		default:
			for len(lines) <= row {
				lines = append(lines, "")
			}
			lines[row] = lines[row][:min(col, len(lines[row]))] + string(c)
			col = len(lines[row])
		}
	}
	return lines
}
