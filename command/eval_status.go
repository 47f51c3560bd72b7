package command

import (
	"context"
	"strconv"
	"time"

	"cube/api"
)

func newEvalStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "eval status", args: "[evaluation]", max: 1, predict: predictEvaluations,
		synopsis: "Show evaluations, or one of them",
		prose: `Lists evaluations, the newest first. With the ID of one, or the first characters of it, shows what caused it, what was placed and stopped for it, and why something is not placed.

A blocked evaluation waits for room: it goes on by itself when some is freed or a node joins.`,
		example: "$ cube eval status\n$ cube eval status 6265b573",
		flags:   read.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return evaluationDetail(ctx, s, cluster, &read, args[0])
			}
			evals, err := ask(ctx, s, &read, cluster.ListEvaluations)
			if err != nil {
				return failed(err, "listing the evaluations")
			}
			if done, err := read.emit(s, evals); done {
				return err
			}
			f := read.moments(s)
			t := newTable("ID", "Job", "Version", "Cause", "Status", "Placed", "Stopped", "Created")
			t.colourColumn(4, s.style.state)
			for _, e := range evals {
				t.add(f.id(e.ID), e.Job, strconv.FormatUint(e.JobVersion, 10), e.Cause, string(e.Status), strconv.Itoa(e.Placed), strconv.Itoa(e.Stopped), f.ago(e.At))
			}
			s.printTable(f, t)
			return nil
		},
	}
}

func evaluationDetail(ctx context.Context, s *session, cluster api.Cluster, read *readFlags, id string) error {
	e, err := ask(ctx, s, read, func(ctx context.Context, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
		return cluster.Evaluation(ctx, id, q)
	})
	if err != nil {
		return failed(err, "reading evaluation %q", id)
	}
	if done, err := read.emit(s, e); done {
		return err
	}
	f := read.moments(s)
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
	return nil
}
