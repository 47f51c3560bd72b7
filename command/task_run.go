package command

import (
	"context"
	"flag"
	"fmt"
	"net"
	"strings"

	"cube/api"
)

// runFlags are those of task run, and, the variables apart, of others that change jobs.
type runFlags struct {
	variables variableFlags
	detach    bool
	json      bool // what was accepted, instead of following
	verbose   bool
	timeout   patience
	check     indexFlag
}

// declareFollow declares the flags of commands that change jobs and follow what comes of it.
func (o *runFlags) declareFollow(f *flag.FlagSet) {
	f.BoolVar(&o.detach, "detach", false, "Do not follow: print the ID of each evaluation and return.")
	f.BoolVar(&o.verbose, "verbose", false, "Whole IDs and exact times.")
	patienceVar(f, &o.timeout, " for all to run, even if a deployment goes on, which is waited for otherwise")
	o.check.declareCheck(f)
}

func newTaskRun(m *Meta) *command {
	var o runFlags
	return &command{
		meta: m, name: "task run", args: "<file>", min: 1, max: 1, predict: predictTaskFiles, reads: true,
		synopsis: "Run the tasks of a file",
		prose: `Submits a task file to the cluster, or changes what runs to what the file says now; - reads standard input. All that the file holds is accepted as one, or nothing is. A file that says what runs already changes nothing.

Then follows each instance until all of them are healthy, as their checks or an update block with a longer min_healthy_time say; without either, until they have run for 3 seconds or, in a batch job, have completed. Ctrl-C stops the following and nothing else.

The exit code is 0 when all is well, 1 when the file was not accepted, and 2 when it was but not everything could be placed and started in time; the reasons, and the last lines that failing instances wrote, are shown.`,
		example: "$ cube task run web.hcl\n$ cube task run -var version=1.28 web.hcl",
		flags: func(f *flag.FlagSet) {
			o.variables.declare(f)
			o.declareFollow(f)
		},
		run: func(ctx context.Context, s *session, args []string) error {
			submission, err := o.variables.submission(s, args[0])
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			submission.CheckIndex = o.check.index
			registered, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.Registered, error) {
				return cluster.RegisterJobs(ctx, submission, w)
			})
			if err != nil {
				return failed(err, "running %q", args[0])
			}
			if o.detach {
				printEvaluations(s, registered)
				return nil
			}
			return monitorRun(ctx, s, cluster, &o, registered)
		},
	}
}

func printEvaluations(s *session, r *api.Registered) {
	for _, j := range r.Jobs {
		if j.Evaluation == "" {
			fmt.Fprintf(s.Stderr, "Job %q is unchanged: version %d says this already\n", j.Name, j.Version)
			continue
		}
		fmt.Fprintln(s.Stdout, j.Evaluation)
	}
}

// runMonitor is a monitor of a submission.
type runMonitor struct {
	*monitor
	goals     map[string]*runGoal
	explained map[string]string // by job: what was last said about what is not placed
}

func monitorRun(ctx context.Context, s *session, cluster api.Cluster, o *runFlags, registered *api.Registered) error {
	ctx, stop := s.Interrupt(ctx)
	defer stop()
	m := &runMonitor{monitor: newMonitor(s, cluster, o.timeout, o.verbose), goals: map[string]*runGoal{}, explained: map[string]string{}}
	goals := map[string]goal{}
	var names []string
	for _, j := range registered.Jobs {
		m.goals[j.Name] = newRunGoal(j, s.Now())
		goals[j.Name] = m.goals[j.Name]
		names = append(names, j.Name)
		text := fmt.Sprintf("Job %q version %d is accepted; evaluation %s", j.Name, j.Version, moments{verbose: o.verbose}.id(j.Evaluation))
		if !j.Changed {
			text = fmt.Sprintf("Job %q is unchanged: version %d says this already", j.Name, j.Version)
		}
		m.screen.say(true, text)
	}
	if len(names) == 0 {
		m.screen.say(true, "The file holds no tasks: nothing to run")
		return nil
	}
	end := m.follow(ctx, goals, m.looked)
	err := m.conclude(end, fmt.Sprintf("Detached: the job goes on; see 'cube task status %s'", names[0]))
	if err != nil {
		m.help(ctx)
	}
	return err
}

