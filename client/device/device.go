// Package device finds the devices of a machine that tasks can ask for: those that its configuration names, and GPUs of
// NVIDIA's driver, which tells of them in files. Partitions of a GPU (MIG) are not found: a configuration can name them.
package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cube/api"
)

// Finder looks at one machine.
type Finder struct {
	Root   string            // of its file system: "/"; tests put another tree here
	Static []api.DeviceGroup // what its configuration names, as Static made it
}

// Find says what is there now, in the order of api.SortDevices; callers do not change it. An error says in one line what is not
// offered, and why, beside the groups that are. A device that the configuration names is not found a second time: who names
// a GPU may say more about it.
func (f *Finder) Find() ([]api.DeviceGroup, error) {
	groups, faults := f.configured()
	named := map[string]bool{}
	for _, g := range f.Static {
		for _, id := range g.IDs {
			named[id] = true
		}
	}
	found, more := nvidia(f.Root)
	faults = append(faults, more...)
	for _, g := range found {
		g.IDs = without(g.IDs, func(id string) bool { return named[id] })
		if len(g.IDs) > 0 {
			groups = append(groups, g)
		}
	}
	api.SortDevices(groups)
	if err := api.CheckDevices(groups); err != nil { // more than a node may have
		return nil, fmt.Errorf("no device is offered: %w", err)
	}
	if len(faults) > 0 {
		return groups, errors.New(strings.Join(faults, "; "))
	}
	return groups, nil
}

// configured are the devices that the configuration names, without those whose file is not there.
func (f *Finder) configured() (groups []api.DeviceGroup, faults []string) {
	for _, g := range f.Static {
		missing := ""
		g.IDs = without(g.IDs, func(id string) bool {
			p := Path(&g, id)
			if p == "" {
				return false
			}
			err := handable(filepath.Join(f.Root, p), p)
			if err != nil && p != missing {
				missing = p
				faults = append(faults, fmt.Sprintf("device %s: %s", g.Type, err))
			}
			return err != nil
		})
		if len(g.IDs) > 0 {
			groups = append(groups, g)
		}
	}
	return groups, faults
}

// handable says why a file cannot be handed to a container: it is a device, or a directory of them such as /dev/dri.
func handable(file, name string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", name)
	case err != nil:
		return fmt.Errorf("look at %s: %w", name, err)
	case info.Mode()&fs.ModeDevice == 0 && !info.IsDir():
		return fmt.Errorf("%s is not a device", name)
	}
	return nil
}

// without copies a list but for what drop picks.
func without(list []string, drop func(string) bool) []string {
	var out []string
	for _, s := range list {
		if !drop(s) {
			out = append(out, s)
		}
	}
	return out
}
