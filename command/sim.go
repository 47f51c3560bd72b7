package command

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/posener/complete"

	"cube/api"
)

// simulatedJobs is how many lines of jobs a simulation prints unless all are asked for.
const simulatedJobs = 20

func newSim(m *Meta) *command {
	var variables variableFlags
	var read readFlags
	return &command{
		meta: m, name: "sim", args: "node-down|drain|scale|run <of> ...", min: 2, max: -1,
		predict: predictSuppositions, reads: true, errorCode: exitPlanError,
		synopsis: "Show what would happen without a node",
		prose: `Asks the real scheduler, on the state as it is, what would become of the cluster, and changes nothing. Several things may be supposed at once: they are taken together, nodes that go and jobs that change.

    node-down <node>       the node is gone, and all that runs there is lost
    drain <node>           what runs there moves away, and nothing new comes
    scale <name>=<count>   a task has another number of instances
    run <file>             a task file is run; - reads standard input

The first line says whether everything would fit. Below stand the jobs with what becomes of their instances, why something would have no place, the nodes that go, and those that would be the fullest. What waits for a place today does not count against what is supposed. Where less important instances give way, they do so here, too, and are named. It is the state in the end that is shown: moves and roll-outs that go step by step may need some room on the way.

The exit code is 0 when everything would fit, 1 when something would have no place, and 255 on an error.`,
		example: "$ cube sim node-down n3\n$ cube sim drain n3 scale web=12\n$ cube sim run web.hcl node-down n1",
		flags: func(f *flag.FlagSet) {
			variables.declare(f)
			read.declareData(f)
			f.BoolVar(&read.verbose, "verbose", false, "All jobs that anything would become of.")
			f.BoolVar(&read.stale, "stale", false, "Let any server answer from what it knows, leader or not.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			request, err := suppositions(s, &variables, args)
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			sim, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) (*api.Simulation, api.ReadMeta, error) {
				return cluster.Simulate(ctx, request, q)
			})
			if err != nil {
				return failed(err, "simulating")
			}
			done, err := read.emit(s, sim)
			if err != nil {
				return err
			}
			if !done {
				printSimulation(s, read.verbose, sim)
			}
			if !sim.Fits() {
				return exitCode(exitChanges)
			}
			return nil
		},
	}
}

// simWords are what can be supposed.
func simWords() []string { return []string{"node-down", "drain", "scale", "run"} }

// suppositions reads pairs of words.
func suppositions(s *session, variables *variableFlags, args []string) (r api.SimulationRequest, err error) {
	wrong := func(format string, a ...any) error { return failed(fmt.Errorf(format, a...), "reading the arguments") }
	for i := 0; i < len(args); i += 2 {
		word := args[i]
		if !slices.Contains(simWords(), word) {
			if near := nearest(word, simWords()); near != "" {
				return r, wrong("nothing is known of %.40q; did you mean %s?", word, near)
			}
			return r, wrong("nothing is known of %.40q; what can be supposed is %s", word, strings.Join(simWords(), ", "))
		}
		if i+1 == len(args) {
			return r, wrong("%s needs a word behind it, as in 'cube sim node-down n3' or 'cube sim scale web=12'", word)
		}
		of, what := args[i+1], api.Supposition{}
		switch word {
		case "node-down":
			what.NodeDown = of
		case "drain":
			what.Drain = of
		case "scale":
			at := strings.LastIndexByte(of, '=')
			count, err := strconv.Atoi(of[at+1:])
			if at < 1 || err != nil || count < 0 || count > api.MaxTaskInstances {
				return r, wrong("%.80q is not a name and a count from 0 to %d, such as web=12", of, api.MaxTaskInstances)
			}
			job, task := splitName(of[:at])
			what.Scale = &api.ScaleSupposition{Job: job, Task: task, Count: count}
		case "run":
			submission, err := variables.submission(s, of)
			if err != nil {
				return r, err
			}
			what.Run = &submission
		}
		r.Suppose = append(r.Suppose, what)
	}
	return r, nil
}

