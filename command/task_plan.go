package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"

	"cube/api"
)

// Exit codes of task plan, for scripts that decide whether to run the file.
const (
	exitUnchanged = 0
	exitChanges   = 1
	exitPlanError = 255
)

func newTaskPlan(m *Meta) *command {
	var variables variableFlags
	var read readFlags
	return &command{
		meta: m, name: "task plan", args: "<file>", min: 1, max: 1, predict: predictTaskFiles, reads: true, errorCode: exitPlanError,
		synopsis: "Show what running a task file would change",
		prose: `Asks the servers what 'cube task run' would do with a file, and changes nothing: what differs from what is in force (+ added, - removed, ~ edited), which instances stay, take the change in place or are replaced, how that is rolled out, where new ones would go as things are now, and what would not fit and why. - reads standard input.

The last line is the command that runs the file only if nothing has changed since.

The exit code is 0 when the file would change nothing, 1 when it would, and 255 on an error.`,
		example: "$ cube task plan web.hcl",
		flags: func(f *flag.FlagSet) {
			variables.declare(f)
			read.declareData(f)
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			submission, err := variables.submission(s, args[0])
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			forecast, err := cluster.PlanJobs(ctx, submission)
			if err != nil {
				return failed(err, "planning %q", args[0])
			}
			done, err := read.emit(s, forecast)
			if err != nil {
				return err
			}
			if !done {
				printForecast(s, forecast, variables.again(submission.Source)+" "+shellWord(args[0]))
			}
			if forecast.Changes() {
				return exitCode(exitChanges)
			}
			return exitCode(exitUnchanged)
		},
	}
}

// printForecast prints what would change. what is how task run is told of the file, from a space on.
func printForecast(s *session, f *api.Forecast, what string) {
	for i := range f.Jobs {
		j := &f.Jobs[i]
		if i > 0 {
			s.print("\n")
		}
		if !j.Changed {
			s.print(fmt.Sprintf("= job %q: version %d says this already\n", j.Name, j.Version))
			continue
		}
		printDiff(s, j.Diff, 0, becomes(j))
		printEffects(s, j)
	}
	if f.Changes() {
		s.print(fmt.Sprintf("\nTo run it as planned, or not at all:\n\n    cube task run -check-index %d%s\n", f.CheckIndex, what))
	}
}

// becomes says behind a job's name what the change makes of it.
func becomes(j *api.JobForecast) string {
	switch {
	case j.ModifyIndex == 0:
		return " (new)"
	case j.Starts:
		return fmt.Sprintf(" (stopped, starts again as version %d)", j.Version)
	}
	return fmt.Sprintf(" (version %d)", j.Version)
}

// diffMark is what stands before a line of a diff.
func (s style) diffMark(k api.DiffKind) string {
	switch k {
	case api.DiffAdded:
		return s.paint(green, "+")
	case api.DiffRemoved:
		return s.paint(red, "-")
	case api.DiffEdited:
		return s.paint(yellow, "~")
	}
	return "="
}

// printDiff prints a block and what is in it; note stands behind its head.
func printDiff(s *session, d *api.Diff, depth int, note string) {
	indent := strings.Repeat("    ", depth)
	head := d.Block
	if d.Name != "" {
		head += " " + strconv.Quote(d.Name)
	}
	s.print(indent + s.style.diffMark(d.Kind) + " " + s.style.heading(printable(head)) + note + replacesNote(d.Forces) + "\n")
	for _, f := range d.Fields {
		text := f.New
		switch f.Kind {
		case api.DiffEdited:
			text = f.Old + " => " + f.New
		case api.DiffRemoved:
			text = f.Old
		}
		s.print(fmt.Sprintf("%s    %s %s: %s%s\n", indent, s.style.diffMark(f.Kind), printable(f.Name), printable(text), replacesNote(f.Forces)))
	}
	for _, b := range d.Blocks {
		printDiff(s, b, depth+1, "")
	}
}

func replacesNote(forces bool) string {
	if forces {
		return " (replaces instances)"
	}
	return ""
}

// printEffects says what becomes of a job's instances, one line a task, and what would not fit.
func printEffects(s *session, j *api.JobForecast) {
	s.section("Instances")
	for i := range j.Tasks {
		t := &j.Tasks[i]
		s.print(printable(t.Task+": "+effects(t)) + "\n")
		if t.RollOut != "" {
			s.print("    " + printable(t.RollOut) + "\n")
		}
		if t.Explanation != nil {
			for _, line := range explainAll([]api.Explanation{*t.Explanation}) {
				s.print(s.style.paint(yellow, line) + "\n")
			}
		}
	}
	if j.Message != "" {
		s.print(printable(j.Message) + "\n")
	}
}

func effects(t *api.TaskForecast) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(t.Keep, "unchanged")
	add(t.InPlace, "changed in place (no restart)")
	add(t.Replace, "replaced")
	add(t.Place, "new")
	add(t.Stop, "stopped")
	switch {
	case len(parts) == 0 && t.Explanation != nil:
		return "nothing can be placed"
	case len(parts) == 0:
		return "nothing to do"
	}
	text := strings.Join(parts, ", ")
	if len(t.Nodes) > 0 {
		text += "; would go to " + nodeCounts(t.Nodes)
	}
	return text
}

// nodeCounts lists nodes with how many each gets, and adds up what is too much for a line.
func nodeCounts(nodes []api.NodeCount) string {
	const shown = 8
	var parts []string
	rest := 0
	for i, n := range nodes {
		switch {
		case i >= shown:
			rest += n.Count
		case n.Count == 1:
			parts = append(parts, n.Node)
		default:
			parts = append(parts, fmt.Sprintf("%s (%d)", n.Node, n.Count))
		}
	}
	if len(nodes) > shown {
		parts = append(parts, fmt.Sprintf("%s (%d)", countOf(len(nodes)-shown, "more node"), rest))
	}
	return strings.Join(parts, ", ")
}

// shellWord writes a word so that a shell reads it as one.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./+:@%=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return printable("'" + strings.ReplaceAll(word, "'", `'\''`) + "'")
}

// indexFlag is a flag that holds a modify index, or none.
type indexFlag struct{ index *uint64 }

func (i *indexFlag) String() string { return "" }

// Set implements flag.Value.
func (i *indexFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return errors.New("not a modify index, which is a number such as 42")
	}
	i.index = &n
	return nil
}

// declareCheck declares the flag -check-index.
func (i *indexFlag) declareCheck(f *flag.FlagSet) {
	f.Var(i, "check-index", "Do it only if this `number` still is the modify index of the job, as 'cube task plan' and 'cube task history' show it; 0: if there is no such job yet. Otherwise nothing is changed.")
}
