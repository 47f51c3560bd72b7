package estate

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listing says what is in a directory, without following links: modes, times, targets, contents, and which names are one file.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	files := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %v", name, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %s", target)
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %s %q", info.ModTime().UTC().Format(time.RFC3339Nano), b)
			if stat := info.Sys().(*syscall.Stat_t); stat.Nlink > 1 {
				if files[stat.Ino] == "" {
					files[stat.Ino] = name
				}
				fmt.Fprintf(&out, " is %s", files[stat.Ino])
			}
		default:
			fmt.Fprintf(&out, " %s", info.ModTime().UTC().Format(time.RFC3339Nano))
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// furnish makes a directory with one of everything.
func furnish(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	do(os.MkdirAll(in("deep/er/est"), 0o755))
	do(os.Mkdir(in("empty"), 0o700))
	do(os.WriteFile(in("deep/er/est/file"), []byte("what it wrote"), 0o640))
	do(os.WriteFile(in("nothing"), nil, 0o600))
	do(os.WriteFile(in("run"), bytes.Repeat([]byte("#!"), 70_000), 0o755))
	do(os.Link(in("run"), in("deep/again")))
	do(os.Symlink("deep/er", in("short")))
	do(os.Symlink("../nothing", in("deep/up")))
	do(os.Symlink("/alloc/run", in("deep/absolute")))
	do(os.WriteFile(in("odd \n name ünd "+strings.Repeat("x", 200)), []byte("?"), 0o604))
	do(syscall.Mkfifo(in("pipe"), 0o600))
	then := time.Date(2020, 2, 29, 12, 0, 0, 123456789, time.UTC)
	for _, name := range []string{"deep/er/est/file", "run", "deep/er", "deep", "empty"} {
		do(os.Chtimes(in(name), then, then))
	}
	do(os.Chmod(in("deep/er"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(in("deep/er"), 0o755) }) // so that it can be removed
	return dir
}

var limits = Limits{Bytes: 1 << 20, Entries: 100}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(t.Context(), &b, dir); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack receives b into a new directory, inside of which an outsider's file must stay as it is.
func unpack(t *testing.T, b []byte, l Limits) (dir string, got Unpacked, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	got, err = Unpack(bytes.NewReader(b), dir, "/alloc", l, func(int64, int64) {})
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "deep/er"), 0o755) })
	return dir, got, err
}

func TestADirectoryArrivesAsItLeft(t *testing.T) {
	from := furnish(t)
	to, got, err := unpack(t, pack(t, from), limits)
	if err != nil {
		t.Fatal(err)
	}
	want := listing(t, from)
	lines := strings.SplitAfter(want, "\n")
	want = ""
	for _, line := range lines {
		if !strings.HasPrefix(line, "pipe ") {
			want += line
		}
	}
	if have := listing(t, to); have != want {
		t.Errorf("it arrives as\n%s\nand left as\n%s", have, want)
	}
	if got.Bytes != 140_014 || got.Left != 0 {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the directory itself: %v, %v", info.Mode(), err)
	}
	again, _, err := unpack(t, pack(t, to), limits)
	if err != nil || listing(t, again) != want {
		t.Errorf("passed on it is another: %v", err)
	}
}

// TestAStreamThatEndsEarlyIsNoDirectory, wherever it ends.
func TestAStreamThatEndsEarlyIsNoDirectory(t *testing.T) {
	b := pack(t, furnish(t))
	end := len(b) - 3*512 // the tar's own end means nothing, and neither does what fills up the last record
	for n := 0; n < end; n += 512 {
		for _, n := range []int{n, n + 77} {
			if _, _, err := unpack(t, b[:n], limits); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d of %d bytes: %v", n, len(b), err)
			}
		}
		if n > 8192 && n < end-8192 {
			n += 16 * 512 // most of it is one file
		}
	}
	if _, _, err := unpack(t, b[:end+512], limits); err != nil {
		t.Error(err)
	}
}

