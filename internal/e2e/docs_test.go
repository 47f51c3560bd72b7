package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDocumentation runs every transcript of the pages a newcomer follows, in order, and compares what it prints with
// what the page says. A page's blocks:
//
//	```hcl        a task file; "# NAME" in its first line puts it into the directory the commands run in
//	```console    "$ command" and its output; a line "..." stands for any lines
//
// Commands that begin with "cube agent" go on running until the page ends, as in another terminal. What a command shows may
// come true a little later: a person takes longer to type than most of what happens. Everything runs in a network namespace
// with nothing but loopback, except curl, which asks what Docker has published on this machine.
func TestDocumentation(t *testing.T) {
	for _, page := range []string{"README.md", "website/docs/operating.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", page))
			if err != nil {
				t.Fatal(err)
			}
			p := &reader{t: t, ns: newNamespace(t), dir: t.TempDir(), home: t.TempDir()}
			t.Cleanup(p.sweep)
			if err := os.Symlink(binary, filepath.Join(p.home, "cube")); err != nil {
				t.Fatal(err)
			}
			ran := 0
			for _, b := range blocks(string(text)) {
				switch b.language {
				case "hcl":
					p.file(b.text)
				case "console":
					ran += p.transcript(b.text)
				}
			}
			if ran == 0 {
				t.Error("the page has no transcript")
			}
		})
	}
}

// block is one fenced block of a page.
type block struct{ language, text string }

func blocks(page string) []block {
	var out []block
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)[^\n]*\n(.*?)^```").FindAllStringSubmatch(page, -1) {
		out = append(out, block{m[1], m[2]})
	}
	return out
}

// reader follows a page.
type reader struct {
	t     *testing.T
	ns    *namespace
	dir   string // where commands run
	home  string // holds cube, and the data directory of agents that are given none
	nodes int    // how many clients have been started
}

// sweep removes the containers that agents leave running when they end.
func (p *reader) sweep() {
	for _, pattern := range []string{filepath.Join(p.home, "data"), filepath.Join(p.dir, "*")} {
		files, err := filepath.Glob(filepath.Join(pattern, "client", "node-id"))
		if err != nil {
			p.t.Error(err)
		}
		for _, file := range files {
			node, err := os.ReadFile(file)
			if err != nil {
				p.t.Error(err)
				continue
			}
			if left := strings.Fields(docker(p.t, "ps", "-aq", "--filter", "label=cube.node="+strings.TrimSpace(string(node)))); len(left) > 0 {
				docker(p.t, append([]string{"rm", "-f"}, left...)...)
			}
		}
	}
}

func (p *reader) file(text string) {
	p.t.Helper()
	first, _, _ := strings.Cut(text, "\n")
	name, ok := strings.CutPrefix(first, "# ")
	if !ok || strings.ContainsAny(name, " /") {
		return // an example to read; package jobspec parses it
	}
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *reader) transcript(text string) int {
	p.t.Helper()
	steps := strings.Split("\n"+text, "\n$ ")[1:]
	for _, step := range steps {
		command, want, _ := strings.Cut(step, "\n")
		if strings.HasPrefix(command, "cube agent") {
			p.agent(command, want)
			continue
		}
		got := p.run(command)
		if looks(command) {
			got = p.soon(got, want, command)
		}
		if !matches(normalize(want), normalize(got)) {
			p.t.Errorf("$ %s\nprints\n%s\nthe page says\n%s\nin the same words:\n%s\n---\n%s", command, got, want, normalize(got), normalize(want))
		}
	}
	return len(steps)
}

// looks reports whether a command only shows how things are.
func looks(command string) bool {
	return regexp.MustCompile(`^cube (task (status|explain|timeline|logs)|node status)\b[^;&|>]*$`).MatchString(command)
}

// soon gives what a command shows the time to become what is wanted, and returns what it has shown last.
func (p *reader) soon(got, want, command string) string {
	p.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !matches(normalize(want), normalize(got)) && time.Now().Before(deadline) {
		<-tick.C
		got = p.run(command)
	}
	return got
}

// run runs a command as a shell would. Its exit code is part of the transcript only if it is shown (echo $?).
func (p *reader) run(command string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := p.ns.command("bash", "-c", command)
	if strings.HasPrefix(command, "curl") {
		cmd = exec.Command("bash", "-c", command)
	}
	p.place(cmd)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("$ %s: %v", command, err)
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("$ %s: %v", command, err)
	}
	return out.String()
}

func (p *reader) place(cmd *exec.Cmd) {
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+p.home+":"+os.Getenv("PATH"), "NO_COLOR=1", "CUBE_ADDR=")
}

// agent starts an agent as in a terminal of its own and waits until it has printed what the page shows.
func (p *reader) agent(command, want string) {
	p.t.Helper()
	args := strings.Fields(command)[1:]
	if !strings.Contains(command, "-data-dir") && !strings.Contains(command, "-dev") {
		// The page means the default directory; a test must not touch the machine's own.
		args = append(args, "-data-dir", filepath.Join(p.home, "data"))
	}
	cmd := p.ns.command(filepath.Join(p.home, "cube"), args...)
	p.place(cmd)
	log := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("$ %s: %v", command, err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // how it ends is shown by its log
		close(ended)
	}()
	p.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
			p.t.Errorf("%s did not end within 20 s; its log:\n%s", command, tail(log.String(), 30))
		}
		if !strings.Contains(log.String(), "==> Stopping") {
			p.t.Errorf("%s did not say that it was stopping; its log:\n%s", command, tail(log.String(), 30))
		}
		if p.t.Failed() {
			p.t.Logf("log of %s:\n%s", command, tail(log.String(), 40))
		}
	})
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !matches(normalize(want)+"\n...", normalize(log.String())) {
		if time.Now().After(deadline) {
			p.t.Fatalf("$ %s\nprints\n%s\nthe page says\n%s", command, log, want)
		}
		<-tick.C
	}
	if !strings.Contains(command, "-client") {
		return
	}
	p.nodes++
	for { // until its node is ready: who reads on takes longer than that
		if nodes := p.run("cube node status"); strings.Contains(log.String(), "connected: server=") && strings.Count(nodes, " ready ") == p.nodes {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("$ %s\nits node does not get ready; it prints\n%s", command, log)
		}
		<-tick.C
	}
}

// normalize replaces what differs from run to run by what it is, so that a page may show real output.
func normalize(s string) string {
	host, _ := os.Hostname() // a machine without a name has none to replace
	for _, r := range []struct{ from, to string }{
		{`/tmp/cube-dev-\d+|/\S*/data\b|/var/lib/cube`, "DIR"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)`, "TIME"},
		{`\b\d\d:\d\d:\d\d\b`, "TIME"},
		{`\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b|\b[0-9a-f]{12}\b|\b[0-9a-f]{8}\b`, "ID"},
		{`\b(2\d{4}|3[01]\d{3})\b`, "PORT"},
		{`(just now|\b(\d+(ms|s|m|h|d))+ ago)`, "AGE"},
		{`(\b[\d.]+|-)/([\d.]+ MiB|0\.\d+)`, "USED/$2"},
		{`\b[\d.]+/[\d.]+ GiB`, "SIZE"},
		{`\b[\d.]+ (KiB|MiB|GiB)`, "SIZE"},
		{`\b[\d.]+/\d+(  | [^GM])`, "CORES "},
		{`0\.1\.0(-dev)?`, "VERSION"},
		{`\(\d+ bytes\)`, "(BYTES)"},
		{`\b(in|for) \d+(ms|s|m)\b`, "$1 AGE"},
		{`\b\d+s left\b`, "AGE left"},
		{`\bn[12](, n[12])?\b`, "NODE"}, // which of two that are alike
		{`\[(\d+(\.\.|,))+\d+\]`, "[SLOTS]"},
		{`\[\d\](.* node NODE is drained)`, "[SLOT]$1"}, // which of those that are alike was there
		{`(cannot be pulled: ).*`, "${1}WHY"},           // what the network says
		{` +-?\d\.\d{3}\b`, " SCORE"},
		{`\b(uid \d+|[\w-]+)@`, "WHO@"},
		{`\b(vm|` + regexp.QuoteMeta(host) + `)\b`, "HOST"},
		{`[ \t]+`, " "},
		{`-{3,}`, "---"},
		{` +\n`, "\n"},
	} {
		s = regexp.MustCompile(r.from).ReplaceAllString(s, r.to)
	}
	return steady(strings.TrimSpace(s))
}

