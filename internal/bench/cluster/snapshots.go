package cluster

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Snapshots is how many finished snapshots of its state a server keeps for its own restarts.
func (c *Cluster) Snapshots(i int) (int, error) {
	found, err := filepath.Glob(filepath.Join(c.dir, c.servers[i].name, "server", "snapshots", "*", "meta.json"))
	if err != nil {
		return 0, fmt.Errorf("look for the snapshots of %s: %w", c.servers[i].name, err)
	}
	n := 0
	for _, path := range found {
		if !strings.HasSuffix(filepath.Dir(path), ".tmp") {
			n++
		}
	}
	return n, nil
}
