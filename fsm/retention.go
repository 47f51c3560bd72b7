package fsm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"cube/api"
	"cube/fsm/launch"
	"cube/fsm/versions"
)

// What is kept. Counts, because they bound the state whatever the cluster does.
const (
	keptEnded       = 3  // ended allocations of a slot
	keptEvaluations = 10 // of a job
	maxReaped       = 1000
)

// nodeRetention is how long a node that is down stays known: a machine that is repaired within a day finds its name and
// its eligibility again.
const nodeRetention = 24 * time.Hour

// Reap forgets what retention no longer asks to keep: see Snapshot.Garbage. What may not be forgotten (any more) is
// passed over in silence. An empty Reap only moves the state's time on.
type Reap struct {
	Allocations []api.ID `json:",omitempty"`
	Evaluations []api.ID `json:",omitempty"`
	Jobs        []string `json:",omitempty"` // stopped, with no allocations left; never chosen by Garbage
	Nodes       []string `json:",omitempty"`
}

// noteSurplus keeps the set of slots that have more ended allocations than are kept.
func (s *state) noteSurplus(a allocation) {
	key := slotKey{job: a.job, task: a.task, slot: a.slot}
	if ended := s.endedOf(a.job, a.task, a.slot); len(ended) > keptEnded {
		s.allocations.surplus.Set(key)
	} else {
		s.allocations.surplus.Delete(key)
	}
}

// endedOf returns a slot's ended allocations, oldest first.
func (t *tables) endedOf(job, task, slot uint32) []allocation {
	return slices.DeleteFunc(t.allocations.ofSlot(job, task, slot), func(a allocation) bool { return a.live() })
}

// expired reports whether a node has been down for so long that it may be forgotten.
func (t *tables) expired(n *nodeRow) bool {
	return n.node != nil && n.node.Status == api.NodeDown && n.live == 0 && t.now-n.node.StatusAt.UnixNano() >= int64(nodeRetention)
}

// gone reports whether the instance behind an ended allocation certainly no longer exists: its client said so, or put
// its inventory right since it was lost, or is not expected back.
func (t *tables) gone(a *allocation) bool {
	if a.phase != api.PhaseLost {
		return !a.live()
	}
	n, _ := t.nodes.get(t.names[a.node])
	return n.node.Status == api.NodeReady || t.expired(&n)
}

// reapable reports whether an allocation may be forgotten: it is gone, and it is beyond what its slot keeps, or its job
// is stopped, or it holds back a node that may be forgotten. In that last case the newest of a slot that failed stays,
// since it tells the scheduler that the slot was tried; not where a slot is a node.
func (t *tables) reapable(a *allocation) bool {
	if !t.gone(a) {
		return false
	}
	ended := t.endedOf(a.job, a.task, a.slot)
	if place := slices.IndexFunc(ended, func(o allocation) bool { return o.id == a.id }); place < len(ended)-keptEnded {
		return true
	}
	j := t.jobs.get(t.names[a.job])
	if j.current().Stopped {
		return true
	}
	n, _ := t.nodes.get(t.names[a.node])
	tells := !j.everyNode() && a.phase == api.PhaseFailed && a.slot < j.count(a.task) && t.allocations.newest(a.job, a.task, a.slot) == a.id
	return t.expired(&n) && !tells
}

// reap forgets what retention allows to forget. Allocations go before jobs and nodes, which need to have none left.
func (s *state) reap(b *Reap) Result {
	if n := len(b.Allocations) + len(b.Evaluations) + len(b.Jobs) + len(b.Nodes); n > maxReaped {
		return refused(s.index, api.Errorf(api.CodeTooLarge, "an entry forgets at most %d things, not %d", maxReaped, n))
	}
	for _, id := range b.Allocations {
		if a, ok := s.allocations.get(id); ok && s.reapable(&a) {
			s.deleteAllocation(a)
		}
	}
	for _, id := range b.Evaluations {
		if s.surplusEvaluation(id) {
			s.deleteEvaluation(id)
		}
	}
	spent := s.spentAmong(b.Jobs)
	for _, name := range b.Jobs {
		if spent[name] && s.forgettable(name) {
			s.forgetChild(name)
		} else {
			s.purgeJob(name)
		}
	}
	for _, id := range b.Nodes {
		if n, ok := s.nodes.get(id); ok && s.expired(&n) && s.empty(n.handle) {
			s.deleteNode(n)
		}
	}
	return s.done()
}

