package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

// plannedMoves is how many moves a plan prints unless all are asked for.
const plannedMoves = 20

// rebalanceFlags say what to do: plan, show or end; else to begin.
type rebalanceFlags struct {
	plan, status, cancel, detach bool
	budget                       api.RebalanceBudget
	given                        func(name string) bool
}

func (o *rebalanceFlags) declare(f *flag.FlagSet) {
	usual := api.DefaultRebalanceBudget()
	f.BoolVar(&o.plan, "plan", false, "Show what would be moved, and move nothing.")
	f.BoolVar(&o.status, "status", false, "Show how the latest rebalance gets on, or what became of it.")
	f.BoolVar(&o.cancel, "cancel", false, "Let nothing more begin to move. What is on its way arrives.")
	f.BoolVar(&o.detach, "detach", false, "Do not wait until all is moved.")
	f.IntVar(&o.budget.MaxMoves, "max-moves", usual.MaxMoves, "How many instances are on the move at a time, a `number`; and how many begin to move within -per.")
	f.DurationVar(&o.budget.Per, "per", usual.Per, "The `time` for which -max-moves is counted, such as 10m. Without it the next one begins when one has arrived.")
	f.Float64Var(&o.budget.MinGain, "min-gain", usual.MinGain, "The `points` that a move gains at least: hundredths of the scheduler's score.")
	o.given = func(name string) (yes bool) {
		f.Visit(func(g *flag.Flag) { yes = yes || g.Name == name })
		return yes
	}
}

// check refuses what does not go together, before anybody is asked.
func (o *rebalanceFlags) check(json bool) error {
	what := ""
	for _, one := range []struct {
		name string
		set  bool
	}{{"-plan", o.plan}, {"-status", o.status}, {"-cancel", o.cancel}} {
		switch {
		case one.set && what != "":
			return fmt.Errorf("%s and %s do not go together", what, one.name)
		case one.set:
			what = one.name
		}
	}
	if what == "-status" || what == "-cancel" {
		for _, other := range []string{"max-moves", "per", "min-gain"} {
			if o.given(other) {
				return fmt.Errorf("-%s is for a rebalance that begins, and %s is about one that has", other, what)
			}
		}
	}
	switch {
	case o.detach && what != "":
		return fmt.Errorf("%s does not wait for anything; leave out -detach", what)
	case json && what != "-plan" && what != "-status":
		return errors.New("-json shows a plan or a status: add -plan or -status")
	}
	return o.budget.Check()
}

func newRebalance(m *Meta) *command {
	var o rebalanceFlags
	var read readFlags
	return &command{
		meta: m, name: "rebalance", reads: true, errorCode: exitPlanError,
		synopsis: "Move instances to better nodes",
		prose: `Looks for instances that the scheduler would place elsewhere if it placed them now, as after a node has joined or come back, and moves them: each starts on its new node first, and the old one stops when the new one is healthy. So no task has fewer healthy instances on the way. What is better is what the scheduler goes by: with the algorithm binpack nodes get fuller, with spread and the others more even, and affinities and spreads are met where they were not.

An instance stays where it is while its job is rolled out or not wholly healthy, if it holds volumes or devices, if its task's migrate block says stop-first, and if it belongs to a batch or system job.

Shows how the moves get on until all are made; Ctrl-C stops the watching and not the moves, which -cancel does. A move whose new instance is not healthy within the task's healthy_deadline is undone, and no other goes to that node.

With -plan the exit code is 0 when there is nothing to move, 1 when there is, and 255 on an error. Otherwise it is 0 when all was moved that was to be, and 2 when something was not.`,
		example: "$ cube rebalance -plan\n$ cube rebalance -max-moves 2 -per 10m\n$ cube rebalance -cancel",
		flags: func(f *flag.FlagSet) {
			o.declare(f)
			read.declareData(f)
			f.BoolVar(&read.verbose, "verbose", false, "With -plan: all moves.")
		},
		run: func(ctx context.Context, s *session, _ []string) error {
			if err := read.check(); err != nil {
				return err
			}
			if err := o.check(read.json); err != nil {
				return failed(err, "reading the arguments")
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			switch {
			case o.plan:
				return planRebalance(ctx, s, cluster, &read, o.budget)
			case o.status:
				return showRebalance(ctx, s, cluster, &read)
			case o.cancel:
				return cancelRebalance(ctx, s, cluster)
			}
			begun, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.RebalanceStatus, error) {
				return cluster.BeginRebalance(ctx, api.RebalanceRequest{Budget: o.budget}, w)
			})
			switch {
			case err != nil:
				return failed(err, "rebalancing")
			case len(begun.Moves) == 0:
				s.print("Nothing to move\n")
				return nil
			case o.detach:
				s.print(printable(rebalanceText(begun, s.Now())) + "\n")
				return nil
			}
			return followRebalance(ctx, s, cluster, begun)
		},
	}
}

