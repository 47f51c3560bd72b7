package command

import (
	"context"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"cube/api"
)

const (
	// topPace is how often figures are measured.
	topPace = 2 * time.Second
	// topRest lies between two reads of rows that keep changing, so that a busy cluster is not read all the time.
	topRest = 500 * time.Millisecond
)

// topModel is cube top on a terminal. Its methods are called by the program's one goroutine; what it reads, the functions
// that it returns read beside it, and what they find comes back as messages.
type topModel struct {
	*session
	ctx     context.Context // ends with the program
	cluster api.Cluster
	reading readers

	data          topData
	place         topPlace
	generation    int // of the place: what comes of an earlier one is dropped
	order         string
	table         int       // which table is chosen from
	chosen        [3]string // the keys of the chosen rows: of the nodes, of the jobs, and inside one
	width, height int
	trouble       string // why the rows may be old
}

// readers are the functions that read. The program may drop one before it has begun.
type readers struct {
	mu     sync.Mutex // guards closed
	closed bool
	group  sync.WaitGroup
}

func (r *readers) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.group.Add(1)
	}
	return !r.closed
}

// close waits until none reads. From then on none begins.
func (r *readers) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.group.Wait()
}

func newTopModel(ctx context.Context, s *session, cluster api.Cluster, p topPlace, order string) *topModel {
	m := &topModel{session: s, ctx: ctx, cluster: cluster, place: p, order: order}
	m.width, m.height, _ = s.Size()
	return m
}

// Messages of the functions that read.
type (
	nodesRead struct {
		nodes []*api.NodeView
		index uint64
		err   error
	}
	jobsRead struct {
		jobs  []*api.JobSummary
		index uint64
		err   error
	}
	instancesRead struct {
		instances  []*api.Allocation
		index      uint64
		generation int
		err        error
	}
	// figures are what was measured: the loads of nodes, and what instances use.
	figures struct {
		loads      map[string]*api.NodeView // by ID
		usage      *api.UsageReport
		generation int
		again      bool // these were asked for by the clock, which goes on
	}
	measureNow struct{}
)

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd {
	return tea.Batch(m.readNodes(0, 0), m.readJobs(0, 0), m.readInstances(0, 0), m.later(topRest, measureNow{}))
}

// beside makes a command of a function that reads, after a while, and that quitting waits for.
func (m *topModel) beside(after time.Duration, read func(ctx context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		if !m.reading.begin() {
			return nil
		}
		defer m.reading.group.Done()
		if pause(m.ctx, after) != nil {
			return nil
		}
		return read(m.ctx)
	}
}

func (m *topModel) later(after time.Duration, msg tea.Msg) tea.Cmd {
	return m.beside(after, func(context.Context) tea.Msg { return msg })
}

func (m *topModel) readNodes(after time.Duration, index uint64) tea.Cmd {
	return m.beside(after, func(ctx context.Context) tea.Msg {
		nodes, meta, err := m.cluster.ListNodes(ctx, api.Query{Index: index})
		return nodesRead{nodes, meta.Index, err}
	})
}

func (m *topModel) readJobs(after time.Duration, index uint64) tea.Cmd {
	return m.beside(after, func(ctx context.Context) tea.Msg {
		jobs, meta, err := m.cluster.ListJobs(ctx, api.Query{Index: index})
		return jobsRead{jobs, meta.Index, err}
	})
}

func (m *topModel) readInstances(after time.Duration, index uint64) tea.Cmd {
	place, generation := m.place, m.generation
	if place.whole() {
		return nil
	}
	return m.beside(after, func(ctx context.Context) tea.Msg {
		all, next, err := instancesAt(ctx, m.cluster, place, index)
		return instancesRead{all, next, generation, err}
	})
}

// measure asks for the figures of what is on the screen.
func (m *topModel) measure(again bool) tea.Cmd {
	var nodes []string
	var q api.UsageQuery
	if m.place.whole() {
		nodes, q.Jobs = m.shown()
	} else {
		q = m.place.usage()
	}
	generation := m.generation
	return m.beside(0, func(ctx context.Context) tea.Msg {
		f := figures{loads: map[string]*api.NodeView{}, generation: generation, again: again}
		for _, id := range nodes {
			if n, _, err := m.cluster.Node(ctx, id, api.Query{}); err == nil {
				f.loads[n.ID] = n
			}
		}
		if len(q.Jobs)+len(q.Nodes) > 0 {
			f.usage = readUsage(ctx, m.cluster, q).UsageReport
		}
		return f
	})
}

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	case nodesRead:
		if m.failed(msg.err) {
			return m, m.readNodes(topPace, 0)
		}
		m.data.Nodes = msg.nodes
		return m, m.readNodes(topRest, msg.index)
	case jobsRead:
		if m.failed(msg.err) {
			return m, m.readJobs(topPace, 0)
		}
		m.data.Jobs = msg.jobs
		return m, m.readJobs(topRest, msg.index)
	case instancesRead:
		switch {
		case msg.generation != m.generation:
			return m, nil
		case m.failed(msg.err):
			return m, m.readInstances(topPace, 0)
		}
		m.data.Instances = msg.instances
		return m, m.readInstances(topRest, msg.index)
	case measureNow:
		return m, m.measure(true)
	case figures:
		m.take(msg)
		if msg.again {
			return m, m.later(topPace, measureNow{})
		}
	}
	return m, nil
}