// purgeJob forgets a stopped job that has no allocations left. Its name keeps the number of the next version.
func (s *state) purgeJob(name string) {
	j := s.jobs.get(name)
	if current := j.current(); current == nil || !current.Stopped {
		return
	}
	empty := true
	s.eachOfJob(j.handle, func(allocation) bool { empty = false; return false })
	if !empty {
		return
	}
	s.forgetJob(j)
}

// forgetJob forgets what belongs to a job that has no allocations, and its versions.
func (s *state) forgetJob(j *job) {
	for _, id := range s.evaluationsOf(j.handle) {
		s.deleteEvaluation(id)
	}
	s.forgetDeployments(j.name, 0)
	s.jobs.launches.Forget(j.current())
	purged := &job{name: j.name, handle: j.handle, next: j.next}
	s.dropCompleted(purged)
	s.timeline.Forget(j.name)
	s.note(api.Event{Type: api.EventPurged, Job: j.name, By: s.by})
	s.jobs.tallies.Delete(tally{job: j.handle})
	s.putJob(purged)
	for _, table := range []Table{TableJobs, TableJobAllocations, TableJobEvaluations} {
		s.deleted[table] = s.index
	}
}

// surplusEvaluation reports whether an evaluation is closed and beyond what its job keeps.
func (t *tables) surplusEvaluation(id api.ID) bool {
	e := t.evaluations.get(id)
	if e == nil || e.Status.Open() {
		return false
	}
	ids := t.evaluationsOf(t.jobs.get(e.Job).handle)
	return slices.Index(ids, id) < len(ids)-keptEvaluations
}

func (t *tables) empty(node uint32) bool {
	empty := true
	t.eachOfNode(node, 0, func(allocation) bool { empty = false; return false })
	return empty
}

func (s *state) deleteNode(n nodeRow) {
	s.dropQuarantines(n.handle)
	s.nodes.rows.Delete(n)
	s.nodes.noteAway(n.handle, false)
	s.nodes.order = &nodeOrder{}
	s.touch(WatchKey{Table: TableNodes, Key: n.id})
	s.note(api.Event{Type: api.EventForgotten, Node: n.id, Detail: n.node.Name})
	s.deleted[TableNodes], s.deleted[TableNodeAllocations] = s.index, s.index
}

// Garbage returns what retention by count no longer asks to keep, at most limit (and 1,000) things; nil when there is
// nothing. Of jobs only those are among them that others launched: the rest are for a person to purge.
func (s *Snapshot) Garbage(limit int) *Reap {
	left := min(limit, maxReaped)
	var r Reap
	s.allocations.surplus.Scan(func(k slotKey) bool {
		ended := s.endedOf(k.job, k.task, k.slot)
		for i := range ended[:max(0, len(ended)-keptEnded)] {
			if left > 0 && s.gone(&ended[i]) {
				r.Allocations = append(r.Allocations, ended[i].id)
				left--
			}
		}
		return left > 0
	})
	s.evaluations.crowded.Scan(func(job uint32) bool {
		ids := s.evaluationsOf(job)
		for _, id := range ids[:max(0, len(ids)-keptEvaluations)] {
			if left > 0 && !s.evaluations.get(id).Status.Open() {
				r.Evaluations = append(r.Evaluations, id)
				left--
			}
		}
		return left > 0
	})
	s.nodes.rows.Scan(func(n nodeRow) bool {
		if s.expired(&n) {
			s.garbageOf(n, &left, &r)
		}
		return left > 0
	})
	s.garbageOfLaunches(&left, &r)
	slices.Sort(r.Allocations)
	r.Allocations = slices.Compact(r.Allocations)
	if len(r.Allocations)+len(r.Evaluations)+len(r.Jobs)+len(r.Nodes) == 0 {
		return nil
	}
	return &r
}

// Launches returns which jobs launch others, and which were launched.
func (s *Snapshot) Launches() *launch.Table { return &s.jobs.launches }

// LaunchesKey is what to watch for anything that changes when a job is launched next.
func LaunchesKey() WatchKey { return WatchKey{Table: TableJobs, Key: "/launches"} } // no job is called so

// spentAmong returns which of the jobs are finished children that need not be kept. It looks at the children of each parent once.
func (t *tables) spentAmong(names []string) map[string]bool {
	spent, looked := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		current := t.jobs.get(name).current()
		if current == nil || current.Parent == "" || looked[current.Parent] {
			continue
		}
		looked[current.Parent] = true
		for _, child := range t.spentChildren(current.Parent) {
			spent[child] = true
		}
	}
	return spent
}

