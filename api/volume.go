package api

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// NodeVolume is a directory of a node that instances can be given. It is known by its name: the volume of that name on
// another node is another one, with other data.
type NodeVolume struct {
	Name     string
	Path     string
	ReadOnly bool `json:",omitempty"` // no instance may write to it
	// SingleWriter says that at most one instance may write to it at a time, whatever the tasks would allow.
	SingleWriter bool          `json:",omitempty"`
	Made         *VolumeOrigin `json:",omitempty"` // nil: the node's configuration names it
}

// VolumeOrigin says who had a volume made on a node that runs, and when.
type VolumeOrigin struct {
	By string `json:",omitempty"` // "" when nobody said
	At time.Time
}

// Same reports whether two volumes of a node are alike in all that a node says of them.
func (v NodeVolume) Same(o NodeVolume) bool {
	alike := v.Name == o.Name && v.Path == o.Path && v.ReadOnly == o.ReadOnly && v.SingleWriter == o.SingleWriter
	if v.Made == nil || o.Made == nil {
		return alike && v.Made == o.Made
	}
	return alike && v.Made.By == o.Made.By && v.Made.At.Equal(o.Made.At)
}

// Access is the most that a task may ask of the volume.
func (v *NodeVolume) Access() string {
	switch {
	case v.ReadOnly:
		return AccessMultiReader
	case v.SingleWriter:
		return AccessSingleWriter
	}
	return AccessMultiWriter
}

// VolumeRequest is a task's wish for a volume. Its instances are placed on nodes that have it and nowhere else.
type VolumeRequest struct {
	Name        string // what the task calls it
	Source      string // the volume's name; canonical: Name where none is given
	Destination string `json:",omitempty"` // where it is inside a container; raw_exec has none
	Access      string // canonical: AccessSingleWriter where none is given
}

// How a volume is accessed, and who else may hold it meanwhile. Whoever only reads may always.
const (
	AccessSingleWriter = "single-writer" // no other instance may write
	AccessMultiWriter  = "multi-writer"  // others may write too, if they say so as well
	AccessMultiReader  = "multi-reader"  // this instance only reads
)

// Accesses lists the ways to access a volume, the default first.
func Accesses() []string { return []string{AccessSingleWriter, AccessMultiWriter, AccessMultiReader} }

// Reads reports whether the request is for reading only.
func (r *VolumeRequest) Reads() bool { return r.Access == AccessMultiReader }

// Bounds of volumes, each far beyond any real need.
const (
	MaxTaskVolumes = 16  // of one task
	MaxNodeVolumes = 256 // of one node
)

// VolumeHold is what stands on one volume of a node.
type VolumeHold struct {
	Readers, Writers int
	Single           bool // one of the writers is to be the only one
}

// Add adds an instance that accesses the volume so.
func (h *VolumeHold) Add(access string) {
	if access == AccessMultiReader {
		h.Readers++
		return
	}
	h.Writers++
	h.Single = h.Single || access == AccessSingleWriter
}

// Admits reports whether an instance that accesses the volume so may join those that hold it.
func (h VolumeHold) Admits(access string) bool {
	switch access {
	case AccessMultiReader:
		return true
	case AccessMultiWriter:
		return !h.Single
	}
	return h.Writers == 0
}

// String says who holds the volume: "1 writer", "2 writers and 3 readers".
func (h VolumeHold) String() string {
	count := func(n int, what string) string {
		if n != 1 {
			what += "s"
		}
		return fmt.Sprintf("%d %s", n, what)
	}
	switch {
	case h.Readers == 0 && h.Writers == 0:
		return "nobody"
	case h.Readers == 0:
		return count(h.Writers, "writer")
	case h.Writers == 0:
		return count(h.Readers, "reader")
	}
	return count(h.Writers, "writer") + " and " + count(h.Readers, "reader")
}

// Volume returns the node's volume of that name, nil if it has none.
func (n *Node) Volume(name string) *NodeVolume {
	i, found := slices.BinarySearchFunc(n.Volumes, name, func(v NodeVolume, name string) int { return cmp.Compare(v.Name, name) })
	if !found {
		return nil
	}
	return &n.Volumes[i]
}

// LacksVolume says why the node's volumes are not for the request, whoever holds them, "" if they are.
func (n *Node) LacksVolume(r *VolumeRequest) string {
	switch v := n.Volume(r.Source); {
	case v == nil:
		return "no volume " + r.Source
	case v.ReadOnly && !r.Reads():
		return "volume " + r.Source + " is read-only"
	case v.SingleWriter && r.Access == AccessMultiWriter:
		return "volume " + r.Source + " takes one writer"
	}
	return ""
}

