package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"cube/api"
)

func newVolumeCreate(m *Meta) *command {
	var read readFlags
	var node, access string
	return &command{
		meta: m, name: "volume create", args: "<name>", min: 1, max: 1,
		synopsis: "Make a volume on a node",
		prose: `Has a node make an empty directory that tasks can ask for by its name, and tells when the node offers it. It is kept under the data directory of the node's agent, over restarts of the agent and of the machine, until 'cube volume delete'. Tasks that ask for it are placed on that node and nowhere else.

If a volume of that name was deleted there and its data was kept, the new one has it.`,
		example: "$ cube volume create -node n1 db-data\n$ cube volume create -node n1 -access single-writer queue",
		flags: func(f *flag.FlagSet) {
			f.StringVar(&node, "node", "", "The `node` it is to be on: its name, or the beginning of its ID.")
			f.StringVar(&access, "access", "", "The most that tasks may ask of it: "+strings.Join(api.Accesses(), ", ")+". Default "+api.AccessMultiWriter+", which leaves it to the tasks.")
			read.declareData(f)
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			order := api.VolumeOrder{Name: args[0], Node: node, Access: access}
			if node == "" {
				return failed(errors.New("say with -node on which node the volume is to be"), "reading the arguments")
			}
			if err := order.Check(); err != nil {
				return failed(err, "reading the arguments")
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			v, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.VolumeView, error) {
				return cluster.CreateVolume(ctx, order, w)
			})
			if err != nil {
				return failed(err, "making volume %q", args[0])
			}
			if done, err := read.emit(s, v); done {
				return err
			}
			with := "empty"
			if v.Kept {
				with = "with what a former volume of that name left"
			}
			s.print(printable(fmt.Sprintf("Volume %s is on node %s, %s: %s", v.Name, v.NodeName, with, v.Path)) + "\n")
			return nil
		},
	}
}
