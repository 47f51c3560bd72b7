package convert

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube/jobspec"
)

var rewrite = flag.Bool("rewrite", false, "write what is now the outcome into testdata")

// converters are the kinds of sources, by the directory of their examples.
func converters() map[string]func([]byte, Options) (*Result, error) {
	return map[string]func([]byte, Options) (*Result, error){"compose": Compose, "nomad": Nomad}
}

// TestGolden holds what each file of testdata becomes against the task file and the findings beside it.
func TestGolden(t *testing.T) {
	for kind, convert := range converters() {
		files, err := filepath.Glob("testdata/" + kind + "/*.in")
		if err != nil || len(files) < 10 {
			t.Errorf("only %d files of %s: %v", len(files), kind, err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".in")
			t.Run(kind+"/"+name, func(t *testing.T) {
				src, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				result, err := convert(src, Options{FileName: name, Name: "shop"})
				if err != nil {
					compare(t, strings.TrimSuffix(file, ".in")+".err", err.Error()+"\n")
					return
				}
				sound(t, result)
				var findings strings.Builder
				for _, f := range result.Findings {
					findings.WriteString(f.String() + "\n")
				}
				compare(t, strings.TrimSuffix(file, ".in")+".hcl", string(result.HCL))
				compare(t, strings.TrimSuffix(file, ".in")+".findings", findings.String())
			})
		}
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test ./jobspec/convert -rewrite writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); if it is right: go test ./jobspec/convert -rewrite\n%s", file, diff)
	}
}

// fataler is what a test and a property have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sound checks what holds of every result: Cube takes it, it is laid out as fmt does, and each finding says where and what.
func sound(t fataler, r *Result) {
	t.Helper()
	if _, err := jobspec.Parse(r.HCL, "f.hcl", needed(t, r.HCL)); err != nil {
		t.Fatalf("Cube does not take it: %v\n%s", err, r.HCL)
	}
	formatted, err := jobspec.Format(r.HCL, "f.hcl")
	if err != nil || string(formatted) != string(r.HCL) {
		t.Fatalf("it is not laid out as fmt does: %v\n%s", err, r.HCL)
	}
	for _, f := range r.Findings {
		if f.Line < 1 || f.What == "" || f.Why == "" || f.String() != printable(f.String()) {
			t.Fatalf("a finding does not say where and what: %#v", f)
		}
	}
}

// needed gives a value to each variable that has none.
func needed(t fataler, src []byte) map[string]string {
	t.Helper()
	body, err := jobspec.Syntax(src, "f.hcl")
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	given := map[string]string{}
	for _, b := range body.Blocks {
		if b.Type == "variable" && b.Body.Attributes["default"] == nil {
			given[b.Labels[0]] = "1"
			if a := b.Body.Attributes["type"]; a != nil {
				given[b.Labels[0]] = valueOf(string(a.Expr.Range().SliceBytes(src)), 1+len(given))
			}
		}
	}
	return given
}

// valueOf is a value of a type as it is written, of a number the nth.
func valueOf(of string, n int) string {
	switch kind, _, _ := strings.Cut(of, "("); kind {
	case "list", "set":
		return `["1"]`
	case "map":
		return `{ "a" = "1" }`
	case "bool":
		return "true"
	case "number":
		return strconv.Itoa(n)
	}
	return "1"
}
