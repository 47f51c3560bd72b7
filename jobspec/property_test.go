package jobspec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
)

// drawFile writes a task file of parts that each may be there or not, laid out carelessly.
func drawFile(t *rapid.T) string {
	var b strings.Builder
	gap := func() string { return rapid.SampledFrom([]string{" ", "  ", "\t", "   "}).Draw(t, "gap") }
	line := func(format string, args ...any) {
		if rapid.Bool().Draw(t, "there") {
			b.WriteString(gap() + strings.ReplaceAll(fmt.Sprintf(format, args...), " = ", gap()+"="+gap()) + rapid.SampledFrom([]string{"\n", "\n\n", " # why\n"}).Draw(t, "end"))
		}
	}
	word := rapid.StringMatching(`[a-z]([a-z0-9-]{0,6}[a-z0-9])?`)
	text := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%q", strings.NewReplacer("${", "$", "%{", "%").Replace(rapid.StringMatching(`[ -~]{0,12}`).Draw(t, "text")))
	})
	fmt.Fprintf(&b, "variable \"v\" {\n%sdefault = %s\n}\nlocals {\n l = \"${var.v}-${node.name}\"\n}\n", gap(), text.Draw(t, "default"))
	for i := range rapid.IntRange(1, 3).Draw(t, "tasks") {
		fmt.Fprintf(&b, "task \"%s-%d\" {\nimage = %q\n", word.Draw(t, "name"), i, word.Draw(t, "image"))
		line("count = %d", rapid.IntRange(0, 9).Draw(t, "count"))
		line("priority = %d", rapid.IntRange(1, 100).Draw(t, "priority"))
		line("args = [%s,%s, var.v ,local.l]", text.Draw(t, "a"), text.Draw(t, "b"))
		line("command = %s", text.Draw(t, "command"))
		line("env = {\n A = %s\n B = \"x${var.v}\", C = %d\n}", text.Draw(t, "env"), rapid.IntRange(-5, 5).Draw(t, "c"))
		line("meta {\n owner = %s\n}", text.Draw(t, "owner"))
		line("port %q {\n to = %d\n}", word.Draw(t, "label"), rapid.IntRange(1, 65535).Draw(t, "to"))
		line("resources {\n cpu = %g\n memory = \"%dMiB\"\n device \"gpu\" {\n share = %g\n}\n}", rapid.SampledFrom([]float64{0.05, 0.25, 1, 2.5}).Draw(t, "cpu"), rapid.IntRange(8, 4096).Draw(t, "memory"), float64(rapid.IntRange(1, 1000).Draw(t, "share"))/1000)
		line("restart {\n attempts = %d\n delay = \"%ds\"\n}", rapid.IntRange(1, 9).Draw(t, "attempts"), rapid.IntRange(1, 60).Draw(t, "delay"))
		line("shutdown_delay = \"%dms\"", rapid.IntRange(1, 9999).Draw(t, "delay"))
		line("kill_timeout = \"%dms\"", rapid.IntRange(1, 9999).Draw(t, "kill"))
		line("constraint {\n attribute = \"${meta.%s}\"\n operator = %q\n value = %s\n}", word.Draw(t, "key"), rapid.SampledFrom([]string{"=", "!=", "<", "set_contains"}).Draw(t, "op"), `"x"`)
		line("spread {\n attribute = \"node.name\"\n target \"n1\" {\n percent = %d\n}\n}", rapid.IntRange(0, 100).Draw(t, "percent"))
		line("config {\n hostname = %s\n tmpfs = [\"/a\",\n\"/b\" ]\n}", text.Draw(t, "hostname"))
		b.WriteString("}\n")
	}
	return b.String()
}

// TestLayoutHasNoMeaning: what a file says does not depend on how it is laid out, nor on when it is read.
func TestLayoutHasNoMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := drawFile(t)
		vars := map[string]string{}
		if rapid.Bool().Draw(t, "given") {
			vars["v"] = rapid.StringMatching(`[ -~]{0,12}`).Draw(t, "v")
		}
		one, err := Parse([]byte(src), "f.hcl", vars)
		if err != nil {
			t.Fatalf("%s\n%s", err, src)
		}
		out, err := Format([]byte(src), "f.hcl")
		if err != nil {
			t.Fatal(err)
		}
		two, err := Parse(out, "f.hcl", vars)
		if err != nil {
			t.Fatalf("%s\n%s", err, out)
		}
		equal(t, one.Jobs, two.Jobs)
		again, err := Parse([]byte(src), "f.hcl", vars)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, one.Jobs, again.Jobs)
		for _, j := range one.Jobs {
			if err := j.Validate(); err != nil {
				t.Fatalf("an accepted job is not valid: %s", err)
			}
		}
	})
}

