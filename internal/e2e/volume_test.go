package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVolumes: a node offers two directories. What is in them is there for each instance that comes after another; who writes
// alone is alone, and nobody writes to what is read-only. A task whose volume no node has is not placed, and is told so.
func TestVolumes(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"data", "assets"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "mark"), []byte("kept\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := write(t, "agent.hcl", fmt.Sprintf(`client {
  volume "data" {
    path = %q
  }
  volume "assets" {
    path      = %q
    read_only = true
  }
}
`, root+"/data", root+"/assets"))
	f := newAlone(t, "127.0.9.8", "-config", config)

	// -open opens a file to read and write, or ends with 1.
	task := func(name, volume, access, open string) string {
		return write(t, name+".hcl", fmt.Sprintf(`task %q {
  image = "cube/hello:1"
  args  = ["-listen", "none", "-show", "-open", %q]
  volume %q {
    destination = "/v"
    access      = %q
  }
  update {
    min_healthy_time = "0s"
  }
  restart {
    attempts = 1
    mode     = "fail"
  }
}
`, name, open, volume, access))
	}
	f.does("task", "run", task("db", "data", "single-writer", "/v/mark"))
	if out := f.says(0, root+"/data", "node", "status", "-verbose", "n1"); !strings.Contains(out, "1 writer") {
		t.Errorf("node status does not show who holds the volume:\n%s", out)
	}

	// What is written while it runs, the next version finds, in the same place.
	if err := os.WriteFile(filepath.Join(root, "data", "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.does("task", "run", task("db", "data", "single-writer", "/v/new"))
	f.eventually("the second version finds what was written meanwhile", 15*time.Second, func() error {
		said := ""
		for _, c := range f.running() {
			said = docker(t, "logs", c.ID)
		}
		if !strings.Contains(said, "opened /v/new") || !strings.Contains(said, `"CUBE_VOLUME_DATA":"/v"`) {
			return fmt.Errorf("it says:\n%s", said)
		}
		return nil
	})

	// A second writer waits, and another volume is nowhere.
	for name, want := range map[string]string{"second": "held by 1 writer", "lost": "no volume nowhere"} {
		volume := map[string]string{"second": "data", "lost": "nowhere"}[name]
		f.does("task", "run", "-detach", task(name, volume, "single-writer", "/v/mark"))
		f.comesToSay(10*time.Second, want, "task", "explain", name)
	}
	f.does("task", "stop", "db")
	f.eventually("the second gets the volume", 15*time.Second, func() error { return f.placed("second", 1) })

	// A reader gets a read-only volume, and cannot write to it.
	f.does("task", "run", "-detach", task("reader", "assets", "multi-reader", "/v/mark"))
	f.comesToSay(20*time.Second, "read-only file system", "task", "logs", "-stderr", "reader")
	if kept, err := os.ReadFile(filepath.Join(root, "assets", "mark")); err != nil || string(kept) != "kept\n" {
		t.Errorf("the read-only file holds %q, %v", kept, err)
	}
}
