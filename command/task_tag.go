package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"cube/api"
)

func newTaskTag(m *Meta) *command {
	var remove bool
	return &command{
		meta: m, name: "task tag", args: "<name> <version> <tag>", min: 2, max: 3, predict: predictJobs,
		synopsis: "Give a version of a job a name",
		prose: `Gives a version of a job a name, such as stable, so that it is kept and can be found: 'cube task revert' takes it. The version is its number, another tag, previous or current. A tag that another version has moves; a job has at most 10.

With -delete, takes the name away: cube task tag -delete <name> <tag>.`,
		example: "$ cube task tag web current stable\n$ cube task tag -delete web stable",
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&remove, "delete", false, "Take the tag away.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			request := api.TagRequest{Tag: args[len(args)-1], Remove: remove}
			switch {
			case remove && len(args) != 2:
				return failed(errors.New("-delete takes a name and a tag: cube task tag -delete <name> <tag>"), "reading the arguments")
			case !remove && len(args) != 3:
				return failed(errors.New("this command takes: <name> <version> <tag>"), "reading the arguments")
			case !remove:
				request.Version = args[1]
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			job, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.Job, error) {
				return cluster.TagVersion(ctx, args[0], request, w)
			})
			switch {
			case err != nil:
				return failed(err, "tagging %q", args[0])
			case remove:
				s.print(fmt.Sprintf("Version %d of job %q no longer has the tag %s\n", job.Version, job.Name, request.Tag))
			default:
				s.print(fmt.Sprintf("Version %d of job %q has the tag %s\n", job.Version, job.Name, request.Tag))
			}
			return nil
		},
	}
}