func planRebalance(ctx context.Context, s *session, cluster api.Cluster, read *readFlags, budget api.RebalanceBudget) error {
	plan, err := cluster.PlanRebalance(ctx, api.RebalanceRequest{Budget: budget})
	if err != nil {
		return failed(err, "planning a rebalance")
	}
	done, err := read.emit(s, plan)
	if err != nil {
		return err
	}
	if !done {
		printRebalancePlan(s, read.verbose, plan)
	}
	if len(plan.Moves) > 0 {
		return exitCode(exitChanges)
	}
	return exitCode(exitUnchanged)
}

func printRebalancePlan(s *session, all bool, p *api.RebalancePlan) {
	s.print(s.style.heading(p.Sentence()) + "\n")
	if len(p.Moves) > 0 {
		s.section("Moves")
		t := newTable("Instance", "From", "To", "Gain", "Made of")
		t.blank = "-"
		shown := len(p.Moves)
		if !all {
			shown = min(shown, plannedMoves)
		}
		for _, m := range p.Moves[:shown] {
			t.add(m.Name, m.From, m.To, fmt.Sprintf("%.1f", m.Gain), m.Why)
		}
		s.printTable(moments{}, t)
		if left := len(p.Moves) - shown; left > 0 {
			s.print(fmt.Sprintf("and %s; -verbose shows them\n", countOf(left, "more move")))
		}
		s.section("Nodes")
		t = newTable("Node", "CPU", "Memory", "Disk", "Leave", "Come")
		t.blank = "-"
		for i := range p.Nodes[:min(len(p.Nodes), simulatedJobs)] {
			n := &p.Nodes[i]
			cells := fills(&n.Before, &n.After, "")
			t.add(n.Name, cells[0], cells[1], cells[2], strconv.Itoa(n.Leave), strconv.Itoa(n.Arrive))
		}
		s.printTable(moments{}, t)
		s.print("\n" + levelsText(&p.Before, &p.After) + "\n")
	}
	for i := range p.Left {
		if i == 0 {
			s.section("Left where they are")
		}
		s.print(printable(fmt.Sprintf("%s: %s", countOf(p.Left[i].Instances, "instance"), p.Left[i].Why)) + "\n")
	}
}

// levelsText says what the moves do to the cluster: "Fullest node 81 % -> 60 %, emptiest 0 % -> 40 %; 3 of the nodes in use, then 4".
func levelsText(before, after *api.Levels) string {
	text := fmt.Sprintf("Fullest node %.0f %% -> %.0f %%, emptiest %.0f %% -> %.0f %%", before.Fullest, after.Fullest, before.Emptiest, after.Emptiest)
	if before.Used != after.Used {
		text += fmt.Sprintf("; nodes in use %d -> %d", before.Used, after.Used)
	}
	return text
}

func showRebalance(ctx context.Context, s *session, cluster api.Cluster, read *readFlags) error {
	status, err := ask(ctx, s, read, cluster.Rebalance)
	if err != nil {
		return failed(err, "reading the rebalance")
	}
	if done, err := read.emit(s, status); done || err != nil {
		return err
	}
	s.print(printable(rebalanceText(status, s.Now())) + "\n")
	if len(status.Moves) == 0 {
		return nil
	}
	s.section("Moves")
	t := newTable("Instance", "From", "To", "Gain", "Stage", "Now")
	t.blank = "-"
	for i := range status.Moves {
		m := &status.Moves[i]
		t.add(m.Name, m.From, m.To, fmt.Sprintf("%.1f", m.Gain), string(m.Stage), m.Text)
	}
	s.printTable(moments{}, t)
	return nil
}

