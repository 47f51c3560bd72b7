package api

import (
	"strings"
	"testing"
	"time"
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
	n := Node{Volumes: []NodeVolume{{Name: "a", Path: "/a"}, {Name: "b", Path: "/b", ReadOnly: true}, {Name: "d", Path: "/d", SingleWriter: true}}}
	for want, r := range map[string]VolumeRequest{
		"": {Source: "a", Access: AccessSingleWriter}, "volume d takes one writer": {Source: "d", Access: AccessMultiWriter}, "no volume c": {Source: "c"}, "volume b is read-only": {Source: "b", Access: AccessMultiWriter},
	} {
		if got := n.LacksVolume(&r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
	if n.LacksVolume(&VolumeRequest{Source: "b", Access: AccessMultiReader}) != "" {
		t.Error("a read-only volume is not there for readers")
	}
	for i, want := range []string{AccessMultiWriter, AccessMultiReader, AccessSingleWriter} {
		if v := n.Volumes[i]; v.Access() != want || n.LacksVolume(&VolumeRequest{Source: v.Name, Access: want}) != "" {
			t.Errorf("volume %s grants %s at most, want %s, which it must grant", v.Name, v.Access(), want)
		}
	}
}

func TestVolumesThatAreTheSame(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	v := NodeVolume{Name: "a", Path: "/a", Made: &VolumeOrigin{By: "ann", At: at}}
	alike := v
	alike.Made = &VolumeOrigin{By: "ann", At: at.In(time.FixedZone("there", 3600))}
	if !v.Same(alike) || !(NodeVolume{}).Same(NodeVolume{}) {
		t.Error("what is the same is not the same")
	}
	for i, change := range []func(*NodeVolume){
		func(v *NodeVolume) { v.Name = "b" }, func(v *NodeVolume) { v.Path = "/b" }, func(v *NodeVolume) { v.ReadOnly = true },
		func(v *NodeVolume) { v.SingleWriter = true }, func(v *NodeVolume) { v.Made = nil }, func(v *NodeVolume) { v.Made = &VolumeOrigin{By: "bob", At: at} },
		func(v *NodeVolume) { v.Made = &VolumeOrigin{By: "ann", At: at.Add(1)} },
	} {
		other := v
		if change(&other); v.Same(other) || other.Same(v) {
			t.Errorf("change %d makes no difference", i)
		}
	}
}

func TestOrdersForVolumes(t *testing.T) {
	for want, o := range map[string]VolumeOrder{
		"":                    {Name: "data", Node: "n1", Access: AccessSingleWriter},
		"volume name \"\" is": {Node: "n1"},
		"is not a name":       {Name: "../x", Node: "n1"},
		"on which node":       {Name: "data"},
		"is none of single-w": {Name: "data", Node: "n1", Access: "rw"},
	} {
		if err := o.Check(); (err == nil) != (want == "") || err != nil && (CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

// TestVolumesInWords: what would let a node take an instance, and why none does, where it is for a volume.
func TestVolumesInWords(t *testing.T) {
	for _, c := range []struct{ filter, seen, remedy, reason string }{
		{"volume data", "no volume data", "would take it if it had a volume data", "both nodes have no volume data"},
		{"volume data", "volume data is read-only", "would take it if its volume data allowed what is asked of it", "both nodes do not offer volume data as it is asked for (volume data is read-only)"},
		{"volume data free", "held by 1 writer", "would take it if volume data were free", "both nodes have volume data in use (held by 1 writer)"},
	} {
		d := NodeDiagnosis{Failures: []FilterFailure{{Filter: c.filter, Wanted: "there", Seen: c.seen}}}
		if got := d.Remedy(); got != c.remedy {
			t.Errorf("%q, want %q", got, c.remedy)
		}
		e := Explanation{Task: "db", Wanted: 1, Nodes: 2, Filters: []FilterCount{{Filter: c.filter, Nodes: 2, Wanted: "there", Seen: c.seen}}}
		if got, want := e.Lines(), "db: 1 of 1 not placed: "+c.reason; len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPins(t *testing.T) {
	lacks := []FilterFailure{{Filter: "volume data", Wanted: "there", Seen: "no volume data"}}
	full := []FilterFailure{{Filter: "volume data free"}, {Filter: "memory"}}
	d := TaskDiagnosis{Filters: []string{"ready", "volume data", "memory", "volume data free"}, Nodes: []NodeDiagnosis{{Name: "n1", Failures: lacks}, {Name: "n2", Failures: full}}}
	check := func(want string) {
		t.Helper()
		if got := d.Pins(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("Pinned to n2 by volume data")
	d.Filters = append(d.Filters, "volume logs")
	check("Pinned to n2 by volumes data and logs")
	for _, more := range []string{"n7", "n3", "n4", "n5", "n6"} {
		d.Nodes = append(d.Nodes, NodeDiagnosis{Name: more})
	}
	check("Pinned to 6 of 7 nodes by volumes data and logs")
	d.Nodes = d.Nodes[:1]
	check("Pinned to no node there is by volumes data and logs")
	d.Nodes[0].Failures = nil
	check("")
	d.Filters, d.Nodes[0].Failures = nil, lacks
	check("")
}
