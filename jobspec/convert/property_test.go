package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"

	"cube/api"
	"cube/jobspec"
)

// examples are the sources in testdata, by kind.
func examples(t testing.TB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for kind := range converters() {
		files, err := filepath.Glob("testdata/" + kind + "/*.in")
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources of %s: %v", kind, err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out[kind] = append(out[kind], string(src))
		}
	}
	return out
}

// TestWhateverComesOutIsATaskFile: of examples that were cut, repeated and mixed at random, each is refused with one error
// that says where, or becomes a task file that Cube takes.
func TestWhateverComesOutIsATaskFile(t *testing.T) {
	sources := examples(t)
	for kind, convert := range converters() {
		lines := strings.SplitAfter(strings.Join(sources[kind], ""), "\n")
		whole := rapid.SampledFrom(sources[kind])
		t.Run(kind, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				src := strings.SplitAfter(whole.Draw(t, "source"), "\n")
				for range rapid.IntRange(0, 6).Draw(t, "changes") {
					at := rapid.IntRange(0, len(src)-1).Draw(t, "line")
					switch rapid.IntRange(0, 3).Draw(t, "change") {
					case 0:
						src[at] = ""
					case 1:
						src[at] = rapid.SampledFrom(lines).Draw(t, "another")
					case 2:
						src[at] += src[at]
					case 3:
						value := rapid.SampledFrom([]string{"-1", "99999999999", `"${X}"`, `""`, "null", "[]", "{}", `"\x00"`, "yes", "&a [*a]", "${", "0x1f", "!!binary aGk=", "1e999", "'$$'"}).Draw(t, "value")
						if i := strings.IndexAny(src[at], ":="); i >= 0 {
							src[at] = src[at][:i+1] + " " + value + "\n"
						}
					}
				}
				check(t, convert, strings.Join(src, ""))
			})
		})
	}
}

func check(t fataler, convert func([]byte, Options) (*Result, error), src string) {
	t.Helper()
	result, err := convert([]byte(src), Options{FileName: "source", Name: "shop"})
	if err != nil {
		if api.CodeOf(err) != api.CodeInvalid {
			t.Fatalf("%v has code %s", err, api.CodeOf(err))
		}
		return
	}
	sound(t, result)
	again, err := convert([]byte(src), Options{FileName: "source", Name: "shop"})
	if err != nil || string(again.HCL) != string(result.HCL) || len(again.Findings) != len(result.Findings) {
		t.Fatalf("another time it is something else: %v", err)
	}
}

func FuzzCompose(f *testing.F) { fuzz(f, "compose") }

func FuzzNomad(f *testing.F) { fuzz(f, "nomad") }

func fuzz(f *testing.F, kind string) {
	for _, src := range examples(f)[kind] {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) { check(t, converters()[kind], src) })
}

// TestTextsMeanWhatTheyAre: any text, written as an expression, is read back as it was, with what is filled in beside it.
func TestTextsMeanWhatTheyAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.StringMatching(`[$%{}"\\ a\n\t~]{0,8}`), rapid.String())
		one, two := piece.Draw(t, "one"), piece.Draw(t, "two")
		for want, written := range map[string]string{
			one:                   quote(one),
			one + "[" + two + "]": append(append(literal(one+"["), literal(two)...), part{literal: "]"}).String(),
			one + "X" + two:       text{{literal: one}, {expression: `true ? "X" : ""`}, {literal: two}}.String(),
		} {
			body, err := jobspec.Syntax([]byte("locals {\n a = "+written+"\n}\n"), "f.hcl")
			if err != nil {
				t.Fatalf("%q is written %s: %v", want, written, err)
			}
			x := body.Blocks[0].Body.Attributes["a"].Expr
			got, diags := x.Value(nil)
			if diags.HasErrors() || !got.RawEquals(cty.StringVal(want)) {
				t.Fatalf("%q is written %s, which is %#v: %v", want, written, got, diags)
			}
		}
	})
}

// TestBounds: a text that would take for ever, or all memory, is refused.
func TestBounds(t *testing.T) {
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		n := string(rune('0' + i))
		m := string(rune('1' + i))
		laughs += "a" + m + ": &a" + m + " [" + strings.TrimSuffix(strings.Repeat("*a"+n+", ", 10), ", ") + "]\n"
	}
	for name, src := range map[string]string{
		"laughs": laughs + "services: {a: {image: x, command: *a9}}\n",
		"deep":   "services: {a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}\n",
		"large":  "services:\n" + strings.Repeat("  # x\n", 200_000),
		"cycle":  "services: &s {a: *s}\n",
	} {
		if _, err := Compose([]byte(src), Options{FileName: name}); err == nil {
			t.Errorf("%s is taken", name)
		} else {
			t.Log(err)
		}
	}
	many := "services:\n"
	for i := range 400 {
		many += "  s" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + ": {image: 'not an image', unknown: 1, command: \"a${B:-${C:-${D:-${E:-x}}}}\"}\n"
	}
	if r, err := Compose([]byte(many), Options{FileName: "many"}); err == nil {
		t.Errorf("it has no task that can run, but became\n%.400s", r.HCL)
	}
	if _, err := Nomad([]byte("job \"x\" {\n a = "+strings.Repeat("(", 5000)+"\n}\n"), Options{FileName: "deep"}); err == nil {
		t.Error("5000 brackets are taken")
	}
}
