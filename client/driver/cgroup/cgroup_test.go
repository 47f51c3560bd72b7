package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"cube/client/driver"
)

// tree writes files under a directory of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestUsage(t *testing.T) {
	v1 := map[string]string{
		"proc":                                  "9:name=systemd:/docker/x\n4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/docker/x\n",
		"memory/docker/x/memory.usage_in_bytes": "5000000\n",
		"memory/docker/x/memory.stat":           "inactive_file 1\ntotal_inactive_file 1000000\n",
		"cpuacct/docker/x/cpuacct.usage":        "2500000000\n",
		"docker/x/memory.current":               "1\n",
	}
	v2 := map[string]string{
		"proc": "0::/system.slice/docker-x.scope\n",
		"system.slice/docker-x.scope/memory.current": "7000000\n",
		"system.slice/docker-x.scope/memory.stat":    "anon 5\ninactive_file 3000000\n",
		"system.slice/docker-x.scope/cpu.stat":       "usage_usec 1500000\nuser_usec 1\n",
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  driver.Usage
		ok    bool
	}{
		"version 1, and an empty version 2 beside it": {v1, driver.Usage{CPU: 2500 * time.Millisecond, Memory: 4000000}, true},
		"version 2":              {v2, driver.Usage{CPU: 1500 * time.Millisecond, Memory: 4000000}, true},
		"a group that is gone":   {map[string]string{"proc": v1["proc"]}, driver.Usage{}, false},
		"no CPU time":            {map[string]string{"proc": "4:memory:/a\n"}, driver.Usage{}, false},
		"a process that is gone": {nil, driver.Usage{}, false},
		"nonsense":               {map[string]string{"proc": "::\n\n1:memory\n", "memory.current": "many\n"}, driver.Usage{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, c.files)
			g, ok := Of(filepath.Join(root, "proc"), root)
			var got driver.Usage
			if ok {
				got, ok = g.Usage()
			}
			if ok != c.ok || ok && (got.CPU != c.want.CPU || got.Memory != c.want.Memory || time.Since(got.At) > time.Minute) {
				t.Errorf("it uses %+v, %v; want %+v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}
