// Package timeline keeps what has happened to each job: the events of the log, folded so that many alike are one row, and
// bounded by a count a job. It is a pure function of the events: equal logs give equal timelines.
package timeline

import (
	"slices"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
)

const (
	// reach is how many of a job's latest rows are looked at for one that an event can be added to: a few things that go on
	// side by side (a crash loop, a slow update) stay one row each.
	reach = 8
	// lull ends a row: what happens again later than that is news.
	lull = 10 * time.Minute
	// named is how many runs of slots, or nodes, a row lists.
	named = 8
)

// Table holds the rows of all jobs. A stored row never changes; it is replaced. The zero value is not usable: see New.
type Table struct {
	rows    *btree.BTreeG[row]
	counts  *btree.BTreeG[count]
	scratch // the writer's
}

// scratch is what an entry adds, before it goes into the table: an entry of a thousand statuses touches far fewer rows.
type scratch struct {
	moments []api.Moment
	latest  map[subject]int // where the latest moment of its kind is
}

// subject is what moments that may be alike have in common.
type subject struct {
	job, task string
	kind      api.EventType
}

// row is a moment in its place: the latest of a job has the greatest number.
type row struct {
	job    string
	number uint64
	moment *api.Moment
}

// count is how many rows a job has.
type count struct {
	job  string
	rows int
}

// New returns an empty table.
func New() Table {
	options := btree.Options{NoLocks: true, Degree: 32}
	return Table{
		rows:   btree.NewBTreeGOptions(func(a, b row) bool { return a.job < b.job || a.job == b.job && a.number < b.number }, options),
		counts: btree.NewBTreeGOptions(func(a, b count) bool { return a.job < b.job }, options),
	}
}

// Copy returns a table that later writes to t do not change, in constant time.
func (t *Table) Copy() Table { return Table{rows: t.rows.Copy(), counts: t.counts.Copy()} }

// Len is how many rows there are.
func (t *Table) Len() int { return t.rows.Len() }

// Note takes over the events of one entry, in their order. They are not kept.
func (t *Table) Note(events []api.Event) {
	for i := range events {
		if events[i].Type.Kept() {
			t.gather(&events[i])
		}
	}
	for i := range t.moments {
		t.put(&t.moments[i])
	}
	clear(t.moments) // their texts are not held on to
	clear(t.latest)
	t.moments = t.moments[:0]
}

// gather adds an event to the entry's moments.
func (s *scratch) gather(e *api.Event) {
	if last := len(s.moments) - 1; last >= 0 && alike(&s.moments[last].Event, e) {
		join(&s.moments[last], e)
		return
	}
	of := subject{e.Job, e.Task, e.Type}
	if i, ok := s.latest[of]; ok && alike(&s.moments[i].Event, e) {
		join(&s.moments[i], e)
		return
	}
	if s.latest == nil {
		s.latest = map[subject]int{}
	}
	s.latest[of] = len(s.moments)
	s.moments = append(s.moments, e.Moment())
}

// alike reports whether two events are told in one row: the same thing for the same reason. What they happened to may
// differ.
func alike(a, b *api.Event) bool {
	return a.Type == b.Type && a.Job == b.Job && a.Task == b.Task && a.Version == b.Version && a.Cause == b.Cause && a.By == b.By &&
		a.Detail == b.Detail && a.Type.Topic() != api.TopicJob
}

// join adds one event to a moment.
func join(m *api.Moment, e *api.Event) {
	m.Index, m.At, m.Slot, m.Node, m.Allocation, m.Evaluation = e.Index, e.At, e.Slot, e.Node, e.Allocation, e.Evaluation
	m.Count += max(1, e.Times)
	if e.Task != "" {
		addSlots(m, api.Span{From: e.Slot, To: e.Slot})
	}
	if e.Node != "" {
		addNode(m, e.Node)
	}
}

