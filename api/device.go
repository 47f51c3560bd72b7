package api

import (
	"fmt"
	"slices"
)

// WholeDevice is the share that is all of one device: shares are counted in thousandths, in integers, so that every
// server adds them up alike.
const WholeDevice = 1000

// DeviceGroup is what a node has of one kind of device: devices that are alike and can stand in for each other.
type DeviceGroup struct {
	Type       string            // what a task asks for: "gpu"
	Model      string            `json:",omitempty"` // "A100-SXM4-40GB"
	IDs        []string          // one a device, unique on the node; what a driver is told, e.g. GPU-5d3c...
	Attributes map[string]string `json:",omitempty"` // more about each: memory, driver version
}

// Attribute looks up a dotted name as a device's constraints use it: device.type, device.model, device.KEY for one of
// its Attributes. ok is false when the group does not have it.
func (g *DeviceGroup) Attribute(name string) (value string, ok bool) {
	switch name {
	case "device.type":
		return g.Type, true
	case "device.model":
		return g.Model, g.Model != ""
	}
	const prefix = "device."
	if len(name) > len(prefix) && name[:len(prefix)] == prefix {
		value, ok = g.Attributes[name[len(prefix):]]
	}
	return value, ok
}

// DeviceRequest is what each instance of a task wants of one type of device. All devices of a request come from one
// group, so they are alike.
type DeviceRequest struct {
	Type        string
	Count       int          // devices, at least 1
	Share       int          // of each, in thousandths: WholeDevice, or less to share it with other instances (Count 1 only)
	Constraints []Constraint `json:",omitempty"` // on the group: see DeviceGroup.Attribute
}

// DeviceClaim is what an allocation holds of one device until it is terminal.
type DeviceClaim struct {
	Type  string
	ID    string
	Share int // thousandths
}

// DeviceUse is what is held of one device of a node, as people see it.
type DeviceUse struct {
	Type  string
	Model string `json:",omitempty"`
	ID    string
	Held  int  // thousandths, over all allocations that are not terminal
	Gone  bool `json:",omitempty"` // the node does not announce it any more; what holds it may end, nothing new comes
}

// Fits reports whether one group of devices can give what is asked for. left is what is left of each of its devices, in
// thousandths. The type and the constraints are another matter.
func (d *DeviceRequest) Fits(left []int16) bool {
	enough := 0
	for _, l := range left {
		if int(l) >= d.Share {
			enough++
		}
	}
	return enough >= d.Count
}

// Choose appends the places of the devices to take of a group that fits: of those that have enough left the ones that
// have least, so that whole devices stay whole; among equals the first.
func (d *DeviceRequest) Choose(left []int16, chosen []int) []int {
	from := len(chosen)
	for range d.Count {
		best := -1
		for i, l := range left {
			if int(l) >= d.Share && (best < 0 || l < left[best]) && !slices.Contains(chosen[from:], i) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		chosen = append(chosen, best)
	}
	return chosen
}

// Amiss says why the claims are not what the requests ask for of the node's devices, "" if they are: request by request
// the devices that it counts, different ones, all of one group and of its type, with its share of each, and that share
// still left. left says what is left of one of the node's devices, in thousandths. Constraints are not looked at.
func (n *Node) Amiss(requests []DeviceRequest, claims []DeviceClaim, left func(id string) int) string {
	wanted := 0
	for i := range requests {
		wanted += max(requests[i].Count, 0)
	}
	if wanted != len(claims) {
		return fmt.Sprintf("it claims %d devices, its task asks for %d", len(claims), wanted)
	}
	for i, c := range claims {
		for _, other := range claims[:i] {
			if other.ID == c.ID {
				return fmt.Sprintf("it claims %s %s twice", c.Type, c.ID)
			}
		}
	}
	for i := range requests {
		d := &requests[i]
		count := max(d.Count, 0)
		if reason := n.claimsAmiss(d, claims[:count], left); reason != "" {
			return reason
		}
		claims = claims[count:]
	}
	return ""
}

func (n *Node) claimsAmiss(d *DeviceRequest, claims []DeviceClaim, left func(id string) int) string {
	group := -1
	for _, c := range claims {
		if c.Type != d.Type || c.Share != d.Share || c.Share < 1 || c.Share > WholeDevice {
			return fmt.Sprintf("it claims %d thousandths of a %s, its task asks for %d of a %s", c.Share, c.Type, d.Share, d.Type)
		}
		at := slices.IndexFunc(n.Devices, func(g DeviceGroup) bool { return g.Type == c.Type && slices.Contains(g.IDs, c.ID) })
		switch {
		case at < 0:
			return fmt.Sprintf("its node has no %s %s", c.Type, c.ID)
		case group >= 0 && at != group:
			return fmt.Sprintf("the devices of type %s that it claims are not alike", c.Type)
		}
		group = at
		if free := left(c.ID); free < c.Share {
			return fmt.Sprintf("%s %s of its node has %d of %d thousandths left, it claims %d", c.Type, c.ID, max(free, 0), WholeDevice, c.Share)
		}
	}
	return ""
}
