package command

import (
	"context"
	"errors"
	"slices"

	"cube/api"
)

func newVolumeStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "volume status", args: "<name>", min: 1, max: 1, predict: predictVolumes,
		synopsis: "Show a volume, and who holds it",
		prose:    "Shows the volume of that name, on each node that has one: where it is, how it may be used, where it comes from, and the instances that hold it.",
		example:  "$ cube volume status db-data",
		flags:    read.declare,
		run: reading(&read, "reading volume %q", func(ctx context.Context, s *session, c api.Cluster, args []string) ([]*api.VolumeView, error) {
			all, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
				q.Prefix = args[0]
				return c.ListVolumes(ctx, q)
			})
			found := slices.DeleteFunc(all, func(v *api.VolumeView) bool { return v.Name != args[0] })
			if err == nil && len(found) == 0 {
				err = errors.New("no node has a volume of that name; see cube volume list")
			}
			return found, err
		}, func(s *session, f moments, found []*api.VolumeView) {
			for i, v := range found {
				if i > 0 {
					s.print("\n")
				}
				printVolume(s, f, v)
			}
		}),
	}
}

func printVolume(s *session, f moments, v *api.VolumeView) {
	var b block
	b.add("Name", "%s", v.Name)
	b.add("Node", "%s (%s), %s", printable(v.NodeName), f.id(v.NodeID), v.NodeStatus)
	b.addIf("Path", v.Path)
	b.add("Access", "%s", accessText(v))
	b.add("From", "%s", printable(origin(v)))
	if v.Made != nil {
		b.add("Created", "%s", f.ago(v.Made.At))
	}
	b.add("Held By", "%s", v.Hold)
	s.print(b.render(s.style))
	if len(v.Claims) == 0 {
		return
	}
	s.section("Instances")
	t := newTable("ID", "Instance", "Access", "Desired", "Status")
	t.colourColumn(4, s.style.state)
	for _, c := range v.Claims {
		t.add(f.id(c.Allocation), c.Name, c.Access, c.Desired.String(), c.Phase.String())
	}
	s.printTable(f, t)
}