func cancelRebalance(ctx context.Context, s *session, cluster api.Cluster) error {
	status, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.RebalanceStatus, error) {
		return cluster.CancelRebalance(ctx, w)
	})
	if err != nil {
		return failed(err, "cancelling the rebalance")
	}
	s.print(printable(rebalanceText(status, s.Now())) + "\n")
	return nil
}

// followRebalance shows how the moves get on until all are made.
func followRebalance(ctx context.Context, s *session, cluster api.Cluster, begun *api.RebalanceStatus) error {
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	m := newMonitor(s, cluster, patience{}, false)
	m.screen.say(true, printable(rebalanceText(begun, s.Now())))
	said, silent := "", false
	for index := uint64(0); ; {
		status, meta, err := cluster.Rebalance(ctx, api.Query{Index: index, Wait: watchWait})
		index = meta.Index // 0 after an error: the next read answers at once
		switch {
		case ctx.Err() != nil:
			m.screen.settle()
			m.screen.say(true, "Detached: the rebalance goes on; see 'cube rebalance -status', and to end it 'cube rebalance -cancel'")
			return nil
		case err != nil && !unreachable(err):
			return failed(err, "reading the rebalance")
		}
		silent = m.reportSilence(silent, err)
		if err != nil {
			_ = pause(ctx, watchPause) // its end is seen above
			continue
		}
		if !status.Active() {
			return concludeRebalance(m, status, s.Now())
		}
		if m.screen.pulse() > 0 {
			m.screen.show(moveLines(status))
		} else if text := strings.Join(moveTexts(status), ", "); text != said {
			m.screen.say(false, printable(text))
			said = text
		}
	}
}

// concludeRebalance says how it ended, and of each move that was not made why.
func concludeRebalance(m *monitor, status *api.RebalanceStatus, now time.Time) error {
	m.screen.settle()
	for i := range status.Moves {
		if v := &status.Moves[i]; v.Stage == api.MoveDropped {
			m.screen.say(true, printable(fmt.Sprintf("%s stays on %s: %s", v.Name, v.From, v.Text)))
		}
	}
	m.screen.say(true, printable(rebalanceText(status, now)))
	if status.Count(api.MoveDone) < len(status.Moves) {
		return exitCode(exitNotPlaced)
	}
	return nil
}

// moveLines are the moves that are not over, as a terminal shows them.
func moveLines(status *api.RebalanceStatus) []instanceLine {
	out := []instanceLine{{name: movedText(status), settled: true}}
	for i := range status.Moves {
		if v := &status.Moves[i]; !v.Stage.Over() {
			out = append(out, instanceLine{name: v.Name, id: v.Allocation, node: v.To, phase: v.Phase.String(), note: v.Text})
		}
	}
	return out
}

// moveTexts say how far it is, and what the moves under way wait for.
func moveTexts(status *api.RebalanceStatus) []string {
	out := []string{movedText(status)}
	for i := range status.Moves {
		if v := &status.Moves[i]; v.Stage == api.MoveUnder || v.Stage == api.MoveUndone {
			out = append(out, v.Name+" "+v.Text)
		}
	}
	return out
}

func movedText(status *api.RebalanceStatus) string {
	return fmt.Sprintf("%d of %s moved", status.Count(api.MoveDone), countOf(len(status.Moves), "instance"))
}

// rebalanceText says in one line how a rebalance stands.
func rebalanceText(status *api.RebalanceStatus, now time.Time) string {
	if status.Stage == "" {
		return "There was no rebalance"
	}
	text := "Rebalance"
	switch {
	case status.Automatic:
		text += " as the servers are configured to"
	case status.By != "":
		text += " by " + status.By
	}
	text += ": " + movedText(status)
	if n := status.Count(api.MoveDropped); n > 0 {
		text += fmt.Sprintf(", %d not", n)
	}
	switch {
	case status.Active() && status.Stage == api.RebalanceCancelled:
		return text + "; cancelled, what is on its way arrives"
	case status.Active() && status.Budget.Per > 0:
		return text + fmt.Sprintf("; at most %d within %s", status.Budget.MaxMoves, duration(status.Budget.Per))
	case status.Active():
		return text + fmt.Sprintf("; %d at a time", status.Budget.MaxMoves)
	case status.Stage == api.RebalanceCancelled:
		text += "; cancelled"
	}
	return text + ", in " + duration(status.EndedAt.Sub(status.StartedAt)) + ", " + (moments{now: now}).ago(status.EndedAt)
}
