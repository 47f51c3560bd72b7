package client

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"time"

	"cube/api"
	"cube/client/driver"
)

// restore takes what an earlier life has left, before run. Nothing of it is believed to run until its driver says so.
func (r *runner) restore(s *saved, decode func([]byte) (*api.Job, error)) {
	for key, body := range s.Specs {
		job, err := decode(body)
		r.specs[key] = &spec{job: job, err: err, kept: true}
	}
	for i := range s.Allocations {
		a := &s.Allocations[i]
		a.forget()
		r.allocs[a.ID] = a
		if a.Status.Seq > a.Acked {
			r.out.put(a.Status, time.Now())
		}
	}
}

// use takes the drivers of this node's owner. first is called for each one as attend says.
func (r *runner) use(list []driver.Driver, clusterID string, first func()) {
	r.text = api.NewIDText(clusterID)
	for _, d := range list {
		r.drivers[d.Name()] = &managed{Driver: d, starts: gate{limit: r.c.cfg.Tuning.Starts}, ends: gate{limit: endsAtOnce}}
	}
	all := slices.Collect(maps.Values(r.allocs))
	slices.SortFunc(all, func(a, b *allocation) int { return cmp.Compare(a.Status.FinishedAt, b.Status.FinishedAt) })
	for _, a := range all {
		if a.Driver != "" && r.drivers[a.Driver] == nil && a.unseen() {
			seq := a.Status.Seq
			a.Crew, a.Parted = nil, false
			a.finish(api.PhaseFailed, "the driver "+a.Driver+" is not enabled on this node any more; an instance of it may run on")
			r.log.Error("an allocation is given up", "allocation", r.text.Format(a.ID), "reason", a.Status.Message)
			r.settle(a, seq)
			continue
		}
		r.event(a, evTick{})
	}
	for _, d := range r.drivers {
		r.attend(d, first)
	}
	if len(r.drivers) == 0 {
		r.listedAll()
	}
}

// listed adopts what a driver found.
func (r *runner) listed(d *managed, found []driver.Instance) {
	d.listed = true
	by := map[api.ID][]driver.Instance{}
	for _, in := range found {
		by[in.Handle.Key.Allocation] = append(by[in.Handle.Key.Allocation], in)
	}
	for id, instances := range by {
		if a := r.allocs[id]; a == nil || a.Driver == "" || a.Driver == d.Name() {
			r.adopt(id, d, instances)
		}
	}
	for id, a := range r.allocs {
		if a.Driver == d.Name() && by[id] == nil {
			r.adopt(id, d, nil)
		}
	}
	if len(found) > 0 {
		r.log.Info("instances found", "driver", d.Name(), "instances", len(found))
	}
	if r.looked(&allocation{}) {
		r.listedAll()
	}
	if r.answered {
		r.c.link.resync() // the servers' answer was to an inventory that lacked what has been found now
	}
}

func (r *runner) adopt(id api.ID, d *managed, found []driver.Instance) {
	a, now := r.allocs[id], time.Now()
	mains, parts := apart(found)
	var seq uint64
	if a == nil {
		next := adopt(nil, id, mains, nil, now)
		if len(mains) == 0 { // then there is a part at least
			last := parts[len(parts)-1]
			next.Job, next.Task, next.Version, next.Status.Restarts = last.Job, last.Task, last.Version, last.Handle.Key.Of
		}
		a = &next
		r.allocs[id] = a
	} else {
		seq = a.Status.Seq
		*a = adopt(a, id, mains, r.policy(a), now)
	}
	a.Driver = d.Name()
	a.adoptCrew(parts, r.policy(a), now)
	r.settle(a, seq)
}

// listedAll follows when every driver has said what exists: what no driver knows does not exist.
func (r *runner) listedAll() {
	kept := map[string]bool{}
	for id, a := range r.allocs {
		if a.unseen() {
			seq := a.Status.Seq
			*a = adopt(a, id, nil, r.policy(a), time.Now())
			a.adoptCrew(nil, r.policy(a), time.Now())
			r.settle(a, seq)
		}
		kept[r.text.Format(id)] = true
	}
	if dir := r.c.dir; dir != nil {
		now := time.Now()
		r.ops.Go(func() {
			if n, err := dir.Sweep(kept, now); err != nil || n > 0 {
				r.log.Info("directories of former allocations removed", "removed", n, "error", err)
			}
		})
	}
}

