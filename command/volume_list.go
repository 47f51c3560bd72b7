package command

import (
	"context"

	"cube/api"
)

func newVolumeList(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "volume list", max: 0,
		synopsis: "List the volumes of all nodes",
		prose:    "Lists the directories that nodes offer to tasks: those that their configuration names, and those that were made with 'cube volume create'. Volumes of one name on several nodes are different ones.",
		example:  "$ cube volume list",
		flags:    read.declare,
		run: reading(&read, "listing the volumes", func(ctx context.Context, s *session, c api.Cluster, _ []string) ([]*api.VolumeView, error) {
			return ask(ctx, s, &read, c.ListVolumes)
		}, printVolumes),
	}
}

func printVolumes(s *session, f moments, all []*api.VolumeView) {
	if len(all) == 0 {
		s.print("No volumes. To make one: cube volume create -node <node> <name>\n")
		return
	}
	t := newTable("Name", "Node", "Access", "Held By", "From", "Path")
	t.whole, t.spare = []string{"Name"}, []string{"Path"}
	for _, v := range all {
		t.add(v.Name, v.NodeName, accessText(v), claimants(v), origin(v), v.Path)
	}
	s.printTable(f, t)
}
