package estate

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatAnInstanceInherits(t *testing.T) {
	root := t.TempDir()
	dir := func(name string) string {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	inherit := func(name string, before ...string) {
		t.Helper()
		var all []Before
		for _, b := range before {
			all = append(all, Before{Dir: b})
		}
		if err := Inherit(dir(name), all); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(name, want string) {
		t.Helper()
		b, _ := os.ReadFile(filepath.Join(Own(dir(name)), "file"))
		info, err := os.Stat(Own(dir(name)))
		if string(b) != want || err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s holds %q, %v, %v; want %q", name, b, info, err, want)
		}
	}
	inherit("a")
	holds("a", "")
	if err := os.WriteFile(filepath.Join(Own(dir("a")), "file"), []byte("a's"), 0o600); err != nil {
		t.Fatal(err)
	}
	inherit("a", dir("b")) // its own stays its own, over restarts
	holds("a", "a's")
	dir("never-started")
	inherit("c", dir("never-started"), filepath.Join(root, "forgotten"), dir("a"))
	holds("c", "a's")
	inherit("d", dir("a"))
	holds("d", "")
	if err := os.Mkdir(Own(dir("e"))+".new", 0o700); err != nil { // it stopped half-way
		t.Fatal(err)
	}
	inherit("e")
	holds("e", "")
}
