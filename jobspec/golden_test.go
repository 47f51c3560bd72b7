package jobspec

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

var rewrite = flag.Bool("rewrite", false, "write what is now the outcome into testdata")

// variablesOf reads the first line of a test file: # vars: name=value name=value, split where a name begins.
func variablesOf(src []byte) map[string]string {
	vars := map[string]string{}
	line, _, _ := strings.Cut(string(src), "\n")
	list, ok := strings.CutPrefix(line, "# vars: ")
	if !ok {
		return vars
	}
	last := ""
	for word := range strings.SplitSeq(list, " ") {
		if name, value, ok := strings.Cut(word, "="); ok && name != "" {
			last, vars[name] = name, value
		} else {
			vars[last] += " " + word
		}
	}
	return vars
}

// TestGolden holds each file of testdata against the jobs (.json) or the error (.err) beside it.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) < 9 {
		t.Fatalf("only %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hcl"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, ending, other := outcome(t, src, filepath.Base(file))
			golden := strings.TrimSuffix(file, ".hcl") + ending
			if *rewrite {
				_ = os.Remove(strings.TrimSuffix(file, ".hcl") + other)
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s is not there (go test ./jobspec -rewrite); the outcome is\n%s", golden, got)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("want -, got + (go test ./jobspec -rewrite):\n%s", diff)
			}
		})
	}
}

func outcome(t *testing.T, src []byte, name string) (got []byte, ending, other string) {
	file, err := Parse(src, name, variablesOf(src))
	if err != nil {
		return []byte(string(api.CodeOf(err)) + "\n" + err.Error() + "\n"), ".err", ".json"
	}
	type kept struct {
		*api.Job
		Source    struct{} // the text is beside this file
		Variables map[string]string
	}
	var out []kept
	for _, j := range file.Jobs {
		if j.Source == nil || j.Source.HCL != string(src) || j.Source.FileName != name {
			t.Errorf("job %q does not keep its source", j.Name)
		}
		out = append(out, kept{Job: j, Variables: j.Source.Variables})
	}
	got, err = json.MarshalIndent(out, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(got, '\n'), ".json", ".err"
}

// TestFormatKeepsTheMeaning lays out each file of testdata that is HCL: what it says stays the same, and a second time
// changes nothing.
func TestFormatKeepsTheMeaning(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.hcl")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Format(src, file)
		if file == "testdata/syntax.hcl" {
			if api.CodeOf(err) != api.CodeInvalid || !strings.HasPrefix(err.Error(), file+":2:11: ") {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := Format(out, file)
		if err != nil || string(again) != string(out) {
			t.Errorf("%s: a second time it is laid out differently: %v", file, err)
		}
		one, errOne := Parse(src, file, variablesOf(src))
		two, errTwo := Parse(out, file, variablesOf(src))
		if (errOne == nil) != (errTwo == nil) {
			t.Fatalf("%s: %v before, %v after", file, errOne, errTwo)
		}
		if errOne == nil {
			equal(t, one.Jobs, two.Jobs)
		}
	}
}

// equal fails the test if two lists of jobs ask for different things.
func equal(t interface {
	Helper()
	Fatalf(string, ...any)
}, one, two []*api.Job) {
	t.Helper()
	if len(one) != len(two) {
		t.Fatalf("%d jobs and %d jobs", len(one), len(two))
	}
	for i := range one {
		if !api.SpecEqual(one[i], two[i]) {
			t.Fatalf("job %q is not the same:\n%s", one[i].Name, cmp.Diff(one[i], two[i]))
		}
	}
}
