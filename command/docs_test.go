package command

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const docsFile = "../website/docs/commands.md"

// marked finds the places of the docs that tests fill in: a comment, and the code blocks that follow it.
func marked() *regexp.Regexp {
	return regexp.MustCompile("(?s)<!-- (golden: [a-z_0-9]+|reference) -->\n(.*?)<!-- end -->|<!-- (golden: [a-z_0-9]+|reference) -->\n")
}

// TestDocsShowWhatCommandsPrint keeps the transcripts of the docs, which are the golden files of other tests, and the
// reference, which is the help of every command, as they are.
func TestDocsShowWhatCommandsPrint(t *testing.T) {
	b, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	text := marked().ReplaceAllStringFunc(string(b), func(place string) string {
		found++
		name := strings.TrimSuffix(strings.TrimPrefix(strings.SplitN(place, "\n", 2)[0], "<!-- "), " -->")
		return fmt.Sprintf("<!-- %s -->\n\n%s\n<!-- end -->\n", name, strings.TrimRight(filling(t, name), "\n")+"\n")
	})
	text = regexp.MustCompile("<!-- end -->\n+").ReplaceAllString(text, "<!-- end -->\n\n")
	text = strings.TrimRight(text, "\n") + "\n"
	if found < 5 {
		t.Errorf("only %d marked places in %s", found, docsFile)
	}
	if *rewrite {
		if err := os.WriteFile(docsFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(b), "\n"), strings.Split(text, "\n")); diff != "" {
		t.Errorf("%s is out of date (go test ./command -run '%s' -rewrite):\n%s", docsFile, t.Name(), diff)
	}
}

func filling(t *testing.T, name string) string {
	if file, ok := strings.CutPrefix(name, "golden: "); ok {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		return "```\n" + strings.TrimSpace(string(b)) + "\n```\n"
	}
	m := newTerminal(t, newFakeCluster()).meta
	m.Agent = newAgentCommand
	commands := m.commands()
	var out strings.Builder
	for _, full := range sortedKeys(commands) {
		c, err := commands[full]()
		if err != nil {
			t.Fatal(err)
		}
		if _, isNoun := c.(*noun); isNoun || !strings.Contains(full, " ") && commands["task "+full] != nil {
			continue
		}
		fmt.Fprintf(&out, "### cube %s\n\n%s.\n\n```\n%s\n```\n\n", full, c.Synopsis(), c.Help())
	}
	return out.String()
}

// TestEveryCommandExplainsItself holds help to its form.
func TestEveryCommandExplainsItself(t *testing.T) {
	m := newTerminal(t, newFakeCluster()).meta
	for name, factory := range m.commands() {
		c, err := factory()
		if err != nil {
			t.Fatal(err)
		}
		help := c.Help()
		for _, want := range []string{"Usage: cube " + name + " ", "Example:\n\n      $ cube "} {
			if !strings.Contains(help, want) {
				t.Errorf("the help of %s does not hold %q:\n%s", name, want, help)
			}
		}
		if _, isNoun := c.(*noun); !isNoun && !strings.Contains(help, "General Options:\n") {
			t.Errorf("the help of %s lists no general options", name)
		}
		for line := range strings.Lines(help) {
			if w := textWidth(strings.TrimSuffix(line, "\n")); w > helpWidth {
				t.Errorf("the help of %s is %d columns wide: %s", name, w, line)
			}
		}
		if s := c.Synopsis(); s == "" || len(s) > 50 || strings.HasSuffix(s, ".") {
			t.Errorf("the synopsis of %s: %q", name, s)
		}
	}
}
