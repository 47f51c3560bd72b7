package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStickyDisk: what an instance writes into its own directory is there over a restart in place, and for the instance that takes its
// place; one whose directory is not sticky begins with an empty one.
func TestStickyDisk(t *testing.T) {
	f := newAlone(t, "127.0.9.21")
	run := func(name, open, sticky string) string {
		t.Helper()
		file := write(t, name+".hcl", fmt.Sprintf(`task %q {
  image = "cube/hello:1"
  args  = ["-listen", "none", "-show", "-open", %q]
  ephemeral_disk {
    sticky = %s
  }
  update {
    min_healthy_time = "0s"
  }
}
`, name, open, sticky))
		code, out := f.cube("task", "run", "-detach", file)
		if code != 0 {
			t.Fatalf("cube task run ends with %d:\n%s", code, out)
		}
		return name
	}
	// own is the directory of the one instance that has one and may run, as the node sees it.
	own := func() (dirs []string) {
		all, err := filepath.Glob(filepath.Join(f.servers[0].dir, "client", "alloc", "*", "data"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	says := func(name, want string) {
		t.Helper()
		f.eventually(name+" says "+want, 15*time.Second, func() error {
			if _, out := f.cube("task", "logs", name); !strings.Contains(out, want) {
				return fmt.Errorf("it says:\n%s", out)
			}
			return nil
		})
	}
	run("cache", "/etc/hostname", "true")
	says("cache", `"CUBE_ALLOC_DIR":"/alloc"`)
	dirs := own()
	if len(dirs) != 1 {
		t.Fatalf("there are %v", dirs)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "mark"), []byte("kept\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	run("cache", "/alloc/mark", "true")
	says("cache", "opened /alloc/mark")
	if after := own(); len(after) != 1 || after[0] == dirs[0] {
		t.Errorf("the directory was %v and is %v: it was to be handed on", dirs, after)
	}
	if code, out := f.cube("task", "stop", "cache"); code != 0 {
		t.Fatalf("cube task stop ends with %d:\n%s", code, out)
	}
	run("cache", "/alloc/mark", "true")
	says("cache", "opened /alloc/mark")

	run("cache", "/alloc/./mark", "false")
	says("cache", "no such file or directory")
}
