package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"cube/api"
)

func newNodeEligibility(m *Meta) *command {
	var enable, disable bool
	var reason string
	return &command{
		meta: m, name: "node eligibility", args: "<node>", min: 1, max: 1, predict: predictNodes,
		synopsis: "Let new instances onto a node, or not",
		prose:    "Says whether the scheduler may place new instances on a node. What runs there goes on in either case. Who said so and why is kept with the node: 'cube node status' and 'cube task explain' show it.",
		example:  "$ cube node eligibility -disable -reason \"new disks\" n2\n$ cube node eligibility -enable n2",
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&enable, "enable", false, "Place new instances on the node.")
			f.BoolVar(&disable, "disable", false, "Place nothing new on the node.")
			f.StringVar(&reason, "reason", "", "Why: a `text` that is kept with the node.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if enable == disable {
				return failed(errors.New("give one of -enable and -disable"), "reading the arguments")
			}
			request := api.EligibilityRequest{Eligible: enable, Reason: reason}
			if err := request.Check(); err != nil {
				return failed(err, "reading the arguments")
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			id, err := resolveNode(ctx, cluster, args[0], api.Query{})
			if err != nil {
				return failed(err, "reading node %q", args[0])
			}
			node, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.NodeView, error) {
				return cluster.SetNodeEligibility(ctx, id, request, w)
			})
			if err != nil {
				return failed(err, "setting the eligibility of node %q", args[0])
			}
			fmt.Fprintf(s.Stdout, "Node %s (%s) is now %s\n", printable(node.Name), moments{}.id(node.ID), eligibility(node))
			return nil
		},
	}
}
