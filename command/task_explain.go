package command

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"cube/api"
)

// wholeNodes is how many nodes are listed one by one; more are grouped by what speaks against them.
const wholeNodes = 12

func newTaskExplain(m *Meta) *command {
	var read readFlags
	var node string
	return &command{
		meta: m, name: "task explain", args: "<name>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show why instances are where they are",
		prose: `Shows for each task of a job, or for one given as job/task, which nodes could take one more instance now and how well it would do there, and of every other node all that speaks against it, what was wanted and what was seen, and what would have to change for the nearest one. Many nodes are grouped by what speaks against them; -node shows one with every filter.

Below stand the instances with the reason the scheduler had to place them. Scores are worked out anew: those of the time of placement are not kept.`,
		example: "$ cube task explain web\n$ cube task explain -node n2 web",
		flags: func(f *flag.FlagSet) {
			read.declareData(f)
			f.BoolVar(&read.verbose, "verbose", false, "Whole IDs and exact times, and every node by itself.")
			f.StringVar(&node, "node", "", "Show one `node`, by its name or the beginning of its ID, with every filter.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			job, task := splitName(args[0])
			d, err := cluster.ExplainJob(ctx, job)
			if err == nil {
				err = narrow(d, task, node)
			}
			if err != nil {
				return failed(err, "explaining %q", args[0])
			}
			if done, err := read.emit(s, d); done {
				return err
			}
			printDiagnosis(s, read.moments(s), d, node != "")
			return nil
		},
	}
}

// narrow leaves of a diagnosis one task and one node, where they are named.
func narrow(d *api.JobDiagnosis, task, node string) error {
	if task != "" && len(d.Tasks) > 0 {
		var names []string
		for _, t := range d.Tasks {
			names = append(names, t.Task)
		}
		d.Tasks = slices.DeleteFunc(d.Tasks, func(t api.TaskDiagnosis) bool { return t.Task != task })
		if len(d.Tasks) == 0 {
			return api.Errorf(api.CodeNotFound, "job %q has no task %q; it has %s", d.Job, task, strings.Join(names, ", "))
		}
	}
	for i := range d.Tasks {
		if node == "" {
			continue
		}
		t := &d.Tasks[i]
		found := slices.DeleteFunc(slices.Clone(t.Nodes), func(n api.NodeDiagnosis) bool { return n.Name != node && !strings.HasPrefix(n.ID, node) })
		if named := slices.DeleteFunc(slices.Clone(found), func(n api.NodeDiagnosis) bool { return n.Name != node }); len(named) > 0 {
			found = named
		}
		switch {
		case len(found) == 0:
			return fmt.Errorf("no node is called %q, nor has an ID that begins so", node)
		case len(found) > 1:
			return fmt.Errorf("%d nodes are meant by %q; give more of the ID", len(found), node)
		}
		t.Nodes, t.Nearest = found, -1
		if len(found[0].Failures) > 0 {
			t.Nearest = 0
		}
		t.Instances = slices.DeleteFunc(t.Instances, func(r api.InstanceReason) bool { return r.Node != found[0].Name })
	}
	return nil
}

func printDiagnosis(s *session, f moments, d *api.JobDiagnosis, oneNode bool) {
	s.print(printable(fmt.Sprintf("Job %q version %d is %s: %s run", d.Job, d.Summary.Version, d.Summary.Status, runningOf(&d.Summary))) + "\n")
	if d.MadeBy != "" || d.MadeFrom != "" {
		s.print(printable(fmt.Sprintf("Version %d, %s", d.Summary.Version, f.ago(d.MadeAt))+made(d)) + "\n")
	}
	if r := d.Deployment; r != nil && r.Status != api.DeploymentSuccessful && !d.Summary.Stopped {
		s.print(printable("Its roll-out "+rolloutWords(r)) + "\n")
	}
	for _, line := range evaluationLines(f, d) {
		s.print(printable(line) + "\n")
	}
	if d.Summary.Stopped {
		s.print("It is stopped: nothing is to be placed\n")
		return
	}
	for i := range d.Tasks {
		t := &d.Tasks[i]
		s.section(printable(diagnosisTitle(t)))
		switch {
		case len(t.Nodes) == 0:
			s.print("There is no node: no client has joined the cluster\n")
		case oneNode:
			printNodeFilters(s, t)
		case len(t.Nodes) > wholeNodes && !f.verbose:
			printNodeGroups(s, f, t)
		default:
			printCandidates(s, f, t)
		}
		if pins := t.Pins(); pins != "" && !oneNode {
			s.print(printable(pins) + "\n")
		}
		if t.Nearest >= 0 && t.Nearest < len(t.Nodes) {
			n := &t.Nodes[t.Nearest]
			s.print(printable("Nearest: "+n.Name+" "+n.Remedy()) + "\n")
		}
		printReasons(s, f, t)
	}
}

// rolloutWords says where a roll-out that was not successful stands.
func rolloutWords(d *api.DeploymentView) string {
	verb := map[api.DeploymentStatus]string{api.DeploymentRunning: "goes on", api.DeploymentFailed: "failed"}[d.Status]
	verb = cmp.Or(verb, "is "+string(d.Status))
	if d.Reason == "" {
		return verb
	}
	return verb + ": " + d.Reason
}

// made says by whom the version in force was made, and from what.
func made(d *api.JobDiagnosis) (text string) {
	if d.MadeBy != "" && !strings.HasPrefix(d.MadeBy, "leader/") { // what the servers did by themselves says so
		text = ", by " + d.MadeBy
	}
	if d.MadeFrom != "" {
		text += ": " + d.MadeFrom
	}
	return text
}

// evaluationLines tell what the scheduler said when it last looked, and what is placed again later. That is told as from now.
func evaluationLines(f moments, d *api.JobDiagnosis) (lines []string) {
	e := d.Evaluation
	if e == nil {
		return nil
	}
	message := e.Message
	for i := range e.Explanations {
		retry := e.Explanations[i].Retry
		if retry == nil || d.Summary.Stopped {
			continue
		}
		if told := strings.Replace(message, retry.Text(time.Time{}), retry.Text(f.now), 1); told != message {
			message = told
			continue
		}
		lines = append(lines, retry.Text(f.now))
	}
	if message != "" {
		lines = append([]string{fmt.Sprintf("The scheduler, %s (%s): %s", f.ago(e.ModifiedAt), api.CauseWords(e.Cause), message)}, lines...)
	}
	return lines
}

func diagnosisTitle(t *api.TaskDiagnosis) string {
	if t.Algorithm == "" {
		return fmt.Sprintf("Nodes for %s, which is to be on %s", t.Task, countOf(t.Wanted, "node"))
	}
	return fmt.Sprintf("One more instance of %s (%s)", t.Task, t.Algorithm)
}

// objection is a filter that turned a node away, as one says it.
func objection(m moments, f *api.FilterFailure) string {
	switch kind, _, _ := strings.Cut(f.Filter, " "); kind {
	case "ready":
		if f.Since.IsZero() {
			return "not ready (" + f.Seen + ")"
		}
		return "not ready for " + duration(m.now.Sub(f.Since)) + " (" + f.Seen + ")"
	case "constraint":
		return fmt.Sprintf("%s (seen: %s)", f.Filter, f.Seen)
	case "volume":
		if name, free := strings.CutSuffix(f.Filter, " free"); free {
			return name + " is " + f.Seen
		}
		return f.Seen
	}
	return fmt.Sprintf("%s (%s wanted, %s)", f.Filter, f.Wanted, f.Seen)
}

func scoreText(n *api.NodeDiagnosis, everyNode bool) string {
	switch {
	case n.Score == nil:
		return "no"
	case everyNode:
		return "yes"
	}
	return fmt.Sprintf("%.3f", n.Score.Total)
}

// fitLine says that a node can take an instance, or has it.
func fitLine(n *api.NodeDiagnosis, everyNode bool) string {
	if everyNode {
		return n.Name + ": " + scoreParts(n, everyNode)
	}
	return fmt.Sprintf("%s has %d, score %s: %s", n.Name, n.Instances, scoreText(n, everyNode), scoreParts(n, everyNode))
}

// scoreParts says what a score is made of, where it is more than the algorithm's.
func scoreParts(n *api.NodeDiagnosis, everyNode bool) string {
	sc := n.Score
	if everyNode && n.Instances > 0 {
		return "has its instance"
	}
	if sc.Affinity == 0 && sc.Spread == 0 {
		return "fits"
	}
	text := fmt.Sprintf("fits: %.3f", sc.Algorithm)
	if sc.Affinity != 0 {
		text += fmt.Sprintf(" %+.3f for affinities", sc.Affinity)
	}
	if sc.Spread != 0 {
		text += fmt.Sprintf(" %+.3f for spread", sc.Spread)
	}
	return text
}

// printCandidates prints each node with all that is to be said of it, the best first. A node with several things against it
// has a line for each.
func printCandidates(s *session, f moments, t *api.TaskDiagnosis) {
	every := t.Algorithm == ""
	table := newTable("Node", "Has", "Score", "Why")
	if every {
		table = newTable("Node", "Has", "Takes it", "Why")
	}
	for _, n := range bestFirst(t.Nodes) {
		why := []string{}
		for i := range n.Failures {
			why = append(why, objection(f, &n.Failures[i]))
		}
		if n.Score != nil {
			why = append(why, scoreParts(&n, every))
		}
		table.add(n.Name, fmt.Sprint(n.Instances), scoreText(&n, every), why[0])
		for _, more := range why[1:] {
			table.rows = append(table.rows, []string{"", "", "", printable(more)})
		}
	}
	s.printTable(f, table)
}

func bestFirst(nodes []api.NodeDiagnosis) []api.NodeDiagnosis {
	out := slices.Clone(nodes)
	slices.SortStableFunc(out, func(a, b api.NodeDiagnosis) int {
		if a.Score != nil && b.Score != nil {
			return cmp.Or(cmp.Compare(b.Score.Total, a.Score.Total), cmp.Compare(a.Name, b.Name))
		}
		return cmp.Or(cmp.Compare(len(a.Failures), len(b.Failures)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// printNodeGroups prints how many nodes fit, with the best, and how many the same filters turn away, with an example.
func printNodeGroups(s *session, f moments, t *api.TaskDiagnosis) {
	const best = 5
	counts, examples := map[string]int{}, map[string]string{}
	fit := 0
	for _, n := range bestFirst(t.Nodes) {
		var filters, said []string
		for i := range n.Failures {
			filters = append(filters, n.Failures[i].Filter)
			said = append(said, objection(f, &n.Failures[i]))
		}
		if n.Score != nil {
			if fit++; fit <= best {
				s.print(printable(fitLine(&n, t.Algorithm == "")) + "\n")
			}
			continue
		}
		key := strings.Join(filters, ", ")
		if counts[key]++; counts[key] == 1 {
			examples[key] = n.Name + ": " + strings.Join(said, "; ")
		}
	}
	if fit > best {
		s.print(fmt.Sprintf("and %s fit too\n", countOf(fit-best, "node")))
	}
	keys := sortedKeys(counts)
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	for _, key := range keys {
		s.print(printable(fmt.Sprintf("%s: %s, such as %s", countOf(counts[key], "node"), key, examples[key])) + "\n")
	}
}

// printNodeFilters prints one node with every filter.
func printNodeFilters(s *session, t *api.TaskDiagnosis) {
	n := &t.Nodes[0]
	table := newTable("Filter", "Passed", "Wanted", "Seen")
	table.colourColumn(1, func(word string) string {
		if word == "no" {
			return s.style.paint(red, word)
		}
		return s.style.paint(green, word)
	})
	for _, name := range t.Filters {
		at := slices.IndexFunc(n.Failures, func(f api.FilterFailure) bool { return f.Filter == name })
		if at < 0 {
			table.add(name, "yes")
			continue
		}
		table.add(name, "no", n.Failures[at].Wanted, n.Failures[at].Seen)
	}
	s.print(table.render(s.style, s.width()))
	if n.Score != nil {
		s.print(printable(fitLine(n, t.Algorithm == "")) + "\n")
	}
}

// printReasons prints where the instances are, and why somebody looked for a place for them.
func printReasons(s *session, f moments, t *api.TaskDiagnosis) {
	if len(t.Instances) == 0 {
		return
	}
	s.section(printable("Instances of " + t.Task))
	table := newTable("Instance", "ID", "Node", "Version", "Status", "Placed", "Evaluation", "Because")
	table.colourColumn(4, s.style.state)
	for _, r := range t.Instances {
		table.add(r.Name, f.id(r.Allocation), r.Node, fmt.Sprint(r.JobVersion), r.Phase.String(), f.ago(r.At), f.id(r.Evaluation), because(f, &r))
	}
	s.printTable(f, table)
	if t.More > 0 {
		s.print(fmt.Sprintf("and %d more that run\n", t.More))
	}
}

// because says why somebody looked for a place, and of what does not run what is wrong with it.
func because(f moments, r *api.InstanceReason) string {
	text := cmp.Or(r.CauseText, causeOf(r), "its evaluation is no longer kept")
	if r.Replaces != "" {
		text += ", in place of " + f.id(r.Replaces)
	}
	if r.Message != "" {
		text = r.Message + "; placed because " + text
	}
	return text
}

// causeOf is the cause in words, with the name of the node that gave it.
func causeOf(r *api.InstanceReason) string {
	text := api.CauseWords(r.Cause)
	if r.CauseNode == "" {
		return text
	}
	if r.Cause == api.CauseDrain { // nothing is placed because a drain has ended
		return "node " + r.CauseNode + " is drained"
	}
	return strings.Replace(text, "a node", "node "+r.CauseNode, 1)
}
