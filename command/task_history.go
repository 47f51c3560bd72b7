package command

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

func newTaskHistory(m *Meta) *command {
	var read readFlags
	var diff bool
	var version string
	return &command{
		meta: m, name: "task history", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show the versions of a job",
		prose: `Lists the versions of a job that are kept, newest first: when and by whom they were submitted, their tags, and what made them. The last 10 versions are kept, those in which something still runs, and those that have a tag.

-diff shows what each version changed; -version shows one, with what it changed. Sensitive values are never shown, only that they changed.`,
		example: "$ cube task history web\n$ cube task history -diff web\n$ cube task history -version stable web",
		flags: func(f *flag.FlagSet) {
			read.declare(f)
			f.BoolVar(&diff, "diff", false, "Show what each version changed.")
			f.StringVar(&version, "version", "", "Show one `version`: its number, a tag, previous or current.")
		},
		run: reading(&read, "reading the history of %q", func(ctx context.Context, s *session, c api.Cluster, args []string) ([]*api.Revision, error) {
			history, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) ([]*api.Revision, api.ReadMeta, error) {
				return c.JobHistory(ctx, args[0], q)
			})
			if err == nil && version != "" {
				return oneVersion(history, version)
			}
			return history, err
		}, func(s *session, f moments, history []*api.Revision) {
			printHistory(s, f, history, diff || version != "")
		}),
	}
}

// oneVersion picks the version that a text means, by the rules of the servers.
func oneVersion(history []*api.Revision, text string) ([]*api.Revision, error) {
	at := -1
	switch text {
	case api.VersionCurrent:
		at = 0
	case api.VersionPrevious:
		at = slices.IndexFunc(history, func(r *api.Revision) bool {
			now := history[0].Job
			return r != history[0] && !(now.IsRestart() && r.Job.Version >= now.Restarted.Of)
		})
	default:
		at = slices.IndexFunc(history, func(r *api.Revision) bool {
			return strconv.FormatUint(r.Job.Version, 10) == text || slices.Contains(r.Job.Tags, text)
		})
	}
	if at < 0 || at >= len(history) {
		var kept []string
		for _, r := range history {
			kept = append(kept, strings.Join(append([]string{strconv.FormatUint(r.Job.Version, 10)}, r.Job.Tags...), " "))
		}
		return nil, api.Errorf(api.CodeNotFound, "no version is called %q; there are %s", text, strings.Join(kept, ", "))
	}
	return history[at : at+1], nil
}

func printHistory(s *session, f moments, history []*api.Revision, diffs bool) {
	t := newTable("Version", "Submitted", "By", "Tags", "Modify Index", "What")
	t.spare = []string{"By", "Modify Index"}
	for _, r := range history {
		j := r.Job
		t.add(strconv.FormatUint(j.Version, 10), f.ago(j.SubmittedAt), j.SubmittedBy, strings.Join(j.Tags, ","), strconv.FormatUint(j.ModifyIndex, 10), madeBy(f, j))
	}
	s.printTable(f, t)
	if !diffs {
		return
	}
	for _, r := range history {
		s.section(fmt.Sprintf("Version %d", r.Job.Version))
		switch {
		case r.Job.Version == 1:
			s.print("the first one\n")
		case r.Job.IsRestart():
			s.print(fmt.Sprintf("%s%s; nothing else was changed\n", r.Job.Origin, byWhom(r.Job.SubmittedBy)))
		case r.Diff == nil:
			s.print("the version before it is not kept\n")
		case r.Diff.Kind == api.DiffNone:
			s.print("asks for what the version before it asks for\n")
		default:
			printDiff(s, r.Diff, 0, "")
		}
	}
}

// byWhom names who asked for something, if that is known.
func byWhom(who string) string {
	if who == "" {
		return ""
	}
	return " by " + who
}

// madeBy says what made a version, and what became of it since.
func madeBy(f moments, j *api.Job) string {
	text := j.MadeFrom()
	if sc := j.Scaled; sc != nil {
		text = strings.TrimPrefix(text+"; "+fmt.Sprintf("scaled %s%s, %s", sc.What, byWhom(sc.By), f.ago(sc.At)), "; ")
	}
	if j.Stable {
		text = strings.TrimPrefix(text+"; stable", "; ")
	}
	if j.Stopped {
		text = strings.TrimPrefix(text+"; stopped", "; ")
	}
	return text
}
