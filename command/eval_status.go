package command

import (
	"context"
	"strconv"
	"time"

	"cube/api"
)

func newEvalStatus(m *Meta) *command {
	var read readFlags
	all := reading(&read, "listing the evaluations", func(ctx context.Context, s *session, c api.Cluster, _ []string) ([]*api.EvaluationView, error) {
		return ask(ctx, s, &read, c.ListEvaluations)
	}, printEvaluationList)
	one := reading(&read, "reading evaluation %q", func(ctx context.Context, s *session, c api.Cluster, args []string) (*api.EvaluationView, error) {
		return ask(ctx, s, &read, func(ctx context.Context, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
			return c.Evaluation(ctx, args[0], q)
		})
	}, printEvaluation)
	return &command{
		meta: m, name: "eval status", args: "[evaluation]", max: 1, predict: predictEvaluations,
		synopsis: "Show evaluations, or one of them",
		prose: `Lists evaluations, the newest first. With the ID of one, or the first characters of it, shows what caused it, what was placed and stopped for it, and why something is not placed.

A blocked evaluation waits for room: it goes on by itself when some is freed or a node joins.`,
		example: "$ cube eval status\n$ cube eval status 6265b573",
		flags:   read.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if len(args) == 1 {
				return one(ctx, s, args)
			}
			return all(ctx, s, args)
		},
	}
}

func printEvaluationList(s *session, f moments, evals []*api.EvaluationView) {
	t := newTable("ID", "Job", "Version", "Cause", "Status", "Placed", "Stopped", "Created")
	t.colourColumn(4, s.style.state)
	for _, e := range evals {
		t.add(f.id(e.ID), e.Job, strconv.FormatUint(e.JobVersion, 10), e.Cause, string(e.Status), strconv.Itoa(e.Placed), strconv.Itoa(e.Stopped), f.ago(e.At))
	}
	s.printTable(f, t)
}

func printEvaluation(s *session, f moments, e *api.EvaluationView) {
	var b block
	b.add("ID", "%s", e.ID)
	b.add("Job", "%s", e.Job)
	b.add("Version", "%d", e.JobVersion)
	b.add("Type", "%s", e.Type)
	b.add("Priority", "%d", e.Priority)
	b.add("Cause", "%s (%s)", e.Cause, api.CauseWords(e.Cause))
	b.addIf("Node", e.Node)
	b.add("Status", "%s", e.Status)
	b.addIf("Message", e.Message)
	b.add("Placed", "%d", e.Placed)
	b.add("Stopped", "%d", e.Stopped)
	if !e.WakeAt.IsZero() {
		b.add("Waits Until", "%s", e.WakeAt.UTC().Format(time.DateTime+" UTC"))
	}
	b.add("Created", "%s", f.ago(e.At))
	b.add("Modified", "%s", f.ago(e.ModifiedAt))
	s.print(b.render(s.style))
	if lines := explainAt(e.Explanations, f.now); len(lines) > 0 {
		s.section("Not placed")
		for _, line := range lines {
			s.print(line + "\n")
		}
	}
}