func printSimulation(s *session, all bool, sim *api.Simulation) {
	paint := green
	if !sim.Fits() {
		paint = red
	}
	s.print(s.style.paint(paint, sim.Verdict()) + "\n")
	if len(sim.Jobs) > 0 {
		s.section("Jobs")
		printOutcomes(s, all, sim)
	}
	if sim.Waiting > 0 {
		s.print(fmt.Sprintf("\nWithout a place today, and then: %s.\n", countOf(sim.Waiting, "instance")))
	}
	if sim.Unlooked > 0 {
		s.print(fmt.Sprintf("\nNot looked at: %s that wait, and may take room before others.\n", countOf(sim.Unlooked, "job")))
	}
	s.section("Nodes")
	t := newTable("Node", "CPU", "Memory", "Disk", "Leave", "Come")
	t.blank = "-"
	for i := range sim.Nodes {
		n := &sim.Nodes[i]
		name := n.Name
		if n.Gone != "" {
			name += " (" + n.Gone + ")"
		}
		cells := fills(&n.Before, &n.After, n.Gone)
		t.add(name, cells[0], cells[1], cells[2], strconv.Itoa(n.Leave), strconv.Itoa(n.Arrive))
	}
	cells := fills(&sim.Before, &sim.After, "")
	t.add("in all", cells[0], cells[1], cells[2])
	s.printTable(moments{}, t)
}

func printOutcomes(s *session, all bool, sim *api.Simulation) {
	t := newTable("Name", "Instances", "From", "To")
	t.blank = "-"
	var why []string
	left := 0
	for i := range sim.Jobs {
		j := &sim.Jobs[i]
		if i >= simulatedJobs && !all {
			left++
			continue
		}
		if j.Message != "" {
			why = append(why, printable(j.Name+": "+j.Message))
		}
		for k := range j.Tasks {
			task := &j.Tasks[k]
			name := j.Name
			if len(j.Tasks) > 1 || task.Task != j.Name {
				name += "/" + task.Task
			}
			t.add(name, becomeOf(&task.Totals), nodeCounts(task.From), nodeCounts(task.To))
			for _, way := range task.Ways {
				why = append(why, printable(way))
			}
			if task.Explanation != nil {
				why = append(why, explainAll([]api.Explanation{*task.Explanation})...)
			}
		}
	}
	s.printTable(moments{}, t)
	if left > 0 {
		s.print(fmt.Sprintf("and %s; -verbose shows them\n", countOf(left, "more job")))
	}
	if len(why) > 0 {
		s.print("\n")
	}
	for _, line := range why {
		s.print(s.style.paint(yellow, line) + "\n")
	}
}

// becomeOf says what becomes of a task's instances.
func becomeOf(t *api.Totals) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{t.Missing, "without a place"}, {t.Moved, "moved"}, {t.Replaced, "replaced"}, {t.InPlace, "changed in place"}, {t.Placed, "new"}, {t.Stopped, "stopped"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// fills says of CPU, memory and disk how much is held before and after: "12 % -> 93 %".
func fills(before, after *api.Fill, gone string) (cells [3]string) {
	for i, of := range [3][4]int64{
		{before.Held.CPU, before.Total.CPU, after.Held.CPU, after.Total.CPU},
		{before.Held.Memory, before.Total.Memory, after.Held.Memory, after.Total.Memory},
		{before.Held.Disk, before.Total.Disk, after.Held.Disk, after.Total.Disk},
	} {
		was, is := percent(of[0], of[1]), percent(of[2], of[3])
		switch {
		case gone != "":
			cells[i] = was + " -> -"
		case was == is:
			cells[i] = is
		default:
			cells[i] = was + " -> " + is
		}
	}
	return cells
}

// percent writes a part in whole percent, rounded up so that what is full says 100 % and what is not empty not 0 %.
func percent(held, total int64) string {
	if total <= 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", (100*held+total-1)/total)
}

// predictSuppositions completes the words, and behind each what it is about.
func predictSuppositions(m *Meta) complete.Predictor {
	nodes, jobs, files := predictNodes(m), predictJobs(m), predictTaskFiles(m)
	return complete.PredictFunc(func(a complete.Args) []string {
		switch a.LastCompleted {
		case "node-down", "drain":
			return nodes.Predict(a)
		case "scale":
			return jobs.Predict(a)
		case "run":
			return files.Predict(a)
		}
		return simWords()
	})
}
