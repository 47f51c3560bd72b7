package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"

	"cube/api"
)

// Options are what a plan depends on besides the state.
type Options struct {
	// Algorithm is used by jobs that name none; "" is binpack.
	Algorithm string
	// Load tells what a node measures of itself, false if nothing is known. It ranks nodes and never decides whether one
	// can take an instance. It must answer the same throughout a call. nil: nothing is known of any node.
	Load func(nodeID string) (api.NodeLoad, bool)
	// MaxPlacements bounds the changes of one plan (placements, stops and in-place changes together), so that it fits a
	// log entry; 0: no bound. Evaluations that are not reached are left out of the plan; the one that is cut short keeps
	// the status pending.
	MaxPlacements int
}

// Schedule answers a batch of evaluations with a plan: by priority, highest first, then by age. Equal arguments give
// equal plans. Earlier answers take room from later ones. Of several evaluations of one job only the first is answered,
// since a second answer could not see what the first changes; the others are left out of the plan and stay as they are.
//
// An evaluation on which the scheduler panics is answered with the status failed and the reason; the others are not
// affected. Nothing that s returns is changed.
func Schedule(s State, evaluations []*api.Evaluation, o Options) *api.Plan {
	b := &batch{state: s, options: o, plan: &api.Plan{BaseIndex: s.Index()}, left: o.MaxPlacements}
	if b.left <= 0 {
		b.left = math.MaxInt
	}
	ordered := slices.Clone(evaluations)
	slices.SortFunc(ordered, func(x, y *api.Evaluation) int {
		return cmp.Or(cmp.Compare(y.Priority, x.Priority), cmp.Compare(x.ID, y.ID))
	})
	seen := make(map[string]bool, len(ordered))
	for _, e := range ordered {
		if b.left == 0 {
			break
		}
		if !seen[e.Job] {
			seen[e.Job] = true
			b.plan.Jobs = append(b.plan.Jobs, b.attempt(e))
		}
	}
	return b.plan
}

// batch is one call of Schedule.
type batch struct {
	state   State
	options Options
	plan    *api.Plan
	view    *view // nil until needed, and after a panic
	left    int   // changes that still fit the plan
}

// attempt answers one evaluation. A panic costs the evaluation, not the batch: the view it may have left half changed is
// dropped, and made again from the state and the plan so far.
func (b *batch) attempt(e *api.Evaluation) (answer api.JobPlan) {
	left := b.left
	defer func() {
		if r := recover(); r != nil {
			b.view, b.left = nil, left
			answer = api.JobPlan{Evaluation: e.ID, Job: e.Job, Status: api.EvalFailed, Message: panicMessage(r)}
		}
	}()
	if b.view == nil {
		b.view = newView(b.state, b.options)
		for i := range b.plan.Jobs {
			for _, p := range b.plan.Jobs[i].Placements {
				b.view.give(b.view.ordinal(p.Node), p.Held, grant{p.Ports, p.Devices})
			}
		}
	}
	return b.answer(e)
}

func (b *batch) answer(e *api.Evaluation) api.JobPlan {
	job := b.state.Job(e.Job)
	answer := api.JobPlan{Evaluation: e.ID, Job: e.Job, Status: api.EvalComplete}
	if job != nil {
		answer.JobModifyIndex = job.ModifyIndex
	}
	c := &change{batch: b, job: job, asked: e.Stop, answer: &answer}
	for row := range b.state.JobRows(e.Job) {
		c.rows = append(c.rows, row)
	}
	if job == nil || job.Stopped {
		c.stopAll()
	} else {
		c.stopUnwanted()
		for _, t := range job.Tasks {
			c.task(t)
		}
	}
	if c.cut {
		c.answer.Status = api.EvalPending
		c.messages = append(c.messages, "continued in the next plan")
	}
	answer.Message = clip(strings.Join(c.messages, "; "), maxMessage)
	return answer
}

// maxMessage bounds JobPlan.Message in bytes: a line or two on a terminal.
const maxMessage = 512

// panicMessage is one line that says what happened and where: the innermost functions of this module.
func panicMessage(value any) string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var where []string
	for len(where) < 4 {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") && !strings.Contains(f.Function, ".attempt.") {
			where = append(where, fmt.Sprintf("%s %s:%d", f.Function[strings.LastIndexByte(f.Function, '/')+1:],
				f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line))
		}
		if !more {
			break
		}
	}
	text := fmt.Sprintf("the scheduler panicked: %v (in %s)", value, strings.Join(where, ", from "))
	return clip(strings.ReplaceAll(text, "\n", " "), maxMessage)
}

// clip cuts s to at most limit bytes, between runes, and marks the cut.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "..."
	end := 0
	for i := range s {
		if i > limit-len(mark) {
			break
		}
		end = i
	}
	return s[:end] + mark
}
