package command

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDurationsShowTheTwoLargestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 900 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1m", 192 * time.Second: "3m12s",
		time.Hour + time.Second: "1h", 50*time.Hour + 3*time.Minute: "2d2h", 312 * 24 * time.Hour: "10mo12d", 800 * 24 * time.Hour: "2y2mo",
	} {
		if got := duration(d); got != want {
			t.Errorf("%s is written %q, want %q", time.Duration(d), got, want)
		}
	}
}

func TestSharesAreInTheUnitOfTheTotal(t *testing.T) {
	for _, c := range []struct {
		used, total int64
		want        string
	}{{0, 512, "0/512 MiB"}, {512, 7885, "0.5/7.7 GiB"}, {8192, 8192, "8/8 GiB"}, {10, 8192, "0/8 GiB"}} {
		if got := mibShare(c.used, c.total); got != c.want {
			t.Errorf("%d of %d MiB is written %q, want %q", c.used, c.total, got, c.want)
		}
	}
}

func TestPrintableTextIsHarmless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "runes") {
			in = rapid.String().Draw(t, "text")
		}
		out := printable(in)
		if !utf8.ValidString(out) {
			t.Fatalf("%q became %q, which is not UTF-8", in, out)
		}
		if i := strings.IndexFunc(out, unsafeRune); i >= 0 {
			t.Fatalf("%q became %q, which holds a control character at %d", in, out, i)
		}
		if printable(out) != out {
			t.Fatalf("%q is not printed as it is", out)
		}
	})
}

func TestClippedTextFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := printable(rapid.StringOf(rapid.SampledFrom([]rune("ab 日本é\u0301🚀"))).Draw(t, "text"))
		if rapid.Bool().Draw(t, "coloured") {
			in = red + in + reset
		}
		width := rapid.IntRange(0, 20).Draw(t, "width")
		out := clip(in, width)
		if w := textWidth(out); w > width {
			t.Fatalf("%q clipped to %d is %q, %d columns wide", in, width, out, w)
		}
		if textWidth(in) <= width && out != in {
			t.Fatalf("%q fits %d and was changed to %q", in, width, out)
		}
	})
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, c := range []struct {
		line      string
		flags     string
		rest      string
		complains string
	}{
		{"web.hcl -detach -timeout 3s", "-detach -timeout 3s", "web.hcl", ""},
		{"-timeout=3s web.hcl --detach=false", "-timeout=3s --detach=false", "web.hcl", ""},
		{"-n -1 -", "-n -1", "-", ""},
		{"-detach -- -web.hcl -timeout", "-detach", "-web.hcl -timeout", ""},
		{"web.hcl -timeout", "", "", "the flag -timeout needs a value"},
		{"web.hcl -timout 3s", "", "", "unknown flag -timout; did you mean -timeout?"},
		{"web.hcl --frobnicate", "", "", "unknown flag -frobnicate"},
	} {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		f.Bool("detach", false, "")
		f.Duration("timeout", 0, "")
		f.Int("n", 0, "")
		flags, rest, err := reorder(f, strings.Fields(c.line))
		if c.complains != "" {
			if err == nil || err.Error() != c.complains {
				t.Errorf("%s: %v, want %q", c.line, err, c.complains)
			}
			continue
		}
		if err != nil || strings.Join(flags, " ") != c.flags || strings.Join(rest, " ") != c.rest {
			t.Errorf("%s: flags %q, rest %q, %v", c.line, flags, rest, err)
		}
		if err := f.Parse(flags); err != nil {
			t.Errorf("%s: %v", c.line, err)
		}
	}
}

// TestReorderingLosesNothing: whatever the order, the same flags and arguments come out, each in its own order.
func TestReorderingLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		f.Bool("b", false, "")
		f.String("s", "", "")
		var line, wantFlags, wantRest []string
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				line, wantFlags = append(line, "-b"), append(wantFlags, "-b")
			case 1:
				v := rapid.SampledFrom([]string{"x", "-b", "--", ""}).Draw(t, "value")
				line, wantFlags = append(line, "--s", v), append(wantFlags, "--s", v)
			case 2:
				a := rapid.SampledFrom([]string{"a", "-", "b c"}).Draw(t, "argument")
				line, wantRest = append(line, a), append(wantRest, a)
			}
		}
		flags, rest, err := reorder(f, line)
		if err != nil || !slices.Equal(flags, wantFlags) || !slices.Equal(rest, wantRest) {
			t.Fatalf("%q became %q and %q (%v)", line, flags, rest, err)
		}
	})
}
