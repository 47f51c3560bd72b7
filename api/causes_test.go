package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestEveryCauseHasWords reads the causes out of the source, so that a new one without words is found.
func TestEveryCauseHasWords(t *testing.T) {
	causes := causesOf(t)
	if len(causes) < 15 {
		t.Fatalf("only %d causes were found: %v", len(causes), causes)
	}
	for name, cause := range causes {
		words := CauseWords(cause)
		if words == cause || words == "" {
			t.Errorf("%s (%q) has no words; give it some in CauseWords", name, cause)
		}
		m := Moment{Event: Event{Type: EventPlaced, Job: "web", Task: "web", Cause: cause, Version: 2, Detail: "n1"}, Slots: []Span{{0, 0}}, Count: 1}
		if text := m.sentence([]string{"n2"}); strings.HasSuffix(text, ": "+cause) || strings.HasSuffix(text, ": ") {
			t.Errorf("a timeline says %q of %s", text, name)
		}
	}
	if got := CauseWords("of-a-newer-server"); got != "of-a-newer-server" {
		t.Errorf("what is not known is %q", got)
	}
}

// causesOf returns the constants of this package whose names begin with Cause.
func causesOf(t *testing.T) map[string]string {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	causes := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "Cause") {
				if text, ok := v.Values[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
					causes[v.Names[0].Name], err = strconv.Unquote(text.Value)
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			return true
		})
	}
	return causes
}
