package jobspec

import (
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"cube/api"
)

// times makes n lines from a format that takes the number, for texts that are long rather than deep.
func times(n int, format string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(format, "#", fmt.Sprint(i)))
	}
	return b.String()
}

func inLocals(start, step string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "locals {\n  a0 = %s\n", start)
	for i := range n {
		fmt.Fprintf(&b, "  a%d = %s\n", i+1, strings.ReplaceAll(step, "#", fmt.Sprintf("local.a%d", i)))
	}
	return b.String() + "}\n" + inTask("")
}

// hostile are texts that once killed a parser or kept it busy for a minute, and their relatives.
func hostile() map[string]string {
	r := strings.Repeat
	return map[string]string{
		"parentheses":                "a = " + r("(", 70_000),
		"parentheses closed":         "a = " + r("(", 35_000) + "1" + r(")", 35_000),
		"brackets":                   "a = " + r("[", 60_000) + r("]", 60_000),
		"objects":                    "a = " + r("{a=", 60_000),
		"blocks":                     r("a {", 200_000),
		"blocks, few words":          r("a{\n", 49_000),
		"minus":                      "a = " + r("-", 1_000_000),
		"minus, few":                 "a = " + r("-", 100_000) + "1",
		"minus over lines":           "a = (\n" + r("-\n", 70_000) + "1)",
		"bang":                       "a = " + r("!", 1_000_000),
		"templates":                  "a = " + r(`"${`, 45_000),
		"heredocs":                   "a = " + r("<<A\n${", 20_000),
		"conditionals":               "a = " + r("1?1:", 35_000) + "1",
		"conditionals, middle":       "a = " + r("1?", 70_000) + r(":1", 100),
		"sum":                        "a = 1" + r("+1", 70_000),
		"accesses":                   "a = b" + r(".c", 70_000),
		"indexes":                    "a = b" + r("[0]", 45_000),
		"splats":                     "a = b" + r("[*]", 45_000),
		"calls":                      "a = " + r("upper(", 45_000),
		"directives":                 `a = "` + r("%{if a}", 20_000) + `"`,
		"brackets that do not match": r("a{)", 45_000),
		"deep within the bounds":     "a = " + r("("+r("1?1:", 10), 30) + "1" + r(")", 30),
		"a number with an exponent":  inTask(`user = "x${1e10000000}"`),
		"such a number as text":      inTask(`user = "x${"1e10000000" * 1}"`),
		"text taken for a number":    inTask(`user = "` + r("9", 900_000) + `" < 1 ? "a" : "b"`),
		"digits":                     "a = " + r("9", 1_000_000),
		"a number that grows":        inLocals("999999999999999", "# * #", 40),
		"text that grows":            inLocals(`"`+r("x", 1000)+`"`, `"${#}${#}"`, 60),
		"a list that grows":          inLocals(`["x"]`, "[#, #]", 60),
		"a value that deepens":       inLocals(`["x"]`, "[#]", 900),
		"escapes that grow":          inTask("user = " + r("jsonencode(", 40) + `"\""` + r(")", 40)),
		"a separator that grows":     fmt.Sprintf("locals { s = %q }\n", r("x", 10_000)) + inTask(`user = join(local.s, [`+r(`"a",`, 1000)+`])`),
		"large text, often":          fmt.Sprintf("locals { s = %q }\n", r("x", 500_000)) + inTask("env {\n"+times(5000, `A# = local.s == "x" ? "a" : "b"`+"\n")+"}"),
		"the same key":               inTask("\n" + r("x = 1\n", 20_000)),
		"many keys":                  inTask("\n" + times(37_000, "x# = 1\n")),
		"many keys nearly right":     inTask("\n" + times(37_000, "imag# = 1\n")),
		"many ports":                 inTask("\n" + times(14_000, "port \"p#\" {}\n")),
		"many jobs":                  times(9_000, "task \"t#\" {\n  image = \"i\"\n}\n"),
		"many blocks":                times(20_000, "task \"t#\" {}\n"),
		"many variables":             times(14_000, "variable \"v#\" {}\n"),
		"many locals":                "locals {\n" + times(30_000, "l# = 1\n") + "}",
		"many names nearly right":    times(999, "variable \"vvvvvvvvvvvvvvvvvvvvvvvvv#\" {\n  default = #\n}\n") + inTask("args = ["+r("var.vvvvvvvvvvvvvvvvvvvvvvvvvv,", 30_000)+"]"),
		"many expressions that fail": inTask("env {\n" + times(20_000, "A# = var.x#\n") + "}"),
		"large patterns":             inTask("\n" + times(3000, "constraint {\n attribute = \"node.name\"\n operator = \"regexp\"\n value = \"#"+r("a{1,1000}", 40)+"\"\n}\n")),
		"many patterns":              times(3000, "task \"t#\" {\n image = \"i\"\n constraint {\n attribute = \"node.name\"\n operator = \"regexp\"\n value = \"a{1,1000}\"\n}\n}\n"),
		"labels":                     "a " + r(`"b" `, 35_000) + "{}",
		"comments":                   r("#\n", 500_000),
		"blank lines":                r("\n", 1_000_000),
		"spaces":                     r(" ", 1_000_000),
		"lists of many types":        inTask("args = true ? [" + r("1,", 30_000) + `] : [` + r(`"a",`, 20_000) + "]"),
		"lists compared":             "locals {\n l = [" + r("1,", 40_000) + "]\n}\nlocals {\n" + times(900, "e# = local.l == local.l\n") + "}\n" + inTask("count = -1"),
		"a long list joined":         inTask(`user = join(",", [` + r("1,", 60_000) + "])"),
		"a long list as a default":   "variable \"l\" {\n  type = list(string)\n  default = [" + r("1,", 60_000) + "]\n}\n" + inTask("count = -1"),
		"a number in a default":      "variable \"l\" {\n  type = list(number)\n  default = [\"1e10000000\"]\n}\n" + inTask(`user = "${var.l[0]}"`),
		"a long string":              `a = "` + r("x", 1_000_000) + `"`,
		"a string without an end":    `a = "` + r("x", 1_000_000),
		"a long name":                "task \"" + r("x", 1_000_000) + "\" {}",
		"a long key":                 inTask(r("x", 1_000_000) + " = 1"),
		"too long":                   r("#", api.MaxSourceBytes+1),
	}
}

