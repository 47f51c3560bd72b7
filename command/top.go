package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"cube/api"
)

func newTop(m *Meta) *command {
	var o topOptions
	return &command{
		meta: m, name: "top",
		synopsis: "Watch nodes and tasks, and what they use",
		prose: `Shows all nodes with what they use, what is reserved and what there is, and all jobs with what their instances use of what is reserved for them, on a terminal, until q is typed. Rows change as the cluster does; figures are measured every two seconds, for what is on the screen.

Keys: up and down (or k and j) choose a row, Tab goes to the other table, Enter shows the instances of the node or job that is chosen, and Esc goes back; n, c and m sort by name, CPU and memory; q quits.

With -once it prints one screen as plain text and ends, with -json or -t the data of one. Those need no terminal.`,
		example: "$ cube top\n$ cube top -once -sort memory\n$ cube top -job web",
		flags:   o.declare,
		run: func(ctx context.Context, s *session, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			place, err := o.place(ctx, cluster)
			if err != nil {
				return err
			}
			if o.once || o.read.json || o.read.parsed != nil {
				return topOnce(ctx, s, cluster, &o, place)
			}
			if !s.isTerminal() {
				return failed(errors.New("standard output is no terminal; -once prints one screen"), "showing the cluster")
			}
			return watchTop(ctx, s, newTopModel(ctx, s, cluster, place, o.order))
		},
	}
}

// topOptions are the flags of cube top.
type topOptions struct {
	once      bool
	order     string
	node, job string
	read      readFlags
}

func (o *topOptions) declare(f *flag.FlagSet) {
	f.BoolVar(&o.once, "once", false, "Print one screen as plain text, and end.")
	f.StringVar(&o.order, "sort", byName, "Sort by `what`: name, cpu or memory.")
	f.StringVar(&o.node, "node", "", "Begin with the instances on this `node`.")
	f.StringVar(&o.job, "job", "", "Begin with the instances of the job of this `name`.")
	o.read.declareData(f)
}

func (o *topOptions) check() error {
	switch {
	case !slices.Contains([]string{byName, byCPU, byMemory}, o.order):
		return failed(fmt.Errorf("-sort is name, cpu or memory, not %.40q", o.order), "reading the arguments")
	case o.node != "" && o.job != "":
		return failed(errors.New("-node and -job exclude each other"), "reading the arguments")
	}
	return o.read.check()
}

// place is where to begin, which must be there.
func (o *topOptions) place(ctx context.Context, cluster api.Cluster) (topPlace, error) {
	switch {
	case o.job != "":
		like, _, err := cluster.ListJobs(ctx, api.Query{Prefix: o.job})
		if err == nil && !slices.ContainsFunc(like, func(j *api.JobSummary) bool { return j.Name == o.job }) {
			err = api.Errorf(api.CodeNotFound, "there is no job %.80q", o.job)
		}
		if err != nil {
			return topPlace{}, failed(err, "reading job %q", o.job)
		}
		return topPlace{job: o.job}, nil
	case o.node != "":
		id, err := resolveNode(ctx, cluster, o.node, api.Query{})
		if err != nil {
			return topPlace{}, failed(err, "reading node %q", o.node)
		}
		n, _, err := cluster.Node(ctx, id, api.Query{})
		if err != nil {
			return topPlace{}, failed(err, "reading node %q", o.node)
		}
		return topPlace{node: n.ID, name: n.Name}, nil
	}
	return topPlace{}, nil
}

// topOnce prints what there is now.
func topOnce(ctx context.Context, s *session, cluster api.Cluster, o *topOptions, place topPlace) error {
	var d topData
	var err error
	if d.Nodes, _, err = cluster.ListNodes(ctx, api.Query{}); err != nil {
		return failed(err, "listing the nodes")
	}
	if d.Jobs, _, err = cluster.ListJobs(ctx, api.Query{}); err != nil {
		return failed(err, "listing the jobs")
	}
	var q api.UsageQuery
	switch {
	case place.whole():
		for _, j := range d.Jobs {
			q.Jobs = append(q.Jobs, j.Name)
		}
	default:
		if d.Instances, _, err = instancesAt(ctx, cluster, place, 0); err != nil {
			return failed(err, "reading the instances of %q", place.job+place.name)
		}
		q = place.usage()
	}
	if len(q.Jobs)+len(q.Nodes) > 0 {
		d.Usage = readUsage(ctx, cluster, q).UsageReport
	}
	if done, err := o.read.emit(s, &d); done {
		return err
	}
	s.print(d.summary() + "\n")
	for _, t := range d.tables(moments{now: s.Now()}, place, o.order) {
		s.print("\n" + strings.Join(t.lines(s.style, 0, 0, len(t.rows), ""), "\n") + "\n")
	}
	for _, note := range (usage{UsageReport: d.Usage}).notes() {
		s.print(note + "\n")
	}
	return nil
}

// usage is the question for what the instances at a place use.
func (p topPlace) usage() api.UsageQuery {
	if p.job != "" {
		return api.UsageQuery{Jobs: []string{p.job}}
	}
	return api.UsageQuery{Nodes: []string{p.node}}
}

// instancesAt reads the instances of a node or a job, once they have changed after index.
func instancesAt(ctx context.Context, cluster api.Cluster, p topPlace, index uint64) ([]*api.Allocation, uint64, error) {
	read, of := cluster.NodeAllocations, p.node
	if p.job != "" {
		read, of = cluster.JobAllocations, p.job
	}
	all, meta, err := read(ctx, of, api.Query{Index: index})
	return all, meta.Index, err
}

// watchTop has a person look, until they have seen enough.
func watchTop(ctx context.Context, s *session, model *topModel) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	model.ctx = ctx
	environment := s.Environ()
	if !s.style.colours {
		environment = append(environment, "NO_COLOR=1")
	}
	program := tea.NewProgram(model, tea.WithContext(ctx), tea.WithInput(s.Stdin), tea.WithOutput(fileOf(s.Stdout)),
		tea.WithEnvironment(environment), tea.WithoutSignalHandler())
	_, err := program.Run()
	cancel()
	model.reading.close()
	if err != nil && ctx.Err() == nil {
		return failed(err, "showing the cluster")
	}
	return nil
}

// fileOf is the terminal behind an output, which must be known for what it is: its size changes.
func fileOf(w io.Writer) io.Writer {
	if c, ok := w.(*checkedWriter); ok {
		w = c.Writer
	}
	if f, ok := w.(*os.File); ok {
		return f
	}
	return w
}
