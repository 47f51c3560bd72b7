package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/cli"

	"cube/agent"
	"cube/api"
	"cube/api/rest"
	"cube/internal/version"
)

// Main runs the command line args (without the program's name) and returns the exit code of the process: 0 for done, 1
// for an error, 2 for accepted but not (all) placed or started.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	m := newMeta(stdin, stdout, stderr)
	out := &checkedWriter{Writer: stdout}
	m.Stdout = out
	m.Version = version.Number
	m.Connect = func(address string) (api.Cluster, error) { return rest.NewClient(address) }
	m.Agent, m.Supervise, m.Recover = newAgentCommand, newSuperviseCommand, agent.Recover
	code := m.main(args)
	if out.err != nil && code == exitOK {
		fmt.Fprintf(stderr, "Error writing the output: %s\n", printable(out.err.Error()))
		return exitError
	}
	return code
}

// checkedWriter remembers that writing failed, so that half an answer on a full disk is not taken for a whole one.
type checkedWriter struct {
	io.Writer
	mu  sync.Mutex // commands write from several goroutines
	err error
}

func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	return n, err
}

func (m *Meta) main(args []string) int {
	commands := m.commands()
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "-help") // as it is with go, git and docker
	}
	if len(args) == 0 {
		args = []string{"-help"}
	}
	if n, ok := m.nounAlone(commands, args); ok {
		args = append(n, "-help")
	}
	c := &cli.CLI{
		Name:           "cube",
		Version:        "Cube " + m.Version,
		Args:           args,
		Commands:       commands,
		HiddenCommands: []string{hiddenSupervise},
		Autocomplete:   true,
		HelpFunc:       topHelp(append(commonCommands(), "agent")),
		HelpWriter:     m.Stdout,
		ErrorWriter:    m.Stderr,
	}
	first := c.Subcommand()
	if first != "" && commands[first] == nil {
		unknownCommand(m, commands, "", first, topWords(commands))
		return exitError
	}
	code, err := c.Run()
	if err != nil {
		fmt.Fprintf(m.Stderr, "Error: %s\n", printable(oneLine(err)))
		return exitError
	}
	return code
}

// oneLine is an error as one sentence. What goes wrong in several shells while completion is installed is several errors.
func oneLine(err error) string {
	var several interface{ WrappedErrors() []error }
	if !errors.As(err, &several) {
		return err.Error()
	}
	var texts []string
	for _, e := range several.WrappedErrors() {
		texts = append(texts, e.Error())
	}
	return strings.Join(texts, "; ")
}

// nounAlone reports whether args are no more than the words of a noun, which asks for its help.
func (m *Meta) nounAlone(commands map[string]cli.CommandFactory, args []string) ([]string, bool) {
	factory, ok := commands[strings.Join(args, " ")]
	if !ok {
		return nil, false
	}
	c, err := factory()
	if err != nil {
		return nil, false
	}
	_, isNoun := c.(*noun)
	return slices.Clone(args), isNoun
}

// commonCommands are those of every day, in the order of the help.
func commonCommands() []string { return []string{"run", "status", "logs", "stop"} }

// hiddenSupervise is the command a client starts to watch over a raw_exec instance. No person types it.
const hiddenSupervise = "supervise"

// commands is the whole tree.
func (m *Meta) commands() map[string]cli.CommandFactory {
	all := map[string]cli.CommandFactory{}
	if m.Agent != nil {
		all["agent"] = func() (cli.Command, error) { return m.Agent(m), nil }
	}
	if m.Supervise != nil {
		all[hiddenSupervise] = func() (cli.Command, error) { return m.Supervise(m), nil }
	}
	for _, c := range m.leaves() {
		all[c.name] = func() (cli.Command, error) { return c, nil }
		if verb, ok := strings.CutPrefix(c.name, "task "); ok && slices.Contains(commonCommands(), verb) {
			short := *c
			short.name = verb
			short.prose += "\n\nThis is short for: cube " + c.name
			all[verb] = func() (cli.Command, error) { return &short, nil }
		}
	}
	for _, n := range nouns(m) {
		for name := range all {
			if verb, ok := strings.CutPrefix(name, n.name+" "); ok && !strings.Contains(verb, " ") {
				n.verbs = append(n.verbs, verb)
			}
		}
		slices.Sort(n.verbs)
		all[n.name] = func() (cli.Command, error) { return n, nil }
	}
	return all
}