// CheckVolumes says what is wrong with the volumes that a node announces. They are sorted by name. It is asked when an entry
// of the log is applied, so what it accepts belongs to the rules version.
func CheckVolumes(volumes []NodeVolume) error {
	if len(volumes) > MaxNodeVolumes {
		return Errorf(CodeInvalid, "%d volumes are more than %d", len(volumes), MaxNodeVolumes)
	}
	for i, v := range volumes {
		if err := CheckName(v.Name); err != nil {
			return Errorf(CodeInvalid, "volume name %.80q %w", v.Name, err)
		}
		if err := checkDirectory(v.Path); err != nil {
			return Errorf(CodeInvalid, "volume %q: path %.80q %w", v.Name, v.Path, err)
		}
		if i > 0 && cmp.Compare(volumes[i-1].Name, v.Name) >= 0 {
			return Errorf(CodeInvalid, "volume %q is there twice, or not in order", v.Name)
		}
	}
	return nil
}

// checkDirectory checks that text is a path from the root, written in the one usual way, and without the characters that
// engines take for the end of one.
func checkDirectory(text string) error {
	switch {
	case !strings.HasPrefix(text, "/") || path.Clean(text) != text:
		return fmt.Errorf("is not a plain path from the root, such as /srv/data")
	case text == "/":
		return fmt.Errorf("is all of the file system")
	case len(text) > maxText || strings.ContainsAny(text, ":,") || !printable(text):
		return fmt.Errorf("has a character that paths of volumes may not have, or over %d bytes", maxText)
	}
	return nil
}

func (t *Task) canonicalizeVolumes() {
	slices.SortFunc(t.Volumes, func(a, b VolumeRequest) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.Volumes {
		v := &t.Volumes[i]
		v.Source, v.Access = cmp.Or(v.Source, v.Name), cmp.Or(v.Access, AccessSingleWriter)
	}
}

func (t *Task) validateVolumes() error {
	if len(t.Volumes) > MaxTaskVolumes {
		return faultf("", "%d volumes are more than %d", len(t.Volumes), MaxTaskVolumes)
	}
	for i := range t.Volumes {
		v := &t.Volumes[i]
		block := fmt.Sprintf("volume %q", v.Name)
		if err := CheckName(v.Name); err != nil {
			return faultf(block, "volume name %.80q %w", v.Name, err)
		}
		if err := v.validate(t.Driver); err != nil {
			return in(block, err)
		}
		if t.Update.Order == OrderStartFirst && v.Access == AccessSingleWriter {
			return in("update", faultf("order", "order %s runs two instances side by side, of which only one may write to volume %q; use %s, or access %s",
				OrderStartFirst, v.Name, OrderStopFirst, AccessMultiWriter))
		}
		for _, o := range t.Volumes[:i] {
			switch {
			case o.Name == v.Name:
				return faultf(block, "two volumes are called %q", v.Name)
			case o.Source == v.Source:
				return in(block, faultf("source", "source %q belongs to volume %q already", v.Source, o.Name))
			case o.Destination == v.Destination && v.Destination != "":
				return in(block, faultf("destination", "destination %.80q belongs to volume %q already", v.Destination, o.Name))
			}
		}
	}
	return nil
}

func (r *VolumeRequest) validate(driver string) error {
	if err := CheckName(r.Source); err != nil {
		return faultf("source", "source %.80q %w", r.Source, err)
	}
	if !slices.Contains(Accesses(), r.Access) {
		return faultf("access", "access %.40q is none of %s", r.Access, strings.Join(Accesses(), ", "))
	}
	switch {
	case driver == "raw_exec" && r.Destination != "":
		return faultf("destination", "destination has no meaning for the raw_exec driver: CUBE_VOLUME_%s holds the path", VolumeKey(r.Name))
	case driver == "raw_exec":
		return nil
	case r.Destination == "":
		return faultf("destination", "destination is missing: where the volume is inside the container, such as /var/lib/data")
	}
	return checkDestination(r.Destination)
}

// checkDestination checks where in a container a directory is to be.
func checkDestination(path string) error {
	if err := checkDirectory(path); err != nil {
		return faultf("destination", "destination %.80q %w", path, err)
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if path == kernel || strings.HasPrefix(path, kernel+"/") {
			return faultf("destination", "destination %.80q is the kernel's", path)
		}
	}
	return nil
}

// VolumeKey is what a volume is called in the names of environment variables: CUBE_VOLUME_ and this.
func VolumeKey(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