// FuzzParse holds any text to what is promised: jobs that are valid, or an error that names a place; and a layout that can
// be read again. Hostile texts are in hostile_test.go; here the fuzzer looks for their relatives.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds: ", err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, "1")
	}
	f.Add(Sample(), "x")
	for _, s := range []string{inTask(`user = "${1 - -1}"`), inTask("env = {a = 1, (\"b\") = 2}"), "a = <<-E\n ${\"}\"}\n E\n", "locals{a=[1][0]}"} {
		f.Add([]byte(s), `["a"]`)
	}
	f.Fuzz(func(t *testing.T, src []byte, value string) {
		vars := variablesOf(src)
		for _, name := range Declared(src) {
			if vars[name] == "" {
				vars[name] = value
			}
		}
		file, err := Parse(src, "f.hcl", vars)
		_, _ = ParseVariables(src, "f.vars")
		if err != nil {
			var e *api.Error
			if !errors.As(err, &e) || e.Code != api.CodeInvalid && e.Code != api.CodeNotYet || !strings.HasPrefix(e.Message, "f.hcl:") {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		for _, j := range file.Jobs {
			if err := j.Validate(); err != nil {
				t.Errorf("an accepted job is not valid: %s", err)
			}
		}
		out, err := Format(src, "f.hcl")
		if err != nil {
			t.Fatalf("what can be read cannot be laid out: %s", err)
		}
		again, err := Parse(out, "f.hcl", vars)
		if err != nil {
			t.Fatalf("laid out it is wrong: %s\n%s", err, out)
		}
		equal(t, file.Jobs, again.Jobs)
	})
}

// TestFilesOfVariables reads what -var-file takes.
func TestFilesOfVariables(t *testing.T) {
	got, err := ParseVariables([]byte("# prod\ntag = \"1.2\"\ncount = 3\ndebug = true\nhosts = [\"a\", # one\n  \"b\"]\nlimits = { web = 64 }\nname = upper(\"x\")\n"), "prod.vars")
	if err != nil {
		t.Fatal(err)
	}
	src := `variable "tag" {}
variable "count" { type = number }
variable "debug" { type = bool }
variable "hosts" { type = list(string) }
variable "limits" { type = map(number) }
variable "name" {}
task "t" {
  image   = "x:${var.tag}"
  count   = var.count
  args    = var.hosts
  command = var.debug ? var.name : "no"
  resources {
    memory = var.limits.web
  }
}
`
	f, err := Parse([]byte(src), "f.hcl", got)
	if err != nil {
		t.Fatal(err)
	}
	task := f.Jobs[0].Tasks[0]
	if task.Image != "x:1.2" || task.Count != 3 || task.Command != "X" || strings.Join(task.Args, " ") != "a b" || task.Resources.Memory != 64 {
		t.Errorf("%+v", task)
	}
	for src, want := range map[string]string{
		"a = 1\nb {}\n":     "prod.vars:2:1: a file of variables holds name = value; blocks belong into the task file",
		"a = null":          "prod.vars:1:5: a is null",
		"a = var.b":         "prod.vars:1:5: ",
		"a = ((1":           "prod.vars:1:6: ( is never closed",
		"a = \"${x}\"":      "prod.vars:1:8: x is not known",
		"tag \"1\"\n":       "prod.vars:1:",
		"a = 1e5":           "prod.vars:1:5: a number is written without an exponent",
		"a = b\nc = d\n= 1": "prod.vars:3:1: ",
	} {
		if _, err := ParseVariables([]byte(src), "prod.vars"); api.CodeOf(err) != api.CodeInvalid || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v; want %s", src, err, want)
		}
	}
}

func TestDeclared(t *testing.T) {
	got := Declared([]byte("variable \"b\" {}\nvariable \"a\" { type = number }\nvariable \"a\" {}\ntask \"t\" { nonsense = 1 }\n"))
	if strings.Join(got, " ") != "a b" {
		t.Errorf("declared: %q", got)
	}
	if got := Declared([]byte("variable \"a\" {}\n((((")); got != nil {
		t.Errorf("a broken file declares %q", got)
	}
}

// TestManyFaults shows ten and counts the rest.
func TestManyFaults(t *testing.T) {
	_, err := Parse([]byte(inTask("\n"+times(25, "x# = 1\n"))), "f.hcl", nil)
	if n := strings.Count(err.Error(), "f.hcl:"); n != 10 || !strings.HasSuffix(err.Error(), "\nand 15 more") {
		t.Errorf("%d are shown:\n%s", n, err)
	}
	_, err = Parse([]byte(inTask("\n"+times(5000, "x# = 1\n"))), "f.hcl", nil)
	if !strings.HasSuffix(err.Error(), "\nand many more") {
		t.Errorf("%s", err)
	}
}

// TestMessagesShowTheirLine looks at what is drawn under a sentence.
func TestMessagesShowTheirLine(t *testing.T) {
	for src, want := range map[string]string{
		"\ttask \"t\" {\n\timagee = \"i\"\n}":                                  "f.hcl:2:2",
		"task \"t\" {\n\t\timagee = \"i\"\n}\n":                                "f.hcl:2:3: unknown key \"imagee\"; did you mean \"image\"?\n    \t\timagee = \"i\"\n    \t\t^^^^^^",
		"task \"t\" {\n  /* é */ imagee = 1\n}\n":                              "f.hcl:2:11: unknown key \"imagee\"; did you mean \"image\"?\n      /* é */ imagee = 1\n              ^^^^^^",
		"task \"t\" {\r\n  imagee = 1\r\n}\r\n":                                "f.hcl:2:3: unknown key \"imagee\"; did you mean \"image\"?\n      imagee = 1\n      ^^^^^^",
		"task \"t\" {\n  image = \"i\" # \x1b[31m\n  count = \"\x1b[2J\"\n}\n": "f.hcl:3:11: count takes a number, not text\n      count = \"\ufffd[2J\"\n              ^^^^^^",
		"task \"t\" {\n  image = [\n  1]\n}\n":                                 "f.hcl:2:11: image takes text, not a list\n      image = [\n              ^",
	} {
		_, err := Parse([]byte(src), "f.hcl", nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n%v\nwant\n%s", src, err, want)
		}
	}
}
