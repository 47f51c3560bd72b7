package floors

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "record what is beyond the soft limits in testdata/maxima.txt")

const maximaFile = "testdata/maxima.txt"

// budget is what a newcomer can hold in the head. Up to soft a package may do as it likes; what is beyond stands in
// maximaFile and may only fall; nothing goes beyond hard.
type budget struct {
	metric     string
	soft, hard int
	exempt     map[string]string // package -> reason
}

func budgets() []budget {
	return []budget{
		{"file-lines", 500, 700, nil},
		{"function-lines", 70, 100, nil},
		{"struct-fields", 20, 22, map[string]string{"api": "the task and the allocation are as wide as what people say of them"}},
		{"package-files", 15, 18, map[string]string{"api": "one noun a file", "command": "one command a file"}},
		{"exported-names", 25, 60, map[string]string{"api": "it is the vocabulary"}},
	}
}

// TestBudgets keeps the tail short.
func TestBudgets(t *testing.T) {
	measured := measure(tree(t))
	beyond := map[string]int{}
	for _, b := range budgets() {
		for key, m := range measured {
			pkg, metric, _ := strings.Cut(key, " ")
			if _, exempt := b.exempt[pkg]; metric != b.metric || exempt || m.n <= b.soft {
				continue
			}
			beyond[key] = m.n
			if m.n > b.hard {
				t.Errorf("%s: %s is %d, over the hard limit of %d: %s", pkg, metric, m.n, b.hard, m.where)
			}
		}
	}
	if *rewrite {
		record(t, beyond)
		return
	}
	known := recorded(t)
	for key, n := range beyond {
		if n > known[key] {
			t.Errorf("%s is %d, was %d: %s; divide it (or argue for it: go test ./internal/floors -rewrite)", key, n, known[key], measured[key].where)
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
	count, names := map[string]int{}, map[string]int{}
	for _, s := range files {
		if s.test {
			continue
		}
		count[s.pkg]++
		keep(s.pkg, "package-files", count[s.pkg], s.pkg)
		keep(s.pkg, "file-lines", s.lines, s.path)
		names[s.pkg] += exported(s.file)
		keep(s.pkg, "exported-names", names[s.pkg], s.pkg)
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

// exported counts the exported names of a file: types, functions, constants and variables, not methods.
func exported(f *ast.File) int {
	n := 0
	count := func(id *ast.Ident) {
		if id.IsExported() {
			n++
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				count(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					count(spec.Name)
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						count(id)
					}
				}
			}
		}
	}
	return n
}

func record(t *testing.T, beyond map[string]int) {
	t.Helper()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(beyond)) {
		fmt.Fprintf(&b, "%s %d\n", k, beyond[k])
	}
	if err := os.MkdirAll(filepath.Dir(maximaFile), 0o755); err != nil {
		t.Fatal(err)
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