// garbageOfLaunches adds what is left of children that need not be kept: their names.
func (s *Snapshot) garbageOfLaunches(left *int, r *Reap) {
	for _, parent := range s.jobs.launches.Parents(0) {
		for _, name := range s.spentChildren(parent) {
			if *left > 0 && s.forgettable(name) {
				r.Jobs = append(r.Jobs, name)
				*left--
			}
		}
	}
}

// forgetChild forgets a spent child wholly, name and all: no other job will ever be called so. One with very many allocations
// takes several entries.
func (s *state) forgetChild(name string) {
	j := s.jobs.get(name)
	var ended []allocation
	s.eachOfJob(j.handle, func(a allocation) bool { ended = append(ended, a); return len(ended) <= maxReaped })
	for _, a := range ended[:min(len(ended), maxReaped)] {
		s.deleteAllocation(a)
	}
	if len(ended) <= maxReaped {
		s.forgetJob(j)
		s.timeline.Forget(name) // and with it that the job was forgotten
		s.jobs.rows.Delete(j)
	}
}

// garbageOf adds what a forgotten node leaves: its allocations first, and when there are none, the node.
func (s *Snapshot) garbageOf(n nodeRow, left *int, r *Reap) {
	if *left <= 0 {
		return
	}
	if s.empty(n.handle) {
		r.Nodes = append(r.Nodes, n.id)
		*left--
		return
	}
	s.eachOfNode(n.handle, 0, func(a allocation) bool {
		if s.reapable(&a) {
			r.Allocations = append(r.Allocations, a.id)
			*left--
		}
		return *left > 0
	})
}

// Timeline returns what has happened to a job, oldest first. The rows are the state's own.
func (s *Snapshot) Timeline(job string) []*api.Moment { return s.timeline.Of(job) }

// persistTimeline writes the rows, by job.
func (t *tables) persistTimeline(k *sink) {
	t.timeline.Scan(func(number uint64, m *api.Moment) bool {
		k.uvarint(number)
		k.json(m)
		return k.row()
	})
}

func (s *state) restoreTimeline(r *reader) {
	number, m := r.uvarint(), &api.Moment{}
	if r.json(m); r.err == nil && (s.jobs.get(m.Job).current() == nil || !s.timeline.Load(number, m)) {
		r.fail("moment %d of job %q is out of order, or its job is missing", number, m.Job)
	}
}

// noteStatus tells what a status brings that people ask about. Of an instance that starts and is well at once it is enough
// to say that it started, and a restart says that it will start again.
func (s *state) noteStatus(old, a *allocation, message string) {
	if a.restarts > old.restarts {
		why, _, _ := strings.Cut(message, "; restart ")
		if why == "" {
			why = api.DescribeEnd(a.failure, a.exit, a.signal)
		}
		e := s.eventOf(api.EventRestarted, a, why)
		e.Times = a.restarts - old.restarts
		s.note(e)
	}
	started := a.phase == api.PhaseRunning && old.phase != api.PhaseRunning && a.restarts == 0
	switch {
	case started:
		s.note(s.eventOf(api.EventStarted, a, api.DataNote(message)))
	case a.live():
	case a.desired == api.DesiredStop:
		s.note(s.eventOf(api.EventGone, a, ""))
	case a.phase == api.PhaseComplete:
		s.note(s.eventOf(api.EventCompleted, a, message))
	default:
		s.note(s.eventOf(api.EventFailed, a, message))
	}
	switch {
	case a.health == old.health:
	case a.health == api.HealthUnhealthy:
		s.note(s.eventOf(api.EventUnhealthy, a, message))
	case a.health == api.HealthHealthy && !started:
		s.note(s.eventOf(api.EventHealthy, a, ""))
	}
}

// noteRollout tells where a deployment has come to, if that is another place than before (nil: it is new).
func (s *state) noteRollout(before, d *api.Deployment) {
	if before != nil && before.Status == d.Status && promoted(before) == promoted(d) {
		return
	}
	e := api.Event{Type: api.EventRollout, Job: d.Job, Version: d.Version, By: personOf(d.By)}
	by := ""
	if e.By != "" {
		by = " by " + e.By
	}
	switch {
	case before == nil:
		e.Detail = "begins"
	case d.Status == before.Status:
		e.Detail = "was promoted" + by
	case d.Status == api.DeploymentRunning:
		e.Detail = "goes on" + by
	case d.Status == api.DeploymentPaused:
		e.Detail = "was paused" + by
	case d.Status == api.DeploymentFailed:
		e.Detail = "failed" + by
	case d.Status == api.DeploymentReverted:
		e.Detail = fmt.Sprintf("failed%s and is reverted by version %d", by, d.RevertedTo)
	default:
		e.Detail = "was " + string(d.Status)
	}
	if d.Reason != "" {
		e.Detail += ": " + d.Reason
	}
	s.note(e)
}

