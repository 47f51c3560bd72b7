package transcript

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cube/api"
	"cube/client/driver"
)

// chunk is what one read of a program's output brings.
type chunk struct {
	stream Stream
	text   string
}

func chunks(t *rapid.T) []chunk {
	one := rapid.Custom(func(t *rapid.T) chunk {
		return chunk{
			rapid.SampledFrom([]Stream{Stdout, Stderr}).Draw(t, "stream"),
			rapid.StringOfN(rapid.RuneFrom([]rune("ab1 +\n\x00é")), 1, 40, -1).Draw(t, "text"),
		}
	})
	return rapid.SliceOfN(one, 0, 30).Draw(t, "chunks")
}

func open(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func collect(into *strings.Builder, want Stream) func(Record) error {
	return func(r Record) error {
		if want == 0 || r.Stream == want {
			into.Write(r.Text)
		}
		return nil
	}
}

// TestWhatIsWrittenIsRead writes chunks of both streams, in many files, while a reader looks in between.
func TestWhatIsWrittenIsRead(t *testing.T) {
	parent := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(parent, "")
		if err != nil {
			rt.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		w, err := NewWriter(root, 64, 1000)
		if err != nil {
			rt.Fatal(err)
		}
		output := OpenOutput(dir)
		defer output.Close()
		var want, got strings.Builder
		for _, c := range chunks(rt) {
			if err := w.Write(c.stream, []byte(c.text)); err != nil {
				rt.Fatal(err)
			}
			want.WriteString(c.text)
			if rapid.Bool().Draw(rt, "look") {
				if err := output.Each(collect(&got, 0)); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		if err := output.Each(collect(&got, 0)); err != nil {
			rt.Fatal(err)
		}
		if got.String() != want.String() {
			rt.Fatalf("written %q, read %q", want.String(), got.String())
		}
	})
}

// TestTail compares with the simple way: all lines, then the last n.
func TestTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1, 8).Draw(t, "n")
		tail := LastLines(n)
		var all strings.Builder // of one stream: how lines of two interleave is no matter of lines
		for _, c := range chunks(t) {
			all.WriteString(c.text)
			if err := Split(Stdout, []byte(c.text), func(r Record) error { tail.Add(r); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		lines := strings.SplitAfter(all.String(), "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		if n >= 0 {
			lines = lines[max(0, len(lines)-n):]
		}
		var got strings.Builder
		for _, r := range tail.Records() {
			got.Write(r.Text)
		}
		if want := strings.Join(lines, ""); got.String() != want {
			t.Fatalf("the last %d lines of %q are %q, want %q", n, all.String(), got.String(), want)
		}
	})
}

func TestLastBytes(t *testing.T) {
	tail := LastBytes(100)
	for i := range 1000 {
		tail.Add(Record{Stdout, fmt.Appendf(nil, "out %d\n", i)})
		if i%10 == 0 {
			tail.Add(Record{Stderr, fmt.Appendf(nil, "err %d\n", i)})
		}
	}
	for s, last := range map[Stream]string{Stdout: "out 999\n", Stderr: "err 990\n"} {
		var got strings.Builder
		for _, r := range tail.Records() {
			if r.Stream == s {
				got.Write(r.Text)
			}
		}
		if got.Len() > 100 || got.Len() < 80 || !strings.HasSuffix(got.String(), last) {
			t.Errorf("of stream %c are kept %q; want about the last 100 bytes", s, got.String())
		}
	}
}

func TestRotationBoundsTheDisk(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWriter(open(t, dir), 1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	late := OpenOutput(dir)
	defer late.Close()
	for i := range 1000 {
		if err := w.Write(Stdout, fmt.Appendf(nil, "line %d\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("there are %v, %v; want three files", files, err)
	}
	var got strings.Builder
	if err := late.Each(collect(&got, 0)); err != nil {
		t.Fatal(err)
	}
	var first, want = 0, strings.Builder{}
	if _, err := fmt.Sscanf(got.String(), "line %d", &first); err != nil {
		t.Fatal(err)
	}
	for i := first; i < 1000; i++ {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if got.String() != want.String() || first > 900 {
		t.Errorf("what is left begins with line %d and has gaps: %q", first, got.String())
	}
}

func TestReaderPassesOverDamage(t *testing.T) {
	text := "1 one\n" + "garbage\n" + "\n" + "3 no stream\n" + strings.Repeat("x", 100<<10) + "\n" + "2 two\n" + "1+thr"
	r := NewReader(strings.NewReader(text))
	var got strings.Builder
	for {
		record, err := r.Next()
		if err != nil {
			break
		}
		got.Write(record.Text)
	}
	if got.String() != "one\ntwo\n" {
		t.Errorf("of a damaged file is read %q", got.String())
	}
}

func TestLongLines(t *testing.T) {
	long := bytes.Repeat([]byte("é"), 50<<10)
	var text []byte
	if err := Split(Stderr, append(long, '\n'), func(r Record) error {
		if len(r.Text) > maxText {
			t.Errorf("a record has %d bytes", len(r.Text))
		}
		text = r.Append(text)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var got []byte
	r := NewReader(bytes.NewReader(text))
	for record, err := r.Next(); err == nil; record, err = r.Next() {
		got = append(got, record.Text...)
	}
	if !bytes.Equal(got, append(long, '\n')) {
		t.Errorf("a long line comes back as %d bytes of %d", len(got), len(long)+1)
	}
}

func TestArchive(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	a, err := OpenArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	one, gone := api.MakeID(1, 2), api.MakeID(1, 3)
	vanishing := filepath.Join(home, "vanishing")
	if err := os.Mkdir(vanishing, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{a.Place(one, "/elsewhere"), a.Place(one, home), a.Place(one, home), a.Place(gone, vanishing), os.Remove(vanishing)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(5) {
		tail := LastBytes(KeepBytes)
		tail.Add(Record{Stdout, fmt.Appendf(nil, "run %d\n", n)})
		if err := a.Keep(driver.Key{Allocation: one, Restarts: n}, tail); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Keep(driver.Key{Allocation: gone}, LastBytes(1)); err != nil {
		t.Errorf("keeping output where the directory is gone: %v", err)
	}
	b, err := OpenArchive(dir) // a new agent
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if err := b.EachKept(one, collect(&got, 0)); err != nil || got.String() != "run 2\nrun 3\nrun 4\n" {
		t.Errorf("kept is %q, %v; want the last three runs", got.String(), err)
	}
	if ids, err := b.Allocations(); err != nil || len(ids) != 1 || ids[0] != one {
		t.Errorf("the archive has %v, %v; want %v", ids, err, one)
	}
	if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("%x", uint64(gone)))); !os.IsNotExist(err) {
		t.Errorf("the link of an allocation that is gone is there: %v", err)
	}
}
