package launch

import (
	"cmp"
	"slices"

	"cube/api"
	"cube/fsm"
	"cube/fsm/launch"
)

// Timeline is what has happened to a job, oldest first. Of one that launches others it tells what it has launched that is still
// known, and the latest of its times if nothing was launched for that. Neither is kept anew for it: the jobs that were launched say
// when and why that was, and the job itself which time it dealt with last.
func Timeline(snapshot *fsm.Snapshot, name string) []*api.EventView {
	moments := snapshot.Timeline(name)
	if job := snapshot.Job(name); job != nil && job.Launches() {
		moments = append(launches(snapshot, job), moments...)
		slices.SortStableFunc(moments, func(a, b *api.Moment) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Index, b.Index)) })
		moments = moments[max(0, len(moments)-api.KeptMoments):]
	}
	out := []*api.EventView{}
	for _, m := range moments {
		out = append(out, m.View(snapshot.Text(), snapshot.NodeName))
	}
	return out
}

// launches are what a job has launched and not, no more of it than a timeline has.
func launches(snapshot *fsm.Snapshot, job *api.Job) (out []*api.Moment) {
	add := func(e api.Event) {
		m := e.Moment()
		out = append(out, &m)
	}
	if e, ok := launch.Skipped(job); ok {
		add(e)
	}
	snapshot.Launches().Each(job.Name, func(child string) bool {
		versions := snapshot.Versions(child)
		add(launch.Told(versions[len(versions)-1]))
		return len(out) < api.KeptMoments
	})
	slices.Reverse(out) // oldest first, as timelines are
	return out
}
