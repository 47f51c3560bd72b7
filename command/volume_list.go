package command

import "context"

func newVolumeList(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "volume list", max: 0,
		synopsis: "List the volumes of all nodes",
		prose:    "Lists the directories that nodes offer to tasks: those that their configuration names, and those that were made with 'cube volume create'. Volumes of one name on several nodes are different ones.",
		example:  "$ cube volume list",
		flags:    read.declare,
		run: func(ctx context.Context, s *session, _ []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			all, err := ask(ctx, s, &read, cluster.ListVolumes)
			if err != nil {
				return failed(err, "listing the volumes")
			}
			if done, err := read.emit(s, all); done {
				return err
			}
			if len(all) == 0 {
				s.print("No volumes. To make one: cube volume create -node <node> <name>\n")
				return nil
			}
			t := newTable("Name", "Node", "Access", "Held By", "From", "Path")
			t.whole, t.spare = []string{"Name"}, []string{"Path"}
			for _, v := range all {
				t.add(v.Name, v.NodeName, accessText(v), claimants(v), origin(v), v.Path)
			}
			s.printTable(read.moments(s), t)
			return nil
		},
	}
}
