package api

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestIDTextIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := NewIDText(rapid.String().Draw(t, "cluster"))
		id := ID(rapid.Uint64().Draw(t, "id"))
		s := text.Format(id)
		back, ok := text.Parse(s)
		if !ok || back != id || len(s) != 16 {
			t.Fatalf("%d is %q, which is %d, %v", id, s, back, ok)
		}
	})
}

func TestNeighboursLookDifferent(t *testing.T) {
	text := NewIDText("a cluster")
	firsts := map[byte]int{}
	for i := range uint32(1000) {
		firsts[text.Format(MakeID(1, i))[0]]++
	}
	if len(firsts) != 16 {
		t.Errorf("a thousand neighbours begin with only %d different digits", len(firsts))
	}
	for _, s := range []string{"", "abc", "zzzzzzzzzzzzzzzz", "+123456789abcdef", "0123456789abcdef0"} {
		if id, ok := text.Parse(s); ok {
			t.Errorf("%q is read as %d", s, id)
		}
	}
}

// TestProgressIsAnOrder checks the laws of a strict order over all small progresses, and that nothing follows an end.
func TestProgressIsAnOrder(t *testing.T) {
	type progress struct {
		r uint32
		p Phase
	}
	var all []progress
	for r := range uint32(3) {
		for p := PhasePending; p <= PhaseLost; p++ {
			all = append(all, progress{r, p})
		}
	}
	less := func(a, b progress) bool { return ProgressLess(a.r, a.p, b.r, b.p) }
	for _, a := range all {
		for _, b := range all {
			if less(a, b) && less(b, a) {
				t.Errorf("%v and %v are before each other", a, b)
			}
			if a.p.Terminal() && less(a, b) {
				t.Errorf("%v follows the end %v", b, a)
			}
			for _, c := range all {
				if less(a, b) && less(b, c) && !less(a, c) {
					t.Errorf("%v < %v < %v, but not %v < %v", a, b, c, a, c)
				}
			}
		}
	}
}

func TestInterpolate(t *testing.T) {
	known := map[string]string{"node.name": "n1", "CUBE_PORT_http": "8080", "meta.rack": ""}
	lookup := func(name string) (string, bool) { v, ok := known[name]; return v, ok }
	for in, want := range map[string]string{
		"":                             "",
		"plain":                        "plain",
		"${node.name}":                 "n1",
		"a${ node.name }b${meta.rack}": "an1b",
		":${CUBE_PORT_http}":           ":8080",
		"${HOME}/${x.y}":               "${HOME}/${x.y}",
		"${HOST:-${node.name}}":        "${HOST:-n1}",
		"${${${node.name}}":            "${${n1}",
		"${node.name":                  "${node.name",
		"${":                           "${",
		"$node.name":                   "$node.name",
	} {
		if got, unknown := Interpolate(in, lookup); got != want || unknown != nil {
			t.Errorf("Interpolate(%q) = %q, %v; want %q", in, got, unknown, want)
		}
	}
	if got, unknown := Interpolate("${attr.gpu}-${meta.x}", lookup); got != "-" || !slices.Equal(unknown, []string{"attr.gpu", "meta.x"}) {
		t.Errorf("unknown names give %q, %v", got, unknown)
	}
}

func TestErrors(t *testing.T) {
	if err := Errorf(CodeNotFound, "%w: read x: %w", io.EOF, fs.ErrNotExist); !errors.Is(err, io.EOF) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v wraps not both", err)
	}
	err := error(Errorf(CodeNotFound, "read x: %w", fs.ErrNotExist))
	if CodeOf(err) != CodeNotFound || !errors.Is(err, fs.ErrNotExist) || err.Error() != "read x: file does not exist" {
		t.Errorf("%v, %s", err, CodeOf(err))
	}
	if CodeOf(nil) != "" || CodeOf(fs.ErrExist) != CodeInternal || CodeNotFound.HTTPStatus() != 404 || Code("?").HTTPStatus() != 500 {
		t.Error("codes")
	}
	if !NothingWritten(Errorf(CodeNotLeader, "x")) || NothingWritten(Errorf(CodeUnknown, "x")) || NothingWritten(nil) {
		t.Error("NothingWritten")
	}
}

func TestAmounts(t *testing.T) {
	for mib, want := range map[int64]string{0: "0 MiB", 1023: "1023 MiB", 1024: "1 GiB", 1536: "1.5 GiB", 7987: "7.8 GiB", -5: "-5 MiB", -2048: "-2 GiB", 1 << 20: "1024 GiB"} {
		if got := FormatMiB(mib); got != want {
			t.Errorf("FormatMiB(%d) = %q, want %q", mib, got, want)
		}
	}
	if FormatCPU(250) != "0.25" || FormatCPU(4000) != "4" {
		t.Error("FormatCPU")
	}
	for s, want := range map[string]int64{"0": 0, "10": 10, "64k": 64 << 10, "10MiB": 10 << 20, "1.5 GiB": 3 << 29, "2GB": 2 << 30, "1b": 1} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "MiB", "-1MiB", "1e9", "0x10", "10 miles", "10kk", "99999999999GiB", "NaN", "Inf", "10Mi B B"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("ParseBytes(%q) = %d", s, got)
		}
	}
	if v, ok := OptionInt(1.5); ok {
		t.Errorf("1.5 is the whole number %d", v)
	}
	if v, ok := OptionInt(uint64(math.MaxUint64)); ok {
		t.Errorf("a number out of range is %d", v)
	}
}

func TestFits(t *testing.T) {
	free := Resources{CPU: 1000, Memory: 512, Disk: 10}
	rapid.Check(t, func(t *rapid.T) {
		r := Resources{rapid.Int64Range(0, 2000).Draw(t, "cpu"), rapid.Int64Range(0, 1000).Draw(t, "memory"), rapid.Int64Range(0, 20).Draw(t, "disk")}
		lacking, _, _ := r.Lacking(free)
		if r.Fits(free) != (lacking == "") || r.Add(free).Sub(free) != r {
			t.Fatalf("%+v in %+v: fits %v, lacks %q", r, free, r.Fits(free), lacking)
		}
	})
}
