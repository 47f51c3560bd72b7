package command

import (
	"cmp"
	"fmt"

	"cube/api"
)

// printNodeVolumes lists a node's volumes with who holds them.
func printNodeVolumes(s *session, f moments, n *api.NodeView) {
	t := newTable("Name", "Access", "Held by", "Path")
	t.whole, t.spare = []string{"Name"}, []string{"Path"}
	for i := range n.Volumes {
		v := &n.Volumes[i]
		t.add(v.Name, v.Access(), n.VolumeUse[v.Name].String(), v.Path)
	}
	for _, name := range sortedKeys(n.VolumeUse) {
		if n.Volume(name) == nil {
			t.add(name, "", n.VolumeUse[name].String(), "gone from the node")
		}
	}
	if len(t.rows) > 0 {
		s.section("Volumes")
		s.printTable(f, t)
	}
}

// printAllocVolumes lists the volumes that an instance holds.
func printAllocVolumes(s *session, f moments, a *api.Allocation) {
	if len(a.Volumes) == 0 {
		return
	}
	s.section("Volumes")
	t := newTable("Name", "Volume", "Access", "Destination")
	for _, v := range a.Volumes {
		t.add(v.Name, v.Source, v.Access, v.Destination)
	}
	s.printTable(f, t)
}

// accessText is the most that a volume grants.
func accessText(v *api.VolumeView) string {
	if v.Gone {
		return "gone from the node"
	}
	return v.Access()
}

// claimants says who holds a volume: "db[0]", "db[0] and 2 others".
func claimants(v *api.VolumeView) string {
	switch n := len(v.Claims); n {
	case 0:
		return "nobody"
	case 1:
		return v.Claims[0].Name
	case 2:
		return v.Claims[0].Name + " and " + v.Claims[1].Name
	default:
		return fmt.Sprintf("%s and %d others", v.Claims[0].Name, n-1)
	}
}

// origin says where a volume comes from.
func origin(v *api.VolumeView) string {
	switch {
	case v.Gone:
		return ""
	case v.Made == nil:
		return "configuration"
	}
	return "made by " + cmp.Or(v.Made.By, "somebody")
}
