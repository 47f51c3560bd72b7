package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"cube/api"
)

// drainFlags say how a node is to be drained, or that it is not any more.
type drainFlags struct {
	deadline                       time.Duration
	force, ignoreSystem            bool
	message                        string
	cancel, keepIneligible, detach bool
	given                          func(name string) bool
}

func (o *drainFlags) declare(f *flag.FlagSet) {
	f.DurationVar(&o.deadline, "deadline", api.DefaultDrainDeadline, "How long the drain may take: a `duration` such as 90m. What is left then stops at once.")
	f.BoolVar(&o.force, "force", false, "Stop everything on the node at once.")
	f.BoolVar(&o.ignoreSystem, "ignore-system", false, "Leave the instances of system jobs where they are.")
	f.StringVar(&o.message, "message", "", "Why: a `text` that is recorded with each instance that goes.")
	f.BoolVar(&o.cancel, "cancel", false, "End the drain that is under way. What has moved stays where it is.")
	f.BoolVar(&o.keepIneligible, "keep-ineligible", false, "With -cancel: go on placing nothing new on the node.")
	f.BoolVar(&o.detach, "detach", false, "Do not wait until the node is drained.")
	o.given = func(name string) (yes bool) {
		f.Visit(func(g *flag.Flag) { yes = yes || g.Name == name })
		return yes
	}
}

// check refuses what does not go together, before anybody is asked.
func (o *drainFlags) check() error {
	if o.cancel {
		for _, other := range []string{"deadline", "force", "ignore-system", "message"} {
			if o.given(other) {
				return fmt.Errorf("-cancel ends a drain, and -%s is for one that begins", other)
			}
		}
		return nil
	}
	switch {
	case o.keepIneligible:
		return errors.New("-keep-ineligible goes with -cancel; a node that is drained takes nothing new until it is made eligible")
	case o.force && o.given("deadline"):
		return errors.New("-force stops everything at once and has no use for -deadline")
	case o.deadline == 0:
		return errors.New("a deadline of 0 leaves no time; to stop everything at once give -force")
	case o.deadline < 0:
		return fmt.Errorf("the deadline %s is negative", o.deadline)
	}
	return nil
}

func (o *drainFlags) request() api.DrainRequest {
	r := api.DrainRequest{Deadline: o.deadline, Force: o.force, IgnoreSystem: o.ignoreSystem, Message: o.message}
	if o.force {
		r.Deadline = 0
	}
	return r
}

func newNodeDrain(m *Meta) *command {
	var o drainFlags
	return &command{
		meta: m, name: "node drain", args: "<node>", min: 1, max: 1, predict: predictNodes,
		synopsis: "Move everything off a node",
		prose: `Takes a node out of use: nothing new is placed on it, and its instances go elsewhere. Each task's migrate block says how many of its instances are on the move at a time; the next one follows when the one before is healthy on its new node. Batch instances are left to run to their end. Instances of system jobs go last. At the deadline all that is left is stopped.

Afterwards the node stays ineligible, until 'cube node eligibility -enable'.

Shows how the drain gets on until the node is empty; Ctrl-C stops the watching and not the drain, which -cancel does.`,
		example: "$ cube node drain -deadline 30m -message 'kernel update' n2\n$ cube node drain -cancel n2",
		flags:   o.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if err := o.check(); err != nil {
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
			if o.cancel {
				return cancelDrain(ctx, s, cluster, id, args[0], o.keepIneligible)
			}
			node, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.NodeView, error) {
				return cluster.DrainNode(ctx, id, o.request(), w)
			})
			if err != nil {
				return failed(err, "draining node %q", args[0])
			}
			if o.detach {
				fmt.Fprintf(s.Stdout, "Node %s (%s): %s\n", printable(node.Name), moments{}.id(node.ID), printable(drainText(node.Drain, s.Now())))
				return nil
			}
			return followDrain(ctx, s, cluster, node)
		},
	}
}

