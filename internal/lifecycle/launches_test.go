package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"cube/agent/server/launch"
	"cube/api"
	"cube/fsm"
	launches "cube/fsm/launch"
)

// Jobs that launch others: tick does so at times, resize when somebody asks.

// submitParent draws a version of a job that launches others, and registers it.
func (w *world) submitParent(name string, n int) {
	job := &api.Job{Name: name, Type: api.JobBatch, Priority: 40}
	if name == "tick" {
		job.Periodic = &api.Periodic{Crons: []string{rapid.SampledFrom([]string{"*/3 * * * *", "*/10 * * * *", "15 * * * *"}).Draw(w.t, "cron")},
			ProhibitOverlap: rapid.Bool().Draw(w.t, "prohibit_overlap"), OnMissed: rapid.SampledFrom([]string{api.MissedSkip, api.MissedRun}).Draw(w.t, "on_missed")}
	} else {
		job.Parameterized = &api.Parameterized{Payload: api.PayloadOptional, MetaOptional: []string{"size"}}
	}
	task := api.DefaultTask(name)
	task.Image = fmt.Sprint(rapid.SampledFrom([]string{"good", "good", "crash"}).Draw(w.t, "image"), "-", n)
	task.Resources, task.Count = api.Resources{CPU: 50, Memory: 10}, 1+w.pick("count", 2)
	task.Restart.Mode, task.Restart.Attempts = api.RestartFail, 1
	w.drawHoldings(job, task)
	job.Tasks = []*api.Task{task}
	w.register(job)
}

// retire has a job that is launched at times be launched no more for as long as the history lasts.
func (w *world) retire() {
	for job := range w.m.Snapshot().Jobs() {
		if job.Periodic != nil {
			last := *job
			last.Periodic = &api.Periodic{Crons: []string{"0 0 1 1 *"}}
			w.register(&last)
		}
	}
}

// dispatch has somebody ask for a job to be launched, perhaps not for the first time, or stop one that was.
func (w *world) dispatch() {
	s := w.m.Snapshot()
	var parents, children []string
	for job := range s.Jobs() {
		if job.Launches() {
			parents = append(parents, job.Name)
		} else if job.Parent != "" {
			children = append(children, job.Name)
		}
	}
	switch w.pick("dispatch", 4) {
	case 0:
		if len(children) > 0 {
			name := children[w.pick("child", len(children))]
			w.note("ada stops %s", name)
			w.propose("ada", &fsm.StopJob{Name: name}, nil)
		}
	default:
		if len(parents) > 0 {
			order := launches.Order{Name: parents[w.pick("parent", len(parents))], Asked: &api.DispatchRequest{ID: rapid.SampledFrom([]string{"", "a", "b"}).Draw(w.t, "id")}}
			w.note("ada dispatches %s as %q", order.Name, order.Asked.ID)
			w.propose("ada", &fsm.LaunchJob{Order: order}, nil)
		}
	}
}

// launch is the leader's loop that launches jobs whose time has come.
func (w *world) launch() (did bool) {
	s, l := w.m.Snapshot(), w.leader
	for _, name := range s.Launches().Periodic() {
		entry, _, err := launch.Due(s.Job(name), w.at)
		if err != nil {
			w.fatalf("%s: %v", name, err)
		}
		if entry != nil && !l.launching[name] {
			l.launching[name], did = true, true
			w.propose("leader/launch", entry, func(fsm.Result, bool) { delete(l.launching, name) })
		}
	}
	return did
}

// judgeLaunch: a time, and a request, is launched once and never again, only for who asks for it, and not beside another that runs
// where that is forbidden; and what is not launched is noted.
func (w *world) judgeLaunch(before, after *fsm.Snapshot, order *fsm.LaunchJob, r fsm.Result) {
	if r.Err != nil {
		return
	}
	parent, noted := before.Job(order.Name), after.Job(order.Name)
	due := time.Unix(order.Time, 0)
	if order.Asked == nil && (!noted.Launched.Time.Equal(due) || !due.After(parent.Launched.Time)) {
		w.fatalf("%s is launched for %s: after %+v it says %+v", parent.Name, due.UTC(), parent.Launched, noted.Launched)
	}
	if order.Asked == nil && (noted.Launched.Note == "") != (len(r.Registered) == 1) {
		w.fatalf("%s is launched for %s: %+v, and it says %q", parent.Name, due.UTC(), r.Registered, noted.Launched.Note)
	}
	for _, n := range r.Registered {
		if !n.Changed {
			if order.Asked == nil || order.Asked.ID == "" || before.Job(n.Name).Dispatched.ID != order.Asked.ID {
				w.fatalf("%+v finds %s", order, n.Name)
			}
			continue
		}
		if w.launched[n.Name] || parent.Stopped {
			w.fatalf("%s is launched, again or though %s is stopped: %v", n.Name, parent.Name, parent.Stopped)
		}
		w.launched[n.Name] = true
		for _, other := range before.Launches().Children(parent.Name) {
			if asked := before.Job(other).Dispatched; order.Asked != nil && order.Asked.ID != "" && asked != nil && asked.ID == order.Asked.ID {
				w.fatalf("%s is launched, and what was asked for as %q is %s", n.Name, asked.ID, other)
			}
			if parent.Periodic != nil && parent.Periodic.ProhibitOverlap && !finished(before, other) {
				w.fatalf("%s is launched, and %s has not finished", n.Name, other)
			}
		}
	}
}

// finished reports whether a job that was launched has come to its end.
func finished(s *fsm.Snapshot, name string) bool {
	return slices.Contains([]string{api.JobComplete, api.JobFailed, api.JobDead}, s.Summary(name).Status)
}

// launchesAtRest: no time has passed that was not dealt with.
func (w *world) launchesAtRest(s *fsm.Snapshot) {
	for job := range s.Jobs() {
		if job.Periodic == nil || job.Stopped {
			continue
		}
		if next, err := job.Periodic.Next(job.Launched.Time); err != nil || !next.After(w.at) {
			w.fatalf("%s was to be launched for %s, and the last that was dealt with is %+v (%v)", job.Name, next.UTC(), job.Launched, err)
		}
	}
}

// launchesQuiet: of what has finished as much is kept as there may be, and a job that launches others has no instances itself.
func (w *world) launchesQuiet(s *fsm.Snapshot) {
	for job := range s.Jobs() {
		if !job.Launches() {
			continue
		}
		kept := 0
		for _, name := range s.Launches().Children(job.Name) {
			if finished(s, name) {
				kept++
			}
		}
		if kept > launches.KeptChildren {
			w.fatalf("%d finished jobs of %s are kept", kept, job.Name)
		}
		for row := range s.JobAllRows(job.Name) {
			w.fatalf("%s launches others, and has an instance itself: #%d", job.Name, row.ID)
		}
	}
}

// launchesEnd goes on while a launch runs: where they wait for the one volume that only one may write they run one after the other, and
// those that fail are tried again.
func (w *world) launchesEnd() {
	const looks = 240
	for range looks {
		s, runs := w.m.Snapshot(), false
		for row := range s.Rows() {
			runs = runs || row.Live() && s.Job(row.Job).Parent != ""
		}
		if !runs {
			return
		}
		w.calm(1, time.Minute)
	}
}
