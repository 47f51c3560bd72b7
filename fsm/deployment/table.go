// Package deployment is the state's table of deployments and the moves that one can make: from its beginning with a version to
// one of its ends. Like all of the state it is a pure function of the log; the state machine says when.
package deployment

import (
	"github.com/tidwall/btree"

	"cube/api"
)

// Table holds deployments by ID and by job. It is not safe for concurrent use; what it returns must not be changed.
type Table struct {
	rows   *btree.BTreeG[*api.Deployment]
	byJob  *btree.BTreeG[key]
	active *btree.BTreeG[api.ID]
}

type key struct {
	job string
	id  api.ID
}

// New returns an empty table.
func New() Table {
	o := btree.Options{NoLocks: true, Degree: 32}
	return Table{
		rows:   btree.NewBTreeGOptions(func(a, b *api.Deployment) bool { return a.ID < b.ID }, o),
		byJob:  btree.NewBTreeGOptions(func(a, b key) bool { return a.job < b.job || a.job == b.job && a.id < b.id }, o),
		active: btree.NewBTreeGOptions(func(a, b api.ID) bool { return a < b }, o),
	}
}

// Copy returns a table that later writes to t do not change, in constant time.
func (t *Table) Copy() Table {
	return Table{rows: t.rows.Copy(), byJob: t.byJob.Copy(), active: t.active.Copy()}
}

// Len is how many there are.
func (t *Table) Len() int { return t.rows.Len() }

// Get returns a deployment, nil if there is none with that ID.
func (t *Table) Get(id api.ID) *api.Deployment {
	d, _ := t.rows.Get(&api.Deployment{ID: id})
	return d
}

// OfJob returns a job's deployments, newest first.
func (t *Table) OfJob(job string) []*api.Deployment {
	var out []*api.Deployment
	t.byJob.Descend(key{job, ^api.ID(0)}, func(k key) bool {
		if k.job != job {
			return false
		}
		out = append(out, t.Get(k.id))
		return true
	})
	return out
}

// Newest returns a job's newest deployment, nil for none.
func (t *Table) Newest(job string) (d *api.Deployment) {
	t.byJob.Descend(key{job, ^api.ID(0)}, func(k key) bool {
		if k.job == job {
			d = t.Get(k.id)
		}
		return false
	})
	return d
}

// Each visits all deployments, oldest first, until visit returns false.
func (t *Table) Each(visit func(*api.Deployment) bool) { t.rows.Scan(visit) }

// Reverse visits all deployments, newest first, until visit returns false.
func (t *Table) Reverse(visit func(*api.Deployment) bool) { t.rows.Reverse(visit) }

// Active visits those that are still to come to an end, oldest first, until visit returns false.
func (t *Table) Active(visit func(*api.Deployment) bool) {
	t.active.Scan(func(id api.ID) bool { return visit(t.Get(id)) })
}

// Actives is how many are still to come to an end.
func (t *Table) Actives() int { return t.active.Len() }

// Set stores a deployment in place of the one with its ID.
func (t *Table) Set(d *api.Deployment) {
	t.rows.Set(d)
	t.byJob.Set(key{d.Job, d.ID})
	if d.Status.Active() {
		t.active.Set(d.ID)
	} else {
		t.active.Delete(d.ID)
	}
}

// Delete forgets a deployment.
func (t *Table) Delete(d *api.Deployment) {
	t.rows.Delete(d)
	t.byJob.Delete(key{d.Job, d.ID})
	t.active.Delete(d.ID)
}