func (m *Meta) leaves() []*command {
	return append(newDeploymentOrders(m),
		newTaskRun(m), newTaskPlan(m), newTaskExplain(m), newTaskValidate(m), newTaskHistory(m), newTaskTimeline(m), newTaskTag(m), newTaskRevert(m),
		newTaskScale(m), newTaskRestart(m), newTaskDispatch(m), newTaskConvert(m), newTaskFmt(m), newTaskInit(m), newTaskStatus(m), newTaskStop(m), newTaskLogs(m), newTaskExec(m),
		newAllocStatus(m), newAllocLogs(m), newAllocStop(m),
		newSim(m), newTop(m), newClusterStatus(m), newRebalance(m),
		newNodeStatus(m), newNodeEligibility(m), newNodeDrain(m),
		newVolumeCreate(m), newVolumeList(m), newVolumeStatus(m), newVolumeDelete(m),
		newServerMembers(m), newServerLeave(m),
		newEvalStatus(m), newEvents(m), newDeploymentList(m), newDeploymentStatus(m),
		newRaftListPeers(m), newRaftRemovePeer(m), newRaftRecover(m),
		newSnapshotSave(m), newSnapshotRestore(m),
		newVersion(m),
	)
}

// topWords are the words that may follow `cube`.
func topWords(commands map[string]cli.CommandFactory) []string {
	var words []string
	for name := range commands {
		if !strings.Contains(name, " ") && name != hiddenSupervise {
			words = append(words, name)
		}
	}
	slices.Sort(words)
	return words
}

// nouns are the words that commands hang under, the deepest first.
func nouns(m *Meta) []*noun {
	return []*noun{
		{meta: m, name: "operator raft", synopsis: "The servers that vote",
			prose:   "These commands show and change which servers agree on the cluster's state.",
			example: "$ cube operator raft list-peers"},
		{meta: m, name: "operator snapshot", synopsis: "Save and restore the cluster's state",
			prose:   "A snapshot holds everything the servers have agreed on: jobs, allocations, nodes and evaluations. It does not hold what runs on the nodes, nor logs.",
			example: "$ cube operator snapshot save cube.snap"},
		{meta: m, name: "operator", synopsis: "Look after the servers",
			prose:   "These commands are for those who run the cluster.",
			example: "$ cube operator raft list-peers"},
		{meta: m, name: "deployment", synopsis: "Roll-outs of versions: follow and steer them",
			prose:   "A deployment is the roll-out of one version of a service. It runs until every instance is of the version and healthy, or it fails, or a newer version takes its place.",
			example: "$ cube deployment status web"},
		{meta: m, name: "task", synopsis: "Run tasks and look after them",
			prose:   "A task is what runs: an image or a command, in one or more instances. A task file holds one task or more. NAME is the name of a job, or job/task for one task of several; the job of a task that stands alone in its file carries the task's name.",
			example: "$ cube task init\n$ cube task run web.hcl\n$ cube task status web\n$ cube task logs web -f\n$ cube task stop web"},
		{meta: m, name: "alloc", synopsis: "Look at single instances",
			prose:   "An allocation is one instance of a task on a node, such as web[0]. Its ID may be shortened to as many characters as make it unique.",
			example: "$ cube alloc status 3afe8858"},
		{meta: m, name: "node", synopsis: "Look at the machines that run tasks",
			prose:   "A node is a machine that runs an agent as a client. Its ID may be shortened to as many characters as make it unique; its name will do too.",
			example: "$ cube node status"},
		{meta: m, name: "volume", synopsis: "Directories of nodes that tasks are given",
			prose:   "A volume is a directory of one node that outlives the instances that use it. Nodes have those that their configuration names, and those that are made with these commands.",
			example: "$ cube volume create -node n1 db-data\n$ cube volume list"},
		{meta: m, name: "cluster", synopsis: "Look at the cluster as a whole",
			prose:   "How the servers, the machines and the jobs are doing, all together.",
			example: "$ cube cluster status"},
		{meta: m, name: "server", synopsis: "Look at the agents of the cluster",
			prose:   "Servers vote on the cluster's state and place tasks on nodes.",
			example: "$ cube server members"},
		{meta: m, name: "eval", synopsis: "Look at the scheduler's work",
			prose:   "An evaluation is a reason to look at a job again, and what came of it.",
			example: "$ cube eval status"},
	}
}
