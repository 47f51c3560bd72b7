package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestStickyDisk: what an instance writes into its own directory is there over a restart in place, and for the instance that takes its
// place; one whose directory is not sticky begins with an empty one.
func TestStickyDisk(t *testing.T) {
	f := newAlone(t, "127.0.9.21")
	file := func(open, sticky string) string {
		t.Helper()
		return write(t, "cache.hcl", fmt.Sprintf(`task "cache" {
  image = "cube/hello:1"
  args  = ["-listen", "none", "-show", "-open", %q]
  ephemeral_disk {
    sticky = %s
  }
  update {
    min_healthy_time = "0s"
  }
}
`, open, sticky))
	}
	// own is the directory of the one instance that has one and may run, as the node sees it.
	own := func() (dirs []string) {
		all, err := filepath.Glob(filepath.Join(f.servers[0].dir, "client", "alloc", "*", "data"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	writes := func(want string) {
		t.Helper()
		f.comesToSay(15*time.Second, want, "task", "logs", "cache")
	}
	f.does("task", "run", file("/etc/hostname", "true"))
	writes(`"CUBE_ALLOC_DIR":"/alloc"`)
	dirs := own()
	if len(dirs) != 1 {
		t.Fatalf("there are %v", dirs)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "mark"), []byte("kept\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	f.does("task", "run", file("/alloc/mark", "true"))
	writes("opened /alloc/mark")
	if after := own(); len(after) != 1 || after[0] == dirs[0] {
		t.Errorf("the directory was %v and is %v: it was to be handed on", dirs, after)
	}
	f.does("task", "stop", "cache")
	f.does("task", "run", file("/alloc/mark", "true")) // it waits until that runs: until then task logs shows what has stopped
	writes("opened /alloc/mark")

	f.does("task", "run", "-detach", file("/alloc/./mark", "false"))
	writes("no such file or directory")
}

// TestStickyDataMoves: what an instance has written goes with it to another node when its own is drained, and comes back changed; what
// is lost with its node is done without, and said.
func TestStickyDataMoves(t *testing.T) {
	f := newAlone(t, "127.0.9.31")
	file := write(t, "cache.hcl", `task "cache" {
  image = "cube/hello:1"
  args  = ["-listen", "none", "-open", "/alloc/mark"]
  ephemeral_disk {
    sticky = true
  }
  update {
    min_healthy_time = "0s"
  }
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`)
	on := func(p *process, name string) string {
		t.Helper()
		dirs, err := filepath.Glob(filepath.Join(p.dir, "client", "alloc", "*", "data", name))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("%s has %v, %v", p.name, dirs, err)
		}
		return dirs[0]
	}
	f.does("task", "run", "-detach", file) // it has to be tried until there is what it opens
	f.eventually("it has a directory", 15*time.Second, func() error {
		if all, _ := filepath.Glob(filepath.Join(f.servers[0].dir, "client", "alloc", "*", "data")); len(all) != 1 {
			return fmt.Errorf("there are %v", all)
		}
		return nil
	})
	data := on(f.servers[0], "")
	if err := os.WriteFile(filepath.Join(data, "mark"), []byte("of n1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "bulk"), make([]byte, 24<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	second := f.join("n2", "127.0.9.32")

	f.does("node", "drain", "-message", "new disks", "n1")
	if info, err := os.Stat(on(second, "bulk")); err != nil || info.Size() != 24<<20 {
		t.Errorf("when the drain ends the second node has %v, %v", info, err)
	}
	if b, err := os.ReadFile(on(second, "mark")); string(b) != "of n1\n" || err != nil {
		t.Errorf("the second node has %q, %v", b, err)
	}
	const soon = 25 * time.Second
	f.comesToSay(soon, "opened /alloc/mark", "task", "logs", "cache")
	f.comesToSay(soon, "data fetched from node n1: 24 MiB in ", "task", "timeline", "cache")
	if left, _ := filepath.Glob(filepath.Join(f.servers[0].dir, "client", "alloc", "*", "data")); len(left) > 0 {
		t.Errorf("the first node keeps %v", left)
	}

	if err := os.WriteFile(on(second, "mark"), []byte("of n2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	f.does("node", "eligibility", "-enable", "n1")
	f.does("node", "drain", "n2")
	if b, err := os.ReadFile(on(f.servers[0], "mark")); string(b) != "of n2\n" || err != nil {
		t.Errorf("the first node has %q, %v", b, err)
	}

	f.does("node", "eligibility", "-enable", "n2")
	f.does("node", "drain", "n1")
	f.does("node", "eligibility", "-enable", "n1")
	second.end(t, syscall.SIGKILL)
	f.comesToSay(soon, "data not fetched from node n2: node n2 is down; it begins with an empty directory", "task", "timeline", "cache")
}
