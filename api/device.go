package api

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
