package api

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// NodeStatus is what the servers believe of a node.
type NodeStatus string

const (
	NodeInitializing NodeStatus = "initializing" // registered; its inventory is being put right, nothing is placed on it
	NodeReady        NodeStatus = "ready"
	NodeDown         NodeStatus = "down" // gone: its allocations are lost, or are when their task's lost_after is over
)

// Node is a machine that runs a client. The client writes the first group of fields when it registers; the state writes
// the rest. Load and last contact are not here: they are never replicated (see NodeLoad).
type Node struct {
	ID         string // 32 hex digits, minted by the client and kept in its data directory
	Name       string
	Datacenter string
	Address    string            // where its instances' ports are reached
	HTTPAddr   string            // its agent's HTTP API
	Version    string            // of Cube
	Attributes map[string]string // what was found on the machine: kernel.name, cpu.arch, driver.docker.version ...
	Meta       map[string]string `json:",omitempty"` // what its configuration says
	Resources  Resources         // what instances may use: the machine less what is reserved
	Drivers    map[string]DriverInfo
	Devices    []DeviceGroup `json:",omitempty"` // sorted by type and model
	Volumes    []NodeVolume  `json:",omitempty"` // sorted by name
	// Incarnation tells two lives of one node apart: it differs each time the agent starts.
	Incarnation uint64

	Status       NodeStatus
	StatusReason string `json:",omitempty"`
	Ineligible   bool   // a person said: place nothing new here
	StatusAt     time.Time
	// EligibilityAt is since when Ineligible is what it is; zero: since the node is known.
	EligibilityAt     time.Time `json:",omitzero"`
	EligibilityBy     string    `json:",omitempty"` // who said so last; "" if that is not known
	EligibilityReason string    `json:",omitempty"` // why, in that person's words; of a drain, what it says
	Drain             *Drain    `json:",omitempty"` // that it is being emptied, or was; nil once it is eligible again
	Absence           *Absence  `json:",omitempty"` // that it is away while instances of it are kept, or was; nil if it never was
	CreateIndex       uint64
	ModifyIndex       uint64
}

// EligibilityRequest says whether new instances may be placed on a node, and why.
type EligibilityRequest struct {
	Eligible bool
	Reason   string `json:",omitempty"` // kept with the node and shown; at most MaxReason bytes
}

// MaxReason is how long a person's reason for something that concerns a node may be, in bytes.
const MaxReason = 256

// Check says what is wrong with a request.
func (r *EligibilityRequest) Check() error { return checkReason("reason", r.Reason) }

func checkReason(name, text string) error {
	switch {
	case len(text) > MaxReason:
		return Errorf(CodeInvalid, "the %s has %d bytes; at most %d are kept", name, len(text), MaxReason)
	case !printable(text):
		return Errorf(CodeInvalid, "the %s holds characters that cannot be shown", name)
	}
	return nil
}

// Closed says why nothing new is placed on a node that is ready otherwise, by whose word and for what reason: "not eligible, by
// ada@ops: new disks". It is "" for a node that is eligible.
func (n *Node) Closed() string {
	text, by, why := "not eligible", n.EligibilityBy, n.EligibilityReason
	switch {
	case !n.Ineligible && !n.Drain.Active():
		return ""
	case n.Drain.Active():
		text, by, why = "being drained", n.Drain.By, n.Drain.Message
	case n.Drain != nil:
		text, by, why = "drained", n.Drain.By, n.Drain.Message
	}
	if by != "" {
		text += ", by " + by
	}
	if why != "" {
		text += ": " + why
	}
	return text
}

// UnreadySince is since when nothing new may be placed on a node; zero if that is not known, or something may.
func (n *Node) UnreadySince() (t time.Time) {
	switch {
	case n.Status != NodeReady:
		t = n.StatusAt
	case n.Drain != nil:
		t = n.Drain.StartedAt
	case n.Ineligible:
		t = n.EligibilityAt
	}
	return t
}

