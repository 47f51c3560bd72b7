package api

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Bounds of devices, of a node and of a task alike. A machine has a handful of accelerators, and up to a few dozen places
// on a file such as /dev/kvm.
const (
	MaxDevices      = 64 // of one group; that one request asks for
	maxDeviceGroups = 16 // of one node; requests of one task
	maxDeviceText   = 128
)

// validateDevices checks what each instance of a task wants of a node's devices.
func (t *Task) validateDevices() error {
	if len(t.Devices) > maxDeviceGroups {
		return faultf("", "%d types of device are more than %d", len(t.Devices), maxDeviceGroups)
	}
	for i, d := range t.Devices {
		block := fmt.Sprintf("device %q", d.Type)
		if err := CheckName(d.Type); err != nil {
			return faultf(block, "the type of device %.80q %w", d.Type, err)
		}
		if i > 0 && t.Devices[i-1].Type == d.Type {
			return faultf(block, "device %q is there twice; ask for more of one type by count", d.Type)
		}
		if err := d.validate(); err != nil {
			return in(block, err)
		}
	}
	return nil
}

func (d DeviceRequest) validate() error {
	switch {
	case d.Count < 1 || d.Count > MaxDevices:
		return faultf("count", "count %d is not from 1 to %d", d.Count, MaxDevices)
	case d.Share < 1 || d.Share > WholeDevice:
		return faultf("share", "share %s is not from 0.001 to 1", FormatShare(d.Share))
	case d.Share < WholeDevice && d.Count > 1:
		return faultf("share", "share %s is part of one device and count is %d; ask for one device or for whole ones", FormatShare(d.Share), d.Count)
	case len(d.Constraints) > maxConditions:
		return faultf("", "%d constraints are more than %d", len(d.Constraints), maxConditions)
	}
	for i, c := range d.Constraints {
		if err := c.validateDevice(); err != nil {
			return in(fmt.Sprintf("constraint %d", i+1), err)
		}
	}
	return nil
}

// validateDevice checks a condition on a group of devices.
func (c Constraint) validateDevice() error {
	if c.Operator == OpDistinctHosts {
		return faultf("operator", "distinct_hosts is about nodes, not devices; it belongs into a constraint of the task")
	}
	return c.validate(CheckDeviceAttribute)
}

// CheckDeviceAttribute says what is wrong with the name of an attribute of devices; see DeviceGroup.Attribute.
func CheckDeviceAttribute(name string) error {
	key, ok := strings.CutPrefix(name, "device.")
	switch {
	case len(name) > maxKey || !printable(name) || ok && key == "":
		return fmt.Errorf("%.80q is not the name of an attribute", name)
	case !ok && !strings.Contains(name, "."):
		return fmt.Errorf("%.80q is not an attribute; did you mean device.%.80s?", name, name)
	case !ok:
		return fmt.Errorf("%.80q is not about a device; there are device.model and device.KEY, and what is asked of the node stands in a constraint of the task", name)
	}
	return nil
}

// FormatShare writes thousandths of a device as a fraction: 500 is 0.5.
func FormatShare(thousandths int) string { return FormatCPU(int64(thousandths)) }

// SortDevices puts the devices of a node in their order: groups by type, model and first ID, the IDs of each by name. Equal
// devices look equal then, however they were found.
func SortDevices(groups []DeviceGroup) {
	for _, g := range groups {
		slices.Sort(g.IDs)
	}
	slices.SortFunc(groups, compareGroups)
}

func compareGroups(a, b DeviceGroup) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Model, b.Model), slices.Compare(a.IDs, b.IDs))
}

// CheckDevices says what is wrong with the devices that a node announces. They are in the order of SortDevices, and no two
// have one ID. It is asked when an entry of the log is applied, so what it accepts belongs to the rules version: to accept
// anything else takes a new one, or logs replay differently.
func CheckDevices(groups []DeviceGroup) error {
	if len(groups) > maxDeviceGroups {
		return Errorf(CodeInvalid, "%d groups of devices are more than %d", len(groups), maxDeviceGroups)
	}
	owner := map[string]string{}
	for _, g := range groups {
		if err := g.check(); err != nil {
			return Errorf(CodeInvalid, "device %.80q: %w", g.Type, err)
		}
		for _, id := range g.IDs {
			if other, taken := owner[id]; taken {
				return Errorf(CodeInvalid, "device %q: ID %q belongs to a device %q already", g.Type, id, other)
			}
			owner[id] = g.Type
		}
	}
	if !slices.IsSortedFunc(groups, compareGroups) {
		return Errorf(CodeInvalid, "the devices are not sorted by type, model and ID")
	}
	return nil
}

func (g *DeviceGroup) check() error {
	if err := CheckName(g.Type); err != nil {
		return fmt.Errorf("its type %w", err)
	}
	switch {
	case len(g.Model) > maxDeviceText || !printable(g.Model):
		return fmt.Errorf("model %.80q has more than %d bytes, or some that cannot be shown", g.Model, maxDeviceText)
	case len(g.IDs) == 0 || len(g.IDs) > MaxDevices:
		return fmt.Errorf("%d IDs are not from 1 to %d", len(g.IDs), MaxDevices)
	case !slices.IsSorted(g.IDs):
		return fmt.Errorf("its IDs are not sorted")
	}
	for _, id := range g.IDs {
		// They are told to programs as a list with commas.
		if id == "" || len(id) > maxDeviceText || strings.ContainsAny(id, ", \t") || !printable(id) {
			return fmt.Errorf("ID %.80q is empty, has more than %d bytes, or holds a comma or a blank", id, maxDeviceText)
		}
	}
	for _, key := range []string{"type", "model"} {
		if _, ok := g.Attributes[key]; ok {
			return fmt.Errorf("its %s stands for itself, not among the attributes", key)
		}
	}
	if len(g.Attributes) > maxConditions {
		return fmt.Errorf("%d attributes are more than %d", len(g.Attributes), maxConditions)
	}
	return checkPairs("attributes", g.Attributes)
}
