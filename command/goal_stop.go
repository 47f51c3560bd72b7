package command

import (
	"context"
	"fmt"
	"time"

	"cube/api"
)

// stopOf says what is to stop: a whole job, or one allocation of it.
type stopOf struct {
	job        string
	allocation string // ID; "" for the whole job
	what       string // for people: `job "web"`

	then func(context.Context) (string, error) // what follows when it has stopped, and what to say then; nil for nothing
}

// stopGoal is reached when what is to stop is gone from its nodes.
type stopGoal struct {
	stopOf
	status *api.JobStatus
	gone   error
	shown  map[string]bool // allocations that were there when we began to look: their end is news
}

func newStopGoal(of stopOf) *stopGoal { return &stopGoal{stopOf: of, shown: map[string]bool{}} }

func (g *stopGoal) look(status *api.JobStatus, err error, _ time.Time) {
	if err != nil {
		if !unreachable(err) {
			g.gone = err
		}
		return
	}
	g.status = status
	for _, a := range g.mine() {
		if !a.Phase.Terminal() {
			g.shown[a.ID] = true
		}
	}
}

func (g *stopGoal) mine() []*api.Allocation {
	if g.allocation == "" {
		return g.status.Allocations
	}
	for _, a := range g.status.Allocations {
		if a.ID == g.allocation {
			return []*api.Allocation{a}
		}
	}
	return nil
}

func (g *stopGoal) lines() []instanceLine {
	if g.status == nil {
		return nil
	}
	var out []instanceLine
	for _, a := range g.mine() {
		if !g.shown[a.ID] {
			continue
		}
		line := lineOf(a)
		line.settled = a.Phase.Terminal()
		if !line.settled && a.Desired == api.DesiredStop {
			line.note = "stopping"
		}
		out = append(out, line)
	}
	return out
}

func (g *stopGoal) verdict(time.Time) verdict {
	done := verdict{outcome: reached, summary: g.what + " has stopped"}
	switch {
	case api.CodeOf(g.gone) == api.CodeNotFound:
		return done // forgotten: nothing of it is left
	case g.gone != nil:
		return verdict{outcome: stuck, summary: g.what + " can no longer be read", reasons: []string{printable(g.gone.Error())}}
	case g.status == nil:
		return verdict{}
	case g.allocation == "" && !g.status.Job.Stopped:
		return verdict{outcome: stuck, summary: g.what + " was submitted again meanwhile"}
	}
	for _, a := range g.mine() {
		if !a.Phase.Terminal() {
			return verdict{}
		}
	}
	return done
}

func (g *stopGoal) late(time.Time) verdict {
	v := verdict{outcome: stuck, summary: g.what + " is not gone yet"}
	if g.status == nil {
		return v
	}
	for _, a := range g.mine() {
		if !a.Phase.Terminal() {
			v.reasons = append(v.reasons, printable(fmt.Sprintf("%s on node %s is %s: %s", a.Name, orNone(a.NodeName), a.Phase, orNone(a.Message))))
		}
	}
	return v
}
