package jobspec

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cube/api"
)

const reference = "../website/docs/task-file.md"

// TestExamplesAreTrue parses every example of the documentation that is marked as hcl, which a task file must be; hcl agent
// marks the configuration of agents. An example that needs values of variables names them in its first line:
// # needs: password.
func TestExamplesAreTrue(t *testing.T) {
	pages, err := filepath.Glob("../website/docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	if _, err := os.Stat("../README.md"); err == nil {
		pages = append(pages, "../README.md")
	}
	found := map[string]int{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range regexp.MustCompile("(?s)\n```hcl *\n(.*?)```\n").FindAllSubmatchIndex(text, -1) {
			found[page]++
			src := text[e[2]:e[3]]
			vars := map[string]string{}
			if names, ok := strings.CutPrefix(strings.SplitN(string(src), "\n", 2)[0], "# needs: "); ok {
				for name := range strings.SplitSeq(names, ", ") {
					vars[name] = "x"
				}
			}
			place := fmt.Sprintf("%s, the example at line %d", page, 1+strings.Count(string(text[:e[2]]), "\n"))
			if _, err := Parse(src, place, vars); err != nil {
				t.Error(err)
			}
			if formatted, err := Format(src, place); err != nil || string(formatted) != string(src) {
				t.Errorf("%s is not laid out as fmt does: %v\n%s", place, err, formatted)
			}
		}
	}
	if found[reference] < 15 {
		t.Errorf("only %d examples were found in %s", found[reference], reference)
	}
}

// TestTheReferenceIsWhole looks for every key and every name that a task file may hold.
func TestTheReferenceIsWhole(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	names := append(append(taskKeys(), headKeys()...), api.Algorithms()...)
	names = append(names, api.Drivers()...)
	for _, driver := range api.Drivers() {
		options, _ := api.DriverOptions(driver)
		for _, o := range options {
			names = append(names, o.Name)
		}
	}
	for f := range functions() {
		names = append(names, f+"(")
	}
	for _, op := range api.Operators() {
		names = append(names, op)
	}
	for _, name := range names {
		if !strings.Contains(string(text), "`"+name) && !strings.Contains(string(text), name+" = true`") {
			t.Errorf("the reference does not say what %s is", name)
		}
	}
	for _, signal := range api.KillSignals() {
		if !strings.Contains(string(text), signal) {
			t.Errorf("the reference does not name %s", signal)
		}
	}
}

func TestTheSampleIsATaskFile(t *testing.T) {
	f, err := Parse(Sample(), "sample.hcl", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Jobs) != 1 || f.Jobs[0].Name != "web" {
		t.Errorf("the sample holds %v", f.Jobs)
	}
	if formatted, err := Format(Sample(), "sample.hcl"); err != nil || string(formatted) != string(Sample()) {
		t.Errorf("the sample is not laid out as fmt does: %v\n%s", err, formatted)
	}
}
