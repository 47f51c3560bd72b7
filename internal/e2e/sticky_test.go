package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// TestStickyDataMoves: what an instance has written goes with it to another node when its own is drained, and comes back changed; what
// is lost with its node is done without, and said.
func TestStickyDataMoves(t *testing.T) {
	f := newAlone(t, "127.0.9.31")
	second := &process{name: "n2", bind: "127.0.9.32", dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-client", "-join", "127.0.9.31"}}
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
	cube := func(want int, args ...string) string {
		t.Helper()
		code, out := f.cube(args...)
		if code != want {
			t.Fatalf("cube %s ends with %d:\n%s", strings.Join(args, " "), code, out)
		}
		return out
	}
	on := func(p *process, name string) string {
		t.Helper()
		dirs, err := filepath.Glob(filepath.Join(p.dir, "client", "alloc", "*", "data", name))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("%s has %v, %v", p.name, dirs, err)
		}
		return dirs[0]
	}
	says := func(want string, of ...string) {
		t.Helper()
		f.eventually(fmt.Sprintf("%s says %s", of, want), 25*time.Second, func() error {
			if _, out := f.cube(of...); !strings.Contains(out, want) {
				return fmt.Errorf("it says:\n%s", out)
			}
			return nil
		})
	}
	cube(0, "task", "run", "-detach", file) // it has to be tried until there is what it opens
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
	second.start(t)
	f.clients = append(f.clients, second)
	f.eventually("the second node is ready", 20*time.Second, func() error { return f.nodesReady(2) })

	cube(0, "node", "drain", "-message", "new disks", "n1")
	if info, err := os.Stat(on(second, "bulk")); err != nil || info.Size() != 24<<20 {
		t.Errorf("when the drain ends the second node has %v, %v", info, err)
	}
	if b, err := os.ReadFile(on(second, "mark")); string(b) != "of n1\n" || err != nil {
		t.Errorf("the second node has %q, %v", b, err)
	}
	says("opened /alloc/mark", "task", "logs", "cache")
	says("data fetched from node n1: 24 MiB in ", "task", "timeline", "cache")
	if left, _ := filepath.Glob(filepath.Join(f.servers[0].dir, "client", "alloc", "*", "data")); len(left) > 0 {
		t.Errorf("the first node keeps %v", left)
	}

	if err := os.WriteFile(on(second, "mark"), []byte("of n2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	cube(0, "node", "eligibility", "-enable", "n1")
	cube(0, "node", "drain", "n2")
	if b, err := os.ReadFile(on(f.servers[0], "mark")); string(b) != "of n2\n" || err != nil {
		t.Errorf("the first node has %q, %v", b, err)
	}

	cube(0, "node", "eligibility", "-enable", "n2")
	cube(0, "node", "drain", "n1")
	cube(0, "node", "eligibility", "-enable", "n1")
	second.end(t, syscall.SIGKILL)
	says("data not fetched from node n2: node n2 is down; it begins with an empty directory", "task", "timeline", "cache")
}
