package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
		n := rapid.IntRange(0, 8).Draw(t, "n")
		tail := LastLines(n)
		var all strings.Builder // of one stream: how lines of two interleave is no matter of lines
		for _, c := range chunks(t) {
			all.WriteString(c.text)
			if err := Split(Stdout, time.Time{}, []byte(c.text), func(r Record) error { tail.Add(r); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		lines := strings.SplitAfter(all.String(), "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		lines = lines[max(0, len(lines)-n):]
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
		tail.Add(Record{Stream: Stdout, Text: fmt.Appendf(nil, "out %d\n", i)})
		if i%10 == 0 {
			tail.Add(Record{Stream: Stderr, Text: fmt.Appendf(nil, "err %d\n", i)})
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

// TestLinesAskedForByNumberAreBounded holds no more than its bound, whatever number is asked for.
func TestLinesAskedForByNumberAreBounded(t *testing.T) {
	tail, long := LastLines(1<<30), bytes.Repeat([]byte("x"), maxText)
	long[len(long)-1] = '\n'
	for range 3 * maxTail / maxText {
		tail.Add(Record{Stream: Stdout, Text: long})
	}
	if n := len(tail.Records()); n != maxTail/maxText || tail.whole != n {
		t.Errorf("%d lines are held, %d by its own account; want %d", n, tail.whole, maxTail/maxText)
	}
}

// TestAnswer compares with the simple way: all lines with the times at which they were begun, then those asked for.
func TestAnswer(t *testing.T) {
	begin := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	type whole struct {
		at   time.Time
		text string
	}
	rapid.Check(t, func(t *rapid.T) {
		r := api.LogRequest{
			Stream: "stdout", Tail: rapid.IntRange(-1, 5).Draw(t, "tail"), Timestamps: rapid.Bool().Draw(t, "timestamps"),
			Since: begin.Add(time.Duration(rapid.IntRange(-1, 30).Draw(t, "since")) * time.Second),
		}
		var got, want strings.Builder
		var lines []whole
		answer, open := NewAnswer(&got, r), false
		for n, c := range chunks(t) {
			at := begin.Add(time.Duration(n) * time.Second)
			if err := Split(c.stream, at, []byte(c.text), answer.Add); err != nil {
				t.Fatal(err)
			}
			if c.stream == Stdout {
				for text := range strings.Lines(c.text) {
					if !open {
						lines = append(lines, whole{at: at})
					}
					lines[len(lines)-1].text += text
					open = !strings.HasSuffix(text, "\n")
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "end") == 0 {
				if err := answer.EndRun(); err != nil {
					t.Fatal(err)
				}
				if open && r.Timestamps {
					lines[len(lines)-1].text += "\n"
				}
				open = false
			}
		}
		if err := errors.Join(answer.EndRun(), answer.EndPast()); err != nil {
			t.Fatal(err)
		}
		if open && r.Timestamps {
			lines[len(lines)-1].text += "\n"
		}
		lines = slices.DeleteFunc(lines, func(l whole) bool { return l.at.Before(r.Since) })
		if r.Tail >= 0 && r.Timestamps { // without, lines of two runs may stand in one, and what is counted are line breaks
			lines = lines[max(0, len(lines)-r.Tail):]
		} else if r.Tail >= 0 {
			return
		}
		for _, l := range lines {
			if r.Timestamps {
				want.Write(api.AppendLogTime(nil, l.at))
			}
			want.WriteString(l.text)
		}
		if got.String() != want.String() {
			t.Fatalf("the answer is %q, want %q", got.String(), want.String())
		}
	})
}

// TestALineComesWholeToWhoFollows gives pieces of lines of both streams, before and after the past has ended.
func TestALineComesWholeToWhoFollows(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	var got strings.Builder
	a := NewAnswer(&got, api.LogRequest{Tail: 2, Timestamps: true})
	for n, step := range []func() error{
		func() error { return a.Add(Record{Stream: Stdout, At: at, Text: []byte("old\n")}) },
		func() error { return a.Add(Record{Stream: Stderr, At: at, Text: []byte("news\n")}) },
		func() error { return a.Add(Record{Stream: Stdout, At: at, Text: []byte("half a ")}) },
		a.EndPast,
		func() error { return a.Add(Record{Stream: Stderr, Text: []byte("no time\n")}) },
		func() error { return a.Add(Record{Stream: Stdout, At: at.Add(time.Hour), Text: []byte("line\n")}) },
		func() error { return a.Add(Record{Stream: Stdout, At: at, Text: bytes.Repeat([]byte("x"), maxLine)}) },
		func() error { return a.Add(Record{Stream: Stdout, At: at, Text: []byte("\n")}) },
		func() error { return a.Add(Record{Stream: Stdout, At: at, Text: []byte("the end")}) },
		a.EndRun,
	} {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
	stamp := "2026-11-23T10:00:00.000000000Z "
	want := stamp + "news\n- no time\n" + stamp + "half a line\n" + stamp + strings.Repeat("x", maxLine) + "\n" + stamp + "the end\n"
	if got.String() != want {
		t.Errorf("the answer is %.200q, want %.200q", got.String(), want)
	}
}

// TestTimesAreKept reads what an agent of today, and one from before there were times, reads of the same file.
func TestTimesAreKept(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 5, 1, 123_456_789, time.UTC)
	var e encoder
	var file []byte
	for _, r := range []Record{
		{Stream: Stdout, Text: []byte("nobody knows when\n")},
		{Stream: Stdout, At: at, Text: []byte("one\n")},
		{Stream: Stderr, At: at.Add(time.Microsecond), Text: []byte("the same millisecond\n")},
		{Stream: Stdout, At: at.Add(time.Millisecond), Text: []byte("@2026-11-23T10:05:01.123Z\n")},
	} {
		file = e.append(file, r)
	}
	want := "1 nobody knows when\n@2026-11-23T10:05:01.123Z\n1 one\n2 the same millisecond\n@2026-11-23T10:05:01.124Z\n1 @2026-11-23T10:05:01.123Z\n"
	if string(file) != want {
		t.Errorf("the file is %q, want %q", file, want)
	}
	var times []time.Time
	for r := NewReader(bytes.NewReader(file)); ; {
		record, err := r.Next()
		if err != nil {
			break
		}
		times = append(times, record.At)
	}
	kept := at.Truncate(time.Millisecond)
	if want := []time.Time{{}, kept, kept, kept.Add(time.Millisecond)}; !slices.EqualFunc(times, want, time.Time.Equal) {
		t.Errorf("its times are %v, want %v", times, want)
	}
	for line := range strings.Lines(want) {
		if _, ok := parse([]byte(line)); ok == strings.HasPrefix(line, "@") {
			t.Errorf("who knows nothing of times takes %q for a record: %v", line, ok)
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
	var e encoder
	if err := Split(Stderr, time.Time{}, append(long, '\n'), func(r Record) error {
		if len(r.Text) > maxText {
			t.Errorf("a record has %d bytes", len(r.Text))
		}
		text = e.append(text, r)
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
		tail.Add(Record{Stream: Stdout, Text: fmt.Appendf(nil, "run %d\n", n)})
		if err := a.Keep(driver.Key{Allocation: one, Restarts: n}, tail); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(5) { // of two runs of the main instance
		tail := LastBytes(KeepBytes)
		tail.Add(Record{Stream: Stdout, Text: fmt.Appendf(nil, "part %d\n", n)})
		if err := a.Keep(driver.Key{Allocation: one, Restarts: (n + 2) % 4, Of: n / 3, Part: "kept"}, tail); err != nil {
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
	if err := b.AnswerKept(one, "", NewAnswer(&got, api.LogRequest{Tail: -1})); err != nil || got.String() != "run 2\nrun 3\nrun 4\n" {
		t.Errorf("kept is %q, %v; want the last three runs", got.String(), err)
	}
	got.Reset()
	last := driver.Key{Allocation: one, Restarts: 4}
	answer := NewAnswer(&got, api.LogRequest{Tail: -1})
	if err := errors.Join(b.AnswerKept(one, "", answer, last, driver.Key{Allocation: one, Restarts: 9}), b.AnswerRun(driver.Key{Allocation: one, Restarts: 9}, answer)); err != nil || got.String() != "run 2\nrun 3\n" {
		t.Errorf("kept without the last is %q, %v", got.String(), err)
	}
	if err := b.AnswerRun(last, answer); err != nil || !strings.HasSuffix(got.String(), "run 3\nrun 4\n") {
		t.Errorf("with the last it is %q, %v", got.String(), err)
	}
	got.Reset()
	if err := b.AnswerKept(one, "kept", NewAnswer(&got, api.LogRequest{Tail: -1})); err != nil || got.String() != "part 1\npart 3\npart 4\n" {
		t.Errorf("kept of a part is %q, %v; want the last three runs", got.String(), err)
	}
	if ids, err := b.Allocations(); err != nil || len(ids) != 1 || ids[0] != one {
		t.Errorf("the archive has %v, %v; want %v", ids, err, one)
	}
	if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("%x", uint64(gone)))); !os.IsNotExist(err) {
		t.Errorf("the link of an allocation that is gone is there: %v", err)
	}
}
