package micro

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestOneStep: a step's benchmark runs and prints what benchstat reads.
func TestOneStep(t *testing.T) {
	var out bytes.Buffer
	cfg := Config{Count: 2, Time: "10x", Only: regexp.MustCompile("^Diff$")}
	if err := Run(t.Context(), cfg, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "BenchmarkDiff"); n != 2 || !strings.Contains(out.String(), "allocs/op") || !strings.Contains(out.String(), "pkg: cube/client") {
		t.Errorf("%d lines in:\n%s", n, out.String())
	}
}

// TestInstructions runs where valgrind is; make bench and CI do without instructions, and install none.
func TestInstructions(t *testing.T) {
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Skip("valgrind is not installed")
	}
	var out bytes.Buffer
	cfg := Config{Count: 2, Time: "10x", Only: regexp.MustCompile("^Diff$"), Instructions: true}
	if err := Run(t.Context(), cfg, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "instructions/op"); n != 2 {
		t.Errorf("%d lines in:\n%s", n, out.String())
	}
}

// TestEveryStepHasABenchmark: a benchmark that was renamed is missed here and not by whoever wants its figure.
func TestEveryStepHasABenchmark(t *testing.T) {
	for _, s := range Subjects() {
		name := regexp.MustCompile(`Benchmark\w+`).FindString(s.Name)
		out, err := exec.Command("grep", "-rlE", "func "+name+`\(`, "--include=*_test.go", "../../../"+s.Package).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %s has no %s", s.What, s.Package, name)
		}
	}
}

func TestParseCount(t *testing.T) {
	n, name, err := parseCount("BenchmarkX/a-2 \t 3\t 4 ns/op\n==1== I   refs:      167,168,345\n")
	if err != nil || n != 167168345 || name != "BenchmarkX/a-2" {
		t.Errorf("%d %q %v", n, name, err)
	}
	if _, _, err := parseCount("nothing\n"); err == nil {
		t.Error("nothing passed")
	}
}
