package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
)

// TestVolumesMadeOnANode: a volume is made on a node that runs, what a task writes to it is there for the next, over a restart of
// the agent too; it is not deleted while it is held, and its data goes only when that is said.
func TestVolumesMadeOnANode(t *testing.T) {
	f := newAlone(t, "127.0.9.20")
	volumes := func() (all []api.VolumeView) {
		t.Helper()
		code, out := f.cube("volume", "list", "-json")
		if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil {
			t.Fatalf("cube volume list -json ends with %d, %v:\n%s", code, err, out)
		}
		return all
	}
	task := func(image, open string) string {
		return write(t, "db.hcl", fmt.Sprintf(`task "db" {
  image = "cube/hello:1"
  args  = ["-listen", "none", "-show", "-open", %q]
  env   = { RUN = %q }
  volume "data" {
    source      = "db-data"
    destination = "/v"
  }
  update {
    min_healthy_time = "0s"
  }
}
`, open, image))
	}
	f.says(0, "Volume db-data is on node n1, empty: ", "volume", "create", "-node", "n1", "db-data")
	f.says(1, "has a volume db-data already", "volume", "create", "-node", "n1", "db-data")
	f.says(1, "no node is called \"nowhere\", nor has an ID that begins so", "volume", "create", "-node", "nowhere", "db-data")
	f.says(1, "is not a name", "volume", "create", "-node", "n1", "../db-data")
	all := volumes()
	if len(all) != 1 || all[0].NodeName != "n1" || all[0].Made == nil || all[0].Made.By == "" {
		t.Fatalf("the volumes are %+v", all)
	}
	path := all[0].Path
	if err := os.WriteFile(filepath.Join(path, "mark"), []byte("kept\n"), 0o666); err != nil {
		t.Fatal(err)
	}

	f.does("task", "run", task("1", "/v/mark"))
	f.says(0, "db[0]", "volume", "status", "db-data")
	f.says(1, "volume db-data on node n1 is held by db[0]: stop it first", "volume", "delete", "-data", "-yes", "db-data")
	if out := f.says(0, "", "task", "explain", "db"); strings.Contains(out, "Pinned") {
		t.Errorf("the only node pins a task, says explain:\n%s", out)
	}

	agent := f.servers[0]
	agent.end(t, syscall.SIGTERM)
	agent.start(t)
	f.eventually("the volume is there after a restart of the agent", 20*time.Second, func() error {
		out, err := f.said(0, "db[0]", "volume", "status", "db-data")
		if err == nil && !strings.Contains(out, path) {
			err = fmt.Errorf("volume status does not say where it is:\n%s", out)
		}
		return err
	})
	if err := os.WriteFile(filepath.Join(path, "later"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	f.does("task", "stop", "db")
	f.does("task", "run", task("2", "/v/later"))
	f.eventually("the next run finds what was written before", 15*time.Second, func() error {
		for _, c := range f.running() {
			if said := docker(t, "logs", c.ID); strings.Contains(said, "opened /v/later") {
				return nil
			}
		}
		return fmt.Errorf("it does not say that it opened the file")
	})

	f.does("task", "stop", "-purge", "db")
	f.says(0, "what was in it stays in "+path, "volume", "delete", "db-data")
	if len(volumes()) != 0 {
		t.Errorf("the volumes are %+v", volumes())
	}
	f.says(0, "with what a former volume of that name left", "volume", "create", "-node", "n1", "-access", "single-writer", "db-data")
	if kept, err := os.ReadFile(filepath.Join(path, "mark")); err != nil || string(kept) != "kept\n" {
		t.Errorf("the file holds %q, %v", kept, err)
	}
	f.says(0, "with what was in it", "volume", "delete", "-data", "-yes", "db-data")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	f.says(1, `no node has a volume "db-data"`, "volume", "delete", "db-data")
}
