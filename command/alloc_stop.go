package command

import (
	"context"
	"flag"
	"fmt"

	"cube/api"
)

func newAllocStop(m *Meta) *command {
	var o stopFlags
	return &command{
		meta: m, name: "alloc stop", args: "<allocation>", min: 1, max: 1, predict: predictAllocations,
		synopsis: "Stop an instance and place it anew",
		prose: `Stops one instance. As its job still asks for it, the scheduler places it again, on whatever node suits it best then. To stop a whole job use 'cube task stop'.

Waits until the instance is gone; Ctrl-C stops the waiting and nothing else.`,
		example: "$ cube alloc stop 3afe8858",
		flags:   func(f *flag.FlagSet) { o.declare(f) },
		run: func(ctx context.Context, s *session, args []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			a, _, err := cluster.Allocation(ctx, args[0], api.Query{})
			if err != nil {
				return failed(err, "reading allocation %q", args[0])
			}
			eval, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.EvaluationView, error) {
				return cluster.StopAllocation(ctx, a.ID, o.request(), w)
			})
			if err != nil {
				return failed(err, "stopping allocation %q", args[0])
			}
			if o.detach {
				fmt.Fprintln(s.Stdout, eval.ID)
				return nil
			}
			return monitorStop(ctx, s, cluster, o, eval, stopOf{job: a.Job, allocation: a.ID, what: "Instance " + printable(a.Name)})
		},
	}
}