func cancelDrain(ctx context.Context, s *session, cluster api.Cluster, id, typed string, keep bool) error {
	node, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.NodeView, error) {
		return cluster.CancelDrain(ctx, id, api.CancelDrainRequest{KeepIneligible: keep}, w)
	})
	if err != nil {
		return failed(err, "cancelling the drain of node %q", typed)
	}
	fmt.Fprintf(s.Stdout, "Node %s (%s) is not being drained any more; it is %s\n", printable(node.Name), moments{}.id(node.ID), eligibility(node))
	return nil
}

// followDrain shows how a drain gets on until it is over.
func followDrain(ctx context.Context, s *session, cluster api.Cluster, node *api.NodeView) error {
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	m := newMonitor(s, cluster, patience{}, false)
	m.screen.say(true, printable(fmt.Sprintf("Node %s (%s): %s", node.Name, moments{}.id(node.ID), drainText(node.Drain, s.Now()))))
	said, silent := "", false
	for index := uint64(0); ; {
		status, meta, err := cluster.NodeDrain(ctx, node.ID, api.Query{Index: index, Wait: watchWait})
		index = meta.Index // 0 after an error: the next read answers at once
		switch {
		case ctx.Err() != nil:
			m.screen.settle()
			m.screen.say(true, fmt.Sprintf("Detached: the drain goes on; see 'cube node status %s', and to end it 'cube node drain -cancel %s'", printable(node.Name), printable(node.Name)))
			return nil
		case err != nil && !unreachable(err):
			return failed(err, "reading the drain of node %q", node.Name)
		}
		silent = m.reportSilence(silent, err)
		if err != nil {
			_ = pause(ctx, watchPause) // its end is seen above
			continue
		}
		if !status.Drain.Active() {
			return concludeDrain(m, status)
		}
		if m.screen.pulse() > 0 {
			m.screen.show(drainLines(status))
		} else if text := strings.Join(status.Lines(), ", "); text != said {
			m.screen.say(false, printable(text))
			said = text
		}
	}
}

// concludeDrain says how it ended.
func concludeDrain(m *monitor, status *api.DrainStatus) error {
	m.screen.settle()
	d := status.Drain
	if d == nil {
		m.screen.say(true, printable("The drain of node "+status.NodeName+" was cancelled"))
		return exitCode(exitNotPlaced)
	}
	how := ""
	if !d.EndedAt.Before(d.Deadline) {
		how = "; its deadline had come, and what was left then was stopped"
	}
	m.screen.say(true, printable(fmt.Sprintf("Node %s is drained: %s gone in %s%s", status.NodeName, countOf(d.Instances, "instance"), duration(d.EndedAt.Sub(d.StartedAt)), how)))
	return nil
}

// drainLines are the instances still to go, as a terminal shows them.
func drainLines(status *api.DrainStatus) []instanceLine {
	out := []instanceLine{{name: fmt.Sprintf("%d of %d moved", status.Moved(), max(status.Drain.Instances, len(status.Left))), settled: true}}
	for _, left := range status.Left {
		out = append(out, instanceLine{name: left.Name, id: left.Allocation, node: left.Node, phase: left.Phase.String(),
			note: strings.TrimPrefix(left.Waits, left.Name+" ")})
	}
	return out
}

// drainText says in one line how a node's drain stands.
func drainText(d *api.Drain, now time.Time) string {
	text := ""
	switch {
	case d == nil:
		return "not being drained"
	case !d.Active():
		text = "drained, " + (moments{now: now}).ago(d.EndedAt)
	case d.Stage == api.DrainForced:
		text = "being drained, deadline reached: all that is left is stopping"
	default:
		text = "being drained, " + duration(d.Deadline.Sub(now)) + " left"
	}
	if d.By != "" {
		text += "; by " + d.By
	}
	if d.Message != "" {
		text += ": " + d.Message
	}
	return text
}
