package device

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"cube/api"
)

// Attributes that say how a device is handed to an instance; the others only describe it.
const (
	attributePath   = "path"   // the file on the node that each device of the group is, or a place on
	attributeVendor = "vendor" // VendorNvidia: the ID is the vendor's, and its toolkit knows it
)

// VendorNvidia is the vendor of devices that NVIDIA's container toolkit hands to containers, by ID.
const VendorNvidia = "nvidia"

// Block is a device block of a node's configuration: devices that are alike. It has either IDs or a Count.
type Block struct {
	Type       string
	Model      string
	IDs        []string
	Count      int // of devices that have no IDs of their own
	Attributes map[string]string
}

// Static makes the devices that a configuration names, in their order. An error says which block is wrong, and how:
// device "gpu": ...
func Static(blocks []Block) ([]api.DeviceGroup, error) {
	var groups []api.DeviceGroup
	numbered := map[string]int{}
	for _, b := range blocks {
		if err := b.check(); err != nil {
			return nil, fmt.Errorf("device %.80q: %w", b.Type, err)
		}
		g := api.DeviceGroup{Type: b.Type, Model: b.Model, IDs: append([]string(nil), b.IDs...), Attributes: maps.Clone(b.Attributes)}
		for range b.Count {
			g.IDs = append(g.IDs, fmt.Sprintf("%s-%02d", b.Type, numbered[b.Type]))
			numbered[b.Type]++
		}
		groups = append(groups, g)
	}
	api.SortDevices(groups)
	if err := api.CheckDevices(groups); err != nil {
		return nil, err
	}
	return groups, nil
}

// check refuses what contradicts itself. Sizes and names are for api.CheckDevices.
func (b *Block) check() error {
	file, hasFile := b.Attributes[attributePath]
	switch {
	case len(b.IDs) > 0 && b.Count != 0:
		return fmt.Errorf("it has both ids and count; each ID is one device")
	case len(b.IDs) == 0 && (b.Count < 1 || b.Count > api.MaxDevices):
		return fmt.Errorf("it needs ids, or a count from 1 to %d", api.MaxDevices)
	case hasFile && b.Attributes[attributeVendor] == VendorNvidia:
		return fmt.Errorf("a device of vendor nvidia is handed over by its ID; it has no path")
	case b.Count != 0 && b.Attributes[attributeVendor] == VendorNvidia:
		return fmt.Errorf("devices of vendor nvidia are handed over by their IDs; give ids, such as GPU-5d3c..., not a count")
	case hasFile && !isFile(file):
		return fmt.Errorf("path %.80q is not an absolute one, such as /dev/kvm", file)
	}
	for _, id := range b.IDs {
		switch {
		case !strings.HasPrefix(id, "/"):
		case hasFile:
			return fmt.Errorf("ID %.80q is a path already, and path is %.80q; leave one out", id, file)
		case !isFile(id):
			return fmt.Errorf("ID %.80q is not a plain path, such as /dev/fuse", id)
		}
	}
	return nil
}

// isFile reports whether s is an absolute path, written in the one usual way and without the colon that engines take for
// the end of it.
func isFile(s string) bool {
	return strings.HasPrefix(s, "/") && s != "/" && path.Clean(s) == s && !strings.Contains(s, ":")
}

// Path is the file on the node that a device of a group is: the group's path, or the ID where that is one. It is "" for a
// device that is no file.
func Path(g *api.DeviceGroup, id string) string {
	if strings.HasPrefix(id, "/") {
		return id
	}
	return g.Attributes[attributePath]
}

// Vendor is whose toolkit hands the devices of a group to containers, "" for none.
func Vendor(g *api.DeviceGroup) string { return g.Attributes[attributeVendor] }
