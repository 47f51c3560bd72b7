package command

import (
	"context"
	"fmt"
)

func newServerLeave(m *Meta) *command {
	return &command{
		meta: m, name: "server leave",
		synopsis: "Make a server leave the cluster",
		prose:    "Makes the server that is asked (see -address) hand over leadership, leave the voters and shut down. The others go on without it. A server that has left joins anew when it is started again.",
		example:  "$ cube server leave -address 10.0.0.3:5555",
		run: func(ctx context.Context, s *session, _ []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if err := cluster.Leave(ctx); err != nil {
				return failed(err, "leaving the cluster")
			}
			fmt.Fprintln(s.Stdout, "The server has left the cluster")
			return nil
		},
	}
}
