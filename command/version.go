package command

import (
	"context"
	"fmt"
)

func newVersion(m *Meta) *command {
	return &command{
		meta: m, name: "version", offline: true,
		synopsis: "Print the version of Cube",
		prose:    "Prints the version of this binary. The versions of the agents stand in 'cube server members'.",
		example:  "$ cube version",
		run: func(_ context.Context, s *session, _ []string) error {
			fmt.Fprintf(s.Stdout, "Cube %s\n", s.Version)
			return nil
		},
	}
}
