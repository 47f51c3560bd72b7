// Package device finds the devices of a machine that tasks can ask for: those that its configuration names, and GPUs of
// NVIDIA's driver, which tells of them in files. Partitions of a GPU (MIG) are not found: a configuration can name them.
package device

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cube/api"
)

// Finder looks at one machine.
type Finder struct {
	Root   string            // of its file system: "/"; tests put another tree here
	Static []api.DeviceGroup // what its configuration names, as Static made it
}

// Find says what is there now, in the order of api.SortDevices; callers do not change it. An error says in one line what is not
// offered, and why, beside the groups that are. Of a device that is found and that the configuration names too, the
// configuration may say more, and what it says counts.
func (f *Finder) Find() ([]api.DeviceGroup, error) {
	named, faults := f.configured()
	found, unusable := nvidia(f.Root)
	faults = append(faults, unusable...)
	groups := merge(named, found)
	api.SortDevices(groups)
	if err := api.CheckDevices(groups); err != nil { // more than a node may have
		return nil, fmt.Errorf("no device is offered: %w", err)
	}
	if len(faults) > 0 {
		return groups, errors.New(strings.Join(faults, "; "))
	}
	return groups, nil
}

// merge makes one list of what is named and what is found. What is both stands in a group of its own.
func merge(named, found []api.DeviceGroup) (groups []api.DeviceGroup) {
	for _, g := range named {
		for i := range found {
			h := &found[i]
			both := without(g.IDs, func(id string) bool { return !slices.Contains(h.IDs, id) })
			if len(both) == 0 {
				continue
			}
			taken := func(id string) bool { return slices.Contains(both, id) }
			g.IDs, h.IDs = without(g.IDs, taken), without(h.IDs, taken)
			groups = append(groups, more(g, h, both))
		}
		groups = append(groups, g)
	}
	return slices.DeleteFunc(append(groups, found...), func(g api.DeviceGroup) bool { return len(g.IDs) == 0 })
}

// more describes devices by what is found of them and by what is named of them, which counts where both say something.
func more(named api.DeviceGroup, found *api.DeviceGroup, ids []string) api.DeviceGroup {
	attributes := map[string]string{}
	maps.Copy(attributes, found.Attributes)
	if _, ok := named.Attributes[attributePath]; ok {
		delete(attributes, attributeVendor) // it is handed over as that file
	}
	maps.Copy(attributes, named.Attributes)
	return api.DeviceGroup{Type: named.Type, Model: cmp.Or(named.Model, found.Model), IDs: ids, Attributes: attributes}
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
