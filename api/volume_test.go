package api

import (
	"strings"
	"testing"
)

// TestWhoMayHoldAVolume goes over every way to access a volume beside every set of up to two holders.
func TestWhoMayHoldAVolume(t *testing.T) {
	for _, c := range []struct{ held, single, multi, reader string }{
		{"", "yes", "yes", "yes"},
		{"multi-reader", "yes", "yes", "yes"},
		{"single-writer", "no", "no", "yes"},
		{"multi-writer", "no", "yes", "yes"},
		{"single-writer multi-reader", "no", "no", "yes"},
		{"multi-writer multi-writer", "no", "yes", "yes"},
	} {
		var h VolumeHold
		for access := range strings.FieldsSeq(c.held) {
			h.Add(access)
		}
		for access, want := range map[string]string{AccessSingleWriter: c.single, AccessMultiWriter: c.multi, AccessMultiReader: c.reader} {
			if h.Admits(access) != (want == "yes") {
				t.Errorf("a %s beside %q (%s): want %s", access, c.held, h, want)
			}
		}
	}
}

func TestVolumesOfNodes(t *testing.T) {
	for _, c := range []struct {
		fault   string
		volumes []NodeVolume
	}{
		{"", []NodeVolume{{Name: "a", Path: "/srv/a"}, {Name: "b", Path: "/srv/a"}}},
		{"there twice", []NodeVolume{{Name: "a", Path: "/srv/a"}, {Name: "a", Path: "/srv/b"}}},
		{"not in order", []NodeVolume{{Name: "b", Path: "/srv/a"}, {Name: "a", Path: "/srv/b"}}},
		{"is not a name", []NodeVolume{{Name: "A", Path: "/srv/a"}}},
		{"all of the file system", []NodeVolume{{Name: "a", Path: "/"}}},
		{"not a plain path", []NodeVolume{{Name: "a", Path: "/srv/../etc"}}},
		{"not a plain path", []NodeVolume{{Name: "a"}}},
		{"character", []NodeVolume{{Name: "a", Path: "/srv/a:rw"}}},
		{"more than", make([]NodeVolume, MaxNodeVolumes+1)},
	} {
		err := CheckVolumes(c.volumes)
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%+v: %v, want %q", c.volumes[:min(2, len(c.volumes))], err, c.fault)
		}
	}
	n := Node{Volumes: []NodeVolume{{Name: "a", Path: "/a"}, {Name: "b", Path: "/b", ReadOnly: true}}}
	for want, r := range map[string]VolumeRequest{
		"": {Source: "a", Access: AccessSingleWriter}, "no volume c": {Source: "c"}, "volume b is read-only": {Source: "b", Access: AccessMultiWriter},
	} {
		if got := n.LacksVolume(&r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
	if n.LacksVolume(&VolumeRequest{Source: "b", Access: AccessMultiReader}) != "" {
		t.Error("a read-only volume is not there for readers")
	}
}
