// Package launch knows which jobs launch others and which were launched, and decides what becomes of a launch. Like all of the
// state it is a pure function of the log; the state machine keeps the jobs, and says which of them have finished.
package launch

import (
	"slices"

	"github.com/tidwall/btree"

	"cube/api"
)

// KeptChildren is how many jobs that were launched and have finished are kept of each job that launches.
const KeptChildren = 10

// Table holds names; the rest stands in the jobs, from which it is made anew. It is not safe for concurrent use.
type Table struct {
	periodic *btree.BTreeG[string] // jobs launched at certain times that are not stopped
	children *btree.BTreeG[child]
	requests *btree.BTreeG[request]
}

// request is what somebody called the dispatch that launched a job.
type request struct{ parent, id, name string }

// child orders the jobs that others launched, oldest first.
type child struct {
	parent string
	create uint64 // index; an entry launches one job
	name   string
}

// New returns an empty table.
func New() Table {
	o := btree.Options{NoLocks: true, Degree: 32}
	return Table{
		periodic: btree.NewBTreeGOptions(func(a, b string) bool { return a < b }, o),
		children: btree.NewBTreeGOptions(func(a, b child) bool {
			return a.parent < b.parent || a.parent == b.parent && a.create < b.create
		}, o),
		requests: btree.NewBTreeGOptions(func(a, b request) bool {
			return a.parent < b.parent || a.parent == b.parent && a.id < b.id
		}, o),
	}
}

// Copy returns a table that later writes to t do not change, in constant time.
func (t *Table) Copy() Table {
	return Table{periodic: t.periodic.Copy(), children: t.children.Copy(), requests: t.requests.Copy()}
}

// Len is how many jobs there are that others launched.
func (t *Table) Len() int { return t.children.Len() }

// Note keeps the table in step with a job, given the version in force, nil for a purged one. It reports whether something may
// have changed of what is launched when.
func (t *Table) Note(name string, current *api.Job) (news bool) {
	_, was := t.periodic.Get(name)
	if is := current != nil && current.Periodic != nil && !current.Stopped; is {
		t.periodic.Set(name)
	} else if was {
		t.periodic.Delete(name)
	}
	if current != nil && current.Parent != "" {
		t.children.Set(child{current.Parent, current.CreateIndex, name})
		if d := current.Dispatched; d != nil && d.ID != "" {
			t.requests.Set(request{current.Parent, d.ID, name})
		}
	}
	return was || current != nil && current.Periodic != nil
}

// Forget takes out a job that is purged, given the version that was in force.
func (t *Table) Forget(current *api.Job) {
	if current.Parent != "" {
		t.children.Delete(child{parent: current.Parent, create: current.CreateIndex})
		if d := current.Dispatched; d != nil {
			t.requests.Delete(request{parent: current.Parent, id: d.ID})
		}
	}
}

// Periodic returns the names of the jobs that are launched at certain times and are not stopped, sorted.
func (t *Table) Periodic() (names []string) {
	t.periodic.Scan(func(name string) bool { names = append(names, name); return true })
	return names
}

// Each visits the jobs that one has launched and that are still known, newest first, until visit returns false.
func (t *Table) Each(parent string, visit func(name string) bool) {
	t.children.Descend(child{parent: parent, create: ^uint64(0)}, func(c child) bool {
		return c.parent == parent && visit(c.name)
	})
}

// Children returns the names of the jobs that one has launched and that are still known, newest first.
func (t *Table) Children(parent string) (names []string) {
	t.Each(parent, func(name string) bool { names = append(names, name); return true })
	return names
}

// Parents returns the jobs of which there are more children than keep, sorted. It walks over all children.
func (t *Table) Parents(keep int) (out []string) {
	parent, n := "", 0
	t.children.Scan(func(c child) bool {
		if c.parent != parent {
			parent, n = c.parent, 0
		}
		if n++; n == keep+1 {
			out = append(out, parent)
		}
		return true
	})
	return out
}

// Spent returns the finished children that are beyond what is kept, oldest first. A parent that is no more keeps none.
func (t *Table) Spent(parent string, known bool, finished func(name string) bool) (out []string) {
	left := KeptChildren
	if !known {
		left = 0
	}
	t.Each(parent, func(name string) bool {
		if finished(name) {
			if left--; left < 0 {
				out = append(out, name)
			}
		}
		return true
	})
	slices.Reverse(out)
	return out
}
