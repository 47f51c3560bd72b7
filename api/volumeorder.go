package api

import (
	"context"
	"slices"
	"strings"
)

// Volumes are the reads and writes of nodes' volumes.
type Volumes interface {
	// ListVolumes lists the volumes of all nodes, by name and node; Query.Prefix is one of names.
	ListVolumes(ctx context.Context, q Query) ([]*VolumeView, ReadMeta, error)
	// CreateVolume has a node make a volume and returns when the node offers it to tasks. The node must be ready and
	// connected (CodeUnavailable), and have no volume of that name (CodeConflict).
	CreateVolume(ctx context.Context, o VolumeOrder, w WriteMeta) (*VolumeView, error)
	// DeleteVolume has a node forget a volume that was made on it, and returns when that is done. A volume that an instance
	// holds, or that the node's configuration names, is CodeConflict; nothing has changed then.
	DeleteVolume(ctx context.Context, name string, r VolumeRemoval, w WriteMeta) (*VolumeView, error)
}

// VolumeOrder asks for a new volume.
type VolumeOrder struct {
	Name   string
	Node   string // its ID, the beginning of it, or its name
	Access string `json:",omitempty"` // the most that tasks may ask of it; "": AccessMultiWriter, which is everything
}

// Check says what is wrong with the order by itself.
func (o *VolumeOrder) Check() error {
	if err := CheckName(o.Name); err != nil {
		return Errorf(CodeInvalid, "volume name %.80q %w", o.Name, err)
	}
	if o.Node == "" {
		return Errorf(CodeInvalid, "volume %s: say on which node it is to be", o.Name)
	}
	if o.Access != "" && !slices.Contains(Accesses(), o.Access) {
		return Errorf(CodeInvalid, "access %.40q is none of %s", o.Access, strings.Join(Accesses(), ", "))
	}
	return nil
}

// VolumeRemoval says how a volume is to go.
type VolumeRemoval struct {
	Node string `json:",omitempty"` // as in VolumeOrder; may be left out where one node only has a volume of that name
	// Data has what is in the volume removed. Otherwise it stays on the node, and a volume that is made there by the same
	// name has it again.
	Data bool `json:",omitempty"`
}

// VolumeView is a volume of a node as people see it.
type VolumeView struct {
	NodeVolume
	NodeID     string
	NodeName   string
	NodeStatus NodeStatus
	Hold       VolumeHold
	Claims     []VolumeClaim `json:",omitempty"` // of instances that have not ended, by name
	Gone       bool          `json:",omitempty"` // the node does not offer it any more, and something holds it still
	Kept       bool          `json:",omitempty"` // in the answer to an order: what a former volume left is in it; to a removal: it is there still
}

// VolumeClaim is an instance that holds a volume.
type VolumeClaim struct {
	Allocation string // ID
	Name       string // web[0]
	Job        string
	Access     string
	Phase      Phase
	Desired    Desired
}

// VolumeStep is one step of making or removing a volume, as servers ask it of the node.
type VolumeStep string

const (
	// VolumeMake has the volume made, and offered to tasks.
	VolumeMake VolumeStep = "make"
	// VolumeWithdraw has it no longer offered. The node refuses while an instance holds it, and offers it again if it
	// hears no more within half a minute.
	VolumeWithdraw VolumeStep = "withdraw"
	// VolumeOffer takes a withdrawal back.
	VolumeOffer VolumeStep = "offer"
	// VolumeRemove has it forgotten. The node refuses unless it is withdrawn.
	VolumeRemove VolumeStep = "remove"
)

// VolumeChange is what servers have a node do about a volume.
type VolumeChange struct {
	Step    VolumeStep
	Name    string
	Access  string `json:",omitempty"` // of VolumeMake
	By      string `json:",omitempty"` // of VolumeMake: who asked
	Request string `json:",omitempty"` // of VolumeMake: its ID; the same one again has no second effect
	Data    bool   `json:",omitempty"` // of VolumeRemove: what is in it too
}

// VolumeDone is a node's answer to a change.
type VolumeDone struct {
	Volume NodeVolume
	Kept   bool // see VolumeView
}
