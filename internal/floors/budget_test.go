package floors

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"os"
	"sort"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "record today's maxima in testdata/maxima.txt")

const maximaFile = "testdata/maxima.txt"

// budget is what a newcomer can hold in the head. Hard limits hold for everything but the packages named.
type budget struct {
	metric string
	hard   int
	exempt map[string]string // package -> reason
}

func budgets() []budget {
	return []budget{
		{"file-lines", 700, nil},
		{"function-lines", 100, nil},
		{"struct-fields", 20, map[string]string{"api": "the task and the allocation are as wide as what people say of them"}},
		{"package-files", 15, map[string]string{"api": "one noun a file", "command": "one command a file"}},
	}
}

// TestBudgets keeps the tail short: files, functions, structs and packages stay under the hard limits, and the longest of
// each package never grows past what is recorded. What shrank is recorded with -rewrite.
func TestBudgets(t *testing.T) {
	measured := measure(tree(t))
	for _, b := range budgets() {
		for key, m := range measured {
			if !strings.HasSuffix(key, " "+b.metric) {
				continue
			}
			pkg := strings.TrimSuffix(key, " "+b.metric)
			if _, ok := b.exempt[pkg]; !ok && m.n > b.hard {
				t.Errorf("%s: %s is %d, over the hard limit of %d: %s", pkg, b.metric, m.n, b.hard, m.where)
			}
		}
	}
	if *rewrite {
		record(t, measured)
		return
	}
	for key, max := range recorded(t) {
		if m := measured[key]; m.n > max {
			t.Errorf("%s grew from %d to %d: %s; divide it (or argue for it: go test ./internal/floors -rewrite)", key, max, m.n, m.where)
		}
	}
}

type measurement struct {
	n     int
	where string
}

// measure finds the maxima of each package, by "package metric".
func measure(files []source) map[string]measurement {
	out := map[string]measurement{}
	keep := func(pkg, metric string, n int, where string) {
		if key := pkg + " " + metric; n > out[key].n {
			out[key] = measurement{n, where}
		}
	}
	count := map[string]int{}
	for _, s := range files {
		if s.test {
			continue
		}
		count[s.pkg]++
		keep(s.pkg, "package-files", count[s.pkg], s.pkg)
		keep(s.pkg, "file-lines", s.lines, s.path)
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				start, end := s.fset.Position(n.Pos()).Line, s.fset.Position(n.End()).Line
				keep(s.pkg, "function-lines", end-start+1, fmt.Sprintf("%s:%d %s", s.path, start, n.Name.Name))
			case *ast.TypeSpec:
				if st, ok := n.Type.(*ast.StructType); ok {
					keep(s.pkg, "struct-fields", fields(st), fmt.Sprintf("%s:%d %s", s.path, s.fset.Position(n.Pos()).Line, n.Name.Name))
				}
			}
			return true
		})
	}
	return out
}

func fields(st *ast.StructType) int {
	n := 0
	for _, f := range st.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}

func record(t *testing.T, measured map[string]measurement) {
	t.Helper()
	keys := make([]string, 0, len(measured))
	for k := range measured {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s %d\n", k, measured[k].n)
	}
	if err := os.WriteFile(maximaFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func recorded(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open(maximaFile)
	if err != nil {
		t.Fatalf("the recorded maxima are missing: %v; record them with go test ./internal/floors -rewrite", err)
	}
	defer f.Close()
	out := map[string]int{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var pkg, metric string
		var n int
		if _, err := fmt.Sscanf(sc.Text(), "%s %s %d", &pkg, &metric, &n); err != nil {
			t.Fatalf("%s: %q: %v", maximaFile, sc.Text(), err)
		}
		out[pkg+" "+metric] = n
	}
	return out
}