// failed notes whether the cluster could be asked, and reports it.
func (m *topModel) failed(err error) bool {
	m.trouble = ""
	if err != nil {
		m.trouble = err.Error()
	}
	return err != nil
}

func (m *topModel) take(f figures) {
	for i, n := range m.data.Nodes {
		if fresh := f.loads[n.ID]; fresh != nil {
			m.data.Nodes[i] = fresh
		}
	}
	if f.generation == m.generation {
		m.data.Usage = f.usage
	}
}

// key does what a person types.
func (m *topModel) key(k string) tea.Cmd {
	switch k {
	case "q", "ctrl+c":
		return tea.Quit
	case "n":
		m.order = byName
	case "c":
		m.order = byCPU
	case "m":
		m.order = byMemory
	case "tab":
		m.table = (m.table + 1) % len(m.tables())
	case "up", "k":
		m.choose(-1)
	case "down", "j":
		m.choose(1)
	case "enter":
		t := m.tables()[m.table]
		if i := m.index(t, m.table); i >= 0 && !t.rows[i].into.whole() {
			return m.enter(t.rows[i].into)
		}
	case "esc", "backspace", "left":
		if !m.place.whole() {
			return m.enter(topPlace{})
		}
	}
	return nil
}

// enter goes to another place. Back at the whole, the table is the one that it was left from.
func (m *topModel) enter(p topPlace) tea.Cmd {
	m.table = 0
	if p.whole() && m.place.job != "" {
		m.table = 1
	}
	m.place, m.data.Usage, m.data.Instances, m.chosen[inside] = p, nil, nil, ""
	m.generation++
	return tea.Batch(m.readInstances(0, 0), m.measure(false))
}

func (m *topModel) tables() []*topTable {
	return m.data.tables(moments{now: m.Now()}, m.place, m.order)
}

// inside is the place of the chosen row where there is but one table.
const inside = 2

func (m *topModel) slot(table int) int {
	if m.place.whole() {
		return table
	}
	return inside
}

// index is the chosen row of a table, -1 without rows.
func (m *topModel) index(t *topTable, table int) int {
	for i, r := range t.rows {
		if r.key == m.chosen[m.slot(table)] {
			return i
		}
	}
	return min(0, len(t.rows)-1)
}

// choose moves the choice by so many rows.
func (m *topModel) choose(by int) {
	t := m.tables()[m.table]
	if i := m.index(t, m.table); i >= 0 {
		m.chosen[m.slot(m.table)] = t.rows[max(0, min(len(t.rows)-1, i+by))].key
	}
}

// topFrame is how many lines a screen has beside its tables: the summary, an empty line and the keys.
const topFrame = 3

// span is the part of a table that is on the screen.
type span struct{ first, rows int }

// layout divides the screen: each table has a title, a header and an empty line, and its fair share of the rest.
func (m *topModel) layout(tables []*topTable) []span {
	room := m.height - topFrame - 3*len(tables)
	spans := make([]span, len(tables))
	for i, t := range tables {
		share := max(1, room/(len(tables)-i))
		if i == 0 && len(tables) > 1 {
			share = max(share, room-len(tables[1].rows)) // what the other does not need
		}
		s := span{rows: min(len(t.rows), share)}
		room -= s.rows
		if chosen := m.index(t, i); chosen >= s.rows {
			s.first = chosen - s.rows + 1
		}
		spans[i] = s
	}
	return spans
}

// shown are the nodes and the jobs that are on the screen.
func (m *topModel) shown() (nodes, jobs []string) {
	tables := m.tables()
	for i, s := range m.layout(tables) {
		for _, r := range tables[i].rows[s.first : s.first+s.rows] {
			if r.into.job != "" {
				jobs = append(jobs, r.into.job)
			} else {
				nodes = append(nodes, r.into.node)
			}
		}
	}
	return nodes, jobs
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	v := tea.NewView(strings.Join(m.screen(), "\n"))
	v.AltScreen = true
	return v
}

// screen is what stands on the terminal, line by line.
func (m *topModel) screen() []string {
	lines := []string{m.data.summary(), ""}
	tables := m.tables()
	for i, s := range m.layout(tables) {
		chosen := ""
		if at := m.index(tables[i], i); i == m.table && at >= 0 {
			chosen = tables[i].rows[at].key
		}
		lines = append(lines, tables[i].lines(m.style, m.width, s.first, s.rows, chosen)...)
		lines = append(lines, "")
	}
	foot := "q quits  Enter looks inside  Esc goes back  Tab other table  n c m sort by name, CPU, memory (by " + m.order + ")"
	if m.trouble != "" {
		foot = "The cluster cannot be asked: " + printable(m.trouble)
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), m.height-1))], foot)
	for i := range lines {
		lines[i] = clip(lines[i], m.width)
	}
	return lines
}