// inventory is what exists on the node, for the servers to judge, in the order of IDs.
func (r *runner) inventory() []api.InventoryItem {
	var out []api.InventoryItem
	for _, a := range r.allocs {
		if a.Stage != stageDone {
			out = append(out, api.InventoryItem{ID: a.ID, Version: a.Version, Restarts: a.Status.Restarts, Phase: a.Status.Phase})
		}
	}
	slices.SortFunc(out, func(a, b api.InventoryItem) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// judged applies the servers' verdicts on an inventory. strange: see judge. ready: they need not hear that the stops are
// done.
func (r *runner) judged(items []api.InventoryItem, verdicts []api.Verdict, strange, ready bool) {
	first := !r.answered
	r.answered, r.verdict.unready = true, !ready
	clear(r.verdict.stops)
	for i := range min(len(items), len(verdicts)) {
		a := r.allocs[items[i].ID]
		if a == nil {
			continue
		}
		seq := a.Status.Seq
		*a = judge(*a, verdicts[i], r.policy(a), strange, time.Now(), r.c.cfg.Tuning.OrphanAfter)
		if a.Why != "" && a.Stage != stageDone {
			if verdicts[i] != api.VerdictLeave {
				r.verdict.stops[a.ID] = struct{}{}
			}
			r.log.Info("an instance is stopped", "instance", api.InstanceName(a.Job, a.Task, a.Slot), "allocation", r.text.Format(a.ID), "reason", a.Why)
		}
		r.settle(a, seq)
	}
	if first {
		for _, a := range r.allocs {
			r.advance(a) // what had to wait for the servers' answer
		}
	}
	r.tellReady()
}

// cutOff has each allocation know since when no server is heard of: some may not go on for ever.
func (r *runner) cutOff(since time.Time) {
	for _, a := range r.allocs {
		a.apart = since
		r.advance(a)
	}
}

// inTouch has each allocation know that a server is heard of again. What was alone for too long ends even so: on a machine that
// slept nobody saw the time come.
func (r *runner) inTouch() {
	for _, a := range r.allocs {
		if at := a.stranded(r.policy(a)); !at.IsZero() && !time.Now().Before(at) {
			r.event(a, evTick{})
		}
		a.apart = time.Time{}
	}
}

// retell has the latest status of everything that is not over reported again: the servers do not rely on what they had of it.
func (r *runner) retell() {
	for _, a := range r.allocs {
		if a.Stage != stageDone && a.Status.Seq > 0 {
			a.Acked = 0
			r.out.put(a.Status, time.Now())
		}
	}
}

// assigned applies what a poll has brought.
func (r *runner) assigned(assignments []api.Assignment, specs []api.JobSpec) {
	for i := range specs {
		r.learn(&specs[i])
	}
	for _, c := range diff(assignments, func(id api.ID) *allocation { return r.allocs[id] }) {
		r.apply(c)
	}
	if len(specs) == 0 {
		return
	}
	for _, a := range r.allocs {
		switch a.Stage {
		case stageEnded, stageWait, stageTidy:
			r.event(a, evKnown{})
		case stageRun:
			if len(a.Crew) > 0 {
				r.event(a, evKnown{})
			}
			r.advance(a) // its health may be known now
		}
	}
	r.forgetSpecs()
}

// learn takes a version of a job.
func (r *runner) learn(s *api.JobSpec) {
	key := specKey{s.Job, s.Version}
	sp := r.specs[key]
	if sp == nil || sp.err != nil {
		job, err := r.c.cfg.DecodeJob(s.Body)
		if err != nil {
			r.log.Error("a job can not be read", "job", s.Job, "version", s.Version, "error", err)
		}
		sp = &spec{job: job, err: err}
		r.specs[key] = sp
	}
	if r.save != nil && !sp.kept {
		sp.kept = true
		r.changed.spec(key, s.Body)
	}
}

// apply makes one change.
func (r *runner) apply(c change) {
	w := c.Assignment
	a := r.allocs[w.ID]
	if a == nil {
		a = new(allocation)
		*a = begin(w)
		r.allocs[w.ID] = a
	}
	r.intern(a)
	seq := a.Status.Seq
	switch c.Do {
	case verbRefuse:
		a.wantGone("stopped before it was started")
	case verbStop:
		a.withdraw(c.Why, r.policy(a).delay(), w.Hurry, time.Now())
	case verbUpdate:
		*a = update(*a, w)
		r.intern(a)
	case verbAnew:
		*a = anew(*a, w)
	case verbRepeat:
		*a = repeat(*a, w.Seq)
		r.out.put(a.Status, time.Now())
	}
	if a.Stage == stageLook && r.looked(a) {
		*a = adopt(a, a.ID, nil, r.policy(a), time.Now())
		a.adoptCrew(nil, r.policy(a), time.Now())
	}
	r.settle(a, seq)
}

// looked reports whether every driver that may know of the allocation has said what exists, so that what is not known by
// now does not.
func (r *runner) looked(a *allocation) bool {
	if a.Driver != "" {
		d := r.drivers[a.Driver]
		return d == nil || d.listed
	}
	for _, d := range r.drivers {
		if !d.listed {
			return false
		}
	}
	return true
}

// intern fills in what the job's specification tells of an allocation, and makes them share its strings.
func (r *runner) intern(a *allocation) {
	sp := r.spec(a)
	if t := sp.task(a.Task); t != nil {
		a.Job, a.Task, a.Driver = sp.job.Name, t.Name, t.Driver
	}
}

// acknowledged takes the servers' word that they have these statuses. Unknown ones are not allocations of this node.
func (r *runner) acknowledged(statuses []api.AllocationStatus, unknown []api.ID) {
	strangers := false
	for i := range statuses {
		s := &statuses[i]
		a := r.allocs[s.ID]
		if a == nil || a.Acked >= s.Seq {
			continue
		}
		a.Acked = s.Seq
		if slices.Contains(unknown, s.ID) && a.Stage != stageDone {
			strangers = true
		}
		r.keep(a)
		r.retain(a)
	}
	if strangers {
		r.c.link.resync() // and have it judged
	}
}

// How many terminal allocations are kept for their logs: of one slot as many as the servers keep, and in all so many that
// their directories stay small beside what runs.
const (
	keepSlot  = 3
	keepEnded = 32
	// keepEstate is how long a directory that another node may fetch is kept whatever else has ended: a drain takes no longer
	// by default.
	keepEstate = api.DefaultDrainDeadline
)

// sticky reports whether the allocation's directory is for the next one of its slot.
func (r *runner) sticky(a *allocation) bool {
	t := r.spec(a).task(a.Task)
	return t != nil && t.Sticky()
}

// bequeaths reports whether the allocation, which has ended, has left something that another node may still fetch.
func (r *runner) bequeaths(a *allocation) bool {
	return !a.Handed && r.sticky(a) && time.Since(time.UnixMilli(a.Status.FinishedAt)) < keepEstate
}

// retain keeps a terminal allocation that nothing is left to do for, and forgets older ones for it.
func (r *runner) retain(a *allocation) {
	if a.Stage != stageDone || a.Acked < a.Status.Seq || !a.allGone() || slices.Contains(r.ended, a.ID) {
		return
	}
	r.ended = append(r.ended, a.ID)
	same := 0
	for i := len(r.ended) - 1; i >= 0; i-- {
		if o := r.allocs[r.ended[i]]; o.Job == a.Job && o.Task == a.Task && o.Slot == a.Slot {
			if same++; same > keepSlot {
				r.forget(i)
			}
		}
	}
	if len(r.ended) > keepEnded {
		if i := slices.IndexFunc(r.ended, func(id api.ID) bool { return !r.bequeaths(r.allocs[id]) }); i >= 0 {
			r.forget(i)
		}
	}
}

// forget removes the i-th of the ended allocations and its directory.
func (r *runner) forget(i int) {
	id := r.ended[i]
	r.ended = slices.Delete(r.ended, i, i+1)
	delete(r.allocs, id)
	r.out.drop(id)
	r.moved(id)
	if r.save != nil {
		r.changed.allocation(id, nil)
	}
	if dir := r.c.dir; dir != nil {
		path := dir.Allocation(r.text.Format(id))
		r.ops.Go(func() {
			if err := os.RemoveAll(path); err != nil {
				r.log.Warn("a former allocation's directory is not removed", "directory", path, "error", err)
			}
		})
	}
	r.forgetSpecs()
}

// forgetSpecs drops the versions of jobs that no allocation is of.
func (r *runner) forgetSpecs() {
	used := map[specKey]bool{}
	for _, a := range r.allocs {
		used[specKey{a.Job, a.Version}] = true
	}
	for key := range r.specs {
		if used[key] {
			continue
		}
		delete(r.specs, key)
		if r.save != nil {
			r.changed.spec(key, nil)
		}
	}
}

// rewrite has everything written again, into a file that lacks it. The bodies of jobs are not kept in memory: the servers
// send them again.
func (r *runner) rewrite() {
	for _, a := range r.allocs {
		r.keep(a)
	}
	for _, sp := range r.specs {
		sp.kept = false
	}
	r.c.link.rewrite()
}