// put stores a moment as the latest row of its job, together with an earlier one of which it is the continuation.
func (t *Table) put(m *api.Moment) {
	added := *m
	last, seen := uint64(0), 0
	var first row
	t.rows.Descend(row{job: m.Job, number: ^uint64(0)}, func(r row) bool {
		if r.job != m.Job {
			return false
		}
		last = max(last, r.number)
		if seen++; alike(&r.moment.Event, &m.Event) && m.At-r.moment.At <= int64(lull) {
			first = r
		}
		return first.moment == nil && seen < reach
	})
	if first.moment == nil {
		t.rows.Set(row{m.Job, last + 1, &added})
		t.grow(m.Job)
		return
	}
	added = together(first.moment, m)
	if first.number < last {
		t.rows.Delete(first)
		last++
	}
	t.rows.Set(row{m.Job, last, &added})
}

// grow counts a new row of a job, and drops its oldest if those are too many.
func (t *Table) grow(job string) {
	n, _ := t.counts.Get(count{job: job})
	n.job = job
	if n.rows++; n.rows > api.KeptMoments {
		n.rows--
		var oldest row
		t.rows.Ascend(row{job: job}, func(r row) bool { oldest = r; return false })
		t.rows.Delete(oldest)
	}
	t.counts.Set(n)
}

// together returns a stored moment and what continues it as one.
func together(first, next *api.Moment) api.Moment {
	sum := *next
	sum.Since, sum.Count, sum.Vague = first.Since, first.Count+next.Count, first.Vague|next.Vague
	sum.Slots, sum.Nodes = slices.Clone(first.Slots), slices.Clone(first.Nodes)
	for _, s := range next.Slots {
		addSlots(&sum, s)
	}
	for _, n := range next.Nodes {
		addNode(&sum, n)
	}
	return sum
}

// addSlots adds a run of slots to those of the moment, if there is still room to name them.
func addSlots(m *api.Moment, s api.Span) {
	at := len(m.Slots) // the first that s touches or stands before; mostly they come in order
	for at > 0 && m.Slots[at-1].To+1 >= s.From {
		at--
	}
	end := at
	for end < len(m.Slots) && m.Slots[end].From <= s.To+1 {
		s.From, s.To = min(s.From, m.Slots[end].From), max(s.To, m.Slots[end].To)
		end++
	}
	if end == at && len(m.Slots) == named {
		m.Vague |= api.GapSlots
		return
	}
	m.Slots = slices.Replace(m.Slots, at, end, s)
}

func addNode(m *api.Moment, node string) {
	at, found := slices.BinarySearch(m.Nodes, node)
	switch {
	case found:
	case len(m.Nodes) == named:
		m.Vague |= api.GapNodes
	default:
		m.Nodes = slices.Insert(m.Nodes, at, node)
	}
}

// Of returns the rows of a job, oldest first. They are the table's own.
func (t *Table) Of(job string) []*api.Moment {
	var out []*api.Moment
	t.rows.Ascend(row{job: job}, func(r row) bool {
		if r.job == job {
			out = append(out, r.moment)
		}
		return r.job == job
	})
	return out
}

// Forget drops the rows of a job.
func (t *Table) Forget(job string) {
	var gone []row
	t.rows.Ascend(row{job: job}, func(r row) bool {
		if r.job == job {
			gone = append(gone, r)
		}
		return r.job == job
	})
	for _, r := range gone {
		t.rows.Delete(r)
	}
	t.counts.Delete(count{job: job})
}

// Scan visits all rows, by job, oldest first, until visit returns false.
func (t *Table) Scan(visit func(number uint64, m *api.Moment) bool) {
	t.rows.Scan(func(r row) bool { return visit(r.number, r.moment) })
}

// Load adds a row that Scan gave. It reports false for one that does not come after all of those before.
func (t *Table) Load(number uint64, m *api.Moment) bool {
	last, some := t.rows.Max()
	if number == 0 || !m.Type.Kept() || some && (m.Job < last.job || m.Job == last.job && number <= last.number) {
		return false
	}
	t.rows.Load(row{m.Job, number, m})
	n, _ := t.counts.Get(count{job: m.Job})
	t.counts.Set(count{m.Job, n.rows + 1})
	return true
}