func TestWhatIsTooLargeIsNotTaken(t *testing.T) {
	b := pack(t, furnish(t))
	for says, l := range map[string]Limits{
		"it holds 137 KiB, and at most 100 KiB are moved": {Bytes: 100 << 10, Entries: 100},
		"it holds more than 5 files, which are not moved": {Bytes: 1 << 20, Entries: 5},
	} {
		if _, _, err := unpack(t, b, l); err == nil || err.Error() != says {
			t.Errorf("%+v: %v; want %q", l, err, says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Pack(ctx, io.Discard, furnish(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("packing goes on though nobody waits: %v", err)
	}
}

// forge makes a stream of entries as somebody might who means harm.
func forge(t *testing.T, promised string, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	all := append([]tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{recordBytes: promised}}}, entries...)
	all = append(all, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{recordEnd: "all"}})
	for i := range all {
		if err := w.WriteHeader(&all[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, all[i].Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestNothingLeavesTheDirectory(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755} }
	file := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 3}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to} }
	for name, c := range map[string]struct {
		promised string
		entries  []tar.Header
	}{
		"absolute":                 {"3", []tar.Header{file("/tmp/x")}},
		"up":                       {"3", []tar.Header{file("../x")}},
		"up and down":              {"3", []tar.Header{dir("a"), file("a/../../x")}},
		"itself":                   {"0", []tar.Header{dir(".")}},
		"no directory":             {"3", []tar.Header{file("a/x")}},
		"through a link":           {"3", []tar.Header{dir("a"), link("l", "a"), file("l/x")}},
		"in place of a link":       {"3", []tar.Header{link("l", "x"), file("l")}},
		"a directory in its place": {"3", []tar.Header{dir("a"), link("l", "a"), dir("l")}},
		"twice":                    {"6", []tar.Header{file("x"), file("x")}},
		"another name of a link":   {"0", []tar.Header{link("l", "x"), hard("h", "l")}},
		"another name outside":     {"0", []tar.Header{hard("h", "../x")}},
		"another name of nothing":  {"0", []tar.Header{hard("h", "x")}},
		"a device":                 {"0", []tar.Header{{Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1, Devminor: 1}}},
		"a pipe":                   {"0", []tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}},
		"more than it said":        {"5", []tar.Header{file("x"), file("y")}},
		"less than nothing":        {"-1", nil},
		"no number":                {"many", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := unpack(t, forge(t, c.promised, c.entries...), limits)
			if err == nil {
				t.Errorf("it is taken:\n%s", listing(t, got))
			}
			if entries, _ := os.ReadDir(filepath.Dir(got)); len(entries) > 1 {
				t.Errorf("something is beside the directory: %v", entries)
			}
		})
	}
	t.Run("rights", func(t *testing.T) {
		h := file("su")
		h.Mode = 0o6755
		got, _, err := unpack(t, forge(t, "3", h), limits)
		if info, _ := os.Stat(filepath.Join(got, "su")); err != nil || info.Mode() != 0o755 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
}

func TestLinksThatLeadOut(t *testing.T) {
	for _, c := range []struct {
		name, target string
		kept         bool
	}{
		{"l", "x", true},
		{"l", "./a/./b", true},
		{"l", ".", true},
		{"l", "..", false},
		{"l", "../x", false},
		{"a/l", "../x", true},
		{"a/l", "..", true},
		{"a/l", "../../x", false},
		{"a/b/l", "../../x", true},
		{"l", "a/..", false}, // a may be a link, and what is above that is no longer known
		{"a/l", "b/../x", false},
		{"l", "/etc/passwd", false},
		{"l", "/alloc", true},
		{"l", "/alloc/x", true},
		{"l", "/allocate", false},
		{"l", "/alloc/../etc", false},
		{"l", "/alloc//x", false},
	} {
		u := &unpacker{inside: "/alloc"}
		if u.keeps(c.name, c.target) != c.kept {
			t.Errorf("%s -> %s: kept %v", c.name, c.target, !c.kept)
		}
		if u.inside = ""; strings.HasPrefix(c.target, "/") && u.keeps(c.name, c.target) {
			t.Errorf("%s -> %s is kept where it leads nowhere", c.name, c.target)
		}
	}
	to, got, err := unpack(t, forge(t, "0", tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc/passwd"}), limits)
	if _, there := os.Lstat(filepath.Join(to, "l")); err != nil || got.Left != 1 || there == nil {
		t.Errorf("%+v, %v, %v", got, err, there)
	}
}