// News says what a node tells of itself that it did not tell before, as a list: "volume data is new, driver docker is not healthy".
// It is "" where nothing has changed that people know by a name.
func (n *Node) News(old *Node) string {
	var news []string
	say := func(format string, args ...any) { news = append(news, fmt.Sprintf(format, args...)) }
	for _, v := range n.Volumes {
		at := slices.IndexFunc(old.Volumes, func(o NodeVolume) bool { return o.Name == v.Name })
		switch {
		case at < 0:
			say("volume %s is new", v.Name)
		case !old.Volumes[at].Same(v):
			say("volume %s is another", v.Name)
		}
	}
	for _, v := range old.Volumes {
		if !slices.ContainsFunc(n.Volumes, func(o NodeVolume) bool { return o.Name == v.Name }) {
			say("volume %s is gone", v.Name)
		}
	}
	if !reflect.DeepEqual(n.Devices, old.Devices) {
		say("it offers %s, not %s", deviceCount(n.Devices), deviceCount(old.Devices))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Drivers)) {
		if was, is := old.Drivers[name].Healthy, n.Drivers[name].Healthy; was != is {
			say("driver %s is %s", name, map[bool]string{true: "healthy", false: "not healthy"}[is])
		}
	}
	if n.Resources != old.Resources {
		say("it has CPU %s, memory %s, disk %s", FormatCPU(n.Resources.CPU), FormatMiB(n.Resources.Memory), FormatMiB(n.Resources.Disk))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Attributes)) { // what is wrong is an attribute, too
		if value := n.Attributes[name]; strings.HasSuffix(name, ".trouble") && value != old.Attributes[name] {
			say("%s", value)
		}
	}
	return strings.Join(news, ", ")
}

// deviceCount is how many devices there are.
func deviceCount(groups []DeviceGroup) string {
	n := 0
	for i := range groups {
		n += len(groups[i].IDs)
	}
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

// DriverInfo is what a node can say of one of its drivers.
type DriverInfo struct {
	Detected   bool              // it exists on the machine
	Healthy    bool              // it can start instances now
	Reason     string            `json:",omitempty"` // why not, and what to do
	Attributes map[string]string `json:",omitempty"`
}

// Ready reports whether new instances may be placed on the node.
func (n *Node) Ready() bool { return n.Status == NodeReady && !n.Ineligible }

// Attribute looks up a dotted name as constraints and ${} use it: node.id, node.name, node.datacenter, node.address,
// attr.KEY, meta.KEY. ok is false when the node does not have it.
func (n *Node) Attribute(name string) (value string, ok bool) {
	root, key, _ := strings.Cut(name, ".")
	switch root {
	case "node":
		switch key {
		case "id":
			return n.ID, true
		case "name":
			return n.Name, true
		case "datacenter":
			return n.Datacenter, true
		case "address":
			return n.Address, true
		}
	case "attr":
		value, ok = n.Attributes[key]
	case "meta":
		value, ok = n.Meta[key]
	}
	return value, ok
}

// NodeLoad is what a node measures of itself. It lives in the leader's memory only: it ranks, it never decides.
type NodeLoad struct {
	CPU          int64 // thousandths of a core in use by the whole machine
	CPUTotal     int64 // thousandths of a core the machine has
	Memory       int64 // MiB in use (total less available)
	MemoryTotal  int64
	Disk         int64 // MiB in use on the file system of the data directory
	DiskTotal    int64
	Load1, Load5 float64
	Uptime       time.Duration
}

// NodeView is a node as people see it: the replicated row with what the leader knows beside it.
type NodeView struct {
	Node
	Held        Resources             // reserved by its allocations
	Running     int                   // instances running
	Allocations int                   // allocations that are not terminal
	DeviceUse   []DeviceUse           `json:",omitempty"` // what is held of each of its Devices, in their order, then of those that are gone
	VolumeUse   map[string]VolumeHold `json:",omitempty"` // who holds each of its Volumes, by name, also of those that are gone
	Load        *NodeLoad             `json:",omitempty"`
	LastContact time.Time             // zero: not heard of since this leader took over
	Connected   bool                  // it has a session with some server
}