// TestHostileTextIsRefusedFast gives each text little time, and hardly more memory than a parser needs for an honest text.
// A stack overflow would end the test binary.
func TestHostileTextIsRefusedFast(t *testing.T) {
	const patience, room = 20 * time.Second, 512 << 20 // of wall time on a busy machine, with the race detector; of all that was allocated, most of it garbage at once
	for name, src := range hostile() {
		t.Run(name, func(t *testing.T) {
			before, done := allocated(), make(chan error, 1)
			go func() {
				_, err := Parse([]byte(src), "f.hcl", nil)
				done <- err
			}()
			select {
			case err := <-done:
				if api.CodeOf(err) != api.CodeInvalid {
					t.Errorf("%v", err)
				} else if !strings.HasPrefix(err.Error(), "f.hcl:") || len(err.Error()) > 8<<10 {
					t.Errorf("%d bytes of message: %.300s", len(err.Error()), err)
				}
			case <-time.After(patience):
				t.Fatalf("still busy after %s", patience)
			}
			if n := allocated() - before; n > room {
				t.Errorf("%d MiB were allocated", n>>20)
			}
		})
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestHonestTextIsTaken makes sure that the bounds are far from what people write.
func TestHonestTextIsTaken(t *testing.T) {
	one := `
  task "t#" {
    image = "registry.example/team/service:${var.tag}"
    count = 3
    args  = ["-listen", ":${CUBE_PORT_http}", "-log", "json"]
    env {
      TAG   = var.tag
      ZONE  = "${node.datacenter}"
      LEVEL = var.tag == "1" ? "debug" : lower("INFO")
    }
    port "http" {
      to = 8080
    }
    resources {
      cpu    = 0.25
      memory = 256
    }
    constraint {
      attribute = "meta.rack"
      operator  = "regexp"
      value     = "^r[0-9]{1,3}$"
    }
  }
`
	src := "variable \"tag\" { default = \"1\" }\n" + "job \"large\" {\n" + times(api.MaxJobTasks, one) + "}\n" +
		inTask("env {\n    TEXT = <<EOT\n"+strings.Repeat("some words of a long text\n", 2000)+"EOT\n  }")
	f, err := Parse([]byte(src), "f.hcl", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Jobs[0].Tasks); n != api.MaxJobTasks {
		t.Errorf("%d tasks", n)
	}
}
