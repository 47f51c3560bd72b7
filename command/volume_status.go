package command

import (
	"context"
	"errors"

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
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			all, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
				q.Prefix = args[0]
				return cluster.ListVolumes(ctx, q)
			})
			if err != nil {
				return failed(err, "reading volume %q", args[0])
			}
			var found []*api.VolumeView
			for _, v := range all {
				if v.Name == args[0] {
					found = append(found, v)
				}
			}
			if len(found) == 0 {
				return failed(errors.New("no node has a volume of that name; see cube volume list"), "reading volume %q", args[0])
			}
			if done, err := read.emit(s, found); done {
				return err
			}
			for i, v := range found {
				if i > 0 {
					s.print("\n")
				}
				printVolume(s, read.moments(s), v)
			}
			return nil
		},
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
