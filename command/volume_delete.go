package command

import (
	"context"
	"flag"
	"fmt"

	"cube/api"
)

func newVolumeDelete(m *Meta) *command {
	var node string
	var data, yes bool
	return &command{
		meta: m, name: "volume delete", args: "<name>", min: 1, max: 1, predict: predictVolumes,
		synopsis: "Delete a volume that was made on a node",
		prose: `Has a node offer a volume no longer. A volume that an instance holds is not deleted, nor is one that the node's configuration names.

What is in the volume stays on the node, and a volume that is made there by the same name has it again. With -data it is removed for good.`,
		example: "$ cube volume delete db-data\n$ cube volume delete -data -yes -node n1 queue",
		flags: func(f *flag.FlagSet) {
			f.StringVar(&node, "node", "", "The `node` whose volume is meant, if several nodes have one of that name.")
			f.BoolVar(&data, "data", false, "Remove what is in the volume too. It cannot be brought back.")
			f.BoolVar(&yes, "yes", false, "With -data: do not ask.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if data {
				if err := s.confirm(yes, fmt.Sprintf("Remove volume %q and all that is in it?", args[0])); err != nil {
					return failed(err, "deleting volume %q", args[0])
				}
			}
			v, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.VolumeView, error) {
				return cluster.DeleteVolume(ctx, args[0], api.VolumeRemoval{Node: node, Data: data}, w)
			})
			if err != nil {
				return failed(err, "deleting volume %q", args[0])
			}
			with := "with what was in it"
			if v.Kept {
				with = "what was in it stays in " + v.Path
			}
			s.print(printable(fmt.Sprintf("Volume %s of node %s is deleted; %s", v.Name, v.NodeName, with)) + "\n")
			return nil
		},
	}
}
