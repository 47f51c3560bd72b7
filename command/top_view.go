package command

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

// topData is what a screen of cube top shows; JSON of it is what -json prints.
type topData struct {
	Nodes     []*api.NodeView
	Jobs      []*api.JobSummary
	Instances []*api.Allocation `json:",omitempty"` // of the node or job that is looked into
	Usage     *api.UsageReport  `json:",omitempty"` // of the jobs or instances on the screen
}

// topPlace is where in the cluster a person looks. The zero value is all of it.
type topPlace struct {
	node string // ID, and its name
	name string
	job  string
}

func (p topPlace) whole() bool { return p == topPlace{} }

// Orders of a table of cube top.
const (
	byName   = "name"
	byCPU    = "cpu"
	byMemory = "memory"
)

// topRow is a line of a table that can be chosen.
type topRow struct {
	cells       []string
	key         string   // of the node, job or allocation; it stays chosen wherever its line goes
	into        topPlace // where Enter leads; the zero value: nowhere
	cpu, memory int64    // what it uses
}

// topTable is one of the tables.
type topTable struct {
	title   string
	columns []string
	state   int // the column that has a state's colour
	rows    []topRow
}

func (t *topTable) sort(order string) {
	slices.SortStableFunc(t.rows, func(a, b topRow) int {
		switch order {
		case byCPU:
			return cmp.Compare(b.cpu, a.cpu)
		case byMemory:
			return cmp.Compare(b.memory, a.memory)
		}
		return cmp.Compare(a.cells[0], b.cells[0])
	})
}

// tables are what there is to see at a place.
func (d *topData) tables(f moments, p topPlace, order string) []*topTable {
	used := usage{}
	if d.Usage != nil {
		used = newUsage(d.Usage)
	}
	var all []*topTable
	if p.whole() {
		all = []*topTable{d.nodeTable(f), d.jobTable(used)}
	} else {
		all = []*topTable{d.instanceTable(f, used, p)}
	}
	for _, t := range all {
		t.sort(order)
	}
	return all
}

func (d *topData) nodeTable(f moments) *topTable {
	t := &topTable{title: "Nodes", state: 1, columns: []string{"Node", "Status", "CPU Used", "CPU Reserved", "Memory Used", "Memory Reserved", "Running", "Last Contact"}}
	for _, n := range d.Nodes {
		row := topRow{key: n.ID, into: topPlace{node: n.ID, name: n.Name}}
		cpu, memory := unmeasured, unmeasured
		if n.Load != nil {
			row.cpu, row.memory = n.Load.CPU, n.Load.Memory
			cpu, memory = api.FormatCPU(n.Load.CPU), api.FormatMiB(n.Load.Memory)
		}
		status := string(n.Status)
		if n.Ineligible && n.Status == api.NodeReady {
			status = "ineligible"
		}
		row.cells = []string{n.Name, status, cpu, cpuShare(n.Held.CPU, n.Resources.CPU), memory, mibShare(n.Held.Memory, n.Resources.Memory), strconv.Itoa(n.Running), f.ago(n.LastContact)}
		t.rows = append(t.rows, row)
	}
	return t
}

func (d *topData) jobTable(used usage) *topTable {
	sums := map[string]*usageSum{}
	for _, i := range used.of {
		s := sums[i.Job]
		if s == nil {
			s = &usageSum{}
			sums[i.Job] = s
		}
		s.measured++
		s.used = s.used.Add(api.Resources{CPU: i.CPU, Memory: i.Memory})
		s.reserved = s.reserved.Add(api.Resources{CPU: i.Reserved.CPU, Memory: i.Reserved.Memory})
	}
	t := &topTable{title: "Tasks", state: 2, columns: []string{"Job", "Type", "Status", "Running", "CPU", "Memory"}}
	for _, j := range d.Jobs {
		row := topRow{key: j.Name, into: topPlace{job: j.Name}}
		cpu, memory := unmeasured, unmeasured
		if s := sums[j.Name]; s != nil {
			row.cpu, row.memory = s.used.CPU, s.used.Memory
			cpu, memory = cpuShare(s.used.CPU, s.reserved.CPU), mibShare(s.used.Memory, s.reserved.Memory)
			if s.measured < j.Counts.Running {
				cpu += fmt.Sprintf(" (%d of %d)", s.measured, j.Counts.Running)
			}
		}
		row.cells = []string{j.Name, string(j.Type), j.Status, runningOf(j), cpu, memory}
		t.rows = append(t.rows, row)
	}
	return t
}

func (d *topData) instanceTable(f moments, used usage, p topPlace) *topTable {
	t := &topTable{title: "Instances of " + p.job, state: 3, columns: []string{"Instance", "ID", "Node", "Status", "Health", "CPU", "Memory", "Restarts", "Age", "Address"}}
	if p.job == "" {
		t.title = "Instances on " + p.name
	}
	seen := map[slotKey]bool{} // a job's are by slot, the newest first
	for _, a := range d.Instances {
		if a.Phase.Terminal() && (p.job == "" || seen[slotOf(a)]) {
			continue
		}
		seen[slotOf(a)] = true
		row := topRow{key: a.ID}
		if i := used.of[a.ID]; i != nil {
			row.cpu, row.memory = i.CPU, i.Memory
		}
		row.cells = []string{a.Name, f.id(a.ID), a.NodeName, a.Phase.String(), healthOf(a), used.cpu(a), used.memory(a), strconv.Itoa(a.Restarts), f.ago(a.CreatedAt), addresses(a)}
		t.rows = append(t.rows, row)
	}
	return t
}

// summary is the line at the head of a screen.
func (d *topData) summary() string {
	ready, running := 0, 0
	var held, total, used api.Resources
	for _, n := range d.Nodes {
		running += n.Running
		if n.Status != api.NodeReady {
			continue
		}
		ready++
		held, total = held.Add(n.Held), total.Add(n.Resources)
		if n.Load != nil {
			used = used.Add(api.Resources{CPU: n.Load.CPU, Memory: n.Load.Memory})
		}
	}
	return fmt.Sprintf("%d of %s ready, %s running of %s; CPU %s used, %s reserved; memory %s used, %s reserved",
		ready, countOf(len(d.Nodes), "node"), countOf(running, "instance"), countOf(len(d.Jobs), "job"),
		cpuShare(used.CPU, total.CPU), api.FormatCPU(held.CPU), mibShare(used.Memory, total.Memory), api.FormatMiB(held.Memory))
}

// lines writes a table's rows from first on, with a mark before the chosen one, under its title and its header.
func (t *topTable) lines(s style, width, first, rows int, chosen string) []string {
	plain := newTable(t.columns...)
	plain.blank = unmeasured
	plain.colourColumn(t.state, s.state)
	for _, r := range t.rows {
		plain.add(r.cells...)
	}
	text := strings.Split(strings.TrimRight(plain.render(s, max(0, width-2)), "\n"), "\n")
	title := fmt.Sprintf("%s (%d)", printable(t.title), len(t.rows))
	if rows < len(t.rows) {
		title = fmt.Sprintf("%s (%d to %d of %d)", printable(t.title), first+1, first+rows, len(t.rows))
	}
	out := []string{s.heading(title), "  " + text[0]}
	for i := first; i < min(first+rows, len(t.rows)); i++ {
		mark := "  "
		if t.rows[i].key == chosen && chosen != "" {
			mark = "> "
		}
		out = append(out, mark+text[1+i])
	}
	return out
}