// looked says at once what keeps a job from being placed, and finds out whether there are nodes at all.
func (m *runMonitor) looked(ctx context.Context, job string) {
	g := m.goals[job]
	if g.status == nil || g.status.Job.Version != g.version || g.status.Evaluation == nil {
		return
	}
	e := g.status.Evaluation
	g.noNodes = e.Status == api.EvalBlocked && looksEmpty(e.Explanations) && m.noNodes(ctx)
	if e.Status != api.EvalBlocked {
		return
	}
	lines := explainAll(e.Explanations)
	text := strings.Join(lines, "\n")
	if text == "" || m.explained[job] == text {
		return
	}
	m.explained[job] = text
	for _, line := range lines {
		m.screen.say(false, line)
		m.said[line] = true
	}
}

// noNodes reports whether no client has ever joined.
func (m *runMonitor) noNodes(ctx context.Context) bool {
	nodes, _, err := m.cluster.ListNodes(ctx, api.Query{})
	return err == nil && len(nodes) == 0
}

// looksEmpty reports whether the scheduler saw no node at all.
func looksEmpty(explanations []api.Explanation) bool {
	for _, e := range explanations {
		if e.Placed < e.Wanted && e.Nodes == 0 {
			return true
		}
	}
	return false
}

// help says, once it is clear that not all will run, what a person can do: the join command when there are no clients,
// what the nodes say of drivers that do not work, and what the failing instances wrote.
func (m *runMonitor) help(ctx context.Context) {
	var failing []*api.Allocation
	empty := false
	for _, job := range sortedKeys(m.goals) {
		g := m.goals[job]
		empty = empty || g.noNodes
		if g.status != nil {
			failing = append(failing, unwellOf(g.status.Allocations, m.Now())...)
		}
	}
	if empty {
		m.print(fmt.Sprintf("    On each machine that is to run tasks, start a client:\n\n        cube agent -client -join %s\n\n", m.joinAddress(ctx)))
	} else {
		m.print(indented(m.driverTroubles(ctx)))
	}
	m.print("    The job stays accepted: what is missing is placed or started as soon as it can be\n")
	printTails(ctx, m.session, m.cluster, failing)
}

// joinAddress is what a new client gives to -join: the leader's gossip address, its port left out where it is the usual.
func (m *runMonitor) joinAddress(ctx context.Context) string {
	const usualPort = "5557"
	members, err := m.cluster.Members(ctx)
	if err != nil {
		return "<this server's address>"
	}
	best := ""
	for _, member := range members {
		if member.Role == api.RoleServer && member.Status == api.MemberAlive && (best == "" || member.Leader) {
			best = member.GossipAddr
		}
	}
	if best == "" {
		return "<this server's address>"
	}
	if host, port, err := net.SplitHostPort(best); err == nil && port == usualPort && !strings.Contains(host, ":") {
		return host
	}
	return best
}

// driverTroubles lists what nodes say of drivers that do not work, when a driver is among the reasons.
func (m *runMonitor) driverTroubles(ctx context.Context) []string {
	wanted := false
	for _, g := range m.goals {
		if g.status == nil || g.status.Evaluation == nil {
			continue
		}
		for _, e := range g.status.Evaluation.Explanations {
			for _, f := range e.Filters {
				wanted = wanted || strings.HasPrefix(f.Filter, "driver ")
			}
		}
	}
	if !wanted {
		return nil
	}
	nodes, _, err := m.cluster.ListNodes(ctx, api.Query{})
	if err != nil {
		return nil // the explanation stands there already
	}
	var out []string
	for _, n := range nodes {
		for _, trouble := range troubles(n) {
			out = append(out, printable(n.Name+": "+trouble))
		}
	}
	return out
}
