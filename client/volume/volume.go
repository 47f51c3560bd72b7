// Package volume keeps a node's volumes: directories that its configuration names, and those that were made on it.
package volume

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"cube/api"
)

// Block is a volume block of a node's configuration.
type Block struct {
	Name     string
	Path     string
	ReadOnly bool
}

// Static makes the volumes that a configuration names. Whether their directories are there is found out later.
func Static(blocks []Block) ([]api.NodeVolume, error) {
	var volumes []api.NodeVolume
	for _, b := range blocks {
		volumes = append(volumes, api.NodeVolume{Name: b.Name, Path: b.Path, ReadOnly: b.ReadOnly})
	}
	slices.SortFunc(volumes, func(a, b api.NodeVolume) int { return cmp.Compare(a.Name, b.Name) })
	return volumes, api.CheckVolumes(volumes)
}

// Find returns the volumes of a configuration whose directories are there. The error, if any, says which ones are not offered
// and why; the others are.
func Find(static []api.NodeVolume) ([]api.NodeVolume, error) {
	var found []api.NodeVolume
	var troubles []string
	for _, v := range static {
		info, err := os.Stat(v.Path)
		switch {
		case err != nil:
			troubles = append(troubles, fmt.Sprintf("volume %s: %s", v.Name, err))
		case !info.IsDir():
			troubles = append(troubles, fmt.Sprintf("volume %s: %s is no directory", v.Name, v.Path))
		default:
			found = append(found, v)
		}
	}
	if len(troubles) > 0 {
		return found, errors.New(strings.Join(troubles, "; "))
	}
	return found, nil
}
