package command

import "cube/api"

// printNodeVolumes lists a node's volumes with who holds them.
func printNodeVolumes(s *session, f moments, n *api.NodeView) {
	t := newTable("Name", "Access", "Held by", "Path")
	t.whole, t.spare = []string{"Name"}, []string{"Path"}
	for i := range n.Volumes {
		v := &n.Volumes[i]
		access := "read and write"
		if v.ReadOnly {
			access = "read only"
		}
		t.add(v.Name, access, n.VolumeUse[v.Name].String(), v.Path)
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