// steady takes out of lines what depends on who was faster: of what a monitor says of an instance between two headings only
// the last counts, and instances stand in their order, as they do in logs of several.
func steady(s string) string {
	var out, logs []string
	last := map[string]string{}
	flush := func() {
		out = append(out, slices.Sorted(maps.Values(last))...)
		slices.SortStableFunc(logs, func(a, b string) int { return strings.Compare(strings.Fields(a)[0], strings.Fields(b)[0]) })
		out = append(out, logs...)
		clear(last)
		logs = nil
	}
	for _, line := range strings.Split(s, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 2 && strings.HasPrefix(line, " TIME ") {
			last[fields[1]] = line
			continue
		}
		if len(fields) > 1 && fields[1] == "|" {
			logs = append(logs, line)
			continue
		}
		flush()
		out = append(out, line)
	}
	flush()
	return strings.Join(out, "\n")
}

// matches compares line by line; "..." matches any lines, also none.
func matches(want, got string) bool {
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	for i, line := range strings.Split(want, "\n") {
		if strings.TrimSpace(line) == "..." {
			pattern.WriteString(`(\n?[^\n]*)*?`)
			continue
		}
		if i > 0 {
			pattern.WriteString(`\n`)
		}
		pattern.WriteString(regexp.QuoteMeta(line))
	}
	pattern.WriteString(`\n?\z`)
	return regexp.MustCompile(pattern.String()).MatchString(got)
}

func TestMatching(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a\nb", "a\nb", true}, {"a\nb", "a\nc", false}, {"a\n...\nd", "a\nb\nc\nd", true}, {"a\n...\nd", "a\nd", true},
		{"a\n...", "a\nb", true}, {"a", "a\nb", false}, {"...\nb", "a\nb", true}, {"a\n...\nd", "a\nb", false},
		{normalize("web[0] 38ad8635 3s ago 127.0.0.1:20397"), normalize("web[0]   11111111   12m3s ago   127.0.0.1:31999"), true},
	} {
		if matches(c.want, c.got) != c.ok {
			t.Errorf("matches(%q, %q) is not %v", c.want, c.got, c.ok)
		}
	}
	if got := fmt.Sprint(blocks("x\n```hcl\na\n```\ny\n```console\n$ b\nc\n```\n")); got != "[{hcl a\n} {console $ b\nc\n}]" {
		t.Errorf("blocks are %q", got)
	}
}