// noteAsked tells that a person wants an instance replaced.
func (s *state) noteAsked(a *allocation) {
	e := s.eventOf(api.EventAsked, a, "")
	e.By = s.by
	s.note(e)
}

// eventOf is an event of an instance.
func (s *state) eventOf(t api.EventType, a *allocation, detail string) api.Event {
	return api.Event{Type: t, Job: s.names[a.job], Task: s.names[a.task], Slot: a.slot, Version: uint64(a.version),
		Node: s.names[a.node], Allocation: a.id, Detail: detail}
}

const maxEventDetail = 200 // bytes of an event's text

// note takes down that something happens with the entry being applied.
func (s *state) note(e api.Event) {
	if s.rules < rulesTell {
		return
	}
	e.Index, e.At = s.index, s.now
	e.Detail = shorten(e.Detail, maxEventDetail)
	s.events = append(s.events, e)
}

// notePreempted tells that an instance is to give way.
func (s *state) notePreempted(x api.Preemption) {
	if s.rules < rulesOffer {
		return
	}
	a, _ := s.allocations.get(x.Allocation)
	event := s.eventOf(api.EventStopping, &a, x.Reason)
	event.Cause = api.CausePreempted
	s.note(event)
}

// trial is how often an allocation's slot was placed again because its instance failed; most allocations have none.
type trial struct {
	id api.ID
	api.Trial
}

func newTrials() *btree.BTreeG[trial] { return newTree(func(a, b trial) bool { return a.id < b.id }) }

// Past tells of an allocation that ended; of one that is not known, nothing.
func (s *Snapshot) Past(id api.ID) api.Past {
	last, ok := s.allocations.get(id)
	if !ok {
		return api.Past{}
	}
	row, _ := s.allocations.trials.Get(trial{id: id})
	past := api.Past{Trial: row.Trial, PlacedAt: last.createdAt, EndedAt: last.modifiedAt}
	for _, a := range slices.Backward(s.allocations.ofSlot(last.job, last.task, last.slot)) {
		failed := a.phase == api.PhaseFailed && !a.failure.Blameless() && a.desired == api.DesiredRun
		if node := s.names[a.node]; failed && a.version == last.version && !slices.Contains(past.Failed, node) {
			past.Failed = append(past.Failed, node)
		}
	}
	return past
}

func (w *writer) trial(t api.Trial) {
	w.varint(t.Since)
	w.uvarint(uint64(t.Used))
	w.uvarint(uint64(t.Streak))
}

func (r *reader) trial() api.Trial {
	return api.Trial{Since: r.varint(), Used: uint32(r.atMost(1<<32 - 1)), Streak: uint32(r.atMost(1<<32 - 1))}
}

func (w *planWriter) trials(placements []api.Placement) {
	for i := range placements {
		w.trial(placements[i].Trial)
	}
}

func (r *planReader) trials(placements []api.Placement) {
	for i := range placements {
		placements[i].Trial = r.trial()
	}
}

func (t *allocationTables) persistTrials(k *sink) {
	t.trials.Scan(func(row trial) bool {
		k.uvarint(uint64(row.id))
		k.trial(row.Trial)
		return k.row()
	})
}

func (s *state) restoreTrial(r *reader) {
	row := trial{id: api.ID(r.uvarint()), Trial: r.trial()}
	if _, ok := s.allocations.get(row.id); !ok || row.Trial == (api.Trial{}) {
		r.fail("allocation %d has a past that it cannot have", row.id)
		return
	}
	s.allocations.trials.Set(row)
}

// keptVersions is how many versions of a job are kept whether anything runs in them or not.
const keptVersions = api.KeptVersions

// dropVersions drops from j, which is not stored yet, the old versions in which nothing lives and that nobody has named, but for
// the last stable one, and the completed slots that only they knew.
func (s *state) dropVersions(j *job) {
	if len(j.versions) <= keptVersions {
		return
	}
	used := map[uint64]bool{}
	s.eachOfJob(j.handle, func(a allocation) bool {
		if a.live() {
			used[uint64(a.version)] = true
		}
		return true
	})
	keep := versions.Keep(j.jobs(), keptVersions, func(version uint64) bool { return used[version] })
	kept := make([]version, 0, len(j.versions))
	for i, v := range j.versions {
		if keep[i] {
			kept = append(kept, v)
		}
	}
	j.versions = kept
	s.dropCompleted(j)
}
